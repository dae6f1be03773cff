#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: test_install.sh BUILD_DIR CC   install into an empty prefix, move it elsewhere, look at what is there, then build and run
# a program against it twice: through pkg-config and through find_package(mc).
set -u
build=$1
cc=$2
src=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

cmake --install "$build" --prefix "$tmp/first" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "cmake --install"; }
mv "$tmp/first" "$tmp/prefix" # nothing may name the place it was installed to
p=$tmp/prefix
lib=$(dirname "$(find "$p" -name 'libmc.so')")
[ -f "$p/include/mc.h" ] || fail "include/mc.h is not there"
[ "$(find "$p/include" -type f | wc -l)" -eq 1 ] || fail "more than one header: $(find "$p/include" -type f)"
[ -z "$(find "$p" -name '*.a')" ] || fail "an internal static library was installed"
[ -L "$lib/libmc.so" ] && [ -L "$lib/libmc.so.0" ] && [ -f "$lib/libmc.so.0.1.0" ] || fail "libmc.so links: $(ls -l "$lib")"
objdump -p "$lib/libmc.so" | grep -q 'SONAME *libmc.so.0$' || fail "soname"
for program in mcrun mcperf; do
	if [ -e "$build/bin/$program" ]; then
		[ -x "$p/bin/$program" ] || fail "bin/$program is not there"
		[ -f "$p/share/man/man1/$program.1" ] || fail "man page of $program is not there"
		"$p/bin/$program" --version >"$tmp/out" 2>&1 || { cat "$tmp/out"; fail "$program --version"; }
		ldd "$p/bin/$program" >"$tmp/out" 2>&1
		grep 'not found' "$tmp/out" && fail "$program lacks a library"
	fi
done
[ -f "$p/share/man/man3/mc_put.3" ] && [ -f "$p/share/man/man7/mc-env.7" ] || fail "man pages: $(find "$p/share" -type f | head)"
if grep -rIl "$tmp/first" "$p"; then
	fail "these files name the prefix"
fi

export PKG_CONFIG_PATH="$lib/pkgconfig"
[ "$(pkg-config --modversion mc)" = 0.1.0 ] || fail "pkg-config: version $(pkg-config --modversion mc)"
# shellcheck disable=SC2046 # flags are words
"$cc" -std=c11 -Wall -Wextra -Werror -o "$tmp/user" "$src/install/user.c" $(pkg-config --cflags --libs mc) || fail "pkg-config build"
LD_LIBRARY_PATH=$lib "$tmp/user" || fail "the program built through pkg-config"
ldd "$tmp/user" | grep -q 'libmc.so.0' || fail "the program does not need libmc.so.0"

cmake -S "$src/install" -B "$tmp/cmake" -DCMAKE_PREFIX_PATH="$p" -DCMAKE_C_COMPILER="$cc" -G Ninja >"$tmp/log" 2>&1 &&
	cmake --build "$tmp/cmake" >>"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "find_package build"; }
"$tmp/cmake/user" || fail "the program built through find_package"
echo "installed tree: $(find "$p" -type f | wc -l) files"
