#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Addresses: a host name that means loopback on its own host (Debian writes 127.0.1.1) is not told to other hosts; the address for
# the others can be given; one that leads nowhere, or to somebody else, ends the job with a clear word.
set -u
. "$(dirname "$0")/lib_hosts.sh"
need_mpirun
need_probe
hosts 3
# the first host's own name means 127.0.1.1 there, and only there
sed -i "s/^10.77.0.1 /127.0.1.1 /" "/etc/netns/$h0/hosts"
expect "own name" "$(on "$h0" getent hosts "$h0" | awk '{ print $1 }')" 127.0.1.1
all="--engine openmpi --hosts $h0:2,$h1:2,$h2:2 --prefill 2 --decode 4"
# shellcheck disable=SC2086 # $all is words
{
run 0 $all --agent "$probe" fence
# what the agents are told, seen in the environment of a carrier that only shows it
mkdir fake
printf '#!/bin/sh\necho "head $MCRUN_HEAD"\nexit 3\n' >fake/mpirun
chmod +x fake/mpirun
told() { # told ARG...: the addresses
	timeout 60 "$work/on" "$h0" env PATH="$work/fake:$PATH" "$mcrun" $all --agent "$@" true >out 2>err </dev/null
	sed -n 's/^mcrun: mpirun: head //p' err
}
expect "told" "$(told | sed 's/:[0-9]*$//')" 10.77.0.1
expect "told, as said" "$(told --head-address 10.77.0.1 | sed 's/:[0-9]*$//')" 10.77.0.1
has err "mpirun ended with exit code 3 before all ranks were there" 1
expect "told, with hosts of the same kind" "$(told --head-address "$h1" | sed 's/:[0-9]*$//')" 10.77.0.2
run 0 $all "$probe" fence
run 0 $all "$mcperf" replay --trace "$sample" --model llama-3.1-8b --layers 1 --requests 20 --transport tcp --json "$work/report.json"
all_verified 20
run 0 $all --agent --head-address 10.77.0.1 "$probe" fence
# nobody is there
run 1 $all --agent --head-address 10.77.0.77 "$probe" fence
has err "cannot reach the mcrun that wants us \(10.77.0.77:[0-9]*: .*--head-address"
# a name that is none
run 1 $all --agent --head-address no.such.host "$probe" fence
has err "head-address no.such.host" 1
no_orphans
# several jobs on one host at the same time, alone and over hosts, by one user: no clash of ports, names or files
pids=
for i in 1 2 3 4; do
	timeout 240 "$work/on" "$h0" "$mcrun" -n 3 "$probe" fence >"out.$i" 2>&1 </dev/null &
	pids="$pids $!"
	timeout 240 "$work/on" "$h0" "$mcrun" $all --agent "$probe" fence >"out.a$i" 2>&1 </dev/null &
	pids="$pids $!"
done
for p in $pids; do
	wait "$p" || { cat out.*; fail "one of eight jobs at the same time ended with $?"; }
	checks=$((checks + 1))
done
}
[ -z "$(ls -A "$work/tmp.$h0" "$work/tmp.$h1" | grep mcrun)" ] || fail "left: $(ls -A "$work/tmp.$h0" "$work/tmp.$h1")"
passed
