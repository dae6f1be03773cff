/* SPDX-License-Identifier: BSD-3-Clause */
/* test_rdmacg.c - the rdma controller's files read; limits parsed; a job's cgroup made and removed in a tree that plays
 * cgroupfs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <sys/types.h>

#include "doctor_tree.h"
#include "rdmacg.h"

/* ---- what cgroupfs does and a plain file system does not ---- */

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);

static const char *refuse_mkdir; /* a new directory whose name has this in it is refused */
static bool no_max_file;         /* a new cgroup has no rdma.max */

static void touch(const char *dir, const char *file, const char *text)
{
	char path[1200];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	FILE *f = fopen(path, "w");
	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		tree_fail("write", path);
}

/* A new cgroup is born with its files. */
int __wrap_mkdir(const char *path, mode_t mode)
{
	if (refuse_mkdir != NULL && strstr(path, refuse_mkdir) != NULL) {
		errno = EACCES;
		return -1;
	}
	if (__real_mkdir(path, mode) != 0)
		return -1;
	if (strstr(path, "/mcrun.") != NULL) {
		touch(path, "cgroup.procs", "");
		if (!no_max_file)
			touch(path, "rdma.max", "");
	}
	return 0;
}

/* The files of a cgroup do not keep it from being removed. */
int __wrap_rmdir(const char *path)
{
	static const char *const files[] = {"cgroup.procs", "rdma.max"};
	char full[1200];

	for (size_t i = 0; i < 2; i++) {
		snprintf(full, sizeof(full), "%s/%s", path, files[i]);
		(void)unlink(full);
	}
	return __real_rmdir(path);
}

static int make_tree(void **state)
{
	(void)state;
	tree_make();
	tree_put("/sys/fs/cgroup/a/cgroup.subtree_control", "memory rdma\n");
	tree_put("/sys/fs/cgroup/a/cgroup.procs", "1\n2\n");
	refuse_mkdir = NULL;
	no_max_file = false;
	return 0;
}

static int drop_tree(void **state)
{
	(void)state;
	tree_drop();
	return 0;
}

static unsigned children_of(const char *path)
{
	char cmd[1200];
	unsigned n = 0;

	snprintf(cmd, sizeof(cmd), "ls -d %s%s/mcrun.* 2>/dev/null | wc -l", tree, path);
	FILE *f = popen(cmd, "r");
	if (f == NULL || fscanf(f, "%u", &n) != 1)
		tree_fail("popen", cmd);
	(void)pclose(f);
	return n;
}

static void slurp(const char *path, char *out, size_t len)
{
	FILE *f = fopen(path, "r");
	size_t n = f == NULL ? 0 : fread(out, 1, len - 1, f);

	out[n] = '\0';
	if (f == NULL)
		tree_fail("open", path);
	(void)fclose(f);
}

static int create(const char *text, struct mc_rdmacg_job *job, struct mc_err *err)
{
	struct mc_rdmacg_limit l;

	assert_int_equal(mc_rdmacg_limit_parse(text, &l, err), 0);
	return mc_rdmacg_create(tree, &l, 1, job, err);
}

/* ---- reading ---- */

static void parse__lines(void **state)
{
	(void)state;
	struct mc_rdmacg_entry e[4];
	struct mc_rdmacg_event ev[4];
	uint32_t bad;

	assert_int_equal(mc_rdmacg_parse("mlx5_0 hca_handle=2 hca_object=2000 \nocrdma1 hca_handle=3 hca_object=max\n",
					 e, 4, &bad),
			 2);
	assert_int_equal(bad, 0);
	assert_string_equal(e[0].dev, "mlx5_0");
	assert_int_equal(e[0].handle, 2);
	assert_int_equal(e[0].object, 2000);
	assert_true(e[1].object == MC_RDMACG_MAX);
	/* a key of a later kernel */
	assert_int_equal(mc_rdmacg_parse("mlx5_0 hca_handle=2 mr_mem=max hca_object=5", e, 4, &bad), 1);
	assert_int_equal(e[0].object, 5);
	assert_int_equal(mc_rdmacg_parse("mlx5_0 hca_object=5\n", e, 4, &bad), 1);
	assert_true(e[0].handle == MC_RDMACG_NONE);
	assert_int_equal(mc_rdmacg_parse("", e, 4, &bad), 0);
	assert_int_equal(bad, 0);
	assert_int_equal(
		mc_rdmacg_parse("mlx5_0\nmlx5_1 hca_handle=\nm hca_handle=-1\n=3\nx hca_handle=1\n", e, 4, &bad), 1);
	assert_int_equal(bad, 4);
	assert_int_equal(mc_rdmacg_parse("a hca_handle=1\nb hca_handle=1\nc hca_handle=1\n", e, 2, &bad), 2);
	assert_int_equal(bad, 1);
	assert_int_equal(
		mc_rdmacg_parse_events(
			"mlx5_0 hca_handle.max=5 hca_handle.alloc_fail=3 hca_object.max=1 hca_object.alloc_fail=0\n",
			ev, 4, &bad),
		1);
	assert_int_equal(ev[0].max, 6);
	assert_int_equal(ev[0].fail, 3);
}

static void read__own_and_ancestors(void **state)
{
	(void)state;
	struct mc_sysroot *root;
	struct mc_rdmacg g;
	struct mc_err err;
	uint64_t left = 0;

	tree_put("/proc/self/cgroup", "0::/a/b/c\n");
	tree_put("/sys/fs/cgroup/a/b/rdma.max", "mlx5_0 hca_handle=10 hca_object=50\n");
	tree_put("/sys/fs/cgroup/a/b/rdma.current", "mlx5_0 hca_handle=4 hca_object=49\n");
	tree_put("/sys/fs/cgroup/a/b/c/rdma.max", "mlx5_0 hca_handle=max hca_object=max\n");
	assert_int_equal(mc_sysroot_open(tree, NULL, NULL, &root, &err), 0);
	mc_rdmacg_read(root, &g);
	assert_int_equal(g.level_n, 3);
	assert_string_equal(g.own, "/sys/fs/cgroup/a/b/c");
	assert_int_equal(mc_rdmacg_tightest(&g, "mlx5_0", false, &left), 1);
	assert_int_equal(left, 1);
	assert_int_equal(mc_rdmacg_tightest(&g, "mlx5_0", true, &left), 1);
	assert_int_equal(left, 6);
	assert_true(mc_rdmacg_tightest(&g, "mlx5_1", true, &left) == UINT32_MAX);
	mc_rdmacg_free(&g);
	/* in a container that mounts only its part of the hierarchy */
	tree_put("/proc/self/mountinfo", "30 21 0:26 /a/b /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	tree_put("/sys/fs/cgroup/c/rdma.max", "mlx5_0 hca_handle=1 hca_object=1\n");
	mc_rdmacg_read(root, &g);
	assert_string_equal(g.own, "/sys/fs/cgroup/c");
	assert_int_equal(g.level_n, 1);
	mc_rdmacg_free(&g);
	/* a path that leads out */
	tree_put("/proc/self/cgroup", "0::/../../x\n");
	mc_rdmacg_read(root, &g);
	assert_string_equal(g.own, "");
	mc_rdmacg_free(&g);
	mc_sysroot_close(root);
}

static void limit__parse(void **state)
{
	(void)state;
	static const char *const bad[] = {"",
					  "m",
					  "m:",
					  ":hca_handle=1",
					  "m:hca_handle",
					  "m:hca_handle=",
					  "m:hca_handle=x",
					  "m:hca_handle=-1",
					  "m:hca_handle=99999999999",
					  "m:hca_handle=1,",
					  "m:hca_handle=1,hca_handle=2",
					  "m:foo=1",
					  "a b:hca_handle=1",
					  "../x:hca_handle=1",
					  "m:hca_handle=0x10"};
	struct mc_rdmacg_limit l;
	struct mc_err err;
	char text[200];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (mc_rdmacg_limit_parse(bad[i], &l, &err) == 0)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(mc_rdmacg_limit_parse("mlx5_0:hca_object=max,hca_handle=7", &l, &err), 0);
	mc_rdmacg_limit_text(&l, text, sizeof(text));
	assert_string_equal(text, "mlx5_0 hca_handle=7 hca_object=max");
	assert_int_equal(mc_rdmacg_limit_parse("m:hca_object=0", &l, &err), 0);
	mc_rdmacg_limit_text(&l, text, sizeof(text));
	assert_string_equal(text, "m hca_object=0");
}

/* ---- a job's cgroup ---- */

static void create__limit_is_written(void **state)
{
	(void)state;
	struct mc_rdmacg_job job;
	struct mc_err err;
	char path[1200], text[200];

	if (create("mlx5_0:hca_handle=2,hca_object=2000", &job, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(children_of("/sys/fs/cgroup/a"), 1);
	assert_string_equal(job.leaf, "");
	snprintf(path, sizeof(path), "%s/rdma.max", job.dir);
	slurp(path, text, sizeof(text));
	assert_string_equal(text, "mlx5_0 hca_handle=2 hca_object=2000");
	assert_int_equal(mc_rdmacg_remove(&job), 0);
	assert_int_equal(children_of("/sys/fs/cgroup/a"), 0);
	assert_int_equal(mc_rdmacg_remove(&job), 0); /* once or more often */
}

/* The controller is not yet on for children, and mcrun is alone in its cgroup: it moves, and back. */
static void create__alone_moves_into_a_leaf(void **state)
{
	(void)state;
	struct mc_rdmacg_job job;
	struct mc_err err;
	char path[1200], text[200], own[32];

	snprintf(own, sizeof(own), "%d\n", (int)getpid());
	tree_put("/sys/fs/cgroup/a/cgroup.subtree_control", "");
	tree_put("/sys/fs/cgroup/a/cgroup.procs", own);
	if (create("mlx5_0:hca_handle=2", &job, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(children_of("/sys/fs/cgroup/a"), 2);
	assert_non_null(strstr(job.leaf, ".self"));
	assert_true(job.enabled);
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/a/cgroup.subtree_control", tree);
	slurp(path, text, sizeof(text));
	assert_string_equal(text, "+rdma");
	snprintf(path, sizeof(path), "%s/cgroup.procs", job.leaf);
	slurp(path, text, sizeof(text));
	assert_string_equal(text, "0"); /* cgroupfs would list our number here */
	touch(job.leaf, "cgroup.procs", own);
	assert_int_equal(mc_rdmacg_remove(&job), 0);
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/a/cgroup.subtree_control", tree);
	slurp(path, text, sizeof(text));
	assert_string_equal(text, "-rdma");
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/a/cgroup.procs", tree);
	slurp(path, text, sizeof(text));
	assert_int_equal(atoi(text), (int)getpid());
	assert_int_equal(children_of("/sys/fs/cgroup/a"), 0);
}

static void refuse(const char *sentence)
{
	struct mc_rdmacg_job job;
	struct mc_err err = {""};

	if (create("mlx5_0:hca_handle=2", &job, &err) == 0)
		fail_msg("made a cgroup, expected: %s", sentence);
	if (strstr(err.text, sentence) == NULL || strstr(err.text, "rdma-cgroup") == NULL)
		fail_msg("\"%s\" lacks \"%s\" or the id of the check", err.text, sentence);
	assert_int_equal(children_of("/sys/fs/cgroup/a"), 0);
}

static void create__refusals_leave_nothing(void **state)
{
	(void)state;
	refuse_mkdir = ".job";
	refuse("Permission denied; let a cgroup be delegated to you: systemd-run");
	refuse_mkdir = NULL;
	no_max_file = true;
	refuse("cannot write \"mlx5_0 hca_handle=2\" to");
	no_max_file = false;
	tree_put("/sys/fs/cgroup/a/cgroup.controllers", "cpu memory pids\n");
	refuse("echo +rdma > /sys/fs/cgroup/cgroup.subtree_control");
	tree_put("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
	refuse("this kernel has no rdma controller (CONFIG_CGROUP_RDMA)");
	tree_put("/proc/self/mountinfo", "30 21 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n");
	refuse("no cgroup version 2 is mounted here");
	tree_put("/proc/self/mountinfo", "30 21 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	tree_put("/proc/self/cgroup", "11:rdma:/\n0::/a\n");
	refuse("cgroup_no_v1=rdma");
	tree_rm("/proc/self/cgroup");
	refuse("cannot read /proc/self/cgroup");
}

static void create__subtree_control_is_not_there(void **state)
{
	(void)state;
	tree_rm("/sys/fs/cgroup/a/cgroup.subtree_control");
	refuse("cannot read");
	tree_put("/sys/fs/cgroup/a/cgroup.procs", "");
}

/* Of a launcher that no longer runs; not of one that does, nor anything else. */
static void sweep__stale_only(void **state)
{
	(void)state;
	struct mc_rdmacg_job job;
	struct mc_err err;
	struct stat st;
	char path[1200], name[300];

	assert_int_equal(create("mlx5_0:hca_handle=2", &job, &err), 0);
	assert_int_equal(stat("/proc/self/ns/pid", &st), 0);
	const char *end[] = {".1.99.job", ".999999999.5.job", ".999999999.5.self", ".999999999.5.other"};
	for (size_t i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "/sys/fs/cgroup/a/mcrun.%ju%s/", (uintmax_t)st.st_ino, end[i]);
		snprintf(path, sizeof(path), "%s%s", tree, name);
		assert_int_equal(__real_mkdir(path, 0755), 0);
	}
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup/a", tree);
	assert_int_equal(mc_rdmacg_sweep(path), 3);
	assert_int_equal(children_of("/sys/fs/cgroup/a"), 2); /* ours, and .other */
	assert_int_equal(mc_rdmacg_remove(&job), 0);
	assert_int_equal(mc_rdmacg_sweep("/does/not/exist"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse__lines),
		cmocka_unit_test_setup_teardown(read__own_and_ancestors, make_tree, drop_tree),
		cmocka_unit_test(limit__parse),
		cmocka_unit_test_setup_teardown(create__limit_is_written, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(create__alone_moves_into_a_leaf, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(create__refusals_leave_nothing, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(create__subtree_control_is_not_there, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(sweep__stale_only, make_tree, drop_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
