#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: check_layers.sh [ROOT]        print every #include, getenv and plug-in name that breaks the layers; exit 1 if any
#        check_layers.sh --self-test   plant one violation of each rule in a copy and expect each to be found
#
# An #include may only point down (docs/ARCHITECTURE.md):
#   5 programs launcher perf examples   4 assembly ctx builtin   3 collectives coll* kv*   2 engine: the rest of runtime
#   1 plug-ins ucx-backend verbs-backend topology loop shm boot_* bridge_*   contracts backend.h boot.h bridge.h hub.h topo.h   0 base
set -u
here=$(cd "$(dirname "$0")/.." && pwd)

check() # check ROOT
{
	(cd "$1" && find runtime ucx-backend verbs-backend topology launcher perf examples -name '*.[ch]' 2>/dev/null | sort |
		xargs awk '
function layer(path,    base)
{
	base = path
	sub(/.*\//, "", base)
	if (path ~ /^(launcher|perf|examples)\//) return "program"
	if (base ~ /^(mc|util|copy|log|status|config[a-z_]*|wire(_crc)?)\.[ch]$/) return "base"
	if (base ~ /^(backend|boot|bridge|hub|topo)\.h$/) return "contract"
	if (path ~ /^ucx-backend\//) return "plug-in ucx"
	if (path ~ /^verbs-backend\//) return "plug-in verbs"
	if (path ~ /^topology\//) return "plug-in topo"
	if (base ~ /^(loop|shm)[a-z_]*\.[ch]$/) { sub(/[_.].*/, "", base); return "plug-in " base }
	if (base ~ /^boot_[a-z]+[a-z_]*\.[ch]$/) { sub(/^boot_/, "", base); sub(/[_.].*/, "", base); return "plug-in boot_" base }
	if (base ~ /^bridge_[a-z]+[a-z_]*\.[ch]$/) { sub(/^bridge_/, "", base); sub(/[_.].*/, "", base); return "plug-in bridge_" base }
	if (base ~ /^(ctx|builtin)\.c$/) return "assembly"
	if (base ~ /^(coll|kv)[a-z0-9_]*\.[ch]$/) return "collective"
	return "engine"
}
function may(from, to)
{
	if (to == "base" || from == to) return 1
	if (from == "assembly") return to == "contract" || to == "engine" || to == "collective"
	if (from == "collective") return to == "engine"
	if (from == "engine") return to == "contract"
	if (from ~ /^plug-in/) return to == "contract"
	return 0
}
function bad(why) { printf "%s:%d: %s\n", FILENAME, FNR, why; found = 1 }
function library(header, files, why)
{
	if (index(line, "<" header) && FILENAME !~ files) bad("<" header "...> belongs only in " why)
}
# Find where a local header lies: beside the file, else in runtime, else in topology (topo.h).
FNR == 1 { from = layer(FILENAME); dir = FILENAME; sub(/\/[^\/]*$/, "", dir) }
{ line = $0 }
/^[ \t]*#[ \t]*include[ \t]*"/ {
	h = $0
	sub(/^[^"]*"/, "", h)
	sub(/".*/, "", h)
	if (h ~ /\//) {
		bad("\"" h "\": name a header without its folder")
		sub(/.*\//, "", h)
	}
	if (from == "program") {
		# mcinfo and mcrun --bind show and use the choice of NICs itself.
		if (h == "topo.h" && FILENAME ~ /^launcher\//) next
		if (h != "mc.h" && !((dir "/" h) in exists))
			bad("\"" h "\": programs see only mc.h of the library, and their own folder")
	} else {
		to = (dir "/" h) in exists ? layer(dir "/" h) : layer("runtime/" h)
		if (!((dir "/" h) in exists) && !(("runtime/" h) in exists) && h == "topo.h")
			to = "contract"
		if (!may(from, to))
			bad("\"" h "\" (" to ") must not be included by " from)
	}
}
/^[ \t]*#[ \t]*include[ \t]*</ {
	library("ucp/", "^ucx-backend/", "ucx-backend/")
	library("uct/", "^ucx-backend/", "ucx-backend/")
	library("ucs/", "^ucx-backend/", "ucx-backend/")
	library("infiniband/", "^verbs-backend/", "verbs-backend/")
	library("rdma/", "^verbs-backend/", "verbs-backend/")
	library("hwloc", "^topology/", "topology/")
	library("pmix", "^(runtime/boot_pmix|launcher/)", "runtime/boot_pmix*.c and launcher/")
	library("sodium", "^(runtime/wire|launcher/)", "runtime/wire*.c and launcher/")
	library("json", "^(runtime/config|runtime/bridge_etcd|launcher/|perf/)", "runtime/config*.c, runtime/bridge_etcd*.c, launcher/ and perf/")
	library("curl", "^(runtime/bridge_etcd|launcher/)", "runtime/bridge_etcd*.c and launcher/")
	library("mpi", "^perf/", "perf/")
}
/(^|[^a-z_])(secure_)?getenv[ \t]*\(/ {
	if (FILENAME !~ /^(launcher|perf|examples|runtime\/config)/) bad("the environment is read only by runtime/config*.c")
}
# Only builtin.c names a plug-in; the plug-in itself defines what builtin.c names.
/mc_(be|boot|bridge)_(ucx|shm|loop|verbs|pmix|hub|local|single|etcd)[^a-z_]|mc_(ucx|shm|loop|verbs|pmix|local)_(be_|boot_|backend_)?ops/ {
	if (from !~ /^plug-in/ && FILENAME !~ /runtime\/builtin\.c$/) bad("only builtin.c names a plug-in: " $0)
}
END { exit found }
BEGIN { for (i = 1; i < ARGC; i++) exists[ARGV[i]] = 1 }')
}

self_test()
{
	tmp=$(mktemp -d) || exit 1
	trap 'rm -rf "$tmp"' EXIT
	bad=0 n=0
	check "$here" >"$tmp/before" # what the tree itself has is not what is tested here
	while IFS='|' read -r file line; do
		rm -rf "$tmp/tree"
		mkdir "$tmp/tree"
		for d in runtime ucx-backend verbs-backend topology launcher perf examples; do
			mkdir -p "$tmp/tree/$d"
			cp "$here/$d"/*.[ch] "$tmp/tree/$d/" 2>/dev/null
		done
		[ "$file" != none ] && printf '%s\n' "$line" >>"$tmp/tree/$file"
		n=$((n + 1))
		check "$tmp/tree" >"$tmp/after"
		if ! diff "$tmp/before" "$tmp/after" | grep -q "^> $file:"; then
			echo "not found: $line in $file"
			bad=1
		fi
	done <<-'END'
		launcher/planted.c|#include "internal.h"
		launcher/planted.c|#include "backend.h"
		perf/planted.c|#include "wire.h"
		examples/planted.c|#include "util.h"
		perf/planted.c|#include "../runtime/log.h"
		runtime/xfer.c|#include <ucp/api/ucp.h>
		launcher/planted.c|#include <infiniband/verbs.h>
		runtime/ctx.c|#include <hwloc.h>
		runtime/peer.c|#include <pmix.h>
		runtime/ctx.c|# include <json-c/json.h>
		runtime/wire.c|#include "internal.h"
		runtime/config.c|#include "backend.h"
		runtime/peer.c|#include "loop.h"
		runtime/loop.c|#include "internal.h"
		runtime/backend.h|#include "internal.h"
		runtime/bridge_etcd.c|#include "internal.h"
		runtime/bridge.h|#include "internal.h"
		runtime/peer.c|#include <curl/curl.h>
		runtime/ctx.c|#include "bridge_etcd.h"
		runtime/peer.c|extern const struct mc_bridge_ops mc_bridge_etcd;
		runtime/coll_planted.c|#include "backend.h"
		ucx-backend/planted.c|#include "internal.h"
		ucx-backend/planted.c|#include "loop.h"
		runtime/peer.c|	const char *s = getenv("HOME");
		ucx-backend/planted.c|	s = secure_getenv("UCX_TLS");
		runtime/peer.c|extern const struct mc_be_ops mc_be_ucx;
	END
	echo "$n violations planted, $([ "$bad" -eq 0 ] && echo all found || echo 'some not found')"
	exit "$bad"
}

case ${1:-} in
--self-test) self_test ;;
esac
if check "${1:-$here}"; then
	echo "layers: no include points up"
else
	exit 1
fi
