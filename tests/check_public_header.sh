#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: check_public_header.sh CC   mc.h compiles alone, twice in one file, in C11 and C++17, with every compiler at hand,
# without a warning and without _GNU_SOURCE.
set -u
src=$(cd "$(dirname "$0")/.." && pwd)
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/alone.c" <<'END'
#include "mc.h"
#include "mc.h"
#ifdef __cplusplus
#define NAME(s) mc_status_name(static_cast<mc_status_t>(s))
#else
#define NAME(s) mc_status_name((mc_status_t)(s))
#endif
const char *alone(int s);
const char *alone(int s)
{
	return NAME(s);
}
END
cp "$tmp/alone.c" "$tmp/alone.cc"
bad=0 n=0
try() # try COMPILER STANDARD FILE
{
	command -v "$1" >/dev/null 2>&1 || return
	n=$((n + 1))
	"$1" -std="$2" -fsyntax-only -Wall -Wextra -Wconversion -pedantic -Werror -I"$src/runtime" "$3" ||
		{ echo "mc.h does not compile with: $1 -std=$2"; bad=1; }
}
for cc in "$1" gcc clang; do
	try "$cc" c11 "$tmp/alone.c"
done
cxx=0
for cc in c++ g++ clang++; do
	command -v "$cc" >/dev/null 2>&1 && cxx=1
	try "$cc" c++17 "$tmp/alone.cc"
done
lines=$(wc -l <"$src/runtime/mc.h")
[ "$lines" -le 900 ] || { echo "mc.h has $lines lines, the limit is 900"; bad=1; }
[ "$bad" -eq 0 ] || exit 1
echo "$n compilations of mc.h without a warning, $lines lines"
if [ "$cxx" -eq 0 ]; then
	echo "skip: no C++ compiler here; as C11 it compiles"
	exit 77
fi
