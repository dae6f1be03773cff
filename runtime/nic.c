/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nic.c - which NICs this rank uses: asks topo.h, hands the backends a plain list, publishes it in the rank's record.
 *
 * For host memory the kernel's NUMA numbers say all that matters, and cost a few files. hwloc, which reads many, is
 * loaded only for memory on PCI (MC_NEAR=cuda0), or where HWLOC_XMLFILE replaces the machine.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nic.h"
#include "topo.h"

enum { CPU_WORDS = 1024, ERR_ROOM = 2048, PUBLISHED_MAX = 16 };

/* ---- where this rank is ------------------------------------------------------------------------------------------ */

/* Index of the node that has all CPUs which this process may use; MC_TOPO_NONE: not bound to one. */
static uint32_t home_of(const struct mc_topo *t)
{
	uint64_t cpu[CPU_WORDS] = {0};

	if (sched_getaffinity(0, sizeof(cpu), (cpu_set_t *)(void *)cpu) != 0)
		return MC_TOPO_NONE;
	return mc_topo_home(t, cpu, CPU_WORDS * 64);
}

int32_t mc_nic_home(void)
{
	struct mc_topo_src src = {.kernel_only = true, .root = ""};
	struct mc_topo *t;
	char err[ERR_ROOM];
	uint32_t home;
	int32_t node;

	if (mc_topo_load(&src, &t, err, sizeof(err)) != MC_OK)
		return -1;
	home = home_of(t);
	node = home != MC_TOPO_NONE ? (int32_t)t->node[home].os_index : -1;
	mc_topo_free(t);
	return node;
}

/* ---- the machine ------------------------------------------------------------------------------------------------- */

/*
 * hwloc believes its XML, and a damaged file takes the process with it. A rank must not fork to try it first (threads,
 * GPUs), so it reads only what mcrun has tried: MC_HWLOC_CHECKED is the mark of that very file.
 */
static const char *checked_xml(const struct mc_ctx *ctx)
{
	const char *file = mc_config_hwloc_file();
	char mark[128];

	if (file == NULL)
		return NULL;
	if (mc_topo_file_mark(file, mark, sizeof(mark)) && strcmp(mark, ctx->cfg.hwloc_checked) == 0)
		return file;
	mc_warn("rank %u: HWLOC_XMLFILE=%s is ignored: a rank reads only a file that mcrun has checked", ctx->rank,
		file);
	return NULL;
}

/* Memory that only hwloc can place: a GPU, by any of its names. */
static bool on_pci(const char *near)
{
	return near[0] != '\0' && strncmp(near, "numa", 4) != 0 && strncmp(near, "any", 3) != 0;
}

/* Does a map in MC_DEVICE, "^mlx5_3,cuda0=mlx5_1,numa0=mlx5_2", name such memory? */
static bool maps(const char *device, bool (*such)(const char *memory))
{
	for (const char *at = device, *end; *at != '\0'; at = end + (*end == ',')) {
		end = at + strcspn(at, ",");
		while (*at == ' ')
			at++;
		if (memchr(at, '=', (size_t)(end - at)) != NULL && such(at))
			return true;
	}
	return false;
}

/* GPUs by CUDA's or ROCm's own names: asking for these starts their drivers, which the rank that uses the GPU does
 * anyway. */
static bool names_gpu(const char *near)
{
	return strncmp(near, "cuda", 4) == 0 || strncmp(near, "rsmi", 4) == 0 || strncmp(near, "nvml", 4) == 0;
}

static mc_status_t machine_load(struct mc_ctx *ctx, struct mc_topo **topo_out)
{
	const char *near = ctx->cfg.near, *device = ctx->cfg.device;
	struct mc_topo_src src = {.root = "/", .kernel_only = true, .present_only = true, .loopback = true};
	char err[ERR_ROOM];
	mc_status_t s;

	src.addressed = device[0] == '\0'; /* else names are checked against all of them */
	src.xml_file = checked_xml(ctx);
	if (src.xml_file != NULL) {
		src.kernel_only = false;
	} else if ((on_pci(near) || maps(device, on_pci)) && mc_config_hwloc_file() == NULL) {
		src.kernel_only = false;
		src.gpu_names = names_gpu(near) || maps(device, names_gpu);
	}
	s = mc_topo_load(&src, topo_out, err, sizeof(err));
	if (s != MC_OK)
		mc_error("rank %u: cannot read this machine's NICs: %s", ctx->rank, err);
	return s;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

struct chooser {
	struct mc_ctx *ctx;
	const struct mc_topo *t;
	struct mc_topo_policy policy;
	struct mc_topo_want want;
};

static int32_t node_of(const struct mc_topo *t, const struct mc_topo_loc *loc)
{
	int32_t node = -1;

	for (uint32_t i = 0; loc->known && i < t->node_n; i++) {
		if (!mc_topo_nodeset_has(&loc->nodes, i))
			continue;
		if (node >= 0)
			return -1;
		node = (int32_t)t->node[i].os_index;
	}
	return node;
}

static void nic_fill(const struct mc_topo *t, const struct mc_topo_pick *p, struct mc_be_nic *out)
{
	const struct mc_topo_nic *nic = &t->nic[p->nic];
	struct mc_topo_nic_id id;

	mc_topo_nic_id_fill(nic, &id);
	snprintf(out->name, sizeof(out->name), "%s", nic->name);
	snprintf(out->netdev, sizeof(out->netdev), "%s", nic->netdev);
	snprintf(out->reason, sizeof(out->reason), "%s", p->reason);
	out->port = nic->port;
	out->link = (uint32_t)nic->link; /* the same numbers */
	out->rate_mbps = nic->rate_mbps;
	out->rail = nic->rail;
	out->numa = node_of(t, &nic->loc);
	out->use = p->use;
	out->apart = p->apart;
	memcpy(out->gid, id.gid, sizeof(out->gid));
	out->gid_index = id.gid_index;
}

/* How near each of them is to each node: for a backend that chooses by buffer. */
static mc_status_t score_nodes(struct chooser *c, const struct mc_topo_choice *mine, struct mc_be_nic *list)
{
	struct mc_topo_want w = c->want;

	w.buf.kind = MC_TOPO_BUF_NODE;
	for (w.buf.index = 0; w.buf.index < c->t->node_n; w.buf.index++) {
		struct mc_topo_choice choice;
		uint32_t number = c->t->node[w.buf.index].os_index;
		if (number >= MC_BE_NODE_MAX)
			continue;
		if (mc_topo_choose(c->t, &w, &choice) != MC_OK)
			return MC_ERR_NOMEM;
		for (uint32_t i = 0; i < choice.n; i++) {
			for (uint32_t k = 0, at = 0; k < mine->n && at < MC_BE_NIC_MAX; k++) {
				if (mine->pick[k].dead)
					continue;
				if (mine->pick[k].nic == choice.pick[i].nic)
					list[at].score[number] = (uint8_t)choice.pick[i].score;
				at++;
			}
		}
		mc_topo_choice_free(&choice);
	}
	return MC_OK;
}

/* Add the live ones of a kind to the context's list, best first. */
static mc_status_t list_add(struct chooser *c, enum mc_topo_kind kind)
{
	struct mc_ctx *ctx = c->ctx;
	struct mc_topo_choice choice;
	struct mc_be_nic *list;
	uint32_t live = 0;
	mc_status_t s;

	c->want.kind = kind;
	s = mc_topo_choose_rank(c->t, &c->want, &choice);
	if (s != MC_OK)
		return s;
	for (uint32_t i = 0; i < choice.n; i++)
		live += !choice.pick[i].dead;
	if (choice.note[0] != '\0' && (live > 0 || ctx->cfg.device[0] != '\0'))
		mc_info("rank %u: %s", ctx->rank, choice.note);
	if (live > MC_BE_NIC_MAX - ctx->nic_n)
		live = MC_BE_NIC_MAX - ctx->nic_n;
	if (live == 0)
		goto undo_choice;
	s = MC_ERR_NOMEM;
	list = realloc(ctx->nic, (ctx->nic_n + live) * sizeof(*list));
	if (list == NULL)
		goto undo_choice;
	ctx->nic = list;
	list += ctx->nic_n;
	memset(list, 0, live * sizeof(*list));
	for (uint32_t i = 0, at = 0; i < choice.n && at < live; i++) {
		if (!choice.pick[i].dead)
			nic_fill(c->t, &choice.pick[i], &list[at++]);
	}
	s = score_nodes(c, &choice, list);
	ctx->nic_n += live;
undo_choice:
	mc_topo_choice_free(&choice);
	return s;
}

static void say_choice(const struct chooser *c)
{
	const struct mc_ctx *ctx = c->ctx;
	char memory[MC_TOPO_NAME_MAX];

	mc_topo_buf_name(c->t, &c->want.buf, memory, sizeof(memory));
	for (uint32_t i = 0; i < ctx->nic_n; i++) {
		char name[MC_TOPO_NAME_MAX + 16];
		const struct mc_be_nic *n = &ctx->nic[i];
		snprintf(name, sizeof(name), n->port > 0 ? "%s:%u" : "%s", n->name, n->port);
		if (n->use)
			mc_info("rank %u: NIC %s for memory on %s: %s", ctx->rank, name, memory, n->reason);
		else
			mc_debug("rank %u: NIC %s is spare: %s", ctx->rank, name, n->reason);
	}
}

/*
 * Which part of the equally near is ours: mcrun says so exactly (K/N); else as if ranks were dealt out over the nodes
 * in turn, or in blocks if this one is not where that would put it.
 */
static void share_fill(struct chooser *c)
{
	const struct mc_boot_info *b = &c->ctx->boot_info;
	struct mc_topo_want *w = &c->want;
	char *end;
	unsigned long k = strtoul(c->ctx->cfg.numa_rank, &end, 10);

	w->local_rank = b->local_size > 0 ? b->local_rank : c->ctx->rank;
	w->sharers = mc_topo_sharers(c->t, &w->buf, b->local_size);
	if (w->buf.kind != MC_TOPO_BUF_NODE || c->t->node_n < 2)
		return;
	if (*end == '/' && end != c->ctx->cfg.numa_rank) {
		unsigned long n = strtoul(end + 1, &end, 10);
		if (*end == '\0' && n > 0 && n <= UINT32_MAX && k < n) {
			w->local_rank = (uint32_t)k;
			w->sharers = (uint32_t)n;
		}
		return;
	}
	if (w->local_rank % c->t->node_n == w->buf.index)
		w->local_rank /= c->t->node_n;
	else if (w->sharers > 0)
		w->local_rank %= w->sharers;
}

/* Whose NICs: memory that the user names, else the node where this rank is bound, else anywhere. */
static mc_status_t want_fill(struct chooser *c)
{
	struct mc_ctx *ctx = c->ctx;
	struct mc_topo_want *w = &c->want;
	uint32_t home = home_of(c->t);
	char err[ERR_ROOM];

	if (ctx->cfg.near[0] != '\0') {
		if (mc_topo_buf_find(c->t, ctx->cfg.near, &w->buf, err, sizeof(err)) != MC_OK) {
			mc_error("rank %u: MC_NEAR: %s", ctx->rank, err);
			return MC_ERR_CONFIG;
		}
	} else if (c->t->node_n == 1 || home != MC_TOPO_NONE) {
		w->buf.kind = MC_TOPO_BUF_NODE;
		w->buf.index = home != MC_TOPO_NONE ? home : 0;
	}
	w->policy = &c->policy;
	share_fill(c);
	return MC_OK;
}

mc_status_t mc_nics_choose(struct mc_ctx *ctx)
{
	struct chooser c = {.ctx = ctx};
	struct mc_topo *t;
	char err[ERR_ROOM];
	mc_status_t s;

	if (ctx->nic_chosen)
		return MC_OK;
	s = machine_load(ctx, &t);
	if (s != MC_OK)
		return s;
	c.t = t;
	if (mc_topo_policy_parse(t, ctx->cfg.device, &c.policy, err, sizeof(err)) != MC_OK) {
		mc_error("rank %u: MC_DEVICE: %s", ctx->rank, err);
		s = MC_ERR_CONFIG;
		goto undo_topo;
	}
	s = want_fill(&c);
	if (s == MC_OK)
		s = list_add(&c, MC_TOPO_OPENFABRICS);
	if (s == MC_OK)
		s = list_add(&c, MC_TOPO_NETWORK);
	if (s != MC_OK)
		goto undo_policy;
	ctx->nic_chosen = true;
	ctx->nic_named = c.policy.include != NULL;
	ctx->nic_narrow = ctx->cfg.device[0] != '\0';
	for (uint32_t i = 0; i < ctx->nic_n; i++)
		ctx->nic_narrow = ctx->nic_narrow || !(ctx->nic[i].use || ctx->nic[i].apart);
	say_choice(&c);
undo_policy:
	mc_topo_policy_free(&c.policy);
undo_topo:
	mc_topo_free(t);
	return s;
}

void mc_nics_free(struct mc_ctx *ctx)
{
	free(ctx->nic);
	ctx->nic = NULL;
	ctx->nic_n = 0;
}

/* ---- the published ones ------------------------------------------------------------------------------------------ */

void mc_nics_write(const struct mc_ctx *ctx, struct mc_wr *w)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ctx->nic_n; i++)
		n += ctx->nic[i].use;
	n = n < PUBLISHED_MAX ? n : PUBLISHED_MAX;
	mc_wr_u32(w, n);
	for (uint32_t i = 0; i < ctx->nic_n && n > 0; i++) {
		const struct mc_be_nic *nic = &ctx->nic[i];
		if (!nic->use)
			continue;
		mc_wr_str(w, nic->name);
		mc_wr_u32(w, nic->port);
		mc_wr_u8(w, (uint8_t)nic->link);
		mc_wr_u32(w, nic->rate_mbps);
		mc_wr_u32(w, nic->rail);
		mc_wr_bytes(w, nic->gid, sizeof(nic->gid));
		n--;
	}
}

void mc_nics_read(struct mc_peer *p, struct mc_rd *r)
{
	uint32_t n = mc_rd_u32(r);
	struct mc_topo_nic_id *list;

	if (r->bad || n > PUBLISHED_MAX) {
		r->bad = true;
		return;
	}
	list = n > 0 ? calloc(n, sizeof(*list)) : NULL;
	if (n > 0 && list == NULL) {
		r->bad = true;
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		mc_rd_str(r, list[i].name, sizeof(list[i].name));
		list[i].port = mc_rd_u32(r);
		list[i].link = mc_rd_u8(r);
		list[i].rate_mbps = mc_rd_u32(r);
		list[i].rail = mc_rd_u32(r);
		mc_rd_copy(r, list[i].gid, sizeof(list[i].gid));
		if (list[i].link > MC_BE_LINK_ETHERNET)
			r->bad = true;
	}
	free(p->nic);
	p->nic = list;
	p->nic_n = n;
}

static void nic_append(char *out, size_t room, const struct mc_topo_nic_id *id)
{
	size_t at = strlen(out);

	snprintf(out + at, room - at, id->port > 0 ? "%s%s:%u" : "%s%s", at > 0 ? ", " : "", id->name, id->port);
	at = strlen(out);
	if (id->rate_mbps > 0)
		snprintf(out + at, room - at, " %g Gb/s", id->rate_mbps / 1000.0);
}

/* Printable whatever the peer wrote. */
static void nics_text(const struct mc_topo_nic_id *id, uint32_t n, char *out, size_t room)
{
	out[0] = '\0';
	for (uint32_t i = 0; i < n; i++)
		nic_append(out, room, &id[i]);
	for (char *c = out; *c != '\0'; c++)
		*c = *c < ' ' || *c > '~' ? '?' : *c;
	if (n == 0)
		snprintf(out, room, "none");
}

void mc_nics_compare(const struct mc_peer *p, char *out, size_t room)
{
	const struct mc_ctx *ctx = p->ctx;
	struct mc_topo_nic_id mine[PUBLISHED_MAX];
	struct mc_topo_pair pair[PUBLISHED_MAX];
	char here[300], there[300];
	uint32_t n = 0, pairs, rails = 0;

	memset(mine, 0, sizeof(mine));
	for (uint32_t i = 0; i < ctx->nic_n && n < PUBLISHED_MAX; i++) {
		const struct mc_be_nic *nic = &ctx->nic[i];
		if (!nic->use)
			continue;
		memcpy(mine[n].name, nic->name, sizeof(mine[n].name));
		mine[n].port = nic->port;
		mine[n].link = nic->link;
		mine[n].rate_mbps = nic->rate_mbps;
		mine[n++].rail = nic->rail;
	}
	pairs = mc_topo_pair(mine, n, p->nic, p->nic_n, pair, PUBLISHED_MAX);
	for (uint32_t i = 0; i < pairs; i++)
		rails += pair[i].same_rail;
	nics_text(mine, n, here, sizeof(here));
	nics_text(p->nic, p->nic_n, there, sizeof(there));
	snprintf(out, room, "NICs here %s, there %s, %u pairs, %u of the same rail", here, there, pairs, rails);
}
