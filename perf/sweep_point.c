/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "sweep.h"

enum { SAMPLES_PER_NOTE = 4000, LAT_BYTES = 64 << 20, LAT_ITERS_MIN = 20, LAT_ITERS_MAX = 5000 };

/* ---- figures ------------------------------------------------------------------------------------------------- */

static void figure_add(struct sweep_figure *f, double v)
{
	if (v > 0 && f->n < SWEEP_RUNS)
		f->v[f->n++] = v;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double sweep_best(const struct sweep_figure *f)
{
	double best = 0;

	for (uint32_t i = 0; i < f->n; i++)
		best = f->v[i] > best ? f->v[i] : best;
	return best;
}

double sweep_least(const struct sweep_figure *f)
{
	double least = sweep_best(f);

	for (uint32_t i = 0; i < f->n; i++)
		least = f->v[i] < least ? f->v[i] : least;
	return least;
}

double sweep_median(const struct sweep_figure *f)
{
	struct sweep_figure c = *f;

	if (c.n == 0)
		return 0;
	qsort(c.v, c.n, sizeof(c.v[0]), compare_double);
	return c.n % 2 == 1 ? c.v[c.n / 2] : (c.v[c.n / 2 - 1] + c.v[c.n / 2]) / 2;
}

/* ---- notes of the ranks -------------------------------------------------------------------------------------- */

static void take_result(struct sweep *s, struct perf_rd *r)
{
	struct sweep_result res = {0};
	uint64_t rss = perf_rd_u64(r), anon = perf_rd_u64(r);

#define READ_FIELD(name) res.name = perf_rd_u64(r);
	SWEEP_RESULT_MAP(READ_FIELD)
#undef READ_FIELD
	if (!perf_rd_end(r))
		return;
	s->results++;
	s->rss_kib = rss > s->rss_kib ? rss : s->rss_kib;
	s->anon_kib = anon > s->anon_kib ? anon : s->anon_kib;
	if (s->got.busy_ns > res.busy_ns)
		res.busy_ns = s->got.busy_ns;
	s->got.busy_ns = 0;
#define ADD_FIELD(name) s->got.name += res.name;
	SWEEP_RESULT_MAP(ADD_FIELD)
#undef ADD_FIELD
}

static void take_note(struct sweep *s, const struct mc_note *note)
{
	uint64_t number = perf_tag_number(note->tag);
	struct perf_rd r;

	perf_rd_init(&r, note->data, note->len);
	switch ((int)perf_tag_kind(note->tag)) {
	case PERF_K_ITERS:
		if (number < s->plan.lane_n) {
			s->its[number] = perf_rd_u64(&r);
			s->its_known[number] = true;
		}
		break;
	case PERF_K_SAMPLES:
		while (s->collect != NULL && perf_rd_left(&r) >= 16) {
			(void)perf_samples_add(&s->collect->samples, perf_rd_u64(&r));
			(void)perf_samples_add(&s->collect->post, perf_rd_u64(&r));
		}
		break;
	case PERF_K_RESULT:
		take_result(s, &r);
		break;
	default: /* of a rank that went on alone after an error */
		break;
	}
}

static bool missing_iters(const struct sweep *s)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		if (s->plan.lane[i].dst_rank == s->job.rank && !s->its_known[i])
			return true;
	}
	return false;
}

static bool missing_results(const struct sweep *s)
{
	return s->results < s->job.size - 1;
}

static bool collect(struct sweep *s, bool (*missing)(const struct sweep *s), const char *what)
{
	int64_t give_up = perf_now_ns() + SWEEP_WAIT_NS;

	while (missing(s)) {
		struct mc_note *note = perf_job_note(&s->job, 20000000);
		if (note != NULL) {
			take_note(s, note);
			mc_note_free(note);
			continue;
		}
		if (!perf_job_faults(&s->job) && perf_now_ns() < give_up)
			continue;
		perf_job_say(&s->job, "rank %u: no %s: %s", s->job.rank, what,
			     s->job.dead_n > 0 ? "a rank died" : "a rank does not answer");
		return false;
	}
	return true;
}

static uint64_t max_rss_kib(void)
{
	struct rusage ru;

	return getrusage(RUSAGE_SELF, &ru) == 0 ? (uint64_t)ru.ru_maxrss : 0;
}

static uint64_t anon_rss_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[128];

	while (f != NULL && kib == 0 && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "RssAnon: %lu", &kib) != 1)
			kib = 0;
	}
	if (f != NULL)
		fclose(f);
	return kib;
}

static bool hand_in(struct sweep *s, const struct sweep_result *res)
{
	uint8_t buf[128];
	struct perf_wr w;
	struct perf_rd r;

	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u64(&w, max_rss_kib());
	perf_wr_u64(&w, anon_rss_kib());
#define WRITE_FIELD(name) perf_wr_u64(&w, res->name);
	SWEEP_RESULT_MAP(WRITE_FIELD)
#undef WRITE_FIELD
	if (s->job.rank != 0)
		return perf_job_send(&s->job, 0, perf_tag(PERF_K_RESULT, 0), buf, perf_wr_len(&w));
	if (!collect(s, missing_results, "result"))
		return false;
	perf_rd_init(&r, buf, perf_wr_len(&w));
	take_result(s, &r);
	return true;
}

/* ---- one run ------------------------------------------------------------------------------------------------- */

static int64_t process_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static bool barrier(struct sweep *s)
{
	mc_status_t st = mc_barrier(mc_group_world(s->job.ctx), SWEEP_WAIT_NS);

	if (st == MC_OK)
		return true;
	perf_job_faults(&s->job);
	perf_job_say(&s->job, "rank %u: the ranks do not come together: %s", s->job.rank, mc_status_text(st));
	return false;
}

/* The lanes' counts, known to whoever checks; the own ones first. */
static void tell_iters(struct sweep *s)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		uint8_t buf[8];
		struct perf_wr w;
		if (s->plan.flow[s->plan.lane[i].flow].from != s->job.rank)
			continue;
		s->its[i] = s->run[i].its;
		s->its_known[i] = true;
		if (s->plan.lane[i].dst_rank == s->job.rank)
			continue;
		perf_wr_init(&w, buf, sizeof(buf));
		perf_wr_u64(&w, s->run[i].its);
		(void)perf_job_send(&s->job, s->plan.lane[i].dst_rank, perf_tag(PERF_K_ITERS, i), buf, perf_wr_len(&w));
	}
}

/* Each request notified exactly once? */
static void check_counters(struct sweep *s, struct sweep_result *res)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		uint64_t value;
		if (s->count[i] == NULL)
			continue;
		s->counted[i] += s->its[i];
		if (mc_counter_wait(s->count[i], s->counted[i], SWEEP_WAIT_NS) != MC_OK)
			perf_job_say(&s->job, "rank %u: notifications are missing", s->job.rank);
		value = mc_counter_read(s->count[i]);
		if (value == s->counted[i])
			continue;
		perf_job_say(&s->job, "rank %u, lane %u: %llu notifications, expected %llu", s->job.rank, i,
			     (unsigned long long)value, (unsigned long long)s->counted[i]);
		s->counted[i] = value;
		res->failed++;
	}
}

static void reset(struct sweep *s)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		s->run[i].its = 0;
		s->run[i].post_ns = 0;
		s->its_known[i] = false;
	}
	s->results = 0;
	s->got = (struct sweep_result){0};
}

/* Flip a byte on purpose, to see that it is found. */
static void corrupt(struct sweep *s)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		if (s->plan.lane[i].dst_rank != s->job.rank || !s->o.corrupt_one)
			continue;
		s->o.corrupt_one = false;
		sweep_area(s, s->plan.lane[i].dst_area)[sweep_block_dst(&s->run[i].t, 0, 0)] ^= 1;
	}
}

/* A run of all ranks; at the leader s->got is their sum. false: the job cannot go on. */
static bool run_once(struct sweep *s, uint64_t iters, bool verify)
{
	struct sweep_result res = {0};
	int64_t cpu;

	reset(s);
	if (verify)
		sweep_poison(s);
	if (!barrier(s))
		return false;
	cpu = process_cpu_ns();
	if (s->o.lat)
		lat_drive(s, iters, &res);
	else
		sweep_drive(s, iters, s->o.duration_ns, &res);
	tell_iters(s);
	if (!barrier(s))
		return false;
	res.cpu_ns = (uint64_t)(process_cpu_ns() - cpu);
	if (!collect(s, missing_iters, "count of requests"))
		return false;
	check_counters(s, &res);
	if (verify)
		corrupt(s);
	for (uint32_t i = 0; verify && i < s->plan.lane_n; i++) {
		if (s->plan.lane[i].dst_rank == s->job.rank)
			sweep_check(s, &s->run[i].t, i, s->its[i], &res);
	}
	return hand_in(s, &res);
}

/* ---- tables of a point --------------------------------------------------------------------------------------- */

static void drop_slices(struct sweep_lane_run *r)
{
	free(r->slice[0]);
	free(r->slice[1]);
	r->slice[0] = r->slice[1] = NULL;
}

static void drop_tables(struct sweep *s)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		struct sweep_lane_run *r = &s->run[i];
		sweep_tables_free(&r->t);
		drop_slices(r);
		for (uint32_t k = 0; r->list != NULL && k < r->list_n; k++)
			mc_dlist_free(r->list[k]);
		free(r->list);
		free(r->number);
		r->list = NULL;
		r->number = NULL;
	}
}

static bool make_slices(struct sweep *s, struct sweep_lane_run *r)
{
	const struct sweep_shape *h = &r->t.shape;
	const struct sweep_lane *l = &s->plan.lane[r->lane];
	bool get = s->o.op == SWEEP_GET;
	uint64_t src = l->src_area * s->plan.area_len, dst = l->dst_area * s->plan.area_len;
	struct mc_rmem *rmem = s->rmem[s->plan.flow[l->flow].to];

	for (uint64_t k = 0; k < 2; k++) {
		struct mc_slice *v = calloc(h->tables * h->blocks, sizeof(*v));
		if (v == NULL)
			return false;
		r->slice[k] = v;
		for (uint64_t i = 0; i < h->tables; i++) {
			for (uint64_t b = 0; b < h->blocks; b++, v++) {
				uint64_t from = src + sweep_block_src(&r->t, k * h->tables + i, b);
				uint64_t to = dst + sweep_block_dst(&r->t, i, b);
				*v = (struct mc_slice){s->mem, get ? to : from, rmem, get ? from : to,
						       sweep_block_len(h, b)};
			}
		}
	}
	return true;
}

/* One list of every entry of all requests, and the numbers of each request in it. */
static bool make_one_list(struct sweep *s, struct sweep_lane_run *r, uint32_t peer, uint64_t half)
{
	struct mc_slice *both = NULL;

	r->number = calloc(2 * half, sizeof(*r->number));
	if (2 * half <= UINT32_MAX)
		both = calloc(2 * half, sizeof(*both));
	if (r->number == NULL || both == NULL) {
		free(both);
		return false;
	}
	memcpy(both, r->slice[0], half * sizeof(*both));
	memcpy(both + half, r->slice[1], half * sizeof(*both));
	for (uint64_t i = 0; i < 2 * half; i++)
		r->number[i] = (uint32_t)i;
	r->list_n = mc_dlist_create(s->job.ctx, peer, both, (uint32_t)(2 * half), &r->list[0]) == MC_OK;
	free(both);
	return r->list_n == 1;
}

/* What was prepared needs no slices any more. */
static bool make_lists(struct sweep *s, struct sweep_lane_run *r)
{
	const struct sweep_shape *h = &r->t.shape;
	uint32_t peer = s->plan.flow[s->plan.lane[r->lane].flow].to;
	bool ok = true;

	if (s->o.how == SWEEP_EACH)
		return true;
	r->list = calloc(2 * h->tables, sizeof(struct mc_dlist *));
	r->list_n = 0;
	if (r->list == NULL)
		return false;
	if (s->o.how == SWEEP_SOME)
		ok = make_one_list(s, r, peer, h->tables * h->blocks);
	while (s->o.how == SWEEP_LIST && ok && r->list_n < 2 * h->tables) {
		const struct mc_slice *v = r->slice[r->list_n / h->tables] + r->list_n % h->tables * h->blocks;
		ok = mc_dlist_create(s->job.ctx, peer, v, (uint32_t)h->blocks, &r->list[r->list_n]) == MC_OK;
		r->list_n += ok;
	}
	drop_slices(r);
	return ok;
}

/* Tables for the lanes that this rank drives or checks. */
static bool make_tables(struct sweep *s, uint64_t size, uint64_t batch, bool bulk)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		struct sweep_lane_run *r = &s->run[i];
		struct sweep_shape h = sweep_shape_of(&s->plan, i, size, batch);
		bool mine = s->plan.flow[s->plan.lane[i].flow].from == s->job.rank;
		r->s = s;
		r->lane = i;
		if (!mine && s->plan.lane[i].dst_rank != s->job.rank && s->plan.lane[i].src_rank != s->job.rank)
			continue;
		if (bulk)
			h = sweep_shape_bulk(&s->plan, &h);
		if (!sweep_tables_make(&h, s->o.table, s->o.seed * 4096 + i, &r->t) ||
		    (mine && !(make_slices(s, r) && make_lists(s, r)))) {
			perf_job_say(&s->job, "rank %u: out of memory for block tables", s->job.rank);
			drop_tables(s);
			return false;
		}
	}
	return true;
}

/* ---- one point ----------------------------------------------------------------------------------------------- */

static uint64_t iters_of(const struct sweep *s, const struct sweep_shape *h)
{
	uint64_t n = s->o.iters;

	if (n == 0 && s->o.lat) {
		n = LAT_BYTES / h->bytes;
		n = n < LAT_ITERS_MIN ? LAT_ITERS_MIN : n > LAT_ITERS_MAX ? LAT_ITERS_MAX : n;
	}
	return n;
}

static void add_run(struct sweep *s, struct sweep_row *row)
{
	const struct sweep_result *g = &s->got;
	double secs = (double)g->busy_ns / 1e9;

	row->iters += g->reqs;
	row->total_s += secs;
	figure_add(&row->gbps, secs > 0 ? (double)g->bytes / 1e9 / secs : 0);
	figure_add(&row->cpu_us, g->blocks > 0 ? (double)g->cpu_ns / 1e3 / (double)g->blocks : 0);
#define ADD_FIELD(name) row->sum.name += g->name;
	SWEEP_RESULT_MAP(ADD_FIELD)
#undef ADD_FIELD
}

static void add_bulk(struct sweep *s, struct sweep_row *row)
{
	const struct sweep_result *g = &s->got;
	double secs = (double)g->busy_ns / 1e9;

	figure_add(&row->bulk, secs > 0 ? (double)g->bytes / 1e9 / secs : 0);
	if (g->bytes > 0)
		figure_add(&row->bulk_cpu, (double)g->cpu_ns / 1e3 / ((double)g->bytes / (double)row->shape.size));
	row->sum.wrong += g->wrong;
	row->sum.failed += g->failed;
	row->sum.checked += g->checked;
}

static void references(struct sweep *s, struct sweep_row *row)
{
	const struct sweep_shape *h = &row->shape;
	struct sweep_tables t;
	struct ref_blocks b;
	double cpu;
	bool tcp = strstr(s->link, "tcp") != NULL;

	if (s->job.rank == s->ref_peer && !ref_follow(&s->ref))
		s->failed = true;
	if (s->job.rank != 0)
		return;
	if (!sweep_tables_make(h, s->o.table, s->o.seed * 4096 + 4095, &t)) {
		s->failed = true;
		ref_done(&s->ref);
		return;
	}
	b = (struct ref_blocks){s->base, s->ref_base, h->tables * h->blocks, h->size, t.src[0],
				t.dst,   h->stride,   s->o.op == SWEEP_GET};
	if (s->o.lat) {
		figure_add(&row->ref[REF_TCP_RR], ref_tcp_rr(&s->ref, h->bytes, s->o.duration_ns, s->o.poll));
		if (s->o.op != SWEEP_GET)
			figure_add(&row->ref[REF_UCX_LAT], ref_ucx_lat(&s->ref, h->bytes, tcp));
	} else {
		figure_add(&row->ref[REF_MEMCPY], ref_memcpy(&b, s->o.duration_ns, &cpu));
		figure_add(&row->ref_cpu[REF_MEMCPY], cpu);
		figure_add(&row->ref[REF_PVM], ref_pvm(&s->ref, &b, s->o.duration_ns, &cpu));
		figure_add(&row->ref_cpu[REF_PVM], cpu);
		figure_add(&row->ref[REF_TCP], ref_tcp(&s->ref, s->o.duration_ns));
		figure_add(&row->ref_cpu[REF_TCP], s->ref.cpu_s_per_gib);
	}
	ref_done(&s->ref);
	sweep_tables_free(&t);
}

static bool send_samples(struct sweep *s, const struct sweep_lane_run *r)
{
	for (size_t at = 0; at < r->samples.n;) {
		struct perf_wr w;
		perf_wr_init(&w, s->job.buf, MC_NOTE_MAX);
		for (size_t k = 0; k < SAMPLES_PER_NOTE && at < r->samples.n; k++, at++) {
			perf_wr_u64(&w, r->samples.v[at]);
			perf_wr_u64(&w, r->post.v[at]);
		}
		if (!perf_job_send(&s->job, 0, perf_tag(PERF_K_SAMPLES, 0), s->job.buf, perf_wr_len(&w)))
			return false;
	}
	return true;
}

/* Everybody's samples to the leader, once per row: it would disturb the runs. */
static bool bring_samples(struct sweep *s, struct sweep_row *row)
{
	s->collect = row;
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		struct sweep_lane_run *r = &s->run[i];
		if (s->job.rank != 0 && !send_samples(s, r))
			return false;
		for (size_t k = 0; s->job.rank == 0 && k < r->samples.n; k++) {
			(void)perf_samples_add(&row->samples, r->samples.v[k]);
			(void)perf_samples_add(&row->post, r->post.v[k]);
		}
		perf_samples_free(&r->samples);
		perf_samples_free(&r->post);
	}
	s->results = 0;
	s->got = (struct sweep_result){0};
	return hand_in(s, &(struct sweep_result){0});
}

static bool paged_and_bulk(struct sweep *s, uint64_t size, uint64_t batch, uint64_t run, struct sweep_row *row)
{
	bool last = run + 1 == s->o.runs, bulk = s->o.bulk && row->shape.blocks > 1, ok;

	if (!make_tables(s, size, batch, false))
		return false;
	ok = run > 0 || s->o.warmup == 0 || run_once(s, s->o.warmup, false);
	for (uint32_t i = 0; i < s->plan.lane_n && run == 0; i++) {
		perf_samples_free(&s->run[i].samples);
		perf_samples_free(&s->run[i].post);
	}
	ok = ok && run_once(s, iters_of(s, &row->shape), last && s->o.verify);
	if (ok)
		add_run(s, row);
	drop_tables(s);
	if (!ok || !bulk)
		return ok;
	/* its samples do not count: put the paged ones aside by measuring without */
	if (!make_tables(s, size, batch, true))
		return false;
	s->no_samples = true;
	ok = (run > 0 || run_once(s, 1, false)) && run_once(s, iters_of(s, &row->shape), last && s->o.verify);
	s->no_samples = false;
	if (ok)
		add_bulk(s, row);
	drop_tables(s);
	return ok;
}

bool sweep_point(struct sweep *s, uint64_t size, uint64_t batch, struct sweep_row *row)
{
	*row = (struct sweep_row){.shape = sweep_shape_of(&s->plan, 0, size, batch)};
	for (uint32_t i = 0; i < s->plan.lane_n; i++)
		s->run[i].sample_every = 1;
	for (uint64_t run = 0; run < s->o.runs; run++) {
		if (!paged_and_bulk(s, size, batch, run, row))
			return false;
		if (s->ref_peer != MC_NO_RANK)
			references(s, row);
	}
	if (!barrier(s) || !bring_samples(s, row))
		return false;
	row->rss_kib = s->rss_kib;
	row->anon_kib = s->anon_kib;
	row->verified = s->o.verify && row->sum.wrong == 0 && row->sum.failed == 0 && row->sum.checked > 0;
	if (row->sum.wrong > 0 || row->sum.failed > 0)
		s->failed = true;
	return true;
}
