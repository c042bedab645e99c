#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# An upstream with three own addresses and ten ports: thirty connections are spliced, ten from each address, which server and
# `flows` agree on; what comes after is relayed and counted, or with `relay: splice` refused; pairs that were given back are
# used again; the next daemon knows which are in use.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target)
#                                    10.2.0.1, .11, .12
#                                    fd02::1, ::11, ::12
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
for host in 11 12; do
	ip -n "$lab_g" addr add 10.2.0.$host/24 dev u0
	ip -n "$lab_g" addr add fd02::$host/64 dev u0 nodad
done
declare -A sources=([4]="10.2.0.1, 10.2.0.11, 10.2.0.12" [6]="\"fd02::1\", \"fd02::11\", \"fd02::12\"")

# Who the server's peers are, those that the daemon binds: "10 10.2.0.1" for each address
at_server() {
	in_server ss -Htn state established "sport = :1080" | awk '{ print $4 }' | tr -d '[]' | sed s,::ffff:,, |
		awk '{ port = $1; sub(/.*:/, "", port); sub(/:[0-9]*$/, ""); if (port >= 20000 && port <= 20009) print }' |
		sort | uniq -c | awk '{ print $1, $2 }' | paste -sd,
}
by_flows() {
	splice_flows | jq -r '.[] | select(.tier == "spliced") | .source' | tr -d '[]' | sed 's/:[0-9]*$//' | sort | uniq -c |
		awk '{ print $1, $2 }' | paste -sd,
}
each() { # each COUNT: of the three
	local address
	for address in ${sources[$family]//[,\"]/}; do echo "$1 $address"; done | paste -sd,
}

for family in 4 6; do
	label="IPv$family" target=${splice_target[$family]}
	lab_upstream_keys="ports: 20000-20009, sources: [ ${sources[$family]} ]"
	splice_start tc $family "tcp: { linger: 500ms }"
	is "$label: there are thirty pairs" "$(splice_stat ports_total)" 30
	splice_hold "$target" 5003 9
	is "$label: nine connections" "$held" "holding connections=9 failed=0"
	is "$label: are spread over the addresses" "$(at_server)" "$(each 3)"
	splice_release
	ok "$label: and end" splice_idle
	sleep 1.1 # a pair rests
	splice_hold "$target" 5003 36
	is "$label: 36 connections" "$held" "holding connections=36 failed=0"
	ok "$label: thirty of them are spliced" splice_until 2 splice_stat_is spliced 39
	is "$label: ten from each address" "$(at_server)" "$(each 10)"
	is "$label: flows shows from where" "$(by_flows)" "$(each 10)"
	is "$label: stats shows that none is left" \
		"$(lab_stat '.splice | [.ports_in_use, .not_spliced_ports, .ports_exhausted] | join(" ")')" "30 6 6"
	ok "$label: the six are relayed" splice_flow_count '.tier == "relay" and .not_spliced == "ports"' 6
	lab_daemon_stop KILL
	lab_daemon_start 9>&- || exit 1
	is "$label: the next daemon knows all pairs" "$(lab_stat '.splice | [.adopted, .ports_in_use] | join(" ")')" "30 30"
	is "$label: and gives none out again" "$(in_client timeout 5 "$conns" target "$target" 5005 3 1 100 100 | sed 's/ refused.*//')" \
		"connections=3 failed=0"
	is "$label: but counts" "$(lab_stat '.splice | [.spliced, .not_spliced_ports] | join(" ")')" "0 3"
	splice_release
	is "$label: thirty have outlived it" "$held" "alive=30 lost=6"
	ok "$label: all end" splice_idle
	is "$label: all pairs are given back" "$(splice_stat ports_in_use)" 0
	sleep 1.1
	is "$label: and used again" "$(in_client timeout 5 "$conns" target "$target" 5005 30 10 100 100 | sed 's/ refused.*//')" \
		"connections=30 failed=0"
	is "$label: by the kernel's connections" "$(splice_stat spliced)" 30
	splice_stop

	splice_start tc $family "tcp: { linger: 500ms, relay: splice }"
	splice_hold "$target" 5003 30
	is "$label: relay: splice: thirty" "$held" "holding connections=30 failed=0"
	is "$label: relay: splice: one more is refused" \
		"$(in_client timeout 5 "$lab_root/tests/tools/dial.py" "$target" 5003 hello)" "ECONNREFUSED 0"
	is "$label: relay: splice: and counted" "$(lab_stat '.splice | [.not_spliced_ports, .ports_exhausted] | join(" ")')" "1 1"
	splice_release
	is "$label: relay: splice: the thirty are alive" "$held" "alive=30 lost=0"
	splice_stop
done
tap_done
