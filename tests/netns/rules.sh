#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Rules between real hosts: a bypass list, drop, reject, ports, sources; TCP, UDP and ICMP, IPv4 and IPv6, on both hooks,
# spliced and relayed, and decided in user space. The gateway forwards, so what is direct arrives with the client's own
# address, and what should not leave would be seen. Once for each of SPLICE_MODES (splice_lab.sh).
#
#   client c0 ── l0 gateway (daemon, forwarding) u0 ── s0 server: microsocks, and a service that tells who asks
#     10.1.0.2                                           lo 10.9.0.N, fd09::N:  1 proxied  2 direct  3 dropped  4 rejected
#     10.1.0.66 (dropped)                                                       5 direct on some ports only
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"
# shellcheck source=tests/netns/rules_lab.sh
. "$(dirname "$0")/rules_lab.sh"

rules="rules:
  - { src: [10.1.0.66, 'fd01::66'], action: drop }
  - { dst: [10.9.0.2, 'fd09::2'], action: direct }
  - { dst: [10.9.0.3, 'fd09::3'], action: drop }
  - { dst: [10.9.0.4, 'fd09::4'], action: reject }
  - { dst: [10.9.0.5, 'fd09::5'], proto: tcp, dport: [7001, 7010-7011], action: direct }
  - { dst: [10.9.0.5, 'fd09::5'], proto: udp, dport: 7001, action: reject }
  - { dst: [10.9.0.5, 'fd09::5'], proto: icmp, action: drop }
  - { dst: [10.9.0.0/24, 'fd09::/64'], action: proxy, upstream: main }
  - { dst: [0.0.0.0/0, '::/0'], action: drop }"

# ping_says HOST: how an echo request ends
ping_says() { in_client ping -n -c 1 -W 0.8 "$1" 2>&1 | grep -o '1 received\|Packet filtered\|administratively prohibited\|Administratively prohibited' | head -n 1; }

# relay_keys: how many relayed flows the kernel knows
relay_keys() { bpftool -j map dump pinned "$lab_bpf/pin/flow_keys" | jq '[.[] | select((.value | .[0:4]) == ["0xff", "0xff", "0xff", "0xff"])] | length'; }

# tcp_ways LABEL NET: NET is 10.9.0. or fd09::
tcp_ways() {
	is "$1: TCP to what no rule exempts is proxied" "$(ask tcp "${2}1" 7000)" proxied
	is "$1: TCP direct: the server sees the client" "$(ask tcp "${2}2" 7000)" direct
	is "$1: TCP drop: nothing is heard" "$(ask tcp "${2}3" 7000)" timeout
	is "$1: TCP reject: a reset" "$(ask tcp "${2}4" 7000)" ECONNREFUSED
	is "$1: TCP direct by port" "$(ask tcp "${2}5" 7001)" direct
	is "$1: the first port of a range" "$(ask tcp "${2}5" 7010)" direct
	is "$1: the last" "$(ask tcp "${2}5" 7011)" direct
	is "$1: the one behind it" "$(ask tcp "${2}5" 7012)" proxied
}

# other_ways LABEL NET ERROR: UDP and ICMP; ERROR is what the prohibition is called in this family
other_ways() {
	# microsocks carries none
	is "$1: UDP that is to be proxied does not pass" "$(ask udp "${2}1" 7000)" ECONNREFUSED
	is "$1: UDP direct" "$(ask udp "${2}2" 7000)" direct
	is "$1: UDP drop" "$(ask udp "${2}3" 7000)" timeout
	is "$1: UDP reject: administratively prohibited" "$(ask udp "${2}4" 7000)" "$3"
	is "$1: UDP reject by port" "$(ask udp "${2}5" 7001)" "$3"
	is "$1: UDP to another port" "$(ask udp "${2}5" 7002)" ECONNREFUSED
	is "$1: ping direct" "$(ping_says "${2}2")" "1 received"
	is "$1: ping drop" "$(ping_says "${2}5")" ""
	ok "$1: ping reject: prohibited" grep -qi "filtered\|prohibited" <<<"$(ping_says "${2}4")"
}

rules_up
modes=()
for hook in "${splice_modes[@]}"; do modes+=("$hook auto" "$hook userspace"); done
for mode in "${modes[@]}"; do
	read -r hook relay <<<"$mode"
	lab_tcp_keys="relay: $relay"
	splice_start "$hook" 4 "$rules"
	tcp_ways "$mode, IPv4" 10.9.0.
	tcp_ways "$mode, IPv6" fd09::
	other_ways "$mode, IPv4" 10.9.0. EHOSTUNREACH
	other_ways "$mode, IPv6" fd09:: EACCES
	is "$mode: a source that is dropped" "$(ask tcp 10.9.0.1 7000 10.1.0.66)" timeout
	is "$mode: a source that is dropped, IPv6" "$(ask tcp fd09::1 7000 fd01::66)" timeout
	is "$mode: the gateway itself is not judged" "$(ask tcp 10.1.0.1 7000)" ECONNREFUSED
	if [ "$relay" = auto ]; then
		# IPv6 clients over an IPv4 upstream are relayed
		is "$mode: what is proxied is spliced" "$(lab_stat '.splice.spliced > 0 and .splice.not_spliced_family > 0')" true
	else
		is "$mode: what is proxied is relayed" "$(lab_stat '.splice.spliced == 0 and .stack.flows_established > 0')" true
	fi
	cmp_ok "$mode: direct is counted" "$(lab_stat .bpf.pass_direct)" -gt 10
	cmp_ok "$mode: drop is counted" "$(lab_stat .bpf.drop_rule)" -ge 8
	# 2 of TCP (its SYN is not repeated), 2 + 2 of UDP, 2 pings
	is "$mode: reject is counted" "$(lab_stat .stack.rule_rejected)" 8
	# and 2 + 2 for what no upstream takes
	is "$mode: by ICMP" "$(lab_stat .stack.icmp_sent)" 10
	is "$mode: status tells" "$("$lab_build/socksplice" status --json --control "$lab_control" | jq -c .rules)" \
		'{"count":9,"prefixes":18}'
	ok "$mode: nothing is left" flows_gone
	is "$mode: no key of a relayed flow is missing" "$(lab_stat .bridge.relay_keys_missing)" 0

	# direct goes on without the daemon, dropped stays dropped, and nobody answers
	lab_daemon_stop KILL
	leaks_begin 10.9.0.1 10.9.0.3 10.9.0.4 fd09::1 fd09::3 fd09::4
	for net in 10.9.0. fd09::; do
		asking=()
		for asked in tcp-"$net"{1,3,4} udp-"${net}4"; do
			ask "${asked%%-*}" "${asked#*-}" 7000 >"$lab_dir/$asked" &
			asking+=("$!")
		done
		is "$mode, killed: TCP direct to ${net}2" "$(ask tcp "${net}2" 7000)" direct
		is "$mode, killed: UDP direct to ${net}2" "$(ask udp "${net}2" 7000)" direct
		wait "${asking[@]}"
		for asked in tcp-"$net"{1,3,4} udp-"${net}4"; do
			is "$mode, killed: $asked" "$(<"$lab_dir/$asked")" timeout
		done
	done
	is "$mode, killed: nothing leaves that should not" "$(leaks_end)" 0
	splice_stop
done

# a later daemon with other rules, and none
hook=${splice_modes[0]}
lab_tcp_keys="accept: early, linger: 10s"
splice_start "$hook" 4 "$rules"
is "early accept: reject comes before the connection" "$(ask tcp 10.9.0.4 7000)" ECONNREFUSED
is "early accept: proxied" "$(ask tcp 10.9.0.1 7000)" proxied
# of what rests in TIME-WAIT
cmp_ok "a killed daemon leaves keys of relayed flows" "$(relay_keys)" -ge 1
lab_daemon_stop KILL
lab_config 10.2.0.2:1080
lab_daemon_start || exit 1
is "the next one removes them" "$(relay_keys)" 0
is "a start without rules: proxied" "$(ask tcp 10.9.0.4 7000)" proxied
is "UDP too: refused by an upstream that has none" "$(ask udp 10.9.0.4 7000)" ECONNREFUSED
splice_stop

# user space decides alone
for hook in "${splice_modes[@]}"; do
	lab_tcp_keys="idle-timeout: 1m"
	splice_start "$hook" 4 "performance: { enable_ebpf: false }
rules:
  - { dst: [10.9.0.3, 'fd09::3'], proto: tcp, action: drop }
  - { dst: [10.9.0.4, 'fd09::4'], proto: tcp, dport: 7000, action: reject }
  - { src: 10.1.0.66, proto: tcp, action: reject }"
	for net in 10.9.0. fd09::; do
		is "$hook, enable_ebpf: false: proxied to ${net}1" "$(ask tcp "${net}1" 7000)" proxied
		is "$hook, enable_ebpf: false: drop to ${net}3" "$(ask tcp "${net}3" 7000)" timeout
		is "$hook, enable_ebpf: false: reject to ${net}4" "$(ask tcp "${net}4" 7000)" ECONNREFUSED
		is "$hook, enable_ebpf: false: another port" "$(ask tcp "${net}4" 7001)" proxied
	done
	is "$hook, enable_ebpf: false: a source" "$(ask tcp 10.9.0.1 7000 10.1.0.66)" ECONNREFUSED
	is "$hook, enable_ebpf: false: the kernel has no rules" "$(lab_stat '[.bpf.pass_direct, .bpf.drop_rule] | add')" 0
	is "$hook, enable_ebpf: false: user space counts" "$(lab_stat '.stack.rule_rejected == 3 and .drops.rule >= 2')" true
	splice_stop
done
tap_done
