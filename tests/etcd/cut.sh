#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Two jobs on two hosts; etcd is reached by a cable of its own. The cable between the jobs is pulled until their links are given up,
# and put back: they find each other again, as the same processes, without a restart; again and again. What is read is right.
if [ "$(id -u)" != 0 ] || ! ip netns add "mcetcd-try-$$" 2>/dev/null; then
	echo "skip: network namespaces need root and ip(8)"
	exit 77
fi
ip netns del "mcetcd-try-$$"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib_etcd.sh"
mcrun=${TEST_BIN:-}/mcrun
ranks=${TEST_HELPERS:-}/meet_ranks
[ -x "$mcrun" ] && [ -x "$ranks" ] || { echo "skip: mcrun is not part of this build"; exit 77; }
case ${TEST_WITH:-} in *ucx*) ;; *) echo "skip: built without UCX"; exit 77 ;; esac
a=mcetcd-a-$$ b=mcetcd-b-$$
for ns in $a $b; do
	ip netns add $ns || fail "no network namespace"
	netns="$netns $ns"
	ip -n $ns link set lo up
	# A link whose packets are lost is given up after some 3 s instead of a quarter of an hour.
	ip netns exec $ns sysctl -q -w net.ipv4.tcp_retries2=3 2>/dev/null || { echo "skip: tcp_retries2 cannot be set here"; exit 77; }
done
for i in 0 1; do
	ip link add mc$i netns $a type veth peer name mc$i netns $b || { echo "skip: no veth devices here"; exit 77; }
	for ns in $a $b; do
		if [ $ns = $a ]; then last=1; else last=2; fi
		ip -n $ns addr add 10.213.$((7 + i)).$last/24 dev mc$i
		ip -n $ns link set mc$i up
	done
done
is_up() { [ "$(ip netns exec "$1" cat /sys/class/net/$2/operstate)" = up ]; }
for ns in $a $b; do for i in 0 1; do within 30000 is_up $ns mc$i || fail "the cable between the hosts is down"; done; done
at="ip netns exec $a" host=10.213.8.1
one_etcd
export TMPDIR=$work MC_DEVICE=mc0

# job NAME ROLE MODE NS: two ranks in the background, output in NAME.out
job()
{
	(
		close_pipes
		MC_JOB=$1 exec ip netns exec "$4" "$mcrun" --role "$2:2" "$ranks" "$3" 2 "$work/stop" >>"$1.out" 2>>"$1.err" </dev/null
	) &
	pid[$1]=$!
}
mark() { from=$(wc -l <decode-b.out); }
both() { [ "$(tail -n +$((from + 1)) decode-b.out | grep -E -e "$1" | sed 's/\].*//' | sort -u | wc -l)" = 2 ]; }
then_both()
{
	checks=$((checks + 1))
	within $((${2:-30000} * slow)) both "$1" || fail "decode-b does not say '$1'"
}

job prefill-a prefill serve $a
job decode-b decode use $b
from=0
within 30000 test -f decode-b.out
then_both 'use MC_OK'
for round in 1 2 3; do
	mark
	ip -n $a link set mc0 down
	then_both 'use MC_ERR_(PEER_DOWN|TIMEOUT)' 60000
	since=$(now_ms)
	mark # before: it may be quick
	ip -n $a link set mc0 up
	then_both 'use MC_OK' 60000
	echo "round $round: found again $(($(now_ms) - since)) ms after the cable was put back"
	then_both 'rounds '
done
checks=$((checks + 1))
[ "$(sed -n 's/.*met //p' decode-b.out | sort -u | wc -l)" = 2 ] || fail "decode-b met other processes than those two"
touch stop
for j in prefill-a decode-b; do
	within 60000 gone "${pid[$j]}" || fail "job $j does not end"
	code=0
	wait "${pid[$j]}" || code=$?
	checks=$((checks + 1))
	[ $code = 0 ] || fail "job $j ends with $code"
done
hears_times decode-b 'end MC_OK' 2
never decode-b 'wrong'
passed
