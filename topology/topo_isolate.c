/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * topo_isolate.c - hwloc in a child process. hwloc trusts its XML: damaged files make it read through null pointers or
 * ask for any amount of memory. A program that reads files of unknown origin lets a child do it; what the child hands
 * back is checked like a stranger's bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "topo_impl.h"

enum { CPU_S = 20, WAIT_S = 60, MANY = 65536 };
#define MEMORY_MAX (UINT64_C(1) << 30)

/* What the child writes first; the arrays follow in this order, then the GIDs of each NIC. Same program, so same
 * layout. */
struct head {
	mc_status_t status;
	char err[1024];
	char source[256];
	uint8_t live;
	uint32_t packages, cores, pus, node_n, bridge_n, pci_n, gpu_n, nic_n;
};

/* ---- child
 * -------------------------------------------------------------------------------------------------------------- */

static bool put(int fd, const void *p, size_t len)
{
	const char *at = p;

	while (len > 0) {
		ssize_t n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

static void set_limit(int what, uint64_t value)
{
	struct rlimit l;

	if (getrlimit((__rlimit_resource_t)what, &l) != 0 || l.rlim_cur <= value)
		return;
	l.rlim_cur = value;
	setrlimit((__rlimit_resource_t)what, &l);
}

/* Die quietly and soon: no report, no core file, no word on the terminal, bounded time and memory. */
static void be_careful(void)
{
	static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU, SIGPIPE, SIGTERM, SIGINT};
	unsigned long pages = 0;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	FILE *f = fopen("/proc/self/statm", "re");

	for (size_t i = 0; i < MC_ARRAY_LEN(deadly); i++)
		signal(deadly[i], SIG_DFL);
	prctl(PR_SET_DUMPABLE, 0);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_CPU, CPU_S);
	/* On top of what is mapped already, which is much where a sanitizer or a GPU library is loaded. */
	if (f != NULL && fscanf(f, "%lu", &pages) == 1)
		set_limit(RLIMIT_AS, (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) + MEMORY_MAX);
	if (f != NULL)
		fclose(f);
	if (null >= 0) {
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
}

static void child(int fd, const struct mc_topo_input *in)
{
	struct mc_topo t = {.nic = NULL};
	struct head h = {.live = 0};
	bool ok;

	/* Above 2, where it would be in the way of the program's own if that was started with one of them closed. */
	fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	be_careful();
	h.status = mc_topo_read_hwloc(&t, in, h.err, sizeof(h.err));
	memcpy(h.source, t.source, sizeof(h.source));
	h.live = t.live;
	h.packages = t.packages;
	h.cores = t.cores;
	h.pus = t.pus;
	h.node_n = t.node_n;
	h.bridge_n = t.bridge_n;
	h.pci_n = t.pci_n;
	h.gpu_n = t.gpu_n;
	h.nic_n = t.nic_n;
	ok = put(fd, &h, sizeof(h)) &&
	     (h.status != MC_OK ||
	      (put(fd, t.node, t.node_n * sizeof(*t.node)) && put(fd, t.bridge, t.bridge_n * sizeof(*t.bridge)) &&
	       put(fd, t.pci, t.pci_n * sizeof(*t.pci)) && put(fd, t.gpu, t.gpu_n * sizeof(*t.gpu)) &&
	       put(fd, t.nic, t.nic_n * sizeof(*t.nic))));
	for (uint32_t i = 0; ok && h.status == MC_OK && i < t.nic_n; i++)
		ok = put(fd, t.nic[i].gid, t.nic[i].gid_n * sizeof(*t.nic[i].gid));
	_exit(ok ? 0 : 1);
}

/* ---- parent: receive
 * ------------------------------------------------------------------------------------------------------ */

struct stream {
	int fd;
	int64_t deadline_ns;
};

static bool get(const struct stream *s, void *p, size_t len)
{
	char *at = p;

	while (len > 0) {
		struct pollfd pf = {.fd = s->fd, .events = POLLIN};
		int64_t left_ns = s->deadline_ns - mc_now_ns();
		ssize_t n;
		if (left_ns <= 0)
			return false;
		if (poll(&pf, 1, (int)(left_ns / 1000000) + 1) < 0 && errno != EINTR)
			return false;
		if (pf.revents == 0)
			continue;
		n = read(s->fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

static bool get_array(const struct stream *s, void *array, uint32_t *n_out, uint32_t n, uint32_t most, size_t size)
{
	uint32_t room = 1;
	void **to = array;

	if (n > most)
		return false;
	while (room < n)
		room *= 2; /* as mc_topo_push() leaves it: more may be added */
	*to = n > 0 ? calloc(room, size) : NULL;
	if (n > 0 && *to == NULL)
		return false;
	*n_out = n;
	return get(s, *to, n * size);
}

static bool get_gids(const struct stream *s, struct mc_topo *t)
{
	bool ok = true;

	for (uint32_t i = 0; i < t->nic_n; i++) {
		uint32_t n = t->nic[i].gid_n;
		t->nic[i].gid = NULL; /* the child's address */
		t->nic[i].gid_n = 0;
		ok = ok && get_array(s, &t->nic[i].gid, &t->nic[i].gid_n, n, MC_TOPO_GID_MAX, sizeof(*t->nic[i].gid));
	}
	return ok;
}

/* ---- parent: check
 * -------------------------------------------------------------------------------------------------------- */

#define TEXT_OK(a) (memchr((a), '\0', sizeof(a)) != NULL)

/* A bool that came as a byte: anything but 0 and 1 would be undefined to read. */
static bool bool_ok(const bool *b)
{
	unsigned char c;

	memcpy(&c, b, 1);
	return c <= 1;
}

static bool loc_ok(const struct mc_topo *t, const struct mc_topo_loc *l)
{
	if (l->path_n > MC_TOPO_PATH_MAX || l->package < -1 || !bool_ok(&l->known))
		return false;
	for (uint32_t i = 0; i < l->path_n; i++) {
		if (l->path[i] >= t->bridge_n)
			return false;
	}
	for (uint32_t i = t->node_n; i < MC_TOPO_NODES_MAX; i++) {
		if (mc_topo_nodeset_has(&l->nodes, i))
			return false;
	}
	return true;
}

static bool nic_ok(const struct mc_topo *t, const struct mc_topo_nic *n)
{
	if (!TEXT_OK(n->name) || !TEXT_OK(n->phys_state) || !TEXT_OK(n->guid) || !TEXT_OK(n->address) ||
	    !TEXT_OK(n->netdev))
		return false;
	if ((uint32_t)n->kind > MC_TOPO_NETWORK || (uint32_t)n->state > MC_TOPO_STATE_UP ||
	    (uint32_t)n->link > MC_TOPO_LINK_ETHERNET || (n->pci != MC_TOPO_NONE && n->pci >= t->pci_n))
		return false;
	for (uint32_t i = 0; i < n->gid_n; i++) {
		if ((uint32_t)n->gid[i].type > MC_TOPO_GID_V2 || !TEXT_OK(n->gid[i].netdev))
			return false;
	}
	return bool_ok(&n->is_virtual) && bool_ok(&n->is_bridge) && bool_ok(&n->default_route) &&
	       bool_ok(&n->no_address) && bool_ok(&n->is_loopback) && bool_ok(&n->present) &&
	       n->network_n <= MC_TOPO_NETWORK_MAX && loc_ok(t, &n->loc);
}

static bool gpu_ok(const struct mc_topo *t, const struct mc_topo_gpu *g)
{
	if (g->pci >= t->pci_n || g->osdev_n > MC_TOPO_OSDEV_MAX || !TEXT_OK(g->name))
		return false;
	for (uint32_t i = 0; i < g->osdev_n; i++) {
		if (!TEXT_OK(g->osdev[i]))
			return false;
	}
	return true;
}

static bool topo_ok(const struct mc_topo *t)
{
	bool ok = t->node_n > 0;

	for (uint32_t i = 0; ok && i < t->node_n; i++)
		ok = bool_ok(&t->node[i].has_cpus) && TEXT_OK(t->node[i].cpus) && loc_ok(t, &t->node[i].loc);
	for (uint32_t i = 0; ok && i < t->bridge_n; i++)
		ok = (t->bridge[i].parent == MC_TOPO_NONE || t->bridge[i].parent < i) && TEXT_OK(t->bridge[i].text) &&
		     loc_ok(t, &t->bridge[i].loc);
	for (uint32_t i = 0; ok && i < t->pci_n; i++)
		ok = TEXT_OK(t->pci[i].busid) && loc_ok(t, &t->pci[i].loc);
	for (uint32_t i = 0; ok && i < t->gpu_n; i++)
		ok = gpu_ok(t, &t->gpu[i]);
	for (uint32_t i = 0; ok && i < t->nic_n; i++)
		ok = nic_ok(t, &t->nic[i]);
	return ok;
}

static mc_status_t receive(const struct stream *s, struct mc_topo *t, bool *broken, char *err, size_t err_len)
{
	struct head h;

	*broken = true;
	if (!get(s, &h, sizeof(h)) || !TEXT_OK(h.err) || !TEXT_OK(h.source))
		return MC_ERR_INVAL;
	if (h.status != MC_OK) {
		*broken = false;
		return mc_topo_fail(h.status == MC_ERR_NOMEM || h.status == MC_ERR_UNSUPPORTED ? h.status
											       : MC_ERR_INVAL,
				    err, err_len, "%s", h.err);
	}
	memcpy(t->source, h.source, sizeof(t->source));
	t->live = h.live == 1;
	t->packages = h.packages;
	t->cores = h.cores;
	t->pus = h.pus;
	if (!get_array(s, &t->node, &t->node_n, h.node_n, MC_TOPO_NODES_MAX, sizeof(*t->node)) ||
	    !get_array(s, &t->bridge, &t->bridge_n, h.bridge_n, MANY, sizeof(*t->bridge)) ||
	    !get_array(s, &t->pci, &t->pci_n, h.pci_n, MANY, sizeof(*t->pci)) ||
	    !get_array(s, &t->gpu, &t->gpu_n, h.gpu_n, MANY, sizeof(*t->gpu)) ||
	    !get_array(s, &t->nic, &t->nic_n, h.nic_n, MANY, sizeof(*t->nic)))
		goto undo_nics;
	if (!get_gids(s, t) || !topo_ok(t))
		return MC_ERR_INVAL;
	*broken = false;
	return MC_OK;
undo_nics:
	/* Those that came still hold addresses of the child. */
	free(t->nic);
	t->nic = NULL;
	t->nic_n = 0;
	return MC_ERR_INVAL;
}

mc_status_t mc_topo_read_isolated(struct mc_topo *t, const struct mc_topo_input *in, char *err, size_t err_len)
{
	const char *name =
		in->xml != NULL ? in->name : "the topology of this machine (or the file that HWLOC_XMLFILE names)";
	struct stream s;
	mc_status_t status;
	int fd[2];
	bool broken;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) != 0)
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no pipe: %s", strerror(errno));
	fflush(NULL); /* or the child would have a copy of what is not yet written */
	pid = fork();
	if (pid < 0) {
		close(fd[0]);
		close(fd[1]);
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no process for hwloc: %s", strerror(errno));
	}
	if (pid == 0)
		child(fd[1], in); /* does not return */
	close(fd[1]);
	s.fd = fd[0];
	s.deadline_ns = mc_deadline(mc_now_ns(), INT64_C(1000000000) * WAIT_S);
	status = receive(&s, t, &broken, err, err_len);
	close(fd[0]);
	if (broken)
		mc_topo_fail(status, err, err_len, "hwloc cannot cope with %s: it is damaged", name);
	kill(pid, SIGKILL); /* done, or hopeless */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return status;
}
