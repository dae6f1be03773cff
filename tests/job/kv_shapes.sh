#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Prefill and decode ranks that cut the model differently: every element arrives, over each transport, pushed and pulled.
. "$(dirname "$0")/common_kv.sh"

tokens=2048
[ "$slow" = yes ] && tokens=250
elem=$((128 * 2)) # bytes of one head of one token
gqa=(--model llama-3.1-70b)

# 80 layers scaled to 4; K and V
moves 4 2 $((tokens * 4 * 2 * 8 * elem)) "${gqa[@]}" --src tp=4 --dst tp=2 --tokens $tokens --layers 4
# neither divides the other, and 6 heads are cut unevenly; other blocks and layouts
moves 2 3 $((1000 * 2 * 2 * 6 * elem)) "${gqa[@]}" --heads 6 --src tp=2 --dst tp=3 --tokens 1000 --layers 2 \
	--src-layout NHD --dst-block 64
moves 2 3 $((333 * 2 * 2 * 12 * elem)) "${gqa[@]}" --heads 12 --src tp=2 --dst tp=3 --tokens 333 --layers 2 \
	--src-layout CROSS --dst-layout HND+layers+kv --src-block 64 --dst-block 5
# MLA: the latent is on every rank of either side
moves 2 3 $((tokens * 3 * 576 * 2 * 3)) --model deepseek-v3 --src tp=2 --dst tp=3 --tokens $tokens --layers 3
# pipeline stages on one side
moves 4 4 $((tokens / 2 * 4 * 2 * 8 * elem)) "${gqa[@]}" --src tp=2,pp=2 --dst tp=4 --tokens $((tokens / 2)) --layers 4
# fewer KV heads than ranks: replicas on both sides
moves 3 4 $((200 * 2 * 2 * 2 * elem * 2)) "${gqa[@]}" --heads 2 --src tp=3 --dst tp=4 --tokens 200 --layers 2 \
	--src-layout NHD --dst-layout NHD
echo "all shapes verified over: shm $networks"
