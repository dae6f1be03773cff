/* SPDX-License-Identifier: BSD-3-Clause */
/* models.h - shapes of the KV caches of public models; facts only, each with the place it was read from. */
#ifndef PERF_MODELS_H
#define PERF_MODELS_H

#include <stddef.h>
#include <stdint.h>

struct perf_model {
	const char *name;  /* as published, "meta-llama/Llama-3.1-8B" */
	const char *alias; /* short, "llama-3.1-8b" */
	uint32_t layers;
	uint32_t kv_heads; /* grouped-query attention; 0: MLA */
	uint32_t head_dim;
	uint32_t latent_rank; /* MLA: kv_lora_rank */
	uint32_t rope_dim;    /* MLA: qk_rope_head_dim */
	uint32_t dtype_bytes; /* of one element as published */
	uint32_t context;     /* tokens */
	const char *source;
};

/* Number i of the table; NULL: no more. */
const struct perf_model *perf_model_get(size_t i);
/* By published name, its part after the slash, or alias; letter case does not matter. NULL: unknown. */
const struct perf_model *perf_model_find(const char *name);
/* Bytes of KV that one token takes in one layer, at dtype_bytes per element (0: the model's own). */
uint32_t perf_model_token_bytes(const struct perf_model *m, uint32_t dtype_bytes);
/* "a, b, c": the aliases, cut to len. */
void perf_model_list(char *buf, size_t len);

#endif
