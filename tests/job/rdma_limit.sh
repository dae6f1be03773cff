#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcrun --rdma-limit: bad values; where the controller is missing a sentence with file, reason and line; where it is there, the
# ranks run in a cgroup with the limit, and it is gone afterwards, also after kill -9 of mcrun.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"

bad()
{
	local want=$1
	shift
	run 2 "$@"
	has err "^mcrun: .*$want" 1
	expect "lines for mcrun $*" "$(wc -l <err) $(wc -l <out)" "1 0"
}
bad 'rdma-limit is "mlx5_0", but must be DEVICE:hca_handle=N' --rdma-limit mlx5_0 -n 1 touch started
bad 'neither hca_handle' --rdma-limit m:qps=1 -n 1 touch started
bad 'must end in a number' --rdma-limit m:hca_handle=many -n 1 touch started
bad 'given twice' --rdma-limit m:hca_handle=1,hca_handle=2 -n 1 touch started
echo '{"rdma_limit": ["m:hca_handle=0x1"]}' >job.json
bad 'job.json: rdma_limit: .*must end in a number' --config job.json -n 1 touch started
echo '{"rdma_limit": "m:hca_handle=1"}' >job.json
bad 'rdma_limit must be a list' --config job.json -n 1 touch started
[ ! -e started ] || fail "something was started"

run 0 --dry-run --rdma-limit m:hca_handle=1 --rdma-limit n:hca_object=max --rdma-limit m:hca_handle=2 -n 1 true
has out 'rdma.max m hca_handle=2$' 1
has out 'rdma.max n hca_object=max$' 1

own=$(sed -n 's/^0:://p' /proc/self/cgroup)
point=$(awk '$0 ~ / - cgroup2 / { print $5 }' /proc/self/mountinfo | tail -1)
cg=$point${own%/}
if [ -z "$point" ] || ! grep -qw rdma "$cg/cgroup.controllers" 2>/dev/null; then
	bad 'rdma-limit: .*(cgroup|/proc/self).*\[rdma-cgroup, see mcinfo doctor\]' --rdma-limit mlx5_0:hca_handle=1 -n 1 touch started
	[ ! -e started ] || fail "something was started"
	echo "this kernel or container has no rdma controller: only the refusal was tested"
	passed
	exit 0
fi
dev=$(ls /sys/class/infiniband 2>/dev/null | head -1)
if [ -z "$dev" ]; then
	bad 'no-such-device' --rdma-limit no-such-device:hca_handle=1 -n 1 touch started
	expect "cgroups left" "$(ls -d "$cg"/mcrun.* 2>/dev/null | wc -l)" 0
	echo "no RDMA device: only the refusal was tested"
	passed
	exit 0
fi
if ! "$mcrun" --rdma-limit "$dev:hca_handle=7,hca_object=77" -n 2 sh -c "cat $point\$(sed -n s/^0:://p /proc/self/cgroup)/rdma.max" >out 2>err; then
	has err 'rdma-cgroup' # not alone in its cgroup, or it is not ours to write
	echo "this cgroup may not be divided: only the refusal was tested"
	passed
	exit 0
fi
has out "$dev hca_handle=7 hca_object=77" 2
expect "cgroups left" "$(ls -d "$cg"/mcrun.* 2>/dev/null | wc -l)" 0
"$mcrun" --rdma-limit "$dev:hca_handle=7" -n 2 sh -c 'echo $$ >pid.$PMIX_RANK; exec sleep 600' >out 2>err &
pid=$!
within 30000 test -s pid.1 || fail "the ranks do not start"
kill -9 $pid
wait $pid || true
none() { ! ls -d "$cg"/mcrun.* >/dev/null 2>&1; }
within 20000 none || fail "kill -9 leaves $(ls -d "$cg"/mcrun.*)"
checks=$((checks + 1))
passed
