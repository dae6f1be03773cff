#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcinfo doctor --etcd against what may stand at a URL: nothing, silence, something else, an unwell etcd, a well one; TLS, a proxy.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
mcinfo=$bin/mcinfo
[ -x "$mcinfo" ] || { echo "skip: mcinfo is not part of this build"; exit 77; }
command -v python3 >/dev/null || { echo "skip: python3 is not installed"; exit 77; }
unset http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY no_proxy NO_PROXY
"$mcinfo" doctor --etcd http://127.0.0.1:1 --json >out 2>&1 || true
if grep -q 'this build has no libcurl' out; then echo "skip: built without libcurl"; exit 77; fi

# ask STATUS PATTERN URL: a server here that does not get to answer within the doctor's 3 s is asked once more
ask()
{
	local try
	for try in 1 2 3 4 5; do
		"$mcinfo" doctor --json --for tcp --etcd "$3" >all 2>err || true
		grep '"id": "etcd"' all >out || fail "no answer about etcd"
		grep -q 'no answer within' out || break
		if grep -qE -e "\"status\": \"$1\".*$2" out; then break; fi
	done
	has out "\"status\": \"$1\".*$2"
}
ask fail 'nothing answers there' http://127.0.0.1:1
ask fail 'must be http' ftp://127.0.0.1:1
ask fail 'does not resolve' http://no-such-host.invalid:2379
checks=$((checks + 1))
"$mcinfo" doctor --json --for tcp --etcd http://me:hunter2@127.0.0.1:1 >all 2>&1 || true
! grep -q hunter2 all || fail "the password of the URL is shown"

cat >serve.py <<'END'
import http.server, ssl, socket, sys, threading
answers = {"well": (200, b'{"health":"true"}'), "unwell": (503, b'{"health":"false","reason":"RAFT NO LEADER"}'),
	"other": (200, b"<html>welcome</html>"), "long": (200, b"x" * 100000)}
def handler(kind):
	class H(http.server.BaseHTTPRequestHandler):
		def do_GET(self):
			code, text = answers[kind]
			self.send_response(code)
			self.send_header("Content-Length", str(len(text)))
			self.end_headers()
			try: self.wfile.write(text)
			except OSError: pass
		def log_message(self, *a): pass
	return H
out = []
for kind in answers:
	s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(kind))
	threading.Thread(target=s.serve_forever, daemon=True).start()
	out.append((kind, s.server_port))
silent = socket.create_server(("127.0.0.1", 0))
out.append(("silent", silent.getsockname()[1]))
if len(sys.argv) > 1:
	s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler("well"))
	c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
	c.load_cert_chain(sys.argv[1])
	s.socket = c.wrap_socket(s.socket, server_side=True)
	threading.Thread(target=s.serve_forever, daemon=True).start()
	out.append(("tls", s.server_port))
open("ports.new", "w").write("".join("%s=%d\n" % p for p in out))
import os
os.rename("ports.new", "ports")
sys.stdin.read()
END
cert=
if command -v openssl >/dev/null &&
	openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=127.0.0.1 \
		-addext subjectAltName=IP:127.0.0.1 -days 2 2>/dev/null; then
	cat key.pem cert.pem >both.pem
	cert=both.pem
fi
mkfifo hold
python3 serve.py $cert <hold 2>server.err &
server=$!
exec 9>hold
trap 'end=$?; exec 9>&-; kill $server 2>/dev/null; wait; rm -rf "$work"; exit $end' EXIT
within 30000 test -f ports || fail "the servers do not start: $(cat server.err)"
. ./ports
ask ok 'HTTP 200' "http://127.0.0.1:$well"
ask ok 'HTTP 200' "http://127.0.0.1:$well/"
ask fail 'not well: no leader' "http://127.0.0.1:$unwell"
ask fail 'is not etcd' "http://127.0.0.1:$other"
ask fail 'is not etcd' "http://127.0.0.1:$long"
ask fail 'no answer within 3 s' "http://127.0.0.1:$silent"
# As libmc does: without the proxies of the environment, through the one that is asked for.
http_proxy=http://127.0.0.1:$other all_proxy=http://127.0.0.1:$other ask ok 'HTTP 200' "http://127.0.0.1:$well"
MC_ETCD_PROXY=http://127.0.0.1:$other no_proxy='*' ask fail 'is not etcd' "http://127.0.0.1:$well"
# Files that everybody may read are told whether somebody logs in or not, and whatever else is wrong.
install -m 604 /dev/null open_password
install -m 644 /dev/null open_key
both="MC_ETCD_PASSWORD_FILE=$work/open_password \\(mode 0604\\) and MC_ETCD_KEY=$work/open_key \\(mode 0644\\) can be read by everybody"
export MC_ETCD_PASSWORD_FILE=$work/open_password MC_ETCD_KEY=$work/open_key
ask warn "\"$both.*chmod 600 $work/open_password $work/open_key" "http://127.0.0.1:$well"
ask fail "not well: no leader.*; $both.*etcdctl.*; chmod 600" "http://127.0.0.1:$unwell"
chmod 640 open_password
ask warn "\"MC_ETCD_KEY=$work/open_key \\(mode 0644\\) can" "http://127.0.0.1:$well"
chmod 640 open_key
ask ok 'HTTP 200' "http://127.0.0.1:$well"
unset MC_ETCD_PASSWORD_FILE MC_ETCD_KEY
ask warn 'nothing answers there' "http://127.0.0.1:$well,http://127.0.0.1:1"
ask fail 'nothing answers there' "http://127.0.0.1:2,http://127.0.0.1:1"
if [ -n "$cert" ]; then
	ask fail 'TLS: ' "https://127.0.0.1:$tls"
	SSL_CERT_FILE=$work/cert.pem ask ok 'HTTP 200' "https://127.0.0.1:$tls"
	SSL_CERT_FILE=$work/none.pem ask fail 'TLS: ' "https://127.0.0.1:$tls"
fi
passed
