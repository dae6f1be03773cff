/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_board.c - collectives of short blocks between ranks of one host that map each other's memory, without messages.
 *
 * Every member of a group has a board: a few slots of pool memory that the others map. In a collective a rank writes
 * what it gives into one slot of its own board, followed by the collective's number, and reads the others' slots where
 * they lie; so a collective of any kind is one store and n-1 loads per rank. Because everyone looks at everyone's slot,
 * all see what anyone disagrees about, and nobody is through before everybody is there.
 *
 * Boards are exchanged beside the first collectives of a group. A rank uses its board once every other member has said
 * that it maps it; until then, and when a slot is still being read by a slow member, it sends the same bytes as
 * messages: each pair of ranks may change over by itself, so no agreement is needed.
 *
 * Nobody watches the board of a rank that sleeps: it says so on its board (asleep), and who posts after that sends it a
 * message that wakes it.
 */
#include <stdlib.h>
#include <string.h>

#include "coll.h"

enum { SLOTS = 8, SLOT_DATA = 16424, KEY_BOARD = 0xb0a2d };

struct slot {
	_Alignas(64) _Atomic(uint64_t) posted; /* number of the collective + 1; the rest was written before it */
	uint64_t check;
	uint32_t op, root;
	uint8_t data[SLOT_DATA]; /* a short block is in the cache line of the number */
};
_Static_assert(SLOT_DATA >= (int)MC_BOARD_BYTES && sizeof(struct slot) % 64 == 0, "room for the longest block");

struct mc_board {                            /* as it lies in shared memory */
	_Alignas(64) _Atomic(uint64_t) done; /* all collectives of the group below that number are complete here */
	_Alignas(64) _Atomic(uint32_t) asleep;
	struct slot slot[SLOTS];
};

struct member { /* of a group, by peer */
	struct mc_list node;
	struct mc_peer *peer;
	uint64_t rid;
	struct mc_rmem *rmem;
	struct mc_board *map; /* its board; NULL: not mapped */
	bool reads;           /* it maps ours */
};

struct mc_boards { /* of one group */
	struct mc_list members;
	struct mc_mem *mem;
	struct mc_board *own;
	uint64_t used[SLOTS]; /* what posted says in the own slot */
	uint32_t n;
	struct member **rank; /* [n], by rank in the group; NULL before the group was used here */
	bool complete;        /* everyone maps everyone's, as far as this rank is concerned */
	bool tried;
};

/* ---- who maps what ---- */

static struct mc_boards *boards_get(struct mc_coll_group *g)
{
	if (g->boards == NULL) {
		g->boards = calloc(1, sizeof(*g->boards));
		if (g->boards != NULL)
			mc_list_init(&g->boards->members);
	}
	return g->boards;
}

static struct member *member_get(struct mc_boards *b, struct mc_peer *p, bool make)
{
	for (struct mc_list *l = b->members.next; l != &b->members; l = l->next) {
		struct member *m = mc_container_of(l, struct member, node);
		if (m->peer == p)
			return m;
	}
	struct member *m = make ? calloc(1, sizeof(*m)) : NULL;
	if (m != NULL) {
		m->peer = p;
		mc_list_add_tail(&b->members, &m->node);
	}
	return m;
}

static void see_complete(struct mc_boards *b, uint32_t self)
{
	b->complete = b->own != NULL;
	for (uint32_t i = 0; i < b->n && b->complete; i++)
		b->complete = i == self || (b->rank[i]->map != NULL && b->rank[i]->reads);
}

static uint32_t self_of(const struct mc_boards *b)
{
	uint32_t i = 0;
	while (i < b->n && b->rank[i] != NULL)
		i++;
	return i;
}

static void unmap(struct member *m)
{
	struct mc_rmem *r = m->rmem;
	m->map = NULL;
	m->rmem = NULL;
	m->reads = false;
	m->rid = 0;
	if (r == NULL)
		return;
	r->busy++;
	r->released = true;
	mc_rmem_unpin(r);
}

enum { SAY_BOARD = 0, SAY_MAPPED = 1, SAY_WAKE = 2 };

static void tell(struct mc_peer *p, uint64_t sig, uint64_t rid, uint8_t what)
{
	if (p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying) || mc_peer_start(p) != MC_OK)
		return;
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_COLL_BOARD, false);
	if (tx == NULL)
		return; /* messages carry the collectives, then */
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, sig);
	mc_wr_u64(&w, rid);
	mc_wr_u8(&w, what);
	mc_tx_send(tx, &w);
}

void mc_on_coll_board(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t sig = mc_rd_u64(r), rid = mc_rd_u64(r);
	uint8_t what = mc_rd_u8(r);
	if (r->bad || what > SAY_WAKE) {
		r->bad = true;
		return;
	}
	if (what == SAY_WAKE)
		return; /* that it came is all it means */
	struct mc_coll_group *g = mc_coll_group(p->ctx, sig, true);
	struct mc_boards *b = g != NULL ? boards_get(g) : NULL;
	struct member *m = b != NULL ? member_get(b, p, true) : NULL;
	if (m == NULL)
		return;
	if (what == SAY_MAPPED)
		m->reads = b->mem != NULL && rid == b->mem->id;
	else if (m->rid == 0 && rid != 0 && mc_region_ask(p, rid) == MC_OK)
		m->rid = rid;
	if (b->rank != NULL)
		see_complete(b, self_of(b));
}

/* The answer to our asking for a board's region. False: it was not about a board. */
bool mc_board_told(struct mc_peer *p, uint64_t rid, mc_status_t s, const void *blob, uint32_t len)
{
	struct mc_colls *cs = p->ctx->colls;
	for (struct mc_list *l = cs->groups.next; l != &cs->groups; l = l->next) {
		struct mc_coll_group *g = mc_container_of(l, struct mc_coll_group, node);
		struct member *m = g->boards != NULL ? member_get(g->boards, p, false) : NULL;
		if (m == NULL || m->rid != rid || m->rmem != NULL)
			continue;
		if (s == MC_OK)
			s = mc_rmem_import(p, blob, len, &m->rmem);
		const struct mc_be_ops *ops = p->link != NULL ? p->link->ops : NULL;
		if (s == MC_OK && ops->rmem_map != NULL && m->rmem->be_rmem != NULL && m->rmem->id == rid &&
		    m->rmem->len >= sizeof(struct mc_board))
			m->map = ops->rmem_map(p->link->be, m->rmem->be_rmem);
		if (m->map != NULL)
			tell(p, g->sig, rid, SAY_MAPPED);
		if (g->boards->rank != NULL)
			see_complete(g->boards, self_of(g->boards));
		return true;
	}
	return false;
}

void mc_boards_peer_down(struct mc_colls *cs, const struct mc_peer *p)
{
	for (struct mc_list *l = cs->groups.next; l != &cs->groups; l = l->next) {
		struct mc_coll_group *g = mc_container_of(l, struct mc_coll_group, node);
		for (struct mc_list *k = g->boards != NULL ? g->boards->members.next : NULL;
		     k != NULL && k != &g->boards->members; k = k->next) {
			struct member *m = mc_container_of(k, struct member, node);
			if (m->peer != p)
				continue;
			unmap(m);
			g->boards->complete = false;
		}
	}
}

void mc_boards_free(struct mc_coll_group *g)
{
	struct mc_list *l;
	if (g->boards == NULL)
		return;
	while ((l = mc_list_pop(&g->boards->members)) != NULL) {
		struct member *m = mc_container_of(l, struct member, node);
		unmap(m);
		free(m);
	}
	free(g->boards->rank);
	free(g->boards); /* its memory goes with the context's other regions */
	g->boards = NULL;
}

bool mc_board_wanted(struct mc_group *g)
{
	struct mc_coll_group *cg = mc_coll_group(g->ctx, g->sig, true);
	struct mc_boards *b = cg != NULL ? boards_get(cg) : NULL;
	return b != NULL && !b->tried && g->n > 1 && g->n <= MC_BOARD_RANKS &&
	       mc_coll_where(g->ctx, g->peer, g->n) == MC_COLL_SHARED;
}

static bool index_members(struct mc_boards *b, const struct mc_group *g)
{
	b->rank = calloc(g->n, sizeof(struct member *));
	b->n = b->rank != NULL ? g->n : 0;
	for (uint32_t i = 0; i < b->n; i++) {
		if (i == g->self)
			continue;
		b->rank[i] = member_get(b, g->peer[i], true);
		if (b->rank[i] == NULL) {
			free(b->rank);
			b->rank = NULL;
			b->n = 0;
		}
	}
	return b->rank != NULL;
}

/* Not under the lock. Without a board collectives go by message. */
void mc_board_make(struct mc_group *g)
{
	struct mc_mem *mem = NULL;
	mc_status_t s = mc_mem_alloc(g->ctx, sizeof(struct mc_board), NULL, &mem);
	mc_ctx_lock(g->ctx);
	struct mc_coll_group *cg = mc_coll_group(g->ctx, g->sig, true);
	struct mc_boards *b = cg != NULL ? boards_get(cg) : NULL;
	bool mine = s == MC_OK && b != NULL && !b->tried && index_members(b, g);
	if (b != NULL)
		b->tried = true;
	if (mine) {
		mem->internal = true;
		b->mem = mem;
		b->own = mc_mem_addr(mem);
		for (uint32_t i = 0; i < g->n; i++)
			if (i != g->self)
				tell(g->peer[i], g->sig, mem->id, SAY_BOARD);
	}
	mc_ctx_unlock(g->ctx);
	if (!mine && mc_mem_free(mem) != MC_OK) /* another thread was first */
		mc_error("rank %u: the memory of a second board cannot be freed", g->ctx->rank);
}

/* ---- one collective ---- */

/* What rank `to` of the group gets from rank `from`, of the bytes that `from` posts. */
static uint64_t part_of(const struct mc_coll *c, uint32_t from, uint32_t to, uint64_t *off_out)
{
	*off_out = 0;
	switch (c->op) {
	case MC_COLL_ALLGATHER:
		return c->board_len;
	case MC_COLL_GATHER:
		return to == c->root ? c->board_len : 0;
	case MC_COLL_BCAST:
		return from == c->root ? c->board_len : 0;
	case MC_COLL_SCATTER:
		*off_out = to * c->board_len;
		return from == c->root ? c->board_len : 0;
	case MC_COLL_ALLTOALL:
		*off_out = to * c->board_len;
		return c->board_len;
	default:
		return 0;
	}
}

static uint64_t posted_bytes(const struct mc_coll *c)
{
	bool root_only = c->op == MC_COLL_BCAST || c->op == MC_COLL_SCATTER;
	if (c->op == MC_COLL_BARRIER || (root_only && c->self != c->root))
		return 0;
	return c->op == MC_COLL_ALLTOALL || c->op == MC_COLL_SCATTER ? c->board_len * c->n : c->board_len;
}

static uint8_t *place_of(const struct mc_coll *c, uint32_t from)
{
	bool block_each = c->op == MC_COLL_ALLGATHER || c->op == MC_COLL_ALLTOALL || c->op == MC_COLL_GATHER;
	return c->board_dst + (block_each ? from * c->board_len : 0);
}

static void board_gone(struct mc_tx *tx, mc_status_t st)
{
	struct mc_coll *c = (struct mc_coll *)(uintptr_t)tx->arg;
	c->flying--;
	if (st != MC_OK)
		mc_coll_fail(c, MC_ERR_PEER_DOWN, tx->peer->id, true);
	mc_coll_ready(c);
}

static void send_part(struct mc_coll *c, uint32_t to)
{
	struct mc_peer *p = c->peer[to];
	uint64_t off, len = part_of(c, c->self, to, &off);
	mc_status_t st = mc_peer_start(p);
	struct mc_tx *tx = st == MC_OK ? mc_tx_get(p, MC_MSG_COLL, false) : NULL;
	if (tx == NULL) {
		mc_coll_fail(c, st != MC_OK ? st : MC_ERR_NOMEM, st != MC_OK ? p->id : c->ctx->rank, true);
		return;
	}
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_coll_encode(c, &w, MC_CT_DATA, len, 0, 0, KEY_BOARD);
	if (len > 0) {
		tx->iov[1].iov_base = c->board_src + off;
		tx->iov[1].iov_len = len;
		tx->iov_n = 2;
		tx->data_len = (uint32_t)len;
		tx->done = board_gone;
		tx->arg = (uint64_t)(uintptr_t)c;
		c->flying++;
	}
	mc_tx_send(tx, &w);
}

/* May the slot be written? Not while a member may still read what it held before. */
static bool slot_free(const struct mc_boards *b, uint32_t k, uint32_t self)
{
	for (uint32_t i = 0; i < b->n && b->used[k] != 0; i++)
		if (i != self && atomic_load_explicit(&b->rank[i]->map->done, memory_order_acquire) < b->used[k])
			return false;
	return true;
}

static bool post(struct mc_coll *c)
{
	struct mc_boards *b = c->board;
	uint32_t k = (uint32_t)(c->seq % SLOTS);
	if (b == NULL || !b->complete || !slot_free(b, k, c->self))
		return false;
	struct slot *s = &b->own->slot[k];
	uint64_t len = posted_bytes(c);
	s->check = c->check;
	s->op = c->op;
	s->root = c->root;
	if (len > 0)
		memcpy(s->data, c->board_src, len);
	b->used[k] = c->seq + 1;
	c->ctx->colls->board_posts++;
	/* Both seq_cst, as the two in mc_boards_arm(): who posts sees the sleeper, or who goes to sleep sees the post.
	 */
	atomic_store(&s->posted, c->seq + 1);
	for (uint32_t i = 0; i < b->n; i++)
		if (i != c->self && atomic_load(&b->rank[i]->map->asleep) != 0)
			tell(b->rank[i]->peer, c->sig, 0, SAY_WAKE);
	return true;
}

void mc_board_start(struct mc_coll *c, struct mc_coll_group *g)
{
	uint64_t own = 0, off;
	c->board = g->boards;
	c->waiting = (uint32_t)((UINT64_C(1) << c->n) - 1) & ~(UINT32_C(1) << c->self);
	c->left = c->n - 1;
	if (c->op == MC_COLL_ALLGATHER || c->op == MC_COLL_ALLTOALL || c->self == c->root)
		own = part_of(c, c->self, c->self, &off);
	if (own > 0 && place_of(c, c->self) != c->board_src + off)
		memcpy(place_of(c, c->self), c->board_src + off, own);
	if (c->board != NULL && c->board->own != NULL)
		atomic_store_explicit(&c->board->own->asleep, 0, memory_order_relaxed);
	if (post(c))
		return;
	for (uint32_t i = 1; i < c->n && c->failing == MC_OK; i++)
		send_part(c, (c->self + i) % c->n);
}

static void arrived(struct mc_coll *c, uint32_t from, const uint8_t *data, uint64_t len)
{
	if (len > 0)
		memcpy(place_of(c, from), data, len);
	c->waiting &= ~(UINT32_C(1) << from);
	c->mark[from] |= MC_MARK_HERE;
	c->left--;
	mc_coll_ready(c);
}

/* A message of a member whose board is not in use yet. */
void mc_board_match(struct mc_coll *c, const struct mc_coll_msg *m, uint32_t rank)
{
	uint64_t off, len = part_of(c, rank, c->self, &off);
	if (m->check != c->check || m->type != MC_CT_DATA || m->key != KEY_BOARD || m->data_len != len || m->len != len)
		mc_coll_differ(c, m);
	else if (c->waiting & UINT32_C(1) << rank)
		arrived(c, rank, m->data, len);
}

static void look(struct mc_coll *c, uint32_t rank)
{
	struct member *m = c->board->rank[rank];
	const struct slot *s = m->map != NULL ? &m->map->slot[c->seq % SLOTS] : NULL;
	if (s == NULL || atomic_load(&s->posted) != c->seq + 1)
		return;
	uint64_t off, len = part_of(c, rank, c->self, &off);
	if (s->check == c->check) {
		arrived(c, rank, s->data + off, len);
		return;
	}
	const struct mc_coll_msg said = {.from = m->peer, .op = (uint8_t)s->op, .root = s->root};
	c->mark[rank] |= MC_MARK_HERE;
	mc_coll_differ(c, &said);
}

/* What has been posted for the collectives that run here? True: something. */
static bool look_all(struct mc_colls *cs)
{
	bool news = false;
	for (struct mc_list *l = cs->running.next; l != &cs->running; l = l->next) {
		struct mc_coll *c = mc_container_of(l, struct mc_coll, node);
		uint32_t before = c->waiting;
		if (c->board == NULL || c->board->rank == NULL)
			continue;
		for (uint32_t left = c->waiting; left != 0 && c->failing == MC_OK; left &= left - 1)
			look(c, (uint32_t)__builtin_ctz(left));
		news = news || c->waiting != before || c->failing != MC_OK;
	}
	return news;
}

static void say_asleep(struct mc_colls *cs, uint32_t value)
{
	for (struct mc_list *l = cs->groups.next; l != &cs->groups; l = l->next) {
		struct mc_coll_group *g = mc_container_of(l, struct mc_coll_group, node);
		if (g->boards != NULL && g->boards->own != NULL)
			atomic_store(&g->boards->own->asleep, value);
	}
	cs->boards_asleep = value != 0;
}

void mc_boards_look(struct mc_colls *cs)
{
	if (cs->boards_asleep)
		say_asleep(cs, 0);
	(void)look_all(cs);
}

/* From here on whoever posts wakes us. False: something was posted just before. */
bool mc_boards_arm(struct mc_colls *cs)
{
	say_asleep(cs, 1);
	return !look_all(cs);
}

/* c has ended, and is in no list any more: others may use the slots that it read. */
void mc_board_end(struct mc_coll *c)
{
	struct mc_colls *cs = c->ctx->colls;
	struct mc_coll_group *g = mc_coll_group(c->ctx, c->sig, false);
	if (g == NULL || g->boards == NULL || g->boards->own == NULL)
		return;
	uint64_t done = g->started;
	for (struct mc_list *l = cs->running.next; l != &cs->running; l = l->next) {
		const struct mc_coll *k = mc_container_of(l, struct mc_coll, node);
		if (k->sig == c->sig && k->seq < done)
			done = k->seq;
	}
	atomic_store_explicit(&g->boards->own->done, done, memory_order_release);
}

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	bool has_src = a->op != MC_COLL_SCATTER || c->self == c->root;
	bool has_dst = a->op != MC_COLL_GATHER || c->self == c->root;
	c->board_len = a->len;
	c->board_src = has_src && a->src.mem != NULL ? a->src.mem->addr + a->src.off : NULL;
	c->board_dst = has_dst && a->dst.mem != NULL ? a->dst.mem->addr + a->dst.off : NULL;
}

#define BOARD(what, of)                                                                                                \
	const struct mc_algo mc_algo_##what##_board = {                                                                \
		.name = "board", .op = of, .build = build, .agrees = true, .board = true}
BOARD(barrier, MC_COLL_BARRIER);
BOARD(bcast, MC_COLL_BCAST);
BOARD(scatter, MC_COLL_SCATTER);
BOARD(gather, MC_COLL_GATHER);
BOARD(allgather, MC_COLL_ALLGATHER);
BOARD(alltoall, MC_COLL_ALLTOALL);
