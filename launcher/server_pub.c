/* SPDX-License-Identifier: BSD-3-Clause */
#include "server_pub.h"
#include "text.h"

#include <pmix.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KEY_LIMIT   65536u
#define BYTES_LIMIT (64u << 20)

struct entry {
	pmix_pdata_t data;
	size_t bytes;
};

struct mc_pub {
	pthread_mutex_t lock; /* libpmix calls from its thread; nothing says that it has only one */
	struct entry *entry;
	size_t n, room, bytes;
};

struct mc_pub *mc_pub_create(void)
{
	struct mc_pub *pub = mc_xalloc(1, sizeof(*pub));

	(void)pthread_mutex_init(&pub->lock, NULL);
	return pub;
}

static struct entry *find(struct mc_pub *pub, const char *key)
{
	for (size_t i = 0; i < pub->n; i++)
		if (strcmp(pub->entry[i].data.key, key) == 0)
			return &pub->entry[i];
	return NULL;
}

/* What a value takes beyond its struct, for the limit: exact for what can be large. */
static size_t value_bytes(const pmix_value_t *v)
{
	if (v->type == PMIX_STRING)
		return v->data.string == NULL ? 0 : strlen(v->data.string);
	if (v->type == PMIX_BYTE_OBJECT || v->type == PMIX_COMPRESSED_STRING)
		return v->data.bo.size;
	return sizeof(*v);
}

static pmix_status_t add(struct mc_pub *pub, const pmix_proc_t *from, const pmix_info_t *info)
{
	size_t bytes = value_bytes(&info->value);

	if (find(pub, info->key) != NULL)
		return PMIX_ERR_DUPLICATE_KEY;
	if (pub->n == KEY_LIMIT || bytes > BYTES_LIMIT - pub->bytes)
		return PMIX_ERR_OUT_OF_RESOURCE;
	if (pub->n == pub->room) {
		pub->room = pub->room == 0 ? 64 : pub->room * 2;
		pub->entry = mc_xgrow(pub->entry, pub->room, sizeof(*pub->entry));
	}
	struct entry *e = &pub->entry[pub->n];
	memset(e, 0, sizeof(*e));
	e->data.proc = *from;
	PMIX_LOAD_KEY(e->data.key, info->key);
	e->bytes = bytes;
	pmix_status_t rc = PMIx_Value_xfer(&e->data.value, &info->value);
	if (rc != PMIX_SUCCESS)
		return rc;
	pub->bytes += bytes;
	pub->n++;
	return PMIX_SUCCESS;
}

pmix_status_t mc_pub_publish(struct mc_pub *pub, const pmix_proc_t *from, const pmix_info_t *info, size_t info_n)
{
	pmix_status_t rc = PMIX_SUCCESS;

	(void)pthread_mutex_lock(&pub->lock);
	for (size_t i = 0; i < info_n && rc == PMIX_SUCCESS; i++)
		if (strncmp(info[i].key, "pmix.", 5) != 0) /* those are directives, not data */
			rc = add(pub, from, &info[i]);
	(void)pthread_mutex_unlock(&pub->lock);
	return rc;
}

pmix_status_t mc_pub_lookup(struct mc_pub *pub, char **keys, pmix_pdata_t **data_out, size_t *n_out)
{
	size_t want = 0, n = 0;
	pmix_pdata_t *data;

	while (keys != NULL && keys[want] != NULL)
		want++;
	if (want == 0)
		return PMIX_ERR_BAD_PARAM;
	PMIX_PDATA_CREATE(data, want);
	if (data == NULL)
		return PMIX_ERR_NOMEM;
	(void)pthread_mutex_lock(&pub->lock);
	for (size_t i = 0; i < want; i++) {
		const struct entry *e = find(pub, keys[i]);

		if (e == NULL)
			continue;
		data[n].proc = e->data.proc;
		PMIX_LOAD_KEY(data[n].key, e->data.key);
		if (PMIx_Value_xfer(&data[n].value, &e->data.value) == PMIX_SUCCESS)
			n++;
	}
	(void)pthread_mutex_unlock(&pub->lock);
	if (n == 0) {
		PMIX_PDATA_FREE(data, want);
		return PMIX_ERR_NOT_FOUND;
	}
	*data_out = data; /* entries from n on are empty and own nothing */
	*n_out = n;
	return n == want ? PMIX_SUCCESS : PMIX_ERR_PARTIAL_SUCCESS;
}

static bool wanted(char **keys, const char *key)
{
	if (keys == NULL)
		return true;
	for (; *keys != NULL; keys++)
		if (strcmp(*keys, key) == 0)
			return true;
	return false;
}

pmix_status_t mc_pub_unpublish(struct mc_pub *pub, const pmix_proc_t *from, char **keys)
{
	(void)pthread_mutex_lock(&pub->lock);
	for (size_t i = 0; i < pub->n;) {
		struct entry *e = &pub->entry[i];

		if (e->data.proc.rank != from->rank || !wanted(keys, e->data.key)) {
			i++;
			continue;
		}
		pub->bytes -= e->bytes;
		PMIX_VALUE_DESTRUCT(&e->data.value);
		*e = pub->entry[--pub->n];
	}
	(void)pthread_mutex_unlock(&pub->lock);
	return PMIX_SUCCESS;
}
