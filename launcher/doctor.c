/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor.c - mcinfo doctor: the command. */
#include "doctor.h"
#include "sysparse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: mcinfo doctor [options]\n"
	"\n"
	"Check what transfers need here, and for what is wrong say why and what to do. docs/DOCTOR.md lists the "
	"checks.\n"
	"\n"
	"  --for rdma|tcp|slurm|container|k8s  what must work; decides what is a failure, and the form of the advice\n"
	"  --pool SIZE                         bytes of the KV pool per rank, e.g. 64G: memory and limits are held "
	"against it\n"
	"  --etcd URL                          ask this etcd for its health\n"
	"  --root DIR                          read a recorded tree instead of this machine\n"
	"  --record DIR                        copy what the checks read into a new directory, for a bug report\n"
	"  --json                              for programs\n"
	"\n"
	"Exit status: 0 all well, 1 warnings, 2 something that the asked-for mode cannot run with (or wrong usage).\n";

static int wrong(const struct mc_err *err)
{
	(void)fprintf(stderr, "mcinfo: doctor: %s\n", err->text);
	return 2;
}

static int take_mode(const char *value, enum mc_doc_mode *mode, struct mc_err *err)
{
	static const char *const names[] = {"rdma", "tcp", "slurm", "container", "k8s"};
	char hint[80];

	for (int i = 0; i < 5; i++)
		if (strcmp(value, names[i]) == 0) {
			*mode = (enum mc_doc_mode)(i + 1);
			return 0;
		}
	mc_text_hint(hint, sizeof(hint), value, names, 5);
	return mc_err_set(err, "--for is \"%.60s\", but must be rdma, tcp, slurm, container or k8s%s", value, hint);
}

static int take_option(struct mc_doc_options *o, const char *name, const char *value, struct mc_err *err)
{
	if (strcmp(name, "--for") == 0)
		return take_mode(value, &o->mode, err);
	if (strcmp(name, "--pool") == 0) {
		if (!mc_sys_size(value, &o->pool) || o->pool == 0)
			return mc_err_set(err, "--pool is \"%.60s\", but must be a size such as 512M or 64G", value);
		return 0;
	}
	if (*value == '\0')
		return mc_err_set(err, "%s is empty", name);
	*(strcmp(name, "--root") == 0 ? &o->root : strcmp(name, "--record") == 0 ? &o->record : &o->etcd) = value;
	return 0;
}

/* 0: go on; 1: help was printed; -1: sentence written. */
static int parse(int argc, char **argv, struct mc_doc_options *o, struct mc_err *err)
{
	static const char *const names[] = {"--for", "--pool", "--etcd", "--root", "--record", "--json", "--help"};
	char hint[80];

	for (int at = 1; at < argc; at++) {
		char *word = argv[at];
		size_t len = strcspn(word, "="), i = 0;

		while (i < 7 && !(strlen(names[i]) == len && strncmp(names[i], word, len) == 0))
			i++;
		if (strcmp(word, "-h") == 0 || (i == 6 && word[len] == '\0')) {
			(void)fputs(help, stdout);
			return 1;
		}
		if (i == 5 && word[len] == '\0') {
			o->json = true;
			continue;
		}
		if (i >= 5) {
			mc_text_hint(hint, sizeof(hint), word, names, 7);
			return mc_err_set(err, "unknown option %.100s%s; see mcinfo doctor --help", word, hint);
		}
		if (word[len] != '=' && at + 1 == argc)
			return mc_err_set(err, "option %s needs a value", names[i]);
		if (take_option(o, names[i], word[len] == '=' ? word + len + 1 : argv[++at], err) != 0)
			return -1;
	}
	if (o->root != NULL && o->record != NULL)
		return mc_err_set(err, "--root and --record exclude each other: what is recorded is this machine");
	return 0;
}

static int diagnose(const struct mc_doc_options *o, struct mc_err *err)
{
	struct mc_doctor d = {.mode = o->mode, .pool = o->pool, .etcd = o->etcd};
	struct mc_doc_result *result = mc_xalloc(mc_doc_check_n, sizeof(*result));
	int code = 2;

	if (mc_sysroot_open(o->root, o->record, mc_doctor_probe, &d.root, err) != 0) {
		free(result);
		return -1;
	}
	mc_doctor_gather(&d);
	mc_doctor_run(&d, result);
	if (o->json)
		mc_doctor_print_json(result, stdout);
	else
		mc_doctor_print_text(&d, result, stdout);
	code = mc_doctor_code(result);
	if (o->record != NULL && mc_sysroot_record_error(d.root) != 0) {
		(void)fprintf(stderr, "mcinfo: doctor: the record in %s is not complete: %s\n", o->record,
			      strerror(mc_sysroot_record_error(d.root)));
		code = 2;
	} else if (o->record != NULL) {
		(void)fprintf(stderr,
			      "mcinfo: doctor: recorded %u files in %s; read them with mcinfo doctor --root %s\n",
			      mc_sysroot_recorded(d.root), o->record, o->record);
	}
	mc_doctor_free(&d);
	free(result);
	return code;
}

int mcinfo_doctor(int argc, char **argv)
{
	struct mc_doc_options o = {.mode = MC_DOC_ANY};
	struct mc_err err;
	int code = parse(argc, argv, &o, &err);

	if (code < 0)
		return wrong(&err);
	if (code == 0) {
		code = diagnose(&o, &err);
		if (code < 0)
			return wrong(&err);
	} else {
		code = 0;
	}
	if (fflush(stdout) != 0) {
		(void)fprintf(stderr, "mcinfo: doctor: cannot write the output: %s\n", strerror(errno));
		return 2;
	}
	return code;
}
