# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the perf_*.sh tests. Output of the run in hand: $out/stdout, $out/stderr, $out/rows (JSON lines).
set -u
out=$(mktemp -d) || exit 1
export TMPDIR=$out/tmp # what is left there, by us or by mpirun, is no one else's
mkdir "$TMPDIR"
trap 'rm -rf "$out"' EXIT
case " ${TEST_WITH:-ucx} " in *" ucx "*) networks="tcp" ;; *) networks="" ;; esac
checks=0

fail()
{
	echo "FAILED: $*"
	for f in stdout stderr rows; do
		[ -s "$out/$f" ] && { echo "--- $f"; head -c 8000 "$out/$f"; }
	done
	exit 1
}

# job STATUS RANKS ARG...: mcperf under mcrun must end with that status
job()
{
	want=$1 ranks=$2
	shift 2
	rm -f "$out/rows"
	timeout -k 5 400 "$TEST_BIN/mcrun" --output merge -n "$ranks" "$TEST_BIN/mcperf" "$@" >"$out/stdout" 2>"$out/stderr" </dev/null
	got=$?
	checks=$((checks + 1))
	[ "$got" -eq "$want" ] || fail "mcperf $*: status $got, not $want"
}

# good RANKS ROWS ARG...: it must end well, with so many rows, each verified
good()
{
	ranks=$1 rows=$2
	shift 2
	job 0 "$ranks" "$@" --json "$out/rows"
	[ "$(wc -l <"$out/rows")" -eq "$rows" ] || fail "mcperf $*: not $rows rows"
	[ "$(grep -c '"verified":true' "$out/rows")" -eq "$rows" ] || fail "mcperf $*: not verified"
	[ "$(grep -c '"verified_bytes":[1-9]' "$out/rows")" -eq "$rows" ] || fail "mcperf $*: nothing was compared"
}

# field KEY [LINE]: a number or text of a row
field() { sed -n "${2:-1}p" "$out/rows" | grep -o "\"$1\":\"\{0,1\}[^\",]*" | head -1 | sed 's/^[^:]*:"\{0,1\}//'; }
expect() { checks=$((checks + 1)); [ "$(field "$1")" = "$2" ] || fail "$1 is \"$(field "$1")\", not \"$2\""; }
positive() { for k in "$@"; do checks=$((checks + 1)); awk -v v="$(field "$k")" 'BEGIN { exit !(v > 0) }' || fail "$k is not above 0"; done; }
says() { checks=$((checks + 1)); grep -q -- "$1" "$out/stderr" || fail "stderr does not say: $1"; }
