# SPDX-License-Identifier: BSD-3-Clause
# Sourced by vm: finds or builds what boots. Sets uml_kernel (or, in qemu.sh, qemu_kernel and qemu_modules_file) and guest_init.
# Expects: kernel_dir (this folder), cache, die(), can_skip().
#
# Everything lies in $cache under the hash of what decides about it. A newer source package does not rebuild a kernel that is
# there: the configuration is what the tests depend on. vm --build --again does.

uml_source=linux-source-6.12
uml_objects_n=1050 # about as many files are compiled; only for the progress line
uml_tools='gcc make flex bison bc xz apt-get dpkg flock'
qemu_tools='qemu-system-x86_64 apt-get dpkg depmod cpio zstd xz flock'

hash_of() # stdin -> 12 hex digits
{
	sha256sum | cut -c1-12
}

need_tools()
{
	local missing='' t
	for t in $1; do
		command -v "$t" >/dev/null 2>&1 || [ -x "/usr/sbin/$t" ] || missing="$missing $t"
	done
	[ -z "$missing" ] || cannot "$2 needs$missing, which are not installed (make setup, docs/RDMA-TESTING.md)"
}

# One builder at a time; the others wait and then find its result. $1: what is built, for people.
lock_cache()
{
	exec 9>"$cache/lock" || cannot "cannot write to the cache folder $cache (TEST_RDMA_CACHE)"
	if ! flock -n 9; then
		say "waiting for $1, which another process builds"
		flock 9
	fi
}

unlock_cache()
{
	exec 9>&-
}

fetch() # PACKAGE DIR: unpack Debian's package into DIR
{
	say "fetching Debian's package $1"
	(cd "$2" && apt-get -q download "$1" >fetch.log 2>&1 && dpkg -x "${1%%=*}"_*.deb . &&
		basename "${1%%=*}"_*.deb | cut -d_ -f2 >version && rm -f ./*.deb) ||
		cannot "Debian's package $1 cannot be fetched: $(tail -n 1 "$2/fetch.log")"
}

# Count compiler lines of a make that goes by; on a terminal only.
progress()
{
	if [ -t 2 ]; then
		awk -v n="$uml_objects_n" '
			{ print >log_file; fflush(log_file) }
			/^  (CC|AS|LD|AR|HOSTCC) / && ++done % 5 == 0 {
				pct = done * 100 / n; if (pct > 99) pct = 99
				printf "\rrdma vm: building the test kernel (once): %2d %%", pct >"/dev/stderr"
			}
			END { printf "\r%60s\r", "" >"/dev/stderr" }' log_file="$1"
	else
		cat >"$1"
	fi
}

uml_configure() # SOURCE OUT: and see that nothing of our fragment was dropped
{
	local lost
	# Two processes that poll share the one CPU of the kernel: with ticks of 10 ms they would wait for each other for ever.
	sed -i '/^config HZ$/,/^$/s/default 100/default 1000/' "$1/arch/um/Kconfig"
	make -s -C "$1" ARCH=um O="$2" KCONFIG_ALLCONFIG="$kernel_dir/uml.config" allnoconfig >"$2/config.log" 2>&1 ||
		die "the test kernel cannot be configured: $(tail -n 1 "$2/config.log")"
	lost=$(grep -v '^#' "$kernel_dir/uml.config" | grep -vxFf "$2/.config")
	[ -z "$lost" ] || die "this kernel source does not know or allow: $lost"
	grep -qx 'CONFIG_HZ=1000' "$2/.config" || die "HZ of the test kernel could not be set"
}

uml_build() # TARGET
{
	local work version
	need_tools "$uml_tools" "building the test kernel"
	work=$(mktemp -d "$cache/build.XXXXXX") || cannot "cannot write to $cache"
	at_exit="$at_exit; rm -rf '$work'"
	mkdir "$work/out"
	fetch "$uml_source" "$work"
	version=$(cat "$work/version")
	tar -xf "$work/usr/src/$uml_source.tar.xz" -C "$work" || die "no room in $cache for the kernel source (1.6 GB)?"
	uml_configure "$work/$uml_source" "$work/out"
	nice make -C "$work/$uml_source" ARCH=um O="$work/out" -j "${JOBS:-$(nproc)}" linux 2>&1 </dev/null | progress "$work/log"
	[ -x "$work/out/linux" ] || die "the test kernel did not build: $(grep -m 1 -i 'error' "$work/log" || tail -n 1 "$work/log")"
	strip -o "$1.new" "$work/out/linux" && mv "$1.new" "$1" || die "cannot write $1"
	say "test kernel built from $uml_source $version: $1"
	rm -rf "$work"
}

find_uml()
{
	local ready
	uml_kernel=${TEST_RDMA_KERNEL:-}
	if [ -n "$uml_kernel" ]; then
		[ -x "$uml_kernel" ] || die "TEST_RDMA_KERNEL=$uml_kernel: there is no such program"
		return
	fi
	for ready in "${TEST_DATA:+$TEST_DATA/../rdma-vm/linux-uml}" "$kernel_dir/../../../../shared/rdma-vm/linux-uml"; do
		if [ "$again" = no ] && [ -n "$ready" ] && [ -x "$ready" ]; then
			uml_kernel=$(realpath "$ready")
			return
		fi
	done
	uml_kernel=$cache/linux-uml-$(grep -v '^#' "$kernel_dir/uml.config" | hash_of)
	[ -x "$uml_kernel" ] && [ "$again" = no ] && return
	[ "$only" != have ] || return 1
	mkdir -p "$cache" || cannot "cannot make the cache folder $cache (TEST_RDMA_CACHE)"
	lock_cache "the test kernel"
	if [ ! -x "$uml_kernel" ] || [ "$again" = yes ]; then
		uml_build "$uml_kernel"
	fi
	unlock_cache
}

# The first process of the guest, a static program: it works before there is any file system but the kernel's.
find_init()
{
	guest_init=$cache/init-$(hash_of <"$kernel_dir/init.c")
	[ -x "$guest_init" ] && return
	need_tools "${CC:-cc}" "the first process of the test kernel"
	mkdir -p "$cache" || cannot "cannot make the cache folder $cache (TEST_RDMA_CACHE)"
	"${CC:-cc}" -std=gnu11 -O2 -Wall -static -o "$guest_init.$$" "$kernel_dir/init.c" && mv "$guest_init.$$" "$guest_init" ||
		die "cannot compile $kernel_dir/init.c"
}

have_uml()
{
	(only=have find_uml) 2>/dev/null
}
