#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A thousand connections, fifty at a time, for each way in which a server may speak first, or end at once, or wait: none
# fails, no byte is wrong, each becomes the kernel's, hardly anything is sent twice, and nothing is left behind.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target, which speaks SOCKS5 itself)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
sent=0

# Segments that the server sent again, tail loss probes apart: two segments that wait for a busy machine draw one after
# a few milliseconds, whether they were lost or not.
sent_again() { echo $(($(splice_counter "$lab_s" TcpRetransSegs) - $(splice_counter "$lab_s" TcpExtTCPLossProbes))); }

# Segments that an end discarded for their timestamp; bare ACKs that another overtook (TcpExtPAWSOldAck) do no harm.
paws() {
	echo $(($(splice_counter "$lab_c" TcpExtPAWSEstab) + $(splice_counter "$lab_s" TcpExtPAWSEstab) +
		$(splice_counter "$lab_c" TcpExtPAWSActive)))
}

# load NAME PORT COUNT BYTES BANNER-BYTES [ENDING]
load() {
	local result again spliced reset old
	again=$(sent_again) old=$(paws) spliced=$(splice_stat spliced) reset=$(splice_stat upstream_reset)
	result=$(in_client timeout 50 "$conns" target "${splice_target[$family]}" "$2" "$3" 50 "$4" "$5" "${6:-echo}" 2>&1)
	is "$label: $1: all, and every byte right" "$(sed -E 's/ (refused|seconds).* wrong/ wrong/' <<<"$result")" \
		"connections=$3 failed=0 wrong=0 stuck=0"
	# a reset may be faster than the handover
	[ "${6:-}" = reset ] && reset=$(($(splice_stat upstream_reset) - reset)) || reset=0
	ok "$label: $1: all became the kernel's" splice_until 2 splice_stat_is spliced $((spliced + $3 - reset))
	sent=$((sent + $3 - reset))
	# a megabyte fills queues, which drop; and several CPUs bring disorder into its ACKs, now and then elsewhere too
	[ "$5" -le 100000 ] || return
	cmp_ok "$label: $1: the server sent hardly anything twice" $(($(sent_again) - again)) -le $(($3 / 10))
	cmp_ok "$label: $1: no segments are too old" $(($(paws) - old)) -le $(($3 / 200))
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family"
		splice_start "$mode" $family "tcp: { linger: 500ms, half-open-per-source: 1000 }"
		in_client "$conns" target "${splice_target[$family]}" 5003 50 50 1 0 >/dev/null
		splice_idle
		fds=$(splice_descriptors) sent=50
		load "1 byte" 5004 1000 0 1
		load "100 bytes with the reply" 5005 1000 0 100
		load "20 kB" 5007 1000 0 20000
		load "20 kB, and the client speaks too" 5007 1000 1000 20000
		load "1 MB" 5008 100 10 1000000
		load "banner and end" 5006 1000 0 100 end
		load "end at once" 5011 1000 0 0 end
		load "reset at once" 5010 1000 0 0 reset
		load "a late banner" 5013 500 0 100
		load "client first" 5003 1000 1000 0
		ok "$label: every entry is given back" splice_idle
		is "$label: each ended by its ends" "$(lab_stat '.splice | .finished + .finished_reset')" $sent
		is "$label: none timed out, was given up or relayed" \
			"$(lab_stat '.splice | [.finished_idle, .client_never_acked, .revived, .stale_keys] + [.not_spliced_table, .not_spliced_repair, .not_spliced_early_bytes, .not_spliced_no_synack] | add')" 0
		is "$label: ports are given back" "$(splice_stat ports_in_use)" 0
		is "$label: descriptors as before" "$(splice_descriptors)" "$fds"
		is "$label: frames add up" "$(frames_balanced)" true
		ok "$label: packets went that way" splice_path "$mode"
		splice_stop
	done
done
tap_done
