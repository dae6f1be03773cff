#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Reshard between two jobs: instances of several ranks that cut the model in other ways on both sides, each side a job of its own,
# found through an etcd with TLS and a password. Every byte is verified, also while etcd is away; the death of the other job ends
# the run and is named; a job with other options is not taken for the other half.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib_etcd.sh"
. "$here/lib_jobs.sh"
one_etcd
trace="$trace --pool 200M"
ended_badly() # NAME MS
{
	checks=$((checks + 1))
	within "$2" ended "$1" || fail "job $1 does not end"
	[ "$(cat "$1.done")" != 0 ] || fail "job $1 is happy"
}

networks=
case ${TEST_WITH:-} in *ucx*) networks=tcp ;; esac
for tp in auto $networks; do
	# two instances of tensor parallelism 2 to three ranks, other blocks and layout
	cut="--src tp=2 --dst tp=1 --dst-block 64 --dst-layout NHD --transport $tp"
	fresh
	job pre prefill 4 dec:3 $cut
	job dec decode 3 pre:4 $cut
	verified dec
	good pre
	# pipeline stages to tensor parallelism, the decode job first
	cut="--src tp=1,pp=2 --dst tp=4 --transport $tp"
	fresh
	job dec decode 4 pre:2 $cut
	job pre prefill 2 dec:4 $cut
	verified dec
	good pre
done

# A wrong byte is found, and ends both.
cut="--src tp=2 --dst tp=1"
fresh
job pre prefill 2 dec:2 $cut --corrupt-one
job dec decode 2 pre:2 $cut
ended_badly dec 60000
ended_badly pre 60000
says dec 'wrong byte: request'

# etcd is stopped and started in the middle.
fresh
job dec decode 2 pre:2 $cut --speed 2 --progress always
job pre prefill 2 dec:2 $cut --speed 2
says dec '\] ([1-9]|[123][0-9])/60 requests'
stop_etcd 0
says dec 'etcd is away'
! ended dec && ! ended pre || fail "the replay is over too soon"
start_etcd 0
etcd_up 0
verified dec
good pre

# The prefill job is killed in the middle: the other one ends at once, and says why. The other way round, too.
for victim in pre dec; do
	fresh
	job dec decode 2 pre:2 $cut --speed 3 --progress always
	job pre prefill 2 dec:2 $cut --speed 3
	says dec '\] ([1-9]|[123][0-9])/60 requests'
	if [ $victim = pre ]; then other=dec name=prefill; else other=pre name=decode; fi
	# shellcheck disable=SC2046 # a list
	kill -9 $(below "$(cat $victim.pid)")
	within 60000 ended $victim || fail "the job does not end with its ranks"
	ended_badly $other 60000
	says $other "$name.[01] .*(died: its instance cannot go on|left before its last request|block table cannot be sent)"
done

# Jobs that do not fit each other say so, both, and what differs, at once.
do_not_fit "2 --src tp=1 --dst tp=2" "2 $cut" \
	'this job and job dec do not fit: --src tp=1 here, tp=2 in job dec; --dst tp=2 here, tp=1 in job dec$' \
	'this job and job pre do not fit: --src tp=2 here, tp=1 in job pre; --dst tp=1 here, tp=2 in job pre$'
do_not_fit "2 $cut --dst-block 64 --dst-layout NHD" "2 $cut" \
	'do not fit: --dst-block 64 here, 16 in job dec; --dst-layout NHD here, HND in job dec$' \
	'do not fit: --dst-block 16 here, 64 in job pre; --dst-layout HND here, NHD in job pre$'
do_not_fit "2 $cut" "2 --block-tokens 16" 'fit: --src tp=2 here, none in job dec; --dst tp=1 here, none in job dec$' \
	'fit: --src none here, tp=2 in job pre; --dst none here, tp=1 in job pre$'
do_not_fit "3 $cut" "2 $cut" 'tp=2,pp=1 needs a multiple of 2 prefill ranks, the job has 3$' \
	'tp=2,pp=1 needs a multiple of 2 prefill ranks, the job has 3$'
# One that cannot go on for another reason says so, and the other job whom it lost.
do_not_fit "2 $cut --pool 1K" "2 $cut" '--pool is too small: the largest request needs [0-9]+ bytes per rank$' \
	'prefill.[01] \(peer [0-9]+\) of job pre.*\(its job says why; is it started with the same trace and options\?\)$'
do_not_fit "2 $cut" "2 $cut --pool 1K" \
	'decode.[01] \(peer [0-9]+\) of job dec.*\(its job says why; is it started with the same trace and options\?\)$' \
	'--pool is too small: the largest request needs [0-9]+ bytes per rank$'
passed
