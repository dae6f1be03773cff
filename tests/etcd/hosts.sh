#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The prefill job on one host, the decode job on another, etcd with the former: two network namespaces and a cable. Every byte is
# verified, and crosses the cable; the cable is pulled from etcd's side alone, and the jobs go on.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib_cable.sh"

before=$(received)
where="ip netns exec $a" job pre prefill 2 dec:2
where="ip netns exec $b" job dec decode 2 pre:2
verified dec
good pre
crossed "$before"

# Instances that cut the model in other ways.
fresh
cut="--src tp=2 --dst tp=1 --dst-layout NHD --pool 200M"
before=$(received)
where="ip netns exec $a" job pre prefill 2 dec:3 $cut
where="ip netns exec $b" job dec decode 3 pre:2 $cut
verified dec
good pre
crossed "$before"

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
