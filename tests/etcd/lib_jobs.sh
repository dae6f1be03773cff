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
# refused NAME PATTERN: it ends badly, long before its --timeout, and one line of it says why
refused()
{
	checks=$((checks + 1))
	within 60000 ended "$1" || fail "job $1 does not end by itself"
	[ "$(cat "$1.done")" != 0 ] || fail "job $1 is happy"
	has "$1" "$2" || fail "job $1 does not say '$2'"
	[ "$(grep -cE '^(\[[^]]*\] )?mcperf: ' "$1.err")" = 1 ] || fail "job $1 says it in more than one line"
}
# do_not_fit "PRE_N OPTION..." "DEC_N OPTION..." PRE_PATTERN DEC_PATTERN: the prefill job and the decode job, in both orders
do_not_fit()
{
	local order who
	local -A n=([pre]=${1%% *} [dec]=${2%% *}) opts=([pre]=${1#* } [dec]=${2#* })
	local -A role=([pre]=prefill [dec]=decode) other=([pre]=dec:${2%% *} [dec]=pre:${1%% *})
	for order in "pre dec" "dec pre"; do
		fresh
		for who in $order; do
			# shellcheck disable=SC2086 # a list of options, of which --with may be one: the last one counts
			job $who ${role[$who]} ${n[$who]} ${other[$who]} --timeout 100 ${opts[$who]}
		done
		refused pre "$3"
		refused dec "$4"
	done
}
# at_work NAME...: each of these decode jobs, started with --progress always, has served some requests and not yet all
at_work()
{
	local j
	for j; do
		checks=$((checks + 1))
		within 120000 has "$j" '\] ([1-9]|[1-5][0-9])/60 requests' || fail "job $j does not get to work"
	done
}
