#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Losses at the worst moments of the handover, injected by the daemon's environment (user/app/faults.c): the client's first
# ACK, reports of BPF, SYN-ACKs, early data to the client. Each at 1 %, each always for three seconds, and all together:
# they cost time, never a connection or a byte. The clients are silent, they wait for the banner: what a client sends, and sends
# again, would heal the loss of its ACK. (Early data of the server is splice_early.sh's: here it all comes too soon.)
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target: a banner of 20 kB)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1

# faulty MODE FAMILY FAULTS COUNT [PORT BANNER-BYTES]
faulty() {
	local label="$1, IPv$2, $3, port ${5:-5007}" result found
	export SOCKSPLICE_FAULTS=$3
	splice_start "$1" "$2" "tcp: { linger: 300ms }"
	unset SOCKSPLICE_FAULTS
	result=$(in_client timeout 50 "$conns" target "${splice_target[$2]}" "${5:-5007}" "$4" 50 0 "${6:-20000}" 2>&1)
	is "$label: none is stuck, no byte is wrong" "$(sed -E 's/ (refused|seconds).* wrong/ wrong/' <<<"$result")" \
		"connections=$4 failed=0 wrong=0 stuck=0"
	ok "$label: all became the kernel's" splice_until 2 splice_stat_is spliced "$4"
	ok "$label: every entry is given back" splice_idle
	is "$label: they ended by their ends" "$(lab_stat '.splice.finished')" "$4"
	# it did happen
	case $3 in
	*,*,*) found=$(lab_stat '.bpf.drop_fault') ;;
	first_ack*) found=$(lab_stat '.bpf.drop_fault') ;;
	report*) found=$(lab_stat '.splice | [.lost_reports, .reports_found] | min') ;;
	synack*) found=$(lab_stat '.splice.synacks_resent') ;;
	# what was not delivered is not acknowledged: the server sends it again
	*) found=$(($(splice_counter "$lab_s" TcpRetransSegs) - sent_again)) ;;
	esac
	cmp_ok "$label: and there was a fault" "$found" -gt 0
	splice_stop
}

for mode in "${splice_modes[@]}"; do
	for fault in first_ack report synack crafted; do
		sent_again=$(splice_counter "$lab_s" TcpRetransSegs)
		faulty "$mode" 4 $fault=10 1000
		sent_again=$(splice_counter "$lab_s" TcpRetransSegs)
		faulty "$mode" 6 $fault=1000,seconds=3 100
	done
	# a server that waits before it speaks: nothing is under way when the ACK, or the SYN-ACK, is lost
	faulty "$mode" 4 first_ack=1000,seconds=3 100 5013 100
	faulty "$mode" 6 synack=1000,seconds=3 100 5013 100
	for family in 4 6; do
		faulty "$mode" $family first_ack=10,report=10,early_data=10,synack=10,crafted=10 1000
	done
done
tap_done
