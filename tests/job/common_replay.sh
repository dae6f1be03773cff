# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the replay_*.sh tests. Output of the run in hand: $out/stdout, $out/stderr, $out/report.json.
set -u
out=$(mktemp -d) || exit 1
export TMPDIR=$out/tmp # what is left there, by us or by mpirun, is no one else's
mkdir "$TMPDIR"
sample=$TEST_SRC/examples/sample_trace.jsonl
trap 'rm -rf "$out"' EXIT
# What this build can do; sanitizers make everything many times slower.
case " ${TEST_WITH:-ucx} " in *" ucx "*) networks="tcp" ;; *) networks="" ;; esac
case ${TEST_WITH:-} in *address* | *thread*) slow=yes ;; *) slow=no ;; esac

fail()
{
	echo "FAILED: $*"
	for f in stdout stderr report.json; do
		[ -s "$out/$f" ] && { echo "--- $f"; cat "$out/$f"; }
	done
	exit 1
}

# replay STATUS ARG...: two prefill and two decode ranks; mcrun must end with that status.
replay()
{
	want=$1
	shift
	rm -f "$out/report.json"
	"$TEST_BIN/mcrun" --timeout "${REPLAY_TIMEOUT:-600}" ${MCRUN_ARGS:-} --prefill 2 --decode 2 "$TEST_BIN/mcperf" replay "$@" \
		>"$out/stdout" 2>"$out/stderr"
	got=$?
	[ "$got" -eq "$want" ] || fail "mcperf replay $*: status $got, not $want"
}

# field KEY: a number or text of the report.
field()
{
	sed -n 's/^ *"'"$1"'": *"\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' "$out/report.json" | head -1
}

# expect KEY VALUE
expect()
{
	[ "$(field "$1")" = "$2" ] || fail "report: $1 is \"$(field "$1")\", not \"$2\""
}

# verified REQUESTS: that many requests, every moved byte compared, no error.
verified()
{
	expect requests "$1"
	expect errors 0
	[ "$(field bytes)" -gt 0 ] || fail "report: no bytes"
	expect verified_bytes "$(field bytes)"
	expect result "all verified"
}

# rank_pid MCRUN_PID RANK: the process of a rank that this mcrun started, found by the environment it was given.
rank_pid()
{
	for p in $(descendants "$1"); do
		if tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "PMIX_RANK=$2" &&
			[ "$(readlink "/proc/$p/exe")" = "$(readlink -f "$TEST_BIN/mcperf")" ]; then
			echo "$p"
			return
		fi
	done
}

descendants()
{
	for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
		echo "$c"
		descendants "$c"
	done
}
