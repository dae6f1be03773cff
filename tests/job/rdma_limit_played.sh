#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcrun --rdma-limit from its first to its last moment, where the kernel has no rdma controller: a folder plays the cgroup file
# system (new folders are born with their files, which do not keep them from being removed), in a mount namespace of its own in which
# mcrun's /proc entries speak of it. Seen: the ranks enter, the limit is written, the cgroup goes at the end, after kill -9 of mcrun,
# after kill -9 of the guard, and after both with the next mcrun.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
case ${TEST_WITH:-} in *address* | *thread*) echo "skip: a preloaded library and a sanitizer do not go together"; exit 77 ;; esac
[ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null || { echo "skip: needs root and mount namespaces"; exit 77; }
command -v cc >/dev/null || { echo "skip: no C compiler to build the player with"; exit 77; }

cat >play.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static const char *const files[] = {"cgroup.procs", "rdma.max"};
static void each(const char *dir, int make)
{
	char path[2000];
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		if (make)
			close(open(path, O_WRONLY | O_CREAT, 0644));
		else
			unlink(path);
	}
}
int mkdir(const char *path, mode_t mode)
{
	int (*real)(const char *, mode_t) = (int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "mkdir");
	int rc = real(path, mode);
	if (rc == 0 && strstr(path, ".job") != NULL)
		each(path, 1);
	return rc;
}
int rmdir(const char *path)
{
	int (*real)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "rmdir");
	if (strstr(path, ".job") != NULL)
		each(path, 0);
	return real(path);
}
END
cc -shared -fPIC -w -o play.so play.c -ldl || { echo "skip: the player cannot be built"; exit 77; }
cg=$work/cg
mkdir -p "$cg/a"
echo 'cpu rdma' | tee "$cg/cgroup.controllers" >"$cg/a/cgroup.controllers"
echo rdma >"$cg/a/cgroup.subtree_control"
echo 1 >"$cg/a/cgroup.procs"
echo '0::/a' >cgroup
echo "30 21 0:26 / $cg rw - cgroup2 cgroup2 rw" >mountinfo

# The process that becomes mcrun covers its own /proc entries first; its children have theirs.
cat >start.sh <<'END'
mount --bind cgroup /proc/$$/cgroup && mount --bind mountinfo /proc/$$/mountinfo || exit 99
LD_PRELOAD=$PWD/play.so exec "$@"
END
play() { unshare -m --propagation private sh start.sh "$mcrun" "$@"; }
jobs_n() { find "$cg/a" -name 'mcrun.*' | wc -l; }
gone() { [ "$(jobs_n)" = 0 ]; }

got=0
play --rdma-limit mlx5_0:hca_handle=2,hca_object=200 -n 2 sh -c "cat $cg/a/mcrun.*.job/rdma.max; echo; cat $cg/a/mcrun.*.job/cgroup.procs; echo" >out 2>err || got=$?
if [ $got = 99 ]; then echo "skip: /proc entries cannot be covered here"; exit 77; fi
expect "exit code" $got 0
has out '^\[[01]\] mlx5_0 hca_handle=2 hca_object=200$' 2
has out '^\[[01]\] 0$' 2
expect "cgroups left" "$(jobs_n)" 0

# a job that fails, one that cannot start
got=0
play --rdma-limit mlx5_0:hca_handle=2 -n 2 sh -c 'exit 7' >out 2>err || got=$?
expect "exit code" $got 7
expect "cgroups left" "$(jobs_n)" 0
mkdir cover
got=0
TMPDIR=$work/no/such play --rdma-limit mlx5_0:hca_handle=2 -n 1 true >out 2>err || got=$?
expect "exit code" $got 2
expect "cgroups left" "$(jobs_n)" 0
echo cpu >"$cg/a/cgroup.controllers"
got=0
play --rdma-limit mlx5_0:hca_handle=2 -n 1 touch started >out 2>err || got=$?
expect "exit code" $got 2
has err "echo \+rdma > $cg/cgroup.subtree_control \[rdma-cgroup, see mcinfo doctor\]$" 1
[ ! -e started ] || fail "something was started"
echo 'cpu rdma' >"$cg/a/cgroup.controllers"

# killed
for victim in mcrun guard both; do
	rm -f pid.*
	unshare -m --propagation private sh start.sh "$mcrun" --rdma-limit mlx5_0:hca_handle=2 -n 2 sh -c 'echo $$ >new.$PMIX_RANK; mv new.$PMIX_RANK pid.$PMIX_RANK; exec sleep 600' >out 2>err &
	pid=$!
	within 30000 test -s pid.0 -a -s pid.1 || fail "the ranks do not start"
	expect "cgroups of the running job" "$(jobs_n)" 1
	guard=$(children $pid | tr -d ' \n')
	case $victim in
	mcrun) kill -9 $pid ;;
	guard) kill -9 "$guard" ;;
	both) kill -STOP "$guard" $pid && kill -9 "$guard" $pid ;;
	esac
	wait $pid || true
	within 20000 all_dead "$(cat pid.0)" "$(cat pid.1)" || fail "ranks live after kill -9 of $victim"
	if [ $victim = both ]; then
		expect "cgroups left by two that were killed" "$(jobs_n)" 1
		rm -f "$cg"/a/mcrun.*/* # as the kernel does
		play --rdma-limit mlx5_0:hca_handle=2 -n 1 true >out 2>err
	fi
	within 20000 gone || fail "kill -9 of $victim leaves $(ls "$cg/a")"
	checks=$((checks + 1))
done
passed
