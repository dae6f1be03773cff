#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# One bit changed on the way: the run must end with an error that names request, layer, block and byte.
. "$(dirname "$0")/common_replay.sh"

for transport in auto $networks; do
	replay 1 --trace "$sample" --model llama-3.1-8b --layers 2 --corrupt-one --transport $transport --json "$out/report.json"
	grep -q 'wrong byte: request [0-9]* layer [01] block [0-9]* .*offset [0-9]*: expected 0x.*, found 0x.*prefill.0' "$out/stderr" ||
		fail "$transport: the wrong byte is not named"
	expect wrong_blocks 1
	expect result FAILED
	[ "$(field errors)" -ge 1 ] || fail "$transport: no error in the report"
	[ "$(field requests)" -lt 60 ] || fail "$transport: the run was not ended"
done
# the same byte, and nobody looks: that the check is what finds it
replay 0 --trace "$sample" --model llama-3.1-8b --layers 2 --corrupt-one --no-verify --requests 5
echo "a wrong byte fails the run"
