#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Several endpoints: a dead one beside a live one; three members of which the leader is killed; the last endpoint goes.
. "$(dirname "$0")/lib_etcd.sh"
make_certs
choose_ports 4
cluster=$(for i in 0 1 2; do printf 'm%d=http://127.0.0.1:%d,' $i "${peer_port[i]}"; done)
cluster=${cluster%,}
# A leader that does not run for a moment is to stay the leader.
for i in 0 1 2; do start_etcd $i --initial-cluster-state new --heartbeat-interval 300 --election-timeout 3000; done
for i in 0 1 2; do etcd_up $i; done
enable_auth
export MC_ETCD=${url[0]},${url[1]},${url[2]} MC_ETCD_CA=$work/ca.pem MC_ETCD_USER=mc MC_ETCD_PASSWORD_FILE=$work/password
export MC_ETCD_PREFIX=mc/test MC_ETCD_LEASE=9s MC_LOG=info

# One of two endpoints has nobody behind it: no outage, wherever a bridge begins. Each begins where it likes: as many as it takes for
# one to have begun there, and six at least.
dead_seen() { grep -q "going on with ${url[1]}" e*.err; }
n=0
while [ $n -lt 6 ] || { ! dead_seen && [ $n -lt 40 ]; }; do
	n=$((n + 1))
	MC_ETCD=https://127.0.0.1:${port[3]},${url[1]} bridge e$n job$n none $n $n
	tell e$n "publish e$n"
	[ $n -lt 6 ] || hears e$n '^synced MC_OK'
done
for i in $(seq $n); do
	hears e$i '^synced MC_OK'
	no_outage e$i
done
hears e1 '^up job6 6 '
hears e6 '^up job1 1 '
checks=$((checks + 1))
dead_seen || fail "the dead endpoint is not mentioned by anybody: $(cat e*.err)"
for i in $(seq $n); do ends e$i; done

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
for i in 1 2 3 4 5 6; do for j in 1 2 3 4 5 6; do [ $i = $j ] || hears b$i "^up job$j $j .* two$" 60000; done; done
for i in 1 2 3 4 5 6; do never b$i '^down'; done

# A second one hangs: no majority. It comes back.
for i in 0 1 2; do [ $i = $leader ] || other=$i; done
n=$(grep -c '^synced MC_ERR_TIMEOUT' b1.out) # the election may have been one, too
kill -STOP "${etcd_pid[other]}"
hears_times b1 '^synced MC_ERR_TIMEOUT' $((n + 1)) 90000
n=$(grep -c '^synced MC_OK' b1.out)
kill -CONT "${etcd_pid[other]}"
hears_times b1 '^synced MC_OK' $((n + 1)) 90000
tell b2 "publish three"
hears b1 '^up job2 2 .* three$' 60000
for i in 1 2 3 4 5 6; do ends b$i; done
passed
