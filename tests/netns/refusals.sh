#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a client is told follows what the upstream said (deferred accept): every reply code, dial failures, servers that
# delay, stammer, lie or hang up. IPv4 and IPv6.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (scripted SOCKS5 server: the destination port says what it does)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

dial() { in_client python3 "$lab_root/tests/tools/dial.py" "$@"; }
word() { dial "$@" | cut -d' ' -f1; }

lab_up
lab_spawn "$lab_s" python3 "$lab_root/tests/tools/socks_script.py" 1080
lab_wait_port "$lab_s" 1080 || exit 1
lab_config 10.2.0.2:1080 "tcp: { connect-timeout: 3s, handshake-timeout: 3s }"
lab_daemon_start || exit 1

for host in $lab_target4 $lab_target6; do
	is "$host: success" "$(dial "$host" 1000 hello | cut -d' ' -f1,3)" "connected hello"
	is "$host: general failure is a reset" "$(word "$host" 1001)" ECONNREFUSED
	is "$host: not allowed is unreachable" "$(word "$host" 1002 | sed 's/EACCES\|EHOSTUNREACH/prohibited/')" prohibited
	is "$host: network unreachable" "$(word "$host" 1003)" ENETUNREACH
	is "$host: host unreachable" "$(word "$host" 1004)" EHOSTUNREACH
	is "$host: connection refused" "$(word "$host" 1005)" ECONNREFUSED
	is "$host: TTL expired" "$(word "$host" 1006)" EHOSTUNREACH
	is "$host: command not supported" "$(word "$host" 1007)" ECONNREFUSED
	is "$host: address type not supported" "$(word "$host" 1008)" ENETUNREACH
	is "$host: an unassigned code" "$(word "$host" 1099)" ECONNREFUSED
done
for name in general_failure not_allowed net_unreachable host_unreachable refused ttl_expired command_unsupported \
	address_unsupported unknown; do
	is "reply $name is counted" "$(lab_stat ".bridge.reply_$name")" 2
done
slow=$(dial $lab_target4 2000 hello)
is "a slow target is connected" "$(cut -d' ' -f1,3 <<<"$slow")" "connected hello"
cmp_ok "but not before its upstream said so" "$(cut -d' ' -f2 <<<"$slow")" -ge 20
cmp_ok "the client's repeated SYN opened no second connection" "$(lab_stat .stack.syn_retransmitted_by_client)" -ge 1
is "reply byte by byte" "$(dial $lab_target4 2001 hello | cut -d' ' -f1,3)" "connected hello"
is "reply with a domain name" "$(dial $lab_target4 2007 hello | cut -d' ' -f1,3)" "connected hello"
is "payload behind the reply in one segment" "$(dial $lab_target6 2006 hello | cut -d' ' -f1,3)" "connected earlyhello"
is "closing instead of a reply" "$(word $lab_target4 2002)" ECONNREFUSED
is "garbage instead of a reply" "$(word $lab_target4 2003)" ECONNREFUSED
is "a reset instead of a reply" "$(word $lab_target4 2004)" ECONNREFUSED
silent=$(dial $lab_target4 2005)
is "no reply: host unreachable after connect-timeout" "${silent% *}" EHOSTUNREACH
cmp_ok "and not before it" "${silent#* }" -ge 29
is "dials are one per connection" "$(lab_stat '.bridge.dials == .stack.flows_opened')" true
ok "flows have ended" flows_gone
ok "no flow holds frames" frames_settled
lab_daemon_stop

# nobody listens at the upstream's port, then nobody answers at its address
lab_config 10.2.0.2:1999
lab_daemon_start || exit 1
down=$(dial $lab_target4 1000)
is "upstream down: a reset" "${down% *}" ECONNREFUSED
cmp_ok "within a second" "${down#* }" -le 9
is "upstream down: counted" "$(lab_stat .bridge.dial_refused)" 1
lab_daemon_stop
in_server ip addr add 10.2.0.3/32 dev lo
in_gateway ip neigh add 10.2.0.9 lladdr 02:00:00:00:00:09 dev u0
lab_config 10.2.0.9:1080 "tcp: { connect-timeout: 1s }"
lab_daemon_start || exit 1
gone=$(dial $lab_target6 1000)
is "upstream silent: host unreachable" "${gone% *}" EHOSTUNREACH
cmp_ok "after connect-timeout" "${gone#* }" -ge 9
lab_daemon_stop

# early accept: the client is connected first and reset afterwards
lab_config 10.2.0.2:1080 "tcp: { accept: early }"
lab_daemon_start || exit 1
is "early accept: connected" "$(dial $lab_target4 1000 hello | cut -d' ' -f1,3)" "connected hello"
is "early accept: a refusal comes as a reset" "$(word $lab_target4 1005 hello)" ECONNRESET
lab_daemon_stop
tap_done
