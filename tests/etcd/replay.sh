#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A prefill job and a decode job, started apart, find each other through an etcd with TLS and a password, and every byte is
# verified: on one host by shared memory and by TCP; while etcd is stopped, started, and hangs; while the prefill job is killed
# and started again. hosts.sh does it from host to host.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib_etcd.sh"
. "$here/lib_jobs.sh"
one_etcd

# One host: by what is best there, and by TCP with another number of ranks, the decode job first.
job pre prefill 2 dec:2
job dec decode 2 pre:2
verified dec
good pre
fresh
job dec decode 3 pre:2 --transport tcp
job pre prefill 2 dec:3 --transport tcp
verified dec
good pre

# Jobs that do not fit each other say so, both, and what differs, at once: options, the trace, how many they are, whom they look for.
do_not_fit "1 --block-tokens 32" "1 --seed 7" \
	'this job and job dec do not fit: --seed 1 here, 7 in job dec; --block-tokens 32 here, 16 in job dec$' \
	'this job and job pre do not fit: --seed 7 here, 1 in job pre; --block-tokens 16 here, 32 in job pre$'
do_not_fit "2 --requests 40" "1 --layers 3" 'fit: --requests 40 here, 60 in job dec; --layers 2 here, 3 in job dec$' \
	'fit: --requests 60 here, 40 in job pre; --layers 3 here, 2 in job pre$'
sed '$s/"timestamp": *\([0-9]*\)/"timestamp": \11/' "$TEST_SRC/examples/sample_trace.jsonl" >other.jsonl
do_not_fit "1 --trace other.jsonl" "1 --seed 1" 'fit: --trace of digest [0-9a-f]{16} here, of digest [0-9a-f]{16} in job dec$' \
	'fit: --trace of digest [0-9a-f]{16} here, of digest [0-9a-f]{16} in job pre$'
do_not_fit "1 --with dec:2" "1 --with pre:3" 'fit: --with dec:2 here, job dec has 1 ranks; 1 ranks here, --with pre:3 in job dec$' \
	'fit: --with pre:3 here, job pre has 1 ranks; 1 ranks here, --with dec:2 in job pre$'
do_not_fit "2 --pool 1K" "2 --seed 1" '--pool is too small: request [0-9]+ alone' \
	'prefill.[01] \(peer [0-9]+\).*\(its job says why; is it started with the same trace and options\?\)$'
do_not_fit "2 --seed 1" "2 --pool 1K" 'decode.[01] \(peer [0-9]+\).*\(its job says why; is it started with the same trace and options\?\)$' \
	'--pool is too small: request [0-9]+ alone'
# What only one side goes by may differ.
fresh
job pre prefill 1 dec:1 --window 2 --no-verify
job dec decode 1 pre:1 --speed 1000
verified dec
good pre
# One that looks for a third job is asked, and answers; it goes on looking.
fresh
job one decode 1 nobody:2 --timeout 60
job odd prefill 1 one:1 --timeout 60
refused odd 'job one looks for --with nobody:2, not for this job, whose name is odd$'
! ended one || fail "a question ends a job"
kill "$(cat one.pid)"
within 20000 ended one || fail "a job that waits cannot be ended"
# Too few ranks ever come.
fresh
job odd prefill 1 nobody:2 --timeout 3
refused odd '0 ranks with role decode of a job of that name'

# etcd is stopped, started, stopped in its tracks, in the middle of a replay of 28 s.
fresh
job dec decode 2 pre:2 --speed 1.5 --progress always
job pre prefill 2 dec:2 --speed 1.5
says_not_ended() { ! ended dec && ! ended pre; }
at_work dec
says_not_ended || fail "the replay is over too soon"
stop_etcd 0
says dec 'etcd is away'
start_etcd 0
etcd_up 0
says dec 'etcd is back'
kill -STOP "${etcd_pid[0]}"
within 20000 past $(($(now_ms) + 4000)) # longer than the leases
kill -CONT "${etcd_pid[0]}"
says_not_ended || fail "the replay is over too soon"
verified dec
good pre
checks=$((checks + 1))
! has dec 'died' || fail "an outage of etcd is taken for a death"

# The prefill job is killed in the middle, and started again: the decode job finds the new processes.
fresh
job dec decode 2 pre:2 --speed 1.5 --progress always
job pre prefill 2 dec:2 --speed 1.5
at_work dec
says_not_ended || fail "the replay is over too soon"
kill -9 $(below "$(cat pre.pid)")
within 60000 ended pre || fail "the job does not end with its ranks"
[ "$(cat pre.done)" != 0 ] || fail "a job whose ranks were killed is happy"
says dec 'prefill.0 .*died: [0-9]+ requests wait'
job pre prefill 2 dec:2 --speed 1.5
says dec 'prefill.0 .*is back'
verified dec
good pre

# The prefill job is killed when one decode rank has all that is its own, and the other one has not: the new one is told by both, by
# the first that it wants no more.
for ((i = 0; i < 60; i++)); do
	printf '{"timestamp": %d, "input_length": %d, "output_length": 1, "hash_ids": [%s]}\n' $((i * 100)) \
		$((i == 0 ? 8192 : 100)) "$( ((i == 0)) && seq -s, 100 115 || echo "$i")"
done >one_large.jsonl
fresh
job dec decode 2 pre:2 --trace one_large.jsonl --speed 1 --progress always
job pre prefill 2 dec:2 --trace one_large.jsonl --speed 1
says dec '\] ([3-9]|[1-4][0-9])/60 requests'
says_not_ended || fail "the replay is over too soon"
kill -9 $(below "$(cat pre.pid)")
within 60000 ended pre || fail "the job does not end with its ranks"
job pre prefill 2 dec:2 --trace one_large.jsonl
says dec 'prefill.[01] .*is back'
verified dec
good pre
checks=$((checks + 1))
! has pre 'died before its last request' || fail "a decode rank that has all it wants is taken for dead"
passed
