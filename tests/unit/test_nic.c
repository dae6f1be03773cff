/* SPDX-License-Identifier: BSD-3-Clause */
/* test_nic.c - NICs of a rank: names in the settings, what is published, and what a peer's list may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nic.h"
#include "topo.h"

static char lines[4096];

static void keep_lines(void *arg, enum mc_log_level level, const char *line)
{
	size_t at = strlen(lines);

	(void)arg;
	(void)level;
	snprintf(lines + at, sizeof(lines) - at, "%s\n", line);
}

static struct mc_ctx *ctx_new(const char *device, const char *near)
{
	struct mc_ctx *ctx = calloc(1, sizeof(*ctx));
	char err[256];

	assert_non_null(ctx);
	lines[0] = '\0';
	assert_int_equal(mc_config_load(&ctx->cfg, err, sizeof(err)), MC_OK);
	assert_int_equal(mc_config_set(&ctx->cfg, "MC_DEVICE", device, err, sizeof(err)), MC_OK);
	assert_int_equal(mc_config_set(&ctx->cfg, "MC_NEAR", near, err, sizeof(err)), MC_OK);
	ctx->size = 1;
	return ctx;
}

static void ctx_free(struct mc_ctx *ctx)
{
	mc_nics_free(ctx);
	mc_config_free(&ctx->cfg);
	free(ctx);
}

static void choose__this_machine(void **state)
{
	struct mc_ctx *ctx = ctx_new("", "");

	(void)state;
	assert_int_equal(mc_nics_choose(ctx), MC_OK);
	assert_true(ctx->nic_chosen && !ctx->nic_named);
	for (uint32_t i = 0; i < ctx->nic_n; i++) {
		char path[128];
		bool narrow = false;
		snprintf(path, sizeof(path), "/sys/class/%s/%s", ctx->nic[i].port > 0 ? "infiniband" : "net",
			 ctx->nic[i].name);
		assert_int_equal(access(path, F_OK), 0);
		assert_string_not_equal(ctx->nic[i].name, "lo");
		assert_true(ctx->nic[i].reason[0] != '\0');
		for (uint32_t k = 0; k < ctx->nic_n; k++)
			narrow = narrow || !(ctx->nic[k].use || ctx->nic[k].apart);
		assert_int_equal(ctx->nic_narrow, narrow);
	}
	assert_int_equal(mc_nics_choose(ctx), MC_OK); /* once is enough */
	ctx_free(ctx);
}

static void choose__names(void **state)
{
	static const struct {
		const char *device, *near, *said[3];
	} bad[] = {
		{"nosuch9", "", {"MC_DEVICE", "no NIC nosuch9", " lo"}},
		{"lo,nosuch9", "", {"MC_DEVICE", "no NIC nosuch9", "known:"}},
		{"^nosuch9", "", {"MC_DEVICE", "no NIC nosuch9", "known:"}},
		{"lo,,lo", "", {"MC_DEVICE", "empty name", ""}},
		{"numa77=lo", "", {"MC_DEVICE", "no memory numa77", "numa0"}},
		{"", "numa77", {"MC_NEAR", "no memory numa77", "numa0"}},
		{"", "gpu77", {"MC_NEAR", "no memory gpu77", "numa0"}},
	};
	struct mc_ctx *ctx;

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(bad); i++) {
		ctx = ctx_new(bad[i].device, bad[i].near);
		assert_int_equal(mc_nics_choose(ctx), MC_ERR_CONFIG);
		for (size_t k = 0; k < MC_ARRAY_LEN(bad[i].said); k++)
			if (strstr(lines, bad[i].said[k]) == NULL)
				fail_msg("MC_DEVICE=%s MC_NEAR=%s: no '%s' in: %s", bad[i].device, bad[i].near,
					 bad[i].said[k], lines);
		assert_false(ctx->nic_chosen);
		ctx_free(ctx);
	}
	ctx = ctx_new("lo", "numa0");
	assert_int_equal(mc_nics_choose(ctx), MC_OK);
	assert_true(ctx->nic_named && ctx->nic_narrow);
	assert_int_equal(ctx->nic_n, 1);
	assert_string_equal(ctx->nic[0].name, "lo");
	assert_true(ctx->nic[0].use && ctx->nic[0].score[0] > 0);
	ctx_free(ctx);
}

/* A file that nobody checked is not read, whatever is in it. */
static void choose__unchecked_file(void **state)
{
	char path[] = "/tmp/test_nic.XXXXXX", mark[128], err[256];
	struct mc_ctx *ctx;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "<topology", 9), 9);
	close(fd);
	assert_int_equal(setenv("HWLOC_XMLFILE", path, 1), 0);
	ctx = ctx_new("", "");
	assert_int_equal(mc_nics_choose(ctx), MC_OK);
	assert_non_null(strstr(lines, "HWLOC_XMLFILE"));
	assert_non_null(strstr(lines, "is ignored"));
	ctx_free(ctx);
	/* With the mark it is: this one is damaged in a way that hwloc notices. */
	assert_true(mc_topo_file_mark(path, mark, sizeof(mark)));
	ctx = ctx_new("", "");
	assert_int_equal(mc_config_set(&ctx->cfg, "MC_HWLOC_CHECKED", mark, err, sizeof(err)), MC_OK);
	assert_int_not_equal(mc_nics_choose(ctx), MC_OK);
	assert_null(strstr(lines, "is ignored"));
	ctx_free(ctx);
	unsetenv("HWLOC_XMLFILE");
	unlink(path);
}

static struct mc_be_nic *nics(struct mc_ctx *ctx, uint32_t n)
{
	ctx->nic = calloc(n, sizeof(*ctx->nic));
	assert_non_null(ctx->nic);
	ctx->nic_n = n;
	for (uint32_t i = 0; i < n; i++) {
		snprintf(ctx->nic[i].name, sizeof(ctx->nic[i].name), "mlx5_%u", i);
		ctx->nic[i].port = 1;
		ctx->nic[i].rail = i;
		ctx->nic[i].link = MC_BE_LINK_INFINIBAND;
		ctx->nic[i].rate_mbps = 400000;
		ctx->nic[i].gid[15] = (uint8_t)(i + 1);
		ctx->nic[i].use = true;
	}
	return ctx->nic;
}

static void publish__there_and_back(void **state)
{
	struct mc_ctx *ctx = ctx_new("", "");
	struct mc_peer p = {.ctx = ctx};
	uint8_t buf[4096];
	char text[700];
	struct mc_wr w;
	struct mc_rd r;

	(void)state;
	nics(ctx, 20)[1].use = false; /* a spare is not published; at most 16 are */
	mc_wr_init(&w, buf, sizeof(buf));
	mc_nics_write(ctx, &w);
	assert_false(w.bad);
	mc_rd_init(&r, buf, mc_wr_len(&w));
	mc_nics_read(&p, &r);
	assert_true(mc_rd_end(&r));
	assert_int_equal(p.nic_n, 16);
	assert_string_equal(p.nic[0].name, "mlx5_0");
	assert_string_equal(p.nic[1].name, "mlx5_2");
	assert_int_equal(p.nic[1].rail, 2);
	assert_int_equal(p.nic[1].rate_mbps, 400000);
	assert_int_equal(p.nic[1].gid[15], 3);
	mc_nics_compare(&p, text, sizeof(text));
	assert_non_null(strstr(text, "16 pairs, 16 of the same rail"));
	for (uint32_t i = 0; i < p.nic_n; i++)
		p.nic[i].link = MC_BE_LINK_ETHERNET;
	p.nic[0].name[0] = '\x1b';
	mc_nics_compare(&p, text, sizeof(text));
	assert_non_null(strstr(text, "0 pairs"));
	assert_non_null(strstr(text, "there ?lx5_0:1 400 Gb/s"));
	free(p.nic);
	ctx_free(ctx);
}

static void publish__hostile_lists(void **state)
{
	struct mc_ctx *ctx = ctx_new("", "");
	uint8_t buf[4096], bad[4096];
	struct mc_wr w;
	size_t len;

	(void)state;
	nics(ctx, 2);
	mc_wr_init(&w, buf, sizeof(buf));
	mc_nics_write(ctx, &w);
	len = mc_wr_len(&w);
	for (size_t cut = 0; cut < len; cut++) { /* every prefix is refused */
		struct mc_peer p = {.ctx = ctx};
		struct mc_rd r;
		mc_rd_init(&r, buf, cut);
		mc_nics_read(&p, &r);
		assert_false(mc_rd_end(&r));
		free(p.nic);
	}
	for (int k = 0; k < 3; k++) {
		struct mc_peer p = {.ctx = ctx};
		struct mc_rd r;
		memcpy(bad, buf, len);
		if (k == 0)
			bad[0] = 17; /* more than anyone publishes */
		else if (k == 1)
			bad[3] = 0xff;
		else
			bad[4 + 2 + 6 + 4] = 3; /* no such link layer */
		mc_rd_init(&r, bad, len);
		mc_nics_read(&p, &r);
		assert_false(mc_rd_end(&r));
		free(p.nic);
	}
	ctx_free(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(choose__this_machine),   cmocka_unit_test(choose__names),
		cmocka_unit_test(choose__unchecked_file), cmocka_unit_test(publish__there_and_back),
		cmocka_unit_test(publish__hostile_lists),
	};

	mc_log_set_sink(keep_lines, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
