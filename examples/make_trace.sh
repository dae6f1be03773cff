#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: make_trace.sh [REQUESTS [SEED]] >FILE     an invented request trace for mcperf replay; sample_trace.jsonl is the
# output of `make_trace.sh 60 1`. Conversations that share a few system prompts come back with longer input each time;
# requests arrive in bursts a few seconds apart. One hash stands for 512 tokens; equal hash, equal prefix up to there.
set -eu
awk -v requests="${1:-60}" -v seed="${2:-1}" '
function random(n) # 0 .. n-1; Park and Miller, exact in doubles, so the same trace everywhere
{
	state = state * 16807 % 2147483647
	return int(state / 2147483647 * n)
}
function open_conversation(c,    k)
{
	prompt = random(3)
	full[c] = 0
	tokens[c] = 0
	for (k = 0; k < 1 + prompt; k++) # a system prompt of 1, 2 or 3 hashes, the same for all who have it
		id[c, full[c]++] = prompt * 3 + k
	tokens[c] = full[c] * 512
}
BEGIN {
	state = seed * 7919 + 1
	next_id = 9
	open = 0
	now = 0
	for (i = 0; i < requests; i++) {
		if (left == 0) { # a new burst
			left = 1 + random(8)
			if (i > 0)
				now += 1500 + random(3000)
		}
		left--
		if (open == 0 || random(100) < 45)
			open_conversation(c = open++)
		else
			c = random(open)
		tokens[c] += random(10) == 0 ? 3000 + random(5000) : 100 + random(1400)
		n = int((tokens[c] + 511) / 512)
		for (k = full[c]; k < n; k++)
			id[c, k] = next_id++
		full[c] = int(tokens[c] / 512) # the last one is only a prefix of others once it is full
		printf "{\"timestamp\": %d, \"input_length\": %d, \"output_length\": %d, \"hash_ids\": [", now, tokens[c], 20 + random(400)
		for (k = 0; k < n; k++)
			printf "%s%d", k == 0 ? "" : ", ", id[c, k]
		print "]}"
	}
}'
