#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Kernels before 6.6 have no tcx links: the programs sit in clsact filters. Connections are spliced all the same, outlive a
# killed daemon, are adopted by the next one, and `stop --flush` leaves no filter behind.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target that speaks SOCKS5)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

filters() {
	local device direction
	for device in l0 u0; do
		for direction in ingress egress; do
			in_gateway tc filter show dev "$device" "$direction" 2>/dev/null
		done
	done | grep -c 'direct-action'
}

lab_up
lab_start_target || exit 1
lab_config
export SOCKSPLICE_NO_TCX=1
lab_daemon_start || exit 1
is "filters: ingress of both interfaces, egress of the uplink" "$(filters)" 3
ok "500 connections" in_client "$lab_build/tests/tools/conns" run "$lab_target4" 5003 500 20 100
is "all of them spliced" "$(lab_stat .splice.spliced)" 500

mkfifo "$lab_dir/hold"
in_client "$lab_build/tests/tools/conns" hold "$lab_target4" 5003 50 <"$lab_dir/hold" >"$lab_dir/hold.log" 2>&1 &
holder=$!
# who holds the pipe open ends by pid; a descriptor of this shell would be the daemon's too
sleep 60 >"$lab_dir/hold" &
lab_pids+=("$!")
sleeper=$!
for i in $(seq 100); do grep -q holding "$lab_dir/hold.log" && break; sleep 0.05; done
lab_daemon_stop KILL
is "killed: the filters stay (try $i)" "$(filters)" 3
lab_daemon_start || exit 1
is "the new daemon replaced them" "$(filters)" 3
cmp_ok "and adopted the connections" "$(lab_stat .splice.adopted)" -ge 50
kill "$sleeper"
wait "$holder"
is "which lost nothing" "$?" 0
ok "new connections" in_client "$lab_build/tests/tools/conns" run "$lab_target4" 5003 50 5 100
ok "stop --flush" "$lab_build/socksplice" stop --flush --control "$lab_control"
lab_daemon=""
is "no filter is left" "$(filters)" 0
is "no pin is left" "$([ -e "$lab_bpf/pin" ] && echo yes)" ""
tap_done
