#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# etcd goes and comes back: stopped and started, stopped in its tracks, its history compacted, its data lost. Those who were
# there stay found, those who died meanwhile are told, and each outage is said once.
. "$(dirname "$0")/lib_etcd.sh"
one_etcd
log_lines() { grep -c "is away: " "$1.err"; }

bridge p prefill prefill 0 a1
tell p "publish p"
bridge d decode decode 0 d1
tell d "publish d"
hears p '^up decode 0 '
hears d '^up prefill 0 '
hears d '^synced MC_OK'

# Stopped and started.
stop_etcd 0
hears d '^synced MC_ERR_TIMEOUT https://127.0.0.1:[0-9]*: .*is etcd up'
hears p '^synced MC_ERR_TIMEOUT'
start_etcd 0
etcd_up 0
hears_times d '^synced MC_OK' 2 60000
hears_times p '^synced MC_OK' 2 60000
bridge q prefill prefill 1 a2
tell q "publish q"
hears d '^up prefill 1 .* q$'
never d '^down'
never p '^down'
checks=$((checks + 1))
[ "$(log_lines d)" -le 2 ] || fail "one outage is logged $(log_lines d) times: $(cat d.err)"

past() { [ "$(now_ms)" -ge "$1" ]; }
# In its tracks: every wait has an end, and what happened meanwhile is caught up with.
n=$(grep -c '^synced MC_ERR' d.out) m=$(grep -c '^synced MC_OK' d.out)
kill -STOP "${etcd_pid[0]}"
hears_times d '^synced MC_ERR_TIMEOUT .*no answer in time' 1 60000
hears_times d '^synced MC_ERR' $((n + 1)) 60000
killed q
within 20000 past $(($(now_ms) + 3500)) # the leases of all have run out when it wakes
kill -CONT "${etcd_pid[0]}"
hears_times d '^synced MC_OK' $((m + 1)) 60000
hears d '^down prefill 1 00000000000000a2' 60000
never d '^down prefill 0'
never p '^down'
tell p "publish p2"
hears d '^up prefill 0 .* p2$'

# While a bridge sleeps etcd is restarted, a rank goes, another comes, and the history is compacted: all is listed again.
bridge q prefill prefill 1 a4
tell q "publish q"
hears d '^up prefill 1 00000000000000a4'
kill -STOP "${pid[d]}"
stop_etcd 0
start_etcd 0
etcd_up 0
no_key() { [ -z "$(ctl get --keys-only "$1")" ]; }
ends q # its record goes now, or with its lease
within 60000 no_key mc/test/peers/prefill/1 || fail "the record of q stays"
bridge r prefill prefill 2 a5
tell r "publish r"
hears r '^synced MC_OK'
rev=$(ctl get --write-out=fields mc/test/key | sed -n 's/"Revision" : //p')
[ -n "$rev" ] && ctl compact --physical "$rev" >/dev/null || fail "no compaction: $(cat ctl.err)"
kill -CONT "${pid[d]}"
hears d '^up prefill 2 00000000000000a5' 60000
hears d '^down prefill 1 00000000000000a4' 60000

# The data is lost: the old key comes back, and everybody's record.
key=$(sed -n 's/^key //p' d.out)
stop_etcd 0
rm -rf data0
start_etcd 0
etcd_up 0
enable_auth
lost() { grep -q 'has lost its data' "$1.err"; }
for b in d p; do within 90000 lost $b || fail "$b does not notice that the data is lost"; done
bridge n new decode 0 b1
tell n "publish n"
hears n '^up decode 0 00000000000000d1' 60000
hears n '^up prefill 0 .* p2$' 60000
hears d '^up new 0 ' 60000
checks=$((checks + 1))
[ "$(cat d.out p.out n.out | sed -n 's/^key //p' | sort -u)" = "$key" ] || fail "the key has changed: $(grep -h ^key ./*.out)"

# Closing while etcd is gone, or hangs, takes no longer than it may.
kill -STOP "${etcd_pid[0]}"
ends d
kill -CONT "${etcd_pid[0]}"
stop_etcd 0
hears n '^synced MC_ERR_TIMEOUT'
ends n
ends p
ends r
passed
