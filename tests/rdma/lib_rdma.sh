# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the tests of this folder, inside the test kernel: what lib_mcrun.sh of the job tests gives, and RDMA devices.
. "${TEST_SRC:?}/tests/job/lib_mcrun.sh"
PATH=$PATH:/usr/sbin:/sbin
mcperf=$bin/mcperf
mcinfo=$bin/mcinfo
[ -d /sys/class/infiniband ] || { echo "skip: no RDMA device here: start this through tests/rdma/vm"; exit 77; }

# step TEXT: what comes now, with the time, so that the output of a test that hangs says where
step() { echo "$(cut -d' ' -f1 /proc/uptime) $*"; }

# A pair of ranks as if on two hosts: odd ranks have the b ends of the wires, even ones the a ends. $1: number of wires; $2: siw
on_wires()
{
	local i a='' b='' make=${2:-rx}
	for ((i = 0; i < $1; i++)); do
		a=$a${a:+,}${make}a$i b=$b${b:+,}${make}b$i
	done
	cat >on_wires <<-END
		#!/bin/sh
		if [ \$((PMIX_RANK % 2)) -eq 0 ]; then MC_DEVICE=$a; else MC_DEVICE=$b; fi
		export MC_DEVICE
		exec "\$@"
	END
	chmod +x on_wires
}

# What makes odd ranks believe that they are on another host, although they share this kernel: another boot id. (Soft-RoCE has no
# network namespaces.) MC_LAUNCHER would tell them that mcrun has started all of them here.
two_hosts()
{
	echo 01234567-89ab-cdef-0123-456789abcdef >boot_id
	cat >two_hosts <<-END
		#!/bin/sh
		unset MC_LAUNCHER
		export MC_HOST=host\$PMIX_RANK
		[ \$((PMIX_RANK % 2)) -eq 1 ] || exec "\$@"
		exec unshare -m sh -c 'mount --bind "\$0" /proc/sys/kernel/random/boot_id; exec "\$@"' $PWD/boot_id "\$@"
	END
	chmod +x two_hosts
}

# json FILE KEY: the value of the first "KEY": in a report
json() { grep -o "\"$2\": *\"\{0,1\}[^\",}]*" "$1" | head -1 | sed 's/^[^:]*: *"\{0,1\}//'; }
# at_least WHAT VALUE LIMIT, at_most: numbers, also with a fraction
at_least() { checks=$((checks + 1)); awk -v a="$2" -v b="$3" 'BEGIN { exit !(a + 0 >= b + 0) }' || fail "$1 is $2, below $3"; }
at_most() { checks=$((checks + 1)); awk -v a="$2" -v b="$3" 'BEGIN { exit !(a + 0 <= b + 0) }' || fail "$1 is $2, above $3"; }

wire() { "$TEST_SRC/tests/rdma/wire" "$@"; }
soak_bin=$helpers/rail_soak
need_verbs() { case " ${TEST_WITH:-} " in *" verbs "*) ;; *) echo "skip: built without verbs"; exit 77 ;; esac; }

# soak NAME ARG...: rail_soak between two ranks over verbs; its reports are NAME.0 and NAME.1. SOAK_WANT: the status to expect.
# SOAK_ON: a script to use instead of on_wires.
soak()
{
	local name=$1 status=0
	shift
	timeout -k 5 200 "$mcrun" --backend verbs --on-failure continue -n 2 "${SOAK_ON:-./on_wires}" "$soak_bin" --json "$name" "$@" \
		>out 2>err </dev/null || status=$?
	checks=$((checks + 1))
	[ "$status" = "${SOAK_WANT:-0}" ] || fail "rail_soak $name ended with $status"
	echo "  $name: $(json "$name.0" link)"
	echo "  $name: before $(json "$name.0" before_mbs) MB/s, after $(json "$name.0" after_mbs); $(json "$name.0" transfers)" \
		"transfers, $(json "$name.0" failed) failed; longest silence $(json "$name.0" gap_ms) ms, transfer" \
		"$(json "$name.0" worst_ms) ms"
}

# unharmed NAME: nothing failed, no byte wrong, each note exactly once
unharmed()
{
	expect "transfers that failed" "$(json "$1.0" failed)" 0
	expect "peer lost" "$(json "$1.0" peer_lost)" 0
	expect "wrong bytes" "$(json "$1.1" wrong_bytes)" 0
	expect "notes missing" "$(json "$1.1" missing)" 0
	expect "notes doubled" "$(json "$1.1" doubled)" 0
	expect "notes" "$(json "$1.1" notes)" "$(json "$1.0" transfers)"
}

# limit_now LIMIT: what to ask of a ratio of two speeds. Where others want the host's processors, both are a matter of luck.
limit_now() { awk -v l="$1" -v load="${TEST_HOST_LOAD:-0}" 'BEGIN { print (load > 1.5) ? l * 0.6 : l }'; }

# recovers NAME ARG...: soak, unharmed, and the speed afterwards is at least 0.9 of what it was before, with each of two rails
# carrying its part. Speed is a matter of luck on a busy machine: it has four tries, the rest has one.
recovers()
{
	local try ratio
	for try in 1 2 3 4; do
		soak "$@"
		unharmed "$1"
		at_least "part of the packets that the least used rail carried after recovery" "$(json "$1.0" least_share)" 0.3
		ratio=$(awk -v a="$(json "$1.0" after_mbs)" -v b="$(json "$1.0" before_mbs)" 'BEGIN { print (b > 0) ? a / b : 0 }')
		awk -v r="$ratio" 'BEGIN { exit !(r >= 0.9) }' && break
	done
	at_least "speed after recovery over that before, in the last of $try tries," "$ratio" "$(limit_now 0.9)"
}
