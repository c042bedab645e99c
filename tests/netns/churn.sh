#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Many connections: 10,000 one after the other and 200 at a time, 5,000 idle at once. None fails, nothing leaks. Relayed by
# AF_XDP, fewer by TAP, spliced (modes.sh). A table that is too small for them: splice_churn.sh.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (microsocks, echo server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

conns=$lab_build/tests/tools/conns
run() { in_client "$conns" run "$1" 7000 "$2" "$3" "$4"; }
descriptors() { find "/proc/$lab_daemon/fd" -mindepth 1 | wc -l; }
memory_kb() { awk '/^VmRSS/ {print $2}' "/proc/$lab_daemon/status"; }

lab_up
for name in "$lab_c" "$lab_g" "$lab_s"; do
	ip netns exec "$name" sysctl -qw net.ipv4.ip_local_port_range="10000 65000" net.ipv4.tcp_tw_reuse=1
done
lab_spawn "$lab_s" "$conns" serve 7000
lab_wait_port "$lab_s" 7000
lab_start_microsocks || exit 1

# churn CONNECTIONS: one after the other, and as many many at a time
churn() {
	local label=$mode_label fds pool memory holder i now listed
	if [ "$mode_way" = spliced ]; then
		now=.splice.live_now listed='.tier == "spliced" and .state == "spliced"'
	else
		now=.stack.established_now listed='.tier == "relay" and .state == "ESTABLISHED" and .not_spliced == "policy"'
	fi
	lab_tcp_keys+=", half-open-per-source: 1000"
	lab_config
	lab_daemon_start || exit 1
	run $lab_target4 500 50 1000 >/dev/null # what is touched once is touched now
	ok "$label: flows of the first round have ended" flows_gone
	fds=$(descriptors) pool=$(lab_stat .frames.pool) memory=$(memory_kb)
	ok "$label: $1 connections, one after the other" run $lab_target4 "$1" 1 200
	ok "$label: $1 connections, 200 at a time" run $lab_target4 "$1" 200 2000
	[ "$mode_way" = spliced ] || ok "$label: 3000 connections over IPv6, 100 at a time" run $lab_target6 3000 100 2000
	ok "$label: flows have ended" flows_gone
	ok "$label: no flow holds frames" frames_settled
	is "$label: descriptors as before" "$(descriptors)" "$fds"
	is "$label: frames as before" "$(lab_stat .frames.pool)" "$pool"
	cmp_ok "$label: memory grew by less than 24 MB (flow table touched in order)" $(($(memory_kb) - memory)) -lt 24576

	mkfifo "$lab_dir/hold"
	in_client "$conns" hold $lab_target4 7000 5000 <"$lab_dir/hold" >"$lab_dir/hold.out" 2>&1 &
	holder=$!
	lab_pids+=("$holder")
	exec 9>"$lab_dir/hold"
	for i in $(seq 300); do grep -q holding "$lab_dir/hold.out" && break; sleep 0.1; done
	is "$label: 5,000 idle connections (try $i)" "$(cat "$lab_dir/hold.out")" "holding connections=5000 failed=0"
	is "$label: status counts them" "$(lab_stat $now)" 5000
	is "$label: flows lists them" \
		"$("$lab_build/socksplice" flows --json --control "$lab_control" | jq "map(select($listed)) | length")" 5000
	[ "$mode_way" != spliced ] || is "$label: idle connections hold no descriptor" "$(descriptors)" "$fds"
	is "$label: idle connections hold no frames" "$(lab_stat '.frames.flows == .frames.flows_recv')" true
	exec 9>&-
	wait "$holder"
	is "$label: and all still work" "$(tail -n 1 "$lab_dir/hold.out")" "alive=5000 lost=0"
	lab_end "$holder"
	rm "$lab_dir/hold"
	ok "$label: they end" flows_gone
	is "$label: descriptors as before" "$(descriptors)" "$fds"
	is "$label: frames add up" "$(frames_balanced)" true
	ok "$label: connections went that way" mode_went
	lab_daemon_flush
	is "$label: the daemon stops in order" "$?" 0
}

mode_set "relay-xdp 10.2.0.2 4 6"
churn 10000
mode_set "relay-tap 10.2.0.2 4 6"
churn 3000
mode_set "spliced 10.2.0.2 4"
churn 10000
tap_done
