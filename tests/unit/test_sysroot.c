/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sysroot.c - bounded reads of a tree, what is refused in it, recording and reading the record again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>

#include "doctor_tree.h"
#include "sysroot.h"

static struct mc_sysroot *open_tree(void)
{
	struct mc_sysroot *r;
	struct mc_err err;

	if (mc_sysroot_open(tree, NULL, NULL, &r, &err) != 0)
		fail_msg("%s", err.text);
	return r;
}

static int make_tree(void **state)
{
	(void)state;
	tree_make();
	return 0;
}

static int drop_tree(void **state)
{
	(void)state;
	tree_drop();
	return 0;
}

static void read__bounds_and_errors(void **state)
{
	(void)state;
	struct mc_sysroot *r = open_tree();
	char out[8];

	tree_put("/x/seven", "1234567");
	tree_put("/x/eight", "12345678");
	tree_put("/x/blank", " 12 \n\n");
	tree_put_bytes("/x/nul", "a\0b", 3);
	assert_int_equal(mc_sysroot_read(r, "/x/seven", out, sizeof(out)), 0);
	assert_string_equal(out, "1234567");
	assert_int_equal(mc_sysroot_read(r, "/x/eight", out, sizeof(out)), EFBIG);
	assert_string_equal(out, "");
	assert_int_equal(mc_sysroot_read(r, "/x/blank", out, sizeof(out)), 0);
	assert_string_equal(out, " 12");
	assert_int_equal(mc_sysroot_read(r, "/x/nul", out, sizeof(out)), 0);
	assert_string_equal(out, "a?b");
	assert_int_equal(mc_sysroot_read(r, "/x", out, sizeof(out)), EISDIR);
	assert_int_equal(mc_sysroot_read(r, "/x/none", out, sizeof(out)), ENOENT);
	assert_int_equal(mc_sysroot_readf(r, out, sizeof(out), "/x/%s", "seven"), 0);
	mc_sysroot_close(r);
}

static void list__natural_order(void **state)
{
	(void)state;
	struct mc_sysroot *r = open_tree();
	struct mc_strv names = {0};

	tree_put("/y/mlx5_10", "");
	tree_put("/y/mlx5_2", "");
	tree_put("/y/.hidden", "");
	assert_int_equal(mc_sysroot_list(r, "/y", &names), 0);
	assert_int_equal(names.n, 2);
	assert_string_equal(names.v[0], "mlx5_2");
	mc_strv_free(&names);
	assert_int_equal(mc_sysroot_list(r, "/z", &names), ENOENT);
	assert_true(mc_natural_cmp("a", "a") == 0 && mc_natural_cmp("a1", "a") > 0 && mc_natural_cmp("a02", "a2") == 0);
	mc_sysroot_close(r);
}

static void link__stays_inside(void **state)
{
	(void)state;
	struct mc_sysroot *r = open_tree();
	char out[512], full[1024];

	assert_int_equal(mc_sysroot_link(r, IB(0) "/device", out, sizeof(out)), 0);
	assert_string_equal(out, "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0");
	assert_int_equal(mc_sysroot_link(r, "/proc/meminfo", out, sizeof(out)), EINVAL);
	snprintf(full, sizeof(full), "%s/out", tree);
	assert_int_equal(symlink("/proc/version", full), 0);
	assert_int_equal(mc_sysroot_read(r, "/out", out, sizeof(out)), ENOENT);
	assert_int_equal(mc_sysroot_read(r, "/../../../../proc/version", out, sizeof(out)), ENOENT);
	assert_false(mc_sysroot_exists(r, "/out"));
	assert_true(mc_sysroot_exists(r, "/sys/module/ib_uverbs") && mc_sysroot_exists(r, "/dev/nvidia0"));
	mc_sysroot_close(r);
}

static int probe(const char *name, const char *arg, char *out, size_t len)
{
	if (strcmp(name, "bad") == 0)
		return EPERM;
	snprintf(out, len, "%s of %s", name, arg);
	return 0;
}

/* What was read on this machine reads the same from the record, and nothing else is in it. */
static void record__reads_the_same(void **state)
{
	(void)state;
	struct mc_sysroot *r, *again;
	struct mc_err err;
	struct mc_strv names = {0}, names2 = {0};
	char dir[128], a[4096], b[4096];

	snprintf(dir, sizeof(dir), "%s-rec", tree);
	assert_int_equal(mc_sysroot_open(NULL, dir, probe, &r, &err), 0);
	assert_true(mc_sysroot_is_live(r));
	assert_int_equal(mc_sysroot_read(r, "/proc/version", a, sizeof(a)), 0);
	assert_int_equal(mc_sysroot_list(r, "/proc/sys/net/ipv4/conf", &names), 0);
	assert_int_equal(mc_sysroot_probe(r, "one", "x", b, sizeof(b)), 0);
	assert_int_equal(mc_sysroot_probe(r, "_two", "x", b, sizeof(b)), 0);
	assert_int_equal(mc_sysroot_probe(r, "bad", "x", b, sizeof(b)), EPERM);
	assert_int_equal(mc_sysroot_record_error(r), 0);
	mc_sysroot_close(r);
	assert_int_equal(mc_sysroot_open(NULL, dir, probe, &r, &err), -1);
	assert_non_null(strstr(err.text, "is not empty"));
	assert_int_equal(mc_sysroot_open(dir, NULL, probe, &again, &err), 0);
	assert_int_equal(mc_sysroot_read(again, "/proc/version", b, sizeof(b)), 0);
	assert_string_equal(a, b);
	assert_int_equal(mc_sysroot_list(again, "/proc/sys/net/ipv4/conf", &names2), 0);
	assert_int_equal(names.n, names2.n);
	assert_int_equal(mc_sysroot_probe(again, "one", "y", b, sizeof(b)), 0);
	assert_string_equal(b, "one of x");
	assert_int_equal(mc_sysroot_probe(again, "_two", "y", b, sizeof(b)), ENOENT);
	assert_int_equal(mc_sysroot_probe(again, "bad", "y", b, sizeof(b)), EPERM);
	assert_int_equal(mc_sysroot_read(again, "/proc/uptime", b, sizeof(b)), ENOENT);
	mc_sysroot_close(again);
	mc_strv_free(&names);
	mc_strv_free(&names2);
	tree_rm("-rec");
}

/* The kernel's command line and the mounts are cut down before anybody sees them. */
static void harmless__words_only(void **state)
{
	(void)state;
	struct mc_sysroot *r = open_tree();
	char out[4096];

	tree_put("/proc/cmdline", "root=/dev/sda1 token=hunter2 intel_iommu=on quiet iommu=pt password=x\n");
	assert_int_equal(mc_sysroot_read(r, "/proc/cmdline", out, sizeof(out)), 0);
	assert_string_equal(out, "intel_iommu=on iommu=pt");
	tree_put("/proc/self/mountinfo",
		 "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /home rw - nfs secret-server:/h rw\n"
		 "3 1 0:6 / /dev/shm rw - tmpfs tmpfs rw\n4 1 0:7 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	assert_int_equal(mc_sysroot_read(r, "/proc/self/mountinfo", out, sizeof(out)), 0);
	assert_null(strstr(out, "secret"));
	assert_non_null(strstr(out, "ext4"));
	assert_non_null(strstr(out, "/dev/shm"));
	assert_non_null(strstr(out, "cgroup2"));
	mc_sysroot_close(r);
}

static void clean__utf8_stays(void **state)
{
	(void)state;
	char text[] = "a\x1b[31m\xc3\xa4\xff\xc3\n\x7f\xe2\x82\xac\xc2\x85\xed\xa0\x80";

	mc_text_clean(text);
	assert_string_equal(text, "a?[31m\xc3\xa4?? ?\xe2\x82\xac?????");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(read__bounds_and_errors, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(list__natural_order, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(link__stays_inside, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(record__reads_the_same, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(harmless__words_only, make_tree, drop_tree),
		cmocka_unit_test(clean__utf8_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
