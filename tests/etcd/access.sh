#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Who may and who may not: wrong password, wrong authority, no rights, client certificates, tokens that run out, TLS where there
# is none, something that is not etcd, proxies of the environment, and settings that cannot be meant.
. "$(dirname "$0")/lib_etcd.sh"
make_certs
openssl genrsa -out jwt.key 2048 2>/dev/null && openssl rsa -in jwt.key -pubout -out jwt.pub 2>/dev/null || fail "no key for tokens"
one_etcd --auth-token "jwt,pub-key=jwt.pub,priv-key=jwt.key,sign-method=RS256,ttl=3s"
here=$MC_ETCD

# Tokens of three seconds: each request of later needs a new one, and nobody notices.
bridge d decode decode 0 d1
tell d "publish one"
bridge t watcher none 0 e1
hears t '^up decode 0 .* one$'
hears t '^synced MC_OK'
past() { [ "$(now_ms)" -ge "$1" ]; }
within 30000 past $(($(now_ms) + 4500)) # the tokens have run out
tell d "publish two"
hears t '^up decode 0 .* two$'
no_outage d
no_outage t

# Wrong password: said once, with what to look at; right once the file is.
printf 'wrong\n' >password2
MC_ETCD_PASSWORD_FILE=$work/password2 bridge w w none 0 e2
hears w '^synced MC_ERR_AUTH https://.*knows no user mc with this password; see MC_ETCD_USER and MC_ETCD_PASSWORD_FILE'
never w '^up'
cp password password2
hears w '^synced MC_OK' 60000
hears w '^up decode 0 '
checks=$((checks + 1))
[ "$(grep -c 'is away' w.err)" = 1 ] || fail "said $(grep -c 'is away' w.err) times"
! grep -rq -e secret -e wrong w.err w.out || fail "a password is shown"

# A password that everybody may read: rank 0 says so once, and goes on. A group may share one.
open_file='can be read by everybody on this host \(mode 0604\): chmod 600'
chmod 604 password
bridge o0 open none 0 f0
hears o0 '^synced MC_OK'
bridge o1 open none 1 f1
hears o1 '^synced MC_OK'
chmod 640 password
bridge o2 shared none 0 f4
hears o2 '^synced MC_OK'
checks=$((checks + 2))
[ "$(grep -cE "MC_ETCD_PASSWORD_FILE=$work/password $open_file $work/password" o0.err)" = 1 ] || fail "an open password file is not said"
! grep -q 'can be read' o1.err o2.err d.err || fail "a password file is complained about needlessly"
chmod 600 password

# Another authority; a certificate for another name; no rights under the prefix; no user at all.
MC_ETCD_CA=$work/other.pem bridge ca w none 0 e3
hears ca '^synced MC_ERR_AUTH .*must be signed by MC_ETCD_CA='
MC_ETCD=${here/127.0.0.1/localhost} bridge name w none 0 e4
hears name '^synced MC_ERR_AUTH .*name this host'
MC_ETCD_PREFIX=elsewhere bridge rights w none 0 e5
hears rights '^synced MC_ERR_AUTH .*user mc has no right to elsewhere/; etcdctl role grant-permission'
MC_ETCD_USER='' MC_ETCD_PASSWORD_FILE='' bridge nobody w none 0 e6
hears nobody '^synced MC_ERR_AUTH .*set MC_ETCD_USER'
never ca '^key'
never rights '^key'

# TLS with http://, no etcd there, a name that is none.
MC_ETCD=${here/https/http} MC_ETCD_CA='' bridge clear w none 0 e7
hears clear '^synced MC_ERR_(CONFIG|TIMEOUT) .*MC_ETCD must say https://'
grep -q 'in clear; use https' clear.err || fail "a password in clear is not said"
MC_ETCD=http://127.0.0.1:${peer_port[0]} MC_ETCD_CA='' bridge peer w none 0 e8
hears peer '^synced MC_ERR_CONFIG .*(not etcd|no /v3/)'
MC_ETCD=https://no-such-host.invalid:2379 bridge dns w none 0 e9
hears dns '^synced MC_ERR_TIMEOUT .*getent hosts'

# A proxy of the environment does not get to see what is for etcd; one that is asked for does.
https_proxy=http://127.0.0.1:1 all_proxy=http://127.0.0.1:1 HTTPS_PROXY=http://127.0.0.1:1 bridge proxy w none 0 ea
hears proxy '^synced MC_OK'
MC_ETCD_PROXY=http://127.0.0.1:1 no_proxy='*' bridge asked w none 0 eb
hears asked '^synced MC_ERR_TIMEOUT'

# Settings that cannot be meant are refused at once, with the reason.
refused()
{
	checks=$((checks + 1))
	local pattern=$1 code=0
	shift
	env "$@" "$side" j r 0 1 </dev/null >refused.out 2>refused.err || code=$?
	[ "$code" != 0 ] && grep -qE -e "$pattern" refused.err || fail "$*: not refused with '$pattern'"
}
refused 'must be http://HOST:2379' MC_ETCD=localhost:2379
refused 'must begin with http' MC_ETCD=ftp://localhost
refused 'must not hold a user or password' MC_ETCD=https://mc:hunter2@localhost:2379
refused 'must not have a path' MC_ETCD=https://localhost:2379/etcd
refused 'names no endpoint' MC_ETCD=,
refused 'names too many' "MC_ETCD=$(printf 'http://h%d,' $(seq 17))" MC_ETCD_CA=
refused 'belong together' MC_ETCD_USER=
refused 'belong together' MC_ETCD_CERT="$work/client.pem"
refused 'MC_ETCD_CA=/nowhere cannot be read' MC_ETCD_CA=/nowhere
refused 'MC_ETCD_PASSWORD_FILE=/nowhere cannot be read' MC_ETCD_PASSWORD_FILE=/nowhere
refused 'is without TLS' MC_ETCD=http://localhost:2379
refused 'MC_ETCD_PREFIX=///: must have' MC_ETCD_PREFIX=///
refused 'MC_ETCD_LEASE=1s: outside' MC_ETCD_LEASE=1s
refused 'did you mean MC_ETCD_USER' MC_ETCD_USR=mc
checks=$((checks + 1))
! grep -q hunter2 refused.err || fail "the password of the address is shown"
: >empty
MC_ETCD_PASSWORD_FILE=$work/empty bridge none w none 0 ec
hears none '^synced MC_ERR_CONFIG .*has no password in its first line'

for b in d t w ca name rights nobody clear peer dns proxy asked none; do ends $b; done

# Client certificates: one without a CN, and a password.
stop_etcd 0
start_etcd 0 --client-cert-auth --trusted-ca-file ca.pem
curl_cert="--cert client.pem --key client.key" within 60000 answers "${url[0]}"
bridge without w none 0 f1
hears without '^synced MC_ERR_(AUTH|TIMEOUT) .*MC_ETCD_CERT'
MC_ETCD_CERT=$work/client.pem MC_ETCD_KEY=$work/client.key bridge with w none 0 f2
hears with '^synced MC_OK'
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout cn.key -out cn.csr -subj /CN=mc 2>/dev/null
openssl x509 -req -in cn.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cn.pem 2>/dev/null
MC_ETCD_CERT=$work/cn.pem MC_ETCD_KEY=$work/cn.key bridge cn w none 0 f3
hears cn '^synced MC_ERR_AUTH .*certificates without a CN'
for b in without with cn; do ends $b; done
passed
