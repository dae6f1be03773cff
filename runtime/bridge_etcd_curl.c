/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_curl.c - loading libcurl; see bridge_etcd_curl.h. */
#include "bridge_etcd_curl.h"

#include <dlfcn.h>
#include <string.h>

#include "log.h"

#define LIBRARY "libcurl.so.4"

/* ISO C knows no conversion from dlsym's object pointer to a function: POSIX says that their bytes are the same. */
static bool find(void *lib, const char *name, void *to)
{
	void *at = dlsym(lib, name);

	memcpy(to, &at, sizeof(at));
	return at != NULL;
}

mc_status_t mc_etcd_curl_load(struct mc_etcd_curl *out)
{
	/* It stays: libraries that it brings with it leave handlers for the end of the process. */
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	const char *lacks = NULL;

	if (lib == NULL) {
		mc_error("MC_ETCD: %s cannot be loaded (%s); install it (Debian: libcurl4), or unset MC_ETCD", LIBRARY,
			 dlerror());
		return MC_ERR_CONFIG;
	}
#define LOAD(name)                                                                                                     \
	if (!find(lib, "curl_" #name, &out->name))                                                                     \
		lacks = "curl_" #name;
	MC_ETCD_CURL_MAP(LOAD)
#undef LOAD
	if (lacks != NULL) {
		mc_error("MC_ETCD: %s has no %s: it is older than 7.87, or not libcurl", LIBRARY, lacks);
		return MC_ERR_CONFIG;
	}
	if (out->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		mc_error("MC_ETCD: libcurl does not start (no memory?)");
		return MC_ERR_NOMEM;
	}
	return MC_OK;
}
