#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcinfo doctor on this machine, on a recorded tree, with wrong usage, as another user; and that mcrun's errors name a check.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
mcinfo=$bin/mcinfo
[ -x "$mcinfo" ] || { echo "skip: mcinfo is not part of this build"; exit 77; }

# info CODE ARG...: mcinfo with ARGs ends with CODE (a list with | is allowed)
info()
{
	local code=$1 got=0
	shift
	timeout -k 5 200 "$mcinfo" "$@" >out 2>err </dev/null || got=$?
	checks=$((checks + 1))
	case "|$code|" in
	*"|$got|"*) ;;
	*) fail "exit code of mcinfo $* is $got, expected $code" ;;
	esac
}

# this machine, whatever it is
info '0|1|2' doctor
has out '^[0-9]+ checks: [0-9]+ fail, [0-9]+ warn, [0-9]+ ok, [0-9]+ not applicable$' 1
if [ -z "$(ls /sys/class/infiniband 2>/dev/null)" ]; then
	has out '^no RDMA here: TCP and shared memory will be used' 1
	has out '^WARN  rdma-device'
	info 2 doctor --for rdma
	has out '^FAIL  rdma-device'
	info '0|1|2' doctor --for tcp
	has out '^TCP is asked for' 1
	checks=$((checks + 1))
	grep -q '^FAIL  rdma-device\|^WARN  rdma-device' out && fail "--for tcp complains about RDMA"
else
	has out '^RDMA' 1
fi

# JSON: every member there, the summary right, the exit code follows from it
info '0|1|2' doctor --json
if command -v python3 >/dev/null; then
	python3 - out <<-'END' || fail "the JSON is not as documented"
		import json, sys
		d = json.load(open(sys.argv[1]))
		assert set(d) == {"checks", "summary"} and len(d["checks"]) >= 34
		assert all(list(c) == ["id", "title", "status", "read", "value", "cause", "fix"] for c in d["checks"])
		assert all(isinstance(v, str) for c in d["checks"] for v in c.values())
		n = {s: sum(c["status"] == s for c in d["checks"]) for s in ("ok", "warn", "fail", "na")}
		assert d["summary"] == n and sum(n.values()) == len(d["checks"]), (d["summary"], n)
		assert all(c["cause"] and c["fix"] for c in d["checks"] if c["status"] in ("warn", "fail")), "no cause or fix"
	END
	checks=$((checks + 1))
fi

# a record says the same when it is read again, and holds nothing of the environment
MC_TEST_SECRET=hunter2 http_proxy=http://user:hunter2@proxy.example:3128 info '0|1|2' doctor --json --record rec
has err 'recorded [0-9]+ files in rec; read them with' 1
grep '"id"' out | sed 's/"value.*//' >live
info '0|1|2' doctor --json --root rec
grep '"id"' out | sed 's/"value.*//' >again
checks=$((checks + 1))
diff live again >diff || fail "the record differs from the machine: $(cat diff)"
checks=$((checks + 1))
! grep -r hunter2 rec || fail "a secret is in the record"
has out '"id": "proxy".*"status": "warn".*http_proxy' 1
info 2 doctor --record rec
has err 'rec is not empty' 1
chmod -R go+rX "$work"

# wrong usage: one line, code 2
bad()
{
	local want=$1
	shift
	info 2 "$@"
	has err "^mcinfo: doctor: .*$want" 1
	expect "lines of mcinfo $*" "$(wc -l <err) $(wc -l <out)" "1 0"
}
bad 'unknown option --jso \(did you mean --json\?\)' doctor --jso
bad 'but must be rdma, tcp, slurm, container or k8s \(did you mean slurm\?\)' doctor --for slrum
bad 'pool is "much"' doctor --pool much
bad 'option --etcd needs a value' doctor --etcd
bad 'cannot read the tree no/such' doctor --root no/such
bad 'exclude each other' doctor --root rec --record other
bad 'unknown option x' doctor x
info 0 doctor --help
has out '^usage: mcinfo doctor' 1
info '0|1|2' doctor --for=tcp --pool=1G

# as nobody, and with a tree of garbage
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$mcinfo"; then
	got=0
	setpriv --reuid 65534 --regid 65534 --clear-groups "$mcinfo" doctor >out 2>err || got=$?
	expect "exit code as nobody below 3" "$((got < 3))" 1
	has out '^[0-9]+ checks: ' 1
fi
for f in $(find rec -type f); do head -c 64 /dev/urandom >"$f"; done
info '0|1|2' doctor --root rec
has out '^[0-9]+ checks: ' 1
mkdir none
info '0|1|2' doctor --root none
has out '^no RDMA here' 1

# every id that a message of libmc, mcrun or a backend names is one of the doctor's
info '0|1|2' doctor --json
sed -n 's/.*"id": "\([a-z-]*\)".*/\1/p' out | sort >known
(cd "$TEST_SRC" && cat runtime/*.c ucx-backend/*.c verbs-backend/*.c launcher/*.c) | grep -oE '\[[a-z-]+(, [a-z-]+)*, see mcinfo doctor' |
	sed 's/^.//; s/, see mcinfo doctor//; s/, /\n/g' | sort -u >named
expect "ids that the doctor does not have" "$(comm -23 named known | xargs)" ""
expect "at least ten ids are named" "$(($(wc -l <named) >= 10))" 1

# what mcrun says names the check
if [ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -gt 200 ]; then
	(ulimit -n 200; run 2 -n 100 true)
	has err 'raise ulimit -Hn\) \[open-files, see mcinfo doctor\]$' 1
fi
passed
