/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_hwloc.c - hwloc's tree as plain structures. The only file that includes hwloc. */
#include <hwloc.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "topo_impl.h"

struct reader {
	struct mc_topo *t;
	hwloc_topology_t hw;
	bool nomem;
};

/* The nodes of hwloc's set, which counts by the system's numbers. True: it is the whole machine. */
static bool take_nodes(const struct reader *r, hwloc_const_nodeset_t from, struct mc_topo_nodeset *to)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->t->node_n; i++) {
		if (from != NULL && hwloc_bitmap_isset(from, r->t->node[i].os_index)) {
			mc_topo_set_add(to, i);
			n++;
		}
	}
	return n == r->t->node_n;
}

/* The one package that has something of this set; -1: none or several. */
static int32_t package_of(const struct reader *r, hwloc_const_nodeset_t set)
{
	hwloc_obj_t p = NULL;
	int32_t found = -1;

	while (set != NULL && (p = hwloc_get_next_obj_by_type(r->hw, HWLOC_OBJ_PACKAGE, p)) != NULL) {
		if (p->nodeset == NULL || !hwloc_bitmap_intersects(p->nodeset, set))
			continue;
		if (found >= 0)
			return -1;
		found = (int32_t)p->logical_index;
	}
	return found;
}

static void take_loc(const struct reader *r, hwloc_obj_t obj, struct mc_topo_loc *loc)
{
	hwloc_obj_t up[MC_TOPO_PATH_MAX];
	hwloc_obj_t host = hwloc_get_non_io_ancestor_obj(r->hw, obj);
	hwloc_obj_t pack;
	bool whole = true;
	uint32_t n = 0;

	loc->package = -1;
	if (host != NULL) {
		whole = take_nodes(r, host->nodeset, &loc->nodes);
		pack = host;
		while (pack != NULL && pack->type != HWLOC_OBJ_PACKAGE)
			pack = pack->parent;
		loc->package = pack != NULL ? (int32_t)pack->logical_index : package_of(r, host->nodeset);
	}
	loc->known = r->t->node_n == 1 ||
		     (!whole && host != NULL && host->nodeset != NULL && !hwloc_bitmap_iszero(host->nodeset));
	/* Walk up, then turn round; of a path that is longer than any real one the top is kept. */
	for (hwloc_obj_t o = obj; o != NULL && o != host; o = o->parent) {
		if (o->type != HWLOC_OBJ_BRIDGE || o->userdata == NULL)
			continue;
		if (n == MC_TOPO_PATH_MAX) {
			memmove(up, up + 1, sizeof(up[0]) * (MC_TOPO_PATH_MAX - 1));
			n--;
		}
		up[n++] = o;
	}
	loc->path_n = n;
	for (uint32_t i = 0; i < n; i++)
		loc->path[i] = (uint32_t)(uintptr_t)up[n - 1 - i]->userdata - 1;
}

static int node_cmp(const void *a, const void *b)
{
	const struct mc_topo_node *x = a, *y = b;

	return x->os_index < y->os_index ? -1 : x->os_index > y->os_index;
}

static mc_status_t take_nodes_all(struct reader *r, const char *name, char *err, size_t err_len)
{
	struct mc_topo *t = r->t;
	hwloc_obj_t o = NULL;

	while ((o = hwloc_get_next_obj_by_type(r->hw, HWLOC_OBJ_NUMANODE, o)) != NULL) {
		struct mc_topo_node *n;
		if (t->node_n == MC_TOPO_NODES_MAX)
			return mc_topo_fail(MC_ERR_INVAL, err, err_len, "%s has more than %d NUMA nodes", name,
					    MC_TOPO_NODES_MAX);
		n = mc_topo_push(&t->node, &t->node_n, sizeof(*n));
		if (n == NULL) {
			r->nomem = true;
			return MC_OK;
		}
		n->os_index = o->os_index;
		n->bytes = o->attr->numanode.local_memory;
		n->has_cpus = o->cpuset != NULL && !hwloc_bitmap_iszero(o->cpuset);
		if (n->has_cpus &&
		    hwloc_bitmap_list_snprintf(n->cpus, sizeof(n->cpus), o->cpuset) >= (int)sizeof(n->cpus))
			n->cpus[0] = '\0';
		n->loc.known = true;
		n->loc.package = package_of(r, o->nodeset);
	}
	if (t->node_n == 0)
		return mc_topo_fail(MC_ERR_INVAL, err, err_len, "%s has no NUMA node", name);
	qsort(t->node, t->node_n, sizeof(*t->node), node_cmp);
	for (uint32_t i = 0; i < t->node_n; i++)
		mc_topo_set_add(&t->node[i].loc.nodes, i);
	return MC_OK;
}

static void take_bridges(struct reader *r)
{
	hwloc_obj_t o = NULL;

	/* hwloc lists them in depth-first order: parents come before children. */
	while (!r->nomem && (o = hwloc_get_next_bridge(r->hw, o)) != NULL) {
		const struct hwloc_bridge_attr_s *a = &o->attr->bridge;
		struct mc_topo_bridge *b;
		if (a->downstream_type != HWLOC_OBJ_BRIDGE_PCI)
			continue;
		b = mc_topo_push(&r->t->bridge, &r->t->bridge_n, sizeof(*b));
		if (b == NULL) {
			r->nomem = true;
			return;
		}
		o->userdata = (void *)(uintptr_t)r->t->bridge_n;
		b->parent = MC_TOPO_NONE;
		for (hwloc_obj_t p = o->parent; p != NULL; p = p->parent) {
			if (p->type == HWLOC_OBJ_BRIDGE && p->userdata != NULL) {
				b->parent = (uint32_t)(uintptr_t)p->userdata - 1;
				break;
			}
		}
		snprintf(b->text, sizeof(b->text), "%04x:[%02x-%02x]", (unsigned int)a->downstream.pci.domain,
			 (unsigned int)a->downstream.pci.secondary_bus,
			 (unsigned int)a->downstream.pci.subordinate_bus);
		take_loc(r, o, &b->loc);
	}
}

static int pci_cmp(const void *a, const void *b)
{
	const struct mc_topo_pci *x = a, *y = b;
	size_t nx = strlen(x->busid), ny = strlen(y->busid);

	return nx != ny ? (nx < ny ? -1 : 1) : strcmp(x->busid, y->busid);
}

static void busid_of(hwloc_obj_t o, char out[24])
{
	const struct hwloc_pcidev_attr_s *a = &o->attr->pcidev;

	snprintf(out, 24, "%04x:%02x:%02x.%01x", (unsigned int)a->domain, a->bus, a->dev, a->func & 0xfu);
}

static void take_pcis(struct reader *r)
{
	hwloc_obj_t o = NULL;

	while (!r->nomem && (o = hwloc_get_next_pcidev(r->hw, o)) != NULL) {
		const struct hwloc_pcidev_attr_s *a = &o->attr->pcidev;
		struct mc_topo_pci *p = mc_topo_push(&r->t->pci, &r->t->pci_n, sizeof(*p));
		if (p == NULL) {
			r->nomem = true;
			return;
		}
		busid_of(o, p->busid);
		p->class_id = a->class_id;
		p->vendor = a->vendor_id;
		p->device = a->device_id;
		/* GB/s as hwloc has it; a file may say anything, also what is no number. */
		if (a->linkspeed > 0 && a->linkspeed < 100000)
			p->link_mbps = (uint32_t)(a->linkspeed * 8000);
		take_loc(r, o, &p->loc);
	}
	if (r->t->pci_n > 1)
		qsort(r->t->pci, r->t->pci_n, sizeof(*r->t->pci), pci_cmp);
}

static uint32_t pci_of(const struct reader *r, hwloc_obj_t o)
{
	char busid[24];

	while (o != NULL && o->type != HWLOC_OBJ_PCI_DEVICE)
		o = o->parent;
	if (o == NULL)
		return MC_TOPO_NONE;
	busid_of(o, busid);
	return mc_topo_pci_find(r->t, busid);
}

static const char *info(hwloc_obj_t o, const char *name)
{
	const char *v = hwloc_obj_get_info_by_name(o, name);

	return v != NULL ? v : "";
}

static struct mc_topo_nic *push_nic(struct reader *r, hwloc_obj_t o, enum mc_topo_kind kind, uint32_t port)
{
	struct mc_topo_nic *nic = mc_topo_push(&r->t->nic, &r->t->nic_n, sizeof(*nic));

	if (nic == NULL) {
		r->nomem = true;
		return NULL;
	}
	nic->kind = kind;
	nic->port = port;
	mc_topo_copy(nic->name, sizeof(nic->name), o->name);
	nic->pci = pci_of(r, o);
	take_loc(r, o, &nic->loc);
	return nic;
}

static void take_interface(struct reader *r, hwloc_obj_t o)
{
	const char *address = info(o, "Address");
	struct mc_topo_nic *nic = push_nic(r, o, MC_TOPO_NETWORK, 0);

	if (nic == NULL)
		return;
	mc_topo_parse_word(address, strlen(address), nic->address, sizeof(nic->address));
	/* 20 bytes: IP over InfiniBand */
	if (strlen(nic->address) == 20 * 3 - 1)
		nic->link = MC_TOPO_LINK_INFINIBAND;
	else if (nic->address[0] != '\0')
		nic->link = MC_TOPO_LINK_ETHERNET;
}

static void take_xml_gids(struct reader *r, hwloc_obj_t o, struct mc_topo_nic *nic)
{
	for (uint32_t i = 0; i < 16; i++) {
		char key[32];
		uint8_t raw[16];
		struct mc_topo_gid *g;
		const char *v;
		snprintf(key, sizeof(key), "Port%uGID%u", nic->port, i);
		v = info(o, key);
		if (!mc_topo_parse_gid(v, strlen(v), raw))
			continue;
		g = mc_topo_push(&nic->gid, &nic->gid_n, sizeof(*g));
		if (g == NULL) {
			r->nomem = true;
			return;
		}
		g->index = i;
		memcpy(g->raw, raw, sizeof(raw));
	}
}

/* The ports of an OpenFabrics device, as far as the file names them; one without a name for its state has one port. */
static void take_openfabrics(struct reader *r, hwloc_obj_t o)
{
	const char *guid = info(o, "NodeGUID");
	char key[32];

	for (uint32_t port = 1; port <= 32 && !r->nomem; port++) {
		struct mc_topo_nic *nic;
		const char *state, *lid;
		uint64_t v;
		snprintf(key, sizeof(key), "Port%uState", port);
		state = info(o, key);
		if (state[0] == '\0' && port > 1)
			continue;
		nic = push_nic(r, o, MC_TOPO_OPENFABRICS, port);
		if (nic == NULL)
			return;
		mc_topo_parse_state(state, strlen(state), &nic->state);
		mc_topo_parse_word(guid, strlen(guid), nic->guid, sizeof(nic->guid));
		snprintf(key, sizeof(key), "Port%uLID", port);
		lid = info(o, key);
		if (mc_topo_parse_u64(lid, strlen(lid), &v) && v <= UINT16_MAX) {
			nic->lid = (uint32_t)v;
			/* RoCE has no LID; a port that is not up has none yet. EFA has none and is neither. */
			if (v != 0)
				nic->link = MC_TOPO_LINK_INFINIBAND;
			else if (mc_topo_nic_live(nic) &&
				 (nic->pci == MC_TOPO_NONE || r->t->pci[nic->pci].vendor != 0x1d0f))
				nic->link = MC_TOPO_LINK_ETHERNET;
		}
		take_xml_gids(r, o, nic);
	}
}

static struct mc_topo_gpu *gpu_at(const struct mc_topo *t, uint32_t pci)
{
	for (uint32_t i = 0; i < t->gpu_n; i++) {
		if (t->gpu[i].pci == pci)
			return &t->gpu[i];
	}
	return NULL;
}

/*
 * Accelerators: what has a CUDA, ROCm, ... device, any processing accelerator, and display controllers of makers of
 * accelerators. The VGA chip of a server's management controller has no memory that anybody transfers.
 */
static bool is_gpu(const struct mc_topo_pci *p)
{
	if (p->class_id >> 8 == 0x12)
		return true;
	if (p->class_id >> 8 != 0x03)
		return false;
	return p->vendor == 0x10de || p->vendor == 0x1002 || (p->vendor == 0x8086 && p->class_id != 0x0300);
}

static bool add_gpu(struct reader *r, uint32_t pci)
{
	struct mc_topo_gpu *g = gpu_at(r->t, pci);

	if (g != NULL)
		return true;
	g = mc_topo_push(&r->t->gpu, &r->t->gpu_n, sizeof(*g));
	if (g == NULL) {
		r->nomem = true;
		return false;
	}
	g->pci = pci;
	return true;
}

static bool makes_gpu(hwloc_obj_t o)
{
	return o->attr->osdev.type == HWLOC_OBJ_OSDEV_COPROC || strncmp(o->name, "nvml", 4) == 0 ||
	       strncmp(o->name, "rsmi", 4) == 0;
}

/* First the names that CUDA and ROCm users know, then whatever comes first. */
static void name_gpu(const struct mc_topo *t, struct mc_topo_gpu *g)
{
	static const char *const best[] = {"cuda", "rsmi"};

	mc_topo_copy(g->name, sizeof(g->name), g->osdev_n > 0 ? g->osdev[0] : t->pci[g->pci].busid);
	for (size_t k = 0; k < MC_ARRAY_LEN(best); k++) {
		for (uint32_t i = 0; i < g->osdev_n; i++) {
			if (strncmp(g->osdev[i], best[k], 4) == 0) {
				mc_topo_copy(g->name, sizeof(g->name), g->osdev[i]);
				return;
			}
		}
	}
}

static void take_gpus(struct reader *r)
{
	hwloc_obj_t o = NULL;

	for (uint32_t i = 0; i < r->t->pci_n && !r->nomem; i++) {
		if (is_gpu(&r->t->pci[i]) && !add_gpu(r, i))
			return;
	}
	while ((o = hwloc_get_next_osdev(r->hw, o)) != NULL) {
		uint32_t pci = pci_of(r, o);
		if (o->name != NULL && pci != MC_TOPO_NONE && makes_gpu(o) && !add_gpu(r, pci))
			return;
	}
	o = NULL;
	while ((o = hwloc_get_next_osdev(r->hw, o)) != NULL) {
		uint32_t pci = pci_of(r, o);
		struct mc_topo_gpu *g = pci != MC_TOPO_NONE ? gpu_at(r->t, pci) : NULL;
		if (g != NULL && o->name != NULL && g->osdev_n < MC_TOPO_OSDEV_MAX)
			mc_topo_copy(g->osdev[g->osdev_n++], sizeof(g->osdev[0]), o->name);
	}
	for (uint32_t i = 0; i < r->t->gpu_n; i++)
		name_gpu(r->t, &r->t->gpu[i]);
}

/* An interface on the same PCI device tells the link layer of a port that says nothing itself. */
static void borrow_link(struct mc_topo *t)
{
	for (uint32_t i = 0; i < t->nic_n; i++) {
		struct mc_topo_nic *nic = &t->nic[i];
		if (nic->kind != MC_TOPO_OPENFABRICS || nic->link != MC_TOPO_LINK_UNKNOWN || nic->pci == MC_TOPO_NONE)
			continue;
		for (uint32_t k = 0; k < t->nic_n && nic->link == MC_TOPO_LINK_UNKNOWN; k++) {
			if (t->nic[k].kind == MC_TOPO_NETWORK && t->nic[k].pci == nic->pci)
				nic->link = t->nic[k].link;
		}
	}
}

static mc_status_t take_all(struct reader *r, const char *name, char *err, size_t err_len)
{
	hwloc_obj_t o = NULL;
	mc_status_t s = take_nodes_all(r, name, err, err_len);

	if (s != MC_OK)
		return s;
	r->t->packages = (uint32_t)hwloc_get_nbobjs_by_type(r->hw, HWLOC_OBJ_PACKAGE);
	r->t->cores = (uint32_t)hwloc_get_nbobjs_by_type(r->hw, HWLOC_OBJ_CORE);
	r->t->pus = (uint32_t)hwloc_get_nbobjs_by_type(r->hw, HWLOC_OBJ_PU);
	take_bridges(r);
	take_pcis(r);
	take_gpus(r);
	while (!r->nomem && (o = hwloc_get_next_osdev(r->hw, o)) != NULL) {
		if (o->name == NULL || o->name[0] == '\0')
			continue;
		if (o->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS)
			take_openfabrics(r, o);
		else if (o->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK)
			take_interface(r, o);
	}
	if (r->nomem)
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no memory for the topology");
	borrow_link(r->t);
	return MC_OK;
}

/* Sources of a live machine that cost much and tell us nothing; the names of GPUs only where they are asked for. */
static void leave_out(hwloc_topology_t hw, bool gpu_names)
{
	static const char *const component[] = {"opencl", "gl", "levelzero", "cuda", "nvml", "rsmi"};
	size_t n = gpu_names ? 3 : MC_ARRAY_LEN(component);

	/* One that this hwloc does not know is none that it would ask: nothing to report. */
	for (size_t i = 0; i < n; i++)
		hwloc_topology_set_components(hw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, component[i]);
}

mc_status_t mc_topo_read_hwloc(struct mc_topo *t, const struct mc_topo_input *in, char *err, size_t err_len)
{
	struct reader r = {.t = t};
	mc_status_t s;

	if (in->xml != NULL && (in->len == 0 || in->len > MC_TOPO_XML_MAX))
		return mc_topo_fail(MC_ERR_INVAL, err, err_len, "%s %s", in->name,
				    in->len == 0 ? "is empty" : "is too large");
	if (hwloc_topology_init(&r.hw) != 0)
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "hwloc: %s", strerror(errno));
	/* Without this all PCI devices, NICs and GPUs are left out. */
	hwloc_topology_set_io_types_filter(r.hw, HWLOC_TYPE_FILTER_KEEP_ALL);
	if (in->xml == NULL)
		leave_out(r.hw, in->gpu_names);
	else if (hwloc_topology_set_xmlbuffer(r.hw, in->xml, (int)in->len) != 0) {
		s = mc_topo_fail(MC_ERR_INVAL, err, err_len, "%s is not an hwloc XML file", in->name);
		goto undo_hw;
	}
	if (hwloc_topology_load(r.hw) != 0) {
		s = in->xml != NULL ? mc_topo_fail(MC_ERR_INVAL, err, err_len,
						   "hwloc cannot load %s: it is damaged, or no topology", in->name)
				    : mc_topo_fail(MC_ERR_INVAL, err, err_len,
						   "hwloc cannot find this machine's topology; if HWLOC_XMLFILE is "
						   "set, is it right?");
		goto undo_hw;
	}
	t->live = in->xml == NULL && hwloc_topology_is_thissystem(r.hw) != 0;
	if (in->xml != NULL)
		snprintf(t->source, sizeof(t->source), "file %s", in->name);
	else
		mc_topo_copy(t->source, sizeof(t->source),
			     t->live ? "this machine" : "the file that HWLOC_XMLFILE names");
	s = take_all(&r, t->source, err, err_len);
undo_hw:
	hwloc_topology_destroy(r.hw);
	return s;
}
