#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --rails 1 --siw --timeout 850
# The promises of backend.h, kept by the verbs backend on Soft-RoCE and on iWARP. TEST_RDMA_ONLY: one test's name, or a pattern.
set -eu
. "$(dirname "$0")/lib_rdma.sh"
need_verbs
for dev in rxe0 siw0; do
	[ -d /sys/class/infiniband/$dev ] || { echo "no $dev in this kernel"; continue; }
	step "contract on $dev"
	# The side of the tests that is a second process inherits the device, too.
	MC_DEVICE=$dev timeout "${TEST_RDMA_TIMEOUT:-700}" "$helpers/test_backend" --backend verbs --transport rdma \
		${TEST_RDMA_ONLY:+--only "$TEST_RDMA_ONLY"} >out 2>err || fail "contract on $dev"
	tail -n 3 err | sed 's/^/  /'
	checks=$((checks + $(grep -c 'OK \]' out err | awk -F: '{ n += $2 } END { print n }')))
done
passed
