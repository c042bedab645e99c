#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A far client: for 300 ms after the SYN-ACK the server speaks to a socket that is frozen. What it says arrives, also
# when the gateway loses some of it, or all for three seconds, or the client's first ACK besides. The client says nothing before
# that, which would heal such a loss.
#
#   client c0 ── k0 linkem (150 ms) k1 ── l0 gateway (daemon) u0 ── s0 server (target)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_bad_link delay=150 queue=10000
lab_start_target || exit 1

# load NAME PORT COUNT BANNER-BYTES [ENDING]
load() {
	local result spliced
	early=$(splice_stat early_segments) spliced=$(splice_stat spliced)
	result=$(in_client timeout 50 "$conns" target "${splice_target[$family]}" "$2" "$3" 100 0 "$4" "${5:-echo}" 2>&1)
	is "$label: $1: all, and every byte right" "$(sed -E 's/ (refused|seconds).* wrong/ wrong/' <<<"$result")" \
		"connections=$3 failed=0 wrong=0 stuck=0"
	ok "$label: $1: all became the kernel's" splice_until 2 splice_stat_is spliced $((spliced + $3))
	early=$(($(splice_stat early_segments) - early))
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		for faults in none=0 early_data=10 early_data=1000,seconds=3 early_data=200,first_ack=1000,seconds=3; do
			label="$mode, IPv$family, $faults"
			[ $faults = none=0 ] || export SOCKSPLICE_FAULTS=$faults
			splice_start "$mode" $family "tcp: { linger: 500ms, half-open-per-source: 1000 }"
			unset SOCKSPLICE_FAULTS
			load "100 bytes after 200 ms" 5013 200 100
			[ $faults != none=0 ] || cmp_ok "$label: they came to the frozen socket" "$early" -ge 200
			load "20 kB" 5007 100 20000
			load "banner and end" 5006 100 100 end
			[ $faults != none=0 ] || is "$label: all of the first was delivered by the daemon" \
				"$(lab_stat '.splice | .early_data_flows == 400 and .early_data_missed == 0')" true
			[ $faults = none=0 ] || cmp_ok "$label: and there were faults" "$(lab_stat .bpf.drop_fault)" -gt 0
			ok "$label: every entry is given back" splice_idle
			is "$label: they ended by their ends" "$(splice_stat finished)" 400
			splice_stop
		done
	done
done
tap_done
