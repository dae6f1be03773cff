# SPDX-License-Identifier: BSD-3-Clause
# lib_cable.sh - sourced by the tests of two jobs on two hosts, with $here set: two network namespaces, $a and $b, and a cable; an etcd with
# TLS and a password on the former, at an address of its own.
if [ "$(id -u)" != 0 ] || ! ip netns add "mcetcd-try-$$" 2>/dev/null; then
	echo "skip: network namespaces need root and ip(8)"
	exit 77
fi
ip netns del "mcetcd-try-$$"
. "$here/lib_etcd.sh"
. "$here/lib_jobs.sh"
a=mcetcd-a-$$ b=mcetcd-b-$$
for ns in $a $b; do
	ip netns add $ns || fail "no network namespace"
	netns="$netns $ns"
	ip -n $ns link set lo up
done
ip link add mc0 netns $a type veth peer name mc0 netns $b || { echo "skip: no veth devices here"; exit 77; }
ip -n $a addr add 10.213.7.1/24 dev mc0
ip -n $b addr add 10.213.7.2/24 dev mc0
ip -n $a link set mc0 up
ip -n $b link set mc0 up
is_up() { [ "$(ip netns exec "$1" cat /sys/class/net/mc0/operstate)" = up ]; }
for ns in $a $b; do within 30000 is_up $ns || fail "the cable between the hosts is down"; done
# An address of its own for etcd, so that the way to it can be cut without the way between the jobs.
ip -n $a addr add 10.213.8.1/32 dev lo
ip -n $b route add 10.213.8.1 via 10.213.7.1
received() { ip netns exec $b cat /sys/class/net/mc0/statistics/rx_bytes; }

at="ip netns exec $a" host=10.213.8.1
one_etcd

# crossed MOVED_BEFORE: what job dec says it got came through the cable
crossed()
{
	local moved
	moved=$(sed -n 's/.*"bytes": *\([0-9]*\).*/\1/p' dec.json)
	checks=$((checks + 1))
	[ $(($(received) - $1)) -ge "$moved" ] || fail "$(($(received) - $1)) bytes crossed the cable, $moved were moved"
	echo "$moved bytes moved and verified, $(($(received) - $1)) crossed the cable"
}
