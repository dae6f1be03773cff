/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * print_k8s.c - one pod on one node that runs mcrun with all roles: the network and the names of the node (RDMA's GIDs
 * belong to interfaces of the host), the capability to lock memory, a /dev/shm that is large enough.
 */
#include "print.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* A string as YAML and JSON both read it. Bytes that are no UTF-8 cannot stand in YAML. */
static void yaml_string(const char *s, FILE *to)
{
	(void)fputc('"', to);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			(void)fprintf(to, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			(void)fprintf(to, "\\u%04x", c);
		else
			(void)fputc(c, to);
	}
	(void)fputc('"', to);
}

static bool is_utf8(const char *s)
{
	char *copy = mc_xstrdup(s);

	for (char *c = copy; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
	char *clean = mc_xstrdup(copy);
	mc_text_clean(clean);
	bool same = strcmp(copy, clean) == 0;
	free(copy);
	free(clean);
	return same;
}

/* "mcperf", or what the program's name leaves of letters, digits and dashes: the name of a Kubernetes object. */
static void object_name(const struct mc_job *job, char *out, size_t len)
{
	const char *slash = strrchr(job->role[0].path, '/'), *s = slash == NULL ? job->role[0].path : slash + 1;
	size_t n = 0;

	n += (size_t)snprintf(out, len, "mc-");
	for (; *s != '\0' && n + 1 < len && n < 40; s++)
		if (isalnum((unsigned char)*s) || (*s == '-' && out[n - 1] != '-'))
			out[n++] = (char)tolower((unsigned char)*s);
	while (n > 2 && out[n - 1] == '-')
		n--;
	out[n] = '\0';
	if (n <= 2)
		(void)snprintf(out, len, "mc-job");
}

static void print_resources(const struct mc_job *job, FILE *to)
{
	bool rdma = false;

	(void)fputs("          resources:\n"
		    "            limits:\n",
		    to);
	for (size_t i = 0; i < job->resource.n; i++) {
		size_t len = strcspn(job->resource.v[i], "=");
		const char *amount = job->resource.v[i] + len + 1;

		if (len == 3 && strncmp(job->resource.v[i], "shm", 3) == 0)
			continue; /* the size of a volume, below */
		const char *slash = memchr(job->resource.v[i], '/', len);
		rdma = rdma || (slash != NULL && strncmp(slash, "/gpu=", 5) != 0);
		(void)fprintf(to, "              %.*s: \"%s\"\n", (int)len, job->resource.v[i], amount);
	}
	if (!rdma)
		(void)fputs("              rdma/hca: \"1\"    # the name that the RDMA device plugin of the cluster "
			    "offers\n",
			    to);
	if (mc_print_resource(job, "memory") == NULL)
		(void)fputs("              memory: \"64Gi\"    # pools + /dev/shm + 2Gi\n", to);
}

static void print_volumes(const struct mc_job *job, FILE *to)
{
	const char *shm = mc_print_resource(job, "shm");
	bool huge = mc_print_resource(job, "hugepages-2Mi") != NULL || mc_print_resource(job, "hugepages-1Gi") != NULL;

	(void)fprintf(to,
		      "          volumeMounts:\n"
		      "            - name: shm\n"
		      "              mountPath: /dev/shm\n"
		      "%s"
		      "      volumes:\n"
		      "        - name: shm\n"
		      "          emptyDir:\n"
		      "            medium: Memory\n"
		      "            sizeLimit: \"%s\"\n"
		      "%s",
		      huge ? "            - name: huge\n              mountPath: /dev/hugepages\n" : "",
		      shm != NULL ? shm : "16Gi",
		      huge ? "        - name: huge\n          emptyDir:\n            medium: HugePages\n" : "");
}

int mc_print_k8s(const struct mc_job *job, FILE *to, struct mc_err *err)
{
	struct mc_strv words = {0};
	char name[64];

	mc_print_command(job, &words);
	for (size_t i = 0; i < words.n; i++)
		if (!is_utf8(words.v[i])) {
			mc_strv_free(&words);
			return mc_err_set(err, "an argument of the job is not UTF-8 and cannot stand in YAML");
		}
	object_name(job, name, sizeof(name));
	(void)fprintf(to,
		      "# Printed by mcrun --print k8s. One pod with all %u ranks on one node; check it there with "
		      "mcinfo doctor --for k8s.\n"
		      "apiVersion: batch/v1\n"
		      "kind: Job\n"
		      "metadata:\n"
		      "  name: %s\n"
		      "spec:\n"
		      "  backoffLimit: 0\n"
		      "  template:\n"
		      "    metadata:\n"
		      "      labels:\n"
		      "        app: %s\n"
		      "    spec:\n"
		      "      restartPolicy: Never\n"
		      "      hostNetwork: true\n"
		      "      dnsPolicy: ClusterFirstWithHostNet\n"
		      "      containers:\n"
		      "        - name: mcrun\n"
		      "          image: ",
		      job->rank_n, name, name);
	yaml_string(job->image != NULL ? job->image : "mc:latest", to);
	(void)fputs("\n          command:\n", to);
	for (size_t i = 0; i < words.n; i++) {
		(void)fputs("            - ", to);
		yaml_string(words.v[i], to);
		(void)fputc('\n', to);
	}
	(void)fputs("          securityContext:\n"
		    "            privileged: false\n"
		    "            runAsUser: 0    # the capability is effective for root only\n"
		    "            capabilities:\n"
		    "              add: [\"IPC_LOCK\", \"SYS_PTRACE\"]\n",
		    to);
	print_resources(job, to);
	print_volumes(job, to);
	mc_strv_free(&words);
	return ferror(to) ? mc_err_set(err, "cannot write the output") : 0;
}
