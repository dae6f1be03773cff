/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_judge.c - what a failure means: a status for the engine, and for people the cause and what to do. */
#include <stdio.h>
#include <string.h>

#include "bridge_etcd.h"

enum {
	GRPC_INVALID = 3,
	GRPC_DEADLINE,
	GRPC_NOENT,
	GRPC_DENIED = 7,
	GRPC_EXHAUSTED,
	GRPC_PRECONDITION,
	GRPC_RANGE = 11
};
enum { GRPC_UNAVAILABLE = 14, GRPC_UNAUTHENTICATED = 16 };

mc_status_t mc_etcd_judge_curl(struct mc_bridge *b, CURLcode code, const char *why)
{
	const char *url = b->endpoint[b->at].url, *text = why[0] != '\0' ? why : b->curl.easy_strerror(code);
	const char *ca = b->config->etcd_ca;

	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return mc_etcd_fault(b, MC_ERR_TIMEOUT, "%s; the name in MC_ETCD must resolve here: getent hosts HOST",
				     text);
	case CURLE_COULDNT_CONNECT:
		return mc_etcd_fault(b, MC_ERR_TIMEOUT,
				     "%s; is etcd up, and does it listen there (--listen-client-urls)?", text);
	case CURLE_OPERATION_TIMEDOUT:
		return mc_etcd_fault(b, MC_ERR_TIMEOUT,
				     "no answer in time; a firewall, or etcd hangs: curl --max-time 3 %s/health", url);
	case CURLE_PEER_FAILED_VERIFICATION:
		return mc_etcd_fault(
			b, MC_ERR_AUTH, "%s; its certificate must be signed by %s%s and name this host", text,
			ca[0] != '\0' ? "MC_ETCD_CA=" : "an authority of the system (own one: MC_ETCD_CA)", ca);
	case CURLE_SSL_CACERT_BADFILE:
		return mc_etcd_fault(b, MC_ERR_CONFIG, "%s; MC_ETCD_CA=%s must be certificates in PEM", text, ca);
	case CURLE_SSL_CERTPROBLEM:
		return mc_etcd_fault(b, MC_ERR_CONFIG, "%s; MC_ETCD_CERT and MC_ETCD_KEY must be a pair in PEM", text);
	case CURLE_SSL_CONNECT_ERROR:
		return mc_etcd_fault(b, MC_ERR_TIMEOUT, "TLS: %s; an etcd without TLS is http://", text);
	case CURLE_GOT_NOTHING:
		if (!b->endpoint[b->at].tls)
			return mc_etcd_fault(b, MC_ERR_TIMEOUT,
					     "%s; if etcd speaks TLS there, MC_ETCD must say https://", text);
		return mc_etcd_fault(b, MC_ERR_TIMEOUT, "%s", text);
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		/* A server that misses our certificate breaks off; whether its reason still comes through is a race. */
		if (b->endpoint[b->at].tls && b->config->etcd_cert[0] == '\0')
			return mc_etcd_fault(b, strstr(text, "alert") != NULL ? MC_ERR_AUTH : MC_ERR_TIMEOUT,
					     "%s; if it wants a client certificate: MC_ETCD_CERT, MC_ETCD_KEY", text);
		return mc_etcd_fault(b, strstr(text, "alert") != NULL ? MC_ERR_AUTH : MC_ERR_TIMEOUT, "%s", text);
	default:
		return mc_etcd_fault(b, MC_ERR_TIMEOUT, "%s; curl -v --max-time 3 %s/health", text, url);
	}
}

static bool answer_has(const struct mc_bridge *b, const char *text)
{
	const struct mc_etcd_body *r = &b->http.reply;

	return r->len > 0 && memmem(r->p, r->len, text, strlen(text)) != NULL;
}

/* Something answers, but not what etcd does. */
static mc_status_t judge_stranger(struct mc_bridge *b, long http)
{
	if (answer_has(b, "CommonName"))
		return mc_etcd_fault(b, MC_ERR_AUTH,
				     "etcd wants client certificates without a CN at this door; make that of "
				     "MC_ETCD_CERT with -subj /O=mc, the user comes from MC_ETCD_USER");
	if (answer_has(b, "HTTPS server"))
		return mc_etcd_fault(b, MC_ERR_CONFIG, "it speaks TLS; MC_ETCD must say https://");
	if (http == 404)
		return mc_etcd_fault(b, MC_ERR_CONFIG,
				     "no /v3/ there (HTTP 404): not etcd, or older than 3.4, or started "
				     "with --enable-grpc-gateway=false");
	return mc_etcd_fault(b, MC_ERR_CONFIG, "what answers there (HTTP %ld) is not etcd%s", http,
			     b->config->etcd_proxy[0] != '\0' ? ", or it is the proxy of MC_ETCD_PROXY" : "");
}

mc_status_t mc_etcd_judge(struct mc_bridge *b, const struct mc_etcd_reply *r, long http)
{
	const char *user = b->config->etcd_user;

	if (r->code < 0)
		return judge_stranger(b, http);
	if (r->code == GRPC_UNAUTHENTICATED || strstr(r->error, "auth store is old") != NULL)
		return mc_etcd_fault(b, MC_ERR_STALE, "etcd says: %s", r->error);
	if (r->code == GRPC_INVALID && strstr(r->error, "user name is empty") != NULL)
		return mc_etcd_fault(b, MC_ERR_AUTH,
				     "etcd wants to know who asks; set MC_ETCD_USER and "
				     "MC_ETCD_PASSWORD_FILE");
	if (r->code == GRPC_INVALID && strstr(r->error, "authentication failed") != NULL)
		return mc_etcd_fault(b, MC_ERR_AUTH,
				     "etcd knows no user %s with this password; see MC_ETCD_USER and "
				     "MC_ETCD_PASSWORD_FILE",
				     user);
	if (r->code == GRPC_DENIED)
		return mc_etcd_fault(b, MC_ERR_AUTH,
				     "user %s has no right to %s/; etcdctl role grant-permission "
				     "--prefix=true ROLE readwrite %s/",
				     user[0] != '\0' ? user : "(none)", b->prefix, b->prefix);
	if (r->code == GRPC_PRECONDITION && strstr(r->error, "authentication is not enabled") != NULL)
		return mc_etcd_fault(b, MC_ERR_UNSUPPORTED, "etcd does not ask for a password");
	if (r->code == GRPC_NOENT)
		return mc_etcd_fault(b, MC_ERR_NOENT, "etcd says: %s", r->error);
	if (r->code == GRPC_RANGE)
		return mc_etcd_fault(b, MC_ERR_RANGE, "etcd says: %s", r->error);
	if (r->code == GRPC_EXHAUSTED)
		return mc_etcd_fault(b, MC_ERR_BUSY, "etcd says: %s; etcdctl alarm list, then compact and defrag",
				     r->error);
	return mc_etcd_fault(b, MC_ERR_TIMEOUT, "etcd says: %s; etcdctl endpoint status, etcdctl alarm list", r->error);
}
