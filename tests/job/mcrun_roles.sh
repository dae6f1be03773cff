#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Roles, ranks and environment: who gets what, from the command line and from a job file.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe

run 0 --prefill 2 --decode 3 "$probe" roles
for i in 0 1; do has out "^\[prefill\.$i\] rank $i size 5 role prefill$" 1; done
for i in 0 1 2; do has out "^\[decode\.$i\] rank $((i + 2)) size 5 role decode$" 1; done
expect "lines on stderr" "$(wc -l <err)" 0

run 0 --role a:1 "$probe" roles : --role b:2 "$probe" roles
has out '^\[a\.0\] rank 0 size 3 role a$' 1
has out '^\[b\.1\] rank 2 size 3 role b$' 1
run 0 -n 2 "$probe" roles
has out '^\[1\] rank 1 size 2 role none$' 1
run 0 -np 1 -- "$probe" roles
has out '^\[0\] rank 0 size 1 role none$' 1

# Options end at the program; a ":" belongs to it unless --role is used.
run 0 -n 1 sh -c 'printf "%s " "$@"; echo' - -n 2 : --bad
has out '^\[0\] -n 2 : --bad $' 1

# Environment: one key for all, of 64 digits, new for each job; traces of launchers above are gone, settings stay.
export PMIX_RANK=7 PMIX_NAMESPACE=old PMI_RANK=7 OMPI_COMM_WORLD_RANK=7 OMPI_MCA_orte_hnp_uri=x OMPI_MCA_btl=self,tcp \
	PMIX_MCA_pmdl=^x MC_ROLE=old MC_JOB_KEY=old MC_LAUNCHER=old
run 0 --prefill 1 --decode 1 -x A=b=c -x 'EMPTY=' env
unset PMIX_RANK PMIX_NAMESPACE PMI_RANK OMPI_COMM_WORLD_RANK OMPI_MCA_orte_hnp_uri OMPI_MCA_btl PMIX_MCA_pmdl MC_ROLE \
	MC_JOB_KEY MC_LAUNCHER
has out '\] MC_JOB_KEY=[0-9a-f]{64}$' 2
expect "number of keys" "$(grep -o 'MC_JOB_KEY=.*' out | sort -u | wc -l)" 1
key=$(grep -o 'MC_JOB_KEY=.*' out | head -1)
has out '\] MC_LAUNCHER=local$' 2
has out '\] MC_ROLE=prefill$' 1
has out '\] A=b=c$' 2
has out '\] EMPTY=$' 2
has out '\] OMPI_MCA_btl=self,tcp$' 2
has out '\] PMIX_MCA_pmdl=\^x$' 2
has out '(PMIX_RANK=7|=old|PMI_RANK|OMPI_COMM_WORLD|orte_hnp_uri|HWLOC_(XMLFILE|COMPONENTS))' 0
has out '\] SLURM_' 0
has out '\] PMIX_NAMESPACE=mc-[0-9a-f]{32}$' 2
run 0 -n 1 env
[ "$(grep -o 'MC_JOB_KEY=.*' out)" != "$key" ] || fail "two jobs have the same key"

# -x without a value takes mcrun's; after --role it is for that role; --transport is MC_TRANSPORT.
export FROM_HERE='a b'
run 0 --transport tcp --role a:1 -x ONLY=a -x FROM_HERE env : --role b:1 env
has out '^\[a\.0\] ONLY=a$' 1
has out '^\[b\.0\] ONLY=' 0
has out '\] FROM_HERE=a b$' 2
has out '\] MC_TRANSPORT=tcp$' 2

# A job file; the command line wins, for settings the environment does.
cat >job.json <<'END'
{"roles": [{"name": "prefill", "n": 1, "program": ["sh", "-c", "echo $MC_ROLE $A $B $MC_TRANSPORT $MC_SPIN"], "env": {"A": "role"}},
           {"name": "decode", "n": 2, "program": ["sh", "-c", "echo $MC_ROLE $A $B $MC_TRANSPORT $MC_SPIN"]}],
 "env": {"A": "job", "B": 5}, "settings": {"MC_TRANSPORT": "tcp", "MC_SPIN": "1us"}, "timeout": 30, "output": "tag"}
END
run 0 --config job.json
has out '^\[prefill\.0\] prefill role 5 tcp 1us$' 1
has out '^\[decode\.1\] decode job 5 tcp 1us$' 1
export MC_SPIN=2us
run 0 --config job.json -x A=cli --transport shm
unset MC_SPIN
has out '^\[prefill\.0\] prefill cli 5 shm 2us$' 1
has out '^\[decode\.0\] decode cli 5 shm 2us$' 1
run 0 --config job.json --decode 1 --output merge
expect "output" "$(cat out)" "decode job 5 tcp 1us"
run 0 --config job.json --prefill 1 --decode 1 echo other
has out '^\[(prefill|decode)\.0\] other$' 2

# stdin: rank 0 has mcrun's, the others have none.
printf 'one\ntwo\n' | timeout 200 "$mcrun" -n 3 cat >out 2>err
expect "stdin" "$(cat out)" "$(printf '[0] one\n[0] two')"

# A program that lies beside mcrun is found without PATH.
mkdir there there/bin
cp "$mcrun" there/bin/
ln -s "$(cd "$bin/../lib" && pwd)" there/lib
printf '#!/bin/sh\necho beside\n' >there/bin/only-here
chmod +x there/bin/only-here
there/bin/mcrun -n 1 only-here >out 2>err
expect "beside" "$(cat out)" "[0] beside"

# Dry run: everything, but not the key, and nothing started.
run 0 --dry-run --prefill 1 --decode 1 -x A='b c' touch "$work/started"
has out "^rank 0 \[prefill\.0\] bind none env 'A=b c' MC_ROLE=prefill .*MC_JOB_KEY=\(hidden\).* run .*/touch $work/started$" 1
has out '[0-9a-f]{64}' 0
[ ! -e started ] || fail "a dry run has started something"

# Binding: within what mcrun itself may use.
cpus=$(taskset -cp $$ | sed 's/.*: //')
first=${cpus%%[,-]*}
run 0 --bind core -n 1 sh -c 'taskset -cp $$'
has out ': [0-9,]+$' 1
taskset -c "$first" "$mcrun" --bind core -n 2 sh -c 'taskset -cp $$' >out 2>err
has out ": $first\$" 2
has err '^mcrun: 2 ranks share 1 cores' 1
taskset -c "$first" "$mcrun" --bind numa -n 1 sh -c 'taskset -cp $$' >out 2>err
has out ": $first\$" 1
run 0 --version
has out '^mcrun \(mc\) [0-9]+\.[0-9]+\.[0-9]+$' 1
run 0 --help
has out '^usage: mcrun ' 1
passed
