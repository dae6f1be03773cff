#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: check_exports.sh LIBMC.SO   MC_API functions of mc.h = runtime/mc.map = what the library exports; and the soname.
set -u
src=$(dirname "$0")/..
lib=$1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# Declarations of mc.h: comments out, one statement per line, then the name before the first argument list.
sed 's,/\*.*\*/,,' "$src/runtime/mc.h" | tr '\n' ' ' | tr ';' '\n' | grep -v '#define MC_API [^;]*$' |
	sed -n 's/.*MC_API .*[ *]\(mc_[a-z0-9_]*\)(.*/\1/p' | sort >"$tmp/header"
# A function whose argument is a function pointer: the name stands before "(void (*".
sed -n 's/^MC_API .*[ *]\(mc_[a-z0-9_]*\)(void (\*.*/\1/p' "$src/runtime/mc.h" >>"$tmp/header"
sort -u -o "$tmp/header" "$tmp/header"
sed -n '/^global:/,/^local:/s/^[ \t]*\(mc_[a-z0-9_]*\);$/\1/p' "$src/runtime/mc.map" | sort >"$tmp/map"
nm -D --defined-only "$lib" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$tmp/lib"

bad=0
[ -s "$tmp/header" ] || { echo "found no MC_API function in mc.h"; bad=1; }
diff "$tmp/header" "$tmp/map" >"$tmp/diff" || { echo "mc.h (<) and mc.map (>) differ:"; cat "$tmp/diff"; bad=1; }
# A sanitizer puts symbols of its own into what it instruments.
grep -v -e '^__asan_' -e '^__tsan_' -e '^__odr_' -e '^_\?_\?ubsan' "$tmp/lib" >"$tmp/lib.own"
diff "$tmp/map" "$tmp/lib.own" >"$tmp/diff" || { echo "mc.map (<) and $lib (>) differ:"; cat "$tmp/diff"; bad=1; }

for name in $(sed -n 's/^struct \(mc_[a-z0-9_]*\) {.*/\1/p' "$src/runtime/mc.h"); do
	grep -q "^SIZE(struct $name," "$src/tests/abi/layout.inc" ||
		{ echo "struct $name has no line in tests/abi/layout.inc (make_layout.sh prints it)"; bad=1; }
done

major=$(sed -n 's/^#define MC_VERSION_MAJOR \([0-9]*\)/\1/p' "$src/runtime/mc.h")
want=libmc.so.$major
have=$(objdump -p "$lib" | awk '$1 == "SONAME" { print $2 }')
[ "$have" = "$want" ] || { echo "soname is '$have', should be '$want'"; bad=1; }
version=$(sed -n 's/^#define MC_VERSION_\(MAJOR\|MINOR\|PATCH\) \([0-9]*\)/\2/p' "$src/runtime/mc.h" | paste -sd.)
grep -q "^project(mc VERSION $version " "$src/CMakeLists.txt" ||
	{ echo "mc.h says version $version, CMakeLists.txt says another"; bad=1; }
[ "$bad" -eq 0 ] && echo "$(wc -l <"$tmp/map") functions, soname $have, version $version"
exit "$bad"
