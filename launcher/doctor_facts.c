/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_facts.c - look once at the devices, ports, GIDs, GPUs that many checks speak about; helpers of the checks. */
#include "doctor.h"
#include "sysparse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define IB "/sys/class/infiniband"

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void put(char *out, size_t len, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
static void put(char *out, size_t len, const char *fmt, va_list ap)
{
	if (len > 0)
		(void)vsnprintf(out, len, fmt, ap);
}

void mc_doc_read(struct mc_doc_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(r->read, sizeof(r->read), fmt, ap);
	va_end(ap);
}

void mc_doc_value(struct mc_doc_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(r->value, sizeof(r->value), fmt, ap);
	va_end(ap);
}

void mc_doc_set(struct mc_doc_result *r, enum mc_doc_status s, const char *fmt, ...)
{
	va_list ap;

	if (s != MC_DOC_NA && s < r->status)
		return;
	r->status = s;
	va_start(ap, fmt);
	put(r->cause, sizeof(r->cause), fmt, ap);
	va_end(ap);
}

void mc_doc_fix(struct mc_doc_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(r->fix, sizeof(r->fix), fmt, ap);
	va_end(ap);
}

void mc_doc_add(char *text, size_t len, const char *fmt, ...)
{
	size_t at = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	put(text + at, len - at, fmt, ap);
	va_end(ap);
}

const char *mc_doc_pick(const struct mc_doctor *d, const char *bare, const char *container, const char *k8s,
			const char *slurm)
{
	if (d->where == MC_DOC_IN_SLURM && slurm != NULL)
		return slurm;
	if (d->where == MC_DOC_IN_K8S && k8s != NULL)
		return k8s;
	if ((d->where == MC_DOC_IN_K8S || d->where == MC_DOC_IN_CONTAINER) && container != NULL)
		return container;
	return bare;
}

bool mc_doc_unreadable(struct mc_doc_result *r, const char *path, int error)
{
	if (error == 0)
		return false;
	mc_doc_read(r, "%s", path);
	mc_doc_value(r, "%s", strerror(error));
	if (error == ENOENT || error == ENOTDIR)
		mc_doc_set(r, MC_DOC_NA, "%s is not there", path);
	else if (error == EACCES || error == EPERM)
		mc_doc_set(r, MC_DOC_NA, "%s may not be read by this user; run as root to know", path);
	else
		mc_doc_set(r, MC_DOC_WARN, "%s cannot be read: %s", path, strerror(error));
	return true;
}

void mc_doc_senseless(struct mc_doc_result *r, const char *path, const char *text)
{
	mc_doc_read(r, "%s", path);
	mc_doc_value(r, "\"%.60s\"%s", text, strlen(text) > 60 ? "..." : "");
	mc_doc_set(r, MC_DOC_WARN, "the text of %s makes no sense", path);
	mc_doc_fix(r, "cat %s    # and report it with: mcinfo doctor --record DIR", path);
}

/* ---- places -------------------------------------------------------------------------------------------------------
 */

uint32_t mc_doc_common(const char *a, const char *b)
{
	uint32_t n = 0;

	while (*a != '\0' && *b != '\0') {
		size_t la = strcspn(a + 1, "/"), lb = strcspn(b + 1, "/");

		if (la != lb || strncmp(a + 1, b + 1, la) != 0)
			break;
		n += la >= 7 && (strncmp(a + 1, "pci", 3) == 0 || a[5] == ':'); /* pci0000:00, 0000:00:03.0 */
		a += 1 + la;
		b += 1 + lb;
	}
	return n;
}

bool mc_doc_port_live(const struct mc_doc_port *p)
{
	return p->state_ok && (p->state == 4 || p->state == 5);
}

const char *mc_doc_dev_driver_provider(const char *driver)
{
	static const char *const table[][2] = {
		{"mlx5_core", "mlx5"},  {"mlx5_ib", "mlx5"},    {"mlx4_core", "mlx4"},   {"mlx4_ib", "mlx4"},
		{"bnxt_en", "bnxt_re"}, {"bnxt_re", "bnxt_re"}, {"ice", "irdma"},        {"i40e", "irdma"},
		{"irdma", "irdma"},     {"efa", "efa"},         {"rdma_rxe", "rxe"},     {"siw", "siw"},
		{"hns3", "hns"},        {"hns_roce", "hns"},    {"qede", "qedr"},        {"cxgb4", "cxgb4"},
		{"erdma", "erdma"},     {"ionic", "ionic"},     {"ionic_rdma", "ionic"}, {"mana", "mana"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i][0], driver) == 0)
			return table[i][1];
	return driver;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

/* ---- ports --------------------------------------------------------------------------------------------------------
 */

static void read_gid(struct mc_doctor *d, const char *base, uint32_t i, struct mc_doc_port *p, int *rank)
{
	char text[128], type[64], netdev[64];
	uint8_t raw[16];

	if (mc_sysroot_readf(d->root, text, sizeof(text), "%s/gids/%u", base, i) != 0)
		return;
	if (!mc_sys_gid(text, raw)) {
		p->gid_bad++;
		return;
	}
	enum mc_gid_kind kind = mc_sys_gid_kind(raw);
	if (kind == MC_GID_ZERO)
		return;
	/* an empty slot gives EINVAL, a port of InfiniBand often has neither file */
	(void)mc_sysroot_readf(d->root, type, sizeof(type), "%s/gid_attrs/types/%u", base, i);
	(void)mc_sysroot_readf(d->root, netdev, sizeof(netdev), "%s/gid_attrs/ndevs/%u", base, i);
	bool v2 = strcmp(type, "RoCE v2") == 0;
	p->gid_n++;
	p->v2_n += v2;
	int now = !v2 ? 0 : kind == MC_GID_IPV4 ? 3 : kind == MC_GID_GLOBAL ? 2 : 1;
	if (now > *rank || p->netdev[0] == '\0') {
		if (netdev[0] != '\0')
			(void)snprintf(p->netdev, sizeof(p->netdev), "%s", netdev);
		if (now > *rank && now >= 2)
			p->best = (int32_t)i;
		*rank = now > *rank ? now : *rank;
	}
}

static void read_port(struct mc_doctor *d, uint32_t dev, uint32_t num)
{
	char base[256], text[128];
	struct mc_doc_port *p = &d->port[d->port_n];
	struct mc_strv slots = {0};
	int rank = 0;

	*p = (struct mc_doc_port){.dev = dev, .num = num, .best = -1};
	(void)snprintf(base, sizeof(base), IB "/%s/ports/%u", d->dev[dev].name, num);
	(void)mc_sysroot_readf(d->root, text, sizeof(text), "%s/state", base);
	p->state_ok = mc_sys_state(text, &p->state, p->state_name, sizeof(p->state_name));
	if (!p->state_ok)
		(void)snprintf(p->state_name, sizeof(p->state_name), "\"%.20s\"", text);
	(void)mc_sysroot_readf(d->root, text, sizeof(text), "%s/phys_state", base);
	p->phys_ok = mc_sys_state(text, &p->phys, p->phys_name, sizeof(p->phys_name));
	if (!p->phys_ok)
		(void)snprintf(p->phys_name, sizeof(p->phys_name), "\"%.20s\"", text);
	(void)mc_sysroot_readf(d->root, p->rate_text, sizeof(p->rate_text), "%s/rate", base);
	p->rate_ok = mc_sys_rate(p->rate_text, &p->mbps);
	(void)mc_sysroot_readf(d->root, p->link, sizeof(p->link), "%s/link_layer", base);
	(void)snprintf(text, sizeof(text), "%.110s/gids", base);
	if (mc_sysroot_list(d->root, text, &slots) == 0)
		for (size_t i = 0; i < slots.n && i < MC_DOC_GID_MAX; i++) {
			uint32_t slot;

			if (mc_text_count(slots.v[i], &slot))
				read_gid(d, base, slot, p, &rank);
		}
	mc_strv_free(&slots);
	(void)snprintf(text, sizeof(text), "/sys/class/net/%.64s", p->netdev);
	p->netdev_seen = p->netdev[0] != '\0' && mc_sysroot_exists(d->root, text);
	d->active_n += mc_doc_port_live(p);
	d->port_n++;
}

static void read_dev(struct mc_doctor *d, const char *name)
{
	struct mc_doc_dev *v = &d->dev[d->dev_n];
	char path[256], text[512];
	struct mc_strv ports = {0};

	*v = (struct mc_doc_dev){.node = -1};
	(void)snprintf(v->name, sizeof(v->name), "%.60s", name);
	(void)mc_sysroot_readf(d->root, v->type, sizeof(v->type), IB "/%s/hca_type", v->name);
	if (mc_sysroot_readf(d->root, text, sizeof(text), IB "/%s/node_type", v->name) == 0)
		v->iwarp = strncmp(text, "4:", 2) == 0;
	if (mc_sysroot_readf(d->root, text, sizeof(text), IB "/%s/device/numa_node", v->name) != 0 ||
	    !mc_sys_i64(text, &v->node))
		v->node = -1;
	(void)snprintf(path, sizeof(path), IB "/%s/device", v->name);
	if (mc_sysroot_link(d->root, path, v->path, sizeof(v->path)) == 0 && mc_sys_is_bdf(base_of(v->path)))
		(void)snprintf(v->pci, sizeof(v->pci), "%.60s", base_of(v->path));
	(void)snprintf(path, sizeof(path), IB "/%s/device/driver", v->name);
	if (mc_sysroot_link(d->root, path, text, sizeof(text)) == 0)
		(void)snprintf(v->driver, sizeof(v->driver), "%.60s", base_of(text));
	d->dev_n++;
	(void)snprintf(path, sizeof(path), IB "/%s/ports", v->name);
	if (mc_sysroot_list(d->root, path, &ports) == 0)
		for (size_t i = 0; i < ports.n && d->port_n < MC_DOC_PORT_MAX; i++) {
			uint32_t num;

			if (mc_text_count(ports.v[i], &num) && num <= 255)
				read_port(d, d->dev_n - 1, num);
		}
	mc_strv_free(&ports);
}

static void read_uverbs(struct mc_doctor *d)
{
	struct mc_strv names = {0};
	char dev[64];

	(void)mc_sysroot_list(d->root, "/sys/class/infiniband_verbs", &names);
	for (size_t i = 0; i < names.n; i++) {
		if (strncmp(names.v[i], "uverbs", 6) != 0 ||
		    mc_sysroot_readf(d->root, dev, sizeof(dev), "/sys/class/infiniband_verbs/%s/ibdev", names.v[i]) !=
			    0)
			continue;
		for (uint32_t k = 0; k < d->dev_n; k++)
			if (strcmp(d->dev[k].name, dev) == 0)
				(void)snprintf(d->dev[k].uverbs, sizeof(d->dev[k].uverbs), "%.60s", names.v[i]);
	}
	mc_strv_free(&names);
}

/* ---- GPUs ---------------------------------------------------------------------------------------------------------
 */

static void read_gpu(struct mc_doctor *d, const char *bdf)
{
	char text[64], path[256];
	uint64_t class, vendor;

	if (!mc_sys_is_bdf(bdf) ||
	    mc_sysroot_readf(d->root, text, sizeof(text), "/sys/bus/pci/devices/%s/class", bdf) != 0 ||
	    !mc_sys_u64(text, &class) ||
	    mc_sysroot_readf(d->root, text, sizeof(text), "/sys/bus/pci/devices/%s/vendor", bdf) != 0 ||
	    !mc_sys_u64(text, &vendor))
		return;
	bool display = class >> 8 == 0x0300 || class >> 8 == 0x0302 || class >> 8 == 0x0380 || class >> 16 == 0x12;
	if (!display || (vendor != 0x10de && vendor != 0x1002) || d->gpu_n >= MC_DOC_DEV_MAX)
		return;
	struct mc_doc_gpu *g = &d->gpu[d->gpu_n++];
	*g = (struct mc_doc_gpu){.amd = vendor == 0x1002, .node = -1};
	(void)snprintf(g->pci, sizeof(g->pci), "%.60s", bdf);
	(void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.60s", bdf);
	(void)mc_sysroot_link(d->root, path, g->path, sizeof(g->path));
	if (mc_sysroot_readf(d->root, text, sizeof(text), "%s/numa_node", path) != 0 || !mc_sys_i64(text, &g->node))
		g->node = -1;
}

/* ---- where --------------------------------------------------------------------------------------------------------
 */

static enum mc_doc_where find_where(struct mc_doctor *d)
{
	static const char *const words[] = {"docker", "containerd", "libpod", "lxc", "crio", "podman"};
	char env[256];
	struct mc_sys_mount m;
	char *one = mc_sysroot_text(d->root, "/proc/1/cgroup", NULL);
	char *own = mc_sysroot_text(d->root, "/proc/self/cgroup", NULL);
	char *mounts = mc_sysroot_text(d->root, "/proc/self/mountinfo", NULL);
	enum mc_doc_where where = MC_DOC_BARE;

	(void)mc_sysroot_probe(d->root, "surroundings", NULL, env, sizeof(env));
	bool box = mc_sysroot_exists(d->root, "/.dockerenv") || mc_sysroot_exists(d->root, "/run/.containerenv");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && one != NULL; i++)
		box = box || strstr(one, words[i]) != NULL;
	box = box || (mounts != NULL && mc_sys_mount(mounts, "overlay", "/", NULL, &m));
	if (box)
		where = MC_DOC_IN_CONTAINER;
	if (strstr(env, "KUBERNETES_SERVICE_HOST") != NULL ||
	    mc_sysroot_exists(d->root, "/var/run/secrets/kubernetes.io/serviceaccount") ||
	    (one != NULL && strstr(one, "kubepods") != NULL))
		where = MC_DOC_IN_K8S;
	if (strstr(env, "SLURM_JOB_ID") != NULL || (own != NULL && strstr(own, "slurmstepd") != NULL))
		where = MC_DOC_IN_SLURM;
	free(one);
	free(own);
	free(mounts);
	return d->mode == MC_DOC_SLURM       ? MC_DOC_IN_SLURM
	       : d->mode == MC_DOC_K8S       ? MC_DOC_IN_K8S
	       : d->mode == MC_DOC_CONTAINER ? (where == MC_DOC_IN_K8S ? where : MC_DOC_IN_CONTAINER)
					     : where;
}

/* A serial number of the machine stands beside it, so only the vendor is read. */
static void find_vm(struct mc_doctor *d)
{
	static const char *const vendors[] = {
		"QEMU", "VMware", "Microsoft Corporation", "Xen",     "Amazon EC2", "Google",
		"KVM",  "Bochs",  "innotek GmbH",          "Alibaba", "OpenStack"};
	char text[64];

	if (mc_sysroot_read(d->root, "/sys/hypervisor/type", text, sizeof(text)) == 0 && text[0] != '\0') {
		d->vm = true;
		(void)snprintf(d->vm_name, sizeof(d->vm_name), "%s", text);
	}
	if (mc_sysroot_read(d->root, "/sys/class/dmi/id/sys_vendor", text, sizeof(text)) == 0)
		for (size_t i = 0; i < sizeof(vendors) / sizeof(vendors[0]); i++)
			if (strncmp(text, vendors[i], strlen(vendors[i])) == 0) {
				d->vm = true;
				(void)snprintf(d->vm_name, sizeof(d->vm_name), "%s", text);
			}
	/* a vendor that also makes metal: the processor says it */
	if (!d->vm && mc_sysroot_probe(d->root, "hypervisor", NULL, text, sizeof(text)) == 0 &&
	    strcmp(text, "yes") == 0) {
		d->vm = true;
		(void)snprintf(d->vm_name, sizeof(d->vm_name), "a hypervisor");
	}
}

void mc_doctor_gather(struct mc_doctor *d)
{
	struct mc_strv names = {0}, pci = {0};
	char online[256];

	d->dev = mc_xalloc(MC_DOC_DEV_MAX, sizeof(*d->dev));
	d->port = mc_xalloc(MC_DOC_PORT_MAX, sizeof(*d->port));
	d->gpu = mc_xalloc(MC_DOC_DEV_MAX, sizeof(*d->gpu));
	d->where = find_where(d);
	find_vm(d);
	if (mc_sysroot_read(d->root, "/sys/devices/system/node/online", online, sizeof(online)) != 0 ||
	    !mc_sys_list_count(online, &d->node_n))
		d->node_n = 1;
	d->ib_error = mc_sysroot_list(d->root, IB, &names);
	for (size_t i = 0; i < names.n && d->dev_n < MC_DOC_DEV_MAX; i++)
		read_dev(d, names.v[i]);
	read_uverbs(d);
	(void)mc_sysroot_list(d->root, "/sys/class/net", &d->net);
	(void)mc_sysroot_list(d->root, "/sys/bus/pci/devices", &pci);
	for (size_t i = 0; i < pci.n; i++)
		read_gpu(d, pci.v[i]);
	mc_strv_free(&pci);
	mc_strv_free(&names);
}

void mc_doctor_free(struct mc_doctor *d)
{
	free(d->dev);
	free(d->port);
	free(d->gpu);
	mc_strv_free(&d->net);
	mc_sysroot_close(d->root);
}
