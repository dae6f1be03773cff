#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Ranks on a machine with two sockets and four RDMA ports, one of them down: a made-up /sys in a mount namespace plays it. Seen: which
# node and NICs each rank gets with --bind numa, without it, with overrides; that mcrun foretells it; and where pools are to lie.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
[ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null || { echo "skip: needs root and mount namespaces"; exit 77; }
cpus=$(sed -n 's/^Cpus_allowed_list:[^0-9]*//p' /proc/self/status | tr ',' '\n' | sed 's/-/ /' | while read -r a b; do seq "$a" "${b:-$a}"; done | head -2 | xargs)
c0=${cpus% *} c1=${cpus#* }
[ "$c0" != "$c1" ] && [ "$c1" -lt 32 ] || { echo "skip: needs two CPUs"; exit 77; }
export HWLOC_PLUGINS_PATH=/nonexistent

f() { mkdir -p "sys/${1%/*}"; printf '%s\n' "$2" >"sys/$1"; }
bit() { printf %x $((1 << $1)); }
f devices/system/node/online 0-1
f devices/system/node/possible 0-1
for n in 0 1; do
	c=c$n c=${!c}
	f devices/system/node/node$n/cpulist "$c"
	f devices/system/node/node$n/cpumap "$(bit "$c")"
	f devices/system/node/node$n/meminfo "Node $n MemTotal:       1000000 kB
Node $n MemFree:        900000 kB"
	f devices/system/node/node$n/distance '10 20'
	for name in package_cpus core_cpus core_siblings thread_siblings; do
		f "devices/system/cpu/cpu$c/topology/$name" "$(bit "$c")"
	done
	f "devices/system/cpu/cpu$c/topology/thread_siblings_list" "$c"
	f "devices/system/cpu/cpu$c/topology/physical_package_id" $n
	f "devices/system/cpu/cpu$c/topology/core_id" 0
done
for name in online possible present; do f devices/system/cpu/$name "$c0,$c1"; done
# port NAME NODE STATE BUS
port()
{
	local pci=devices/pci0000:00/0000:$4:00.0 dev=class/infiniband/$1
	f "$pci/numa_node" "$2"
	f "$pci/local_cpus" "$(if [ "$2" = 0 ]; then bit "$c0"; else bit "$c1"; fi)"
	f "$pci/vendor" 0x15b3
	f "$pci/class" 0x020700
	f "$dev/ports/1/state" "$3"
	f "$dev/ports/1/link_layer" InfiniBand
	f "$dev/ports/1/rate" '400 Gb/sec (4X NDR)'
	f "$dev/ports/1/gids/0" fe80:0000:0000:0000:0202:c9ff:fe00:00$4
	ln -s "../../../$pci" "sys/$dev/device"
}
port mlx5_0 0 '4: ACTIVE' 10
port mlx5_1 0 '4: ACTIVE' 11
port mlx5_2 1 '4: ACTIVE' 80
port mlx5_3 1 '1: DOWN' 81
f class/net/eth0/type 1
f class/net/eth0/operstate up

# on CODE ARG...: mcrun there. The exclusion makes every backend's ranks look at their NICs, also those of shared memory.
on()
{
	local code=$1 got=0
	shift
	unshare -m bash -c 'mount --bind "$0/sys" /sys; shift 0; exec timeout -k 5 200 "$@"' "$work" \
		env MC_DEVICE="${device:-^eth0}" ${near:+MC_NEAR=$near} MC_LOG=debug "$mcrun" "$@" >out 2>err </dev/null || got=$?
	checks=$((checks + 1))
	[ "$got" = "$code" ] || fail "exit code of mcrun $* is $got, expected $code"
}
# nics RANK MEMORY NAME...: just these were chosen by the rank
nics()
{
	local rank=$1 memory=$2 got
	shift 2
	got=$(sed -n "s/.*info rank $rank: NIC \([^ ]*\) for memory on $memory: .*/\1/p" err | xargs)
	expect "the choice of rank $rank for $memory" "$got" "$*"
}
hello=$bin/hello_group

on 0 -n 4 --bind numa --dry-run "$hello"
has out "^rank 0 .* bind node 0 \(cpus $c0\) near mlx5_0:1 env"
has out "^rank 1 .* bind node 1 \(cpus $c1\) near mlx5_2:1 env"
has out "^rank 2 .* bind node 0 \(cpus $c0\) near mlx5_1:1 env"
has out "^rank 3 .* bind node 1 \(cpus $c1\) near mlx5_2:1 env"
on 0 -n 4 --bind numa "$hello"
nics 0 numa0 mlx5_0:1
nics 1 numa1 mlx5_2:1
nics 2 numa0 mlx5_1:1
nics 3 numa1 mlx5_2:1
has err 'rank 1: mlx5_3:1 is DOWN and would be nearer' 0 # it is as near as the other one
# alone on its node a rank has all that is near
on 0 -n 2 --bind numa "$hello"
nics 0 numa0 mlx5_0:1 mlx5_1:1
nics 1 numa1 mlx5_2:1
# not bound: shared out over all
on 0 -n 3 "$hello"
nics 0 any mlx5_0:1
nics 1 any mlx5_1:1
nics 2 any mlx5_2:1
# where the near ones are excluded, or all is in one place
device=^mlx5_2,eth0 on 0 -n 2 --bind numa "$hello"
has err 'rank 1: mlx5_3:1 is DOWN and would be nearer'
device=mlx5_0 on 0 -n 2 --bind numa --dry-run "$hello"
has out "^rank 0 .* bind node 0 \(cpus $c0\) near mlx5_0:1 env"
has out "^rank 1 .* bind node 1 \(cpus $c1\) near mlx5_0:1 env" # node 0 has but one CPU
device=numa0=mlx5_2,numa1=mlx5_1 on 0 -n 2 --bind numa "$hello"
nics 0 numa0 mlx5_2:1 eth0
nics 1 numa1 mlx5_1:1 eth0
near=numa1 on 0 -n 1 "$hello"
nics 0 numa1 mlx5_2:1
device=mlx5_9 on 2 -n 2 --bind numa "$hello"
has err 'mcrun: MC_DEVICE: there is no NIC mlx5_9; known: mlx5_0:1 mlx5_1:1 mlx5_2:1 mlx5_3:1 eth0'
device=mlx5_9 on 1 -n 2 "$hello"
has err 'rank 0: MC_DEVICE: there is no NIC mlx5_9; known: mlx5_0:1 mlx5_1:1 mlx5_2:1 mlx5_3:1'
near=numa3 on 1 -n 1 "$hello"
has err 'MC_NEAR: there is no memory numa3; known: numa0 numa1'
# Pools: the real kernel has no second node, and says so of the one that was asked for.
[ -d /sys/devices/system/node/node1 ] || {
	on 0 --prefill 1 --decode 1 --bind numa "$bin/prefill_to_decode"
	has err 'rank 1: no memory policy for NUMA node 1'
	has err 'rank 0: no memory policy' 0
}
echo "two_sockets: $checks checks"
