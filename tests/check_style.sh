#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: check_style.sh [ROOT]         print every breach of the house rules that a program can see; exit 1 if any
#        check_style.sh --self-test    plant one breach of each rule in a copy and expect each to be found
# Formatting is clang-format's business (`make format`) and not checked here.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)

# Files that may be longer than 600 lines, functions that may be longer than 60 (file:function), each with its reason.
long_files='
runtime/mc.h the whole public interface, more than half of it comment
'
long_functions='
'

list() # files of the tree that belong to the project
{
	if [ -d .git ] && command -v git >/dev/null 2>&1; then
		git -c safe.directory='*' ls-files -co --exclude-standard | while read -r f; do [ -f "$f" ] && echo "$f"; done
	else
		find . -type f ! -path './build*' ! -path './.git/*' | sed 's,^\./,,'
	fi | sort
}

check() # check ROOT
{
	cd "$1" || return 1
	all=$(list)
	code=$(echo "$all" | grep -E '\.(c|h)$')
	spdx=$(echo "$all" | grep -E '\.(c|h|sh|awk|cmake)$|CMakeLists\.txt$|^Makefile$|^\.ci/(run|setup)$|\.inc$')
	text=$(echo "$all" | grep -E '\.(c|h|sh|awk|inc|in|map|md|json|supp)$|CMakeLists\.txt$|^Makefile$|^\.ci/|^\.[a-z]')
	# shellcheck disable=SC2086 # lists of file names without blanks
	{
		for f in $spdx; do
			head -2 "$f" | grep -q 'SPDX-License-Identifier: BSD-3-Clause' || echo "$f:1: no SPDX line"
		done
		grep -nE '[[:blank:]]+$' $text /dev/null | sed 's/\(^[^:]*:[0-9]*:\).*/\1 blanks at the end of the line/'
		grep -nE '^ ( |	)+[^ *]' $code /dev/null | sed 's/\(^[^:]*:[0-9]*:\).*/\1 indented with blanks, not tabs/'
		grep -nE 'typedef (struct|union)' $code /dev/null | sed 's/\(^[^:]*:[0-9]*:\).*/\1 typedef of a structure/'
		grep -nE '(^|[^X])(TO''DO|FIX''ME|X''XX)([^A-Za-z]|$)' $code /dev/null | sed 's/\(^[^:]*:[0-9]*:\).*/\1 unfinished/'
		echo "$code" | xargs awk -v long_files="$long_files" -v long_functions="$long_functions" '
		function end_file()
		{
			if (file != "" && lines > 600 && index(long_files, "\n" file " ") == 0)
				printf "%s:%d: %d lines, the limit is 600\n", file, lines, lines
		}
		FNR == 1 { end_file(); file = FILENAME; inside = 0; in_macro = 0 }
		{
			lines = FNR
			wide = $0
			while ((t = index(wide, "\t")) > 0)
				wide = substr(wide, 1, t - 1) substr("        ", 1, 8 - (t - 1) % 8) substr(wide, t + 1)
			gsub(/[\200-\277]/, "", wide)
			if (length(wide) > 120)
				printf "%s:%d: %d columns, the limit is 120\n", file, FNR, length(wide)
		}
		/^#[ \t]*define/ { in_macro = 1 }
		# (a row "case X: return Y;" of a table macro hides nothing: it is expanded inside one switch)
		in_macro && /(^|[^a-z_])(return|goto)[ ;(]/ && !/case [^:]*:[ \t]*(\\$|return)/ && !/^[ \t]*return #?[a-z]+;/ { printf "%s:%d: return or goto inside a macro\n", file, FNR }
		in_macro && !/\\$/ { in_macro = 0 }
		/^[a-z].*\(/ && !/;$/ { name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
		/^\{/ { inside = FNR }
		/^\}/ && inside {
			if (FNR - inside - 1 > 60 && index(long_functions, "\n" file ":" name " ") == 0)
				printf "%s:%d: %s() has %d lines, the limit is 60\n", file, inside, name, FNR - inside - 1
			inside = 0
		}
		END { end_file() }'
		version=$(sed -n 's/^project(mc VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
		grep -q "^## $version" CHANGELOG.md || echo "CHANGELOG.md:1: says nothing about version $version"
		# The table of packages in docs/BUILDING.md is that of .ci/packages.
		awk -F ' *[|] *' '/^(build|test|rdma|rdma-build) /{ print "| `" $2 "` | " $1 " | " $4 " |" }' .ci/packages | while IFS= read -r row; do
			grep -qxF "$row" docs/BUILDING.md || echo "docs/BUILDING.md:1: lacks the row: $row"
		done
		n=$(grep -cE '^(build|test|rdma|rdma-build) ' .ci/packages)
		m=$(grep -cE '^\| `[a-z0-9+-]+` \| (build|test|rdma|rdma-build) \|' docs/BUILDING.md)
		[ "$n" = "$m" ] || echo "docs/BUILDING.md:1: lists $m packages, .ci/packages $n"
	} >"$2"
	[ ! -s "$2" ]
}

self_test()
{
	bad=0 n=0
	# A small tree is enough, and quick.
	few='^(runtime/(status|util|mc)\.|CMakeLists.txt|CHANGELOG.md|docs/BUILDING.md|\.ci/)'
	mkdir "$tmp/tree"
	(cd "$here" && list | grep -E "$few" | tar cf - -T -) | tar xf - -C "$tmp/tree"
	(check "$tmp/tree" "$tmp/before")
	while IFS='|' read -r file line; do
		rm -rf "$tmp/tree"
		mkdir "$tmp/tree"
		(cd "$here" && list | grep -E "$few" | tar cf - -T -) | tar xf - -C "$tmp/tree"
		case $line in
		LONG) yes '/* long */' | head -700 >>"$tmp/tree/$file" ;;
		FUNCTION) { echo 'static void planted(void)'; echo '{'; yes '	planted();' | head -61; echo '}'; } >>"$tmp/tree/$file" ;;
		DELETE) : >"$tmp/tree/$file" ;;
		*) printf "$line\n" >>"$tmp/tree/$file" ;;
		esac
		n=$((n + 1))
		(check "$tmp/tree" "$tmp/after")
		if ! diff "$tmp/before" "$tmp/after" | grep -q '^>'; then
			echo "not found: $line in $file"
			bad=1
		fi
	done <<-'END'
		runtime/planted.c|int planted;
		runtime/status.c|int planted; \t
		runtime/status.c|    int planted;
		runtime/status.c|typedef struct planted planted_t;
		runtime/status.c|/* TO\104O: planted */
		runtime/status.c|#define PLANTED(s) if (s) return s
		runtime/status.c|/* ................................................................................................................................ */
		runtime/planted.h|LONG
		runtime/status.c|FUNCTION
		CHANGELOG.md|DELETE
		docs/BUILDING.md|DELETE
		.ci/packages|build | planted | - | planted
	END
	echo "$n breaches planted, $([ "$bad" -eq 0 ] && echo all found || echo 'some not found')"
	exit "$bad"
}

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
case ${1:-} in
--self-test) self_test ;;
esac
if check "${1:-$here}" "$tmp/out"; then
	echo "style: nothing to complain about"
else
	cat "$tmp/out"
	exit 1
fi
