#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: check_man.sh   every MC_API function has a man page that names it, states its synopsis and renders without a complaint
# (with groff or mandoc, where there is one); so do the pages written by hand and mc-env(7), which lists every setting.
set -u
build=${TEST_BUILD:?run through ctest or with_env.sh}
src=$(cd "$(dirname "$0")/.." && pwd)
man=$build/docs/man/share/man
bad=0 n=0
for f in $(sed -n '/^global:/,/^local:/s/^[ \t]*\(mc_[a-z0-9_]*\);$/\1/p' "$src/runtime/mc.map"); do
	page=$man/man3/$f.3
	if [ ! -s "$page" ]; then
		echo "no man page for $f"
		bad=1
		continue
	fi
	n=$((n + 1))
	target=$(sed -n 's/^\.so man3\///p' "$page")
	[ -n "$target" ] && page=$man/man3/$target
	grep -q "^\.SH NAME" "$page" && grep -q "$f" "$page" || { echo "$page does not describe $f"; bad=1; }
	grep -q "fB.*[ *]$f(" "$page" || { echo "$page lacks the synopsis of $f"; bad=1; }
	# What a function of status gives stands under its own heading; no sentence has lost a word, an argument's name for one.
	grep -q "fB.*mc_status_t $f(" "$page" && ! grep -q '^\.SH RETURN VALUE' "$page" && { echo "$page: what does $f return?"; bad=1; }
	sed -n '/^\.SH DESCRIPTION/,$p' "$page" | grep -E '^[:,;] |[a-z,]  [a-z]|Return:' && { echo "$page: see the lines above"; bad=1; }
done
for s in $(sed -n 's/^[ \t]*X([A-Z]*, [a-z_]*, "\(MC_[A-Z_]*\)".*/\1/p' "$src/runtime/config_defs.h"); do
	grep -q "^\.B $s\$" "$man/man7/mc-env.7" || { echo "mc-env(7) lacks $s"; bad=1; }
done
for md in "$src"/docs/man/*.[1-8].md; do
	[ -e "$md" ] || continue
	page=$(basename "$md" .md)
	[ -s "$man/man${page##*.}/$page" ] || { echo "no man page $page"; bad=1; }
	# A mark that is left was not understood; neither was a paragraph that went on with the list above it.
	grep -n '`' "$man/man${page##*.}/$page" && { echo "$page: a backquote is left"; bad=1; }
	awk '/^\.TP/ { n = 0 } /^\./ && !/^\.(TP|br)/ { n = -1 } n >= 0 && n++ > 2 { print FILENAME ":" FNR ": text of a list goes on"; bad = 1 }
		END { exit bad }' "$man/man${page##*.}/$page" || bad=1
done
if command -v groff >/dev/null 2>&1; then
	for page in "$man"/man*/*.[1-8]; do
		# A link page shows another file, which is checked by itself.
		grep -q '^\.so ' "$page" && continue
		out=$(groff -man -ww -z "$page" 2>&1) || { echo "groff fails on $page"; bad=1; }
		[ -z "$out" ] || { echo "$out"; bad=1; }
	done
fi
echo "$n pages for functions"
exit "$bad"
