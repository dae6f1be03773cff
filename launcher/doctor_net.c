/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_net.c - checks of counters, traffic classes, names, proxies, ports and interfaces. */
#include "doctor.h"
#include "sysparse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define IB "/sys/class/infiniband"

static bool counter(struct mc_doctor *d, const struct mc_doc_port *p, const char *name, uint64_t *out)
{
	static const char *const dir[] = {"hw_counters", "counters"};
	char text[64];

	for (int i = 0; i < 2; i++)
		if (mc_sysroot_readf(d->root, text, sizeof(text), IB "/%s/ports/%u/%s/%s", d->dev[p->dev].name, p->num,
				     dir[i], name) == 0 &&
		    mc_sys_u64(text, out))
			return true;
	return false;
}

void mc_doc_roce_loss(struct mc_doctor *d, struct mc_doc_result *r)
{
	static const char *const loss[] = {"out_of_sequence",    "packet_seq_err",   "local_ack_timeout_err",
					   "rnr_nak_retry_err",  "symbol_error",     "port_rcv_errors",
					   "port_xmit_discards", "roce_adp_retrans", "link_error_recovery"};
	uint32_t ports = 0;

	mc_doc_read(r, IB "/*/ports/*/{hw_counters,counters}");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];
		uint64_t packets = 0, sum = 0, v;
		char worst[256] = "";

		if (!mc_doc_port_live(p) ||
		    (!counter(d, p, "port_xmit_packets", &packets) && !counter(d, p, "symbol_error", &v)))
			continue;
		ports++;
		for (size_t k = 0; k < sizeof(loss) / sizeof(loss[0]); k++)
			if (counter(d, p, loss[k], &v) && v > 0) {
				sum += v < UINT32_MAX ? v : UINT32_MAX;
				mc_doc_add(worst, sizeof(worst), " %s %" PRIu64, loss[k], v);
			}
		mc_doc_add(r->value, sizeof(r->value), "%s%s:%u %" PRIu64 " in %" PRIu64 " packets",
			   r->value[0] == '\0' ? "" : ", ", d->dev[p->dev].name, p->num, sum, packets);
		/* a handful since boot means nothing; one in ten thousand packets already halves a RoCE stream */
		if (sum > 100 && sum > packets / 10000) {
			mc_doc_set(r, MC_DOC_WARN, "%s:%u has lost or repeated much:%s", d->dev[p->dev].name, p->num,
				   worst);
			mc_doc_fix(r, "%s",
				   strcmp(p->link, "Ethernet") == 0
					   ? "mlnx_qos -i IFACE --trust dscp --pfc 0,0,0,1,0,0,0,0    # and the same "
					     "on the switch; watch: mcinfo watch"
					   : "check cables: iblinkinfo, ibqueryerrors; watch: mcinfo watch");
		}
		if (counter(d, p, "link_downed", &v) && v > 10)
			mc_doc_set(r, MC_DOC_WARN, "the link of %s:%u went down %" PRIu64 " times", d->dev[p->dev].name,
				   p->num, v);
	}
	if (ports == 0)
		mc_doc_set(r, MC_DOC_NA, "no active port has counters");
	else if (r->status == MC_DOC_WARN && r->fix[0] == '\0')
		mc_doc_fix(r, "replace the cable or transceiver; watch: mcinfo watch");
}

void mc_doc_traffic_class(struct mc_doctor *d, struct mc_doc_result *r)
{
	char first[64] = "", text[256];
	uint32_t n = 0;

	mc_doc_read(r, IB "/*/tc/1/traffic_class");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];

		if (strcmp(p->link, "Ethernet") != 0 || !mc_doc_port_live(p) ||
		    mc_sysroot_readf(d->root, text, sizeof(text), IB "/%s/tc/%u/traffic_class", d->dev[p->dev].name,
				     p->num) != 0)
			continue;
		char *nl = strchr(text, '\n');
		if (nl != NULL)
			*nl = '\0';
		mc_text_clean(text);
		mc_doc_add(r->value, sizeof(r->value), "%s%s %.40s", n == 0 ? "" : ", ", d->dev[p->dev].name,
			   text[0] == '\0' ? "not set" : text);
		if (n++ == 0) {
			(void)snprintf(first, sizeof(first), "%.60s", text);
		} else if (strncmp(first, text, 60) != 0) {
			mc_doc_set(r, MC_DOC_WARN,
				   "the RoCE devices have different traffic classes: only some get the lossless queue");
			mc_doc_fix(
				r,
				"echo 106 > " IB
				"/%s/tc/%u/traffic_class    # the same for all, as on the other hosts and the switch",
				d->dev[p->dev].name, p->num);
		}
	}
	if (n == 0)
		mc_doc_set(r, MC_DOC_NA, "no RoCE device says its traffic class (only the MLNX_OFED driver does)");
}

void mc_doc_rdma_traffic(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint64_t rdma = 0, tcp = 0, v;
	uint32_t n = 0;
	char text[64];

	mc_doc_read(r, IB "/*/ports/*/counters/port_xmit_data, /sys/class/net/*/statistics/tx_bytes");
	for (uint32_t i = 0; i < d->port_n; i++)
		if (mc_doc_port_live(&d->port[i]) && counter(d, &d->port[i], "port_xmit_data", &v)) {
			n++;
			rdma += v < UINT64_MAX / 1024 ? v * 4 : 0; /* the unit is four bytes */
		}
	for (size_t i = 0; i < d->net.n; i++)
		if (strcmp(d->net.v[i], "lo") != 0 &&
		    mc_sysroot_readf(d->root, text, sizeof(text), "/sys/class/net/%s/statistics/tx_bytes",
				     d->net.v[i]) == 0 &&
		    mc_sys_u64(text, &v) && v < UINT64_MAX / 1024)
			tcp += v;
	if (n == 0) {
		mc_doc_set(r, MC_DOC_NA, "no active port counts its data");
		return;
	}
	char a[32], b[32];
	mc_sys_bytes_text(rdma, a, sizeof(a));
	mc_sys_bytes_text(tcp, b, sizeof(b));
	mc_doc_value(r, "%s by RDMA ports, %s by interfaces since boot", a, b);
	if (rdma == 0 && tcp > UINT64_C(10) << 30) {
		mc_doc_set(r, MC_DOC_WARN,
			   "ports are active, but have never sent a byte, while interfaces sent %s: jobs have fallen "
			   "back to TCP",
			   b);
		mc_doc_fix(r, "export MC_TRANSPORT=rdma    # then what prevents RDMA is an error; during a job: mcinfo "
			      "watch");
	}
}

/* ---- names and ways ------------------------------------------------------------------------------------------------
 */

void mc_doc_host_name(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[1024], name[256] = "";
	uint32_t good = 0, loop = 0;
	int e = mc_sysroot_probe(d->root, "resolve", NULL, text, sizeof(text));

	mc_doc_read(r, "getaddrinfo(own host name)");
	if (e != 0) {
		mc_doc_set(r, MC_DOC_NA, "not tried: %s", strerror(e));
		return;
	}
	/* the first line is the name, then an address per line, or "error TEXT" */
	size_t len = strcspn(text, "\n");
	(void)snprintf(name, sizeof(name), "%.*s", (int)(len > 250 ? 250 : len), text);
	mc_doc_value(r, "%s:", name);
	for (const char *p = text + len; *p == '\n';) {
		p++;
		len = strcspn(p, "\n");
		if (len == 0)
			continue;
		mc_doc_add(r->value, sizeof(r->value), " %.*s", (int)(len > 60 ? 60 : len), p);
		if (strncmp(p, "127.", 4) == 0 || (len == 3 && strncmp(p, "::1", 3) == 0))
			loop++;
		else if (strncmp(p, "error", 5) != 0)
			good++;
		p += len;
	}
	if (good > 0)
		return;
	if (loop > 0)
		mc_doc_set(
			r, MC_DOC_FAIL,
			"the host name %s means the loopback address: other hosts that are told this name or address "
			"connect to themselves (ranks on this host alone do not care)",
			name);
	else
		mc_doc_set(r, MC_DOC_FAIL, "the host name %s does not resolve", name);
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d,
			       "echo \"ADDRESS $(hostname)\" >> /etc/hosts    # a routable address before the line "
			       "with 127.0.x.1",
			       "docker run --network=host --add-host=$(hostname):ADDRESS ...",
			       "hostNetwork: true\ndnsPolicy: ClusterFirstWithHostNet", NULL));
}

void mc_doc_proxy(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[512];
	int e = mc_sysroot_probe(d->root, "proxies", NULL, text, sizeof(text));

	mc_doc_read(r, "environment: http_proxy, https_proxy, all_proxy");
	if (e != 0) {
		mc_doc_set(r, MC_DOC_NA, "the environment was not recorded");
		return;
	}
	mc_text_clean(text);
	mc_doc_value(r, "%s", text[0] == '\0' ? "none set" : text);
	if (text[0] == '\0')
		return;
	mc_doc_set(r, MC_DOC_WARN,
		   "programs like etcdctl and curl go through a proxy (%s): it may answer instead of etcd; mc asks "
		   "etcd without one, unless MC_ETCD_PROXY names it",
		   text);
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d,
			       "export no_proxy=ETCD_HOST,$no_proxy    # or unset them for the job: env -u http_proxy "
			       "-u https_proxy mcrun ...",
			       NULL, "env: [{name: no_proxy, value: \"etcd.default.svc,.cluster.local\"}]", NULL));
}

void mc_doc_ports(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[256], used[64] = "";
	uint64_t lo = 0, hi = 0, inuse = 0, tw = 0;
	static const char path[] = "/proc/sys/net/ipv4/ip_local_port_range";
	int e = mc_sysroot_read(d->root, path, text, sizeof(text));

	if (mc_doc_unreadable(r, path, e))
		return;
	char *second = text + strcspn(text, " \t");
	if (*second != '\0')
		*second++ = '\0';
	if (!mc_sys_u64(text, &lo) || !mc_sys_u64(second, &hi) || lo > hi || hi > 65535) {
		mc_doc_senseless(r, path, text);
		return;
	}
	mc_doc_read(r, "%s, /proc/net/sockstat", path);
	char *stat = mc_sysroot_text(d->root, "/proc/net/sockstat", NULL);
	if (stat != NULL && mc_sys_field(stat, "TCP", text, sizeof(text))) {
		const char *p = strstr(text, "inuse "), *q = strstr(text, " tw ");

		inuse = p != NULL ? strtoull(p + 6, NULL, 10) : 0;
		tw = q != NULL ? strtoull(q + 4, NULL, 10) : 0;
		(void)snprintf(used, sizeof(used), ", %" PRIu64 " sockets, %" PRIu64 " in TIME_WAIT", inuse, tw);
	}
	free(stat);
	uint64_t n = hi - lo + 1;
	mc_doc_value(r, "%" PRIu64 " to %" PRIu64 "%s", lo, hi, used);
	if (n < 64)
		mc_doc_set(r, MC_DOC_FAIL, "only %" PRIu64 " ports are there for connections", n);
	else if (n < 4096)
		mc_doc_set(r, MC_DOC_WARN, "only %" PRIu64 " ports are there for connections", n);
	else if (inuse < UINT32_MAX && tw < UINT32_MAX && (inuse + tw) * 10 > n * 8)
		mc_doc_set(r, MC_DOC_WARN, "more than 80%% of the ports are taken");
	mc_doc_fix(r, "sysctl -w net.ipv4.ip_local_port_range='32768 60999'%s",
		   d->where == MC_DOC_BARE || d->where == MC_DOC_IN_SLURM
			   ? ""
			   : "    # on the host, or per pod: securityContext.sysctls");
}

void mc_doc_tcp_interface(struct mc_doctor *d, struct mc_doc_result *r)
{
	char addr[4096], state[64], one[128];
	uint32_t up = 0, with = 0;
	int e = mc_sysroot_probe(d->root, "addresses", NULL, addr, sizeof(addr));

	mc_doc_read(r, "/sys/class/net/*/operstate, getifaddrs()");
	for (size_t i = 0; i < d->net.n; i++) {
		const char *name = d->net.v[i];

		if (strcmp(name, "lo") == 0 || strlen(name) > 60 ||
		    mc_sysroot_readf(d->root, state, sizeof(state), "/sys/class/net/%s/operstate", name) != 0)
			continue;
		bool is_up = strcmp(state, "up") == 0 || strcmp(state, "unknown") == 0;
		bool has = e == 0 && mc_sys_field(addr, name, one, sizeof(one));
		up += is_up;
		with += is_up && (has || e != 0);
		if (is_up && strlen(r->value) < 300)
			mc_doc_add(r->value, sizeof(r->value), "%s%s%s%s", r->value[0] == '\0' ? "" : ", ", name,
				   has ? " " : "", has ? one : "");
	}
	if (with > 0)
		return;
	if (r->value[0] == '\0')
		mc_doc_value(r, "none but loopback");
	mc_doc_set(r, MC_DOC_FAIL,
		   up == 0 ? "no interface but loopback is up: other hosts cannot be reached"
			   : "no interface that is up has an IP address: other hosts cannot be reached");
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d, "ip link set IFACE up; ip addr add ADDRESS/PREFIX dev IFACE",
			       "docker run --network=host ...",
			       "hostNetwork: true    # or check the CNI: kubectl describe pod", NULL));
}
