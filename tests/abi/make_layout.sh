#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: make_layout.sh [CC] > layout.inc   sizes and offsets of every public structure of mc.h as they are now. For a structure
# that is new; a line of a released version must not change.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
{
	printf '#include <stddef.h>\n#include <stdio.h>\n#include "mc.h"\nint main(void)\n{\n'
	awk '
	{ # comments out, also those of several lines
		line = ""
		rest = $0
		while (rest != "") {
			at = index(rest, in_comment ? "*/" : "/*")
			if (!in_comment)
				line = line (at > 0 ? substr(rest, 1, at - 1) : rest)
			if (at == 0)
				break
			rest = substr(rest, at + 2)
			in_comment = !in_comment
		}
		$0 = line
	}
	/^struct mc_[a-z_]* \{/ { name = $2; inside = 1; printf "printf(\"SIZE(struct %s, %%zu),\\n\", sizeof(struct %s));\n", name, name; next }
	/^\};/ { inside = 0 }
	inside {
		n = split($0, part, /[;,]/)
		for (i = 1; i <= n; i++) {
			m = part[i]
			sub(/\[.*/, "", m)
			sub(/[ \t]+$/, "", m)
			sub(/.*[ \t*]/, "", m)
			if (m ~ /^[a-z_0-9]+$/)
				printf "printf(\"AT(struct %s, %s, %%zu),\\n\", offsetof(struct %s, %s));\n", name, m, name, m
		}
	}' "$here/../../runtime/mc.h"
	printf 'return 0;\n}\n'
} >"$tmp/layout.c"
"${1:-cc}" -I"$here/../../runtime" -o "$tmp/layout" "$tmp/layout.c"
echo '/* SPDX-License-Identifier: BSD-3-Clause */'
echo '/* Facts of version 0.1 on LP64; see test_abi.c. */'
"$tmp/layout"
