/* SPDX-License-Identifier: BSD-3-Clause */
#include "server_net.h"
#include "talk.h"

#include <pmix.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MODEX_LIMIT_NS (60 * MC_NS_PER_S) /* where the client names none: one that waits for ever helps nobody */

enum call_kind { CALL_FENCE, CALL_MODEX, CALL_OP, CALL_LOOKUP };

/* A call of the library that waits for its answer. */
struct call {
	enum call_kind kind;
	uint64_t id;
	int64_t deadline_ns; /* 0: none */
	union {
		pmix_modex_cbfunc_t modex;
		pmix_op_cbfunc_t op;
		pmix_lookup_cbfunc_t lookup;
	} done;
	void *arg;
	struct call *next;
};

struct fences {
	uint64_t key;
	uint32_t n;
};

struct mc_net {
	pmix_nspace_t nspace;
	const struct mc_hosts *hosts;
	uint32_t self;
	void (*post)(const struct mc_server_event *ev);
	pthread_mutex_t lock; /* what follows is used by libpmix's thread and by the agent's */
	uint64_t last_id;
	struct call *calls;
	struct fences *fences;
	size_t fences_n;
};

struct mc_net *mc_net_create(const char *nspace, const struct mc_hosts *hosts, uint32_t self,
			     void (*post)(const struct mc_server_event *ev))
{
	struct mc_net *n = mc_xalloc(1, sizeof(*n));

	PMIX_LOAD_NSPACE(n->nspace, nspace);
	n->hosts = hosts;
	n->self = self;
	n->post = post;
	(void)pthread_mutex_init(&n->lock, NULL);
	return n;
}

static uint64_t keep(struct mc_net *n, struct call c)
{
	struct call *kept = mc_xalloc(1, sizeof(*kept));

	*kept = c;
	(void)pthread_mutex_lock(&n->lock);
	kept->id = ++n->last_id;
	kept->next = n->calls;
	n->calls = kept;
	(void)pthread_mutex_unlock(&n->lock);
	return kept->id;
}

/* Take a call out of the list; NULL: answered already. */
static struct call *take(struct mc_net *n, uint64_t id, enum call_kind kind)
{
	struct call **p, *c = NULL;

	(void)pthread_mutex_lock(&n->lock);
	for (p = &n->calls; *p != NULL && ((*p)->id != id || (*p)->kind != kind); p = &(*p)->next)
		;
	if (*p != NULL) {
		c = *p;
		*p = c->next;
	}
	(void)pthread_mutex_unlock(&n->lock);
	return c;
}

static int64_t deadline_of(const pmix_info_t *info, size_t info_n, int64_t otherwise_ns)
{
	for (size_t i = 0; i < info_n; i++)
		if (PMIX_CHECK_KEY(&info[i], PMIX_TIMEOUT) && info[i].value.type == PMIX_INT &&
		    info[i].value.data.integer > 0)
			return mc_now_ns() + info[i].value.data.integer * MC_NS_PER_S;
	return otherwise_ns == 0 ? 0 : mc_now_ns() + otherwise_ns;
}

/* ---- fence ---- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t count_fence(struct mc_net *n, uint64_t key)
{
	uint32_t seq;
	size_t i = 0;

	(void)pthread_mutex_lock(&n->lock);
	while (i < n->fences_n && n->fences[i].key != key)
		i++;
	if (i == n->fences_n) {
		n->fences = mc_xgrow(n->fences, ++n->fences_n, sizeof(*n->fences));
		n->fences[i] = (struct fences){key, 0};
	}
	seq = n->fences[i].n++;
	(void)pthread_mutex_unlock(&n->lock);
	return seq;
}

/* The ranks that take part, sorted, in front of the blob; none written: all of the job. False: all of them are here. */
static bool put_ranks(const struct mc_net *n, const pmix_proc_t *procs, size_t procs_n, struct mc_enc *out)
{
	uint32_t *rank = mc_xalloc(procs_n, sizeof(*rank)), count = 0;
	bool all = false, away = false;

	for (size_t i = 0; i < procs_n; i++) {
		if (procs[i].rank == PMIX_RANK_WILDCARD)
			all = true;
		else if (procs[i].rank < n->hosts->rank_n)
			rank[count++] = procs[i].rank;
	}
	if (all)
		count = 0;
	qsort(rank, count, sizeof(*rank), by_number);
	mc_enc_u32(out, count);
	for (uint32_t i = 0; i < count; i++) {
		mc_enc_u32(out, rank[i]);
		away |= n->hosts->of_rank[rank[i]] != n->self;
	}
	free(rank);
	return away || (all && n->hosts->n > 1);
}

static uint64_t hash(const uint8_t *p, size_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
	return h;
}

bool mc_net_fence(struct mc_net *n, const pmix_proc_t *procs, size_t procs_n, const pmix_info_t *info, size_t info_n,
		  const char *data, size_t len, pmix_modex_cbfunc_t done, void *arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_FENCE};
	struct mc_enc out = {0};

	if (!put_ranks(n, procs, procs_n, &out)) {
		mc_enc_free(&out);
		return false;
	}
	ev.key = hash(out.p, out.n);
	ev.seq = count_fence(n, ev.key);
	mc_enc_bytes(&out, data, len);
	ev.data = out.p;
	ev.data_n = out.n;
	ev.id = keep(n, (struct call){
				.kind = CALL_FENCE,
				.deadline_ns = deadline_of(info, info_n, 0),
				.done.modex = done,
				.arg = arg,
			});
	n->post(&ev);
	return true;
}

/* ---- a rank's data on demand ---- */

pmix_status_t mc_net_modex(struct mc_net *n, const pmix_proc_t *proc, const pmix_info_t *info, size_t info_n,
			   pmix_modex_cbfunc_t done, void *arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_MODEX, .rank = proc->rank};

	if (proc->rank >= n->hosts->rank_n || n->hosts->of_rank[proc->rank] == n->self)
		return PMIX_ERR_NOT_FOUND;
	ev.id = keep(n, (struct call){
				.kind = CALL_MODEX,
				.deadline_ns = deadline_of(info, info_n, MODEX_LIMIT_NS),
				.done.modex = done,
				.arg = arg,
			});
	n->post(&ev);
	return PMIX_SUCCESS;
}

void mc_net_modex_done(struct mc_net *n, uint64_t id, int status, const uint8_t *data, size_t len, bool fence)
{
	struct call *c = take(n, id, fence ? CALL_FENCE : CALL_MODEX);
	char *copy = NULL;

	if (c == NULL)
		return;
	if (len > 0 && status == PMIX_SUCCESS) {
		copy = mc_xalloc(len, 1);
		memcpy(copy, data, len);
	}
	c->done.modex(status, copy, copy == NULL ? 0 : len, c->arg, free, copy);
	free(c);
}

/* What another host wants to know; travels through the library and back. */
struct ask {
	struct mc_net *n;
	uint64_t id;
};

static void on_asked(pmix_status_t status, char *data, size_t len, void *arg)
{
	struct ask *a = arg;
	struct mc_server_event ev = {.kind = MC_SERVER_MODEX_DATA, .id = a->id, .code = status};

	if (status == PMIX_SUCCESS && len > 0) {
		ev.data = mc_xalloc(len, 1);
		memcpy(ev.data, data, len);
		ev.data_n = len;
	}
	a->n->post(&ev);
	free(a);
}

void mc_net_modex_ask(struct mc_net *n, uint64_t id, uint32_t rank)
{
	struct ask *a = mc_xalloc(1, sizeof(*a));
	pmix_proc_t proc;

	*a = (struct ask){n, id};
	PMIX_LOAD_PROCID(&proc, n->nspace, rank);
	pmix_status_t rc = PMIx_server_dmodex_request(&proc, on_asked, a);
	if (rc != PMIX_SUCCESS)
		on_asked(rc, NULL, 0, a);
}

/* ---- publish and lookup ---- */

static bool pack_value(struct mc_enc *out, const pmix_value_t *value)
{
	pmix_data_buffer_t buf;
	pmix_byte_object_t bytes = {0};

	PMIX_DATA_BUFFER_CONSTRUCT(&buf);
	pmix_status_t rc = PMIx_Data_pack(NULL, &buf, (void *)(uintptr_t)value, 1, PMIX_VALUE);
	if (rc == PMIX_SUCCESS) {
		PMIX_DATA_BUFFER_UNLOAD(&buf, bytes.bytes, bytes.size);
		mc_enc_u32(out, (uint32_t)bytes.size);
		mc_enc_bytes(out, bytes.bytes, bytes.size);
		free(bytes.bytes);
	}
	PMIX_DATA_BUFFER_DESTRUCT(&buf);
	return rc == PMIX_SUCCESS;
}

static bool unpack_value(const uint8_t *p, size_t n, pmix_value_t *value)
{
	pmix_data_buffer_t buf;
	char *copy = mc_xalloc(n, 1);
	int32_t count = 1;

	memcpy(copy, p, n);
	PMIX_DATA_BUFFER_CONSTRUCT(&buf);
	PMIX_DATA_BUFFER_LOAD(&buf, copy, n);
	pmix_status_t rc = PMIx_Data_unpack(NULL, &buf, value, &count, PMIX_VALUE);
	PMIX_DATA_BUFFER_DESTRUCT(&buf);
	return rc == PMIX_SUCCESS;
}

static pmix_status_t ask_op(struct mc_net *n, struct mc_server_event *ev, struct mc_enc *out, pmix_op_cbfunc_t done,
			    void *arg)
{
	ev->data = out->p;
	ev->data_n = out->n;
	ev->id = keep(n, (struct call){.kind = CALL_OP, .done.op = done, .arg = arg});
	n->post(ev);
	return PMIX_SUCCESS;
}

pmix_status_t mc_net_publish(struct mc_net *n, const pmix_proc_t *from, const pmix_info_t *info, size_t info_n,
			     pmix_op_cbfunc_t done, void *arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_PUBLISH, .rank = from->rank};
	struct mc_enc out = {0};

	for (size_t i = 0; i < info_n; i++) {
		if (strncmp(info[i].key, "pmix.", 5) == 0) /* those are directives, not data */
			continue;
		mc_enc_str(&out, info[i].key);
		if (!pack_value(&out, &info[i].value)) {
			mc_enc_free(&out);
			return PMIX_ERR_PACK_FAILURE;
		}
	}
	return ask_op(n, &ev, &out, done, arg);
}

static void put_keys(struct mc_enc *out, char **keys)
{
	for (; keys != NULL && *keys != NULL; keys++)
		mc_enc_str(out, *keys);
}

pmix_status_t mc_net_unpublish(struct mc_net *n, const pmix_proc_t *from, char **keys, pmix_op_cbfunc_t done, void *arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_UNPUBLISH, .rank = from->rank};
	struct mc_enc out = {0};

	put_keys(&out, keys);
	return ask_op(n, &ev, &out, done, arg);
}

pmix_status_t mc_net_lookup(struct mc_net *n, char **keys, pmix_lookup_cbfunc_t done, void *arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_LOOKUP};
	struct mc_enc out = {0};

	if (keys == NULL || *keys == NULL)
		return PMIX_ERR_BAD_PARAM;
	put_keys(&out, keys);
	ev.data = out.p;
	ev.data_n = out.n;
	ev.id = keep(n, (struct call){.kind = CALL_LOOKUP, .done.lookup = done, .arg = arg});
	n->post(&ev);
	return PMIX_SUCCESS;
}

void mc_net_op_done(struct mc_net *n, uint64_t id, int status)
{
	struct call *c = take(n, id, CALL_OP);

	if (c == NULL)
		return;
	if (c->done.op != NULL)
		c->done.op(status, c->arg);
	free(c);
}

void mc_net_found(struct mc_net *n, uint64_t id, int status, const uint8_t *data, size_t len)
{
	struct call *c = take(n, id, CALL_LOOKUP);
	struct mc_dec t = {data, data + len, false};
	uint32_t count = mc_dec_count(&t, 12), got = 0;
	pmix_pdata_t *found = NULL;

	if (c == NULL)
		return;
	if (count > 0)
		PMIX_PDATA_CREATE(found, count);
	for (uint32_t i = 0; i < count && found != NULL && !t.bad; i++) {
		char *key = mc_dec_str(&t);
		uint32_t rank = mc_dec_u32(&t), n_value = mc_dec_u32(&t);
		const uint8_t *value = mc_dec_bytes(&t, n_value);

		if (key != NULL && value != NULL && unpack_value(value, n_value, &found[got].value)) {
			PMIX_LOAD_PROCID(&found[got].proc, n->nspace, rank);
			PMIX_LOAD_KEY(found[got].key, key);
			got++;
		}
		free(key);
	}
	if (got == 0 && (status == PMIX_SUCCESS || status == PMIX_ERR_PARTIAL_SUCCESS))
		status = PMIX_ERR_NOT_FOUND;
	c->done.lookup(status, got > 0 ? found : NULL, got, c->arg);
	if (found != NULL)
		PMIX_PDATA_FREE(found, count);
	free(c);
}

void mc_net_expire(struct mc_net *n, int64_t now_ns)
{
	for (;;) {
		struct call *c;

		(void)pthread_mutex_lock(&n->lock);
		for (c = n->calls; c != NULL && (c->deadline_ns == 0 || c->deadline_ns > now_ns); c = c->next)
			;
		uint64_t id = c == NULL ? 0 : c->id;
		bool fence = c != NULL && c->kind == CALL_FENCE;
		(void)pthread_mutex_unlock(&n->lock);
		if (id == 0)
			return;
		mc_net_modex_done(n, id, PMIX_ERR_TIMEOUT, NULL, 0, fence);
	}
}
