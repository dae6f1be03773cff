/* SPDX-License-Identifier: BSD-3-Clause */
/* config_impl.h - between config.c and config_file.c only. */
#ifndef MC_CONFIG_IMPL_H
#define MC_CONFIG_IMPL_H

#include <stddef.h>

#include "mc.h"
#include "util.h"

enum { MC_CONFIG_QUOTE_MAX = 160 };

/* Where the message of a fault goes. Only one is written: the first is what the user has to mend first. */
struct mc_config_err {
	char *buf;
	size_t len;
};

/* Always MC_ERR_CONFIG, so that a caller can say `return mc_config_fault(...)`. */
mc_status_t mc_config_fault(const struct mc_config_err *e, const char *fmt, ...) MC_PRINTF(2, 3);
/* Text from outside, fit for a message: control bytes as \xNN, cut with "..."; returns out. */
const char *mc_config_quote(const char *text, char out[MC_CONFIG_QUOTE_MAX]);

/* The members of a settings file as text, in its order; names and values are not checked yet. */
struct mc_config_item {
	char *name, *value;
	unsigned line; /* 0: not known */
};
struct mc_config_file {
	struct mc_config_item *item;
	size_t n;
};
mc_status_t mc_config_file_read(const char *path, struct mc_config_file *out, const struct mc_config_err *e);
void mc_config_file_free(struct mc_config_file *f);

#endif
