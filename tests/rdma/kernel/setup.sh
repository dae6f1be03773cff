# SPDX-License-Identifier: BSD-3-Clause
# usage: sh setup.sh RUN   in the guest, as root, before the command: networks and RDMA devices. RUN/conf says how many.
#   rails N  loopback-like: dummy device rail<i> 10.77.<i>.1/24, RDMA device rxe<i>; both ends on the same device
#   siw      also dummy device iw<i> 10.79.<i>.1/24 with RDMA device siw<i> (iWARP over TCP)
#   wires N  two ends: veth pair wa<i> 10.88.<i>.1 - wb<i> 10.88.<i>.2, RDMA devices rxa<i> and rxb<i>; packets really cross;
#            with siw as well sa<i> 10.87.<i>.1 - sb<i> 10.87.<i>.2, RDMA devices siwa<i> and siwb<i>
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
# (Soft-RoCE asks for its own device, TCP below siw has the addresses of both ends) over the wire, and let what arrives be delivered.
add_ends() # I NAME NET TABLE: NAMEa<I> 10.NET.<I>.1 and NAMEb<I> 10.NET.<I>.2
{
	local i=$1 a=$2a$1 b=$2b$1 net=10.$3.$1 table=$4 end
	ip link add "$a" mtu 4200 type veth peer name "$b" mtu 4200
	ip addr add "$net.1/24" dev "$a"
	ip addr add "$net.2/24" dev "$b"
	for end in $a $b; do
		echo 1 >"/proc/sys/net/ipv4/conf/$end/accept_local"
		echo 0 >"/proc/sys/net/ipv4/conf/$end/rp_filter"
		ip link set "$end" up
		ip rule add pref $((1000 + i)) iif "$end" lookup local
		ip rule add pref $((2000 + i)) oif "$end" lookup "$table"
	done
	ip route add "$net.2/32" dev "$a" src "$net.1" table "$table"
	ip route add "$net.1/32" dev "$b" src "$net.2" table "$table"
}

add_wire()
{
	add_ends "$1" w 88 $((300 + $1))
	rdma link add "rxa$1" type rxe netdev "wa$1"
	rdma link add "rxb$1" type rxe netdev "wb$1"
	[ $siw = yes ] || return 0
	add_ends "$1" s 87 $((400 + $1))
	ip rule add pref $((2500 + $1)) from "10.87.$1.1" to "10.87.$1.2" lookup $((400 + $1))
	ip rule add pref $((2500 + $1)) from "10.87.$1.2" to "10.87.$1.1" lookup $((400 + $1))
	rdma link add "siwa$1" type siw netdev "sa$1"
	rdma link add "siwb$1" type siw netdev "sb$1"
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
