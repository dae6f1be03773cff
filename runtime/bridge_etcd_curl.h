/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge_etcd_curl.h - libcurl, loaded when a directory is asked for and not before: with its own libraries (TLS,
 * Kerberos, LDAP) it takes a process longer to load than everything else that libmc needs, and most ranks never speak
 * to an etcd.
 */
#ifndef MC_BRIDGE_ETCD_CURL_H
#define MC_BRIDGE_ETCD_CURL_H

#include <curl/curl.h>

#include "mc.h"

#undef curl_easy_setopt /* checks of types that know only the function itself */
#undef curl_easy_getinfo

#define MC_ETCD_CURL_MAP(X)                                                                                            \
	X(global_init)                                                                                                 \
	X(global_cleanup)                                                                                              \
	X(free)                                                                                                        \
	X(easy_init)                                                                                                   \
	X(easy_cleanup)                                                                                                \
	X(easy_setopt)                                                                                                 \
	X(easy_getinfo)                                                                                                \
	X(easy_strerror)                                                                                               \
	X(multi_init)                                                                                                  \
	X(multi_cleanup)                                                                                               \
	X(multi_add_handle)                                                                                            \
	X(multi_remove_handle)                                                                                         \
	X(multi_info_read)                                                                                             \
	X(multi_perform)                                                                                               \
	X(multi_poll)                                                                                                  \
	X(slist_append)                                                                                                \
	X(slist_free_all)                                                                                              \
	X(url)                                                                                                         \
	X(url_cleanup)                                                                                                 \
	X(url_get)                                                                                                     \
	X(url_set)

struct mc_etcd_curl {
#define MC_ETCD_CURL_MEMBER(name) __typeof__(curl_##name) *name;
	MC_ETCD_CURL_MAP(MC_ETCD_CURL_MEMBER)
#undef MC_ETCD_CURL_MEMBER
};

/* Loads libcurl and starts it; to be ended with global_cleanup(). MC_ERR_CONFIG: it cannot be loaded (logged). */
mc_status_t mc_etcd_curl_load(struct mc_etcd_curl *out);

#endif
