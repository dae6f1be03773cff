# SPDX-License-Identifier: BSD-3-Clause
# lib_etcd.sh - sourced by the tests of the etcd bridge: real etcd servers on free ports of the loopback, with TLS and a
# password, in a folder that goes away; bridges (etcd_side) driven through pipes; deadlines instead of sleeps.
side=${TEST_HELPERS:-}/etcd_side
for tool in etcd etcdctl openssl curl; do
	command -v $tool >/dev/null || { echo "skip: $tool is not installed"; exit 77; }
done
[ -x "$side" ] || { echo "skip: built without libcurl or json-c"; exit 77; }
unset http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY no_proxy NO_PROXY
work=$(mktemp -d)
export TMPDIR=$work
cd "$work" || exit 1
checks=0
netns= # network namespaces that the test has made
export ETCDCTL_API=3
finish()
{
	local end=$?
	exec 2>/dev/null # what the shell says about who is killed here
	# Children that were not waited for, and what is below them: a number that was given back may be somebody else's by now.
	local c list=
	for c in $(jobs -rp; jobs -sp); do list="$list $c $(below "$c")"; done
	# shellcheck disable=SC2086 # numbers
	[ -z "$list" ] || { kill -CONT $list; kill -9 $list; }
	wait 2>/dev/null
	for c in $netns; do ip netns del "$c"; done
	cd / && rm -rf "$work"
	exit $end
}
trap finish EXIT
below() # all processes below one
{
	local c
	for c in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do echo "$c"; below "$c"; done
}

fail()
{
	echo "FAILED: $*"
	for f in *.out *.err; do
		[ -s "$f" ] && tail -25 "$f" | cut -c1-300 | sed "s/^/  $f| /"
	done
	[ -f etcd0.log ] && tail -3 etcd0.log | cut -c1-200 | sed "s/^/  etcd| /"
	exit 1
}
now_ms() { local t; read -r t _ </proc/uptime; echo "$((10#${t/./} * 10))"; } # not octal in the first second
# within MS COMMAND...: poll until it succeeds
within()
{
	local limit=$(($(now_ms) + $1))
	shift
	while ! "$@"; do
		[ "$(now_ms)" -lt "$limit" ] || return 1
		sleep 0.02
	done
}
passed() { echo "$checks checks passed"; }
slow=1 # sanitizers
case ${TEST_WITH:-} in *address* | *thread*) slow=3 ;; esac

# For a child: the ends of the pipes that are not its own, or others would never see the end of their input.
declare -A fd pid
close_pipes() { local f; for f in "${fd[@]}"; do eval "exec $f>&-"; done; }

# ---- servers ----

# An authority and a certificate for 127.0.0.1 by it; another authority; a client certificate without a CN.
make_certs()
{
	{
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=other
		for who in server client; do
			openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $who.key -out $who.csr -subj /O=mc
			printf 'subjectAltName=IP:127.0.0.1%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${host:+,IP:$host}" >ext
			openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $who.pem
		done
	} >certs.log 2>&1 || fail "no certificates: $(cat certs.log)"
	printf 'secret\n' >password
	chmod 600 password
}
answers() { ${at:-} curl -s --max-time 5 --cacert ca.pem ${curl_cert:-} "$1/health" | grep -qE "\"(${2:-true})\""; }

# start_etcd I [OPTION...]: member I of the cluster ${cluster}; its client address is ${url[I]}. tls=no: without. at="ip netns exec NAME", host=ADDRESS: elsewhere.
declare -a url etcd_pid port peer_port
start_etcd()
{
	local i=$1 scheme=https opts="--cert-file server.pem --key-file server.key"
	shift
	if [ "${tls:-yes}" = no ]; then scheme=http opts=; fi
	url[i]=$scheme://${host:-127.0.0.1}:${port[i]}
	# shellcheck disable=SC2086 # a list of options
	(
		close_pipes
		exec ${at:-} etcd --name m$i --data-dir data$i --listen-client-urls ${url[i]} --advertise-client-urls ${url[i]} $opts \
		--listen-peer-urls http://127.0.0.1:${peer_port[i]} --initial-advertise-peer-urls http://127.0.0.1:${peer_port[i]} \
		--initial-cluster "${cluster:-m$i=http://127.0.0.1:${peer_port[i]}}" --bcrypt-cost 4 --logger zap \
		--log-outputs "$work/etcd$i.log" "$@" >>etcd$i.all 2>&1 </dev/null
	) &
	etcd_pid[i]=$!
}
# etcd_up I [HEALTH]: "true" unless told; one that is full says "false" as soon as somebody has tried to write
etcd_up() { within 60000 answers "${url[$1]}" "${2:-true}" || fail "etcd $1 does not come up: $(tail -3 etcd$1.all)"; }
choose_ports() # N members
{
	local p
	mapfile -t p < <("$side" --ports $((2 * $1)))
	for ((i = 0; i < $1; i++)); do port[i]=${p[2 * i]} peer_port[i]=${p[2 * i + 1]}; done
}
stop_etcd() { kill -CONT "${etcd_pid[$1]}" 2>/dev/null; kill "${etcd_pid[$1]}" && wait "${etcd_pid[$1]}" 2>/dev/null; true; }
ctl() # with the rights of root
{
	${at:-} etcdctl --endpoints "${url[0]}" --cacert ca.pem --command-timeout 30s ${auth:+--user root:root} "$@" 2>ctl.err
}
# User mc with password "secret" may use what is under mc/.
enable_auth()
{
	{
		ctl user add root:root && ctl user grant-role root root && ctl user add mc:secret && ctl role add mc &&
			ctl role grant-permission --prefix=true mc readwrite mc/ && ctl user grant-role mc mc && ctl auth enable
	} >auth.log || fail "no authentication: $(cat auth.log ctl.err)"
	auth=yes
}
# One member with TLS and a password; MC_ETCD* says how to reach it.
one_etcd()
{
	make_certs
	choose_ports 1
	start_etcd 0 "$@"
	etcd_up 0
	enable_auth
	export MC_ETCD=${url[0]} MC_ETCD_CA=$work/ca.pem MC_ETCD_USER=mc MC_ETCD_PASSWORD_FILE=$work/password
	export MC_ETCD_PREFIX=mc/test MC_ETCD_LEASE=3s
}

# ---- bridges ----

# bridge NAME JOB ROLE RANK EPOCH: output in NAME.out, commands by tell
bridge()
{
	local name=$1 f
	shift
	rm -f "$name.in"
	mkfifo "$name.in"
	(
		close_pipes
		exec "$side" ${side_opts:-} "$@" <"$name.in" >"$name.out" 2>"$name.err"
	) &
	pid[$name]=$!
	exec {f}>"$name.in"
	fd[$name]=$f
}
tell() { echo "$2" >&"${fd[$1]}"; }
said() { grep -qE -e "$2" "$1.out"; }
times() { [ "$(grep -cE -e "$2" "$1.out")" -ge "$3" ]; }
# hears NAME PATTERN [MS]
hears()
{
	checks=$((checks + 1))
	within $((${3:-30000} * slow)) said "$1" "$2" || fail "$1 does not say '$2'"
}
# hears_times NAME PATTERN N [MS]
hears_times()
{
	checks=$((checks + 1))
	within $((${4:-30000} * slow)) times "$1" "$2" "$3" || fail "$1 does not say '$2' $3 times"
}
never()
{
	checks=$((checks + 1))
	if said "$1" "$2"; then fail "$1 says '$2'"; fi
}
# no_outage NAME: but for answers that did not come in time, which on a machine that stops for a while is the truth
no_outage()
{
	checks=$((checks + 1))
	if grep '^synced MC_ERR' "$1.out" 2>/dev/null | grep -qv 'no answer in time'; then fail "$1 is told of an outage"; fi
}
# ends NAME [CODE]: close the bridge; it must be quick (a second, and what a busy machine takes, of which one in a test may have much),
# and clean for the sanitizers
late=0
ends()
{
	local code=0 ms
	eval "exec ${fd[$1]}>&-"
	unset "fd[$1]"
	checks=$((checks + 1))
	within 30000 gone "${pid[$1]}" || fail "$1 does not end"
	wait "${pid[$1]}" || code=$?
	[ "$code" = "${2:-0}" ] || fail "$1 ends with $code"
	ms=$(sed -n 's/^closed //p' "$1.out")
	[ "$ms" -lt $((500 + 1000 * slow)) ] || late=$((late + 1))
	[ $late -le 1 ] || fail "$1 took $ms ms to close, and it is not the first"
}
gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
killed() { kill -9 "${pid[$1]}"; wait "${pid[$1]}" 2>/dev/null; eval "exec ${fd[$1]}>&-"; unset "fd[$1]"; }
