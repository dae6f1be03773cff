#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Two jobs find each other through an etcd with TLS and a password: one key, records, updates, leaving, death, restart.
. "$(dirname "$0")/lib_etcd.sh"
one_etcd

MC_ETCD_LEASE=60s bridge p prefill prefill 0 a1 # (longer than it takes to start it again)
tell p "publish hello from p"
hears p '^synced MC_OK'
MC_ETCD_LEASE=600s bridge q prefill prefill 1 a2 # (so that it is not the lease's end that takes its record away)
tell q "publish hello from q"
bridge d decode-1 decode 7 d1
hears d '^synced MC_OK'
tell d 'info {"host":"node7"}'
tell d "publish hello from d"
hears d '^up prefill 0 00000000000000a1 prefill 12 hello from p'
hears d '^up prefill 1 00000000000000a2 prefill 12 hello from q'
hears p '^up decode-1 7 00000000000000d1 decode 12 hello from d'
hears q '^up decode-1 7 '
checks=$((checks + 1))
[ "$(sed -n 's/^key //p' p.out)" = "$(sed -n 's/^key //p' d.out)" ] || fail "two keys of the cluster"
never p '^up prefill' # own job
never p '^up decode-1 7 .*host'
ctl get --print-value-only mc/test/peers/decode-1/7 >value.out
grep -q '"info":{"host":"node7"}' value.out || fail "no information for people in the record"

# A new record of the same incarnation; one as long as is allowed; one longer.
tell p "publish changed"
hears d '^up prefill 0 00000000000000a1 prefill 7 changed'
tell p "big 65536"
hears d '^up prefill 0 00000000000000a1 prefill 65536 x'
tell p "big 65537"
hears p '^publish failed'

# Leaving takes the record away at once; a death when the lease is over; a restart in between is another epoch.
ends q
hears d '^down prefill 1 00000000000000a2'
killed p
bridge p prefill prefill 0 a3
tell p "publish again"
hears d '^up prefill 0 00000000000000a3 prefill 5 again'
never d '^down prefill 0'
killed p
hears d '^down prefill 0 00000000000000a3'

# Other clusters, and what is no record, are left out; a record that is spoilt counts as gone.
MC_ETCD_PREFIX=mc/other bridge o prefill prefill 5 e1
tell o "publish other cluster"
hears o '^synced MC_OK'
head -c 300000 /dev/zero | tr '\0' A >long
ctl put mc/test/peers/x/notarank '{}' >/dev/null
ctl put mc/test/peers/x/01 '{}' >/dev/null
ctl put mc/test/peers/x/1 'no json' >/dev/null
ctl put mc/test/peers/x/2 '{"v":1,"role":"r","epoch":"0000000000000001","record":"@@@@"}' >/dev/null
ctl put mc/test/peers/x/3 '{"v":2,"role":"r","epoch":"0000000000000001","record":"QUJD"}' >/dev/null
ctl put mc/test/peers/x/4 '{"v":1,"role":"r","epoch":"0000000000000000","record":"QUJD"}' >/dev/null
ctl put mc/test/peers/x/5 <long >/dev/null
ctl put mc/test/peers/x/6 '{"v":1,"role":"r","epoch":"0000000000000001","record":"QUJD"}' >/dev/null
ctl put mc/test/peers/sp%20ace%2Fd/8 '{"v":1,"role":"r","epoch":"0000000000000001","record":"QUJD"}' >/dev/null
ctl put mc/test/peersX/9 '{"v":1,"role":"r","epoch":"0000000000000001","record":"QUJD"}' >/dev/null
hears d '^up x 6 0000000000000001 r 3 ABC'
hears d '^up sp ace/d 8 '
ctl put mc/test/peers/x/6 'spoilt' >/dev/null
hears d '^down x 6 '
never d '^up x [0-57-9]'
never d '^up prefill 5'
checks=$((checks + 1))
grep -q "is left out: " d.err || fail "what was left out is not logged"
[ "$(wc -l <d.err)" -le 12 ] || fail "too many lines: $(cat d.err)"

# A bridge that comes later finds the same, with the same that is left out.
bridge late late decode 0 11
hears late '^synced MC_OK'
hears late '^up decode-1 7 '
never late '^up x'

# Two processes under one name and rank: the later one stays, the earlier one says so, and is back when the other leaves.
bridge u1 twice prefill 0 c1
tell u1 "publish first"
hears d '^up twice 0 00000000000000c1'
bridge u2 twice prefill 0 c2
tell u2 "publish second"
hears d '^up twice 0 00000000000000c2'
hears u1 '^synced MC_ERR_CONFIG another process publishes as rank 0 of job twice .*MC_JOB'
ends u2
hears_times u1 '^synced MC_OK' 2
hears_times d '^up twice 0 00000000000000c1' 2
ends u1

# Foreign keys that are larger together than an answer may be: the listing goes on in smaller pieces.
head -c 1000000 /dev/zero | tr '\0' A >long
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do ctl put mc/test/peers/big/$i <long >/dev/null || fail "no large key: $(cat ctl.err)"; done
ctl put mc/test/peers/zz/1 '{"v":1,"role":"r","epoch":"0000000000000001","record":"QUJD"}' >/dev/null
bridge large large none 0 e9
hears large '^up zz 1 ' 60000
hears large '^up decode-1 7 '
hears large '^synced MC_OK'
no_outage large
hears d '^up zz 1 '
no_outage d
ends large

# Two ranks that come at the same moment to an empty cluster agree on one key.
export MC_ETCD_PREFIX=mc/race
for i in 1 2 3 4 5 6; do bridge r$i race$i prefill 0 $i; done
for i in 1 2 3 4 5 6; do hears r$i '^synced MC_OK'; done
checks=$((checks + 1))
[ "$(cat r?.out | grep '^key' | sort -u | wc -l)" = 1 ] || fail "$(cat r?.out | grep '^key' | sort -u | wc -l) keys"
for i in 1 2 3 4 5 6; do ends r$i; done

# An etcd that is full: what is there is found, what is new is not published, and says why.
stop_etcd 0
start_etcd 0 --quota-backend-bytes 4000000
etcd_up 0 'true|false'
for i in 1 2 3 4 5 6 7 8; do ctl put mc/fill/$i <long >/dev/null || break; done
export MC_ETCD_PREFIX=mc/test
bridge full full none 0 e8
tell full "publish late"
hears full '^up decode-1 7 ' 60000
hears full '^synced MC_OK' 60000
full_said() { grep -q 'cannot be published: .*etcdctl alarm list' full.err; }
checks=$((checks + 1))
within 60000 full_said || fail "a full etcd is not named: $(cat full.err)"
ends full
ends d
ends o
ends late
passed
