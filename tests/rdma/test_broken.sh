#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --wires 1 --timeout 400
# No usable RDMA: whoever asked for verbs gets an error that names the cause and the doctor's check; under auto the job goes on over
# TCP with a warning that says the same.
set -eu
. "$(dirname "$0")/lib_rdma.sh"
need_verbs
on_wires 1
# A network for TCP that has nothing to do with the wire.
ip link add eth0 type dummy
ip addr add 10.99.0.1/24 dev eth0
ip link set eth0 up
two_hosts
soak_args="--slice 4K --slices 64 --puts 5"

# broken NAME CHECK WRAPPER...: a job started through WRAPPER fails for verbs with the doctor's CHECK, and falls back under auto
broken()
{
	local name=$1 check=$2 status=0
	shift 2
	step "$name"
	# shellcheck disable=SC2086
	"$@" timeout 60 "$mcrun" --backend verbs -n 2 ./two_hosts ./on_wires "$soak_bin" $soak_args >out 2>err </dev/null || status=$?
	[ $status != 0 ] || fail "$name: verbs works?"
	has err "$check"
	# shellcheck disable=SC2086
	"$@" timeout 100 "$mcrun" --backend auto -n 2 ./two_hosts "$soak_bin" --json "$name" $soak_args >out 2>err </dev/null ||
		fail "$name: no fallback under auto: status $?"
	expect "link" "$(json "$name.0" link | grep -c tcp)" 1
	has err "warn .*instead of RDMA.*$check"
	expect "errors logged under auto" "$(grep -c ' error ' err)" 0
	expect "ranks that warn" "$(grep 'instead of RDMA' err | cut -d' ' -f1 | sort | uniq -c | grep -c '^ *1 ')" 2
	grep 'instead of RDMA' err | head -1 | sed 's/^/  /'
	"$@" "$mcinfo" doctor >doctor 2>err || true
	has doctor "(FAIL|WARN) +$check"
}

"$mcrun" --backend verbs -n 2 ./two_hosts ./on_wires "$soak_bin" --json well $soak_args >out 2>err </dev/null || fail "the machine as it is: status $?"
has well.0 '"link": "verbs'
"$mcrun" --backend auto -n 2 ./two_hosts ./on_wires "$soak_bin" --json well $soak_args >out 2>err </dev/null || fail "auto: status $?"
has well.0 '"link": "verbs'

hidden='mount -t tmpfs -o mode=755 none /dev/infiniband; exec "$@"'
broken hidden device-nodes unshare -m sh -c "$hidden" sh
broken forbidden device-nodes setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-all sh -c \
	'chmod 0 /dev/infiniband/uverbs*; exec "$@"' sh
chmod 666 /dev/infiniband/uverbs*
broken memlock memlock setpriv --bounding-set=-ipc_lock --inh-caps=-all sh -c 'ulimit -l 64; exec "$@"' sh
wire 0 cut
broken port-down port-state env
wire 0 mend
up() { grep -q ACTIVE /sys/class/infiniband/rxa0/ports/1/state; }
within 5000 up || fail "the port does not come back"
rdma link del rxa0
rdma link del rxb0
step no-device
status=0
# shellcheck disable=SC2086
timeout 60 "$mcrun" --backend verbs -n 2 ./two_hosts "$soak_bin" $soak_args >out 2>err </dev/null || status=$?
[ $status != 0 ] || fail "verbs works without a device?"
has err 'rdma-device'
# shellcheck disable=SC2086
timeout 100 "$mcrun" --backend auto -n 2 ./two_hosts "$soak_bin" --json none $soak_args >out 2>err </dev/null || fail "auto: status $?"
expect "link" "$(json none.0 link | grep -c tcp)" 1
expect "warnings where nobody expects RDMA" "$(grep -c 'instead of RDMA' err)" 0
"$mcinfo" doctor >doctor 2>err || true
has doctor '(FAIL|WARN) +rdma-device'
passed
