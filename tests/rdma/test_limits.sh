#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --rails 1 --wires 1 --timeout 600
# The rdma controller: a limit below the usual plan makes a job use less, one far below it ends the job with the sentence that
# helps; another tenant is not harmed; what was charged is given back, also after kill -9.
set -eu
. "$(dirname "$0")/lib_rdma.sh"
need_verbs
on_wires 1
cg=/sys/fs/cgroup
paged="--slice 4K --slices 256 --window 4 --puts 20"

# tenant NAME [LIMIT...]: a cgroup whose jobs may use so much
tenant()
{
	local name=$1 l
	shift
	mkdir -p $cg/$name
	for l in "$@"; do echo "$l" >$cg/$name/rdma.max; done
}
# in_tenant NAME COMMAND...
in_tenant()
{
	local name=$1
	shift
	sh -c 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"' sh $cg/$name "$@"
}
charged() { awk -v d="$2" '$1 == d { sub(/.*hca_object=/, ""); print; f = 1 } END { if (!f) print 0 }' "$cg/$1/rdma.current"; }
nothing_charged() { ! grep -q '=[1-9]' "$cg/$1/rdma.current"; }
job() # NAME TENANT: rail_soak in it
{
	local status=0
	in_tenant "$2" timeout -k 5 100 "$mcrun" --backend verbs -n 2 ./on_wires "$soak_bin" --json "$1" $paged >out 2>err </dev/null || status=$?
	return $status
}

# Four queue pairs per peer instead of one, so that there is something to do without.
export MC_VERBS_QPS=4

step "the usual plan"
tenant usual "rxa0 hca_object=10000" "rxb0 hca_object=10000"
in_tenant usual timeout 100 "$mcrun" --backend verbs -n 2 ./on_wires "$soak_bin" --json usual --slice 4K --slices 256 --puts 20 \
	--fault "cat $cg/usual/rdma.current >peak" --hold 1 --settle 0 >out 2>err </dev/null || fail "a job without limit ended with $?"
unharmed usual
usual=$(sed -n 's/^rxa0 .*hca_object=//p' peak)
echo "  one rank, one peer: $(grep rxa0 peak)"
at_least "objects in use" "$usual" 4
within 5000 nothing_charged usual || fail "left: $(cat $cg/usual/rdma.current)"

step "fewer"
tenant small "rxa0 hca_object=$((usual - 2))" "rxb0 hca_object=$((usual - 2))"
job small small || fail "with two objects less the job ended with $?"
unharmed small
has err 'warn.*instead of 4 queue pairs.*rdma-cgroup'
within 5000 nothing_charged small || fail "left: $(cat $cg/small/rdma.current)"

step "far too small"
tenant tiny "rxa0 hca_object=2" "rxb0 hca_object=2"
! job tiny tiny || fail "2 objects are enough?"
checks=$((checks + 1))
has err 'rdma-cgroup'
has err 'rdma\.max'
has err 'hca_object'
within 5000 nothing_charged tiny || fail "left: $(cat $cg/tiny/rdma.current)"
tenant shut "rxa0 hca_handle=0" "rxb0 hca_handle=0"
! job shut shut || fail "no handle is enough?"
has err 'rdma-cgroup'


step "mcrun --rdma-limit"
status=0
timeout 100 "$mcrun" --rdma-limit rxa0:hca_object=2 --rdma-limit rxb0:hca_object=2 --backend verbs -n 2 ./on_wires "$soak_bin" $paged \
	>out 2>err </dev/null || status=$?
checks=$((checks + 1))
[ $status != 0 ] || fail "--rdma-limit limits nothing"
has err 'rdma-cgroup'
timeout 100 "$mcrun" --rdma-limit "rxa0:hca_object=$((2 * usual))" --rdma-limit "rxb0:hca_object=$((2 * usual))" --backend verbs -n 2 \
	./on_wires "$soak_bin" --json enough $paged >out 2>err </dev/null || fail "a limit that is enough: mcrun ended with $?"
unharmed enough

# Each of four ranks must get its part, whoever comes first, and all pairs of them must connect in turn with what they have.
step "four ranks of a job share a limit"
four() # LIMIT
{
	timeout -k 5 120 "$mcrun" --rdma-limit rxe0:hca_object="$1" -x MC_DEVICE=rxe0 --backend verbs -n 4 "$mcperf" coll --op alltoall \
		-b 512 -e 512 --iters 10 --verify >out 2>err </dev/null
}
for limit in 24 29; do
	four $limit || fail "four ranks with $limit objects"
	checks=$((checks + 1))
	has err 'warn.*this process.s part are.*rdma-cgroup'
	has out '512 +10 .* yes'
done
! four 16 || fail "16 objects are enough for four ranks?"
checks=$((checks + 1))
has err 'rdma-cgroup'

step "a second tenant"
tenant other "rxa0 hca_object=10000" "rxb0 hca_object=10000"
in_tenant other timeout 100 "$mcrun" --backend verbs -n 2 ./on_wires "$soak_bin" --json other --slice 4K --slices 256 --puts 200 >out2 2>err2 </dev/null &
pid=$!
busy() { [ "$(charged other rxa0)" -gt 0 ]; }
within 20000 busy || fail "the other tenant's job does not start"
! job tiny tiny || fail "2 objects are enough?"
wait $pid || { cat err2; fail "the other tenant's job ended with $?"; }
unharmed other

step "kill -9"
in_tenant usual "$mcrun" --backend verbs -n 2 ./on_wires "$soak_bin" --slice 4K --slices 256 --puts 100000 >out 2>err </dev/null &
busy() { [ "$(charged usual rxa0)" -gt 0 ]; }
within 20000 busy || fail "the job does not start"
while pids=$(cat $cg/usual/cgroup.procs) && [ -n "$pids" ]; do
	# shellcheck disable=SC2086 # a list
	kill -9 $pids 2>/dev/null || true
done
wait || true
within 5000 nothing_charged usual || fail "left after kill -9: $(cat $cg/usual/rdma.current)"
checks=$((checks + 1))
rm -rf "${TMPDIR:?}"/* # of the ranks that were killed
passed
