#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Ranks that a plain mpirun starts, without mcrun: roles by environment, or by rank from MC_ROLES.
set -u
. "$(dirname "$0")/lib_hosts.sh"
need_mpirun
hosts 3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
replay="$mcperf replay --trace $sample --model llama-3.1-8b --layers 1 --requests 20 --transport tcp --json $work/report.json"

plain() # plain ARG...: mpirun on the first host
{
	rm -f report.json
	timeout -k 5 240 "$work/on" "$h0" mpirun --oversubscribe --bind-to none "$@" >out 2>err </dev/null
}
# shellcheck disable=SC2086 # $replay is words
plain -np 2 -host "$h0:2" -x MC_ROLE=prefill $replay : -np 4 -host "$h1:2,$h2:2" -x MC_ROLE=decode $replay || fail "MC_ROLE: $?"
all_verified 20
# shellcheck disable=SC2086
plain -np 6 -host "$h0:2,$h1:2,$h2:2" -x MC_ROLES=prefill:2,decode:4 $replay || fail "MC_ROLES: $?"
all_verified 20
expect "report: decode" "$(field decode)" 4
# numbers that do not add up are refused by every rank, and say so
# shellcheck disable=SC2086
plain -np 6 -host "$h0:2,$h1:2,$h2:2" -x MC_ROLES=prefill:2,decode:3 $replay && fail "MC_ROLES for 5 of 6 ranks was accepted"
cat out err >both
has both "MC_ROLES=prefill:2,decode:3 names 5 ranks, but the job has 6"
# shellcheck disable=SC2086
plain -np 2 -host "$h0:1,$h1:1" -x MC_ROLES=prefill:,decode:1 $replay && fail "MC_ROLES without a number was accepted"
cat out err >both
has both "must be NAME:N,NAME:N"
# authenticated, when all are given the key
key=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
# shellcheck disable=SC2086
MC_JOB_KEY=$key plain -np 2 -host "$h0:1,$h1:1" -x MC_JOB_KEY -x MC_ROLES=prefill:1,decode:1 -x MC_LOG=info $replay || fail "MC_JOB_KEY: $?"
all_verified 20
cat out err >both
has both "peers authenticated" 2
passed
