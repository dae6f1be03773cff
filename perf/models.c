/* SPDX-License-Identifier: BSD-3-Clause */
#include "models.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Where the figures were read: repository@commit:path. */
#define AIC     "ai-dynamo/aiconfigurator@095f58a51c4c:aic-core/src/aiconfigurator_core/model_configs/"
#define LMC     "LMCache/LMCache@0ac4671b15d9:examples/kv_cache_calculator/modelconfig.json"
#define MAXTEXT "AI-Hypercomputer/maxtext:"

/*
 * name, alias, layers, KV heads, head_dim, kv_lora_rank, qk_rope_head_dim, bytes per element, context; source.
 * Sliding windows are not modelled: every layer keeps every token, as serving engines do without a hybrid cache
 * manager. The element size of gpt-oss is assumed (bf16); DeepSeek-V3.2's indexer keys are a cache of their own, not
 * counted.
 */
static const struct perf_model models[] = {
	{"meta-llama/Llama-3.1-8B", "llama-3.1-8b", 32, 8, 128, 0, 0, 2, 131072,
	 AIC "meta-llama--Meta-Llama-3.1-8B_config.json"},
	{"meta-llama/Llama-3.1-70B", "llama-3.1-70b", 80, 8, 128, 0, 0, 2, 131072,
	 AIC "meta-llama--Meta-Llama-3.1-70B_config.json"},
	{"meta-llama/Llama-3.1-405B", "llama-3.1-405b", 126, 8, 128, 0, 0, 2, 131072,
	 AIC "meta-llama--Meta-Llama-3.1-405B_config.json"},
	{"Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b", 28, 4, 128, 0, 0, 2, 32768,
	 LMC " (layers, heads); context of the Instruct config"},
	{"Qwen/Qwen2.5-72B-Instruct", "qwen2.5-72b", 80, 8, 128, 0, 0, 2, 32768,
	 "config.json of a derived checkpoint that names Qwen2.5-72B-Instruct; Qwen2.5-72B-Instruct-GGUF README"},
	{"Qwen/Qwen3-8B", "qwen3-8b", 36, 8, 128, 0, 0, 2, 40960, AIC "Qwen--Qwen3-8B_config.json"},
	{"Qwen/Qwen3-32B", "qwen3-32b", 64, 8, 128, 0, 0, 2, 40960, AIC "Qwen--Qwen3-32B_config.json"},
	{"Qwen/Qwen3-235B-A22B", "qwen3-235b-a22b", 94, 4, 128, 0, 0, 2, 40960,
	 AIC "Qwen--Qwen3-235B-A22B_config.json"},
	{"mistralai/Mistral-7B-v0.1", "mistral-7b", 32, 8, 128, 0, 0, 2, 32768,
	 "config.json of Open-Orca/Mistral-7B-OpenOrca, which names Mistral-7B-v0.1; " LMC},
	{"mistralai/Mixtral-8x7B-v0.1", "mixtral-8x7b", 32, 8, 128, 0, 0, 2, 32768,
	 AIC "mistralai--Mixtral-8x7B-v0.1_config.json"},
	{"openai/gpt-oss-120b", "gpt-oss-120b", 36, 8, 64, 0, 0, 2, 131072, AIC "openai--gpt-oss-120b_config.json"},
	{"google/gemma-2-9b", "gemma-2-9b", 42, 8, 256, 0, 0, 2, 8192,
	 MAXTEXT "MaxText/utils/ckpt_conversion/utils/hf_model_configs.py@028cf2f3d227"},
	{"google/gemma-2-27b", "gemma-2-27b", 46, 16, 128, 0, 0, 2, 8192,
	 MAXTEXT "MaxText/utils/ckpt_conversion/utils/hf_model_configs.py@028cf2f3d227"},
	{"google/gemma-3-27b", "gemma-3-27b", 62, 16, 128, 0, 0, 2, 131072,
	 MAXTEXT "MaxText/configs/models/gemma3-27b.yml@22ca8e7b1c17"},
	{"deepseek-ai/DeepSeek-V2", "deepseek-v2", 60, 0, 0, 512, 64, 2, 163840,
	 MAXTEXT "MaxText/configs/models/deepseek2-236b.yml@202191eca1e5"},
	{"deepseek-ai/DeepSeek-V3", "deepseek-v3", 61, 0, 0, 512, 64, 2, 163840,
	 AIC "deepseek-ai--DeepSeek-V3_config.json"},
	{"deepseek-ai/DeepSeek-R1", "deepseek-r1", 61, 0, 0, 512, 64, 2, 163840,
	 AIC "deepseek-ai--DeepSeek-R1_config.json"},
	{"deepseek-ai/DeepSeek-V3.2", "deepseek-v3.2", 61, 0, 0, 512, 64, 2, 163840,
	 AIC "deepseek-ai--DeepSeek-V3.2_config.json"},
	{"moonshotai/Kimi-K2-Instruct", "kimi-k2", 61, 0, 0, 512, 64, 2, 131072,
	 AIC "moonshotai--Kimi-K2-Instruct_config.json"},
};

const struct perf_model *perf_model_get(size_t i)
{
	return i < sizeof(models) / sizeof(models[0]) ? &models[i] : NULL;
}

const struct perf_model *perf_model_find(const char *name)
{
	const struct perf_model *m;

	for (size_t i = 0; (m = perf_model_get(i)) != NULL; i++) {
		const char *slash = strchr(m->name, '/');
		if (strcasecmp(name, m->name) == 0 || strcasecmp(name, m->alias) == 0)
			return m;
		if (slash != NULL && strcasecmp(name, slash + 1) == 0)
			return m;
	}
	return NULL;
}

uint32_t perf_model_token_bytes(const struct perf_model *m, uint32_t dtype_bytes)
{
	uint32_t elem = dtype_bytes != 0 ? dtype_bytes : m->dtype_bytes;

	if (m->kv_heads == 0)
		return (m->latent_rank + m->rope_dim) * elem;
	return 2 * m->kv_heads * m->head_dim * elem;
}

void perf_model_list(char *buf, size_t len)
{
	const struct perf_model *m;
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; (m = perf_model_get(i)) != NULL && at < len; i++) {
		int n = snprintf(buf + at, len - at, "%s%s", i == 0 ? "" : ", ", m->alias);
		if (n < 0)
			return;
		at += (size_t)n;
	}
}
