# SPDX-License-Identifier: BSD-3-Clause
# Sourced by vm: Debian's own kernel in qemu without hardware help. Slow, but a complete x86-64 machine with two processors:
# programs built with sanitizers, whose shadow memory finds no room in a User-Mode-Linux process, run in it.

qemu_kernel_package=linux-image-6.12-amd64
# What the first process loads, before there is a modprobe: shared folders, output lines, the layer, RDMA, networks.
qemu_modules='virtio_pci virtio_console 9pnet_virtio 9p overlay crc32_generic libcrc32c udp_tunnel ib_uverbs rdma_ucm ib_umad
	rdma_rxe veth dummy sch_netem sch_tbf bridge'

qemu_key() { echo "$qemu_kernel_package" $qemu_modules | hash_of; }

have_qemu()
{
	[ -s "$cache/vmlinux-$(qemu_key)" ] && [ -s "$cache/modules-$(qemu_key).cpio" ]
}

# A bzImage would spend half a minute in its own decompressor: qemu boots the unpacked kernel directly.
unpack_kernel() # BZIMAGE OUT
{
	local magic tool at
	while read -r magic tool; do
		for at in $(LC_ALL=C grep -abo -P "$magic" "$1" | cut -d: -f1); do
			# shellcheck disable=SC2086 # the tool and its options are words
			tail -c +$((at + 1)) "$1" | $tool >"$2" 2>/dev/null
			[ "$(head -c 4 "$2" | tail -c 3)" = ELF ] && return
		done
	done <<-'LIST'
		\x28\xb5\x2f\xfd zstd -dcq
		\xfd7zXZ\x00 xz -dc --single-stream
		\x1f\x8b\x08 gzip -dc
	LIST
	die "no kernel found inside $1"
}

archive() # DIR OUT
{
	(cd "$1" && find . | cpio -o -H newc --quiet) >"$2" || die "cannot write $2"
}

qemu_archive_modules() # MODULE_TREE VERSION OUT
{
	local d=$work/initrd m f b
	mkdir -p "$d/mod" "$d/dev" "$d/proc" "$d/sys" "$d/mnt" "$d/host" "$d/run"
	PATH=$PATH:/usr/sbin:/sbin depmod -b "$1" "$2" || die "depmod failed for $2"
	for m in $qemu_modules; do
		PATH=$PATH:/usr/sbin:/sbin modprobe -d "$1" -S "$2" --show-depends "$m" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
	done | awk '!seen[$0]++' | while read -r f; do
		b=$(basename "$f")
		case $f in
		*.xz) b=${b%.xz} && xz -dc "$f" >"$d/mod/$b" ;;
		*.zst) b=${b%.zst} && zstd -dcq "$f" >"$d/mod/$b" ;;
		*) cp "$f" "$d/mod/$b" ;;
		esac
		strip -g "$d/mod/$b"
		echo "$b" >>"$d/modules"
	done
	grep -q rdma_rxe "$d/modules" || die "Debian's kernel $2 has no rdma_rxe module"
	archive "$d" "$3"
}

find_qemu()
{
	local version work
	qemu_kernel=$cache/vmlinux-$(qemu_key)
	qemu_modules_file=$cache/modules-$(qemu_key).cpio
	need_tools qemu-system-x86_64 "--qemu"
	[ "$again" = no ] && have_qemu && return
	need_tools "$qemu_tools" "making Debian's kernel ready for qemu"
	lock_cache "the kernel for qemu"
	if ! have_qemu || [ "$again" = yes ]; then
		work=$(mktemp -d "$cache/build.XXXXXX") || cannot "cannot write to $cache"
		at_exit="$at_exit; rm -rf '$work'"
		version=$(apt-cache depends "$qemu_kernel_package" 2>/dev/null | sed -n 's/.*Depends: linux-image-//p' | head -n 1)
		[ -n "$version" ] || cannot "Debian's package $qemu_kernel_package is not in the package lists"
		fetch "linux-image-$version" "$work"
		[ -d "$work/lib/modules" ] || { mkdir -p "$work/lib" && ln -s ../usr/lib/modules "$work/lib/modules"; }
		unpack_kernel "$work/boot/vmlinuz-$version" "$work/vmlinux"
		qemu_archive_modules "$work" "$version" "$work/modules.cpio"
		mv "$work/modules.cpio" "$qemu_modules_file" && mv "$work/vmlinux" "$qemu_kernel" || die "cannot write to $cache"
		rm -rf "$work"
	fi
	unlock_cache
}

boot_qemu()
{
	local khz shares=() i=0 d
	# The emulated clock counts as the host's does; the guest's own calibration goes wrong on a busy host.
	khz=$(awk '/cpu MHz/ { printf "%d", $4 * 1000; exit }' /proc/cpuinfo)
	: >"$run/cpuinfo"
	mkdir "$run/first"
	cp "$guest_init" "$run/first/init"
	archive "$run/first" "$run/initrd"
	cat "$qemu_modules_file" >>"$run/initrd" # archives in a row are one
	for d in ${writable[@]+"${writable[@]}"}; do
		shares+=(-fsdev "local,id=w$i,path=$d,security_model=none,multidevs=remap" -device "virtio-9p-pci,fsdev=w$i,mount_tag=w$i")
		i=$((i + 1))
	done
	mkfifo "$run/out" "$run/err"
	cat "$run/out" &
	out=$!
	cat "$run/err" >&2 &
	err=$!
	exec 3<>"$run/out" 4<>"$run/err" # held open here, so that the readers end when both are gone, whatever qemu does
	$die_with_us timeout -k 3 "$timeout" qemu-system-x86_64 -M q35,acpi=off -accel tcg,thread=multi -cpu max,la57=off -smp 2 -m "$memory" \
		-nodefaults -no-user-config -display none -no-reboot -serial "file:$run/console" \
		-kernel "$qemu_kernel" -initrd "$run/initrd" \
		-append "console=ttyS0 quiet panic=-1 reboot=t nokaslr mitigations=off no_timer_check tsc=reliable ${khz:+tsc_early_khz=$khz} cryptomgr.notests rdmavm=$run rdmavm_root=9p" \
		-fsdev "local,id=host,path=/,readonly=on,security_model=none,multidevs=remap" -device virtio-9p-pci,fsdev=host,mount_tag=host \
		-fsdev "local,id=run,path=$run,security_model=none" -device virtio-9p-pci,fsdev=run,mount_tag=run \
		${shares[@]+"${shares[@]}"} -device virtio-serial-pci \
		-chardev "file,id=out,path=$run/out" -device virtserialport,chardev=out,name=out \
		-chardev "file,id=err,path=$run/err" -device virtserialport,chardev=err,name=err \
		</dev/null >"$run/qemu.log" 2>&1 3>&- 4>&- &
	guest=$!
	wait "$guest" 2>/dev/null
	vm_status=$?
	guest=
	exec 3>&- 4>&-
	wait "$out" "$err"
	cat "$run/qemu.log" >>"$run/console"
}
