#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# usage: run.sh [--json FILE] [--quick] [--bin DIR] [--runs N]
# Measure what docs/PERFORMANCE.md promises: every figure in turn with its reference, the moved bytes compared.
#   --json FILE  one JSON line per row: name, figure, unit, reference, ratio (of medians), ratio_best, aim, met, parts
#   --quick      two short runs: shows that everything works, says nothing about speed
#   --bin DIR    where mcrun and mcperf are (default: build/bin beside this script's folder)
#   --runs N     runs of each figure (default 5)
# Exit: 0 all rows were measured and all bytes were right, whether an aim is met or not; 1 otherwise; 2 usage.
set -u
here=$(cd "$(dirname "$0")" && pwd)
bin=$here/../build/bin json='' runs=5 duration=200ms quick=no
usage() { sed -n '3,10s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
	case $1 in
	--json | --bin | --runs)
		[ $# -gt 1 ] || { echo "run.sh: $1 needs a value" >&2; exit 2; }
		case $1 in --json) json=$2 ;; --bin) bin=$2 ;; *) runs=$2 ;; esac
		shift
		;;
	--quick) quick=yes runs=2 duration=20ms ;;
	--help | -h) usage; exit 0 ;;
	*) echo "run.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
	esac
	shift
done
case $runs in '' | *[!0-9]* | 0) echo "run.sh: --runs must be a number" >&2; exit 2 ;; esac
[ -x "$bin/mcrun" ] && [ -x "$bin/mcperf" ] || { echo "run.sh: no mcrun and mcperf in $bin (--bin DIR)" >&2; exit 2; }
if [ -n "$json" ]; then : >"$json" || exit 2; fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
pool=$([ $quick = yes ] && echo 32M || echo 256M)

# perf FILE RANKS ARG...: one mcperf job, its lines into FILE
perf()
{
	local file=$1 ranks=$2
	shift 2
	if ! timeout -k 5 300 "$bin/mcrun" --output merge -n "$ranks" "$bin/mcperf" "$@" --runs "$runs" --json "$work/$file" \
		>"$work/out" 2>"$work/err" </dev/null; then
		echo "run.sh: mcperf $* failed:" >&2
		cat "$work/err" >&2
		failed=1
	fi
}

# get FILE KEY [SIZE]: a number of the line (of that size) of a job; "" if it was not measured
get()
{
	[ -f "$work/$1" ] || return 0
	grep "\"size\":${3:-[0-9]*}," "$work/$1" | head -1 | grep -o "\"$2\":[0-9.truefalse]*" | head -1 | cut -d: -f2
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (a + 0 > 0 && b + 0 > 0) printf "%.3f", a / b }'; }
scaled() { awk -v a="$1" -v f="$2" 'BEGIN { if (a + 0 > 0) printf "%.4g", a * f }'; }

# part NAME FIGURE UNIT REFERENCE RATIO AIM SENSE LIMIT VALUE [only-info]: SENSE ge or le: VALUE against LIMIT decides.
# A row of the table in docs/PERFORMANCE.md has one part or more and is met when all are, but for those that only inform.
parts='' row_met=true worst=999999 worst_text='' best=''
part()
{
	local met=null said='not measured' margin=0
	if [ -n "$2" ] && [ -n "$9" ]; then
		margin=$(awk -v v="$9" -v l="$8" -v s="$7" 'BEGIN { if (s == "ge") print v / l; else print l / v }')
		met=$(awk -v m="$margin" 'BEGIN { if (m >= 1) print "true"; else print "false" }')
		[ $met = true ] && said=yes || said=no
	fi
	printf '%-46s %9s %-4s %9s %7s %7s  %-34s %s\n' "$1" "${2:--}" "$3" "${4:--}" "${5:--}" "${best:--}" "$6" "$said"
	local text='"figure":'${2:-null}',"unit":"'$3'","reference":'${4:-null}',"ratio":'${5:-null}
	text="$text,\"ratio_best\":${best:-null},\"aim\":\"$6\""
	best=''
	parts="$parts${parts:+,}{\"name\":\"${1#  }\",$text,\"met\":$met}"
	[ -z "${10:-}" ] || return 0
	[ $met = true ] || row_met=$met
	if awk -v m="$margin" -v w="$worst" 'BEGIN { exit !(m < w) }'; then
		worst=$margin worst_text=$text
	fi
}

# row NAME: ends a row; its figure is that of the part that is furthest from its aim
row()
{
	[ -z "$json" ] || printf '{"name":"%s",%s,"met":%s,"parts":[%s]}\n' "$1" "$worst_text" "$row_met" "$parts" >>"$json"
	parts='' row_met=true worst=999999 worst_text=''
}

# against NAME FILE SIZE REF_KEY WHAT SENSE LIMIT [KEY [only-info]]: a figure and its reference of the same line
against()
{
	local f r q key=${8:-gbps_median} unit=GB/s
	case $key in *_us) unit=us ;; esac
	f=$(get "$2" "$key" "$3") r=$(get "$2" "$4" "$3")
	q=$(ratio "$f" "$r")
	[ "$key" != gbps_median ] || best=$(ratio "$(get "$2" gbps_best "$3")" "$(get "$2" "$4_best" "$3")")
	part "$1" "$f" $unit "$r" "$q" "$([ "$6" = ge ] && echo '>=' || echo '<=') $7 of $5" "$6" "$7" "$q" "${9:-}"
}

median()
{
	sort -g "$1" | awk '{ v[NR] = $1 } END { if (NR > 0) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

verified() # every job so far compared what it moved
{
	local bad
	bad=$(cat "$work"/*.jsonl 2>/dev/null | grep -vc '"verified":true')
	[ "$bad" = 0 ] || { echo "run.sh: $bad rows are not verified" >&2; failed=1; }
}

version=$("$bin/mcperf" --version)
echo "# $version, $(uname -sr), $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg), $(date -u +%FT%TZ); medians of $runs runs in turn"
printf '%-46s %9s %-4s %9s %7s %7s  %-34s %s\n' what figure unit reference ratio 'of best' aim met

bw="bw --duration $duration --pool $pool --no-bulk"
large=1M,4M,16M,64M lat=''
[ $quick = no ] || { large=1M,4M lat='--iters 100'; }
K4=4096
# shellcheck disable=SC2086 # lists of words
{
perf big.jsonl 2 $bw -s 64M --batch 1 --window 1 --reference
against '64 MiB put, pool' big.jsonl '' ref_memcpy_gbps memcpy ge 0.95
row '64 MiB put, mc_mem_alloc pools'

perf pool.jsonl 2 $bw -s 4K --batch 1024 --window 1 --reference
against '1024 x 4 KiB put, pool' pool.jsonl $K4 ref_memcpy_gbps memcpy ge 0.95
against '  beside one block per call' pool.jsonl $K4 ref_pvm_gbps process_vm_writev ge 2.2
f=$(get pool.jsonl cpu_us_per_block) r=$(get pool.jsonl ref_memcpy_cpu_us_per_block)
part '  CPU of both sides per block' "$f" us "$r" "$(ratio "$f" "$r")" '<= 1.1 us' le 1.1 "$f"
against '  best run' pool.jsonl $K4 ref_memcpy_gbps_best 'memcpy if a 2nd core is idle' ge 1.5 gbps_best only-info
row '1024 random blocks of 4 KiB, mc_mem_alloc pools'

perf own.jsonl 2 $bw -s 4K --batch 1024 --window 1 --reference --memory own
against '1024 x 4 KiB put, own memory' own.jsonl $K4 ref_pvm_gbps process_vm_writev ge 1.4
row "1024 random blocks of 4 KiB, caller's own memory"

for op in put get; do
	perf tcp_$op.jsonl 2 $bw -s 4K --batch 1024 --window 2 --reference --transport tcp --op $op
	against "1024 x 4 KiB $op, TCP" tcp_$op.jsonl $K4 ref_tcp_gbps 'a raw stream' ge 0.7
	f=$(get tcp_$op.jsonl cpu_us_per_block) r=$(scaled "$(get tcp_$op.jsonl ref_tcp_cpu_s_per_gib)" 3.814697)
	part '  CPU of both sides per block' "$f" us "$r" "$(ratio "$f" "$r")" '<= 3.5 us' le 3.5 "$f"
done
row '1024 random blocks of 4 KiB over TCP, put and get'

for op in put get; do
	perf large_$op.jsonl 2 $bw -s $large --batch 1 --window 4 --reference --transport tcp --op $op
	for m in $(echo ${large//M/} | tr , ' '); do
		against "$m MiB $op, TCP" large_$op.jsonl $((m << 20)) ref_tcp_gbps 'a raw stream' ge 0.95
	done
done
row '1 to 64 MiB over TCP, put and get'

lat="lat --duration $duration --reference --pool 64M $lat"
# ucx_perftest writes the same 8 bytes again and again: so does the row that is compared with it.
perf lat_shm.jsonl 2 $lat -s 8 --progress manual --poll --pool 4K
against '8 B put + note, same host, polling' lat_shm.jsonl '' ref_ucx_put_lat_us 'ucx_perftest put' le 1.5 p50_us
perf lat_far.jsonl 2 $lat -s 8 --progress manual --poll
against '  at random places of 64 MiB' lat_far.jsonl '' ref_ucx_put_lat_us 'ucx_perftest put' le 1.5 p50_us only-info
row '8 B put + note until the target has it, same host, both sides polling'

perf lat_tcp.jsonl 2 $lat -s 4K --transport tcp
against '4 KiB put + note, TCP, asleep' lat_tcp.jsonl $K4 ref_tcp_rr_us 'a raw socket' le 1.5 p50_us
perf lat_tcp_poll.jsonl 2 $lat -s 4K --transport tcp --progress manual --poll
against '  both polling' lat_tcp_poll.jsonl $K4 ref_tcp_rr_us 'a raw socket, polling' le 1.5 p50_us
row 'one 4 KiB block over TCP until the target has it'

for post in list some put; do
	case $post in list) what='  all of a prepared list' ;; some) what='  selected from one by number' ;; *) what='  by mc_put()' ;; esac
	for t in tcp shm; do
		perf post_$post.$t.jsonl 2 $bw -s 4K --batch 1024 --window 2 --transport $t --post $post
		f=$(get post_$post.$t.jsonl post_ns_per_block)
		part "$what, $t, per block" "$f" ns '' '' '<= 100 ns in the caller' le 100 "$f"
	done
done
row 'posting 1024 blocks of a prepared list'

# One run of each in turn.
for i in $(seq "$runs"); do
	for t in 1 16; do
		rounds=$runs runs=1
		perf threads_$t.$i.jsonl 5 $bw -s 4K --batch 64 --pattern one-to-many --threads $t
		runs=$rounds
		get threads_$t.$i.jsonl gbps_median >>"$work/threads_$t"
	done
done
f=$(median "$work/threads_16") r=$(median "$work/threads_1")
part '16 threads to 4 peers' "$f" GB/s "$r" "$(ratio "$f" "$r")" '>= 0.9 of 1 thread' ge 0.9 "$(ratio "$f" "$r")"
row '16 threads posting to 4 peers'
}
verified
echo "# load at the end $(cut -d' ' -f1-3 /proc/loadavg); wall-clock figures want a load of about 0 beside this, CPU figures do not"
[ "$failed" = 0 ] && echo "# all moved bytes verified" || echo "# FAILED: see above"
exit "$failed"
