#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# UDP of clients through SOCKS5 associations, carried by the kernel and by user space; echo requests; limits; upstreams
# that refuse, lie about their address, end, and come back. Once for each word of UDP_MODES (tc, xdp).
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server: udp_target or dante (10.2.0.2, fd02::2), echo on 10.9.0.1, fd09::1
#
# Forwarding is on in the gateway: what it does not take would leave by u0 with the client's address. A capture at s0 looks
# for that all the time.
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

client=$lab_root/tests/tools/udp_client.py
read -ra udp_modes <<<"${UDP_MODES:-tc}"
target4=$lab_target4 target6=$lab_target6

udp_client() { in_client timeout 40 "$client" "$@"; }
udp_stat() { lab_stat ".udp.$1"; }
udp_stat_is() {
	local got
	got=$(udp_stat "$1")
	[ "$got" = "$2" ] || { echo "$1 is $got"; return 1; }
}
# udp_server [OPTIONS]: the upstream, in place of an earlier one
udp_server() {
	[ -z "${udp_server_pid:-}" ] || lab_end "$udp_server_pid"
	lab_spawn "$lab_s" "$lab_build/tests/tools/udp_target" 1080 "$@"
	udp_server_pid=$lab_last
	lab_wait_port "$lab_s" 1080
}
# udp_start FAMILY [EXTRA-LINES]
udp_start() { splice_start "$mode" "$@"; }
udp_leaks() { tcpdump -nr "$lab_dir/leaks.pcap" 2>/dev/null; }

lab_up
in_gateway sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n "$lab_c" addr add 10.1.0.3/24 dev c0 && ip -n "$lab_c" addr add fd01::3/64 dev c0 nodad
lab_spawn "$lab_s" tcpdump -i s0 -U -w "$lab_dir/leaks.pcap" \
	"(ip or ip6) and not host 10.2.0.2 and not host fd02::2 and not ip6 multicast and not ip multicast"
sleep 1
udp_server

for mode in "${udp_modes[@]}"; do
	# --- each family of clients over each family of upstreams; by the kernel where both are the same ---
	for family in 4 6; do
		udp_start $family
		for host in "$target4" "$target6"; do
			[ $((family == 6)) = "$([[ $host = *:* ]] && echo 1 || echo 0)" ] && way=kernel || way=socket
			# what the two IP headers, UDP and SOCKS5 leave of 65,535 bytes; the rest no datagram of the relay holds
			case $family-$host in 4-10*) most=65497 ;; 4-*) most=65485 ;; 6-10*) most=65507 ;; *) most=65505 ;; esac
			label="$mode, upstream by IPv$family, $host"
			ok "$label: small datagrams" udp_client echo "$host" 5007 0 1 2 8 9 10 11 1000 1400
			ok "$label: about the MTU and larger, up to $most" udp_client echo "$host" 5007 1452 1472 1473 2000 8000 $most
			ok "$label: answers of any size" udp_client sized "$host" 5011 0 1 9 1440 1470 1473 9000 $most
			[[ $host = *:* ]] && other=2001:db8::9 || other=203.0.113.9
			ok "$label: full cone" udp_client cone "$host" 5009 $other 999
			ok "$label: FRAG, names and cut off headers are dropped" udp_client odd "$host" 5010
			is "$label: carried by" "$("$lab_build/socksplice" flows --json --control "$lab_control" |
				jq -r --arg v6 "$([[ $host = *:* ]] && echo '[')" \
					'[.[] | select(.proto == "udp" and (.client | startswith("[")) == ($v6 == "[")) | .tier] | unique | join(" ")')" $way
		done
		is "$mode, upstream by IPv$family: odd ones are counted" \
			"$(lab_stat '.udp | [.received_fragment, .received_name, .received_malformed] | join(" ")')" "2 2 2"
		[ "$mode" = tc ] && other=xdp || other=tc
		cmp_ok "$mode, upstream by IPv$family: the kernel did it" "$(lab_stat ".bpf.udp_$mode")" -gt 15
		is "$mode, upstream by IPv$family: by the hook that was told" "$(lab_stat ".bpf.udp_$other")" 0
		ok "$mode, upstream by IPv$family: frames are where they belong" frames_settled
		splice_stop
	done

	# --- endpoints ---
	udp_start 4
	label=$mode
	ip -n "$lab_c" route flush cache
	descriptors=$(splice_descriptors)
	udp_client bound "$target4" 5007 10.1.0.2:7777 first >"$lab_dir/first" &
	ok "$label: two clients with one source port" udp_client bound "$target4" 5007 10.1.0.3:7777 second
	wait $!
	is "$label: do not mix" "$(<"$lab_dir/first")" True
	ok "$label: 300 endpoints at once" udp_client many "$target4" 5007 300
	is "$label: each with an association" "$(udp_stat associations_now)" 302
	is "$label: the path MTU that the client is told" "$(udp_client mtu "$target4" 5007 1472)" 1490
	is "$label: flows show them" "$(splice_flows | jq '[.[] | select(.client == "10.1.0.3:7777" and .destination == "any"
		and .upstream == "main" and .bytes_from_client == 6 and .bytes_to_client == 6)] | length')" 1

	# --- the control connection ends, the upstream goes and comes back ---
	before=$(udp_stat control_ended)
	udp_client echo "$target4" 5013 1 >/dev/null
	ok "$label: the end of the control connections ends all" splice_until 3 udp_stat_is associations_now 0
	cmp_ok "$label: which is counted" "$(udp_stat control_ended)" -ge $((before + 300))
	is "$label: no descriptor is left" "$(splice_descriptors)" "$descriptors"
	udp_client keep "$target4" 5007 6 >"$lab_dir/keep" &
	keep=$!
	sleep 1
	lab_end "$udp_server_pid"
	udp_server_pid=""
	sleep 1
	udp_server
	wait $keep
	read -r came sent <"$lab_dir/keep"
	cmp_ok "$label: recovers by itself when the upstream is back ($came of $sent)" "$came" -gt $((sent / 3))
	cmp_ok "$label: and lost some meanwhile" "$came" -lt "$sent"
	splice_stop

	# --- by time ---
	udp_start 4 "udp: { idle-timeout: 1s }"
	ok "$label: an association" udp_client echo "$target4" 5007 5
	is "$label: lives" "$(udp_stat ready_now)" 1
	ok "$label: until it is idle for long enough" splice_until 4 udp_stat_is associations_now 0
	is "$label: and is counted" "$(lab_stat '.udp | [.idle, .kernel_packets_down >= 0] | join(" ")')" "1 true"
	udp_client keep "$target4" 5007 3 >"$lab_dir/keep"
	is "$label: traffic in the kernel keeps it" "$(udp_stat opened)" 2
	splice_stop

	# --- limits ---
	udp_start 4 "udp: { per-client: 8, max-flows: 16 }"
	udp_client bound "$target4" 5007 10.1.0.3:4000 quiet >/dev/null
	udp_client many "$target4" 5007 40 >/dev/null
	is "$label: a client has its share and no more" "$(udp_stat associations_now)" 9
	is "$label: its own make room" "$(lab_stat '.udp | [.evicted_per_client >= 32, .evicted] | join(" ")')" "true 0"
	ok "$label: others' stay" udp_client bound "$target4" 5007 10.1.0.3:4000 again
	is "$label: the same as before" "$(splice_flows | jq '[.[] | select(.client == "10.1.0.3:4000") | .packets_from_client] | join(" ")')" '"2"'
	splice_stop

	# --- echo requests, hops ---
	udp_start 4
	for host in "$target4" "$target6" 198.51.100.7; do
		is "$label: $host answers a ping" "$(in_client ping -c 2 -i 0.2 -W 2 "$host" | grep -o '2 received')" "2 received"
	done
	is "$label: by the daemon" "$(lab_stat .stack.echo_replies)" 6
	is "$label: the gateway is a hop" "$(in_client ping -c 1 -W 2 -t 1 "$target4" | grep -o 'From 10.1.0.1 .*')" \
		"From 10.1.0.1 icmp_seq=1 Time to live exceeded"
	is "$label: in IPv6 too" "$(in_client ping -c 1 -W 2 -t 1 "$target6" | grep -o 'From fd01::1 .*')" \
		"From fd01::1 icmp_seq=1 Time exceeded: Hop limit"
	is "$label: for UDP" "$(in_client python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
s.setsockopt(socket.IPPROTO_IP, 11, 1)
s.sendto(b'hop?', ('$target4', 33434))
s.settimeout(2)
try: s.recv(10)
except OSError: pass
data, anc, flags, peer = s.recvmsg(100, 512, 0x2000)
print(data, anc[0][2][4:7])")" "b'hop?' b'\\x02\\x0b\\x00'"
	splice_stop
	udp_start 4 "icmp: drop"
	is "$label: icmp: drop" "$(in_client ping -c 1 -W 1 "$target4" | grep -o '0 received')" "0 received"
	splice_stop

	# --- upstreams that do not, or say so wrongly ---
	udp_server refuse
	udp_start 4
	ok "$label: refused by the upstream: port unreachable" udp_client unreachable "$target4" 5007
	ok "$label: in IPv6 too" udp_client unreachable "$target6" 5007
	cmp_ok "$label: is counted" "$(udp_stat refused)" -ge 2
	splice_stop
	udp_server no-udp-port
	udp_start 4
	ok "$label: a relay that is not there: reported or given up" splice_until 1 true
	udp_client keep "$target4" 5007 1 >/dev/null
	cmp_ok "$label: associations end" "$(udp_stat closed)" -ge 1
	splice_stop
	udp_server zero-address
	udp_start 4
	ok "$label: BND.ADDR 0.0.0.0" udp_client echo "$target4" 5007 1 100
	is "$label: is repaired" "$(udp_stat relay_repaired)" 1
	splice_stop
	lab_upstream_keys="udp-address: as-told"
	udp_start 4
	ok "$label: unless it shall not be" udp_client unreachable "$target4" 5007
	splice_stop
	lab_upstream_keys="udp-address: 10.2.0.2"
	udp_start 4
	ok "$label: or is told" udp_client echo "$target4" 5007 1 100
	splice_stop
	lab_upstream_keys="udp: off"
	udp_start 4
	ok "$label: udp: off" udp_client unreachable "$target4" 443 0.5
	ok "$label: udp: off in IPv6" udp_client unreachable "$target6" 443 0.5
	is "$label: opens nothing" "$(lab_stat '.udp | [.opened, .refused_off >= 2] | join(" ")')" "0 true"
	splice_stop
	udp_server

	# --- inside the control connection ---
	lab_upstream_keys="udp: tcp"
	udp_start 4
	for host in "$target4" "$target6"; do
		ok "$label: udp: tcp, $host: all sizes" udp_client echo "$host" 5007 0 1 9 1472 1473 8000 65507
		ok "$label: udp: tcp, $host: answers" udp_client sized "$host" 5011 0 1 1473 65507
	done
	ok "$label: udp: tcp: full cone" udp_client cone "$target4" 5009 203.0.113.9 999
	ok "$label: udp: tcp: many" udp_client many "$target4" 5007 100
	is "$label: udp: tcp: no socket but TCP" "$(in_gateway ss -Hunap | grep -c "pid=$lab_daemon,")" 0
	udp_client echo "$target4" 5013 1 >/dev/null
	ok "$label: udp: tcp: the end of the stream ends it" splice_until 3 udp_stat_is associations_now 0
	ok "$label: udp: tcp: frames are where they belong" frames_settled
	splice_stop
	lab_upstream_keys=""

	# --- without a daemon ---
	udp_start 4
	udp_client echo "$target4" 5007 5 >/dev/null
	lab_daemon_stop KILL
	udp_client keep "$target4" 5007 1 >"$lab_dir/keep"
	is "$label: no daemon: new datagrams do not get out" "$(cut -d' ' -f1 "$lab_dir/keep")" 0
	is "$label: nor pings" "$(in_client ping -c 1 -W 1 "$target4" | grep -o '0 received')" "0 received"
	lab_daemon_start || exit 1
	ok "$label: the next daemon serves" udp_client echo "$target4" 5007 5
	splice_stop
done

# --- a real server ---
lab_end "$udp_server_pid"
lab_start_dante
lab_spawn "$lab_s" "$client" serve "$target4" 5007
lab_spawn "$lab_s" "$client" serve "$target6" 5007
for mode in "${udp_modes[@]}"; do
	for family in 4 6; do
		udp_start $family
		for host in "$target4" "$target6"; do
			ok "$mode, dante by IPv$family, $host: datagrams" udp_client echo "$host" 5007 1 9 1400 1473 8000
			ok "$mode, dante by IPv$family, $host: full cone" udp_client cone "$host" 5007 "$host" 5008
		done
		splice_stop
	done
done
is "nothing has left the gateway but to the upstream" "$(udp_leaks | head -n 5)" ""
tap_done
