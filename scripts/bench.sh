#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Plain forwarding, redsocks and socksplice side by side, in one run on one machine: bulk up and down with 1 and 8 flows,
# connections per second, ping-pong latency, CPU, and memory. bench_cell.sh makes the labs and measures; here is what is
# measured, and in which order: every run goes through all systems of a table once, each in a fresh lab, so that a ratio
# compares neighbours in time, and connections in TIME-WAIT do not slow down whoever comes later.
#
#   QUICK=1     one second for each bulk and ping case instead of four
#   RUNS=3      how often; medians are printed
#   PARTS="target mtu ..."   only these (default: all)
#     target    the target speaks SOCKS5 itself, segments of 64 KB: bulk, ping-pong, connections per second
#     mtu       the same in frames of the MTU, with and without GRO, tc and XDP
#     memory    idle connections, and what the daemon has to do with spliced bulk
#     dante     a real SOCKS5 server as upstream: dante
#     microsocks   another: microsocks
#     udp       64-byte datagrams: round trips and new endpoints per second
#     pool      an upstream 20 ms away: how long a connection takes to its first byte, with and without warm connections
#     rules     what a list of rules costs per packet, by BPF_PROG_RUN
#     dns       mapped DNS: answers a second, CPU for each, time
#   UPDATE=docs/benchmarks.md   besides, replaces the generated section of that file by the tables
#
# Results as TSV in build/bench/.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build}
runs=${RUNS:-3}
parts=${PARTS:-target mtu memory dante microsocks udp rules pool dns}
export SECONDS_EACH=4 LAB_CONGESTION=${LAB_CONGESTION:-reno}
connections=5000
[ -z "${QUICK:-}" ] || { SECONDS_EACH=1 connections=2000; }
mkdir -p "$build/bench"
results=$build/bench/results-$(date +%Y%m%dT%H%M%S).tsv
failed=0

cell() { # LAB SYSTEM CASE...
	echo "measuring: run $run, $*" >&2
	timeout -k 10 300 "$root/scripts/bench_cell.sh" "$results" "$run" "$@" && return 0
	echo "# $1, $2, run $run: no result, code $?" | tee -a "$results" >&2
	failed=1
}

part_target() {
	local system
	for system in forwarding redsocks relay spliced; do cell gso/target "$system" bulk ping; done
	# 10,000 at most from one client address to one destination in a lab: beyond about 15,000 in TIME-WAIT the search
	# for a free port is what is measured
	for system in forwarding redsocks relay spliced; do cell gso/target "$system" churn:100:10000; done
	for system in forwarding spliced-xdp; do cell mtu-gro-xdp/target "$system" churn:100:10000; done
}
part_mtu() {
	local lab system
	for lab in mtu mtu-gro; do
		for system in forwarding spliced; do cell $lab/target $system bulk; done
	done
	for lab in mtu-xdp mtu-gro-xdp; do
		for system in forwarding spliced-xdp; do cell $lab/target $system bulk; done
	done
}
part_memory() {
	[ "$run" -gt 1 ] || cell gso/target spliced idle:5000
	cell gso/target spliced untouched
}
part_dante() {
	local system
	for system in forwarding redsocks spliced; do cell gso/dante $system bulk; done
}
part_microsocks() {
	local system
	for system in forwarding redsocks relay spliced; do
		cell gso/microsocks $system bulk ping "churn:1:$((connections / 2))" "churn:64:$connections"
	done
	for system in forwarding redsocks relay-xsk spliced; do
		cell mtu/microsocks $system bulk ping "churn:1:$((connections / 2))" "churn:64:$connections"
	done
}
part_pool() {
	local lab system
	for lab in far/target far/password; do
		for system in forwarding relay relay-pool spliced spliced-pool; do cell $lab $system setup:100; done
	done
}
part_rules() {
	echo "measuring: run $run, rules" >&2
	timeout -k 10 300 "$build/tests/bench/rules_bench" ${QUICK:+300000} | awk -v FS='\t' -v OFS='\t' -v run="$run" '{ $3 = run; print }' >>"$results"
	[ "${PIPESTATUS[0]}" -eq 0 ] && return 0
	echo "# rules, run $run: no result" | tee -a "$results" >&2
	failed=1
}

part_dns() {
	cell gso/target dns dns
	cell gso/target dns-xdp dns
}

part_udp() {
	local system
	for system in forwarding udp-socket udp-kernel; do cell gso/udp $system udp; done
	cell gso/udp udp-kernel endpoints:5000
	for system in forwarding udp-kernel-xdp; do cell mtu-gro-xdp/udp $system udp; done
}

for part in $parts; do
	[ "$(type -t "part_$part")" = function ] && continue
	echo "bench.sh: unknown part $part; target, mtu, memory, dante, microsocks, udp, rules, pool and dns are known" >&2
	exit 2
done
{
	echo "## kernel $(uname -r), $(nproc) CPUs ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), everything on them, veth, MTU 1500,"
	echo "## congestion control $LAB_CONGESTION, medians of $runs runs of $SECONDS_EACH s; redsocks 0.5 with splice = true, listenq = 4096,"
	echo "## redsocks_conn_max = 3000"
} >"$results"
for part in $parts; do
	for run in $(seq "$runs"); do "part_$part"; done
done
if [ -n "${UPDATE:-}" ]; then
	python3 "$root/scripts/bench_report.py" "$results" --update "$UPDATE" || exit 1
else
	python3 "$root/scripts/bench_report.py" "$results" || exit 1
fi
echo "all values: $results"
exit $failed
