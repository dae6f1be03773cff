/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_policy.c - memories and NICs by the names that users write: overrides of the choice. */
#include <stdlib.h>
#include <string.h>

#include "topo_impl.h"

/* ---- memories -----------------------------------------------------------------------------------------------------
 */

uint32_t mc_topo_memory_n(const struct mc_topo *t)
{
	return t->node_n + t->gpu_n;
}

struct mc_topo_buf mc_topo_memory(const struct mc_topo *t, uint32_t i)
{
	struct mc_topo_buf b = {.kind = MC_TOPO_BUF_ANYWHERE};

	if (i < t->node_n) {
		b.kind = MC_TOPO_BUF_NODE;
		b.index = i;
	} else if (i - t->node_n < t->gpu_n) {
		b.kind = MC_TOPO_BUF_PCI;
		b.index = t->gpu[i - t->node_n].pci;
	}
	return b;
}

void mc_topo_buf_name(const struct mc_topo *t, const struct mc_topo_buf *b, char *out, size_t len)
{
	if (b->kind == MC_TOPO_BUF_NODE && b->index < t->node_n) {
		snprintf(out, len, "numa%u", t->node[b->index].os_index);
		return;
	}
	if (b->kind != MC_TOPO_BUF_PCI || b->index >= t->pci_n) {
		mc_topo_copy(out, len, "any");
		return;
	}
	for (uint32_t i = 0; i < t->gpu_n; i++) {
		if (t->gpu[i].pci == b->index) {
			mc_topo_copy(out, len, t->gpu[i].name);
			return;
		}
	}
	mc_topo_copy(out, len, t->pci[b->index].busid);
}

static bool find_node(const struct mc_topo *t, const char *name, struct mc_topo_buf *out)
{
	uint64_t number;

	if (strncmp(name, "numa", 4) != 0 || !mc_topo_parse_u64(name + 4, strlen(name + 4), &number))
		return false;
	for (uint32_t i = 0; i < t->node_n; i++) {
		if (t->node[i].os_index == number) {
			out->kind = MC_TOPO_BUF_NODE;
			out->index = i;
			return true;
		}
	}
	return false;
}

static bool find_gpu(const struct mc_topo *t, const char *name, struct mc_topo_buf *out)
{
	char busid[24];
	uint32_t pci = MC_TOPO_NONE;

	if (mc_topo_parse_busid(name, strlen(name), busid))
		pci = mc_topo_pci_find(t, busid);
	for (uint32_t i = 0; i < t->gpu_n && pci == MC_TOPO_NONE; i++) {
		for (uint32_t k = 0; k < t->gpu[i].osdev_n && pci == MC_TOPO_NONE; k++) {
			if (strcmp(t->gpu[i].osdev[k], name) == 0)
				pci = t->gpu[i].pci;
		}
	}
	if (pci == MC_TOPO_NONE)
		return false;
	out->kind = MC_TOPO_BUF_PCI;
	out->index = pci;
	return true;
}

mc_status_t mc_topo_buf_find(const struct mc_topo *t, const char *name, struct mc_topo_buf *out, char *err,
			     size_t err_len)
{
	struct mc_topo_buf b = {.kind = MC_TOPO_BUF_ANYWHERE};
	size_t at = 0;

	if (strcmp(name, "any") == 0 || find_node(t, name, &b) || find_gpu(t, name, &b)) {
		*out = b;
		return MC_OK;
	}
	mc_topo_append(err, err_len, &at, "there is no memory %s; known:", name);
	for (uint32_t i = 0; i < mc_topo_memory_n(t); i++) {
		char known[MC_TOPO_NAME_MAX];
		struct mc_topo_buf m = mc_topo_memory(t, i);
		mc_topo_buf_name(t, &m, known, sizeof(known));
		mc_topo_append(err, err_len, &at, " %s", known);
	}
	mc_topo_append(err, err_len, &at, " any, and PCI ids such as 0000:17:00.0");
	return MC_ERR_NOENT;
}

/* ---- overrides -----------------------------------------------------------------------------------------------------
 */

struct parser {
	const struct mc_topo *t;
	struct mc_topo_policy p;
	bool excluding; /* a ^ was seen: plain names from here on are excluded */
	char *err;
	size_t err_len;
};

static mc_status_t unknown_nic(struct parser *ps, const char *name)
{
	size_t at = 0;

	mc_topo_append(ps->err, ps->err_len, &at, "there is no NIC %s; known:", name);
	for (uint32_t i = 0; i < ps->t->nic_n; i++) {
		char known[MC_TOPO_NAME_MAX + 8];
		mc_topo_nic_text(&ps->t->nic[i], known, sizeof(known));
		mc_topo_append(ps->err, ps->err_len, &at, " %s", known);
	}
	if (ps->t->nic_n == 0)
		mc_topo_append(ps->err, ps->err_len, &at, " none");
	return MC_ERR_CONFIG;
}

/* "mlx5_0" or "mlx5_0:1". An interface may have a colon in its name (eth0:1), so the whole name is tried first. */
static bool nic_matches(const struct mc_topo_nic *n, const char *name)
{
	const char *colon = strrchr(name, ':');
	uint64_t port;

	if (strcmp(n->name, name) == 0)
		return true;
	return colon != NULL && n->kind == MC_TOPO_OPENFABRICS && strlen(n->name) == (size_t)(colon - name) &&
	       strncmp(n->name, name, (size_t)(colon - name)) == 0 &&
	       mc_topo_parse_u64(colon + 1, strlen(colon + 1), &port) && port == n->port;
}

static mc_status_t mark(struct parser *ps, bool **set, const char *name)
{
	bool found = false;

	for (uint32_t i = 0; i < ps->t->nic_n; i++) {
		if (!nic_matches(&ps->t->nic[i], name))
			continue;
		if (*set == NULL)
			*set = calloc(ps->t->nic_n, sizeof(**set));
		if (*set == NULL)
			return mc_topo_fail(MC_ERR_NOMEM, ps->err, ps->err_len, "no memory");
		(*set)[i] = true;
		found = true;
	}
	return found ? MC_OK : unknown_nic(ps, name);
}

static mc_status_t map_one(struct parser *ps, const struct mc_topo_buf *buf, const char *name)
{
	bool found = false;

	for (uint32_t i = 0; i < ps->t->nic_n; i++) {
		struct mc_topo_map *m;
		if (!nic_matches(&ps->t->nic[i], name))
			continue;
		m = mc_topo_push(&ps->p.map, &ps->p.map_n, sizeof(*m));
		if (m == NULL)
			return mc_topo_fail(MC_ERR_NOMEM, ps->err, ps->err_len, "no memory");
		m->buf = *buf;
		m->nic = i;
		found = true;
	}
	return found ? MC_OK : unknown_nic(ps, name);
}

/* "cuda0=mlx5_2+mlx5_3:1"; the text is cut up. */
static mc_status_t map_item(struct parser *ps, char *item, char *equals)
{
	struct mc_topo_buf buf;
	char *name, *rest = equals + 1;
	mc_status_t s;

	*equals = '\0';
	s = mc_topo_buf_find(ps->t, item, &buf, ps->err, ps->err_len);
	if (s != MC_OK)
		return MC_ERR_CONFIG;
	while (s == MC_OK && (name = strsep(&rest, "+")) != NULL) {
		if (name[0] == '\0')
			return mc_topo_fail(MC_ERR_CONFIG, ps->err, ps->err_len, "%s= wants NIC[:PORT][+NIC...]", item);
		s = map_one(ps, &buf, name);
	}
	return s;
}

static mc_status_t take_item(struct parser *ps, char *item)
{
	char *equals = strchr(item, '=');

	if (equals != NULL)
		return map_item(ps, item, equals);
	if (item[0] == '^') {
		ps->excluding = true;
		item++;
	}
	if (item[0] == '\0')
		return mc_topo_fail(MC_ERR_CONFIG, ps->err, ps->err_len,
				    "an empty name; write NIC[:PORT],... or ^NIC,... or MEMORY=NIC[+NIC...],...");
	return mark(ps, ps->excluding ? &ps->p.exclude : &ps->p.include, item);
}

mc_status_t mc_topo_policy_parse(const struct mc_topo *t, const char *spec, struct mc_topo_policy *out, char *err,
				 size_t err_len)
{
	struct parser ps = {.t = t, .err = err, .err_len = err_len};
	mc_status_t s = MC_OK;
	char *copy, *rest, *item;

	ps.p.nic_n = t->nic_n;
	if (spec[0] == '\0') {
		*out = ps.p;
		return MC_OK;
	}
	copy = strdup(spec);
	if (copy == NULL)
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no memory");
	rest = copy;
	while (s == MC_OK && (item = strsep(&rest, ",")) != NULL) {
		while (*item == ' ')
			item++;
		item[strcspn(item, " ")] = '\0';
		s = take_item(&ps, item);
	}
	free(copy);
	if (s != MC_OK) {
		mc_topo_policy_free(&ps.p);
		return s;
	}
	*out = ps.p;
	return MC_OK;
}

void mc_topo_policy_free(struct mc_topo_policy *p)
{
	if (p == NULL)
		return;
	free(p->include);
	free(p->exclude);
	free(p->map);
	memset(p, 0, sizeof(*p));
}
