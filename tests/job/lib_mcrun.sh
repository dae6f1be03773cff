# SPDX-License-Identifier: BSD-3-Clause
# lib_mcrun.sh - sourced by the tests of mcrun. Gives a private TMPDIR (so that what is left behind is seen), deadlines
# instead of sleeps, and checks that say what they saw.
bin=${TEST_BIN:-${MC_BIN:-}}
helpers=${TEST_HELPERS:-$bin/../tests/bin}
unset MC_BIN
[ -x "$bin/mcrun" ] || { echo "skip: there is no mcrun in '$bin' (set TEST_BIN)"; exit 77; }
mcrun=$bin/mcrun
probe=$helpers/pmix_probe
work=$(mktemp -d)
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
cd "$work"
trap 'end=$?; rm -rf "$work"; exit $end' EXIT
checks=0

need_probe() { [ -x "$probe" ] || { echo "skip: $probe is not built (libpmix)"; exit 77; }; }

fail()
{
	echo "FAILED: $*"
	for f in out err; do
		[ -f "$work/$f" ] && head -c 20000 "$work/$f" | cut -c1-600 | head -40 | sed "s/^/  $f| /"
	done
	exit 1
}

# expect WHAT ACTUAL WANTED
expect()
{
	checks=$((checks + 1))
	[ "$2" = "$3" ] || fail "$1 is '$2', expected '$3'"
}

# run CODE ARG...: mcrun with ARGs ends with CODE; its output is in ./out and ./err
run()
{
	local code=$1 got=0
	shift
	timeout -k 5 200 "$mcrun" "$@" >out 2>err </dev/null || got=$?
	checks=$((checks + 1))
	[ "$got" = "$code" ] || fail "exit code of mcrun $* is $got, expected $code"
}

# has FILE PATTERN [TIMES]: grep -E
has()
{
	checks=$((checks + 1))
	local n
	n=$(grep -cE -e "$2" "$1" || true)
	if [ $# -gt 2 ]; then
		[ "$n" = "$3" ] || fail "$1 has $n lines like '$2', expected $3"
	else
		[ "$n" != 0 ] || fail "$1 has no line like '$2'"
	fi
}

now_ms() { local t; read -r t _ </proc/uptime; echo "$((10#${t/./} * 10))"; } # not octal in the first second

# within MS COMMAND...: poll until it succeeds
within()
{
	local limit=$(($(now_ms) + $1))
	shift
	while ! "$@"; do
		[ "$(now_ms)" -lt "$limit" ] || return 1
		read -r -t 0.01 <>/dev/null || true
		sleep 0.01
	done
}

# A process that is there and not a zombie.
alive()
{
	local s
	s=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 1
	[ -n "$s" ] && [ "${s%% *}" != Z ] && [ "${s%% *}" != X ]
}
dead() { ! alive "$1"; }
all_dead()
{
	local p
	for p in "$@"; do
		if alive "$p"; then return 1; fi
	done
}
lines() { [ -f "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; }
children() { cat "/proc/$1/task/$1/children" 2>/dev/null || ps -o pid= --ppid "$1"; }
no_tmp() { [ -z "$(ls -A "$TMPDIR")" ]; }
nothing_left() { within 20000 no_tmp || fail "left in TMPDIR: $(ls -A "$TMPDIR")"; }

passed() { nothing_left; echo "$checks checks passed"; }
