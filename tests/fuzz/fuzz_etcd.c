/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_etcd.c - what an etcd, or whoever sits in its place, may send. First byte: 0 a reply to a request, 1 lines of
 * the watch, 2 the value of a peer, 3 the value of the cluster's key, 4 a key, 5 base64. Accepted means consistent.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge_etcd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mc_bridge *b;

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void must(int ok)
{
	if (!ok)
		abort();
}

static void set_up(void)
{
	static struct mc_config config;
	char err[512];

	mc_log_set_sink(quiet, NULL);
	must(mc_config_load(&config, err, sizeof(err)) == MC_OK);
	b = calloc(1, sizeof(*b));
	must(b != NULL);
	b->config = &config;
	b->cfg = (struct mc_bridge_cfg){.config = &config, .job = "own", .role = "decode", .rank = 0, .epoch = 1};
	memcpy(b->prefix, "mc/t", 5);
	mc_etcd_peer_key(b->own_key, b->prefix, b->cfg.job, 0);
	memcpy(b->key_key, "mc/t/key", 9);
	b->endpoint[0].url = strdup("http://127.0.0.1:2379");
	b->endpoint_n = 1;
	b->event_fd = -1;
	pthread_mutex_init(&b->lock, NULL);
	mc_etcd_table_init(&b->table);
}

/* What the engine would be told must be what the contract says. */
static void drain(void)
{
	volatile uint8_t sum = 0;
	struct mc_bridge_event ev;

	while (mc_etcd_table_next(&b->table, &ev)) {
		must(ev.kind == MC_BRIDGE_UP || ev.kind == MC_BRIDGE_DOWN);
		must(strlen(ev.job) > 0 && strlen(ev.job) < MC_BRIDGE_JOB_MAX && strcmp(ev.job, "own") != 0);
		must(strlen(ev.role) < MC_ROLE_MAX && ev.rank != UINT32_MAX);
		must(ev.epoch != 0);
		if (ev.kind == MC_BRIDGE_UP) {
			must(ev.record != NULL && ev.record_len > 0 && ev.record_len <= MC_BRIDGE_RECORD_MAX);
			for (uint32_t i = 0; i < ev.record_len; i++) /* for the address sanitizer */
				sum = (uint8_t)(sum + ((const uint8_t *)ev.record)[i]);
		}
	}
	must(b->table.pending == 0 && mc_list_empty(&b->table.dirty));
}

static void empty_table(void)
{
	mc_etcd_table_free(&b->table);
	mc_etcd_table_init(&b->table);
}

static void take_kv(void *arg, const struct mc_etcd_kv *kv)
{
	(void)arg;
	must(kv->key != NULL && kv->mod_rev != 0 && kv->value_len <= MC_ETCD_VALUE_MAX);
	mc_etcd_apply(b, kv);
}

static void reply(const char *text, size_t len)
{
	struct mc_etcd_reply r;

	mc_etcd_table_list_begin(&b->table);
	if (mc_etcd_reply_parse(text, len, &r, take_kv, b)) {
		must(memchr(r.token, '\0', sizeof(r.token)) != NULL && memchr(r.error, '\0', sizeof(r.error)) != NULL);
		must(r.code >= 0 && r.code < 17);
		if (r.code != 0)
			must(mc_etcd_judge(b, &r, 400) != MC_OK && b->why[0] != '\0');
		mc_etcd_table_list_end(&b->table, r.revision);
	} else {
		must(r.revision == 0 && r.lease == 0 && r.token[0] == '\0');
	}
	drain();
}

static void lines(const char *text, size_t len)
{
	b->watch_status = MC_OK;
	b->watch_made = false;
	b->revision = 5;
	b->published_rev = 7;
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		const size_t n = end == NULL ? len : (size_t)(end - text);

		mc_etcd_watch_line(b, text, n);
		must(b->revision >= 5);
		text += n + (end != NULL);
		len -= n + (end != NULL);
	}
	drain();
}

static void value(const uint8_t *p, size_t len)
{
	struct mc_etcd_value v, again;
	char *text;

	if (mc_etcd_value_parse(p, len, &v) != NULL)
		return;
	must(v.record != NULL && v.record_len > 0 && v.record_len <= MC_BRIDGE_RECORD_MAX && v.epoch != 0);
	text = mc_etcd_value_make(v.role, v.epoch, v.record, v.record_len, NULL);
	must(text != NULL && mc_etcd_value_parse(text, strlen(text), &again) == NULL);
	must(again.epoch == v.epoch && strcmp(again.role, v.role) == 0 && again.record_len == v.record_len &&
	     memcmp(again.record, v.record, v.record_len) == 0);
	free(text);
	free(v.record);
	free(again.record);
}

static void secret(const uint8_t *p, size_t len)
{
	struct mc_etcd_secret s, again;
	char text[256];

	if (!mc_etcd_secret_parse(p, len, &s))
		return;
	mc_etcd_secret_make(&s, text);
	must(mc_etcd_secret_parse(text, strlen(text), &again) && memcmp(&s, &again, sizeof(s)) == 0);
}

static void key(const char *p, size_t len)
{
	char job[MC_BRIDGE_JOB_MAX], again[MC_ETCD_KEY_MAX];
	uint32_t rank;

	if (len < strlen(b->prefix) || memcmp(p, b->prefix, strlen(b->prefix)) != 0 ||
	    !mc_etcd_peer_key_parse(p, len, b->prefix, job, &rank))
		return;
	mc_etcd_peer_key(again, b->prefix, job, rank);
	must(strlen(again) == len && memcmp(again, p, len) == 0);
}

static void base64(const char *p, size_t len)
{
	uint8_t *out = malloc(len + 1);
	char *again = malloc(mc_b64_len(len) + 1);
	size_t n;

	must(out != NULL && again != NULL);
	if (mc_b64_decode(p, len, out, len, &n)) {
		must(n <= len);
		mc_b64_encode(out, n, again);
		must(strlen(again) == len && memcmp(again, p, len) == 0);
	}
	free(out);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text;

	if (b == NULL)
		set_up();
	if (size < 1)
		return 0;
	text = (const char *)data + 1;
	size--;
	switch (data[0] % 6) {
	case 0:
		reply(text, size);
		break;
	case 1:
		lines(text, size);
		break;
	case 2:
		value(data + 1, size);
		break;
	case 3:
		secret(data + 1, size);
		break;
	case 4:
		key(text, size);
		break;
	default:
		base64(text, size);
	}
	empty_table();
	return 0;
}
