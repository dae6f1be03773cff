#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Two mcrun jobs through a real etcd with TLS and a password: the ranks of one read the memory of the other's and check it,
# over shared memory and over TCP, while etcd is stopped, started, frozen, and while the other job dies and comes again.
. "$(dirname "$0")/lib_etcd.sh"
mcrun=${TEST_BIN:-}/mcrun
ranks=${TEST_HELPERS:-}/meet_ranks
[ -x "$mcrun" ] && [ -x "$ranks" ] || { echo "skip: mcrun is not part of this build"; exit 77; }
one_etcd
export TMPDIR=$work

# job NAME ROLE N MODE: in the background, output in NAME.out
job()
{
	(
		close_pipes
		MC_JOB=$1 exec "$mcrun" --role "$2:$3" "$ranks" "$4" 2 "$work/stop" >>"$1.out" 2>>"$1.err" </dev/null
	) &
	pid[$1]=$!
}
# mark; something is done; then_both PATTERN [MS]: since then each of the two ranks of decode-b has said so
mark() { from=$(wc -l <decode-b.out); }
since() { tail -n +$((from + 1)) decode-b.out | grep -E -e "$1" | sed 's/\].*//' | sort -u | wc -l; }
both() { [ "$(since "$1")" = 2 ]; }
then_both()
{
	checks=$((checks + 1))
	within $((${2:-40000} * slow)) both "$1" || fail "decode-b does not say '$1'"
}
goes_on() { mark; then_both 'rounds '; }
epochs() { sed -n 's/.*serve //p' prefill-a.out | tail -2 | sort | tr '\n' ' '; }
# Each rank that had met the others has no error since; before, "use" says that it has not found them yet.
broke_off() { awk '/ use MC_OK/ { met[$1] = 1 } / use MC_ERR/ && met[$1]' decode-b.out; }

for tp in auto tcp; do
	case "$tp ${TEST_WITH:-}" in auto* | *ucx*) ;; *) continue ;; esac
	export MC_TRANSPORT=$tp
	rm -f stop ./*.out ./*.err
	job prefill-a prefill 2 serve
	job decode-b decode 2 use
	from=0
	within 30000 test -f decode-b.out
	then_both 'use MC_OK'
	then_both 'find MC_OK'
	goes_on
	checks=$((checks + 1))
	[ "$(sed -n 's/.*met //p' decode-b.out | sort -u | tr '\n' ' ')" = "$(epochs)" ] || fail "decode-b met others than prefill-a"

	# etcd away: what runs goes on, new finds say so; back again: they are found.
	mark
	stop_etcd 0
	then_both 'find MC_ERR_DIRECTORY'
	goes_on
	mark
	start_etcd 0
	etcd_up 0
	then_both 'find MC_OK'
	mark
	kill -STOP "${etcd_pid[0]}"
	then_both 'find MC_ERR_DIRECTORY' 40000
	goes_on
	mark
	kill -CONT "${etcd_pid[0]}"
	then_both 'find MC_OK' 40000
	checks=$((checks + 1))
	broken=$(broke_off)
	[ -z "$broken" ] || fail "a transfer failed while etcd was away: $broken"

	# The other job dies at a blow and comes again under its name: the new processes are met.
	mark
	kill -9 "${pid[prefill-a]}"
	then_both 'use MC_ERR_(PEER_DOWN|STALE)'
	mark
	job prefill-a prefill 2 serve
	then_both 'use MC_OK' 40000
	goes_on
	checks=$((checks + 1))
	[ "$(sed -n 's/.*met //p' decode-b.out | tail -4 | sort -u | tr '\n' ' ')" = "$(epochs)" ] || fail "decode-b met others than the new prefill-a"
	touch stop
	for j in prefill-a decode-b; do
		within 60000 gone "${pid[$j]}" || fail "job $j does not end"
		code=0
		wait "${pid[$j]}" || code=$?
		checks=$((checks + 1))
		[ $code = 0 ] || fail "job $j ends with $code"
	done
	hears_times decode-b 'end MC_OK' 2
	never decode-b 'wrong'
done
passed
