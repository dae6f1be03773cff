# SPDX-License-Identifier: BSD-3-Clause
# lib_hosts.sh - sourced by the cluster tests. Hosts are network namespaces on one bridge, each with a host name, an
# /etc/hosts and a TMPDIR of its own; the bridge is in a namespace too, so nothing touches the machine's own network. Names begin with
# "mct" and the number of this shell, so that any number of tests run side by side, and what a killed test left behind
# is found and removed by the next one.
# shellcheck disable=SC2034 # variables for those who source this
skip() { echo "skip: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "namespaces need root"
for tool in ip unshare nsenter; do command -v $tool >/dev/null || skip "$tool is not installed (iproute2, util-linux)"; done
case " ${TEST_WITH:-} " in *" pmix "*) ;; *) skip "built without PMIx" ;; esac
case " ${TEST_WITH:-} " in *" sodium "*) ;; *) skip "built without libsodium: no jobs on several hosts" ;; esac
mcrun=$TEST_BIN/mcrun mcperf=$TEST_BIN/mcperf probe=$TEST_HELPERS/pmix_probe
[ -x "$mcrun" ] || skip "there is no mcrun in $TEST_BIN"
sample=$TEST_SRC/examples/sample_trace.jsonl
work=$(mktemp -d) || exit 1
cd "$work" || exit 1
me=mct$$n
hosts_up=0
state=/run/mc-tests
mkdir -p "$state"
echo "0 $work" >"$state/$$"
checks=0

# remove_hosts PREFIX: end what runs there, by its number, and take the namespaces down
remove_hosts()
{
	local ns pid
	for ns in $(ip netns list | sed -n "s/^\($1[0-9a-z]*\).*/\1/p"); do
		for pid in $(ip netns pids "$ns" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
		ip netns del "$ns" 2>/dev/null
		rm -rf "/etc/netns/$ns"
	done
}

# daemon COMMAND...: in the background, known by its number to who cleans up, be it another test after this one was killed
daemon()
{
	"$@" >>"$work/daemons.log" 2>&1 &
	disown
	daemons+=($!)
	echo "$! $work" >>"$state/$$"
}
daemons=()

# What tests that were killed have left: their shell is gone.
sweep()
{
	local ns pid file dir
	for file in "$state"/*; do
		[ -f "$file" ] && [ ! -d "/proc/${file##*/}" ] || continue
		while read -r pid dir; do # only what still is what was started: its directory is in its command line
			tr "\0" " " <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir" && kill -9 "$pid"
			case $dir in */tmp.*) rm -rf "$dir" ;; esac
		done <"$file"
		rm -f "$file"
	done
	for ns in $(ip netns list | sed -n 's/^\(mct[0-9]*n\).*/\1/p' | sort -u); do
		pid=${ns#mct} pid=${pid%n}
		[ -d "/proc/$pid" ] || remove_hosts "$ns"
	done
}

clean_up() # may be replaced by a test that has more to clean up; calls this one in the end
{
	local end=$? pid
	trap - EXIT INT TERM HUP
	[ "$(type -t clean_up_more)" = function ] && clean_up_more
	for pid in "${daemons[@]}"; do kill -9 "$pid" 2>/dev/null; done
	rm -f "$state/$$"
	remove_hosts "$me"
	cd /
	rm -rf "$work"
	exit $end
}
trap clean_up EXIT
trap 'exit 143' INT TERM HUP

# hosts N: h0 .. h(N-1) with 10.77.0.1 ...
hosts()
{
	sweep
	ip netns add "${me}br" 2>"$work/why" || skip "no network namespaces here: $(cat "$work/why")"
	ip -n "${me}br" link add br0 type bridge 2>"$work/why" || skip "no bridges here: $(cat "$work/why")"
	ip -n "${me}br" link set br0 up
	local i j
	for ((i = 0; i < $1; i++)); do
		ip netns add "$me$i"
		ip -n "${me}br" link add v$i type veth peer name eth0 netns "$me$i" || skip "no veth pairs here"
		ip -n "${me}br" link set v$i master br0 up
		ip -n "$me$i" addr add 10.77.0.$((i + 1))/24 dev eth0
		ip -n "$me$i" link set eth0 up
		ip -n "$me$i" link set lo up
		mkdir -p "/etc/netns/$me$i" "$work/tmp.$me$i"
		{
			echo "127.0.0.1 localhost"
			for ((j = 0; j < $1; j++)); do echo "10.77.0.$((j + 1)) $me$j"; done
		} >"/etc/netns/$me$i/hosts"
	done
	hosts_up=$1
	# on HOST COMMAND...: there, with that host's name; no variable of this shell that is about a host
	cat >"$work/on" <<-END
		#!/bin/sh
		h=\$1
		shift
		exec ip netns exec "\$h" unshare --uts sh -c 'hostname "\$0"; exec env TMPDIR=$work/tmp.\$0 "\$@"' "\$h" "\$@"
	END
	# rsh [OPTION...] HOST "COMMAND": what Open MPI takes for ssh
	cat >"$work/rsh" <<-END
		#!/bin/sh
		while [ "\${1#-}" != "\$1" ]; do shift; done
		h=\$1
		shift
		exec $work/on "\$h" sh -c "\$*"
	END
	chmod +x "$work/on" "$work/rsh"
	export OMPI_MCA_plm_rsh_agent=$work/rsh
	h0=${me}0 h1=${me}1 h2=${me}2
}
on() { "$work/on" "$@"; }
need_mpirun() { command -v mpirun >/dev/null || skip "openmpi-bin is not installed"; }
need_probe() { [ -x "$probe" ] || skip "$probe is not built (libpmix)"; }

fail()
{
	echo "FAILED: $*"
	for f in out err; do
		[ -f "$work/$f" ] && { echo "--- $f"; head -c 20000 "$work/$f" | cut -c1-300 | tail -60; }
	done
	exit 1
}

# expect WHAT ACTUAL WANTED
expect()
{
	checks=$((checks + 1))
	[ "$2" = "$3" ] || fail "$1 is '$2', expected '$3'"
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
has_not() { checks=$((checks + 1)); if grep -qE -e "$2" "$1"; then fail "$1 has a line like '$2'"; fi; }

# run CODE ARG...: mcrun on the first host; output in ./out and ./err
run()
{
	local code=$1 got=0
	shift
	timeout -k 5 "${RUN_LIMIT:-240}" "$work/on" "$h0" "$mcrun" "$@" >out 2>err </dev/null || got=$?
	checks=$((checks + 1))
	[ "$got" = "$code" ] || fail "exit code of mcrun $* is $got, expected $code"
}

now_ms() { local t; read -r t _ </proc/uptime; echo "$((10#${t/./} * 10))"; } # not octal in the first second

# within MS COMMAND...: until it succeeds
within()
{
	local limit=$(($(now_ms) + $1))
	shift
	while ! "$@"; do
		[ "$(now_ms)" -lt "$limit" ] || return 1
		read -r -t 0.02 <><(:) || true
	done
}

# A process that is there and not a zombie.
alive()
{
	local s
	s=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 1
	[ -n "$s" ] && [ "${s%% *}" != Z ] && [ "${s%% *}" != X ]
}

# Processes on the hosts whose program is one of ours or of an engine; what else a host runs (daemons) is not asked about.
ours_on_hosts()
{
	local i pid
	for ((i = 0; i < hosts_up; i++)); do
		for pid in $(ip netns pids "$me$i" 2>/dev/null); do
			alive "$pid" || continue
			case $(readlink "/proc/$pid/exe") in
			"$TEST_BIN"/* | "$TEST_HELPERS"/* | */orted | */orterun | */srun | */sleep) echo "$pid" ;;
			esac
		done
	done
}
none_left() { [ -z "$(ours_on_hosts)" ]; }
no_orphans()
{
	checks=$((checks + 1))
	within 30000 none_left || {
		for p in $(ours_on_hosts); do echo "left: $p $(tr '\0' ' ' <"/proc/$p/cmdline" | cut -c1-100)"; done
		fail "processes are left on the hosts"
	}
}

# rank_pid HOST RANK: the process on that host that was given that rank, by its environment and program
rank_pid()
{
	local pid
	for pid in $(ip netns pids "$1" 2>/dev/null); do
		[ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "${rank_exe:-$mcperf}")" ] || continue
		tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "PMIX_RANK=$2" && { echo "$pid"; return; }
	done
	return 1
}
# agent_pid HOST: the mcrun there that is an agent
agent_pid()
{
	local pid
	for pid in $(ip netns pids "$1" 2>/dev/null); do
		tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q -- ' --as-agent ' && alive "$pid" && { echo "$pid"; return; }
	done
	return 1
}

# Bytes that a host has sent and received over its link.
moved() { ip -n "$1" -s link show eth0 | awk '/RX:|TX:/ { getline; n += $1 } END { print n }'; }

# field KEY of report.json
field() { sed -n 's/^ *"'"$1"'": *"\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' "$work/report.json" | head -1; }
# all_verified REQUESTS
all_verified()
{
	expect "report: requests" "$(field requests)" "$1"
	expect "report: errors" "$(field errors)" 0
	[ "$(field bytes)" -gt 0 ] || fail "report: no bytes"
	expect "report: verified_bytes" "$(field verified_bytes)" "$(field bytes)"
	expect "report: result" "$(field result)" "all verified"
}
passed() { no_orphans; echo "$checks checks passed"; }
