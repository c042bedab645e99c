#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Plain forwarding, redsocks and socksplice side by side, in one run on one machine: bulk up and down with 1 and 8 flows,
# connections per second, ping-pong latency, and CPU. Two labs: veth with its segmentation offload (GSO), and MTU frames
# (TSO, GSO and GRO off everywhere, which is what a NIC at MTU 1500 delivers). Upstream of both proxies: the same microsocks.
#   QUICK=1: three short runs of each; otherwise longer ones. Results as TSV in build/bench/.
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/lab.sh"

runs=3 seconds=2 connections=2000
[ -n "${QUICK:-}" ] || { runs=5 seconds=5 connections=10000; }
conns=$lab_build/tests/tools/conns
mkdir -p "$lab_build/bench"
results=$lab_build/bench/results-$(date +%Y%m%dT%H%M%S).tsv

# busy seconds of the whole machine: everything but idle and waiting
machine_cpu() { awk -v hz="$(getconf CLK_TCK)" '/^cpu / { print ($2 + $3 + $4 + $7 + $8) / hz }' /proc/stat; }
process_cpu() { [ -n "$1" ] && awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$1/stat" 2>/dev/null || echo 0; }
record() { printf '%s\t%s\t%s\t%s\n' "$lab" "$system" "$1" "$2" >>"$results"; } # METRIC VALUE
median() { sort -g | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : "" }'; }

# measured PROXY-PID COMMAND...: runs it; its output in $output, CPU seconds in $used_machine and $used_proxy
measured() {
	local proxy=$1 machine_before proxy_before
	shift
	machine_before=$(machine_cpu) proxy_before=$(process_cpu "$proxy")
	output=$("$@" 2>/dev/null)
	used_machine=$(awk -v a="$machine_before" -v b="$(machine_cpu)" 'BEGIN { print b - a }')
	used_proxy=$(awk -v a="$proxy_before" -v b="$(process_cpu "$proxy")" 'BEGIN { print b - a }')
}
field() { sed -n "s/.*\\b$1=\\([0-9.]*\\).*/\\1/p" <<<"$output"; }

bulk() { # METRIC PROXY-PID IPERF-OPTIONS
	local metric=$1 proxy=$2 bytes
	measured "$proxy" in_client iperf3 -J -c $lab_target4 -t "$seconds" "${@:3}"
	bytes=$(jq -r '.end.sum_received.bytes // 0' <<<"$output")
	record "$metric" "$(jq -r '(.end.sum_received.bits_per_second // 0) / 1e9' <<<"$output")"
	[ "${bytes:-0}" -gt 0 ] || return 0
	record "machine CPU-s/GB $metric" "$(awk -v u="$used_machine" -v b="$bytes" 'BEGIN { print u / b * 1e9 }')"
	record "proxy CPU-s/GB $metric" "$(awk -v u="$used_proxy" -v b="$bytes" 'BEGIN { print u / b * 1e9 }')"
}
churn() { # METRIC PROXY-PID TOTAL AT-ONCE
	local count
	measured "$2" in_client "$conns" run $lab_target4 7000 "$3" "$4" 100
	count=$(field connections)
	[ "$(field failed)" = 0 ] || echo "bench: $lab, $system: $(field failed) connections failed" >&2
	record "$1" "$(field rate)"
	[ "${count:-0}" -gt 0 ] || return 0
	record "machine us/connection $1" "$(awk -v u="$used_machine" -v c="$count" 'BEGIN { print u / c * 1e6 }')"
	record "proxy us/connection $1" "$(awk -v u="$used_proxy" -v c="$count" 'BEGIN { print u / c * 1e6 }')"
}
all_cases() { # PROXY-PID
	local i
	for i in $(seq "$runs"); do
		bulk "up 1" "$1"
		bulk "down 1" "$1" -R
		bulk "up 8" "$1" -P 8
		bulk "down 8" "$1" -P 8 -R
		churn "conn/s c1" "$1" "$((connections / 2))" 1
		churn "conn/s c64" "$1" "$connections" 64
		measured "$1" in_client "$conns" ping $lab_target4 7000 1 64
		record "ping p50 us" "$(field p50_us)"
		record "ping p99 us" "$(field p99_us)"
	done
}

forwarding_on() { ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=1; }
forwarding_off() { ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=0; }

start_redsocks() {
	cat >"$lab_dir/redsocks.conf" <<-END
		base { log_debug = off; log_info = off; log = "file:$lab_dir/redsocks.log"; daemon = off; redirector = iptables;
		       rlimit_nofile = 20000; redsocks_conn_max = 3000; }
		redsocks { local_ip = 0.0.0.0; local_port = 12345; ip = 10.2.0.2; port = 1080; type = socks5; splice = true; listenq = 4096; }
	END
	ip netns exec "$lab_g" iptables -t nat -A PREROUTING -i l0 -p tcp ! -d 10.1.0.1 -j REDIRECT --to-ports 12345 || return 1
	lab_spawn "$lab_g" redsocks -c "$lab_dir/redsocks.conf"
	redsocks=$lab_last
	lab_wait_port "$lab_g" 12345
}
stop_redsocks() {
	lab_end "$redsocks"
	ip netns exec "$lab_g" iptables -t nat -F PREROUTING
}

# ports of thousands of short connections must not run out during a run
lab_prepare() {
	local name
	for name in "$lab_c" "$lab_g" "$lab_s"; do
		ip netns exec "$name" sysctl -qw net.ipv4.ip_local_port_range="1100 65000" net.ipv4.tcp_tw_reuse=1
	done
}

lab_up
lab_prepare
lab_start_microsocks && lab_start_iperf || exit 1
lab_spawn "$lab_s" "$conns" serve 7000
lab_wait_port "$lab_s" 7000 || exit 1
lab_config 10.2.0.2:1080 "tcp: { half-open-per-source: 4096 }"
for lab in GSO MTU-frames; do
	[ $lab = GSO ] || lab_mtu_frames
	system=forwarding
	echo "measuring: $lab, $system" >&2
	forwarding_on
	all_cases ""
	forwarding_off
	system=redsocks
	echo "measuring: $lab, $system" >&2
	start_redsocks || exit 1
	all_cases "$redsocks"
	stop_redsocks
	system=socksplice
	echo "measuring: $lab, $system" >&2
	lab_daemon_start || exit 1
	all_cases "$lab_daemon"
	lab_daemon_stop
done

echo "kernel $(uname -r), $(nproc) CPUs ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), everything on them, veth, MTU 1500,"
echo "congestion control $lab_congestion, upstream microsocks, medians of $runs runs of $seconds s; redsocks 0.5 with splice = true"
python3 "$lab_root/scripts/bench_report.py" "$results"
echo "all values: $results"
