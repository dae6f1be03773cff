/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_etcd.c - does etcd answer, and does it say it is well. */
#include "doctor.h"

#include <stdlib.h>
#include <string.h>

#ifdef MC_HAVE_CURL
#include <curl/curl.h>

#define ANSWER_MAX 4096

struct answer {
	char text[ANSWER_MAX];
	size_t n;
};

static size_t take(char *data, size_t size, size_t n, void *user)
{
	struct answer *a = user;
	size_t room = ANSWER_MAX - 1 - a->n, len = size * n;

	memcpy(a->text + a->n, data, len < room ? len : room);
	a->n += len < room ? len : room;
	a->text[a->n] = '\0';
	return len < room ? len : 0; /* nothing that is etcd answers longer */
}

/* Where the URL has a password, nobody shall read it. */
static void shown_url(const char *url, char *out, size_t len)
{
	const char *host = strstr(url, "://"), *at;

	host = host == NULL ? url : host + 3;
	at = strrchr(host, '@');
	if (at == NULL)
		(void)snprintf(out, len, "%s", url);
	else
		(void)snprintf(out, len, "%.*s***%s", (int)(host - url), url, at);
}

static const char *proxy_of(const char *url)
{
	static const char *const https[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
	static const char *const http[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
	bool tls = strncmp(url, "https:", 6) == 0;

	for (size_t i = 0; i < (tls ? 4u : 3u); i++) {
		const char *name = tls ? https[i] : http[i], *v = getenv(name);

		if (v != NULL && *v != '\0')
			return name;
	}
	return NULL;
}

static void judge_failure(struct mc_doc_result *r, CURLcode code, const char *why, const char *url, const char *proxy)
{
	const char *text = *why != '\0' ? why : curl_easy_strerror(code);

	mc_doc_value(r, "%s", text);
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		mc_doc_set(r, MC_DOC_FAIL, "the name in the URL does not resolve");
		mc_doc_fix(r, "getent hosts HOST; in a pod with hostNetwork: dnsPolicy: ClusterFirstWithHostNet");
		break;
	case CURLE_COULDNT_CONNECT:
		mc_doc_set(r, MC_DOC_FAIL, "nothing answers there");
		mc_doc_fix(
			r,
			"systemctl status etcd; etcd must listen there: --listen-client-urls, --advertise-client-urls");
		break;
	case CURLE_OPERATION_TIMEDOUT:
		mc_doc_set(r, MC_DOC_FAIL, "no answer within 3 s: a firewall, or etcd hangs");
		mc_doc_fix(r, "curl -v --max-time 3 %s/health", url);
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		mc_doc_set(r, MC_DOC_FAIL, "TLS: %s", text);
		mc_doc_fix(r, "openssl s_client -connect HOST:PORT -CAfile CA.pem    # and the clock (see clock); own "
			      "CA: SSL_CERT_FILE=CA.pem");
		break;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		mc_doc_set(r, MC_DOC_FAIL, "the URL must be http://HOST:2379 or https://HOST:2379");
		mc_doc_fix(r, "mcinfo doctor --etcd http://HOST:2379");
		break;
	default:
		mc_doc_set(r, MC_DOC_FAIL, "the request failed");
		mc_doc_fix(r, "curl -v --max-time 3 %s/health", url);
	}
	if (proxy != NULL)
		mc_doc_add(r->cause, sizeof(r->cause),
			   " (the proxy of %s stands between, unless no_proxy names the host)", proxy);
}

static void judge_answer(struct mc_doc_result *r, long http, const struct answer *a, const char *url, const char *proxy)
{
	bool json = strstr(a->text, "\"health\"") != NULL;
	const char *value = json ? strstr(a->text, "\"health\"") + 8 : "";

	value += strspn(value, " \t:\"");
	mc_doc_value(r, "HTTP %ld %.60s", http, a->text);
	if (http == 200 && json && strncmp(value, "true", 4) == 0)
		return;
	mc_doc_fix(r, "etcdctl --endpoints %s endpoint status -w table; etcdctl alarm list", url);
	if (json) {
		mc_doc_set(r, MC_DOC_FAIL, "etcd says it is not well: no leader, or an alarm (disk full)");
		return;
	}
	mc_doc_set(r, MC_DOC_FAIL, "what answers there is not etcd%s%s", proxy != NULL ? "; the proxy of " : "",
		   proxy != NULL ? proxy : "");
	if (proxy != NULL)
		mc_doc_fix(r, "export no_proxy=ETCD_HOST,$no_proxy");
}

static void ask(const char *url, struct mc_doc_result *r)
{
	struct answer a = {.n = 0};
	char why[CURL_ERROR_SIZE] = "", shown[200];
	const char *proxy = proxy_of(url);
	long http = 0;
	CURL *c = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;

	shown_url(url, shown, sizeof(shown));
	mc_doc_read(r, "%s/health", shown);
	if (c == NULL) {
		mc_doc_set(r, MC_DOC_NA, "libcurl does not start");
		return;
	}
	size_t len = strlen(url);
	while (len > 0 && url[len - 1] == '/')
		len--;
	char *full = mc_xformat("%.*s/health", (int)len, url);
	(void)curl_easy_setopt(c, CURLOPT_URL, full);
	(void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 3000L);
	(void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 3000L);
	(void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, &a);
	const char *ca = getenv("SSL_CERT_FILE"); /* libcurl itself does not look at it */
	if (ca != NULL && *ca != '\0')
		(void)curl_easy_setopt(c, CURLOPT_CAINFO, ca);
	CURLcode code = curl_easy_perform(c);
	(void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &http);
	if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && a.n == ANSWER_MAX - 1))
		judge_failure(r, code, why, shown, proxy);
	else
		judge_answer(r, http, &a, shown, proxy);
	free(full);
	curl_easy_cleanup(c);
	curl_global_cleanup();
}
#endif

void mc_doc_etcd(struct mc_doctor *d, struct mc_doc_result *r)
{
	mc_doc_read(r, "URL/health");
	if (d->etcd == NULL) {
		mc_doc_set(r, MC_DOC_NA, "no etcd is asked for (--etcd URL); one job alone needs none");
		return;
	}
#ifdef MC_HAVE_CURL
	ask(d->etcd, r);
#else
	mc_doc_set(r, MC_DOC_NA, "this build has no libcurl");
	mc_doc_fix(r, "curl --max-time 3 %s/health    # by hand", d->etcd);
#endif
}
