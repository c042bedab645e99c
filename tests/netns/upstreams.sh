#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Real SOCKS5 servers as upstream: dante, microsocks with and without user/password, shadowsocks-libev, OpenSSH.
# For each: a page and 3 MB up, IPv4 and IPv6; a wrong password is refused.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (SOCKS5 server on port 1080, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

lab_up
mkdir "$lab_dir/www"
echo hello >"$lab_dir/www/page"
head -c 3000000 /dev/urandom >"$lab_dir/www/small"
want=$(sha256sum <"$lab_dir/www/small" | cut -d' ' -f1)
lab_start_web "$lab_dir/www" || exit 1

# try NAME: through the server that runs now
try() {
	lab_daemon_start || exit 1
	for host in $lab_target4 "[$lab_target6]"; do
		is "$1: page from $host" "$(in_client curl -gsS -m 10 "http://$host/page" 2>&1)" hello
		is "$1: 3 MB up to $host" "$(in_client curl -gsS -m 30 -T "$lab_dir/www/small" "http://$host/put" 2>&1)" "$want"
	done
	ok "$1: flows have ended" flows_gone
	is "$1: frames add up" "$(frames_balanced)" true
	lab_daemon_stop
}
# the servers share the port
end_servers() {
	local pid
	lab_end "$@"
	for pid in $(seq 50); do in_server ss -Hltn 'sport = :1080' | grep -q . || return 0; sleep 0.1; done
}

lab_config
lab_start_dante || exit 1
try dante
end_servers "$lab_last"
# over IPv6 to the upstream
lab_config "[fd02::2]:1080"
lab_start_microsocks -i :: || exit 1
try "microsocks over IPv6"
end_servers "$lab_last"

lab_upstream_keys="username: alice, password: 'pass word'"
lab_config
lab_start_microsocks -u alice -P 'pass word' || exit 1
try "microsocks with password"
lab_upstream_keys="username: alice, password: 'pass word', pipeline: true"
lab_config
lab_daemon_start || exit 1
is "pipelined handshake" "$(in_client curl -gsS -m 10 "http://$lab_target4/page" 2>&1 | grep -c .)" 1
lab_daemon_stop
lab_upstream_keys="username: alice, password: wrong"
lab_config
lab_daemon_start || exit 1
in_client curl -gsS -m 10 "http://$lab_target4/page" >/dev/null 2>&1
is "wrong password: curl cannot connect" "$?" 7
is "wrong password: counted" "$(lab_stat .bridge.auth_rejected)" 1
is "wrong password: not in the log" "$(grep -c 'wrong' "$lab_dir/daemon.log")" 0
lab_daemon_stop
end_servers "$lab_last"

lab_upstream_keys=""
lab_config
lab_start_shadowsocks || exit 1
try shadowsocks-libev
end_servers "$lab_last"
lab_start_ssh || exit 1
try "OpenSSH -D"
tap_done
