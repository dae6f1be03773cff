#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Several endpoints: a dead one beside a live one; three members of which the leader is killed; the last endpoint goes.
. "$(dirname "$0")/lib_etcd.sh"
make_certs
choose_ports 4
cluster=$(for i in 0 1 2; do printf 'm%d=http://127.0.0.1:%d,' $i "${peer_port[i]}"; done)
cluster=${cluster%,}
for i in 0 1 2; do start_etcd $i --initial-cluster-state new; done
for i in 0 1 2; do etcd_up $i; done
enable_auth
export MC_ETCD=${url[0]},${url[1]},${url[2]} MC_ETCD_CA=$work/ca.pem MC_ETCD_USER=mc MC_ETCD_PASSWORD_FILE=$work/password
export MC_ETCD_PREFIX=mc/test MC_ETCD_LEASE=5s MC_LOG=info

# One of two endpoints has nobody behind it: no outage, wherever a bridge begins.
for i in 1 2 3 4 5 6; do MC_ETCD=https://127.0.0.1:${port[3]},${url[1]} bridge e$i job$i none $i $i; done
for i in 1 2 3 4 5 6; do
	tell e$i "publish e$i"
	hears e$i '^synced MC_OK'
	never e$i '^synced MC_ERR'
done
hears e1 '^up job6 6 '
hears e6 '^up job1 1 '
checks=$((checks + 1))
grep -q "going on with ${url[1]}" e?.err || fail "the dead endpoint is not mentioned by anybody: $(cat e?.err)"
for i in 1 2 3 4 5 6; do ends e$i; done

# The leader is killed.
for i in 1 2 3 4 5 6; do
	bridge b$i job$i none $i $i
	tell b$i "publish one"
done
for i in 1 2 3 4 5 6; do for j in 1 2 3 4 5 6; do [ $i = $j ] || hears b$i "^up job$j $j .* one$"; done; done
leader=
for i in 0 1 2; do
	if etcdctl --endpoints "${url[i]}" --cacert ca.pem --user root:root endpoint status --write-out=fields 2>/dev/null |
		awk -F ' : ' '/"Leader"/ { l = $2 } /"MemberID"/ { m = $2 } END { exit l != m }'; then leader=$i; fi
done
[ -n "$leader" ] || fail "no leader"
{ kill -9 "${etcd_pid[leader]}"; wait "${etcd_pid[leader]}"; } 2>/dev/null
for i in 1 2 3 4 5 6; do tell b$i "publish two"; done
for i in 1 2 3 4 5 6; do for j in 1 2 3 4 5 6; do [ $i = $j ] || hears b$i "^up job$j $j .* two$" 20000; done; done
for i in 1 2 3 4 5 6; do never b$i '^down'; done

# A second one hangs: no majority. It comes back.
for i in 0 1 2; do [ $i = $leader ] || other=$i; done
kill -STOP "${etcd_pid[other]}"
hears b1 '^synced MC_ERR_TIMEOUT' 40000
kill -CONT "${etcd_pid[other]}"
n=$(grep -c '^synced MC_OK' b1.out)
hears_times b1 '^synced MC_OK' $((n + 1)) 30000
tell b2 "publish three"
hears b1 '^up job2 2 .* three$' 20000
for i in 1 2 3 4 5 6; do ends b$i; done
passed
