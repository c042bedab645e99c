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

echo "the daemon is killed and started again during a transfer"
lab_daemon_stop KILL
line "killed before it began" "$(in_client curl -sS -m 2 "http://$lab_target4/page" 2>&1 | head -n 1)"
lab_daemon_start || exit 1
in_client curl -gsS -m 120 --limit-rate 100M "http://$lab_target4/big" >"$lab_dir/got" 2>/dev/null &
transfer=$!
sleep 0.7
lab_daemon_stop KILL
sleep 0.5
lab_daemon_start || exit 1
line "the new daemon took over" "$(lab_stat .splice.adopted) connections"
wait "$transfer"
check "$megabytes MB down, sha256" "$(sha256sum <"$lab_dir/got" | cut -d' ' -f1)" "$want" "equal"

echo "one connection, step by step (socksplice trace)"
(sleep 0.5; in_client curl -gsS -m 10 "http://$lab_target4/page" >/dev/null 2>&1) &
timeout 10 "$lab_build/socksplice" trace --control "$lab_control" 2>/dev/null | sed 's/^/  /'

echo "what the path did"
sleep 0.3
stats=$("$lab_build/socksplice" stats --json --control "$lab_control")
show() { line "$1" "$(jq -r "$2" <<<"$stats")"; }
show "packets rewritten in the kernel" '.bpf.spliced_tc + .bpf.spliced_xdp'
show "packets to the daemon" '.bpf.to_tap + .bpf.to_socket'
show "connections spliced / relayed" '"\(.splice.spliced + .splice.adopted) / \(.stack.flows_established)"'
show "relayed, as IPv6 over IPv4" .splice.not_spliced_family
show "payload relayed from / to clients" '"\(.stack.bytes_from_clients) / \(.stack.bytes_to_clients) bytes"'
show "frames" '.frames | "\(.pool) pool + \(.fill) fill + \(.rx) rx + \(.flows) flows + \(.tx) tx + \(.completion) completion = \(.pool + .fill + .rx + .flows + .tx + .completion) of \(.total)"'
line "daemon CPU" "$(cpu_seconds) s"
check "stop --flush" "$("$lab_build/socksplice" stop --flush --control "$lab_control" 2>&1)" "" "programs, pins and reserved ports are gone"
lab_daemon=""

if [ "$failed" -gt 0 ]; then
	echo "$failed step(s) failed"
	exit 1
fi
echo "all steps passed"
