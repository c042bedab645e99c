#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Segments that neither end sent do not end a connection: SYNs, resets and data with wrong sequence numbers, from both
# sides. The exact reset does.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target)
#   10.1.0.77, fd01::77: a client by hand
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
splice_hand_client

scenario() { words=$(timeout 30 "$lab_root/tests/tools/splice_ends.py" "$1" "$family" "$lab_c" "$lab_s" 2>&1); }

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family"
		splice_start "$mode" $family "tcp: { linger: 500ms }"
		scenario spoofed_syn
		is "$label: SYNs: it goes on" "$words" echo
		is "$label: SYNs: each is challenged" "$(splice_stat challenge_acks)" 3
		scenario spoofed_data
		is "$label: data outside of the window: it goes on" "$words" $'echo\necho'
		scenario spoofed_rst
		is "$label: resets: it goes on" "$words" $'echo\necho\necho'
		scenario spoofed_rst_idle
		is "$label: a reset into silence: it goes on" "$words" echo
		ok "$label: all these end in order" splice_until 3 splice_stat_is finished 4
		scenario revived
		is "$label: a reset among data under way that was not the receiver's next: it goes on" "$words" "challenged echo"
		ok "$label: and is known to" splice_until 3 splice_stat_is revived 1
		scenario exact_rst
		is "$label: an exact reset: both ends are told" "$words" ECONNRESET
		ok "$label: an exact reset: counted" splice_until 3 splice_stat_is finished_reset 1
		ok "$label: entries are given back" splice_idle
		splice_stop
	done
done
tap_done
