# SPDX-License-Identifier: BSD-3-Clause
# usage: sh setup.sh RUN   in the guest, as root, before the command: networks and RDMA devices. RUN/conf says how many.
#   rails N  loopback-like: dummy device rail<i> 10.77.<i>.1/24, RDMA device rxe<i>; both ends on the same device
#   siw      also dummy device iw<i> 10.79.<i>.1/24 with RDMA device siw<i> (iWARP over TCP)
#   wires N  two ends: veth pair wa<i> 10.88.<i>.1 - wb<i> 10.88.<i>.2, RDMA devices rxa<i> and rxb<i>; packets really cross
#   limit DEVICE hca_handle=N...   the command runs in cgroup "limited" with this in rdma.max
set -eu
run=$1
rails=0 wires=0 siw=no
exec 2>&1
say() { echo "rdma vm, in the guest: $*"; }

# Soft-RoCE devices and their networks are made with names that tests can rely on.
add_rail()
{
	ip link add "rail$1" mtu 4200 type dummy
	ip addr add "10.77.$1.1/24" dev "rail$1"
	ip link set "rail$1" up
	rdma link add "rxe$1" type rxe netdev "rail$1" || { say "this kernel has no Soft-RoCE"; exit 1; }
	[ $siw = yes ] || return 0
	# On a network of its own: connections are made by address, and one address cannot be of two devices.
	ip link add "iw$1" mtu 4200 type dummy
	ip addr add "10.79.$1.1/24" dev "iw$1"
	ip link set "iw$1" up
	rdma link add "siw$1" type siw netdev "iw$1" || { say "this kernel has no siw"; exit 1; }
}

# Both addresses of a wire are this host's, so the kernel would route between them over lo. The rules send what leaves by one end
# (Soft-RoCE asks for its own device) over the wire, and let what arrives be delivered.
add_wire()
{
	local i=$1 end
	ip link add "wa$i" mtu 4200 type veth peer name "wb$i" mtu 4200
	ip addr add "10.88.$i.1/24" dev "wa$i"
	ip addr add "10.88.$i.2/24" dev "wb$i"
	for end in wa wb; do
		echo 1 >"/proc/sys/net/ipv4/conf/$end$i/accept_local"
		echo 0 >"/proc/sys/net/ipv4/conf/$end$i/rp_filter"
		ip link set "$end$i" up
		ip rule add pref $((1000 + i)) iif "$end$i" lookup local
		ip rule add pref $((2000 + i)) oif "$end$i" lookup $((300 + i))
	done
	ip route add "10.88.$i.2/32" dev "wa$i" src "10.88.$i.1" table $((300 + i))
	ip route add "10.88.$i.1/32" dev "wb$i" src "10.88.$i.2" table $((300 + i))
	rdma link add "rxa$i" type rxe netdev "wa$i"
	rdma link add "rxb$i" type rxe netdev "wb$i"
}

while read -r key value; do
	case $key in
	rails) rails=$value ;;
	wires) wires=$value ;;
	siw) siw=yes ;;
	esac
done <"$run/conf"

ip link set lo up
# User-Mode-Linux leaves out the clock rate, which perftest wants to know.
[ -s "$run/cpuinfo" ] && mount --bind "$run/cpuinfo" /proc/cpuinfo
echo '+rdma +pids +memory' >/sys/fs/cgroup/cgroup.subtree_control
i=0
while [ "$i" -lt "$rails" ]; do
	add_rail "$i"
	i=$((i + 1))
done
if [ "$wires" -gt 0 ]; then
	echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
	ip rule add pref 30000 lookup local
	i=0
	while [ "$i" -lt "$wires" ]; do
		add_wire "$i"
		i=$((i + 1))
	done
	ip rule del pref 0
fi
while read -r key value; do
	if [ "$key" = limit ]; then
		mkdir -p /sys/fs/cgroup/limited
		echo "$value" >/sys/fs/cgroup/limited/rdma.max || { say "rdma.max does not take: $value"; exit 1; }
	fi
done <"$run/conf"
exit 0
