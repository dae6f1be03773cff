#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --wires 2 --timeout 400
# Two instances of the verbs backend joined by two rails that fail in every way (tests/contract/rails). TEST_RDMA_ONLY: a pattern.
set -eu
. "$(dirname "$0")/lib_rdma.sh"
need_verbs
timeout 350 "$helpers/test_rails" ${TEST_RDMA_ONLY:+"$TEST_RDMA_ONLY"} >out 2>err || fail "test_rails ended with $?"
checks=$((checks + $(grep -c 'OK \]' out err | awk -F: '{ n += $2 } END { print n }')))
passed
