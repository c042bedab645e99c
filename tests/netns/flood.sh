#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# 10,000 SYNs from made-up addresses and 100,000 random frames: another client is not disturbed, memory stays bounded,
# counters tell what happened. Relayed by AF_XDP, relayed by TAP, spliced (modes.sh; in the last, clients of IPv6 are relayed).
#
#   client c0 (well-behaved and hostile) ── l0 gateway (daemon) u0 ── s0 server (microsocks, echo server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

conns=$lab_build/tests/tools/conns flood=$lab_build/tests/tools/flood
memory_kb() { awk '/^VmRSS/ {print $2}' "/proc/$lab_daemon/status"; }
descriptors() { find "/proc/$lab_daemon/fd" -mindepth 1 | wc -l; }
# run HOST TOTAL AT-ONCE BYTES: prints how many connections went well, and how many did not
run() { in_client "$conns" run "$1" 7000 "$2" "$3" "$4" | cut -d' ' -f1,2; }
# what a full ring or queue on the way to the daemon lost
lost() {
	local tap
	tap=$(in_gateway ip -s -j link show sockspl0 2>/dev/null | jq '.[0].stats64.tx.dropped')
	echo $(($(lab_stat .xsk.kernel_rx_ring_full) + ${tap:-0}))
}

lab_up
# ports enough for what follows within a minute
for name in "$lab_c" "$lab_g" "$lab_s"; do
	ip netns exec "$name" sysctl -qw net.ipv4.ip_local_port_range="10000 65000" net.ipv4.tcp_tw_reuse=1
done
lab_spawn "$lab_s" "$conns" serve 7000
lab_start_microsocks || exit 1
lab_wait_port "$lab_s" 7000
mac=$(ip -n "$lab_g" -j link show l0 | jq -r '.[0].address')

for mode in "relay-xdp 10.2.0.2 4 6" "relay-tap 10.2.0.2 4 6" "spliced 10.2.0.2 4"; do
	mode_set "$mode"
	lab_tcp_keys+=", handshake-timeout: 3s"
	lab_config "$mode_upstream:1080"
	log_lines=$(cat "$lab_dir/daemon.log" 2>/dev/null | wc -l)
	lab_daemon_start || exit 1
	in_client "$conns" run $lab_target4 7000 100 10 100 >/dev/null
	memory=$(memory_kb) fds=$(descriptors)

	# the made-up clients answer nothing, and nobody has their addresses
	in_client "$flood" c0 "$mac" syn 10000 &
	flooding=$!
	is "$mode_label: 2,000 connections during 10,000 spoofed SYNs" "$(run $lab_target4 2000 10 1000)" "connections=2000 failed=0"
	[ "$tap_failed" -eq 0 ] || lab_stat "{bridge, stack, splice, xsk, tap}" | grep -v ": 0" | sed "s/^/# /"
	wait "$flooding"
	cmp_ok "$mode_label: each SYN opened a flow or is counted as lost in a full queue" \
		"$(($(lab_stat .stack.flows_opened) + $(lost)))" -ge 12100
	cmp_ok "$mode_label: the oldest half-open ones gave way" "$(lab_stat .stack.flows_evicted_total)" -ge 100
	cmp_ok "$mode_label: never more half-open than the limit" "$(lab_stat .stack.half_open_now)" -le 4096
	cmp_ok "$mode_label: nor more entries than these and what rests" "$(lab_stat .splice.entries_in_use)" -le 14100
	cmp_ok "$mode_label: memory grew by less than 32 MB" $(($(memory_kb) - memory)) -lt 32768
	ok "$mode_label: half-open flows go away by themselves" flows_gone
	cmp_ok "$mode_label: and so do their sockets" "$(descriptors)" -le "$fds"
	[ "$mode_way" != spliced ] || is "$mode_label: and their ports" "$(lab_stat .splice.ports_in_use)" 0

	before=$(lab_stat '[.drops[]] | add') opened=$(lab_stat .stack.flows_opened)
	in_client "$flood" c0 "$mac" random 100000 &
	flooding=$!
	is "$mode_label: 500 connections during 100,000 random frames" "$(run $lab_target6 500 10 1000)" "connections=500 failed=0"
	wait "$flooding"
	sleep 0.3
	cmp_ok "$mode_label: noise that looked like TCP was dropped and counted" \
		"$(lab_stat '([.drops[]] | add) + ([.bpf | to_entries[] | select(.key | startswith("drop_")) | .value] | add)')" -ge $((before + 10000))
	is "$mode_label: and opened no flow" "$(lab_stat .stack.flows_opened)" $((opened + 500))
	# the tc program does not even count what is not IP
	[ "$mode_way" != relay-xdp ] || cmp_ok "$mode_label: what is not IP went to the kernel" "$(lab_stat .bpf.pass_not_ip)" -ge 40000
	# one source, one address: its own oldest give way
	run $lab_target4 200 20 100 >/dev/null
	is "$mode_label: the daemon still works" "$(run $lab_target4 200 20 100)" "connections=200 failed=0"
	ok "$mode_label: flows have ended" flows_gone
	ok "$mode_label: no flow holds frames" frames_settled
	is "$mode_label: frames add up" "$(frames_balanced)" true
	if [ "$mode_way" = spliced ]; then
		is "$mode_label: none was relayed that need not be" "$(lab_stat '.splice | [to_entries[] | select((.key | startswith("not_spliced_")) and .value > 0) | "\(.key) \(.value)"] | join(" ")')" "not_spliced_family 500"
	else
		ok "$mode_label: connections went that way" mode_went
	fi
	cmp_ok "$mode_label: the log stayed short" $(($(wc -l <"$lab_dir/daemon.log") - log_lines)) -lt 20
	lab_daemon_flush
	is "$mode_label: the daemon stops in order" "$?" 0
done
tap_done
