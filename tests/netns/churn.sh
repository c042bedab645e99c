#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Many connections: 10,000 one after the other and 200 at a time, 5,000 idle at once. None fails, nothing leaks.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (microsocks, echo server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns
lab_up
for name in "$lab_c" "$lab_g" "$lab_s"; do
	ip netns exec "$name" sysctl -qw net.ipv4.ip_local_port_range="10000 65000" net.ipv4.tcp_tw_reuse=1
done
lab_spawn "$lab_s" "$conns" serve 7000
lab_wait_port "$lab_s" 7000
lab_start_microsocks || exit 1
lab_config 10.2.0.2:1080 "tcp: { half-open-per-source: 1000 }"
lab_daemon_start || exit 1

descriptors() { find "/proc/$lab_daemon/fd" -mindepth 1 | wc -l; }
memory_kb() { awk '/^VmRSS/ {print $2}' "/proc/$lab_daemon/status"; }

in_client "$conns" run $lab_target4 7000 500 50 1000 >/dev/null # what is touched once is touched now
ok "flows of the first round have ended" flows_gone
fds=$(descriptors) pool=$(lab_stat .frames.pool) memory=$(memory_kb)
ok "10,000 connections, one after the other" in_client "$conns" run $lab_target4 7000 10000 1 200
ok "10,000 connections, 200 at a time" in_client "$conns" run $lab_target4 7000 10000 200 2000
ok "3,000 connections over IPv6, 100 at a time" in_client "$conns" run $lab_target6 7000 3000 100 2000
ok "flows have ended" flows_gone
ok "no flow holds frames" frames_settled
is "descriptors as before" "$(descriptors)" "$fds"
is "frames as before" "$(lab_stat .frames.pool)" "$pool"
cmp_ok "memory grew by less than 24 MB (flow table touched in order)" $(($(memory_kb) - memory)) -lt 24576

mkfifo "$lab_dir/hold"
in_client "$conns" hold $lab_target4 7000 5000 <"$lab_dir/hold" >"$lab_dir/hold.out" 2>&1 &
holder=$!
lab_pids+=("$holder")
exec 9>"$lab_dir/hold"
for i in $(seq 300); do grep -q holding "$lab_dir/hold.out" && break; sleep 0.1; done
is "5,000 idle connections (try $i)" "$(cat "$lab_dir/hold.out")" "holding connections=5000 failed=0"
is "status counts them" "$(lab_stat .stack.established_now)" 5000
is "flows lists them" "$("$lab_build/socksplice" flows --json --control "$lab_control" | jq 'map(select(.state == "ESTABLISHED")) | length')" 5000
is "idle connections hold no frames" "$(lab_stat '.frames.flows == .frames.flows_recv')" true
exec 9>&-
wait "$holder"
is "and all still work" "$(tail -n 1 "$lab_dir/hold.out")" "alive=5000 lost=0"
ok "they end" flows_gone
is "descriptors as before" "$(descriptors)" "$fds"
is "frames add up" "$(frames_balanced)" true
lab_daemon_stop
tap_done
