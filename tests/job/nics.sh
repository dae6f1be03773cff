#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Which interfaces UCX uses over TCP, in network namespaces of our own: loopback alone, one pair, a pair beside a container bridge,
# two pairs; and what MC_DEVICE, MC_NEAR and UCX_NET_DEVICES do. Each time two ranks exchange messages that way.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
case " ${TEST_WITH:-} " in *" ucx "*) ;; *) echo "skip: built without UCX"; exit 77 ;; esac
unshare -mn true 2>/dev/null && command -v ip >/dev/null || { echo "skip: needs network namespaces and ip"; exit 77; }
export HWLOC_PLUGINS_PATH=/nonexistent

# net SETUP CODE [NAME=VALUE...]: in a fresh namespace prepared by SETUP two ranks greet each other over TCP
net()
{
	local setup=$1 code=$2 got=0
	shift 2
	env MC_TRANSPORT=tcp MC_LOG=debug "$@" unshare -mn sh -euc "${old_sysfs:-mount -t sysfs none /sys}
$is_up
ip link set lo up
$setup
exec timeout -k 5 200 '$mcrun' -n 2 '$bin/hello_group'" >out 2>err </dev/null || got=$?
	checks=$((checks + 1))
	[ "$got" = "$code" ] || fail "with '$setup' and '$*' the exit code is $got, expected $code"
	[ "$code" != 0 ] || has out 'got "hello from none rank' 2
}
# uses NAME...: both ranks had UCX open on just these
uses()
{
	local want
	want=$(printf "tcp/%s\n" "$@" | sort | xargs)
	checks=$((checks + 1))
	[ "$(sed -n "s/.*backends ucx (\(.*\)), peers.*/\1/p" err | while read -r l; do printf "%s\n" $l | sort | xargs; done | sort | uniq -c | xargs)" = "2 $want" ] ||
		fail "not both ranks use just $want"
}
is_up='up() { for i in $(seq 2000); do ip -o link show "$1" | grep -q "state UP" && return; sleep 0.01; done; }'
pair='ip link add eth0 type veth peer name far0; ip addr add 10.9.0.1/24 dev eth0; ip link set far0 up; ip link set eth0 up; up eth0'
bridge='ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link add cont0 type veth peer name cont1
ip link set cont0 master docker0; ip link set cont1 up; ip link set cont0 up; ip link set docker0 up; up docker0'
second='ip link add eth1 type veth peer name far1; ip addr add 10.8.0.1/24 dev eth1; ip link set far1 up; ip link set eth1 up; up eth1'

net '' 0
uses lo
net "$pair" 0
has err 'NIC eth0 for memory on' 2
uses lo eth0
has err 'UCX_NET_DEVICES' 0 # one candidate: UCX is left alone
# the bridge has the same address on every host with containers: never a way to a peer
net "$pair; $bridge" 0
has err 'UCX_NET_DEVICES=eth0,lo' 2
uses lo eth0
has err 'NIC docker0 is spare' 2
# two networks: a peer may be in either
net "$pair; $second; $bridge" 0
has err 'UCX_NET_DEVICES=eth0,eth1,lo|UCX_NET_DEVICES=eth1,eth0,lo' 2
# an interface without an address
net "$pair; ip link add eth2 type veth peer name far2; ip link set eth2 up; ip link set far2 up; up eth2" 0
uses lo eth0

net "$pair; $bridge" 0 MC_DEVICE=docker0
uses docker0
net "$pair; $second" 0 MC_DEVICE=^eth0
uses lo eth1
net "$pair; $second" 0 MC_DEVICE=numa0=eth1 MC_NEAR=numa0
has err 'UCX_NET_DEVICES=eth1,lo' 2
has err 'chosen by override' 2
net "$pair" 0 MC_DEVICE=lo
uses lo
net "$pair; $bridge" 0 UCX_NET_DEVICES=docker0,lo
has err 'UCX_NET_DEVICES is set, so mc does not choose NICs' 2
uses lo docker0
net "$pair" 1 MC_DEVICE=eth7
has err 'MC_DEVICE: there is no NIC eth7; known: .*eth0'
net "$pair" 1 MC_NEAR=cuda7
has err 'MC_NEAR: there is no memory cuda7; known: numa0'
# /sys of another network namespace, which UCX reads, too: loopback is left
old_sysfs=:
net "${pair//eth0/veth7}" 0
uses lo
# a file instead of the machine: ranks read it when mcrun has found it sound; of its NICs only those count that are here
old_sysfs=
unset old_sysfs
xml=$TEST_SRC/tests/topo/two_sockets.xml
net "$pair" 0 HWLOC_XMLFILE="$xml"
uses lo eth0
has err 'is ignored' 0
case " $TEST_WITH " in *" hwloc "*)
	has err 'NIC mlx5' 0
	printf '<topology' >damaged.xml
	net "$pair" 2 HWLOC_XMLFILE="$PWD/damaged.xml"
	has err '^mcrun: HWLOC_XMLFILE: .*damaged.xml.*unset it, or make it anew' 1
	net "$pair" 2 HWLOC_XMLFILE=/nonexistent
	has err '^mcrun: HWLOC_XMLFILE=/nonexistent is not a file' 1
	;;
esac
echo "nics: $checks checks"
