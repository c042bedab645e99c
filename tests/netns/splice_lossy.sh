#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# 100 MB down, and 20 MB up and down at once, while the client's link, then the uplink, loses 1 % of the frames and reorders
# 1 %; then short connections whose server speaks first. Ends repair it between themselves; no byte is wrong. With losses
# alone on both links, neither end finds anything in the other's segments that cannot be.
#
#   client c0 ── k0 linkem k1 ── l0 gateway (daemon) u0 ── k2 linkem k3 ── s0 server (target)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

splice_bad_links
lab_start_target || exit 1
bad="loss=1 reorder=1 seed=42"

# What an end finds wrong with blocks of SACK and timestamps. Where nothing is reordered, nothing is: plain forwarding over
# the same links moves none of these. (With reordering the original of a segment that was sent again is too old.)
discards="TcpExtTCPSACKDiscard TcpExtTCPDSACKIgnoredOld TcpExtTCPDSACKIgnoredNoUndo TcpExtPAWSEstab TcpExtTCPACKSkippedPAWS TcpExtTCPACKSkippedSeq"
discarded() { # discarded NAMESPACE: names and numbers of those that are not 0
	local name
	for name in $discards; do echo "$name $(splice_counter "$1" "$name")"; done | awk '$2' | paste -sd' '
}
echo_20_mb() { in_client timeout 60 "$lab_root/tests/tools/stream.py" "$target" echo 20000000 2>&1 | head -n 1; }

# Namespaces are new: all counters are 0, and the first losses come without reordering.
losses_alone() {
	local label="$1, IPv$family, losses alone" name recoveries=()
	splice_links "loss=1 seed=42" "loss=1 seed=43"
	for name in "$lab_c" "$lab_s"; do recoveries+=("$(splice_counter "$name" TcpExtTCPSackRecovery)"); done
	is "$label: 20 MB up and down" "$(echo_20_mb)" ok
	for name in "$lab_c" "$lab_s"; do
		cmp_ok "$label: ${name##*-}: losses were repaired by SACK" "$(splice_counter "$name" TcpExtTCPSackRecovery)" -gt $((recoveries[0] + 100))
		is "$label: ${name##*-}: nothing was discarded" "$(discarded "$name")" ""
		recoveries=("${recoveries[@]:1}")
	done
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		target=${splice_target[$family]}
		splice_start "$mode" $family "tcp: { linger: 500ms }"
		losses_alone "$mode"
		splice_stop
	done
done

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		target=${splice_target[$family]}
		splice_start "$mode" $family "tcp: { linger: 500ms }"
		for where in client uplink; do
			label="$mode, IPv$family, bad $where link"
			again=$(splice_counter "$lab_s" TcpRetransSegs)
			[ $where = client ] && splice_links "$bad" "" || splice_links "" "$bad"
			is "$label: 100 MB down" "$(in_client timeout 60 "$lab_root/tests/tools/stream.py" "$target" down 2>&1 | head -n 1)" ok
			is "$label: 20 MB up and down" "$(echo_20_mb)" ok
			is "$label: 300 connections" "$(in_client timeout 50 "$conns" target "$target" 5007 300 30 2000 20000 | sed 's/ refused.*wrong/ wrong/')" \
				"connections=300 failed=0 wrong=0 stuck=0"
			cmp_ok "$label: the server sent much again" $(($(splice_counter "$lab_s" TcpRetransSegs) - again)) -gt 500
		done
		label="$mode, IPv$family"
		# each end understands what the other says it has: blocks of other numbers would be discarded, and repair be slower
		for name in "$lab_c" "$lab_s"; do
			cmp_ok "$label: ${name##*-}: losses were repaired by SACK" "$(splice_counter "$name" TcpExtTCPSackRecovery)" -gt 0
			is "$label: ${name##*-}: no SACK block was discarded" "$(splice_counter "$name" TcpExtTCPSACKDiscard)" 0
		done
		ok "$label: packets went that way" splice_path "$mode"
		ok "$label: entries are given back" splice_idle
		is "$label: all were spliced" "$(lab_stat '.splice | [.spliced, .finished, .finished_reset, .finished_idle, .flushed] | join(" ")')" "604 604 0 0 0"
		splice_stop
	done
done
tap_done
