#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The examples do what their comments say: under mcrun, over shared memory and over TCP, and started on their own.
set -u
out=$(mktemp -d) || exit 1
export TMPDIR=$out
trap 'rm -rf "$out"' EXIT
fail() { echo "FAILED: $*"; cat "$out/log"; exit 1; }

"$TEST_BIN/mcrun" --prefill 2 --decode 2 "$TEST_BIN/hello_group" >"$out/log" 2>&1 || fail "hello_group: status $?"
[ "$(grep -c 'hello from' "$out/log")" -eq 4 ] || fail "hello_group: not every rank got a greeting"
grep -q 'rank 3 of 4: decode 1 of 2, 4 rank(s) on this host' "$out/log" || fail "hello_group: groups"
"$TEST_BIN/hello_group" >"$out/log" 2>&1 || fail "hello_group on its own: status $?"
grep -q 'rank 0 of 1' "$out/log" || fail "hello_group on its own"

case " $TEST_WITH " in
*' ucx '*) transports='auto tcp' ;;
*) transports=auto ;; # only UCX speaks TCP
esac
for transport in $transports; do
	MC_TRANSPORT=$transport "$TEST_BIN/mcrun" --prefill 2 --decode 2 "$TEST_BIN/prefill_to_decode" >"$out/log" 2>&1 ||
		fail "prefill_to_decode over $transport: status $?"
	[ "$(grep -c 'every byte verified' "$out/log")" -eq 2 ] || fail "prefill_to_decode over $transport"
done
# Where UCX needs it, ranks meet in steps of our own (ucx_meet.c).
case $transports in
*tcp)
	MC_LOG=debug "$TEST_BIN/mcrun" --transport tcp --prefill 1 --decode 1 "$TEST_BIN/prefill_to_decode" >"$out/log" 2>&1 ||
		fail "prefill_to_decode with MC_LOG=debug: status $?"
	! grep -q 'UCX 1\.1[0-3].*: meets peers as UCX does' "$out/log" || fail "ranks do not meet calmly"
	grep -q ': meets peers ' "$out/log" || fail "nothing says how ranks meet"
	;;
esac
# With these UCX sends nothing short, as in a process with GPU memory, or in other ways than by default: two ranks meet all the same.
case $transports in
*tcp)
	for set in UCX_ZCOPY_THRESH=0 UCX_RNDV_THRESH=0 UCX_PROTO_ENABLE=y UCX_TCP_TX_SEG_SIZE=512 UCX_TCP_MAX_IOV=1; do
		env "$set" "$TEST_BIN/mcrun" --timeout 400 --transport tcp --prefill 2 --decode 2 "$TEST_BIN/prefill_to_decode" \
			>"$out/log" 2>&1 || fail "prefill_to_decode over tcp with $set: status $?"
		[ "$(grep -c 'every byte verified' "$out/log")" -eq 2 ] || fail "prefill_to_decode over tcp with $set"
		# The same out of a file.
		echo "$set" >"$out/ucx.conf"
		UCX_CONFIG_DIR=$out "$TEST_BIN/mcrun" --timeout 400 --transport tcp --prefill 2 --decode 2 \
			"$TEST_BIN/prefill_to_decode" >"$out/log" 2>&1 || fail "prefill_to_decode over tcp with $set in ucx.conf: status $?"
	done
	;;
esac
if "$TEST_BIN/mcrun" --prefill 2 --decode 1 "$TEST_BIN/prefill_to_decode" >"$out/log" 2>&1; then
	fail "unequal halves were not refused"
fi
grep -q 'as many prefill as decode ranks' "$out/log" || fail "unequal halves: no clear message"
echo "both examples work"
