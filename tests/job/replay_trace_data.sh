#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The first 300 requests of a production trace (TEST_DATA/traces), with as many layers as a small machine holds: once by
# whatever this host offers, once over TCP. Under a sanitizer only 30 of them.
. "$(dirname "$0")/common_replay.sh"

trace=${TEST_DATA:-}/traces/conversation_trace.jsonl
if [ -z "${TEST_DATA:-}" ] || [ ! -r "$trace" ]; then
	echo "skip: TEST_DATA/traces/conversation_trace.jsonl is not there"
	exit 77
fi
free_kb=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
if [ "$free_kb" -lt 8000000 ]; then
	echo "skip: only $free_kb kB of memory are free, 8000000 are needed"
	exit 77
fi
for transport in auto $networks; do
	requests=300
	[ $slow = yes ] && requests=30
	replay 0 --trace "$trace" --model llama-3.1-8b --requests $requests --layers 1 --speed max --transport $transport \
		--json "$out/report.json"
	verified $requests
	echo "$transport: $(field bytes) bytes verified, goodput $(field goodput_gbps) GB/s, CPU $(field cpu_s_per_gb) s/GB"
done
