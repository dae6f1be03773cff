/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_config_file.c - any bytes as a file of settings: a valid configuration, or a message fit to print. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok, const char *what, const char *detail)
{
	if (!ok) {
		fprintf(stderr, "fuzz_config_file: %s: %s\n", what, detail);
		abort();
	}
}

static void check_message(const char *err)
{
	must(err[0] != '\0', "an error without a message", "");
	for (const char *p = err; *p != '\0'; p++)
		must((unsigned char)*p >= 0x20 && *p != 0x7f, "control character in a message", err);
}

/* Ranges as in config_defs.h, written down a second time: a bound that is not enforced shows here. */
static void check_config(const struct mc_config *c)
{
	must(c->backend >= MC_BACKEND_AUTO && c->backend <= MC_BACKEND_VERBS, "range", "MC_BACKEND");
	must(c->transport >= MC_TRANSPORT_AUTO && c->transport <= MC_TRANSPORT_RDMA, "range", "MC_TRANSPORT");
	must(c->progress == MC_PROGRESS_THREAD || c->progress == MC_PROGRESS_MANUAL, "range", "MC_PROGRESS");
	must(c->log >= MC_LOG_ERROR && c->log <= MC_LOG_DEBUG, "range", "MC_LOG");
	must(c->init_timeout >= 1000000 && c->init_timeout <= INT64_C(3600000000000), "range", "MC_INIT_TIMEOUT");
	must(c->spin >= 0 && c->spin <= 1000000000, "range", "MC_SPIN");
	must(c->pack_size >= 4096 && c->pack_size <= 8u << 20, "range", "MC_PACK_SIZE");
	must(c->note_queue >= 16 && c->note_queue <= 16777216, "range", "MC_NOTE_QUEUE");
	must((c->shm_ring & (c->shm_ring - 1)) == 0 && c->shm_ring >= 16384, "range", "MC_SHM_RING");
	must(c->shm_cma == 0 || c->shm_cma == 1, "range", "MC_SHM_CMA");
	must(strlen(c->role) < MC_ROLE_MAX && strlen(c->host) < MC_NAME_MAX, "range", "MC_ROLE, MC_HOST");
	must(c->job_key[0] == '\0' || strlen(c->job_key) == 64, "range", "MC_JOB_KEY");
}

/* The listing must agree with the loading. */
static void check_listing(mc_status_t loaded)
{
	char buf[512];
	struct mc_setting s;
	mc_status_t got;
	int bad_n = 0;

	for (uint32_t i = 0; (got = mc_setting_get(i, &s, buf, sizeof(buf))) != MC_ERR_NOENT; i++) {
		must(got == MC_OK || got == MC_ERR_CONFIG, "status of a setting", s.name);
		bad_n += got != MC_OK;
	}
	must((loaded == MC_OK) == (bad_n == 0), "listing and loading disagree", mc_status_name(loaded));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	char err[512] = "", path[32];
	struct mc_config cfg;
	mc_status_t s;

	if (fd < 0) {
		fd = memfd_create("settings", MFD_CLOEXEC);
		must(fd >= 0, "memfd_create", "");
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		setenv("MC_CONFIG", path, 1);
	}
	must(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "writing the input", "");
	s = mc_config_load(&cfg, err, sizeof(err));
	if (s == MC_OK) {
		check_config(&cfg);
	} else {
		must(s == MC_ERR_CONFIG, "undocumented status", mc_status_name(s));
		check_message(err);
		must(cfg.role == NULL && cfg.job_key == NULL && cfg.pack_size == 0, "left over after an error", err);
	}
	mc_config_free(&cfg);
	if (size % 64 == 0) /* a second reading of the file for each setting: not every time */
		check_listing(s);
	return 0;
}
