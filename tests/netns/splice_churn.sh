#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A table of 64 entries and 100 ports under 7,000 short connections, twenty at a time: entries and ports are used again and
# again, what finds none is relayed, and no byte reaches another connection.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
lab_upstream_keys="ports: 20000-20099"

# load NAME PORT COUNT AT-ONCE BYTES BANNER-BYTES [ENDING]
load() {
	is "$label: $1: every byte where it belongs" "$(in_client timeout 50 "$conns" target "${splice_target[$family]}" "$2" "$3" "$4" "$5" "$6" \
		"${7:-echo}" 2>&1 | sed -E 's/ (refused|seconds).* wrong/ wrong/')" "connections=$3 failed=0 wrong=0 stuck=0"
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family"
		splice_start "$mode" $family "tcp: { linger: 100ms, max-flows: 64 }"
		# an entry rests for a second before it is used again: these take ten
		load "1,000 that begin slowly" 5013 1000 20 200 100
		cmp_ok "$label: entries were used again and again" "$(splice_stat spliced)" -gt 300
		load "2,000 echoes" 5003 2000 20 3000 0
		load "2,000 banners" 5005 2000 20 200 100
		load "1,000 that the server ends" 5006 1000 20 0 100 end
		load "1,000 of 20 kB" 5007 1000 20 2000 20000
		sleep 1.5
		before=$(splice_stat spliced)
		load "40 in a table that has room" 5005 40 2 200 100
		ok "$label: all of these are the kernel's" splice_until 2 splice_stat_is spliced $((before + 40))
		before=$(splice_counter "$lab_s" TcpInSegs)
		load "100 one after the other" 5003 100 1 1 0
		# SYN, greeting, request, and of the client: ACK, data, ACK of the echo, FIN, ACK
		cmp_ok "$label: no bare acknowledgements in the handshake" $((($(splice_counter "$lab_s" TcpInSegs) - before) / 100)) -lt 9
		cmp_ok "$label: they were short" "$(splice_stat not_spliced_table)" -gt 0
		is "$label: each connection was one or the other" "$(lab_stat '.splice | .spliced + ([to_entries[] | select(.key | startswith("not_spliced_")) | .value] | add)')" 7140
		ok "$label: entries are given back" splice_idle
		is "$label: ports too" "$(splice_stat ports_in_use)" 0
		is "$label: frames add up" "$(frames_balanced)" true
		splice_stop
	done
done
tap_done
