#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcinfo watch: rates between two readings of a tree that changes, errors marked, JSON lines, the end by SIGINT and by --count.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
mcinfo=$bin/mcinfo
[ -x "$mcinfo" ] || { echo "skip: mcinfo is not part of this build"; exit 77; }

p=tree/sys/class/infiniband/mlx5_0/ports/1
mkdir -p $p/counters $p/hw_counters tree/sys/class/net/eth0/statistics tree/proc/self tree/sys/fs/cgroup/a
put() { printf '%s\n' "$2" >tree/new && mv tree/new "$1"; } # a reader sees the old or the new, never a half
put $p/counters/port_xmit_data 1000
put $p/counters/port_rcv_errors 7
put $p/hw_counters/out_of_sequence 5
put $p/hw_counters/lifespan 10
put tree/sys/class/net/eth0/statistics/tx_bytes 100
put tree/sys/class/net/eth0/statistics/rx_bytes garbage
put tree/proc/self/cgroup 0::/a
put tree/proc/self/mountinfo '30 21 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw'
put tree/sys/fs/cgroup/a/rdma.max 'mlx5_0 hca_handle=4 hca_object=max'
put tree/sys/fs/cgroup/a/rdma.current 'mlx5_0 hca_handle=2 hca_object=33'

"$mcinfo" watch --root tree --interval 0.05 --json >lines 2>err &
pid=$!
within 30000 lines lines 2 || fail "no lines come"
# ten times as much, so that whichever interval saw it has a rate
put $p/counters/port_xmit_data 1001000
put $p/hw_counters/out_of_sequence 25
put tree/sys/class/net/eth0/statistics/tx_bytes 40100
n=$(wc -l <lines)
within 30000 lines lines $((n + 3)) || fail "no more lines come"
kill -INT $pid
got=0
wait $pid || got=$?
expect "exit code after SIGINT" $got 0
has lines '"who": "mlx5_0:1", "name": "port_xmit_data", "value": 1000, "rate": 0, "unit": "B/s", "error": false'
has lines '"name": "out_of_sequence", "value": 25, "rate": [1-9][0-9.e+]*, "unit": "1/s", "error": true' 1
has lines '"name": "tx_bytes", "value": 40100, "rate": [1-9]'
has lines '"who": "cgroup mlx5_0", "name": "hca_object", "value": 33\}'
has lines '"name": "hca_handle_max", "value": 4\}'
checks=$((checks + 1))
! grep -q 'lifespan\|rx_bytes' lines || fail "what is no counter is shown"
if command -v python3 >/dev/null; then
	python3 - <<'END' || fail "the rates are wrong"
import json
seen = 0
for line in open("lines"):
	d = json.loads(line)
	for c in d["counters"]:
		if c["name"] == "port_xmit_data" and c["rate"] > 0:
			seen += 1
			assert abs(c["rate"] * d["interval"] - 4e6) < 4e3, (c, d["interval"])
assert seen == 1, seen
END
	checks=$((checks + 1))
fi

# text: quiet things are not shown, --count ends it
timeout 200 "$mcinfo" watch --root tree --interval 0.02 --count 2 >out 2>err
expect "lines of text with --count 2" "$(grep -c 'hca_handle 2  hca_object 33' out)" 2
for args in '--interval 0' '--interval x' '--count 0' '--cuont 3' '--count' 'x' '--root no/such'; do
	got=0
	# shellcheck disable=SC2086 # words
	timeout 200 "$mcinfo" watch $args >out 2>err || got=$?
	expect "exit code of watch $args" $got 2
	has err '^mcinfo: watch: ' 1
done
mkdir none
got=0
timeout 200 "$mcinfo" watch --root none --count 1 >out 2>err || got=$?
expect "exit code without anything to watch" $got 2
timeout 200 "$mcinfo" watch --count 1 --interval 0.05 >out 2>err # this machine
passed
