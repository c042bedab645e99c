#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Downloads share the gateway when receive buffers are far fewer than they could use: with 8 and 64 at once from a relay
# of little packet memory, none stands still for two seconds, and whoever comes next to them is served. On a TAP and
# on AF_XDP, with receive bundles and without.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (speaks SOCKS5 itself)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

tools=$lab_build/tests/tools
bulk() { in_client timeout 60 "$tools/bulk" "$1" $lab_target4 "$2" "$3" 2 2>&1; }

lab_up
lab_start_target 5001 5002 5003 || exit 1
for hook in tc xdp; do
	for bundle in with without; do
		label="$hook, $bundle bundles"
		# shellcheck disable=SC2034 # lab.sh's
		lab_interface_keys="hook: $hook" lab_tcp_keys="relay: userspace"
		lab_config 10.2.0.2:1080 "performance: { memory_pool_size: 2048 }"
		if [ $bundle = without ]; then
			SOCKSPLICE_NO_RECV_BUNDLE=1 lab_daemon_start || exit 1
		else
			lab_daemon_start || exit 1
		fi
		for flows in 8 64; do
			is "$label: none of $flows downloads stands still" "$(bulk down 5002 "$flows" | grep -o 'stalled.*')" "stalled=0 failed=0"
		done
		is "$label: none of 8 uploads stands still" "$(bulk up 5001 8 | grep -o 'stalled.*')" "stalled=0 failed=0"
		nsenter --net="/run/netns/$lab_c" -- timeout 60 "$tools/bulk" down $lab_target4 5002 64 4 >/dev/null 2>&1 &
		lab_pids+=($!)
		sleep 1
		is "$label: beside 64 downloads others are served" \
			"$(in_client timeout 60 "$tools/conns" run $lab_target4 5003 20 1 1 2>&1 | grep -o 'failed=[0-9]*')" failed=0
		wait "${lab_pids[-1]}"
		ok "$label: flows have ended" flows_gone
		ok "$label: no flow holds frames" frames_settled
		is "$label: frames add up" "$(frames_balanced)" true
		lab_daemon_flush
		is "$label: the daemon stops in order" "$?" 0
	done
done
tap_done
