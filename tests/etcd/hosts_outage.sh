#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The prefill job on one host, the decode job on another. In the middle of their replay etcd is stopped and started, frozen for longer
# than the leases, killed and started; the prefill job is killed and started again. Only the last is taken for a death, all ranks
# are connected with etcd again, and every byte is verified and came through the cable.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib_cable.sh"

# begin [OPTION...]: two ranks each, for 60 s or longer; the first requests have been served
begin()
{
	fresh
	before=$(received) outages=0
	where="ip netns exec $b" job dec decode 2 pre:2 --speed 0.7 --progress always "$@"
	where="ip netns exec $a" job pre prefill 2 dec:2 --speed 0.7 "$@"
	at_work dec
}
count() { grep -cF "$2" "$1.err"; }
by_all() { [ "$(count "$1" "$2")" -ge "$3" ]; }
# all_say JOB TEXT TIMES
all_say() { checks=$((checks + 1)); within 60000 by_all "$@" || fail "not all ranks of job $1 say '$2': $(count "$1" "$2") times"; }
still_at_work() { ! ended dec && ! ended pre || fail "the replay is over too soon"; }
# outage stop|freeze|kill: until all ranks have noticed, and then for longer than a lease; until all have noticed its end
outage()
{
	local pre dec
	pre=$(count pre 'etcd is away') dec=$(count dec 'etcd is away')
	case $1 in
	stop) stop_etcd 0 ;;
	freeze) kill -STOP "${etcd_pid[0]}" ;;
	kill) kill -9 "${etcd_pid[0]}"; wait "${etcd_pid[0]}" 2>/dev/null ;;
	esac
	all_say pre 'etcd is away' $((pre + 2))
	all_say dec 'etcd is away' $((dec + 2))
	within 20000 past $(($(now_ms) + 4000)) # of 3 s
	still_at_work
	if [ $1 = freeze ]; then kill -CONT "${etcd_pid[0]}"; else start_etcd 0; fi
	etcd_up 0
	outages=$((outages + 1)) # each rank says it once
	all_say pre 'etcd is back' $((outages * 2))
	all_say dec 'etcd is back' $((outages * 2))
	still_at_work
}
# Both jobs end well, and nobody was missed.
nothing_lost()
{
	verified dec
	good pre
	crossed "$before"
	checks=$((checks + 1))
	! has dec 'died|is lost' && ! has pre 'died|is lost' || fail "an outage of etcd is taken for a death"
}

begin
outage stop
outage freeze
nothing_lost

# Instances that cut the model in other ways, which end with the first rank that is lost.
begin --src tp=2 --dst tp=1 --dst-layout NHD --pool 200M
outage freeze
outage kill
nothing_lost

# The prefill job is killed while etcd is away, and started again when that is back: the decode job finds the new processes.
begin
stop_etcd 0
all_say dec 'etcd is away' 2
# shellcheck disable=SC2046 # a list
kill -9 $(below "$(cat pre.pid)")
within 20000 ended pre || fail "the job does not end with its ranks"
[ "$(cat pre.done)" != 0 ] || fail "a job whose ranks were killed is happy"
says dec 'prefill.0 .*died: [0-9]+ requests wait'
start_etcd 0
etcd_up 0
where="ip netns exec $a" job pre prefill 2 dec:2 --speed 1
says dec 'prefill.0 .*is back'
verified dec
good pre
crossed "$before"
passed
