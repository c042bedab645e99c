#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two LAN interfaces on one worker: both serve, `status` says what mode each really has; a link that goes down and comes up
# again, a client that moves to another MAC address.
#
#   client c0 ── l0 ┐
#   client c1 ── l1 ┴ gateway (daemon) u0 ── s0 server (microsocks, echo server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns
lab_up
ip link add l1 netns "$lab_g" type veth peer name c1 netns "$lab_c"
ip -n "$lab_g" addr add 10.3.0.1/24 dev l1 && ip -n "$lab_c" addr add 10.3.0.2/24 dev c1
ip -n "$lab_g" link set l1 up && ip -n "$lab_c" link set c1 up
ip -n "$lab_s" addr add 10.9.0.2/32 dev lo
ip -n "$lab_c" route add 10.9.0.2 via 10.3.0.1 dev c1
lab_spawn "$lab_s" "$conns" serve 7000
lab_start_microsocks || exit 1
lab_wait_port "$lab_s" 7000
lab_config
sed -i 's/^interfaces:.*/interfaces: [ { name: l0 }, { name: l1 } ]/' "$lab_dir/socksplice.yml"
lab_daemon_start || exit 1

status=$("$lab_build/socksplice" status --json --control "$lab_control")
is "both interfaces are in copy mode, as veth has no other" "$(jq -r '[.interfaces[].xsk] | join(" ")' <<<"$status")" "copy copy"
ok "through the first" in_client "$conns" run $lab_target4 7000 300 20 20000
ok "through the second" in_client "$conns" run 10.9.0.2 7000 300 20 20000
is "all of them through us" "$(lab_stat .stack.flows_established)" 600
ok "flows have ended" flows_gone
is "frames add up" "$(frames_balanced)" true

ip -n "$lab_g" link set l0 down
sleep 0.3
ip -n "$lab_g" link set l0 up
ip -n "$lab_c" route replace default via 10.1.0.1
sleep 0.5
ok "after the link was down" in_client "$conns" run $lab_target4 7000 100 10 2000
ip -n "$lab_c" link set c1 address 02:00:00:00:00:77
ok "after the client's MAC address changed" in_client "$conns" run 10.9.0.2 7000 100 10 2000
ok "no flow holds frames" frames_settled

lab_daemon_stop
is "the daemon stops in order" "$?" 0
lab_config
sed -i 's/^interfaces:.*/interfaces: [ { name: nosuch0 } ]/' "$lab_dir/socksplice.yml"
lab_daemon_start 2>/dev/null
is "an interface that does not exist is refused" "$?" 1
cmp_ok "by name" "$(grep -c 'interface nosuch0: No such device' "$lab_dir/daemon.log")" -eq 1
tap_done
