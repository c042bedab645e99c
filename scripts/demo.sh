#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Shows socksplice at work: a lab of three network namespaces, a packaged SOCKS5 server (dante), the real daemon, and
# curl and iperf3 as clients that know nothing of a proxy. Cleans up after itself, also when interrupted.
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/lab.sh"

megabytes=${DEMO_MEGABYTES:-200}
seconds=${DEMO_SECONDS:-4}
failed=0

line() { printf '  %-34s %s\n' "$1" "$2"; }
check() { # check WHAT GOT WANTED FIGURE
	if [ "$2" = "$3" ]; then
		line "$1" "${4:-ok}"
	else
		line "$1" "FAILED: got \"$2\", wanted \"$3\""
		failed=$((failed + 1))
	fi
}
rate() { awk -v b="$1" -v s="$2" 'BEGIN { printf "%.2f Gbit/s", (s > 0 ? b * 8 / s / 1e9 : 0) }'; }
# utime + stime of the daemon, in seconds
cpu_seconds() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$lab_daemon/stat"; }

echo "socksplice demo: client - gateway - server, three network namespaces, veth, congestion control $lab_congestion"
lab_up
mkdir "$lab_dir/www"
echo "hello through socks" >"$lab_dir/www/page"
head -c "${megabytes}000000" /dev/urandom >"$lab_dir/www/big"
want=$(sha256sum <"$lab_dir/www/big" | cut -d' ' -f1)
lab_start_dante && lab_start_web "$lab_dir/www" && lab_start_iperf || exit 1
lab_config
lab_daemon_start || exit 1
"$lab_build/socksplice" status --control "$lab_control" | sed 's/^/  /'

echo "curl"
for host in $lab_target4 "[$lab_target6]"; do
	check "page from $host" "$(in_client curl -gsS -m 10 "http://$host/page" 2>&1)" "hello through socks"
	start=$(date +%s.%N)
	got=$(in_client curl -gsS -m 120 "http://$host/big" | sha256sum | cut -d' ' -f1)
	took=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')
	check "$megabytes MB down, sha256" "$got" "$want" "equal, $(rate "${megabytes}000000" "$took")"
	start=$(date +%s.%N)
	got=$(in_client curl -gsS -m 120 -T "$lab_dir/www/big" "http://$host/put" 2>/dev/null)
	took=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')
	check "$megabytes MB up, sha256" "$got" "$want" "equal, $(rate "${megabytes}000000" "$took")"
done

echo "iperf3, $seconds s each"
for run in "up 1 flow:" "down 1 flow:-R" "up 8 flows:-P 8" "down 8 flows:-P 8 -R"; do
	before=$(cpu_seconds)
	# shellcheck disable=SC2086 # several options
	result=$(in_client iperf3 -J -c $lab_target4 -t "$seconds" ${run#*:} 2>/dev/null)
	bytes=$(jq -r '.end.sum_received.bytes // 0' <<<"$result" 2>/dev/null)
	took=$(jq -r '.end.sum_received.seconds // 0' <<<"$result" 2>/dev/null)
	used=$(awk -v a="$before" -v b="$(cpu_seconds)" 'BEGIN { print b - a }')
	if [ "${bytes:-0}" -gt 0 ] 2>/dev/null; then
		line "${run%%:*}" "$(rate "$bytes" "$took"), daemon $(awk -v u="$used" -v b="$bytes" 'BEGIN { printf "%.2f", u / b * 1e9 }') CPU-s/GB"
	else
		line "${run%%:*}" "FAILED: $(jq -r '.error // "no result"' <<<"$result" 2>/dev/null)"
		failed=$((failed + 1))
	fi
done

echo "what the path did"
sleep 0.3
stats=$("$lab_build/socksplice" stats --json --control "$lab_control")
show() { line "$1" "$(jq -r "$2" <<<"$stats")"; }
show "packets by XDP to AF_XDP" .xdp.to_socket
show "packets passed to the kernel" '.xdp.pass_local + .xdp.pass_not_ip + .xdp.pass_not_tcp'
show "flows accepted after CONNECT" .stack.flows_established
show "payload from / to clients" '"\(.stack.bytes_from_clients) / \(.stack.bytes_to_clients) bytes"'
show "segments sent again" .stack.segments_retransmitted
show "io_uring sends / receives" '"\(.bridge.upstream_sends) / \(.bridge.upstream_receives)"'
show "frames" '.frames | "\(.pool) pool + \(.fill) fill + \(.rx) rx + \(.flows) flows + \(.tx) tx + \(.completion) completion = \(.pool + .fill + .rx + .flows + .tx + .completion) of \(.total)"'
line "daemon CPU" "$(cpu_seconds) s"
lab_daemon_stop || { line "stop" "FAILED: exit code $?"; failed=$((failed + 1)); }

if [ "$failed" -gt 0 ]; then
	echo "$failed step(s) failed"
	exit 1
fi
echo "all steps passed"
