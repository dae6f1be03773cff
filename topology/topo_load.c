/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_load.c - put a topology together: hwloc's tree, sysfs, order, rails; and the small helpers of this folder. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "topo_impl.h"

mc_status_t mc_topo_fail(mc_status_t s, char *err, size_t err_len, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL || err_len == 0)
		return s;
	va_start(ap, fmt);
	vsnprintf(err, err_len, fmt, ap);
	va_end(ap);
	return s;
}

void mc_topo_copy(char *out, size_t len, const char *text)
{
	snprintf(out, len, "%s", text);
}

void mc_topo_append(char *out, size_t len, size_t *at, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (*at >= len)
		return;
	va_start(ap, fmt);
	n = vsnprintf(out + *at, len - *at, fmt, ap);
	va_end(ap);
	if (n > 0)
		*at = (size_t)n < len - *at ? *at + (size_t)n : len - 1;
}

void *mc_topo_push(void *array, uint32_t *n, size_t size)
{
	void **at = array;
	char *grown;

	if ((*n & (*n - 1)) == 0) { /* 0 and every power of two: full */
		uint64_t bytes;
		if (*n > UINT32_MAX / 4 || !mc_mul_u64(*n == 0 ? 1 : (uint64_t)*n * 2, size, &bytes))
			return NULL;
		grown = realloc(*at, bytes);
		if (grown == NULL)
			return NULL;
		*at = grown;
	}
	grown = (char *)*at + (size_t)*n * size;
	memset(grown, 0, size);
	(*n)++;
	return grown;
}

void mc_topo_set_add(struct mc_topo_nodeset *s, uint32_t index)
{
	if (index < MC_TOPO_NODES_MAX)
		s->bit[index / 64] |= UINT64_C(1) << (index % 64);
}

bool mc_topo_nodeset_has(const struct mc_topo_nodeset *s, uint32_t index)
{
	return index < MC_TOPO_NODES_MAX && (s->bit[index / 64] >> (index % 64) & 1) != 0;
}

bool mc_topo_set_meets(const struct mc_topo_nodeset *a, const struct mc_topo_nodeset *b)
{
	for (size_t i = 0; i < MC_ARRAY_LEN(a->bit); i++) {
		if ((a->bit[i] & b->bit[i]) != 0)
			return true;
	}
	return false;
}

int mc_topo_natural_cmp(const char *a, const char *b)
{
	while (*a != '\0' && *b != '\0') {
		if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
			size_t na, nb;
			while (*a == '0' && isdigit((unsigned char)a[1]))
				a++;
			while (*b == '0' && isdigit((unsigned char)b[1]))
				b++;
			na = strspn(a, "0123456789");
			nb = strspn(b, "0123456789");
			if (na != nb)
				return na < nb ? -1 : 1;
			int c = strncmp(a, b, na);
			if (c != 0)
				return c;
			a += na;
			b += nb;
		} else if (*a != *b) {
			return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
		} else {
			a++;
			b++;
		}
	}
	return (*a != '\0') - (*b != '\0');
}

uint32_t mc_topo_pci_find(const struct mc_topo *t, const char *busid)
{
	for (uint32_t i = 0; i < t->pci_n; i++) {
		if (strcmp(t->pci[i].busid, busid) == 0)
			return i;
	}
	return MC_TOPO_NONE;
}

/* By length first: domains may have more than four digits. */
static int busid_cmp(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);

	return na != nb ? (na < nb ? -1 : 1) : strcmp(a, b);
}

static int gpu_cmp(const void *a, const void *b)
{
	return mc_topo_natural_cmp(((const struct mc_topo_gpu *)a)->name, ((const struct mc_topo_gpu *)b)->name);
}

static int nic_cmp(const void *a, const void *b, void *arg)
{
	const struct mc_topo_nic *x = a, *y = b;
	const struct mc_topo *t = arg;
	int c;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if ((x->pci == MC_TOPO_NONE) != (y->pci == MC_TOPO_NONE))
		return x->pci == MC_TOPO_NONE ? 1 : -1;
	if (x->pci != y->pci) {
		c = busid_cmp(t->pci[x->pci].busid, t->pci[y->pci].busid);
		if (c != 0)
			return c;
	}
	c = mc_topo_natural_cmp(x->name, y->name);
	if (c != 0)
		return c;
	return x->port < y->port ? -1 : x->port > y->port;
}

/* Two NICs are on rails of one fabric if they are of one make; a management port must not shift the numbers. */
static bool one_make(const struct mc_topo *t, const struct mc_topo_nic *a, const struct mc_topo_nic *b)
{
	/* A port that is down may not tell its link layer. */
	if (a->kind != b->kind ||
	    (a->link != b->link && a->link != MC_TOPO_LINK_UNKNOWN && b->link != MC_TOPO_LINK_UNKNOWN) ||
	    (a->pci == MC_TOPO_NONE) != (b->pci == MC_TOPO_NONE))
		return false;
	return a->pci == MC_TOPO_NONE ||
	       (t->pci[a->pci].vendor == t->pci[b->pci].vendor && t->pci[a->pci].device == t->pci[b->pci].device);
}

static void put_in_order(struct mc_topo *t)
{
	if (t->gpu_n > 1)
		qsort(t->gpu, t->gpu_n, sizeof(*t->gpu), gpu_cmp);
	if (t->nic_n > 1)
		qsort_r(t->nic, t->nic_n, sizeof(*t->nic), nic_cmp, t);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		t->nic[i].rail = 0;
		for (uint32_t k = 0; k < i; k++)
			t->nic[i].rail += one_make(t, &t->nic[i], &t->nic[k]);
	}
}

/* NICs of another machine, or of this one before it was changed, do nobody any good. */
static void drop_absent(struct mc_topo *t)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->nic_n; i++) {
		if (t->nic[i].present)
			t->nic[kept++] = t->nic[i];
		else
			free(t->nic[i].gid);
	}
	t->nic_n = kept;
}

static mc_status_t read_tree(struct mc_topo *t, const struct mc_topo_input *in, const struct mc_topo_src *src,
			     char *err, size_t err_len)
{
	if (src->kernel_only && in->xml == NULL)
		return mc_topo_read_kernel(t, src->root == NULL || strcmp(src->root, "/") == 0 ? "" : src->root, err,
					   err_len);
	return in->isolate ? mc_topo_read_isolated(t, in, err, err_len) : mc_topo_read_hwloc(t, in, err, err_len);
}

static mc_status_t load(const struct mc_topo_input *in, const struct mc_topo_src *src, struct mc_topo **topo_out,
			char *err, size_t err_len)
{
	const char *root = src->root;
	mc_status_t s;
	struct mc_topo *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no memory for the topology");
	s = read_tree(t, in, src, err, err_len);
	if (s != MC_OK)
		goto undo_topo;
	if (root == NULL)
		root = t->live ? "/" : "";
	if (root[0] != '\0' && !mc_topo_read_sysfs(t, root, src)) {
		s = mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no memory for the topology");
		goto undo_topo;
	}
	if (src->present_only)
		drop_absent(t);
	put_in_order(t);
	*topo_out = t;
	return MC_OK;
undo_topo:
	mc_topo_free(t);
	return s;
}

mc_status_t mc_topo_load_xml(const void *xml, size_t len, const char *name, bool isolate, struct mc_topo **topo_out,
			     char *err, size_t err_len)
{
	const struct mc_topo_src src = {.xml_file = name};
	struct mc_topo_input in = {.xml = xml, .len = len, .name = name, .isolate = isolate};

	return load(&in, &src, topo_out, err, err_len);
}

/* Read a file of bounded size whole; a pipe, a directory or a device is refused before it can block. */
static mc_status_t read_file(const char *path, char **out, size_t *len_out, char *err, size_t err_len)
{
	struct stat st;
	size_t got = 0;
	char *buf = NULL;
	mc_status_t s = MC_ERR_NOENT;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return mc_topo_fail(s, err, err_len, "cannot open %s: %s", path, strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		mc_topo_fail(s, err, err_len, "%s is not a file", path);
		goto undo_fd;
	}
	if (st.st_size > MC_TOPO_XML_MAX) {
		s = mc_topo_fail(MC_ERR_INVAL, err, err_len, "%s has %lld bytes; a topology has at most %d", path,
				 (long long)st.st_size, MC_TOPO_XML_MAX);
		goto undo_fd;
	}
	buf = malloc((size_t)st.st_size + 1);
	if (buf == NULL) {
		s = mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no memory for %s", path);
		goto undo_fd;
	}
	while (got < (size_t)st.st_size) {
		ssize_t n = read(fd, buf + got, (size_t)st.st_size - got);
		if (n < 0) {
			mc_topo_fail(s, err, err_len, "cannot read %s: %s", path, strerror(errno));
			goto undo_buf;
		}
		if (n == 0)
			break; /* it shrank */
		got += (size_t)n;
	}
	close(fd);
	buf[got] = '\0';
	*out = buf;
	*len_out = got;
	return MC_OK;
undo_buf:
	free(buf);
undo_fd:
	close(fd);
	return s;
}

mc_status_t mc_topo_load(const struct mc_topo_src *src, struct mc_topo **topo_out, char *err, size_t err_len)
{
	struct mc_topo_input in = {.name = src->xml_file, .gpu_names = src->gpu_names, .isolate = src->isolate};
	char *xml = NULL;
	mc_status_t s;

	if (src->xml_file == NULL)
		return load(&in, src, topo_out, err, err_len);
	s = read_file(src->xml_file, &xml, &in.len, err, err_len);
	if (s != MC_OK)
		return s;
	in.xml = xml;
	s = load(&in, src, topo_out, err, err_len);
	free(xml);
	return s;
}

void mc_topo_free(struct mc_topo *t)
{
	if (t == NULL)
		return;
	for (uint32_t i = 0; i < t->nic_n; i++)
		free(t->nic[i].gid);
	free(t->nic);
	free(t->gpu);
	free(t->pci);
	free(t->bridge);
	free(t->node);
	free(t);
}

bool mc_topo_file_mark(const char *path, char *out, size_t len)
{
	struct stat st;
	int n;

	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || access(path, R_OK) != 0)
		return false;
	n = snprintf(out, len, "%llx.%llx.%llx.%llx.%lx", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
		     (unsigned long long)st.st_size, (unsigned long long)st.st_mtim.tv_sec,
		     (unsigned long)st.st_mtim.tv_nsec);
	return n > 0 && (size_t)n < len;
}
