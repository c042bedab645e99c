#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Bytes arrive as they were sent: 200 MB up and down, IPv4 and IPv6, through dante, whichever way they go (modes.sh); packets
# on the client's link, and on the server's where the kernel rewrites, are well-formed; frames add up and return to the
# pool.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (dante, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

# capture_start NAMESPACE DEVICE FILE: what comes in there
capture_start() {
	local i
	lab_spawn "$1" tshark -q -i "$2" -w "$3" -f 'inbound and tcp'
	for i in $(seq 50); do [ -s "$3" ] && break; sleep 0.1; done
	sleep 0.3
}
# capture_wrong FILE: packets with a wrong checksum, or malformed ones. The payload is noise: only headers are looked at
capture_wrong() {
	tshark --only-protocols frame,eth,ethertype,ip,ipv6,tcp,data -o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE \
		-r "$1" -Y 'tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed' 2>/dev/null | head -n 5
}
# down, up: URL [FILE] → sha256 of what arrived
down() { in_client curl -gsS -m 120 "$1" | sha256sum | cut -d' ' -f1; }
up() { in_client curl -gsS -m 120 -T "$2" "$1/put" 2>&1; }

lab_up
mkdir "$lab_dir/www"
echo hello >"$lab_dir/www/page"
head -c 200000000 /dev/urandom >"$lab_dir/www/big"
head -c 3000000 /dev/urandom >"$lab_dir/www/small"
big=$(sha256sum <"$lab_dir/www/big" | cut -d' ' -f1)
small=$(sha256sum <"$lab_dir/www/small" | cut -d' ' -f1)
lab_start_dante && lab_start_web "$lab_dir/www" || exit 1

for mode in "${modes[@]}"; do
	mode_set "$mode"
	lab_config "$mode_upstream:1080"
	lab_daemon_start || exit 1
	before=$(lab_stat .frames.pool)
	for host in "${mode_hosts[@]}"; do
		url=http://$(mode_url "$host")
		is "$mode_label: page from $host" "$(in_client curl -gsS -m 10 "$url/page" 2>&1)" hello
		is "$mode_label: 200 MB down from $host" "$(down "$url/big")" "$big"
		is "$mode_label: 200 MB up to $host" "$(up "$url" "$lab_dir/www/big")" "$big"
	done
	is "$mode_label: nothing was dropped for its checksum" "$(lab_stat '.drops.tcp_checksum + .drops.ip_checksum')" 0
	ok "$mode_label: flows have ended" flows_gone
	ok "$mode_label: no flow holds frames" frames_settled
	is "$mode_label: frames add up" "$(frames_balanced)" true
	is "$mode_label: the pool is as full as before" "$(lab_stat .frames.pool)" "$before"
	# what curl and web.py say besides comes to less than a kilobyte; what is sent again counts again when it is spliced
	more=5000
	[ "$mode_way" != spliced ] || more=$((payload / 50))
	payload=$((${#mode_hosts[@]} * 200000000))
	if [ "$mode_way" = spliced ]; then
		got=$(lab_stat '"\(.splice.bytes_down) \(.splice.bytes_up)"')
	else
		got=$(lab_stat '"\(.stack.bytes_to_clients) \(.stack.bytes_from_clients)"')
	fi
	is "$mode_label: payload to and from clients is counted" "$(awk -v all=$payload -v more=$more '{
		print ($1 >= all && $1 < all + more ? "all" : $1), ($2 >= all && $2 < all + more ? "all" : $2) }' <<<"$got")" "all all"

	# The gateway's devices compute no checksum for the sender: so what a link carries can be judged. What reaches the
	# gateway has partial checksums first, as between local hosts, and then final ones, as from a network card.
	in_gateway ethtool -K l0 tx off >/dev/null
	in_gateway ethtool -K u0 tx off >/dev/null
	capture_start "$lab_c" c0 "$lab_dir/client.pcap"
	capture=$lab_last
	capture_start "$lab_s" s0 "$lab_dir/server.pcap"
	for sums in partial final; do
		for host in "${mode_hosts[@]}"; do
			url=http://$(mode_url "$host")
			is "$mode_label: $sums checksums: 3 MB down from $host" "$(down "$url/small")" "$small"
			is "$mode_label: $sums checksums: 3 MB up to $host" "$(up "$url" "$lab_dir/www/small")" "$small"
		done
		in_client ethtool -K c0 tx off >/dev/null
		in_server ethtool -K s0 tx off >/dev/null
	done
	sleep 0.5
	lab_end "$capture" "$lab_last"
	for end in client server; do
		cmp_ok "$mode_label: the capture of the $end holds payload" \
			"$(tshark -r "$lab_dir/$end.pcap" -T fields -e tcp.len 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }')" -ge 4000000
		is "$mode_label: to the $end: no bad checksum, nothing malformed" "$(capture_wrong "$lab_dir/$end.pcap")" ""
		rm "$lab_dir/$end.pcap"
	done
	in_gateway ethtool -K l0 tx on >/dev/null
	in_gateway ethtool -K u0 tx on >/dev/null
	in_client ethtool -K c0 tx on >/dev/null
	in_server ethtool -K s0 tx on >/dev/null
	ok "$mode_label: connections went that way" mode_went
	lab_daemon_flush
	is "$mode_label: the daemon stops in order" "$?" 0
done
tap_done
