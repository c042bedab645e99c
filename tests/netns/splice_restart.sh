#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Spliced connections outlive the daemon: killed or stopped in the middle of a transfer, with 300 idle connections. Meanwhile
# nothing leaves unproxied and nothing new begins; the next daemon takes them over. What was just opening is reset, what had
# not been answered is served. `stop --flush` ends all. Pins of another layout are refused.
#
#   client c0 ── l0 gateway (daemon; it forwards, so only the programs keep clients in) u0 ── s0 server (target)
#   10.1.0.77, fd01::77: a client by hand
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
# the service is there without a proxy too
lab_start_target 5003 || exit 1
lab_spawn "$lab_s" "$lab_root/tests/tools/socks_script.py" 1081
lab_wait_port "$lab_s" 1081 || exit 1
ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
splice_hand_client

program() { in_gateway "$lab_build/socksplice" "$@"; }
new_connection() { in_client timeout 2 "$lab_root/tests/tools/dial.py" "$target" 5003 hello 2>&1; }
# leaks: TCP on the uplink that is not between the gateway and the upstream; watched from watch on
watch() {
	rm -f "$lab_dir/leaks.pcap"
	lab_spawn "$lab_s" tshark -q -i s0 -w "$lab_dir/leaks.pcap" -f "tcp and not host 10.2.0.1 and not host fd02::1"
	watcher=$lab_last
	splice_until 10 test -s "$lab_dir/leaks.pcap"
}
leaks() {
	sleep 0.3
	lab_end "$watcher"
	tshark -r "$lab_dir/leaks.pcap" 2>/dev/null | wc -l
}
# The kernel's ids of what the daemon has attached: bpftool may be too old to list tcx links by device. And which still exist.
links() {
	local pin
	for pin in "$lab_bpf"/pin/link-*; do
		[ ! -e "$pin" ] || bpftool -j link show pinned "$pin" | jq '.id'
	done
}
links_left() { # links_left ID...
	local id left=0
	for id in "$@"; do
		! bpftool link show id "$id" 2>/dev/null | grep -q "^$id:" || left=$((left + 1))
	done
	echo $left
}
xdp_programs() { ip -n "$lab_g" -j link show | jq '[.[] | select(.xdp)] | length'; }
reserved() { in_gateway sysctl -n net.ipv4.ip_local_reserved_ports; }

# outlived HOW SIGNAL
outlived() {
	local name="$label, $1" pid result
	splice_start "$mode" "$family" "tcp: { linger: 500ms }"
	splice_hold "$target" 5003 300
	is "$name: 300 connections" "$held" "holding connections=300 failed=0"
	watch 9>&-
	in_client timeout 40 "$lab_root/tests/tools/stream.py" "$target" echo 200000000 33000000 >"$lab_dir/stream" 2>&1 9>&- &
	pid=$!
	ok "$name: and a transfer" splice_until 3 splice_stat_is spliced 301
	lab_daemon_stop "$2"
	is "$name: new connections fail meanwhile" "$(new_connection)" ""
	is "$name: the transfer goes on without the daemon" "$(kill -0 $pid && echo on)" on
	lab_daemon_start 9>&- || exit 1
	is "$name: the next daemon takes them over" "$(splice_stat adopted)" 301
	is "$name: and none was in the way" "$(splice_stat adopted_unusable)" 0
	ok "$name: and shows them" splice_flow_count '.adopted and .tier == "spliced"' 301
	is "$name: new connections work again" "$(new_connection)" "connected 0 hello"
	wait $pid
	mapfile -t result <"$lab_dir/stream"
	is "$name: the transfer is right to the last byte" "${result[0]-}" ok
	cmp_ok "$name: and never paused" "${result[1]-999}" -le 10
	is "$name: nothing left unproxied" "$(leaks)" 0
	splice_release
	is "$name: the 300 are alive" "$held" "alive=300 lost=0"
	ok "$name: all end" splice_idle
	is "$name: and are counted" "$(lab_stat '.splice | [.finished, .finished_reset, .finished_idle, .live_now] | join(" ")')" "302 0 0 0"
	# a segment that was sent again counts again
	is "$name: and their bytes" "$(lab_stat '.splice | [.bytes_up, .bytes_down] | map(. >= 200009605 and . < 202000000) | all')" true
	is "$name: and their ports given back" "$(splice_stat ports_in_use)" 0
	splice_stop
}

# flushed HOW COMMAND...: ends the daemon and everything else
flushed() {
	local name="$label, $1" before ids
	shift
	before=$(reserved)
	splice_start "$mode" "$family"
	is "$name: ports are reserved" "$(reserved)" 10000-40000
	mapfile -t ids < <(links)
	cmp_ok "$name: and programs are there" "$(links_left "${ids[@]}")" -ge 3
	[ "$mode" = tc ] || is "$name: of XDP too" "$(xdp_programs)" 2
	splice_hold "$target" 5003 50
	is "$name: 50 connections" "$held" "holding connections=50 failed=0"
	"$@" >>"$lab_dir/daemon.log" 2>&1 9>&-
	is "$name: done" "$?" 0
	[ -z "$lab_daemon" ] || wait "$lab_daemon"
	lab_daemon=""
	splice_release
	is "$name: all are reset" "$held" "alive=0 lost=50"
	ok "$name: at the server too" splice_until 2 server_has_none
	is "$name: no program is left" "$(links_left "${ids[@]}") $(xdp_programs)" "0 0"
	is "$name: no pin is left" "$(find "$lab_bpf" -mindepth 2 | wc -l)" 0
	is "$name: ports are as before" "$(reserved)" "$before"
	is "$name: and the way is free" "$(new_connection)" "connected 0 hello"
}
server_has_none() { [ -z "$(in_server ss -Htn state established "sport = :${port:-1080}")" ]; }
kill_and_flush() {
	lab_daemon_stop KILL
	program stop --flush -c "$lab_dir/socksplice.yml"
}

# The daemon dies during handovers.
interrupted() {
	local name="$label, interrupted" pids=() i port=1081
	splice_mode "$mode"
	lab_config "${splice_upstream[$family]/1080/1081}" "tcp: { linger: 500ms }"
	lab_daemon_start || exit 1
	for i in 1 2 3 4 5; do
		in_client timeout 12 "$lab_root/tests/tools/dial.py" "$target" 2000 "hello $i" >"$lab_dir/dial.$i" 2>&1 &
		pids+=($!)
	done
	timeout 12 "$lab_root/tests/tools/splice_ends.py" abandoned "$family" "$lab_c" "$lab_s" >"$lab_dir/words" 2>&1 &
	pids+=($!)
	ok "$name: six connections are on their way" splice_until 3 splice_stat_is entries_in_use 6
	ok "$name: one of them waits for its client" splice_until 3 splice_stat_is handovers 1
	lab_daemon_stop KILL
	lab_daemon_start || exit 1
	is "$name: none could be taken over" "$(lab_stat '.splice | [.adopted, .adopted_unusable] | join(" ")')" "0 6"
	wait "${pids[@]}"
	is "$name: who had an answer is reset" "$(cat "$lab_dir/words")" "SA RA exact"
	for i in 1 2 3 4 5; do
		is "$name: who had none is served ($i)" "$(sed -E 's/ [0-9]+ / /' "$lab_dir/dial.$i")" "connected hello $i"
	done
	ok "$name: entries are given back" splice_idle
	ok "$name: nothing lingers at the server" splice_until 3 server_has_none
	splice_stop
}

# The daemon died between freezing a socket and OPENING: the socket has gone without a word, the entry is PENDING. Too short
# a moment to hit, so the entry of a living connection, which has no socket either, is made to look so.
frozen() {
	local name="$label, frozen"
	splice_start "$mode" "$family" "tcp: { linger: 500ms }"
	splice_hold "$target" 5003 1
	is "$name: a connection" "$held" "holding connections=1 failed=0"
	lab_daemon_stop KILL
	"$lab_root/tests/tools/flow_entry.py" "$lab_bpf/pin" phase 0 1
	is "$name: its server knows nothing" "$(in_server ss -Htn state established "sport = :1080" | wc -l)" 1
	lab_daemon_start 9>&- || exit 1
	is "$name: it could not be taken over" "$(lab_stat '.splice | [.adopted, .adopted_unusable] | join(" ")')" "0 1"
	ok "$name: the server is told" splice_until 2 server_has_none
	ok "$name: the entry is given back" splice_idle
	lab_end "$splice_holder"
	exec 9>&-
	splice_stop
}

# Pins of a version that counts its layouts otherwise.
other_version() {
	local name="$label, another layout" out
	splice_start "$mode" "$family"
	lab_daemon_stop
	bpftool map dump pinned "$lab_bpf/pin/cfg" -j | jq -r '.[0].value | join(" ")' >"$lab_dir/cfg"
	# shellcheck disable=SC2046 # words
	bpftool map update pinned "$lab_bpf/pin/cfg" key 0 0 0 0 value 0x63 $(cut -d' ' -f2- "$lab_dir/cfg")
	out=$(program run -c "$lab_dir/socksplice.yml" 2>&1)
	is "$name: refused" "$?" 1
	is "$name: with an explanation" "$(grep -c "bpf-pin: .*another version.*layout 99.*stop --flush" <<<"$out")" 1
	# shellcheck disable=SC2046 # words
	bpftool map update pinned "$lab_bpf/pin/cfg" key 0 0 0 0 value $(cat "$lab_dir/cfg")
	lab_daemon_start || exit 1
	is "$name: its own is taken" "$(new_connection)" "connected 0 hello"
	splice_stop
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family" target=${splice_target[$family]}
		outlived "killed" KILL
		outlived "stopped" TERM
		interrupted
		frozen
		flushed "stop --flush" program stop --flush --control "$lab_control"
		flushed "killed, then stop --flush -c" kill_and_flush
		other_version
	done
done
tap_done
