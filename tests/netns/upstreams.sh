#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Real SOCKS5 servers as upstream: dante, microsocks with and without user/password, shadowsocks-libev, OpenSSH.
# For some also the handshake in one flight. For each: a page and 3 MB up, IPv4 and IPv6, relayed and spliced (modes.sh); a wrong password is refused.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (SOCKS5 server on port 1080, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

lab_up
mkdir "$lab_dir/www"
echo hello >"$lab_dir/www/page"
head -c 3000000 /dev/urandom >"$lab_dir/www/small"
want=$(sha256sum <"$lab_dir/www/small" | cut -d' ' -f1)
lab_start_web "$lab_dir/www" || exit 1

# begin: the daemon, for the mode that is set
begin() {
	lab_config "$mode_upstream:1080"
	lab_daemon_start || exit 1
}
# fetch NAME: a page
fetch() {
	local host
	for host in "${mode_hosts[@]}"; do
		is "$mode_label: $1: page from $host" "$(in_client curl -gsS -m 10 "http://$(mode_url "$host")/page" 2>&1)" hello
	done
}
# try NAME FAMILY...: all ways to the server that runs now and listens on addresses of these families
try() {
	local name=$1 families=" ${*:2} " mode host family
	for mode in "${modes[@]}"; do
		mode_set "$mode"
		case $mode_upstream in *:*) family=6 ;; *) family=4 ;; esac
		[[ $families = *" $family "* ]] || continue
		begin
		fetch "$name"
		for host in "${mode_hosts[@]}"; do
			is "$mode_label: $name: 3 MB up to $host" \
				"$(in_client curl -gsS -m 30 -T "$lab_dir/www/small" "http://$(mode_url "$host")/put" 2>&1)" "$want"
		done
		ok "$mode_label: $name: flows have ended" flows_gone
		ok "$mode_label: $name: connections went that way" mode_went
		is "$mode_label: $name: frames add up" "$(frames_balanced)" true
		lab_daemon_flush
	done
}
# the servers share the port
end_servers() {
	local pid
	lab_end "$@"
	for pid in $(seq 50); do in_server ss -Hltn 'sport = :1080' | grep -q . || return 0; sleep 0.1; done
}

lab_start_dante || exit 1
try dante 4 6
# microsocks takes whatever one read brings for one message
lab_upstream_keys="pipeline: true"
try "dante, pipelined" 4 6
end_servers "$lab_last"

lab_start_microsocks -i :: -u alice -P 'pass word' || exit 1
lab_upstream_keys="username: alice, password: 'pass word'"
try "microsocks with password" 4 6
lab_upstream_keys="username: alice, password: wrong"
for mode in "${modes[@]}"; do
	mode_set "$mode"
	begin
	in_client curl -gsS -m 10 "http://$(mode_url "${mode_hosts[0]}")/page" >/dev/null 2>&1
	is "$mode_label: wrong password: curl cannot connect" "$?" 7
	is "$mode_label: wrong password: counted" "$(lab_stat .bridge.auth_rejected)" 1
	ok "$mode_label: wrong password: flows have ended" flows_gone
	lab_daemon_flush
done
is "wrong password: not in the log" "$(grep -c 'wrong' "$lab_dir/daemon.log")" 0
end_servers "$lab_last"

lab_start_target || exit 1
lab_upstream_keys="username: alice, password: 'pass word', pipeline: true"
for mode in "${modes[@]}"; do
	mode_set "$mode"
	begin
	for host in "${mode_hosts[@]}"; do
		ok "$mode_label: pipelined with password: 50 connections to $host" \
			in_client "$lab_build/tests/tools/conns" target "$host" 5003 50 5 1000 0
	done
	ok "$mode_label: pipelined with password: flows have ended" flows_gone
	ok "$mode_label: pipelined with password: connections went that way" mode_went
	lab_daemon_flush
done
end_servers "$lab_last"
lab_upstream_keys=""

lab_start_microsocks -i :: || exit 1
try microsocks 6
end_servers "$lab_last"
lab_start_shadowsocks || exit 1
try shadowsocks-libev 4
end_servers "$lab_last"
lab_start_ssh || exit 1
try "OpenSSH -D" 4

# the upstream is of the other family than the client: relayed, and said so
lab_interface_keys="" lab_tcp_keys=""
lab_config
lab_daemon_start || exit 1
is "client IPv6, upstream IPv4: page" "$(in_client curl -gsS -m 10 "http://[$lab_target6]/page" 2>&1)" hello
is "client IPv6, upstream IPv4: relayed for that reason" \
	"$(lab_stat '[.splice.not_spliced_family, .splice.handovers, .stack.flows_established] | join(" ")')" "1 0 1"
lab_daemon_flush
tap_done
