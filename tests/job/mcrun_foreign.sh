#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Strangers at the PMIx port during a job: garbage, silence, a half message, strange clients. The job ends well all the same.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe

cat >rank.sh <<'END'
echo "$PMIX_SERVER_URI41" >uri.new && mv uri.new uri
until [ -e go ]; do sleep 0.02; done
exec "$1" fence
END
round()
{
	rm -f go uri
	setsid "$mcrun" -n 3 sh rank.sh "$probe" >out 2>err </dev/null &
	job=$!
	within 30000 test -s uri || fail "the ranks did not start"
	port=$(sed 's/.*://' uri)
	alive "$job" || fail "mcrun is gone"
}
finish()
{
	touch go
	local got=0
	within 30000 dead "$job" || { kill -9 "$job"; fail "the job hangs after $1"; }
	wait "$job" || got=$?
	expect "exit code after $1" "$got" 0
	nothing_left
}

round
for i in 1 2 3 4 5 6 7 8; do
	# a reset while the server still writes gave SIGPIPE to servers that do not ignore it
	(exec 3<>"/dev/tcp/127.0.0.1/$port" && head -c $((i * 1000)) /dev/urandom >&3) 2>/dev/null || true
done
finish "random bytes"
round
(exec 3<>"/dev/tcp/127.0.0.1/$port" && printf '\0\0\0\0\0\0\0\0' >&3) 2>/dev/null || true
(exec 3<>"/dev/tcp/127.0.0.1/$port" && head -c 4096 /dev/zero >&3) 2>/dev/null || true
(exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET / HTTP/1.0\r\n\r\n' >&3) 2>/dev/null || true
finish "half messages"
# Connections that say nothing until they are closed, during the ranks' start.
round
exec 4<>"/dev/tcp/127.0.0.1/$port" 5<>"/dev/tcp/127.0.0.1/$port"
touch go
exec 4<&- 5<&-
finish "silent connections"
# A PMIx client that does not know the job's name, of our uid and of another one. (Who knows the name can read the ranks'
# environment, and so is this user or root.)
stranger()
{
	round
	"$mcrun" -n 1 env >other 2>/dev/null
	sed -n 's/^\[0\] \(PMIX_.*\)/\1/p' other | sed "s/:[0-9]*$/:$port/" >penv
	local got=0
	# shellcheck disable=SC2046
	timeout 200 "$@" env $(cat penv) "$probe" roles >out.f 2>err.f </dev/null || got=$?
	[ "$got" != 0 ] && [ "$got" != 124 ] && [ "$got" != 126 ] && [ "$got" != 127 ] || fail "the stranger ended with $got"
	checks=$((checks + 1))
}
stranger
finish "a client that does not know the job"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && setpriv --reuid 65534 --clear-groups test -x "$probe" 2>/dev/null; then
	stranger setpriv --reuid 65534 --clear-groups
	finish "a client of another uid"
fi
passed
