#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What should be proxied never leaves by itself: while the daemon runs, with an upstream that is broken, killed or stopped
# under traffic, started anew; by both hooks, IPv4 and IPv6. `on-down: pass` does the opposite, and says so. And what the
# very first start cannot do: before it no program is there, so forwarding is off, or nftables holds the gate.
#
#   client c0 ── l0 gateway (forwards) u0 ── s0 server (microsocks, echo server on lo); a capture on s0 sees what leaves
#
# Here the gateway forwards and the server knows the way back: what leaks is not only seen, it would even work.
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns
run() { in_client "$conns" run "$@"; }
forward() { ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward="$1" net.ipv6.conf.all.forwarding="$1"; }
# watch_begin ... watch_end: `left` is how many TCP packets of the client, or to its targets, came out of the uplink
watch_begin() {
	local i
	rm -f "$lab_dir/leak.pcap"
	lab_spawn "$lab_s" tshark -q -i s0 -w "$lab_dir/leak.pcap" \
		-f "tcp and (host 10.1.0.2 or host fd01::2 or host $lab_target4 or host $lab_target6)"
	watcher=$lab_last
	for i in $(seq 50); do [ -s "$lab_dir/leak.pcap" ] && break; sleep 0.1; done
	sleep 0.3
}
watch_end() {
	sleep 0.3
	lab_end "$watcher"
	left=$(tshark -r "$lab_dir/leak.pcap" 2>/dev/null | wc -l)
}
# attempt SECONDS: new connections of both families, one after the other
attempt() {
	local end=$(($(date +%s%N) + $1 * 1000000000))
	while [ "$(date +%s%N)" -lt "$end" ]; do
		in_client curl -gsS -m 0.4 "http://$lab_target4:7000/" &
		in_client curl -gsS -m 0.4 "http://[$lab_target6]:7000/" &
		wait $!
		sleep 0.05
	done >/dev/null 2>&1
}
# closed NAME COMMAND...: nothing leaves while COMMAND runs
closed() {
	local name=$1
	shift
	watch_begin
	"$@"
	watch_end
	is "$name: nothing leaves" "$left" 0
}
traffic_and() {
	attempt 2 &
	local attempts=$!
	sleep 0.5
	"$@"
	wait "$attempts"
}
kill_daemon() { lab_daemon_stop KILL; }
stop_daemon() { lab_daemon_stop; }
start_daemon() { lab_daemon_start || exit 1; }
works() {
	ok "$1: IPv4 works" run $lab_target4 7000 20 4 500
	ok "$1: IPv6 works" run $lab_target6 7000 20 4 500
}

lab_up
lab_spawn "$lab_s" "$conns" serve 7000
lab_wait_port "$lab_s" 7000
lab_start_microsocks || exit 1
socks=$lab_last
lab_tcp_keys="linger: 300ms, connect-timeout: 1s"

# --- before the very first start ---
forward 1
works "no daemon yet, forwarding on: not proxied"
watch_begin
attempt 1
watch_end
cmp_ok "no daemon yet, forwarding on: the capture sees it" "$left" -gt 0
forward 0
closed "no daemon yet, forwarding off" attempt 1
forward 1
cat >"$lab_dir/gate.nft" <<-'END'
	table inet socksplice_gate {
		chain forward {
			type filter hook forward priority filter; policy accept;
			iifname "l0" meta l4proto tcp drop
		}
	}
END
ok "nftables: the gate of the documentation" in_gateway nft -f "$lab_dir/gate.nft"
closed "no daemon yet, nftables holds the gate" attempt 1
lab_config
start_daemon
works "with that gate, proxied"
lab_daemon_flush
in_gateway nft delete table inet socksplice_gate

for hook in tc xdp; do
	lab_interface_keys="hook: $hook"
	lab_config
	# forwarding comes last, when the programs are there
	forward 0
	start_daemon
	forward 1
	closed "$hook, running" works "$hook, running"
	lab_end "$socks"
	closed "$hook, the upstream refuses" attempt 1
	lab_spawn "$lab_s" ncat -l -k -p 1080 --recv-only
	lab_wait_port "$lab_s" 1080
	silent=$lab_last
	closed "$hook, the upstream is silent" attempt 2
	lab_end "$silent"
	ip -n "$lab_s" link set s0 down
	attempt 1
	ip -n "$lab_s" link set s0 up
	# the kernel has forgotten what depended on the link
	ip -n "$lab_s" addr replace fd02::2/64 dev s0 nodad
	ip -n "$lab_s" route replace default via 10.2.0.1 && ip -n "$lab_s" route replace default via fd02::1
	ip -n "$lab_g" route replace $lab_target4 via 10.2.0.2 && ip -n "$lab_g" route replace $lab_target6 via fd02::2
	closed "$hook, after the uplink was down" attempt 1
	lab_start_microsocks || exit 1
	socks=$lab_last
	before=$(lab_stat .bpf.drop_no_socket)
	closed "$hook, killed under traffic" traffic_and kill_daemon
	closed "$hook, after that" attempt 1
	closed "$hook, started under traffic" traffic_and start_daemon
	cmp_ok "$hook: what was dropped is counted" "$(lab_stat .bpf.drop_no_socket)" -gt "$before"
	works "$hook, started again"
	closed "$hook, stopped under traffic" traffic_and stop_daemon
	closed "$hook, after that" attempt 1
	closed "$hook, started once more" traffic_and start_daemon
	works "$hook, started once more"
	lab_daemon_flush
	watch_begin
	attempt 1
	watch_end
	cmp_ok "$hook, stop --flush: the gate is open, as documented" "$left" -gt 0

	# --- the opposite ---
	: >"$lab_dir/daemon.log"
	lab_config 10.2.0.2:1080 "on-down: pass"
	start_daemon
	ok "$hook, on-down: pass: says so at start" grep -q 'warn  on-down: pass: while no daemon runs, what should be proxied goes out directly' "$lab_dir/daemon.log"
	closed "$hook, on-down: pass, running" works "$hook, on-down: pass, running"
	lab_end "$socks"
	closed "$hook, on-down: pass, the upstream refuses" attempt 1
	lab_start_microsocks || exit 1
	socks=$lab_last
	kill_daemon
	works "$hook, on-down: pass, killed: directly"
	watch_begin
	attempt 1
	watch_end
	cmp_ok "$hook, on-down: pass, killed: seen on the uplink" "$left" -gt 0
	start_daemon
	cmp_ok "$hook, on-down: pass: counted" "$(lab_stat .bpf.pass_on_down)" -gt 0
	works "$hook, on-down: pass, started again"
	lab_daemon_flush
done
tap_done
