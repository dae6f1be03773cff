#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A cluster test that is killed with SIGKILL leaves namespaces, daemons and a directory; the next one removes them, and nothing else.
set -u
. "$(dirname "$0")/lib_hosts.sh"
cat >victim.sh <<'END'
. "$TEST_SRC/tests/cluster/lib_hosts.sh"
hosts 2
cp "$(command -v sleep)" "$work/daemon"
daemon "$work/daemon" 1000
"$work/on" "$h0" "$work/daemon" 1000 &
echo "$me ${daemons[0]} $work" >"$1"
while :; do read -r -t 10 <><(:); done
END
bash victim.sh "$work/told" >out 2>err &
victim=$!
within 60000 test -s told || fail "the victim does not start"
read -r ns daemon dir <told
in_ns() { [ -n "$(ip netns pids "${ns}0")" ]; }
within 30000 in_ns || fail "nothing runs on the victim's host"
inside=$(ip netns pids "${ns}0")
sweep
ip netns list | grep -q "^${ns}0" || fail "the hosts of a test that runs were removed"
alive "$daemon" || fail "the daemon of a test that runs was killed"
kill -9 $victim
wait $victim 2>/dev/null
within 30000 test ! -d /proc/$victim
alive "$daemon" || fail "the daemon died with the test: this proves nothing"
sweep
if ip netns list | grep -q "^$ns"; then fail "namespaces are left"; fi
[ ! -d "$dir" ] || fail "$dir is left"
[ ! -e "/etc/netns/${ns}0" ] || fail "/etc/netns/${ns}0 is left"
for p in $daemon $inside; do
	if alive "$p"; then fail "process $p is left"; fi
done
checks=$((checks + 7))
passed
