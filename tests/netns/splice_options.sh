#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Ends that differ in their TCP options and in the MTU of their links: each pair is spliced, and 5 MB arrive as they were
# sent, up and down.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target on port 1080; dante on 1083 and a web server)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
mkdir "$lab_dir/www"
head -c 5000000 /dev/urandom >"$lab_dir/www/data"
want=$(sha256sum <"$lab_dir/www/data" | cut -d' ' -f1)
lab_start_dante && lab_start_web "$lab_dir/www" || exit 1

client() { ip netns exec "$lab_c" sysctl -qw "$@"; }
server() { ip netns exec "$lab_s" sysctl -qw "$@"; }
mtu() { # mtu LAN UPLINK
	ip -n "$lab_c" link set c0 mtu "$1"
	ip -n "$lab_g" link set l0 mtu "$1"
	ip -n "$lab_g" link set u0 mtu "$2"
	ip -n "$lab_s" link set s0 mtu "$2"
}

# both NAME: 5 MB each way
both() {
	local spliced
	spliced=$(splice_stat spliced)
	is "$label: $1: 5 MB down" "$(in_client curl -gsS -m 20 "http://$host/data" 2>&1 | sha256sum | cut -d' ' -f1)" "$want"
	is "$label: $1: 5 MB up" "$(in_client curl -gsS -m 20 -T "$lab_dir/www/data" "http://$host/put" 2>&1)" "$want"
	ok "$label: $1: spliced" splice_until 2 splice_stat_is spliced $((spliced + 2))
}

# pair OPTION VALUE BACK NAME: at the client, at the server, at both
pair() {
	client "$1=$2" && both "client $4"
	server "$1=$2" && both "both ends $4"
	client "$1=$3" && both "server $4"
	server "$1=$3"
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family" host=${splice_target[$family]}
		[ $family = 4 ] || host="[$host]"
		splice_start "$mode" $family "tcp: { linger: 500ms }"
		both "usual"
		pair net.ipv4.tcp_timestamps 0 1 "without timestamps"
		pair net.ipv4.tcp_sack 0 1 "without SACK"
		pair net.ipv4.tcp_window_scaling 0 1 "without window scaling"
		pair net.ipv4.tcp_ecn 1 2 "with ECN"
		client net.ipv4.tcp_timestamps=0 net.ipv4.tcp_window_scaling=0 && server net.ipv4.tcp_sack=0
		both "client without two, server without the third"
		client net.ipv4.tcp_timestamps=1 net.ipv4.tcp_window_scaling=1 && server net.ipv4.tcp_sack=1
		# scales: 4 kB fit unscaled, 64 MB need ten bits
		client net.ipv4.tcp_rmem="4096 16384 32768" && server net.ipv4.tcp_rmem="4096 131072 67108864"
		both "small window scale at the client"
		client net.ipv4.tcp_rmem="4096 131072 67108864" && server net.ipv4.tcp_rmem="4096 16384 32768"
		both "small window scale at the server"
		server net.ipv4.tcp_rmem="4096 131072 6291456" && client net.ipv4.tcp_rmem="4096 131072 6291456"
		ip -n "$lab_c" route change default via 10.1.0.1 advmss 536
		ip -n "$lab_c" -6 route change default via fd01::1 advmss 536
		both "client with MSS 536"
		ip -n "$lab_c" route change default via 10.1.0.1
		ip -n "$lab_c" -6 route change default via fd01::1
		ok "$label: entries are given back" splice_idle
		is "$label: none was relayed" "$(lab_stat '.stack.flows_established')" 0
		splice_stop
		# XDP takes no packet that needs more than a page
		large=9000
		[ "$mode" = tc ] || large=3400
		for links in "1400 1500" "1500 1400" "$large 1500" "1500 $large"; do
			# shellcheck disable=SC2086 # two words
			mtu $links
			splice_start "$mode" $family "tcp: { linger: 500ms }"
			both "MTU ${links/ / and }"
			is "$label: MTU ${links/ / and }: no packet was too big" "$(splice_counter "$lab_g" IpFragCreates)" 0
			splice_stop
		done
		mtu 1500 1500
	done
done
tap_done
