#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ICMP errors about packets that the gateway rewrote reach the end that sent them, as if they were about its own packet:
# made by hand, and by routers on either side through which only small packets fit.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target)
#
# and then, with a router on each side (one namespace, whose routes to client and server allow 1300 and 1290 bytes):
#
#   client c0 ── a0 router a1 ── l0 gateway u0 ── b0 router b1 ── s0 server
#   10.5.0.2        10.1.0.254                       10.2.0.254     10.6.0.2
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
errors4=$'fragmentation needed: ok\nhost unreachable: ok\ntime exceeded: ok'
errors6=$'packet too big: ok\nno route: ok\nhop limit exceeded: ok'
client_mtu() { ip -n "$lab_c" route get "$1" | grep -o 'mtu [0-9]*'; }
server_mtu() { ip -n "$lab_s" route get "$1" | grep -o 'mtu [0-9]*'; }

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family" target=${splice_target[$family]}
		[ $family = 4 ] && errors=$errors4 gateway=10.2.0.1 || errors=$errors6 gateway=fd02::1
		splice_start "$mode" $family "tcp: { linger: 500ms }"
		is "$label: errors made by hand" "$(timeout 30 "$lab_root/tests/tools/splice_icmp.py" $family "$lab_c" "$lab_s" 2>&1)" \
			"about the client's"$'\n'"$errors"$'\n'"about the upstream's"$'\n'"$errors"$'\n'"by the upstream's host"$'\n'"$errors"$'\n'alive
		is "$label: are counted" "$(lab_stat .bpf.icmp_translated)" 9
		is "$label: the client believes them" "$(client_mtu "$target")" "mtu 1300"
		is "$label: the upstream too" "$(server_mtu $gateway)" "mtu 1300"
		ok "$label: the connection has ended" splice_idle
		is "$label: in order" "$(lab_stat '.splice | [.finished, .finished_reset] | join(" ")')" "1 0"
		ip -n "$lab_c" route flush cache
		ip -n "$lab_s" route flush cache
		ip -n "$lab_c" -6 route flush cache
		ip -n "$lab_s" -6 route flush cache
		is "$label: a ping still works" "$(in_gateway ping -c 1 -W 2 "$([ $family = 4 ] && echo 10.2.0.2 || echo fd02::2)" | grep -c ' 0% packet loss')" 1
		splice_stop
	done
done

# --- routers ---

ip netns add "$lab_l"
ip -n "$lab_l" link set lo up
# one machine plays both routers: an error by its other half comes in with an address of its own
ip netns exec "$lab_l" sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.conf.default.accept_local=1 net.ipv4.conf.all.rp_filter=0 \
	net.ipv4.conf.default.rp_filter=0
ip netns exec "$lab_l" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
	net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
ip -n "$lab_g" link set l0 down
ip -n "$lab_c" link del c0
ip -n "$lab_g" link del u0
ip link add a1 netns "$lab_l" type veth peer name l0 netns "$lab_g"
ip link add a0 netns "$lab_l" type veth peer name c0 netns "$lab_c"
ip link add b0 netns "$lab_l" type veth peer name u0 netns "$lab_g"
ip link add b1 netns "$lab_l" type veth peer name s0 netns "$lab_s"
address() { # address NAMESPACE DEVICE LAST-OF-IPV4 IPV6-PREFIX LAST
	ip -n "$1" addr add "$3/24" dev "$2"
	ip -n "$1" addr add "$4/64" dev "$2" nodad
	ip -n "$1" link set "$2" up
}
address "$lab_g" l0 10.1.0.1 fd01::1
address "$lab_l" a1 10.1.0.254 fd01::fe
address "$lab_l" a0 10.5.0.254 fd05::fe
address "$lab_c" c0 10.5.0.2 fd05::2
address "$lab_g" u0 10.2.0.1 fd02::1
address "$lab_l" b0 10.2.0.254 fd02::fe
address "$lab_l" b1 10.6.0.254 fd06::fe
address "$lab_s" s0 10.6.0.2 fd06::2
ip -n "$lab_c" route add default via 10.5.0.254 && ip -n "$lab_c" route add default via fd05::fe
ip -n "$lab_l" route add default via 10.1.0.1 && ip -n "$lab_l" route add default via fd01::1
ip -n "$lab_g" route add 10.5.0.0/24 via 10.1.0.254 && ip -n "$lab_g" route add fd05::/64 via fd01::fe
ip -n "$lab_g" route add 10.6.0.0/24 via 10.2.0.254 && ip -n "$lab_g" route add fd06::/64 via fd02::fe
ip -n "$lab_s" route add default via 10.6.0.254 && ip -n "$lab_s" route add default via fd06::fe
ip -n "$lab_l" route add 10.5.0.2 dev a0 mtu lock 1300 && ip -n "$lab_l" route add fd05::2 dev a0 mtu lock 1300
ip -n "$lab_l" route add 10.6.0.2 dev b1 mtu lock 1290 && ip -n "$lab_l" route add fd06::2 dev b1 mtu lock 1290

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family, small packets only" target=${splice_target[$family]}
		splice_mode "$mode"
		lab_config "$([ $family = 4 ] && echo 10.6.0.2:1080 || echo "[fd06::2]:1080")" "tcp: { linger: 500ms }"
		lab_daemon_start || exit 1
		mapfile -t result < <(in_client timeout 40 "$lab_root/tests/tools/stream.py" "$target" echo 20000000 2>&1)
		is "$label: 20 MB each way" "${result[0]-}" ok
		cmp_ok "$label: nobody waited long" "${result[1]-999}" -le 15
		is "$label: the client was told" "$(client_mtu "$target")" "mtu 1290"
		is "$label: the server was told" "$(server_mtu "$([ $family = 4 ] && echo 10.2.0.1 || echo fd02::1)")" "mtu 1300"
		cmp_ok "$label: by translated errors" "$(lab_stat .bpf.icmp_translated)" -ge 2
		is "$label: it was spliced" "$(splice_stat spliced)" 1
		ok "$label: entries are given back" splice_idle
		ip -n "$lab_c" route flush cache
		ip -n "$lab_s" route flush cache
		splice_stop
	done
done
tap_done
