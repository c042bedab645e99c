#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a client is told follows what the upstream said (deferred accept): every reply code, dial failures, servers that
# delay, stammer, lie or hang up. IPv4 and IPv6, relayed and spliced (modes.sh).
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (scripted SOCKS5 server: the destination port says what it does)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

dial() { in_client python3 "$lab_root/tests/tools/dial.py" "$@"; }
word() { dial "$@" | cut -d' ' -f1; }
# answered HOST PORT: how connect() ended and what came back
answered() { dial "$1" "$2" hello | cut -d' ' -f1,3; }

# replies HOST: what each code becomes
replies() {
	local label="$mode_label: $1"
	is "$label: success" "$(answered "$1" 1000)" "connected hello"
	is "$label: general failure is a reset" "$(word "$1" 1001)" ECONNREFUSED
	is "$label: not allowed is unreachable" "$(word "$1" 1002 | sed 's/EACCES\|EHOSTUNREACH/prohibited/')" prohibited
	is "$label: network unreachable" "$(word "$1" 1003)" ENETUNREACH
	is "$label: host unreachable" "$(word "$1" 1004)" EHOSTUNREACH
	is "$label: connection refused" "$(word "$1" 1005)" ECONNREFUSED
	is "$label: TTL expired" "$(word "$1" 1006)" EHOSTUNREACH
	is "$label: command not supported" "$(word "$1" 1007)" ECONNREFUSED
	is "$label: address type not supported" "$(word "$1" 1008)" ENETUNREACH
	is "$label: an unassigned code" "$(word "$1" 1099)" ECONNREFUSED
}

# oddities HOST: servers that delay, stammer, lie or hang up
oddities() {
	local label="$mode_label: $1" slow silent again
	dial "$1" 2005 >"$lab_dir/silent" &
	silent=$!
	slow=$(dial "$1" 2000 hello)
	is "$label: a slow target is connected" "$(cut -d' ' -f1,3 <<<"$slow")" "connected hello"
	cmp_ok "$label: but not before its upstream said so" "$(cut -d' ' -f2 <<<"$slow")" -ge 20
	# BPF answers for a connection that will be the kernel's
	[ "$mode_way" = spliced ] && again=.bpf.drop_duplicate_syn || again=.stack.syn_retransmitted_by_client
	cmp_ok "$label: the client's repeated SYN opened no second connection" "$(lab_stat $again)" -ge 1
	is "$label: reply byte by byte" "$(answered "$1" 2001)" "connected hello"
	is "$label: reply with a domain name" "$(answered "$1" 2007)" "connected hello"
	is "$label: payload behind the reply in one segment" "$(answered "$1" 2006)" "connected earlyhello"
	is "$label: closing instead of a reply" "$(word "$1" 2002)" ECONNREFUSED
	is "$label: garbage instead of a reply" "$(word "$1" 2003)" ECONNREFUSED
	is "$label: a reset instead of a reply" "$(word "$1" 2004)" ECONNREFUSED
	wait "$silent"
	read -r silent again <"$lab_dir/silent"
	is "$label: no reply: host unreachable after connect-timeout" "$silent" EHOSTUNREACH
	cmp_ok "$label: and not before it" "${again:-0}" -ge 29
}

lab_up
lab_spawn "$lab_s" python3 "$lab_root/tests/tools/socks_script.py" 1080
lab_wait_port "$lab_s" 1080 || exit 1
# where nobody answers
in_gateway ip neigh add 10.2.0.9 lladdr 02:00:00:00:00:09 dev u0
in_gateway ip neigh add fd02::9 lladdr 02:00:00:00:00:09 dev u0

for mode in "${modes[@]}"; do
	mode_set "$mode"
	keys=$lab_tcp_keys count=${#mode_hosts[@]}
	lab_tcp_keys="$keys, connect-timeout: 3s, handshake-timeout: 3s"
	lab_config "$mode_upstream:1080"
	lab_daemon_start || exit 1
	for host in "${mode_hosts[@]}"; do replies "$host"; done
	for name in general_failure not_allowed net_unreachable host_unreachable refused ttl_expired command_unsupported \
		address_unsupported unknown; do
		is "$mode_label: reply $name is counted" "$(lab_stat ".bridge.reply_$name")" "$count"
	done
	oddities "${mode_hosts[0]}"
	is "$mode_label: dials are one per connection" "$(lab_stat '.bridge.dials == .stack.flows_opened')" true
	ok "$mode_label: flows have ended" flows_gone
	ok "$mode_label: no flow holds frames" frames_settled
	ok "$mode_label: connections went that way" mode_went
	lab_daemon_stop

	# nobody listens at the upstream's port, then nobody answers at its address
	lab_config "$mode_upstream:1999"
	lab_daemon_start || exit 1
	down=$(dial "${mode_hosts[0]}" 1000)
	is "$mode_label: upstream down: a reset" "${down% *}" ECONNREFUSED
	cmp_ok "$mode_label: within a second" "${down#* }" -le 9
	is "$mode_label: upstream down: counted" "$(lab_stat .bridge.dial_refused)" 1
	ok "$mode_label: upstream down: nothing is left" flows_gone
	lab_daemon_stop
	lab_tcp_keys="$keys, connect-timeout: 1s"
	lab_config "$(sed 's/::2/::9/;s/\.2$/.9/' <<<"$mode_upstream"):1080"
	lab_daemon_start || exit 1
	gone=$(dial "${mode_hosts[0]}" 1000)
	is "$mode_label: upstream silent: host unreachable" "${gone% *}" EHOSTUNREACH
	cmp_ok "$mode_label: after connect-timeout" "${gone#* }" -ge 9
	ok "$mode_label: upstream silent: nothing is left" flows_gone
	lab_daemon_stop

	# early accept: the client is connected first and reset afterwards; always relayed
	lab_tcp_keys="$keys, accept: early"
	lab_config "$mode_upstream:1080"
	lab_daemon_start || exit 1
	is "$mode_label: early accept: connected" "$(answered "${mode_hosts[0]}" 1000)" "connected hello"
	is "$mode_label: early accept: a refusal comes as a reset" "$(word "${mode_hosts[0]}" 1005 hello)" ECONNRESET
	is "$mode_label: early accept: relayed" "$(lab_stat '[.splice.not_spliced_policy, .splice.handovers] | join(" ")')" "2 0"
	ok "$mode_label: early accept: nothing is left" flows_gone
	lab_daemon_flush
done
tap_done
