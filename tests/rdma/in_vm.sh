#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# usage: in_vm.sh SCRIPT   run a test of this folder in the test kernel, with the options of its line "# vm: ..."
#        in_vm.sh --kernel make the kernel ready, building it if there is none (minutes, once)
# TEST_RDMA=0 skips (make test RDMA=0). TEST_RDMA_VM holds further options of vm, e.g. --qemu, which sanitizer builds need.
set -u
here=$(cd "$(dirname "$0")" && pwd)
skip() { echo "skip: $*"; exit 77; }

[ "${TEST_RDMA:-1}" != 0 ] || skip "RDMA=0: no tests with RDMA devices"
case $(uname -m) in
x86_64) ;;
*) skip "the test kernel is for x86-64 machines, not $(uname -m)" ;;
esac
for tool in ip tc rdma; do
	command -v $tool >/dev/null || [ -x /usr/sbin/$tool ] || [ -x /sbin/$tool ] || skip "$tool is not installed (iproute2)"
done
# shellcheck disable=SC2206 # options are words
extra=(${TEST_RDMA_VM:-})
case " ${TEST_WITH:-} ${extra[*]-} " in
*--qemu*) ;;
*address* | *thread*) skip "a sanitizer's shadow finds no room in a User-Mode-Linux process; TEST_RDMA_VM=--qemu runs it, slowly" ;;
esac
if [ "$1" = --kernel ]; then
	exec "$here/vm" ${extra[@]+"${extra[@]}"} --build
fi
# shellcheck disable=SC2207
options=($(sed -n 's/^# vm: //p' "$1"))
case " ${extra[*]-} " in
*--qemu*)
	options=("${options[@]/--siw/}" --timeout 5300) # Debian's kernel has none: the tests look whether it is there
	export TEST_RDMA_TIMEOUT=5000
	;;
esac
options=(${options[@]})
# Figures that a test writes down stay in the build folder; all else goes with the kernel.
# How many want each processor of the host: speeds are judged less strictly on a busy one.
TEST_HOST_LOAD=$(awk -v n="$(nproc)" '{ print $1 / n }' /proc/loadavg)
export TEST_HOST_LOAD
export TEST_RDMA_OUT=${TEST_BUILD:-/tmp}/rdma
mkdir -p "$TEST_RDMA_OUT"
exec "$here/vm" --write "$TEST_RDMA_OUT" "${options[@]}" ${extra[@]+"${extra[@]}"} -- bash "$1"
