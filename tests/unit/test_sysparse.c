/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sysparse.c - texts of sysfs and procfs: what each parser takes, and what it must refuse without touching its
 * result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "sysparse.h"

static void number__u64_i64_max_hex(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", " ", "x", "-", "1x", "0x", "1 2", "18446744073709551616", "0x10000000000000000", "+1", "1.5"};
	uint64_t u = 7;
	int64_t i = 7;

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		if (mc_sys_u64(bad[k], &u) || mc_sys_i64(bad[k], &i) || mc_sys_max(bad[k], &u))
			fail_msg("accepted: \"%s\"", bad[k]);
	assert_int_equal(u, 7);
	assert_int_equal(i, 7);
	assert_true(mc_sys_u64(" 18446744073709551615\n", &u) && u == UINT64_MAX);
	assert_true(mc_sys_u64("0x1c\n", &u) && u == 28);
	assert_true(mc_sys_i64("-1\n", &i) && i == -1);
	assert_false(mc_sys_i64("-0x1", &i));
	assert_false(mc_sys_i64("9223372036854775808", &i));
	assert_true(mc_sys_max("max\n", &u) && u == UINT64_MAX);
	assert_true(mc_sys_max("unlimited", &u) && u == UINT64_MAX);
	assert_false(mc_sys_max("max max", &u));
	assert_true(mc_sys_hex("000001ffffffffff\n", &u) && u == 0x1ffffffffff);
	assert_false(mc_sys_hex("0x1g", &u));
}

static void port__state_rate_speed(void **state)
{
	(void)state;
	char name[16];
	uint32_t v = 7;

	assert_true(mc_sys_state("4: ACTIVE\n", &v, name, sizeof(name)) && v == 4);
	assert_string_equal(name, "ACTIVE");
	assert_true(mc_sys_state("5: ACTIVE_DEFER", &v, name, sizeof(name)) && v == 5);
	assert_false(mc_sys_state("4 ACTIVE", &v, name, sizeof(name)));
	assert_false(mc_sys_state("4:", &v, name, sizeof(name)));
	assert_false(mc_sys_state("4:\n", &v, name, sizeof(name)));
	assert_false(mc_sys_state("300: X", &v, name, sizeof(name)));
	assert_false(mc_sys_state("1: A_NAME_THAT_DOES_NOT_FIT", &v, name, sizeof(name)));
	assert_true(mc_sys_rate("400 Gb/sec (4X NDR)\n", &v) && v == 400000);
	assert_true(mc_sys_rate("2.5 Gb/sec (1X SDR)", &v) && v == 2500);
	assert_true(mc_sys_rate("100 Gb/sec", &v) && v == 100000);
	assert_false(mc_sys_rate("400 Gb/second", &v));
	assert_false(mc_sys_rate("400", &v));
	assert_false(mc_sys_rate("2. Gb/sec", &v));
	assert_false(mc_sys_rate("99999999999 Gb/sec", &v));
	assert_true(mc_sys_gts("16.0 GT/s PCIe\n", &v) && v == 16000);
	assert_true(mc_sys_gts("2.5 GT/s", &v) && v == 2500);
	assert_false(mc_sys_gts("Unknown", &v));
}

static void gid__text_and_kind(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum mc_gid_kind kind;
	} good[] = {{"0000:0000:0000:0000:0000:0000:0000:0000", MC_GID_ZERO},
		    {"fe80:0000:0000:0000:0000:0000:0000:0000\n", MC_GID_ZERO},
		    {"fe80:0000:0000:0000:0e42:a1ff:fe00:0001", MC_GID_LINK_LOCAL},
		    {"0000:0000:0000:0000:0000:ffff:0a00:0001", MC_GID_IPV4},
		    {"0000:0000:0000:0000:0000:ffff:0000:0000", MC_GID_ZERO},
		    {"fec0:0000:0000:0000:0e42:a1ff:fe00:0001", MC_GID_GLOBAL},
		    {"fd00:0000:0000:0000:0000:0000:0000:0002", MC_GID_GLOBAL}};
	static const char *const bad[] = {"",
					  "0",
					  "fe80::1",
					  "0000:0000:0000:0000:0000:0000:0000:000g",
					  "0000:0000:0000:0000:0000:0000:0000",
					  "0000:0000:0000:0000:0000:0000:0000:0000:0000",
					  "00000000:0000:0000:0000:0000:0000:0000"};
	uint8_t raw[16];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!mc_sys_gid(good[i].text, raw))
			fail_msg("refused: %s", good[i].text);
		assert_int_equal(mc_sys_gid_kind(raw), good[i].kind);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (mc_sys_gid(bad[i], raw))
			fail_msg("accepted: %s", bad[i]);
}

static void table__limits_and_fields(void **state)
{
	(void)state;
	static const char limits[] = "Max locked memory         8388608              unlimited            bytes     \n"
				     "Max open files            1024                 4096                 files     \n";
	static const char info[] = "MemAvailable:   24 kB\nHugePages_Free:       12\nMemAvail: 1\nBad: 1 MB\nlast 9";
	uint64_t soft = 1, hard = 2, v = 3;
	char out[8];

	assert_true(mc_sys_limit(limits, "Max locked memory", &soft, &hard));
	assert_true(soft == 8388608 && hard == UINT64_MAX);
	assert_true(mc_sys_limit(limits, "Max open files", &soft, &hard) && soft == 1024 && hard == 4096);
	assert_false(mc_sys_limit(limits, "Max open", &soft, &hard));
	assert_false(mc_sys_limit("Max open files 12", "Max open files", &soft, &hard));
	assert_false(mc_sys_limit("Max open files 12x 4", "Max open files", &soft, &hard));
	assert_true(mc_sys_field_bytes(info, "MemAvailable", &v) && v == 24 * 1024);
	assert_true(mc_sys_field_bytes(info, "HugePages_Free", &v) && v == 12);
	assert_false(mc_sys_field_bytes(info, "Bad", &v));
	assert_false(mc_sys_field_bytes(info, "Mem", &v));
	assert_false(mc_sys_field_bytes("A: 99999999999999999 kB", "A", &v));
	assert_true(mc_sys_field(info, "last", out, sizeof(out)));
	assert_string_equal(out, "9");
	assert_false(mc_sys_field("A: longer than there is room", "A", out, sizeof(out)));
}

static void cgroup__path(void **state)
{
	(void)state;
	static const char text[] = "9:name=systemd:/\n4:memory:/a b\n3:cpu,cpuacct:/c\n0::/user.slice/x..y\n";
	char out[64];

	assert_true(mc_sys_cgroup_path(text, NULL, out, sizeof(out)));
	assert_string_equal(out, "/user.slice/x..y");
	assert_true(mc_sys_cgroup_path(text, "memory", out, sizeof(out)));
	assert_string_equal(out, "/a b");
	assert_true(mc_sys_cgroup_path(text, "cpuacct", out, sizeof(out)));
	assert_string_equal(out, "/c");
	assert_false(mc_sys_cgroup_path(text, "rdma", out, sizeof(out)));
	assert_false(mc_sys_cgroup_path("0::/../..\n", NULL, out, sizeof(out)));
	assert_false(mc_sys_cgroup_path("0::relative\n", NULL, out, sizeof(out)));
	assert_false(mc_sys_cgroup_path("0::/longer/than/there/is/room\n", NULL, out, 8));
	assert_false(mc_sys_cgroup_path("10::/x\n1:memory:/y\n", NULL, out, sizeof(out)));
}

static void mountinfo__lines(void **state)
{
	(void)state;
	static const char text[] = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
				   "30 21 0:26 /in\\040side /sys/fs/cgroup rw shared:4 master:1 - cgroup2 cgroup2 rw\n"
				   "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
				   "36 31 0:33 / /cut rw - \n";
	struct mc_sys_mount m;

	assert_true(mc_sys_mount(text, "cgroup2", NULL, NULL, &m));
	assert_string_equal(m.root, "/in side");
	assert_string_equal(m.point, "/sys/fs/cgroup");
	assert_true(mc_sys_mount(text, "cgroup", NULL, "memory", &m));
	assert_false(mc_sys_mount(text, "cgroup", NULL, "mem", &m));
	assert_true(mc_sys_mount(text, NULL, "/", NULL, &m));
	assert_string_equal(m.type, "ext4");
	assert_false(mc_sys_mount(text, NULL, "/cut", NULL, &m));
	assert_false(mc_sys_mount("", NULL, NULL, NULL, &m));
}

static void list__counts_and_meets(void **state)
{
	(void)state;
	uint32_t n = 7;
	bool meets;

	assert_true(mc_sys_list_count("0-3,8,10-11\n", &n) && n == 7);
	assert_true(mc_sys_list_count("", &n) && n == 0);
	n = 7;
	assert_false(mc_sys_list_count("3-1", &n));
	assert_false(mc_sys_list_count("1,", &n));
	assert_false(mc_sys_list_count("1-", &n));
	assert_false(mc_sys_list_count("a", &n));
	assert_int_equal(n, 7);
	assert_true(mc_sys_list_meets("4-9", "0-3,8", &meets) && meets);
	assert_true(mc_sys_list_meets("4-7", "0-3,8", &meets) && !meets);
	assert_true(mc_sys_list_meets("", "0-3", &meets) && !meets);
}

static void rest__version_size_acs_bdf(void **state)
{
	(void)state;
	uint8_t cfg[512] = {0};
	uint16_t control = 7;
	uint32_t a = 0, b = 0;
	uint64_t v = 0;
	char text[32];

	assert_true(mc_sys_version("6.1.0-18-amd64", &a, &b) && a == 6 && b == 1);
	assert_false(mc_sys_version("six", &a, &b));
	assert_true(mc_sys_size("64K", &v) && v == 65536);
	assert_true(mc_sys_size("1.5GiB", &v) && v == UINT64_C(1610612736));
	assert_true(mc_sys_size("16Gi", &v) && v == UINT64_C(16) << 30);
	assert_true(mc_sys_size("100", &v) && v == 100);
	assert_false(mc_sys_size("1.5", &v));
	assert_false(mc_sys_size("99999999P", &v));
	assert_false(mc_sys_size("3999999.9P", &v));
	assert_false(mc_sys_size("-1", &v));
	assert_false(mc_sys_size("1X", &v));
	assert_false(mc_sys_acs(cfg, sizeof(cfg), &control));
	cfg[0x100] = 0x01, cfg[0x103] = 0x14; /* another capability, then at 0x140 */
	cfg[0x140] = 0x0d, cfg[0x146] = 0x1d;
	assert_true(mc_sys_acs(cfg, sizeof(cfg), &control) && control == 0x1d);
	assert_false(mc_sys_acs(cfg, 0x147, &control)); /* cut */
	cfg[0x140] = 0x02, cfg[0x143] = 0x10;           /* a ring */
	assert_false(mc_sys_acs(cfg, sizeof(cfg), &control));
	assert_true(mc_sys_is_bdf("0000:c5:00.0"));
	assert_false(mc_sys_is_bdf("0000:c5:00.0x"));
	assert_false(mc_sys_is_bdf("000:c5:00.0"));
	mc_sys_bytes_text(8 << 20, text, sizeof(text));
	assert_string_equal(text, "8 MiB");
	mc_sys_bytes_text(UINT64_MAX, text, sizeof(text));
	assert_string_equal(text, "unlimited");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(number__u64_i64_max_hex),
		cmocka_unit_test(port__state_rate_speed),
		cmocka_unit_test(gid__text_and_kind),
		cmocka_unit_test(table__limits_and_fields),
		cmocka_unit_test(cgroup__path),
		cmocka_unit_test(mountinfo__lines),
		cmocka_unit_test(list__counts_and_meets),
		cmocka_unit_test(rest__version_size_acs_bdf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
