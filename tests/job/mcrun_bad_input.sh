#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Bad input: one line that says what is wrong and what would be right, exit code 2, nothing started, nothing left.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"

# bad PATTERN ARG...
bad()
{
	local want=$1
	shift
	run 2 "$@"
	has err "^mcrun: .*$want" 1
	expect "lines for mcrun $*" "$(wc -l <err) $(wc -l <out)" "1 0"
	[ ! -e started ] || fail "mcrun $* has started something"
	no_tmp || fail "mcrun $* has left $(ls -A "$TMPDIR")"
}
go="touch started"

bad 'how many ranks\?'
bad 'how many ranks\?' $go
bad 'no program of role prefill given' --prefill 2 --decode 2
bad 'no program given' -n 2
bad 'option --prefill is "x", but must be a number' --prefill x --decode 1 $go
bad 'option --prefill asks for 0 ranks' --prefill 0 --decode 1 $go
bad 'option -n is "-1"' -n -1 $go
bad 'option -n is "99999999999"' -n 99999999999 $go
bad 'option -n is given twice' -n 1 -n 2 $go
bad 'option -n needs a value' -n
bad '70000 ranks' -n 70000 $go
bad '2000000000 ranks' -n 2000000000 $go
bad 'exclude each other' --prefill 1 -n 1 $go
bad 'exclude each other' --role a:1 --prefill 1 $go
bad 'unknown option --prefil \(did you mean --prefill\?\)' --prefil 1 $go
bad 'unknown option --tiemout \(did you mean --timeout\?\)' --tiemout=5 -n 1 $go
bad 'unknown option -N' -N 1 $go
bad 'option --verbose takes no value' --verbose=1 -n 1 $go
bad 'timeout is "soon", but must be seconds' --timeout soon -n 1 $go
bad 'timeout is "0"' --timeout 0 -n 1 $go
bad 'timeout is "-1"' --timeout=-1 -n 1 $go
bad 'grace is "x"' --grace x -n 1 $go
bad 'bind is "cores", but must be none, core or numa \(did you mean core\?\)' --bind cores -n 1 $go
bad 'on-failure is "ignore", but must be abort, continue or restart' --on-failure ignore -n 1 $go
bad 'engine is "slrum"' --engine slrum -n 1 $go
bad 'output is empty' --output '' -n 1 $go
touch file
bad 'output is file, which is not a directory' --output file -n 1 $go
bad 'cannot make the output directory no/such: No such file' --output no/such -n 1 $go
bad 'role name "a.b" must be' --role a.b:1 $go
bad 'option --role is "a", but must be NAME:N' --role a $go
bad 'option --role is "a:x"' --role a:x $go
bad '--role a:0 asks for 0 ranks' --role a:0 $go
bad 'role a is given twice' --role a:1 $go : --role a:1 $go
bad 'after " : " there must be another --role' --role a:1 $go : $go
bad 'role b has no program' --role a:1 $go : --role b:1
bad 'role name "none"' --role none:1 $go
bad '"1X" cannot name an environment variable' -x 1X=2 -n 1 $go
bad 'there is no such variable' -x NOT_SET_AT_ALL -n 1 $go
bad 'MC_JOB_KEY is set by mcrun itself' -x MC_JOB_KEY=1 -n 1 $go
bad 'MC_ROLE is set by mcrun itself' -x MC_ROLE=a -n 1 $go
bad 'program no-such-program not found in PATH nor in' -n 1 no-such-program
bad 'program ./no/such not found' -n 1 ./no/such
bad 'program ./file is not executable; chmod \+x' -n 1 ./file
bad 'program / is a directory' -n 1 /
bad "program's name is empty" -n 1 ''

# Settings: in the environment, by -x, by option, in a file.
bad 'MC_TRANSPRT.*MC_TRANSPORT' -x MC_TRANSPRT=tcp -n 1 $go
bad 'MC_TRANSPORT.*(auto|tcp)' --transport tpc -n 1 $go
bad 'MC_BACKEND' --backend nonsense -n 1 $go
bad 'MC_LOG' --role a:1 $go : --role b:1 -x MC_LOG=loud $go
export MC_SPINN=1us
bad 'MC_SPINN.*MC_SPIN' -n 1 $go
unset MC_SPINN
export MC_NOTE_QUEUE=none
bad 'MC_NOTE_QUEUE' -n 1 $go
unset MC_NOTE_QUEUE

# Job files.
bad_file()
{
	printf '%b' "$2" >job.json
	bad "$1" --config job.json -n 1 $go
}
bad 'cannot read no.json: No such file' --config no.json -n 1 $go
bad_file 'job.json: line 1: the JSON text ends too early' ''
bad_file 'job.json: line 1: not JSON' 'garbage'
bad_file 'job.json: line 3: not JSON' '{\n"env": {},\n"timeout": nope\n}'
bad_file 'job.json: line 2: (not JSON|text after the end)' '{}\n{}'
bad_file 'job.json: line 4: the JSON text ends too early' '{\n\n\n"env": {'
bad_file 'job.json: must be a JSON object' '[]'
bad_file 'unknown key timeuot \(did you mean timeout\?\)' '{"timeuot": 5}'
bad_file 'unknown key roles\[1\]\.progam \(did you mean program\?\)' \
	'{"roles": [{"name": "a", "n": 1, "program": ["true"]}, {"name": "b", "n": 1, "progam": ["true"]}]}'
bad_file 'roles\[0\] has no "name"' '{"roles": [{"n": 1}]}'
bad_file 'roles\[0\] has no "n"' '{"roles": [{"name": "a"}]}'
bad_file 'roles\[0\]\.n is 0, but must be 1 to' '{"roles": [{"name": "a", "n": 0}]}'
bad_file 'roles\[0\]\.n must be a whole number, but is double' '{"roles": [{"name": "a", "n": 1.5}]}'
bad_file 'roles must be a list of roles, but is object' '{"roles": {}}'
bad_file 'roles\[0\]\.program must be a list' '{"roles": [{"name": "a", "n": 1, "program": []}]}'
bad_file 'program\[1\] must be a string, but is int' '{"program": ["a", 1]}'
bad_file 'timeout must be a number of seconds, but is string' '{"timeout": "5"}'
bad_file 'timeout: timeout is "-1' '{"timeout": -1}'
bad_file 'bind: bind is "x"' '{"bind": "x"}'
bad_file 'env\.A must be a string' '{"env": {"A": []}}'
bad_file 'env: "A=B" cannot name' '{"env": {"A=B": "x"}}'
bad_file 'env\.A contains a NUL' '{"env": {"A": "x\\u0000y"}}'
bad_file 'settings\.HOME is not a setting' '{"settings": {"HOME": "/"}}'
bad_file 'MC_TRANSPRT.*MC_TRANSPORT' '{"settings": {"MC_TRANSPRT": "tcp"}}'
bad_file 'MC_ROLE is set by mcrun itself' '{"env": {"MC_ROLE": "x"}}'
head -c 5000000 /dev/zero | tr '\0' ' ' >job.json
bad 'longer than 4194304 bytes' --config job.json -n 1 $go
head -c 100000 /dev/urandom >job.json
bad 'job.json: ' --config job.json -n 1 $go

# Where nothing can be written, and where there are too few files.
expect "exit code without TMPDIR" "$(TMPDIR=/no/such "$mcrun" -n 1 $go 2>err; echo $?)" 2
has err '^mcrun: cannot make a directory in /no/such: No such file or directory; set TMPDIR' 1
expect "exit code with TMPDIR=/proc" "$(TMPDIR=/proc "$mcrun" -n 1 $go 2>err; echo $?)" 2
has err '^mcrun: cannot make a directory in /proc: .*; set TMPDIR' 1
(ulimit -n 100; exec "$mcrun" -n 50 $go) >out 2>err && fail "50 ranks with 100 files" || expect "exit code" "$?" 2
has err '^mcrun: 50 ranks need 164 open files in mcrun, but the limit is 100' 1
if unshare -n true 2>/dev/null; then # a network without loopback
	expect "exit code without loopback" "$(unshare -n "$mcrun" -n 1 $go 2>err; echo $?)" 1
	has err '^mcrun: the PMIx server does not start: .*: ip link set lo up$' 1
fi
[ ! -e started ] || fail "something was started"
no_tmp || fail "left $(ls -A "$TMPDIR")"
passed
