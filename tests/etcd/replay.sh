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

# Jobs that do not fit each other say so.
fresh
job one decode 1 pre:2 --timeout 200
within 60000 published one 0 || fail "job one is not to be found"
job odd prefill 1 one:2 --timeout 10
checks=$((checks + 1))
within 60000 ended odd && [ "$(cat odd.done)" != 0 ] || fail "a job that looks for too many ranks is happy"
says odd '1 ranks with role decode of a job of that name'
kill "$(cat one.pid)"
within 60000 ended one || fail "a job that waits cannot be ended"
fresh
job dec decode 1 pre:1 --timeout 20
job pre prefill 1 dec:1 --timeout 20 --block-tokens 32
within 150000 ended pre && [ "$(cat pre.done)" != 0 ] || fail "two jobs with other options understand each other"
says pre 'is it started with the same trace and options'
kill "$(cat dec.pid)" 2>/dev/null
within 60000 ended dec || fail "a job that waits cannot be ended"
checks=$((checks + 1))

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
job dec decode 2 pre:2 --speed 2.5 --progress always
job pre prefill 2 dec:2 --speed 2.5
at_work dec
says_not_ended || fail "the replay is over too soon"
kill -9 $(below "$(cat pre.pid)")
within 60000 ended pre || fail "the job does not end with its ranks"
[ "$(cat pre.done)" != 0 ] || fail "a job whose ranks were killed is happy"
says dec 'prefill.0 .*died: [0-9]+ requests wait'
job pre prefill 2 dec:2 --speed 2.5
says dec 'prefill.0 .*is back'
verified dec
good pre
passed
