#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Four mcruns at once on one host, twenty times, without any configuration: none meets another.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe

for round in $(seq 20); do
	jobs=()
	for j in 1 2 3 4; do
		timeout -k 5 400 "$mcrun" --prefill 1 --decode "$j" "$probe" fence >"out.$j" 2>"err.$j" </dev/null &
		jobs+=($!)
	done
	for j in 1 2 3 4; do
		got=0
		wait "${jobs[$((j - 1))]}" || got=$?
		[ "$got" = 0 ] && [ ! -s "err.$j" ] || { cat "err.$j"; fail "job $j of round $round ended with $got"; }
		checks=$((checks + 1))
	done
done
passed
