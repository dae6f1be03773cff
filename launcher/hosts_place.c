/* SPDX-License-Identifier: BSD-3-Clause */
/* hosts_place.c - which rank goes to which host. */
#include "hosts.h"

#include <stdlib.h>
#include <string.h>

/* One "role=host" or "role=host:n" of --map. */
struct item {
	uint32_t role, host, n; /* n 0: an even share */
};

struct place {
	struct mc_hosts *h;
	const struct mc_job *job;
	struct item *item;
	size_t item_n;
	uint32_t *used; /* [h->n] ranks placed so far */
	bool *named;    /* [h->n] by the map */
	bool slots;     /* said for every host */
};

static int find_role(const struct mc_job *job, const char *name, size_t len, uint32_t *out)
{
	for (uint32_t i = 0; i < job->role_n; i++)
		if (strlen(job->role[i].name) == len && memcmp(job->role[i].name, name, len) == 0) {
			*out = i;
			return 0;
		}
	return -1;
}

static int take_item(struct place *p, const char *text, struct mc_err *err)
{
	const char *eq = strchr(text, '='), *colon;
	struct item it = {0};
	uint32_t i;

	if (eq == NULL || find_role(p->job, text, (size_t)(eq - text), &it.role) != 0)
		return mc_err_set(err, "map \"%.80s\" must be ROLE=HOST or ROLE=HOST:N with a role of this job", text);
	for (i = 0; i < p->h->n && strcmp(p->h->host[i].name, eq + 1) != 0; i++)
		;
	if (i == p->h->n && (colon = strrchr(eq + 1, ':')) != NULL && mc_text_count(colon + 1, &it.n) && it.n > 0) {
		size_t len = (size_t)(colon - eq) - 1;

		for (i = 0; i < p->h->n; i++)
			if (strlen(p->h->host[i].name) == len && memcmp(p->h->host[i].name, eq + 1, len) == 0)
				break;
	}
	if (i == p->h->n)
		return mc_err_set(err, "map \"%.80s\": \"%.80s\" is not one of the hosts of this job", text, eq + 1);
	it.host = i;
	p->named[i] = true;
	p->item = mc_xgrow(p->item, p->item_n + 1, sizeof(*p->item));
	p->item[p->item_n++] = it;
	return 0;
}

static void put(struct place *p, uint32_t *rank, uint32_t host, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		p->h->of_rank[(*rank)++] = host;
	p->used[host] += n;
}

/* A role that the map names. */
static int place_mapped(struct place *p, uint32_t role, uint32_t rank, struct mc_err *err)
{
	const struct mc_job_role *r = &p->job->role[role];
	uint32_t fixed = 0, open = 0;

	for (size_t i = 0; i < p->item_n; i++) {
		if (p->item[i].role != role)
			continue;
		open += p->item[i].n == 0;
		if (p->item[i].n > r->n - fixed)
			return mc_err_set(err, "the map places more than the %u ranks of role %s", r->n, r->name);
		fixed += p->item[i].n;
	}
	if (open == 0 && fixed < r->n)
		return mc_err_set(err, "the map places %u of the %u ranks of role %s", fixed, r->n, r->name);
	uint32_t rest = r->n - fixed, nth = 0;
	for (size_t i = 0; i < p->item_n; i++) {
		const struct item *it = &p->item[i];

		if (it->role != role)
			continue;
		put(p, &rank, it->host, it->n > 0 ? it->n : rest / open + (nth++ < rest % open));
	}
	return 0;
}

/* The roles that the map does not name, together. `left`: how many ranks these are. */
static int place_rest(struct place *p, const bool *mapped, uint32_t left, struct mc_err *err)
{
	uint32_t rank = 0, host = 0, hosts = 0, nth = 0, room;
	bool apart = false;

	for (uint32_t i = 0; i < p->h->n; i++)
		hosts += !p->named[i];
	apart = hosts > 0 && p->item_n > 0;
	if (!apart)
		hosts = p->h->n;
	room = 0;
	host = UINT32_MAX;
	for (uint32_t role = 0; role < p->job->role_n; role++) {
		if (mapped[role]) {
			rank += p->job->role[role].n;
			continue;
		}
		for (uint32_t i = 0; i < p->job->role[role].n; i++) {
			while (room == 0) {
				if (++host == p->h->n)
					return mc_err_set(err, "%u ranks asked for, but the hosts have fewer slots",
							  p->job->rank_n);
				if (apart && p->named[host])
					continue;
				if (!p->slots)
					room = left / hosts + (nth++ < left % hosts);
				else if (p->h->host[host].slots > p->used[host])
					room = p->h->host[host].slots - p->used[host];
			}
			put(p, &rank, host, 1);
			room--;
		}
	}
	return 0;
}

static int check_slots(struct place *p, struct mc_err *err)
{
	uint64_t sum = 0;
	uint32_t said = 0;

	for (uint32_t i = 0; i < p->h->n; i++) {
		said += p->h->host[i].slots > 0;
		sum += p->h->host[i].slots;
	}
	if (said > 0 && said < p->h->n)
		return mc_err_set(err, "give the number of slots for every host or for none");
	p->slots = said > 0;
	if (p->slots && sum < p->job->rank_n)
		return mc_err_set(err, "%u ranks asked for, but the %u hosts have %llu slots together", p->job->rank_n,
				  p->h->n, (unsigned long long)sum);
	return 0;
}

static int check_full(const struct place *p, struct mc_err *err)
{
	for (uint32_t i = 0; i < p->h->n && p->slots; i++)
		if (p->used[i] > p->h->host[i].slots)
			return mc_err_set(err, "the map places %u ranks on host %s, which has %u slots", p->used[i],
					  p->h->host[i].name, p->h->host[i].slots);
	return 0;
}

static int place_all(struct place *p, bool *mapped, struct mc_err *err)
{
	uint32_t rank = 0, left = 0;

	if (check_slots(p, err) != 0)
		return -1;
	for (size_t i = 0; i < p->job->map.n; i++)
		if (take_item(p, p->job->map.v[i], err) != 0)
			return -1;
	for (size_t i = 0; i < p->item_n; i++)
		mapped[p->item[i].role] = true;
	for (uint32_t role = 0; role < p->job->role_n; role++) {
		uint32_t n = p->job->role[role].n;

		if (!mapped[role])
			left += n;
		else if (place_mapped(p, role, rank, err) != 0)
			return -1;
		rank += n;
	}
	if (check_full(p, err) != 0)
		return -1;
	return left > 0 ? place_rest(p, mapped, left, err) : 0;
}

int mc_hosts_place(struct mc_hosts *h, const struct mc_job *job, struct mc_err *err)
{
	struct place p = {.h = h, .job = job};
	bool *mapped = mc_xalloc(job->role_n, sizeof(*mapped));

	p.used = mc_xalloc(h->n, sizeof(*p.used));
	p.named = mc_xalloc(h->n, sizeof(*p.named));
	free(h->of_rank);
	h->of_rank = mc_xalloc(job->rank_n, sizeof(*h->of_rank));
	h->rank_n = job->rank_n;
	int rc = place_all(&p, mapped, err);
	free(p.item);
	free(p.used);
	free(p.named);
	free(mapped);
	return rc;
}

uint32_t mc_hosts_count(const struct mc_hosts *h, uint32_t host)
{
	uint32_t n = 0;

	for (uint32_t r = 0; r < h->rank_n; r++)
		n += h->of_rank[r] == host;
	return n;
}

void mc_hosts_trim(struct mc_hosts *h)
{
	uint32_t *to = mc_xalloc(h->n, sizeof(*to)), n = 0;

	for (uint32_t r = 0; r < h->rank_n; r++)
		to[h->of_rank[r]] = 1;
	for (uint32_t i = 0; i < h->n; i++) {
		if (to[i] == 0) {
			free(h->host[i].name);
			continue;
		}
		h->host[n] = h->host[i];
		to[i] = n++;
	}
	for (uint32_t r = 0; r < h->rank_n; r++)
		h->of_rank[r] = to[h->of_rank[r]];
	h->n = n;
	free(to);
}
