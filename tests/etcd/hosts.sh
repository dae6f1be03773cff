#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The prefill job on one host, the decode job on another, etcd with the former: two network namespaces and a cable. Every byte is
# verified, and crosses the cable; the cable is pulled from etcd's side alone, and the jobs go on.
if [ "$(id -u)" != 0 ] || ! ip netns add "mcetcd-try-$$" 2>/dev/null; then
	echo "skip: network namespaces need root and ip(8)"
	exit 77
fi
ip netns del "mcetcd-try-$$"
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib_etcd.sh"
. "$here/lib_jobs.sh"
a=mcetcd-a-$$ b=mcetcd-b-$$
trap 'ip netns del $a; ip netns del $b; finish' EXIT
for ns in $a $b; do
	ip netns add $ns || fail "no network namespace"
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

before=$(received)
where="ip netns exec $a" job pre prefill 2 dec:2
where="ip netns exec $b" job dec decode 2 pre:2
verified dec
good pre
moved=$(sed -n 's/.*"bytes": *\([0-9]*\).*/\1/p' dec.json)
checks=$((checks + 1))
[ $(($(received) - before)) -ge "$moved" ] || fail "$(($(received) - before)) bytes crossed the cable, $moved were moved"
echo "$moved bytes moved and verified, $(($(received) - before)) crossed the cable"

# Instances that cut the model in other ways.
fresh
cut="--src tp=2 --dst tp=1 --dst-layout NHD --pool 200M"
before=$(received)
where="ip netns exec $a" job pre prefill 2 dec:3 $cut
where="ip netns exec $b" job dec decode 3 pre:2 $cut
verified dec
good pre
moved=$(sed -n 's/.*"bytes": *\([0-9]*\).*/\1/p' dec.json)
checks=$((checks + 1))
[ $(($(received) - before)) -ge "$moved" ] || fail "$(($(received) - before)) bytes crossed the cable, $moved were moved"

# In the middle of a replay the decode job's host cannot reach etcd any more; later it can.
fresh
where="ip netns exec $a" job pre prefill 2 dec:2 --speed 2
where="ip netns exec $b" job dec decode 2 pre:2 --speed 2 --progress always
at_work dec
ended dec && fail "the replay is over too soon"
ip -n $b route replace unreachable 10.213.8.1
says dec 'etcd is away'
within 20000 past $(($(now_ms) + 4000)) # longer than its lease
ended dec && fail "the replay is over too soon"
ip -n $b route replace 10.213.8.1 via 10.213.7.1
says dec 'etcd is back'
verified dec
good pre
checks=$((checks + 1))
! has dec 'died' && ! has pre 'died' || fail "who cannot reach etcd is taken for dead"
passed
