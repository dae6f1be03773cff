#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --rails 1 --siw --wires 2 --timeout 200
# The test kernel itself: its devices work and its wires are wires; mcinfo tells the truth about them; mcrun --rdma-limit.
set -eu
. "$(dirname "$0")/lib_rdma.sh"

# pingpong DEVICE DEVICE GID_INDEX: 100 messages there and back
pingpong()
{
	ibv_rc_pingpong -d "$1" -g "$3" -n 100 -p 18600 >out 2>&1 &
	local server=$!
	listening() { grep -q ':48A8 .* 0A ' /proc/net/tcp /proc/net/tcp6; }
	within 10000 listening || fail "ibv_rc_pingpong does not listen"
	timeout 30 ibv_rc_pingpong -d "$2" -g "$3" -n 100 -p 18600 localhost >err 2>&1 || fail "$1 does not reach $2"
	wait $server || fail "$2 does not reach $1"
	checks=$((checks + 1))
}
tx() { cat "/sys/class/net/$1/statistics/tx_packets"; }

step "devices"
for dev in rxe0 siw0 rxa0 rxb0 rxa1 rxb1; do
	ibv_devinfo -d $dev >out 2>err || fail "no device $dev"
	has out 'state:.*PORT_ACTIVE'
done
pingpong rxe0 rxe0 1
before=$(tx wa1)
pingpong rxa1 rxb1 1
at_least "packets that crossed the wire" $(($(tx wa1) - before)) 200

step "mcinfo"
"$mcinfo" devices >out 2>err || fail "mcinfo devices ended with $?"
has out '^rxa1 ' 1
has out '10\.88\.1\.1 +RoCE v2 +wa1 +<- used' 1
has out '^verbs +rdma .*rxa0:1' 1
status=0
"$mcinfo" doctor >out 2>err || status=$?
at_most "status of the doctor" $status 1
has out 'rdma-device +.*rxa0, rxa1, rxb0, rxb1, rxe0, siw0'
has out 'port-state +rxa0:1 ACTIVE'
has out '^RDMA: 10 devices, 10 of 10 ports active'
has out 'rdma-cgroup +no limit'
has out '^ok +port-rate'
has out '^ok +roce-gid +rxa0:1 index 1, rxa1:1 index 1, rxb0:1 index 1, rxb1:1 index 1, rxe0:1 index 1$'

step "a port that is down"
ip link set wa1 down
down() { grep -q DOWN /sys/class/infiniband/rxa1/ports/1/state; }
within 5000 down || fail "rxa1 stays up"
"$mcinfo" doctor >out 2>err || true
has out '^(FAIL|WARN) +port-state' 1
has out 'rxa1:1 DOWN'
has out '^RDMA: 10 devices, [89] of 10 ports active'
"$mcinfo" devices >out 2>err || true
has out 'port 1 +DOWN'
checks=$((checks + 1))
! grep -E '^verbs +rdma .*rxa1' out || fail "a port that is down would be used"
ip link set wa1 up
up() { grep -q ACTIVE /sys/class/infiniband/rxa1/ports/1/state; }
within 5000 up || fail "rxa1 stays down"

step "mcinfo watch counts packets"
"$mcinfo" watch --interval 0.2 --json >watch 2>err &
watch=$!
within 10000 lines watch 1 || fail "mcinfo watch says nothing"
pingpong rxa0 rxb0 1
counted() { grep -q '"who": "rxa0:1", "name": "sent_pkts", "value": [1-9][0-9]*, "rate": [1-9]' watch; }
within 10000 counted || fail "mcinfo watch does not see the packets: $(tail -1 watch | cut -c1-500)"
kill -INT $watch
wait $watch || fail "mcinfo watch ended with $?"

step "rdma limits"
bash "$TEST_SRC/tests/job/rdma_limit.sh" >limit 2>&1 || { cat limit; fail "rdma_limit.sh"; }
cat limit
grep -q 'only the refusal' limit && fail "the limits were not tested"
passed
