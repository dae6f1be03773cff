#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Who is not of the job: another host and another user, in the middle of a replay. Garbage, half greetings and silence on every
# port that anything of the job listens on; a flood of connections; PMIx clients that claim to be the user. The job is unharmed:
# it ends well, every byte verified. And: the key is in no command line, and on no disk.
set -u
. "$(dirname "$0")/lib_hosts.sh"
need_mpirun
need_probe
command -v setpriv >/dev/null || skip "setpriv is not installed (util-linux)"
command -v ss >/dev/null || skip "ss is not installed (iproute2)"
hosts 4 # the fourth has nothing to do with the job
stranger=${me}3
chmod 711 "$work"
forger=$TEST_HELPERS/pmix_forger
chain=$forger
while [ "$chain" != / ]; do chain=$(dirname "$chain"); done
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
as_nobody test -x "$forger" || skip "another user cannot run $forger"

start() # start SPEED ARG...: a replay with agents, under way when this returns
{
	local speed=$1
	shift
	rm -f report.json
	: >err
	"$work/on" "$h0" "$@" "$mcrun" --engine openmpi --hosts "$h0:2,$h1:2,$h2:2" --agent --prefill 2 --decode 4 "$mcperf" replay \
		--trace "$sample" --model llama-3.1-8b --layers 1 --speed "$speed" --progress always --transport tcp \
		--json "$work/report.json" >out 2>err </dev/null &
	job=$!
	within 60000 grep -qE '\] [1-9][0-9]?/60 requests' err || fail "the replay does not get under way"
}
finish()
{
	local got=0
	within 120000 dead_job || { kill -9 "$job"; fail "the job hangs after $1"; }
	wait "$job" || got=$?
	expect "code after $1" $got 0
	all_verified 60
	no_orphans
}
dead_job() { ! alive "$job"; }
listening() { ip netns exec "$1" ss -Hltn | awk '{ n = $4; sub(/.*:/, "", n); print ($4 ~ /^(127|\[::1)/) ? "127.0.0.1" : "other", n }' | sort -u; }
# say HOST ADDRESS PORT: several things that nobody of the job would say
say()
{
	as_nobody ip netns exec "$1" true 2>/dev/null
	ip netns exec "$1" setpriv --reuid 65534 --regid 65534 --clear-groups timeout 2 bash -c '
		exec 3<>"/dev/tcp/$0/$1" || exit 0
		case $2 in
		0) head -c 3000 /dev/urandom >&3 ;;
		1) head -c 100000 /dev/zero >&3 ;;
		2) printf "GET / HTTP/1.0\r\n\r\n" >&3 ;;
		3) printf "MCL1%088d" 0 >&3 ;;
		4) printf "\0\0\0\0\0\0\0\020" >&3 ;;
		esac' "$2" "$3" "$4" 2>/dev/null
}

# ---- every port of the job, from another user on the host and from another host
start 1 env
asked=0
for i in 0 1 2; do
	while read -r where port; do
		( # all at once: the job is to be there until the last is said
			for what in 0 1 2 3 4; do
				if [ "$where" = other ]; then
					say "$stranger" "10.77.0.$((i + 1))" "$port" $what &
				fi
				say "$me$i" "$([ "$where" = other ] && echo "10.77.0.$((i + 1))" || echo 127.0.0.1)" "$port" $what &
			done
			wait
		)
		asked=$((asked + 5))
	done <<<"$(listening "$me$i")"
done
[ $asked -ge 40 ] || fail "only $asked things were said to the ports of the job"
alive "$job" || fail "the job ended before all was said"
# the key: in no command line and on no disk
pid=$(rank_pid "$h1" 2) || fail "rank 2 not found"
key=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^MC_JOB_KEY=//p')
[ ${#key} = 64 ] || fail "the rank has no key"
for i in 0 1 2; do
	for pid in $(ip netns pids "$me$i"); do
		if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$key"; then fail "the key is in the command line of $pid"; fi
	done
done
if grep -rqs "$key" "$work"/tmp.* out err; then fail "the key is in a file"; fi
checks=$((checks + 2))
finish "$asked pieces of garbage"

# ---- many that say nothing, held open until the job is over, while agents still have to come
port_of_head() { listening "$h0" | awk '$1 == "other"' | while read -r _ p; do
	ip netns exec "$h0" ss -Hltnp "sport = :$p" | grep -q '"mcrun"' && echo "$p"; done | head -1; }
start 4 env
head=$(port_of_head)
[ -n "$head" ] || fail "the port of mcrun is not found"
ip netns exec "$stranger" bash -c 'for i in $(seq 300); do eval "exec {fd}<>/dev/tcp/10.77.0.1/$0" 2>/dev/null || exit 0; done; read -r' "$head" \
	<>"$work/hold.$$" 2>/dev/null &
holder=$!
finish "300 silent connections"
kill $holder 2>/dev/null

# ---- PMIx clients of another user that claim to be this one
penv() # penv PID: what it takes to be that rank's process, but for the key
{
	tr '\0' '\n' <"/proc/$1/environ" | grep '^PMIX_' | grep -v '^PMIX_MCA'
}
forge() # forge HOST NAME=VALUE...: prints what it was told
{
	local h=$1
	shift
	ip netns exec "$h" setpriv --reuid 65534 --regid 65534 --clear-groups env -i FORGE_UID=0 FORGE_GID=0 PATH=/usr/bin:/bin \
		"$@" timeout 30 "$forger" 2>&1
}
start 3 env
pid=$(rank_pid "$h1" 2) || fail "rank 2 not found"
# without the job's name, 128 random bits that stand in the ranks' environment alone: refused. (With munge even then, below.)
mapfile -t env_of < <(penv "$pid" | sed 's/^PMIX_NAMESPACE=.*/PMIX_NAMESPACE=mc-00000000000000000000000000000000/')
forge "$h1" "${env_of[@]}" >forged && fail "a client that does not know the job was let in: $(cat forged)"
has_not forged '^in:'
finish "a forged client without the job's name"
# that this program is let in where it knows all and there is no munge shows that the refusals mean something
timeout 200 "$work/on" "$stranger" "$mcrun" -n 2 "$probe" hang >ready 2>&1 </dev/null &
two_ready() { [ "$(grep -c ready ready)" = 2 ]; }
within 60000 two_ready || fail "the job for the counter-check does not start"
rank_exe=$probe
pid=$(rank_pid "$stranger" 1) || fail "its rank 1 not found"
rank_exe=
if [ -S /run/munge/munge.socket.2 ]; then
	echo "(a munge of this machine runs: no counter-check)"
else
	mapfile -t env_of < <(penv "$pid")
	forge "$stranger" "${env_of[@]}" >forged || fail "the counter-check failed: $(cat forged)"
	has forged "^in:"
fi
for pid in $(ip netns pids "$stranger"); do kill -9 "$pid"; done
if command -v munged >/dev/null; then
	# a munge for this job alone, where libmunge looks for it: /run/munge of a mount namespace
	mkdir munge
	head -c 128 /dev/urandom >munge/key
	chmod 400 munge/key
	chmod 711 munge
	daemon munged --foreground --force --socket="$work/munge/munge.socket.2" --key-file="$work/munge/key" --pid-file="$work/munge/pid" \
		--log-file="$work/munge/log" --seed-file="$work/munge/seed"
	within 30000 test -S munge/munge.socket.2 || fail "munged does not start: $(tail -1 daemons.log)"
	mkdir -p /run/munge
	cat >with_munge <<-END
		#!/bin/sh
		exec unshare -m sh -c 'mount --bind "\$0" /run/munge && exec "\$@"' "$work/munge" "\$@"
	END
	chmod +x with_munge
	sed -i 's,^exec .*/on,exec '"$work"'/with_munge &,; s,with_munge exec ,with_munge ,' rsh
	start 3 "$work/with_munge"
	pid=$(rank_pid "$h1" 2) || fail "rank 2 not found"
	tr '\0' '\n' <"/proc/$pid/environ" | grep -q '^PMIX_SECURITY_MODE=munge$' || fail "the PMIx server does not insist on munge"
	mapfile -t env_of < <(penv "$pid" | sed 's/^PMIX_SECURITY_MODE=.*/PMIX_SECURITY_MODE=native/')
	for psec in native munge; do
		forge "$h1" "${env_of[@]}" PMIX_MCA_psec=$psec >forged && fail "a forged client got in ($psec): $(cat forged)"
		has_not forged '^in:'
	done
	finish "forged clients that know everything but the key, with munge"
else
	echo "(without munge, which is not installed)"
fi
passed
