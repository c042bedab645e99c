#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What an earlier daemon has left on interfaces, when the next one is configured otherwise: XDP in another mode is replaced,
# an interface that is no longer listed loses its programs and pins, and connections by it are reset; the others go on.
# `stop --flush` finds what its configuration does not name.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target)
#          c1 ── l1
#          10.3.0.2/24, fd03::2/64    10.3.0.1/24, fd03::1/64
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
splice_mode xdp
ip link add l1 netns "$lab_g" type veth peer name c1 netns "$lab_c"
ip -n "$lab_c" addr add 10.3.0.2/24 dev c1 && ip -n "$lab_c" addr add fd03::2/64 dev c1 nodad
ip -n "$lab_g" addr add 10.3.0.1/24 dev l1 && ip -n "$lab_g" addr add fd03::1/64 dev l1 nodad
ip -n "$lab_c" link set c1 up && ip -n "$lab_g" link set l1 up
# what the second interface leads to; the target serves every address that SOCKS5 asks for
ip -n "$lab_c" route add 10.9.0.3 via 10.3.0.1 && ip -n "$lab_c" route add fd09::3 via fd03::1
by_l1=([4]=10.9.0.3 [6]=fd09::3)
in_client ethtool -K c1 tx off gro on >/dev/null

# start UPSTREAM KEYS-OF-L0 [KEYS-OF-L1]: without the last, l1 is not in the configuration
start() {
	lab_interface_keys=$2
	[ $# -lt 3 ] || lab_interface_keys="$2 }, { name: l1, $3"
	lab_config "$1" "tcp: { linger: 500ms }"
	lab_daemon_start 9>&- || exit 1
}
xdp_of() { ip -n "$lab_g" -j link show dev "$1" | jq -r '.[0].xdp | if . == null then "none" elif .mode == 2 then "generic" else "native" end'; }
clsact_of() { in_gateway tc filter show dev "$1" ingress 2>/dev/null | grep -c socksplice_tc; }
pins_of() { find "$lab_bpf/pin" -name "link-$1-*" 2>/dev/null | wc -l; }
dialled() { in_client timeout 5 "$lab_root/tests/tools/dial.py" "$target" 5003 hello | sed -E 's/ [0-9]+ / /'; }

# another_mode HOW SIGNAL: l0 had generic XDP; then the default XDP, then the default hook, which for a veth is tc
another_mode() {
	local name="$label, $1"
	start "$server" "hook: xdp, xsk: generic"
	is "$name: XDP is generic" "$(xdp_of l0)" generic
	splice_hold "$target" 5003 20
	is "$name: 20 connections" "$held" "holding connections=20 failed=0"
	lab_daemon_stop "$2"
	start "$server" "hook: xdp"
	is "$name: then it is native" "$(xdp_of l0)" native
	is "$name: as status says" "$("$lab_build/socksplice" status --json --control "$lab_control" | jq -r '.interfaces[0].xdp')" native
	is "$name: it took the 20 over" "$(splice_stat adopted)" 20
	is "$name: and has new ones" "$(dialled)" "connected hello"
	lab_daemon_stop "$2"
	start "$server" "hook: auto"
	is "$name: then there is none" "$(xdp_of l0)" none
	is "$name: it has new connections" "$(dialled)" "connected hello"
	lab_daemon_stop "$2"
	start "$server" "hook: xdp, xsk: generic"
	is "$name: and generic again" "$(xdp_of l0)" generic
	is "$name: with new connections" "$(dialled)" "connected hello"
	splice_release
	is "$name: the 20 are alive" "$held" "alive=20 lost=0"
	splice_stop
	is "$name: nothing is left" "$(xdp_of l0) $(xdp_of u0) $(pins_of '*')" "none none 0"
}

# interface_gone HOW SIGNAL KEYS
interface_gone() {
	local name="$label, $1" pid
	start "$server" "$3" "$3"
	splice_hold "$target" 5003 20
	is "$name: 20 connections" "$held" "holding connections=20 failed=0"
	in_client timeout 30 "$lab_root/tests/tools/stream.py" "${by_l1[$family]}" echo 60000000 5000000 >"$lab_dir/other" 2>&1 9>&- &
	pid=$!
	ok "$name: and one by the other interface" splice_until 3 splice_stat_is spliced 21
	lab_daemon_stop "$2"
	start "$server" "$3" 9>&-
	is "$name: the other interface has lost its programs" "$(xdp_of l1) $(clsact_of l1) $(pins_of l1)" "none 0 0"
	is "$name: those of this one are taken over" "$(lab_stat '.splice | [.adopted, .adopted_unreachable] | join(" ")')" "20 1"
	ok "$name: that of the other is reset" splice_until 3 grep -q "reset by peer" "$lab_dir/other"
	wait $pid
	is "$name: at the server too" "$(in_server ss -Htn state established "sport = :1080" | wc -l)" 20
	is "$name: new ones begin" "$(dialled)" "connected hello"
	splice_release
	is "$name: the 20 are alive" "$held" "alive=20 lost=0"
	splice_stop
}

# another_size: a table of another size is another set of maps
another_size() {
	local name="$label, another table too"
	start "$server" "hook: xdp" "hook: xdp"
	is "$name: both have XDP" "$(xdp_of l0) $(xdp_of l1)" "native native"
	lab_daemon_stop KILL
	lab_interface_keys="hook: xdp"
	lab_config "$server" "tcp: { max-flows: 1000 }"
	lab_daemon_start 9>&- || exit 1
	is "$name: it is in force" "$(splice_stat entries_total)" 1000
	is "$name: the other interface has lost its programs" "$(xdp_of l0) $(xdp_of l1) $(pins_of l1)" "native none 0"
	splice_stop
}

# forgotten HOW KEYS PROGRAMS: `stop --flush` with a configuration that does not name l1
forgotten() {
	local name="$label, $1, stop --flush does not know it"
	start "$server" "$2" "$2"
	lab_daemon_stop KILL
	lab_interface_keys=$2
	lab_config "$server"
	is "$name: programs are there" "$(xdp_of l1) $(clsact_of l1)" "$3"
	in_gateway "$lab_build/socksplice" stop --flush -c "$lab_dir/socksplice.yml" >>"$lab_dir/daemon.log" 2>&1
	is "$name: all are gone" "$(xdp_of l0) $(xdp_of l1) $(xdp_of u0) $(clsact_of l1) $(pins_of '*')" "none none none 0 0"
}

# lingering: connections that are over are neither reset nor counted
lingering() {
	local name="$label, stop --flush during linger" resets
	lab_interface_keys="hook: xdp"
	lab_config "$server" "tcp: { linger: 30s }"
	lab_daemon_start 9>&- || exit 1
	is "$name: 50 have ended" "$(in_client "$conns" target "$target" 5005 50 8 100 100 | sed 's/ refused.*//')" "connections=50 failed=0"
	splice_hold "$target" 5003 2
	ok "$name: their entries stay" splice_until 3 splice_stat_is entries_in_use 52
	lab_daemon_stop KILL
	resets=$(splice_counter "$lab_s" TcpEstabResets)
	is "$name: the two that live are counted" \
		"$(in_gateway "$lab_build/socksplice" stop --flush -c "$lab_dir/socksplice.yml" 2>&1 9>&- | grep -oE '[0-9]+ spliced')" "2 spliced"
	is "$name: at the server too" $(($(splice_counter "$lab_s" TcpEstabResets) - resets)) 2
	splice_release
	is "$name: and reset" "$held" "alive=0 lost=2"
}

for family in 4 6; do
	label="IPv$family" target=${splice_target[$family]} server=${splice_upstream[$family]}
	another_mode "another mode, killed" KILL
	another_mode "another mode, stopped" TERM
	interface_gone "xdp, killed" KILL "hook: xdp"
	interface_gone "tc, stopped" TERM "hook: tc"
	lingering
done
family=4 target=${splice_target[4]} server=${splice_upstream[4]}
label="IPv4"
another_size
forgotten tcx "hook: xdp" "native 0"
label="IPv4, clsact"
export SOCKSPLICE_NO_TCX=1
interface_gone "xdp, killed" KILL "hook: xdp"
interface_gone "tc, killed" KILL "hook: tc"
forgotten clsact "hook: xdp" "native 1"
tap_done
