#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Starting, stopping, being killed, being adopted: an orderly stop and a kill -9 with live flows, relayed and spliced, fail
# closed while no daemon runs, a new start, `stop --flush`, a second instance, a hook that changed, `on-down: pass`,
# `attach: external` in native and generic mode, AF_XDP modes, the gateway's own traffic.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (microsocks, echo server on lo); here the gateway forwards, so that
#   what is not proxied would reach the server
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

conns=$lab_build/tests/tools/conns
run() { in_client "$conns" run "$@"; }
status() { "$lab_build/socksplice" status --json --control "$lab_control" | jq -r "$1"; }
flush() { in_gateway "$lab_build/socksplice" stop --flush "$@" >>"$lab_dir/daemon.log" 2>&1; }
# leaks COMMAND...: SYNs of the client itself that the server sees while COMMAND runs
leaks() {
	lab_spawn "$lab_s" tshark -q -i s0 -w "$lab_dir/leak.pcap" -f 'tcp and (host 10.1.0.2 or host fd01::2)'
	local capture=$lab_last i
	for i in $(seq 50); do [ -s "$lab_dir/leak.pcap" ] && break; sleep 0.1; done
	sleep 0.3
	"$@" >/dev/null 2>&1
	sleep 0.3
	lab_end "$capture"
	tshark -r "$lab_dir/leak.pcap" 2>/dev/null | wc -l
	rm "$lab_dir/leak.pcap"
}
try_both() {
	in_client curl -gsS -m 0.5 "http://$lab_target4:7000/" &
	in_client curl -gsS -m 0.5 "http://[$lab_target6]:7000/"
	wait $!
}
# hold_begin COUNT: that many idle connections, until hold_end, which sets held: how many of them still work
hold_begin() {
	local i
	mkfifo "$lab_dir/hold"
	# a process of its own keeps the pipe open: a descriptor of this shell would be the daemons' too
	sleep 600 >"$lab_dir/hold" &
	sleeper=$!
	in_client "$conns" hold $lab_target4 7000 "$1" <"$lab_dir/hold" >"$lab_dir/hold.out" 2>&1 &
	holder=$!
	lab_pids+=("$sleeper" "$holder")
	for i in $(seq 100); do grep -q holding "$lab_dir/hold.out" && break; sleep 0.1; done
	rm "$lab_dir/hold"
}
hold_end() {
	kill "$sleeper"
	wait "$holder" 2>/dev/null
	lab_end "$sleeper" "$holder"
	held=$(tail -n 1 "$lab_dir/hold.out")
}
established() { in_client ss -Htn state established dst $lab_target4 | wc -l; }
# attached: interfaces with an XDP program, and tc links that are pinned
attached() {
	ip -n "$lab_g" -j link show | jq -r '.[] | select(.xdp) | "\(.ifname) xdp"'
	[ ! -e "$lab_bpf/pin" ] || find "$lab_bpf/pin" -name 'link-*' -printf '%f\n' | sort
}
reserved() { in_gateway sysctl -n net.ipv4.ip_local_reserved_ports; }

lab_up
ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
lab_spawn "$lab_s" "$conns" serve 7000
lab_spawn "$lab_g" "$conns" serve 7022
lab_start_microsocks || exit 1
lab_wait_port "$lab_s" 7000
ip -n "$lab_g" addr add 10.8.8.8/32 dev u0

# what passes by the daemon, or without one: NAME
others_pass() {
	ok "$mode_label: $1: ping to the gateway" in_client ping -c 1 -W 2 10.1.0.1
	ok "$mode_label: $1: IPv6 ping to the gateway" in_client ping -c 1 -W 2 fd01::1
	ok "$mode_label: $1: TCP to the gateway itself (a shell, say)" run 10.1.0.1 7022 20 4 100
	ok "$mode_label: $1: TCP to another of its addresses" run 10.8.8.8 7022 20 4 100
	ok "$mode_label: $1: TCP to its IPv6 address" run fd01::1 7022 20 4 100
}
# no daemon runs: NAME
fails_closed() {
	is "$mode_label: $1: programs stay" "$(attached)" "$mode_attached"
	is "$mode_label: $1: ports stay reserved" "$(reserved)" 10000-40000
	is "$mode_label: $1: no client packet leaves" "$(leaks try_both)" 0
	others_pass "$1"
	is "$mode_label: $1: no echo request leaves" "$(in_client ping -c 1 -W 1 $lab_target4 | grep -o '0 received')" "0 received"
}

for mode in "relay-xdp 10.2.0.2 4 6" "relay-tap 10.2.0.2 4 6" "spliced 10.2.0.2 4"; do
	mode_set "$mode"
	# by veth to the upstream goes XDP only if every LAN interface is told to
	mode_attached=$'link-l0-ingress\nlink-u0-egress\nlink-u0-ingress'
	[ "$mode_way" != relay-xdp ] || mode_attached=$'l0 xdp\nu0 xdp\n'$mode_attached
	lab_config "$mode_upstream:1080"
	lab_daemon_start || exit 1
	others_pass "running"
	ok "$mode_label: ping through the gateway" in_client ping -c 1 -W 2 $lab_target4
	ip -n "$lab_g" addr add 10.7.7.7/32 dev u0
	sleep 0.3
	ok "$mode_label: TCP to an address that it has got since" run 10.7.7.7 7022 20 4 100
	ip -n "$lab_g" addr del 10.7.7.7/32 dev u0
	is "$mode_label: while the daemon runs, no client packet leaves" "$(leaks try_both)" 0

	in_gateway "$lab_build/socksplice" run -c "$lab_dir/socksplice.yml" >"$lab_dir/second.log" 2>&1
	is "$mode_label: a second instance is refused" "$?" 1
	cmp_ok "$mode_label: and told why" "$(grep -c 'already listens' "$lab_dir/second.log")" -eq 1
	ok "$mode_label: the first goes on" run $lab_target4 7000 20 4 100

	hold_begin 200
	start=$(date +%s%N)
	lab_daemon_stop
	is "$mode_label: SIGTERM with live flows ends in order" "$?" 0
	cmp_ok "$mode_label: in under a second" $((($(date +%s%N) - start) / 1000000)) -lt 1000
	if [ "$mode_way" = spliced ]; then
		fails_closed "stopped"
		hold_end
		is "$mode_label: connections live on without a daemon" "$held" "alive=200 lost=0"
		lab_daemon_start || exit 1
		cmp_ok "$mode_label: the next daemon knows them" "$(lab_stat .splice.adopted)" -ge 200
	else
		is "$mode_label: every client saw its connection reset" "$(established)" 0
		hold_end
		fails_closed "stopped"
		lab_daemon_start || exit 1
	fi
	ok "$mode_label: a new start works at once" run $lab_target4 7000 100 10 100

	lab_daemon_stop KILL
	fails_closed "killed"
	lab_daemon_start || exit 1
	ok "$mode_label: a new start after that works at once" run $lab_target4 7000 100 10 100
	ok "$mode_label: connections went that way" mode_went

	# while a daemon runs, and after one is gone
	hold_begin 200
	[ "$mode_way" != relay-tap ] || lab_daemon_stop KILL
	if [ -n "$lab_daemon" ]; then flush --control "$lab_control"; else flush -c "$lab_dir/socksplice.yml"; fi
	is "$mode_label: stop --flush" "$?" 0
	wait "$lab_daemon" 2>/dev/null
	lab_daemon=""
	[ "$mode_way" = relay-tap ] || is "$mode_label: flushed: every client saw its connection reset" "$(established)" 0
	hold_end
	is "$mode_label: flushed: nothing is attached" "$(attached)" ""
	is "$mode_label: flushed: nothing is pinned" "$(find "$lab_bpf/pin" 2>/dev/null)" ""
	is "$mode_label: flushed: no port is reserved" "$(reserved)" ""
	cmp_ok "$mode_label: flushed: client packets leave" "$(leaks try_both)" -ge 2
	others_pass "flushed"
done

# without a flush another hook takes over at once
lab_tcp_keys="" lab_interface_keys=""
for hook in xdp tc xdp; do
	lab_interface_keys="hook: $hook"
	lab_config
	lab_daemon_start || exit 1
	is "hook: $hook after the other: taken" "$(status '.interfaces[0].hook')" $hook
	ok "hook: $hook after the other: IPv4, spliced" run $lab_target4 7000 50 5 100
	ok "hook: $hook after the other: IPv6, relayed" run $lab_target6 7000 50 5 100
	lab_daemon_stop
done
flush -c "$lab_dir/socksplice.yml"

# on-down: pass does the opposite
for hook in xdp tc; do
	lab_interface_keys="hook: $hook"
	lab_config 10.2.0.2:1080 "on-down: pass"
	: >"$lab_dir/daemon.log"
	lab_daemon_start || exit 1
	cmp_ok "hook: $hook, on-down: pass is said at the start" "$(grep -c 'on-down: pass' "$lab_dir/daemon.log")" -eq 1
	lab_daemon_stop KILL
	ok "hook: $hook, on-down: pass: connections go out directly" run $lab_target4 7000 10 2 100
	lab_daemon_start || exit 1
	is "hook: $hook, on-down: pass: and no more" "$(leaks try_both)" 0
	lab_daemon_flush
done

# attach: external
lab_interface_keys="attach: external" lab_tcp_keys="relay: userspace"
lab_config
lab_daemon_start 2>"$lab_dir/missing.log"
is "attach: external without a program fails" "$?" 1
cmp_ok "and names the command" "$(grep -c 'ip link set dev l0 xdp obj' "$lab_dir/daemon.log")" -ge 1
for mode in xdp xdpgeneric; do
	lab_tcp_keys="relay: userspace"
	lab_config
	ip -n "$lab_g" link set dev l0 $mode obj "$lab_build/socksplice_xdp.o" sec xdp
	ok "$mode by hand: until a daemon comes, everything passes" run $lab_target4 7000 10 2 100
	lab_daemon_start || exit 1
	is "$mode by hand: adopted" "$(status '.interfaces[0] | .attach + " " + .xdp')" \
		"external $([ $mode = xdp ] && echo native || echo generic)"
	ok "$mode by hand: proxied" run $lab_target4 7000 50 5 100
	is "$mode by hand: through us" "$(lab_stat .stack.flows_established)" 50
	cmp_ok "$mode by hand: by AF_XDP" "$(lab_stat .bpf.to_socket)" -ge 200
	lab_daemon_stop
	is "$mode by hand: the program stays when the daemon stops" "$(ip -n "$lab_g" -j link show l0 | jq '.[0].xdp != null')" true
	is "$mode by hand: and fails closed" "$(leaks try_both)" 0
	lab_tcp_keys="relay: auto"
	lab_config
	lab_daemon_start || exit 1
	ok "$mode by hand: adopted again" run $lab_target4 7000 50 5 100
	is "$mode by hand: spliced" "$(lab_stat .splice.spliced)" 50
	lab_daemon_flush
	is "$mode by hand: the program stays after a flush" "$(ip -n "$lab_g" -j link show l0 | jq '.[0].xdp != null')" true
	ok "$mode by hand: and lets everything pass" run $lab_target4 7000 10 2 100
	ip -n "$lab_g" link set dev l0 $mode off
done

# a chosen mode is the mode that is taken
lab_interface_keys="xsk: generic" lab_tcp_keys="relay: userspace"
lab_config
lab_daemon_start || exit 1
is "xsk: generic is taken" "$(status '.interfaces[0] | .hook + " " + .xdp + " " + .xsk')" "xdp generic generic"
ok "xsk: generic works" run $lab_target6 7000 50 5 100
is "xsk: generic: through us" "$(lab_stat .stack.flows_established)" 50
lab_daemon_flush
is "xsk: generic is detached" "$(attached)" ""
lab_interface_keys="xsk: zerocopy"
lab_config
lab_daemon_start 2>/dev/null
is "xsk: zerocopy on veth is refused" "$?" 1

# kernels before 6.10: no receive bundles
export SOCKSPLICE_NO_RECV_BUNDLE=1
for mode in "relay-xdp 10.2.0.2 4 6" "relay-tap 10.2.0.2 4 6"; do
	mode_set "$mode"
	lab_config
	lab_daemon_start || exit 1
	is "$mode_label, without receive bundles" "$(lab_stat .uring.recv_bundle)" false
	ok "$mode_label, without receive bundles: connections work" run $lab_target4 7000 200 10 20000
	ok "$mode_label, without receive bundles: connections went that way" mode_went
	ok "$mode_label, without receive bundles: no flow holds frames" frames_settled
	is "$mode_label, without receive bundles: frames add up" "$(frames_balanced)" true
	lab_daemon_flush
done
tap_done
