#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# mcinfo's command line: what it prints, how it ends, on good and bad input. Needs TEST_BIN and TEST_SRC (with_env.sh).
set -u
mcinfo=$TEST_BIN/mcinfo
dir=$TEST_SRC/tests/topo
# Plug-ins of hwloc ask graphics drivers, leak, and tell nothing that is looked at here.
HWLOC_PLUGINS_PATH=/nonexistent
export HWLOC_PLUGINS_PATH
unset HWLOC_XMLFILE
[ -x "$mcinfo" ] || { echo "skip: mcinfo is not part of this build"; exit 77; }
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0 n=0

# run STATUS ARG...: mcinfo ends with STATUS; output in $tmp/out, $tmp/err
run()
{
	run_env A=B "$@"
}

# run_env NAME=VALUE STATUS ARG...: the same with a variable set
run_env()
{
	var=$1 want=$2
	shift 2
	n=$((n + 1))
	env -- "$var" "$mcinfo" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	got=$?
	if [ "$got" != "$want" ]; then
		echo "FAILED: mcinfo $*: status $got, not $want"
		cat "$tmp/err"
		failed=1
	fi
	if [ "$want" != 0 ] && ! grep -q . "$tmp/err"; then
		echo "FAILED: mcinfo $*: no message"
		failed=1
	fi
}

# has FILE TEXT: a line of $tmp/FILE has TEXT
has()
{
	grep -qF -- "$2" "$tmp/$1" && return
	echo "FAILED: no '$2' in:"
	cat "$tmp/$1"
	failed=1
}

two=$dir/two_sockets.xml
"$mcinfo" topo --xml "$two" 2>&1 | grep 'without hwloc' && { echo "skip: this build is without hwloc"; exit 77; }
run 0 topo --xml "$two"
has out "cuda1          HB*    SW   FAR"
has out "note mlx5_1:1 is DOWN and would be nearer"
awk 'length > 100 { print "FAILED: wider than 100 columns: " $0; bad = 1 } END { exit bad }' "$tmp/out" || failed=1
run 0 topo --xml "$two" --json
has out '"kind": "openfabrics"'
run 0 topo --xml "$two" --dot
has out 'graph topology {'
run 0 topo --xml "$two" --local-rank 1 --nics "cuda0=mlx5_2+mlx5_3:1,^mlx5_bond_0"
has out "use  mlx5_3:1 mlx5_2:1 - chosen by override, other package"
run 0 topo --xml "$dir/one_nic.xml"
run 0 devices --xml "$two"
has out "mlx5_3  pci 0000:91:00.0  numa 1"
order=$(awk '/^What would be used/ { on = 1; next } on { printf "%s %s,", $1, $2 }' "$tmp/out")
if [ "$order" != "shm shm,verbs rdma,ucx rdma,ucx tcp," ]; then
	echo "FAILED: mcinfo devices lists the ways in another order than libmc tries them: $order"
	failed=1
fi
run 0 devices --xml "$two" --json
run 0 topo
has out "numa0"
run 0 devices
run 0 config
has out "MC_TRANSPORT = "
run 0 config --json
has out '"name": "MC_TRANSPORT"'
run 0 --version
run 0 --help

# the file that hwloc's own variable names, in every command
run_env "HWLOC_XMLFILE=$two" 0 topo
has out "mlx5_bond_0"
run_env "HWLOC_XMLFILE=$two" 0 devices
has out "mlx5_bond_0"
run_env "HWLOC_XMLFILE=$tmp/none.xml" 1 topo
has err "none.xml"
run_env "HWLOC_XMLFILE=$tmp/none.xml" 1 devices

# overrides: unknown names list the known ones
run 2 topo --xml "$two" --nics mlx5_9
has err "there is no NIC mlx5_9; known: mlx5_0:1 mlx5_1:1"
run 2 topo --xml "$two" --nics cuda9=mlx5_0
has err "there is no memory cuda9; known: numa0 numa1 cuda0"
run_env MC_DEVICE=nosuch0 2 topo
has err "MC_DEVICE: there is no NIC nosuch0"
run_env MC_DEVICE=nosuch0 1 devices
run_env MC_TRANSPRT=tcp 1 config
has err "MC_TRANSPORT"

# wrong usage
run 2
run 2 nosuch
run 2 topo --nosuch
run 2 topo file.xml
run 2 topo --json --dot
run 2 topo --local-rank x
run 2 config x
run 2 devices x

# files that are none
: >"$tmp/empty.xml"
head -c 3000 /dev/urandom >"$tmp/random.xml"
head -c 700 "$two" >"$tmp/cut.xml"
sed 's/cpuset="0x[0-9a-f]*"//g' "$two" >"$tmp/nosets.xml"
sed 's/type="NUMANode"/type="Nonsense"/' "$two" >"$tmp/types.xml"
truncate -s 70000000 "$tmp/huge.xml"
for f in empty random cut nosets types huge none; do
	run 1 topo --xml "$tmp/$f.xml"
	has err "$f.xml"
done
run 1 topo --xml "$tmp"
run 1 topo --xml /dev/zero

# pictures: made where a program is there, else the package is named
if command -v gnuplot >/dev/null 2>&1 || command -v dot >/dev/null 2>&1; then
	run 0 topo --xml "$two" --plot "$tmp/it's.png"
	[ "$(head -c 4 "$tmp/it's.png" | tail -c 3)" = PNG ] || { echo "FAILED: no picture"; failed=1; }
	run 1 topo --xml "$two" --plot "$tmp/none/x.png"
fi
mkdir "$tmp/bin"
run_env "PATH=$tmp/bin" 1 topo --xml "$two" --plot "$tmp/y.png"
has err "gnuplot"
[ ! -e "$tmp/y.png" ] || { echo "FAILED: half a picture"; failed=1; }

# what is no file is not replaced by a picture
mkfifo "$tmp/fifo.png"
run 1 topo --xml "$two" --plot "$tmp/fifo.png"
has err "not a file"
[ -p "$tmp/fifo.png" ] || { echo "FAILED: a picture took the place of a fifo"; failed=1; }

# started without stdin and stdout: the topology is read all the same, and the output is missed
n=$((n + 1))
"$mcinfo" topo --xml "$two" <&- >"$tmp/out" 2>"$tmp/err" || { echo "FAILED: without stdin: $(cat "$tmp/err")"; failed=1; }
"$mcinfo" topo --xml "$two" <&- >&- 2>"$tmp/err" && { echo "FAILED: without stdout"; failed=1; }
has err "cannot write the output"

# a full disk is an error
if [ -w /dev/full ]; then
	n=$((n + 1))
	if "$mcinfo" topo --xml "$two" >/dev/full 2>"$tmp/err"; then
		echo "FAILED: output to a full disk went unnoticed"
		failed=1
	fi
fi
echo "$n runs of mcinfo"
exit $failed
