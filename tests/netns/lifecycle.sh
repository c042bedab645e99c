#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Starting, stopping, being killed, being adopted: SIGTERM with live flows, kill -9 and restart, a second instance,
# fail closed while no daemon runs, `attach: external` in native and generic mode, the gateway's own traffic.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (microsocks, echo server on lo); here the gateway forwards, so that
#   what is not proxied would reach the server
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns
dial() { in_client python3 "$lab_root/tests/tools/dial.py" "$@"; }
# leaks: SYNs of the client itself that the server sees while COMMAND runs
leaks() {
	lab_spawn "$lab_s" tshark -q -i s0 -w "$lab_dir/leak.pcap" -f 'tcp and (host 10.1.0.2 or host fd01::2)'
	local capture=$lab_last i
	for i in $(seq 50); do [ -s "$lab_dir/leak.pcap" ] && break; sleep 0.1; done
	"$@" >/dev/null 2>&1
	sleep 0.3
	lab_end "$capture"
	tshark -r "$lab_dir/leak.pcap" 2>/dev/null | wc -l
}
try_both() {
	in_client curl -gsS -m 1 "http://$lab_target4:7000/"
	in_client curl -gsS -m 1 "http://[$lab_target6]:7000/"
}

lab_up
ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
lab_spawn "$lab_s" "$conns" serve 7000
lab_spawn "$lab_g" "$conns" serve 7022
lab_start_microsocks || exit 1
lab_wait_port "$lab_s" 7000
lab_config
lab_daemon_start || exit 1

ok "ping to the gateway" in_client ping -c 1 -W 2 10.1.0.1
ok "IPv6 ping to the gateway" in_client ping -c 1 -W 2 fd01::1
ok "TCP to the gateway itself (a shell, say)" in_client "$conns" run 10.1.0.1 7022 20 4 100
ok "TCP to another of its addresses" in_client "$conns" run 10.2.0.1 7022 20 4 100
ok "TCP to its IPv6 address" in_client "$conns" run fd01::1 7022 20 4 100
ip -n "$lab_g" addr add 10.7.7.7/32 dev u0
sleep 0.3
ok "TCP to an address that it has got since" in_client "$conns" run 10.7.7.7 7022 20 4 100
ok "ping through the gateway" in_client ping -c 1 -W 2 $lab_target4
is "while the daemon runs, no client packet leaves" "$(leaks try_both)" 0

in_gateway "$lab_build/socksplice" run -c "$lab_dir/socksplice.yml" >"$lab_dir/second.log" 2>&1
is "a second instance is refused" "$?" 1
cmp_ok "and told why" "$(grep -c 'already listens' "$lab_dir/second.log")" -eq 1
ok "the first goes on" in_client "$conns" run $lab_target4 7000 20 4 100

# SIGTERM with 200 live flows
mkfifo "$lab_dir/hold"
in_client "$conns" hold $lab_target4 7000 200 <"$lab_dir/hold" >"$lab_dir/hold.out" 2>&1 &
holder=$!
lab_pids+=("$holder")
exec 9>"$lab_dir/hold"
for i in $(seq 100); do grep -q holding "$lab_dir/hold.out" && break; sleep 0.1; done
start=$(date +%s%N)
lab_daemon_stop
is "SIGTERM with live flows ends in order" "$?" 0
cmp_ok "in under a second (try $i)" $((($(date +%s%N) - start) / 1000000)) -lt 1000
is "every client saw its connection reset" "$(in_client ss -Htn state established dst $lab_target4 | wc -l)" 0
exec 9>&-
wait "$holder" 2>/dev/null
is "the program is detached after an orderly stop" "$(ip -n "$lab_g" -j link show l0 | jq '.[0].xdp')" null

# kill -9: fail closed, then a new start at once
lab_daemon_start || exit 1
lab_daemon_stop KILL
is "killed: the program stays" "$(ip -n "$lab_g" -j link show l0 | jq -r '.[0].xdp.mode')" 1
is "killed: no client packet leaves" "$(leaks try_both)" 0
ok "killed: the gateway itself is reached" in_client ping -c 1 -W 2 10.1.0.1
lab_daemon_start || exit 1
ok "a new start works at once" in_client "$conns" run $lab_target4 7000 100 10 100
lab_daemon_stop

# on-down: pass does the opposite
lab_config 10.2.0.2:1080 "on-down: pass"
lab_daemon_start || exit 1
cmp_ok "on-down: pass is said at the start" "$(grep -c 'on-down: pass' "$lab_dir/daemon.log")" -eq 1
lab_daemon_stop KILL
ok "on-down: pass: connections go out directly" in_client "$conns" run $lab_target4 7000 10 2 100
ip -n "$lab_g" link set dev l0 xdp off

# attach: external
lab_interface_keys="attach: external"
lab_config
lab_daemon_start 2>"$lab_dir/missing.log"
is "attach: external without a program fails" "$?" 1
cmp_ok "and names the command" "$(grep -c 'ip link set dev l0 xdp obj' "$lab_dir/daemon.log")" -ge 1
for mode in xdp xdpgeneric; do
	ip -n "$lab_g" link set dev l0 $mode obj "$lab_build/socksplice_xdp.o" sec xdp
	ok "$mode by hand: until a daemon comes, everything passes" in_client "$conns" run $lab_target4 7000 10 2 100
	lab_daemon_start || exit 1
	is "$mode by hand: adopted" "$("$lab_build/socksplice" status --json --control "$lab_control" | jq -r '.interfaces[0] | .attach + " " + .xdp')" \
		"external $([ $mode = xdp ] && echo native || echo generic)"
	ok "$mode by hand: proxied" in_client "$conns" run $lab_target4 7000 50 5 100
	is "$mode by hand: through us" "$(lab_stat .stack.flows_established)" 50
	lab_daemon_stop
	is "$mode by hand: the program stays when the daemon stops" "$(ip -n "$lab_g" -j link show l0 | jq '.[0].xdp != null')" true
	is "$mode by hand: and fails closed" "$(dial $lab_target4 7000 x | cut -d' ' -f1)" timeout
	lab_daemon_start || exit 1
	ok "$mode by hand: adopted again" in_client "$conns" run $lab_target4 7000 10 2 100
	lab_daemon_stop
	ip -n "$lab_g" link set dev l0 $mode off
done

# a chosen mode is the mode that is taken
lab_interface_keys="xsk: generic"
lab_config
lab_daemon_start || exit 1
is "xsk: generic is taken" "$("$lab_build/socksplice" status --json --control "$lab_control" | jq -r '.interfaces[0] | .xdp + " " + .xsk')" "generic generic"
ok "xsk: generic works" in_client "$conns" run $lab_target6 7000 50 5 100
lab_daemon_stop
is "xsk: generic is detached" "$(ip -n "$lab_g" -j link show l0 | jq '.[0].xdp')" null
lab_interface_keys="xsk: zerocopy"
lab_config
lab_daemon_start 2>/dev/null
is "xsk: zerocopy on veth is refused" "$?" 1

# kernels before 6.10: no receive bundles
lab_interface_keys=""
lab_config
export SOCKSPLICE_NO_RECV_BUNDLE=1
lab_daemon_start || exit 1
is "without receive bundles" "$(lab_stat .uring.recv_bundle)" false
ok "connections work" in_client "$conns" run $lab_target4 7000 200 10 20000
ok "no flow holds frames" frames_settled
is "frames add up" "$(frames_balanced)" true
lab_daemon_stop
tap_done
