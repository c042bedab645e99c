#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# 10,000 SYNs from made-up addresses and 100,000 random frames: another client is not disturbed, memory stays bounded,
# counters tell what happened.
#
#   client c0 (well-behaved and hostile) ── l0 gateway (daemon) u0 ── s0 server (microsocks, echo server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns flood=$lab_build/tests/tools/flood
lab_up
ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_local_port_range="2000 65000"
lab_spawn "$lab_s" "$conns" serve 7000
lab_start_microsocks || exit 1
lab_wait_port "$lab_s" 7000
lab_config 10.2.0.2:1080 "tcp: { handshake-timeout: 3s }"
lab_daemon_start || exit 1
mac=$(ip -n "$lab_g" -j link show l0 | jq -r '.[0].address')
memory_kb() { awk '/^VmRSS/ {print $2}' "/proc/$lab_daemon/status"; }
# the made-up clients answer nothing, and nobody has their addresses
in_client "$conns" run $lab_target4 7000 100 10 100 >/dev/null
memory=$(memory_kb)

in_client "$flood" c0 "$mac" syn 10000 &
flooding=$!
result=$(in_client "$conns" run $lab_target4 7000 2000 10 1000)
is "2,000 connections during 10,000 spoofed SYNs" "$(cut -d' ' -f1,2 <<<"$result")" "connections=2000 failed=0"
[ "$tap_failed" -eq 0 ] || lab_stat "{bridge, stack, xsk}" | grep -v ": 0" | sed "s/^/# /"
wait "$flooding"
cmp_ok "each SYN opened a flow or is counted as lost in a full ring" "$(lab_stat '.stack.flows_opened + .xsk.kernel_rx_ring_full')" -ge 10000
cmp_ok "the oldest half-open ones gave way" "$(lab_stat .stack.flows_evicted_total)" -ge 100
cmp_ok "never more half-open than the limit" "$(lab_stat .stack.half_open_now)" -le 4096
cmp_ok "memory grew by less than 32 MB" $(($(memory_kb) - memory)) -lt 32768
ok "half-open flows go away by themselves" flows_gone

before=$(lab_stat '[.drops[]] | add')
in_client "$flood" c0 "$mac" random 100000 &
flooding=$!
result=$(in_client "$conns" run $lab_target6 7000 500 10 1000)
is "500 connections during 100,000 random frames" "$(cut -d' ' -f1,2 <<<"$result")" "connections=500 failed=0"
wait "$flooding"
sleep 0.3
cmp_ok "noise that looked like TCP was dropped and counted" "$(lab_stat '([.drops[]] | add) + ([.xdp | to_entries[] | select(.key | startswith("drop_")) | .value] | add)')" -ge $((before + 10000))
cmp_ok "what is not IP went to the kernel" "$(lab_stat .xdp.pass_not_ip)" -ge 40000
# one source, one address: its own oldest give way
in_client "$conns" run $lab_target4 7000 200 20 100 >/dev/null
is "the daemon still works" "$(in_client "$conns" run $lab_target4 7000 200 20 100 | cut -d' ' -f1,2)" "connections=200 failed=0"
ok "flows have ended" flows_gone
ok "no flow holds frames" frames_settled
is "frames add up" "$(frames_balanced)" true
cmp_ok "the log stayed short" "$(wc -l <"$lab_dir/daemon.log")" -lt 20
lab_daemon_stop
is "the daemon stops in order" "$?" 0
tap_done
