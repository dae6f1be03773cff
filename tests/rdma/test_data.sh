#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --wires 4 --memory 1536 --timeout 600
# One, two and four rails: every byte looked at the moment its note is there (a torn write would be seen), puts and gets, pool
# and own memory; mcperf bw, kv with another cut on each side, replay of a trace.
set -eu
. "$(dirname "$0")/lib_rdma.sh"
need_verbs
job() # RANKS... ARG...: mcrun over verbs
{
	timeout -k 5 150 "$mcrun" --backend verbs "$@" >out 2>err </dev/null || fail "mcrun $* ended with $?"
	checks=$((checks + 1))
}
for rails in 1 2 4; do
	on_wires $rails
	step "$rails rails: torn writes"
	soak paged --slice 4K --slices 512 --window 4 --puts 60
	unharmed paged
	soak big --slice 1M --slices 8 --window 2 --puts 10
	unharmed big
	soak get --get --slice 16K --slices 64 --puts 20
	unharmed get
	for dev in $(seq 0 $((rails - 1))); do
		at_least "packets sent by rxa$dev" "$(cat /sys/class/infiniband/rxa$dev/ports/1/hw_counters/sent_pkts)" 500
	done

	step "$rails rails: mcperf"
	job -n 2 ./on_wires "$mcperf" bw -s 4K,64K --batch 32 --runs 2 --duration 50ms --pool 8M --no-bulk --json rows
	expect "verified rows of bw" "$(grep -c '"verified":true' rows)" 2
	has rows '"backend":"verbs"' 2
	job -n 2 ./on_wires "$mcperf" bw -s 4K --batch 32 --op put+note --memory own --runs 2 --duration 50ms --pool 8M --no-bulk --json rows
	expect "verified rows of bw --memory own" "$(grep -c '"verified":true' rows)" 1
	job --prefill 2 --decode 1 ./on_wires "$mcperf" kv --model llama-3.1-8b --src tp=2 --dst tp=1 --src-layout HND --dst-layout NHD \
		--layers 2 --tokens 512 --iters 2 --json kv
	expect "result of kv" "$(json kv result)" "all verified"
	job --prefill 2 --decode 2 ./on_wires "$mcperf" replay --trace "$TEST_SRC/examples/sample_trace.jsonl" --requests 12 \
		--model llama-3.1-8b --layers 1 --json replay
	expect "result of replay" "$(json replay result)" "all verified"
	expect "wrong blocks of replay" "$(json replay wrong_blocks)" 0
done
passed
