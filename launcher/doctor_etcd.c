/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * doctor_etcd.c - do the endpoints of etcd answer, do they say that they are well, and do they let us in. They are
 * asked as libmc asks them: with what MC_ETCD_* says about certificates, password and proxy.
 */
#include "doctor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifdef MC_HAVE_CURL
#include <curl/curl.h>
#include <mc.h>

enum { ANSWER_MAX = 4096, VALUE_MAX = 4096, URL_MAX = 400 };

struct answer {
	char text[ANSWER_MAX];
	size_t n;
	long http;
	CURLcode code;
	char why[CURL_ERROR_SIZE];
};

/* What a setting of libmc is, in the environment or the settings file; "" if it is not set. */
static const char *setting(const char *name, char buf[VALUE_MAX])
{
	struct mc_setting s;
	mc_status_t st;

	buf[0] = '\0';
	for (uint32_t i = 0; (st = mc_setting_get(i, &s, buf, VALUE_MAX)) != MC_ERR_NOENT; i++)
		if (strcmp(s.name, name) == 0)
			return buf;
	buf[0] = '\0';
	return buf;
}

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

static void set_tls(CURL *c)
{
	static const struct {
		const char *name;
		CURLoption option;
	} file[] = {{"MC_ETCD_CA", CURLOPT_CAINFO}, {"MC_ETCD_CERT", CURLOPT_SSLCERT}, {"MC_ETCD_KEY", CURLOPT_SSLKEY}};
	const char *ca = getenv("SSL_CERT_FILE"); /* libcurl itself does not look at it */
	char value[VALUE_MAX];

	if (ca != NULL && *ca != '\0')
		(void)curl_easy_setopt(c, CURLOPT_CAINFO, ca);
	for (size_t i = 0; i < sizeof(file) / sizeof(file[0]); i++)
		if (*setting(file[i].name, value) != '\0')
			(void)curl_easy_setopt(c, file[i].option, value);
}

/* GET url/path, or POST body. */
static void ask(const char *url, const char *path, const char *body, struct answer *a)
{
	CURL *c = curl_easy_init();
	size_t len = strlen(url);
	char proxy[VALUE_MAX];

	*a = (struct answer){.code = CURLE_FAILED_INIT};
	if (c == NULL)
		return;
	while (len > 0 && url[len - 1] == '/')
		len--;
	char *full = mc_xformat("%.*s/%s", (int)len, url, path);
	(void)curl_easy_setopt(c, CURLOPT_URL, full);
	(void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(c, CURLOPT_PROXY, setting("MC_ETCD_PROXY", proxy));
	if (proxy[0] != '\0')
		(void)curl_easy_setopt(c, CURLOPT_NOPROXY, "");
	(void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 3000L);
	(void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 3000L);
	(void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, a->why);
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
	if (body != NULL)
		(void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
	set_tls(c);
	a->code = curl_easy_perform(c);
	(void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &a->http);
	if (a->code == CURLE_WRITE_ERROR && a->n == ANSWER_MAX - 1)
		a->code = CURLE_OK;
	free(full);
	curl_easy_cleanup(c);
}

/* The commonest fault of a new etcd: it listens on the loopback alone, and is asked by another address of this host. */
static bool on_loopback_only(const char *url)
{
	const char *host = strstr(url, "://"), *port = strrchr(url, ':');
	struct answer a;
	char *local;
	bool there;

	if (host == NULL || port == NULL || port == strchr(url, ':') || strstr(url, "//127.0.0.1:") != NULL)
		return false;
	local = mc_xformat("%.*s127.0.0.1:%d", (int)(host + 3 - url), url, atoi(port + 1));
	ask(local, "health", NULL, &a);
	free(local);
	/* Its certificate need not name 127.0.0.1: that it has one is enough. */
	there = a.code == CURLE_OK || a.code == CURLE_PEER_FAILED_VERIFICATION || a.code == CURLE_RECV_ERROR ||
		a.code == CURLE_SEND_ERROR;
	return there;
}

static void judge_failure(struct mc_doc_result *r, const struct answer *a, const char *url, const char *shown)
{
	const char *text = a->why[0] != '\0' ? a->why : curl_easy_strerror(a->code);

	mc_doc_value(r, "%s", text);
	switch (a->code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		mc_doc_set(r, MC_DOC_FAIL, "the name in the URL does not resolve");
		mc_doc_fix(r, "getent hosts HOST; in a pod with hostNetwork: dnsPolicy: ClusterFirstWithHostNet");
		break;
	case CURLE_COULDNT_CONNECT:
		if (on_loopback_only(url)) {
			mc_doc_set(r, MC_DOC_FAIL,
				   "nothing answers there, but something does on 127.0.0.1: etcd listens on the "
				   "loopback alone");
			mc_doc_fix(r, "etcd --listen-client-urls %s,... --advertise-client-urls %s", shown, shown);
			break;
		}
		mc_doc_set(r, MC_DOC_FAIL, "nothing answers there");
		mc_doc_fix(r, "systemctl status etcd; etcd must listen there: --listen-client-urls, "
			      "--advertise-client-urls");
		break;
	case CURLE_OPERATION_TIMEDOUT:
		mc_doc_set(r, MC_DOC_FAIL, "no answer within 3 s: a firewall, or etcd hangs");
		mc_doc_fix(r, "curl -v --max-time 3 %s/health", shown);
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		mc_doc_set(r, MC_DOC_FAIL, "TLS: %s", text);
		mc_doc_fix(r, "openssl s_client -connect HOST:PORT -CAfile CA.pem    # and the clock (see clock); own "
			      "CA: MC_ETCD_CA=CA.pem");
		break;
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		mc_doc_set(r, MC_DOC_FAIL, "it breaks off: %s", text);
		mc_doc_fix(
			r,
			"if etcd wants a client certificate: MC_ETCD_CERT=cert.pem MC_ETCD_KEY=key.pem, without a CN");
		break;
	case CURLE_GOT_NOTHING:
		mc_doc_set(r, MC_DOC_FAIL, "what answers there says nothing: it may want https://");
		mc_doc_fix(r, "mcinfo doctor --etcd https://HOST:PORT");
		break;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		mc_doc_set(r, MC_DOC_FAIL, "the URL must be http://HOST:2379 or https://HOST:2379");
		mc_doc_fix(r, "mcinfo doctor --etcd http://HOST:2379");
		break;
	default:
		mc_doc_set(r, MC_DOC_FAIL, "the request failed");
		mc_doc_fix(r, "curl -v --max-time 3 %s/health", shown);
	}
}

/* true: it is etcd, and it is well */
static bool judge_health(struct mc_doc_result *r, const struct answer *a, const char *shown)
{
	bool json = strstr(a->text, "\"health\"") != NULL;
	const char *value = json ? strstr(a->text, "\"health\"") + 8 : "";

	value += strspn(value, " \t:\"");
	mc_doc_value(r, "HTTP %ld %.60s", a->http, a->text);
	if (a->http == 200 && json && strncmp(value, "true", 4) == 0)
		return true;
	mc_doc_fix(r, "etcdctl --endpoints %s endpoint status -w table; etcdctl alarm list", shown);
	if (json)
		mc_doc_set(r, MC_DOC_FAIL, "etcd says it is not well: no leader, or an alarm (disk full)");
	else if (strstr(a->text, "HTTPS server") != NULL)
		mc_doc_set(r, MC_DOC_FAIL, "it speaks TLS: the URL must begin with https://");
	else
		mc_doc_set(r, MC_DOC_FAIL, "what answers there is not etcd");
	return false;
}

/* A string of JSON; false: no room. */
static bool quote(char *out, size_t len, const char *text)
{
	size_t used = 0;

	for (; *text != '\0' && used + 7 < len; text++)
		if ((unsigned char)*text < 0x20 || *text == '"' || *text == '\\')
			used += (size_t)snprintf(out + used, len - used, "\\u%04x", (unsigned char)*text);
		else
			out[used++] = *text;
	out[used] = '\0';
	return *text == '\0';
}

static bool read_password(struct mc_doc_result *r, char *out, size_t len)
{
	char path[VALUE_MAX];
	FILE *f;
	bool ok;

	out[0] = '\0';
	if (*setting("MC_ETCD_PASSWORD_FILE", path) == '\0')
		return false;
	f = fopen(path, "re");
	ok = f != NULL && fgets(out, (int)len, f) != NULL;
	if (f != NULL)
		(void)fclose(f);
	out[strcspn(out, "\r\n")] = '\0';
	if (ok && out[0] != '\0')
		return true;
	mc_doc_set(r, MC_DOC_FAIL, "MC_ETCD_PASSWORD_FILE=%s has no password in its first line, or cannot be read",
		   path);
	mc_doc_fix(r, "install -m 600 /dev/stdin %s <<<PASSWORD", path);
	return false;
}

/* With MC_ETCD_USER: does it take us? */
static void log_in(struct mc_doc_result *r, const char *url)
{
	char user[VALUE_MAX], password[1024], name[1024], word[2048], body[4096];
	struct answer a;

	if (*setting("MC_ETCD_USER", user) == '\0' || !read_password(r, password, sizeof(password)))
		return;
	if (!quote(name, sizeof(name), user) || !quote(word, sizeof(word), password))
		return;
	(void)snprintf(body, sizeof(body), "{\"name\":\"%s\",\"password\":\"%s\"}", name, word);
	ask(url, "v3/auth/authenticate", body, &a);
	explicit_bzero(password, sizeof(password));
	explicit_bzero(word, sizeof(word));
	explicit_bzero(body, sizeof(body));
	if (a.code == CURLE_OK && a.http == 200 && strstr(a.text, "\"token\"") != NULL) {
		mc_doc_add(r->value, sizeof(r->value), ", user %.60s is let in", user);
	} else if (strstr(a.text, "authentication is not enabled") != NULL) {
		mc_doc_set(r, MC_DOC_WARN,
			   "it asks nobody for a password: whoever reaches it can read and write there");
		mc_doc_fix(r, "etcdctl user add root; etcdctl user grant-role root root; etcdctl auth enable");
	} else if (strstr(a.text, "authentication failed") != NULL) {
		mc_doc_set(r, MC_DOC_FAIL, "it knows no user %.60s with the password of MC_ETCD_PASSWORD_FILE", user);
		mc_doc_fix(r, "etcdctl user list; etcdctl user passwd %.60s", user);
	} else if (strstr(a.text, "CommonName") != NULL) {
		mc_doc_set(r, MC_DOC_FAIL, "the certificate of MC_ETCD_CERT has a CN, which etcd does not allow here");
		mc_doc_fix(
			r,
			"openssl req -new -subj /O=mc ...    # a certificate without a CN; the user is MC_ETCD_USER");
	} else {
		mc_doc_set(r, MC_DOC_FAIL, "it does not let user %.60s in: HTTP %ld %.100s", user, a.http,
			   a.code == CURLE_OK ? a.text : a.why);
		mc_doc_fix(r, "etcd 3.4 or newer, without --enable-grpc-gateway=false");
	}
}

static void check_one(struct mc_doc_result *r, const char *url)
{
	char shown[URL_MAX];
	struct answer a;

	shown_url(url, shown, sizeof(shown));
	ask(url, "health", NULL, &a);
	if (a.code != CURLE_OK)
		judge_failure(r, &a, url, shown);
	else if (judge_health(r, &a, shown))
		log_in(r, url);
}

/* Several endpoints: what is wrong with one of them is a warning as long as another is well. */
static void check_all(struct mc_doc_result *r, const char *list)
{
	struct mc_doc_result bad = {.status = MC_DOC_OK};
	char *urls = mc_xformat("%s", list), *save = NULL, shown[URL_MAX];
	uint32_t n = 0, well = 0;

	for (char *url = strtok_r(urls, ", ", &save); url != NULL; url = strtok_r(NULL, ", ", &save)) {
		struct mc_doc_result one = {.status = MC_DOC_OK};

		shown_url(url, shown, sizeof(shown));
		check_one(&one, url);
		n++;
		well += one.status != MC_DOC_FAIL;
		mc_doc_add(r->value, sizeof(r->value), "%s%.80s%s%s", n > 1 ? "; " : "",
			   n > 1 || save[0] != '\0' ? shown : "", n > 1 || save[0] != '\0' ? ": " : "", one.value);
		if (one.status > bad.status) {
			bad = one;
			(void)snprintf(bad.read, sizeof(bad.read), "%.150s", shown);
		}
	}
	free(urls);
	if (bad.status == MC_DOC_OK)
		return;
	mc_doc_set(r, well > 0 ? MC_DOC_WARN : MC_DOC_FAIL, "%s%s%s", n > 1 ? bad.read : "", n > 1 ? ": " : "",
		   bad.cause);
	mc_doc_fix(r, "%s", bad.fix);
}

/*
 * A password, or a key, that everybody may read. Its group may, for that is how several users, and pods with a fsGroup,
 * share one. Whatever else was found stays, and this goes with it.
 */
static void check_private(struct mc_doc_result *r)
{
	static const char *const name[] = {"MC_ETCD_PASSWORD_FILE", "MC_ETCD_KEY"};
	char path[VALUE_MAX], open[360] = "", files[260] = "";
	struct stat st;

	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
		if (*setting(name[i], path) == '\0' || stat(path, &st) != 0 || (st.st_mode & S_IROTH) == 0)
			continue;
		mc_doc_add(open, sizeof(open), "%s%s=%.120s (mode %04o)", open[0] != '\0' ? " and " : "", name[i], path,
			   (unsigned int)(st.st_mode & 07777));
		mc_doc_add(files, sizeof(files), " %.120s", path);
	}
	if (open[0] == '\0')
		return;
	if (r->status == MC_DOC_OK)
		r->status = MC_DOC_WARN;
	mc_doc_add(r->cause, sizeof(r->cause), "%s%s can be read by everybody on this host",
		   r->cause[0] != '\0' ? "; " : "", open);
	mc_doc_add(r->fix, sizeof(r->fix), "%schmod 600%s; Kubernetes: defaultMode: 0400",
		   r->fix[0] != '\0' ? "; " : "", files);
}
#endif

void mc_doc_etcd(struct mc_doctor *d, struct mc_doc_result *r)
{
#ifdef MC_HAVE_CURL
	char list[VALUE_MAX], shown[URL_MAX];
	const char *urls = d->etcd;

	mc_doc_read(r, "URL/health");
	if (urls == NULL && mc_sysroot_is_live(d->root))
		urls = setting("MC_ETCD", list);
	if (urls == NULL || *urls == '\0') {
		mc_doc_set(r, MC_DOC_NA, "no etcd is asked for (--etcd URL, MC_ETCD); one job alone needs none");
		return;
	}
	shown_url(urls, shown, sizeof(shown));
	mc_doc_read(r, "%.150s/health", shown);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		mc_doc_set(r, MC_DOC_NA, "libcurl does not start");
		return;
	}
	check_all(r, urls);
	check_private(r);
	curl_global_cleanup();
#else
	mc_doc_read(r, "URL/health");
	if (d->etcd == NULL) {
		mc_doc_set(r, MC_DOC_NA, "no etcd is asked for (--etcd URL, MC_ETCD); one job alone needs none");
		return;
	}
	mc_doc_set(r, MC_DOC_NA, "this build has no libcurl");
	mc_doc_fix(r, "curl --max-time 3 %s/health    # by hand", d->etcd);
#endif
}
