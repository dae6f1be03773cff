# SPDX-License-Identifier: BSD-3-Clause
# lib_jobs.sh - sourced after lib_etcd.sh by the tests that replay a trace between two jobs.
bin=${TEST_BIN:-}
[ -x "$bin/mcrun" ] && [ -x "$bin/mcperf" ] || { echo "skip: mcrun or mcperf is not part of this build"; exit 77; }
[ $slow = 1 ] || { echo "skip: jobs of several processes are played in the release build"; exit 77; }
trace="--trace ${TEST_SRC:?}/examples/sample_trace.jsonl --model llama-3.1-8b --layers 2 --progress never"

# job NAME ROLE N OTHER [OPTION...]: in the background; output in NAME.out and NAME.err, its mcrun in NAME.pid.
# where="ip netns exec NAME": elsewhere.
job()
{
	local name=$1 role=$2 n=$3 other=$4
	shift 4
	rm -f "$name.done" "$name.pid"
	(
		close_pipes
		# shellcheck disable=SC2086 # lists of options
		MC_JOB=$name ${where:-} "$bin/mcrun" --$role $n "$bin/mcperf" replay $trace --with $other --json $name.json "$@" \
			>>$name.out 2>>$name.err </dev/null &
		echo $! >$name.pid
		wait $!
		echo $? >$name.done
	) &
	within 30000 test -s "$name.pid" || fail "job $name does not start"
}
ended() { [ -s "$1.done" ]; }
# good NAME: it ends, and well
good()
{
	checks=$((checks + 1))
	within 150000 ended "$1" || fail "job $1 does not end"
	[ "$(cat "$1.done")" = 0 ] || fail "job $1 ends with $(cat "$1.done")"
}
# verified NAME: all 60 requests of the sample, every byte
verified()
{
	good "$1"
	checks=$((checks + 1))
	grep -q '"result": *"all verified"' "$1.json" && grep -q '"requests": *60,' "$1.json" || fail "not all is verified: $(cat "$1.json")"
}
has() { grep -qE -e "$2" "$1.err" "$1.out"; }
# says NAME PATTERN
says() { checks=$((checks + 1)); within 60000 has "$1" "$2" || fail "job $1 does not say '$2'"; }
fresh() { rm -f ./*.out ./*.err ./*.json ./*.done; }
past() { [ "$(now_ms)" -ge "$1" ]; }
# at_work NAME...: each of these decode jobs, started with --progress always, has served some requests and not yet all
at_work() { local j; for j; do says "$j" '\] ([1-9]|[123][0-9])/60 requests'; done; }
# published NAME RANK: the record of that rank is in etcd
published() { [ -n "$(ctl get --keys-only "$MC_ETCD_PREFIX/peers/$1/$2")" ]; }
