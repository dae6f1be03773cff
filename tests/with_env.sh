#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: with_env.sh BUILD_DIR PROGRAM [ARG...]   run a test with the environment that tests expect:
#   TEST_BIN      the programs of the build (mcrun, mcperf)        TEST_HELPERS  helper programs of the tests
#   TEST_DATA     folder with traces/, models/, topologies/; unset when there is none (tests that need it skip)
#   TEST_BUILD, TEST_SRC  build folder, source folder
#   TEST_WITH     optional parts of the build, e.g. "ucx pmix sodium json", and its sanitizers, e.g. "address,undefined"
# and the sanitizers' options with our suppressions.
here=$(cd "$(dirname "$0")" && pwd)
build=$1
shift
TEST_SRC=$(dirname "$here")
TEST_BUILD=$build
TEST_BIN=$build/bin
TEST_HELPERS=$build/tests/bin
TEST_WITH=$(cat "$build/tests/features")
if [ -z "${TEST_DATA:-}" ] && [ -d "$TEST_SRC/../shared/data" ]; then
	TEST_DATA=$(cd "$TEST_SRC/../shared/data" && pwd)
	export TEST_DATA
fi
export TEST_SRC TEST_BUILD TEST_BIN TEST_HELPERS TEST_WITH

# A setting of the caller's shell must not decide about a test: those of mc, of the libraries below it, of the engines (which would
# take a test for a step of the job that it runs in), of proxies, and how tools speak and sort.
for name in $(env | sed -n -E 's/^((MC|MCRUN|UCX|PMIX|PMI|OMPI|OPAL|PRTE|ORTE|SLURM|HWLOC|ETCD|ETCDCTL)_[A-Za-z0-9_]*)=.*/\1/p'); do
	unset "$name"
done
unset http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY no_proxy NO_PROXY LANGUAGE POSIXLY_CORRECT CDPATH BASH_ENV ENV \
	GREP_OPTIONS GREP_COLOR GREP_COLORS SSL_CERT_FILE SSL_CERT_DIR
export LC_ALL=C
umask 022

supp=$here/suppressions
export ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export LSAN_OPTIONS="suppressions=$supp/lsan.supp:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export TSAN_OPTIONS="suppressions=$supp/tsan.supp:halt_on_error=0:exitcode=66:second_deadlock_stack=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"
case $TEST_WITH in
*address*)
	# Plug-ins of hwloc (graphics libraries, names of PCI devices) leak, and are unloaded before that can be told by name.
	export HWLOC_PLUGINS_PATH=/nonexistent
	;;
esac
case $TEST_WITH in
*thread*)
	# UCX patches madvise() of the process; libc calls that at the end of a thread, when the thread sanitizer has already
	# taken its own state down, and the process crashes in the sanitizer.
	export UCX_MEM_MMAP_HOOK_MODE=none
	;;
esac
# nohup, cron and some CI runners have signals ignored, which children inherit and a shell cannot undo.
if env --default-signal true 2>/dev/null; then
	exec env --default-signal "$@"
fi
exec "$@"
