#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two LAN interfaces on one worker: both serve, `status` says what hook and mode each really has; a link that goes down and
# comes up again, a client that moves to another MAC address. Relayed by AF_XDP, by TAP, by one each; spliced.
#
#   client c0 ── l0 ┐
#   client c1 ── l1 ┴ gateway (daemon) u0 ── s0 server (microsocks, echo server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns
run() { in_client "$conns" run "$@"; }
status() { "$lab_build/socksplice" status --json --control "$lab_control" | jq -r "$1"; }

lab_up
ip link add l1 netns "$lab_g" type veth peer name c1 netns "$lab_c"
ip -n "$lab_g" addr add 10.3.0.1/24 dev l1 && ip -n "$lab_c" addr add 10.3.0.2/24 dev c1
ip -n "$lab_g" link set l1 up && ip -n "$lab_c" link set c1 up
ip -n "$lab_s" addr add 10.9.0.2/32 dev lo
ip -n "$lab_c" route add 10.9.0.2 via 10.3.0.1 dev c1
lab_spawn "$lab_s" "$conns" serve 7000
lab_start_microsocks || exit 1
lab_wait_port "$lab_s" 7000

# try NAME HOOK-OF-L0 HOOK-OF-L1 RELAY SHOWN: SHOWN is what `status` says of each, hook/XDP/AF_XDP
try() {
	local carried=.splice.spliced mac
	[ "$4" = auto ] || carried=.stack.flows_established
	lab_tcp_keys="relay: $4, linger: 500ms"
	lab_config
	sed -i "s/^interfaces:.*/interfaces: [ { name: l0, hook: $2 }, { name: l1, hook: $3 } ]/" "$lab_dir/socksplice.yml"
	lab_daemon_start || exit 1
	is "$1: status says what each has" "$(status '[.interfaces[] | .hook + "/" + .xdp + "/" + .xsk] | join(" ")')" "$5"
	ok "$1: through the first" run $lab_target4 7000 300 20 20000
	is "$1: all of them through us" "$(lab_stat $carried)" 300
	ok "$1: through the second" run 10.9.0.2 7000 300 20 20000
	is "$1: all of these too" "$(lab_stat $carried)" 600
	ok "$1: flows have ended" flows_gone
	is "$1: frames add up" "$(frames_balanced)" true

	ip -n "$lab_g" link set l0 down
	sleep 0.3
	ip -n "$lab_g" link set l0 up
	ip -n "$lab_c" route replace default via 10.1.0.1
	sleep 0.5
	ok "$1: after the link was down" run $lab_target4 7000 100 10 2000
	mac=$(ip -n "$lab_c" -j link show c1 | jq -r '.[0].address')
	ip -n "$lab_c" link set c1 address 02:00:00:00:00:77
	ok "$1: after the client's MAC address changed" run 10.9.0.2 7000 100 10 2000
	ip -n "$lab_c" link set c1 address "$mac"
	ok "$1: and changed back" run 10.9.0.2 7000 100 10 2000
	is "$1: all of these too" "$(lab_stat $carried)" 900
	is "$1: each by its own hook" "$(lab_stat '[.bpf | .to_socket > 0, .to_tap > 0] | join(" ")')" "$6"
	ok "$1: no flow holds frames" frames_settled
	lab_daemon_flush
	is "$1: the daemon stops in order" "$?" 0
	is "$1: no program is left" "$(ip -n "$lab_g" -j link show | jq '[.[] | select(.xdp)] | length')" 0
}

try "AF_XDP" xdp xdp userspace "xdp/native/copy xdp/native/copy" "true false"
try "TAP" tc tc userspace "tc/none/none tc/none/none" "false true"
try "one each" xdp tc userspace "xdp/native/copy tc/none/none" "true true"
try "spliced" auto auto auto "tc/none/none tc/none/none" "false true"
try "spliced, XDP" xdp xdp auto "xdp/native/copy xdp/native/copy" "true false"
try "spliced, one each" tc xdp auto "tc/none/none xdp/native/copy" "true true"

lab_config
sed -i 's/^interfaces:.*/interfaces: [ { name: nosuch0 } ]/' "$lab_dir/socksplice.yml"
lab_daemon_start 2>/dev/null
is "an interface that does not exist is refused" "$?" 1
cmp_ok "by name" "$(grep -c 'interface nosuch0: No such device' "$lab_dir/daemon.log")" -ge 1
tap_done
