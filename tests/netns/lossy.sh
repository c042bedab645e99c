#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# 12 MB up and down over a bad client link: 1 % loss, 1 % reordering, 5 ms each way; IPv4 and IPv6, all at once. Then
# corruption and duplicates. Relayed and spliced (modes.sh): the relay repairs by itself, the splice leaves it to the ends.
#
#   client c0 ── k0 linkem k1 ── l0 gateway (daemon) u0 ── s0 server (microsocks, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

# transfers NAME FILE SHA256: up and down, to and from all hosts of the mode, at once
transfers() {
	local host url pids=()
	for host in "${mode_hosts[@]}"; do
		url=http://$(mode_url "$host")
		in_client curl -gsS -m 100 "$url/$2" 2>&1 | sha256sum >"$lab_dir/down-$host" &
		pids+=($!)
		in_client curl -gsS -m 100 -T "$lab_dir/www/$2" "$url/put" >"$lab_dir/up-$host" 2>&1 &
		pids+=($!)
	done
	wait "${pids[@]}"
	for host in "${mode_hosts[@]}"; do
		is "$mode_label: $1 down from $host" "$(cut -d' ' -f1 "$lab_dir/down-$host")" "$3"
		is "$mode_label: $1 up to $host" "$(cat "$lab_dir/up-$host")" "$3"
	done
}
# counter NAMESPACE NAME: of the kernel's TCP there
counter() { nsenter --net="/run/netns/$1" -- nstat -asz "$2" | awk -v name="$2" '$1 == name {print $2}'; }
bad_checksums() { echo $(($(counter "$lab_c" TcpInCsumErrors) + $(counter "$lab_s" TcpInCsumErrors))); }

# link OPTIONS...: the client's link is like this from now on
link() {
	lab_end "$bad_link"
	lab_spawn "$lab_l" "$lab_build/tests/tools/linkem" k0 k1 "$@"
	bad_link=$lab_last
	sleep 0.3
}

lab_bad_link
bad_link=$lab_last
mkdir "$lab_dir/www"
head -c 12000000 /dev/urandom >"$lab_dir/www/big"
head -c 2000000 /dev/urandom >"$lab_dir/www/small"
big=$(sha256sum <"$lab_dir/www/big" | cut -d' ' -f1)
small=$(sha256sum <"$lab_dir/www/small" | cut -d' ' -f1)
lab_start_dante && lab_start_web "$lab_dir/www" || exit 1

for mode in "${modes[@]}"; do
	mode_set "$mode"
	link loss=1 reorder=1 delay=5 seed=42
	lab_config "$mode_upstream:1080"
	lab_daemon_start || exit 1
	again=$(counter "$lab_s" TcpRetransSegs)
	transfers "12 MB" big "$big"
	again=$(($(counter "$lab_s" TcpRetransSegs) - again))
	if [ "$mode_way" = spliced ]; then
		cmp_ok "$mode_label: lost segments were sent again by the server" "$again" -ge 50
	else
		cmp_ok "$mode_label: lost segments were sent again" "$(lab_stat .stack.segments_retransmitted)" -ge 100
		cmp_ok "$mode_label: most losses were found without a time-out" \
			"$(lab_stat '.stack.segments_retransmitted / (.stack.retransmission_timeouts + 1) | floor')" -ge 5
		cmp_ok "$mode_label: segments came out of order" "$(lab_stat .stack.segments_out_of_order)" -ge 100
	fi
	ok "$mode_label: flows have ended" flows_gone
	ok "$mode_label: no flow holds frames" frames_settled

	link corrupt=2 dup=2 seed=7
	wrong=$(bad_checksums)
	transfers "2 MB over a link that corrupts:" small "$small"
	wrong=$(($(bad_checksums) - wrong))
	# A rewritten packet's checksum is as wrong as before, and it is for the ends to find out.
	if [ "$mode_way" = spliced ]; then
		cmp_ok "$mode_label: the ends found wrong checksums" "$wrong" -ge 5
	else
		cmp_ok "$mode_label: wrong checksums were dropped and counted" \
			"$(lab_stat '.drops.tcp_checksum + .drops.ip_checksum + .drops.bad_tcp_hdr')" -ge 5
	fi
	ok "$mode_label: flows have ended" flows_gone
	is "$mode_label: frames add up" "$(frames_balanced)" true
	ok "$mode_label: connections went that way" mode_went
	lab_daemon_flush
done
tap_done
