# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the tests of this folder, inside the test kernel: what lib_mcrun.sh of the job tests gives, and RDMA devices.
. "${TEST_SRC:?}/tests/job/lib_mcrun.sh"
PATH=$PATH:/usr/sbin:/sbin
mcperf=$bin/mcperf
mcinfo=$bin/mcinfo
[ -d /sys/class/infiniband ] || { echo "skip: no RDMA device here: start this through tests/rdma/vm"; exit 77; }

# step TEXT: what comes now, with the time, so that the output of a test that hangs says where
step() { echo "$(cut -d' ' -f1 /proc/uptime) $*"; }

# A pair of ranks as if on two hosts: odd ranks have the b ends of the wires, even ones the a ends. $1: number of wires
on_wires()
{
	local i a='' b=''
	for ((i = 0; i < $1; i++)); do
		a=$a${a:+,}rxa$i b=$b${b:+,}rxb$i
	done
	cat >on_wires <<-END
		#!/bin/sh
		if [ \$((PMIX_RANK % 2)) -eq 0 ]; then MC_DEVICE=$a; else MC_DEVICE=$b; fi
		export MC_DEVICE
		exec "\$@"
	END
	chmod +x on_wires
}

# json FILE KEY: the value of the first "KEY": in a report
json() { grep -o "\"$2\": *\"\{0,1\}[^\",}]*" "$1" | head -1 | sed 's/^[^:]*: *"\{0,1\}//'; }
# at_least WHAT VALUE LIMIT, at_most: numbers, also with a fraction
at_least() { checks=$((checks + 1)); awk -v a="$2" -v b="$3" 'BEGIN { exit !(a + 0 >= b + 0) }' || fail "$1 is $2, below $3"; }
at_most() { checks=$((checks + 1)); awk -v a="$2" -v b="$3" 'BEGIN { exit !(a + 0 <= b + 0) }' || fail "$1 is $2, above $3"; }
