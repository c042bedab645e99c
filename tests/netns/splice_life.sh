#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What may happen to a living connection: the upstream's host or the client's moves to another MAC address, the uplink or
# the LAN is down for two seconds, a packet has no hop left. It goes on, and no byte is wrong.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target)
#   10.1.0.77, fd01::77: a client by hand
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
# hosts that move say so, as their kernels do by these; addresses outlive a link that is down
ip netns exec "$lab_s" sysctl -qw net.ipv4.conf.s0.arp_notify=1 net.ipv6.conf.s0.ndisc_notify=1
ip netns exec "$lab_c" sysctl -qw net.ipv4.conf.c0.arp_notify=1 net.ipv6.conf.c0.ndisc_notify=1
ip netns exec "$lab_g" sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1 net.ipv6.conf.l0.keep_addr_on_down=1 net.ipv6.conf.u0.keep_addr_on_down=1

move() { ip -n "$1" link set "$2" address "$3"; }
down() {
	ip -n "$lab_g" link set "$1" down
	sleep 2
	ip -n "$lab_g" link set "$1" up
}

# during NAME SILENCE COMMAND...: four seconds of echo at 4 MB/s, and the command after one and a half of them. SILENCE:
# tenths of a second without a byte are right
during() {
	local name=$1 silence=$2 pid result spliced
	shift 2
	spliced=$(splice_stat spliced)
	in_client timeout 40 "$lab_root/tests/tools/stream.py" "$target" echo 16000000 4000000 >"$lab_dir/stream" 2>&1 &
	pid=$!
	sleep 1.5
	ok "$label: $name: it is spliced" splice_stat_is spliced $((spliced + 1))
	"$@"
	wait $pid
	mapfile -t result <"$lab_dir/stream"
	is "$label: $name: every byte is right" "${result[0]-}" ok
	cmp_ok "$label: $name: it went on soon" "${result[1]-999}" -le "$silence"
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family" target=${splice_target[$family]}
		splice_start "$mode" $family "tcp: { linger: 500ms }"
		during "the upstream moves" 20 move "$lab_s" s0 02:00:00:00:00:55
		during "the client moves" 20 move "$lab_c" c0 02:00:00:00:00:66
		during "the uplink is down" 60 down u0
		during "the LAN is down" 60 down l0
		splice_hand_client
		is "$label: a packet without a hop left" \
			"$(timeout 20 "$lab_root/tests/tools/splice_ends.py" last_hop $family "$lab_c" "$lab_s" 2>&1)" $'nothing\nhello'
		is "$label: is counted" "$(lab_stat .bpf.drop_ttl_expired)" 1
		is "$label: new connections work" \
			"$(in_client timeout 30 "$conns" target "$target" 5005 100 8 100 100 | sed 's/ refused.*//')" "connections=100 failed=0"
		ok "$label: entries are given back" splice_idle
		ok "$label: packets went that way" splice_path "$mode"
		splice_stop
	done
done
tap_done
