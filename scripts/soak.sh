#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What takes too long for `make check`: SOAK_CONNECTIONS (default 300,000) connections of which the server speaks first
# (20 KB), 100 at a time, and SOAK_GIGABYTES (default 10) each way; nothing may fail, leak or grow. Results: docs/soak.md.
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/lab.sh"

connections=${SOAK_CONNECTIONS:-300000} gigabytes=${SOAK_GIGABYTES:-10}
conns=$lab_build/tests/tools/conns
lab_up
for name in "$lab_c" "$lab_g" "$lab_s"; do
	ip netns exec "$name" sysctl -qw net.ipv4.ip_local_port_range="1100 65000" net.ipv4.tcp_tw_reuse=1
done
lab_spawn "$lab_s" "$conns" serve 7000 20000
lab_start_microsocks && lab_start_iperf || exit 1
lab_wait_port "$lab_s" 7000 || exit 1
lab_config 10.2.0.2:1080 "tcp: { half-open-per-source: 4096 }"
lab_daemon_start || exit 1

report() {
	printf '%-10s descriptors %s, resident %s KB, frames free %s, established %s, sent again %s, evicted %s\n' "$1" \
		"$(find "/proc/$lab_daemon/fd" -mindepth 1 | wc -l)" "$(awk '/^VmRSS/ {print $2}' "/proc/$lab_daemon/status")" \
		"$(lab_stat .frames.pool)" "$(lab_stat .stack.established_now)" "$(lab_stat .stack.segments_retransmitted)" \
		"$(lab_stat '.stack.flows_evicted_total + .stack.flows_evicted_per_source')"
}
echo "kernel $(uname -r), $(nproc) CPUs, veth, congestion control $lab_congestion, upstream microsocks"
in_client "$conns" run $lab_target4 7000 1000 100 200 20000 >/dev/null
report begin
code=0
in_client "$conns" run $lab_target4 7000 "$connections" 100 200 20000 || code=1
sleep 3
report churned
for direction in "" -R; do
	# shellcheck disable=SC2086 # nothing or an option
	in_client iperf3 -c $lab_target4 -n "${gigabytes}G" -P 4 $direction | grep -E 'SUM.*receiver' || code=1
done
sleep 3
report end
[ "$(lab_stat '.frames | (.pool + .fill + .rx + .flows + .tx + .completion) == .total and .flows == .flows_recv')" = true ] || code=1
lab_daemon_stop || code=1
[ $code -eq 0 ] && echo "soak: passed" || echo "soak: FAILED"
exit $code
