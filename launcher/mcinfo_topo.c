/* SPDX-License-Identifier: BSD-3-Clause */
/* mcinfo_topo.c - mcinfo topo: the machine as a matrix, JSON or a picture, and which NICs are chosen. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mcinfo.h"
#include "topo.h"

static const char help[] =
	"usage: mcinfo topo [options]\n"
	"\n"
	"  --xml FILE          the machine in an hwloc XML file (lstopo FILE.xml makes one) instead of this one\n"
	"  --root DIR          read /sys and /proc of ports and interfaces below DIR, e.g. a recorded tree\n"
	"  --nics SPEC         only these NICs (a,b:1), all but these (^a,b), or per memory (cuda0=a+b,numa1=c:1);\n"
	"                      default for this machine: the setting MC_DEVICE\n"
	"  --local-rank N      the choice of rank N of a host (0): ranks begin at different ones of equally near NICs\n"
	"  --json              for programs\n"
	"  --dot               the tree for graphviz\n"
	"  --plot FILE.png     the matrix as a picture, by gnuplot, or else the tree by graphviz\n"
	"  --help\n";

struct opts {
	const char *xml, *root, *nics, *plot;
	uint32_t local_rank;
	bool json, dot;
};

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct opts *o)
{
	static const struct option longs[] = {{"xml", required_argument, NULL, 'x'},
					      {"root", required_argument, NULL, 'r'},
					      {"nics", required_argument, NULL, 'n'},
					      {"local-rank", required_argument, NULL, 'l'},
					      {"json", no_argument, NULL, 'j'},
					      {"dot", no_argument, NULL, 'd'},
					      {"plot", required_argument, NULL, 'p'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 'x':
			o->xml = optarg;
			break;
		case 'r':
			o->root = optarg;
			break;
		case 'n':
			o->nics = optarg;
			break;
		case 'l':
			if (!mc_info_number(optarg, &o->local_rank)) {
				fprintf(stderr, "mcinfo: --local-rank %s: not a number\n", optarg);
				return 2;
			}
			break;
		case 'j':
			o->json = true;
			break;
		case 'd':
			o->dot = true;
			break;
		case 'p':
			o->plot = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return mc_info_flush();
		default:
			fprintf(stderr, "try mcinfo topo --help\n");
			return 2;
		}
	}
	if (optind < argc || o->json + o->dot + (o->plot != NULL) > 1) {
		fprintf(stderr, "mcinfo: %s; try mcinfo topo --help\n",
			optind < argc ? "topo takes options only" : "--json, --dot and --plot exclude each other");
		return 2;
	}
	return -1;
}

static int no_program(void)
{
	fprintf(stderr, "mcinfo: --plot needs gnuplot or graphviz; neither is installed. Install the package "
			"gnuplot-nox (Debian,"
			" Ubuntu), gnuplot (Fedora, SUSE) or graphviz, or use --dot and draw elsewhere\n");
	return 1;
}

/* The picture is made beside its place and moved there, so that a failure leaves no half picture. */
static int plot(const struct mc_topo *t, const struct mc_topo_show *show, const char *path)
{
	char *gnuplot[] = {(char *)"gnuplot", (char *)"-", NULL}, *dot[] = {(char *)"dot", (char *)"-Tpng", NULL};
	char *text = NULL, part[4096];
	size_t len = 0;
	enum mc_info_run r;
	bool matrix = t->nic_n > 0;
	FILE *f;

	for (int tries = 0; tries < 2; tries++) {
		if (snprintf(part, sizeof(part), "%s.%d.part", path, (int)getpid()) >= (int)sizeof(part)) {
			fprintf(stderr, "mcinfo: --plot %s: the name is too long\n", path);
			return 1;
		}
		f = open_memstream(&text, &len);
		if (f == NULL || !(matrix ? mc_topo_print_gnuplot(t, show, part, f) : mc_topo_print_dot(t, show, f)) ||
		    fclose(f) != 0) {
			fprintf(stderr, "mcinfo: no memory for the picture\n");
			return 1;
		}
		r = mc_info_run(matrix ? gnuplot : dot, text, len, matrix ? NULL : part);
		free(text);
		if (r != MC_INFO_RUN_ABSENT || !matrix)
			break;
		matrix = false;
	}
	if (r == MC_INFO_RUN_OK && rename(part, path) == 0)
		return 0;
	if (r == MC_INFO_RUN_OK)
		fprintf(stderr, "mcinfo: cannot write %s: %s\n", path, strerror(errno));
	unlink(part);
	return r == MC_INFO_RUN_ABSENT ? no_program() : 1;
}

/* What stands at the picture's place is replaced: let it be a file, and not a device that happens to have that name. */
static bool plot_place_ok(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0 || S_ISREG(st.st_mode))
		return true;
	fprintf(stderr, "mcinfo: --plot %s: this is not a file that could be replaced; give the name of a new one\n",
		path);
	return false;
}

static int show_topo(const struct mc_topo *t, const struct opts *o, const struct mc_topo_show *show)
{
	bool ok;

	if (o->plot != NULL)
		return plot_place_ok(o->plot) ? plot(t, show, o->plot) : 1;
	if (o->json)
		ok = mc_topo_print_json(t, show, stdout);
	else if (o->dot)
		ok = mc_topo_print_dot(t, show, stdout);
	else
		ok = mc_topo_print_text(t, show, stdout);
	if (!ok)
		fprintf(stderr, "mcinfo: no memory, or the output cannot be written\n");
	return ok ? mc_info_flush() : 1;
}

int mc_info_topo(int argc, char **argv)
{
	struct opts o = {.xml = NULL};
	struct mc_topo_src src = {.gpu_names = true, .isolate = true};
	struct mc_topo_policy policy;
	struct mc_topo_show show = {.policy = &policy};
	struct mc_topo *t;
	char err[2048], device[1024] = "";
	int rc = parse(argc, argv, &o);

	if (rc >= 0)
		return rc;
	src.xml_file = mc_info_xml(o.xml);
	src.root = o.root;
	/* The setting is about this machine; the file of another one has other names. */
	if (o.nics == NULL && o.xml == NULL && !mc_info_setting("MC_DEVICE", device, sizeof(device)))
		return 1;
	src.loopback = device[0] != '\0'; /* by name it may be used */
	if (mc_topo_load(&src, &t, err, sizeof(err)) != MC_OK) {
		fprintf(stderr, "mcinfo: %s\n", err);
		return 1;
	}
	rc = 1;
	if (mc_topo_policy_parse(t, o.nics != NULL ? o.nics : device, &policy, err, sizeof(err)) != MC_OK) {
		fprintf(stderr, "mcinfo: %s: %s\n", o.nics != NULL ? "--nics" : "MC_DEVICE", err);
		rc = 2;
		goto undo_topo;
	}
	show.local_rank = o.local_rank;
	rc = show_topo(t, &o, &show);
	mc_topo_policy_free(&policy);
undo_topo:
	mc_topo_free(t);
	return rc;
}
