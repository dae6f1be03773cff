#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcinfo doctor --etcd against real etcd servers: TLS and a password right and wrong, one that listens on the loopback alone,
# one that is down, that hangs, that has lost its majority; the endpoints of MC_ETCD.
. "$(dirname "$0")/lib_etcd.sh"
mcinfo=${TEST_BIN:-}/mcinfo
[ -x "$mcinfo" ] || { echo "skip: mcinfo is not part of this build"; exit 77; }
# ask STATUS PATTERN [ARG...]
ask()
{
	local status=$1 pattern=$2
	shift 2
	checks=$((checks + 1))
	local try
	for try in 1 2 3 4 5; do # an etcd that does not get to answer within the doctor's 3 s is asked once more
		timeout 60 "$mcinfo" doctor --json --for tcp "$@" >all.out 2>all.err || true
		grep '"id": "etcd"' all.out >doctor.out || fail "no answer about etcd: $(head -3 all.err)"
		grep -q 'no answer within' doctor.out || break
		if grep -qE -e "\"status\": \"$status\".*$pattern" doctor.out; then break; fi
	done
	grep -qE -e "\"status\": \"$status\".*$pattern" doctor.out || fail "doctor $*: not $status with '$pattern'"
	! grep -q secret all.out || fail "the password is shown"
}
one_etcd
ask ok 'HTTP 200.*user mc is let in' --etcd "$MC_ETCD"
ask ok 'user mc is let in'
chmod 604 password
ask warn "let in.*MC_ETCD_PASSWORD_FILE=$work/password \\(mode 0604\\) can be read by everybody on this host.*chmod 600 $work/password"
chmod 640 password
ask ok 'user mc is let in'
chmod 600 password
ask fail 'TLS: .*verif|TLS: .*certificate' --etcd "${MC_ETCD/127.0.0.1/localhost}"
MC_ETCD_CA=$work/other.pem ask fail 'TLS: .*MC_ETCD_CA'
printf 'guess\n' >password2
MC_ETCD_PASSWORD_FILE=$work/password2 ask fail 'knows no user mc with the password.*etcdctl user passwd mc'
MC_ETCD_PASSWORD_FILE=$work/none ask fail 'has no password in its first line, or cannot be read'
ask fail 'listens on the loopback alone.*--listen-client-urls' --etcd "${MC_ETCD/127.0.0.1/127.0.0.2}"
ask fail 'https' --etcd "${MC_ETCD/https/http}"
ask warn "nothing answers there" --etcd "$MC_ETCD,https://127.0.0.1:1"
https_proxy=http://127.0.0.1:1 ask ok 'let in'
kill -STOP "${etcd_pid[0]}"
all_stopped() { ! grep -hs '^State:' "/proc/${etcd_pid[0]}"/task/*/status | grep -qv stopped; } # its threads stop one by one
within 30000 all_stopped || fail "etcd does not stop"
ask fail 'no answer within 3 s'
kill -CONT "${etcd_pid[0]}"
stop_etcd 0
ask fail 'nothing answers there.*--listen-client-urls'

# A client certificate with a CN, and without a password.
start_etcd 0 --client-cert-auth --trusted-ca-file ca.pem
curl_cert="--cert client.pem --key client.key" within 60000 answers "${url[0]}"
for _ in 1 2 3 4 5; do ask fail MC_ETCD_CERT; done
MC_ETCD_CERT=$work/client.pem MC_ETCD_KEY=$work/client.key ask ok 'user mc is let in'
chmod 644 client.key password password2
export MC_ETCD_CERT=$work/client.pem MC_ETCD_KEY=$work/client.key
open_key="MC_ETCD_KEY=$work/client.key \\(mode 0644\\) can be read by everybody on this host"
ask warn "let in.*MC_ETCD_PASSWORD_FILE=$work/password \\(mode 0644\\) and $open_key.*chmod 600 $work/password $work/client.key"
MC_ETCD_PASSWORD_FILE=$work/password2 ask fail "knows no user mc with the password.*; .* and $open_key.*; chmod 600"
MC_ETCD_USER='' MC_ETCD_PASSWORD_FILE='' ask warn "\"$open_key"
chmod 600 client.key password
unset MC_ETCD_CERT MC_ETCD_KEY
stop_etcd 0

# Two of three members gone: no majority.
choose_ports 3
cluster=$(for i in 0 1 2; do printf 'm%d=http://127.0.0.1:%d,' $i "${peer_port[i]}"; done)
cluster=${cluster%,}
rm -rf data0
auth=
for i in 0 1 2; do start_etcd $i; done
for i in 0 1 2; do etcd_up $i; done
MC_ETCD_USER='' MC_ETCD_PASSWORD_FILE='' ask ok 'health' --etcd "${url[0]},${url[1]},${url[2]}"
ask warn 'asks nobody for a password.*auth enable' --etcd "${url[0]}"
stop_etcd 1
stop_etcd 2
unwell() { ! answers "${url[0]}"; }
within 60000 unwell || fail "a member alone is well"
MC_ETCD_USER='' MC_ETCD_PASSWORD_FILE='' ask fail 'not well|no answer within 3 s' --etcd "${url[0]}"
passed
