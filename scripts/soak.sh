#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What takes too long for `make check`; nothing may fail, get stuck, leak or grow. Results: docs/soak.md. Parts, each in a
# lab of its own:
#   tc, xdp  spliced, on that hook: SOAK_CONNECTIONS (default 1,000,000) connections of which the server speaks first
#            (20 KB, in one segment burst with the reply of SOCKS5), 100 at a time; every byte is checked
#   relay    relayed in user space, upstream microsocks: SOAK_CONNECTIONS (default 300,000) of the same kind, then
#            SOAK_GIGABYTES (default 10) each way
#   lossy    spliced, both hooks and both families: 1 GB (SOAK_LOSSY_BYTES) down, then up, in SOAK_LOSSY_FLOWS (default 1)
#            connections at once, while both links lose 1 % of the frames and reorder 1 %; judged by sha256
# SOAK_PARTS="tc xdp relay lossy" chooses.
set -uo pipefail

if [ $# -eq 0 ]; then
	code=0
	for part in ${SOAK_PARTS:-tc xdp relay lossy}; do "$0" "$part" || code=1; done
	[ $code -eq 0 ] && echo "soak: passed" || echo "soak: FAILED"
	exit $code
fi

# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/lab.sh"
part=$1
conns=$lab_build/tests/tools/conns
code=0
wrong() { echo "soak: $part: $*" && code=1; }
field() { sed -n "s/.*\\b$1=\\([0-9.]*\\).*/\\1/p" <<<"$output"; }
descriptors() { find "/proc/$lab_daemon/fd" -mindepth 1 | wc -l; }
resident_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$lab_daemon/status"; }

prepare_namespaces() {
	local name
	for name in "$lab_c" "$lab_g" "$lab_s"; do
		ip netns exec "$name" sysctl -qw net.ipv4.ip_local_port_range="1024 65000" net.ipv4.tcp_tw_reuse=1 \
			net.ipv4.tcp_max_tw_buckets=524288
	done
}

# --- spliced ---

# From one client address to one destination there are 64,000 ports, and with more than about 15,000 of them in TIME-WAIT
# the search for a free one gets slow: so each portion has a destination of its own, and the client's address changes.
portion_connections=10000
declare -A sum=([connections]=0 [failed]=0 [stuck]=0 [wrong]=0 [refused]=0)

portion() { # NUMBER CONNECTIONS
	local key
	ip -n "$lab_c" route replace default via 10.1.0.1 src 10.1.0.$((11 + $1 % 4))
	output=$(in_client timeout 300 "$conns" target 10.9.$((1 + $1 / 200)).$((1 + $1 % 200)) 5007 "$2" 100 100 20000 2>&1)
	if [ -z "$(field connections)" ]; then
		wrong "portion $1: ${output:-conns was ended}"
		return
	fi
	for key in "${!sum[@]}"; do sum[$key]=$((sum[$key] + $(field "$key"))); done
	[ "$(field failed)" = 0 ] || echo "portion $1: $output"
}

server_retransmitted() { in_server nstat -asz TcpRetransSegs | awk '/^TcpRetransSegs/ { print $2 }'; }

report_spliced() {
	printf '%-8s descriptors %s, resident %s KB, entries in use %s, ports in use %s, spliced %s, early data flows %s, SYN-ACKs sent again %s\n' \
		"$1" "$(descriptors)" "$(resident_kb)" "$(lab_stat .splice.entries_in_use)" "$(lab_stat .splice.ports_in_use)" \
		"$(lab_stat .splice.spliced)" "$(lab_stat .splice.early_data_flows)" "$(lab_stat .splice.synacks_resent)"
}

soak_spliced() { # HOOK
	local total=${SOAK_CONNECTIONS:-1000000} done_now=0 number=1 size i
	local descriptors_before resident_before retransmitted began relayed
	# shellcheck disable=SC2119 # a plain lab
	lab_up
	prepare_namespaces
	for i in 11 12 13 14; do ip -n "$lab_c" addr add 10.1.0.$i/24 dev c0; done
	if [ "$1" = xdp ]; then
		# XDP between veths: checksums must be final, and the peer of the way out needs NAPI, which GRO brings
		ip netns exec "$lab_c" ethtool -K c0 tx off gro on >/dev/null
		ip netns exec "$lab_s" ethtool -K s0 tx off gro on >/dev/null
	fi
	lab_start_target || exit 1
	# shellcheck disable=SC2034 # both are lab.sh's
	lab_interface_keys="hook: $1" lab_upstream_keys="ports: 2000-60000"
	lab_config 10.2.0.2:1080 "tcp: { half-open-per-source: 4096 }"
	lab_daemon_start || exit 1
	echo "kernel $(uname -r), $(nproc) CPUs, veth, hook $1, congestion control $lab_congestion, the target speaks SOCKS5"
	portion 0 1000
	sleep 1
	report_spliced begin
	descriptors_before=$(descriptors) resident_before=$(resident_kb) retransmitted=$(server_retransmitted)
	sum[connections]=0 began=$(date +%s)
	while [ "$done_now" -lt "$total" ]; do
		size=$((total - done_now < portion_connections ? total - done_now : portion_connections))
		portion $number $size
		done_now=$((done_now + size)) number=$((number + 1))
		[ $((number % 10)) -ne 1 ] || echo "$done_now of $total" >&2
	done
	echo "$1: ${sum[connections]} connections well in $(($(date +%s) - began)) s, failed ${sum[failed]} (of them stuck ${sum[stuck]}," \
		"wrong bytes ${sum[wrong]}, refused ${sum[refused]}); segments that the server sent again, per connection:" \
		"$(awk -v a="$(server_retransmitted)" -v b="$retransmitted" -v n="$total" 'BEGIN { printf "%.4f", (a - b) / n }')"
	for i in $(seq 60); do
		[ "$(lab_stat .splice.entries_in_use)" = 0 ] && break
		sleep 0.5
	done
	report_spliced end
	[ "${sum[failed]}" -eq 0 ] || wrong "connections failed"
	[ "${sum[connections]}" -eq "$total" ] || wrong "${sum[connections]} of $total connections were made"
	[ "$(lab_stat '.splice.entries_in_use + .splice.ports_in_use')" = 0 ] || wrong "entries or ports are still in use after $((i / 2)) s"
	[ "$(descriptors)" -le "$descriptors_before" ] || wrong "descriptors: $descriptors_before, then $(descriptors)"
	# every entry's part in user space, about 7 MB, is touched only when it is first used
	[ $(($(resident_kb) - resident_before)) -lt 16384 ] || wrong "resident: $resident_before KB, then $(resident_kb) KB"
	relayed=$(lab_stat '.splice | with_entries(select((.key | startswith("not_spliced_")) and .value > 0)) | tojson')
	[ "$relayed" = "{}" ] || wrong "some were not spliced: $relayed"
	# the portion before `begin` counts
	[ "$(lab_stat .splice.handovers)" = $((total + 1000)) ] || wrong "handovers: $(lab_stat .splice.handovers)"
}

# --- relayed ---

report_relayed() {
	printf '%-10s descriptors %s, resident %s KB, frames free %s, established %s, sent again %s, evicted %s\n' "$1" \
		"$(descriptors)" "$(resident_kb)" \
		"$(lab_stat .frames.pool)" "$(lab_stat .stack.established_now)" "$(lab_stat .stack.segments_retransmitted)" \
		"$(lab_stat '.stack.flows_evicted_total + .stack.flows_evicted_per_source')"
}

soak_relayed() {
	local connections=${SOAK_CONNECTIONS:-300000} gigabytes=${SOAK_GIGABYTES:-10} direction
	# shellcheck disable=SC2119 # a plain lab
	lab_up
	prepare_namespaces
	lab_spawn "$lab_s" "$conns" serve 7000 20000
	lab_start_microsocks && lab_start_iperf || exit 1
	lab_wait_port "$lab_s" 7000 || exit 1
	lab_config 10.2.0.2:1080 "tcp: { relay: userspace, half-open-per-source: 4096 }"
	lab_daemon_start || exit 1
	echo "kernel $(uname -r), $(nproc) CPUs, veth, relayed, congestion control $lab_congestion, upstream microsocks"
	in_client timeout 300 "$conns" run $lab_target4 7000 1000 100 200 20000 >/dev/null
	report_relayed begin
	in_client timeout 7200 "$conns" run $lab_target4 7000 "$connections" 100 200 20000 || code=1
	sleep 3
	report_relayed churned
	for direction in "" -R; do
		# shellcheck disable=SC2086 # nothing or an option
		in_client timeout 1800 iperf3 -c $lab_target4 -n "${gigabytes}G" -P 4 $direction | grep -E 'SUM.*receiver' || code=1
	done
	sleep 3
	report_relayed end
	[ "$(lab_stat '.frames | (.pool + .fill + .rx + .flows + .tx + .completion) == .total and .flows == .flows_recv')" = true ] ||
		wrong "frames are missing: $(lab_stat .frames)"
}

# --- spliced, over bad links ---

# Of both ends: blocks of SACK that made no sense, segments that were too old by their timestamp, segments sent again.
# Plain forwarding finds none of the first either. Some of the second come with reordering: the original of a segment
# that was sent again too soon. Wrong timestamps would make it nearly all.
lossy_counts() {
	local name end
	for name in TcpExtTCPSACKDiscard TcpExtPAWSEstab TcpRetransSegs; do
		echo $(($(for end in "$lab_c" "$lab_s"; do splice_counter "$end" "$name"; done | paste -sd+)))
	done
}

# transfers down|up HOST: all flows at once, each of a file of its own; prints the digests in the order of the files
transfers() {
	local i pids=()
	for ((i = 0; i < flows; i++)); do
		if [ "$1" = down ]; then
			in_client sh -c "curl -sS -m 3000 http://$2/$i | sha256sum" >"$lab_dir/digest.$i" &
		else
			in_client curl -sS -m 3000 -T "$lab_dir/files/$i" "http://$2/" >"$lab_dir/digest.$i" &
		fi
		pids+=($!)
	done
	wait "${pids[@]}"
	for ((i = 0; i < flows; i++)); do cut -d' ' -f1 "$lab_dir/digest.$i"; done
}

lossy_transfer() { # HOOK FAMILY down|up; HOOK none: forwarded by the kernel
	local host=${splice_target[$2]} began got before after
	[ "$2" = 4 ] || host="[$host]"
	mapfile -t before < <(lossy_counts)
	began=$(date +%s%N)
	got=$(transfers "$3" "$host")
	mapfile -t after < <(lossy_counts)
	found=($((after[0] - before[0])) $((after[1] - before[1])) $((after[2] - before[2])))
	printf '%-4s IPv%s %-4s %s bytes, %s s, sent again %s, SACK discarded %s, too old %s: ' "$1" "$2" "$3" \
		"$((bytes / flows * flows))" "$((($(date +%s%N) - began) / 1000000000))" "${found[2]}" "${found[0]}" "${found[1]}"
	if [ "$got" = "$digests" ]; then echo "sha256 equal"; else echo "sha256 DIFFERS" && wrong "$1, IPv$2, $3: $got"; fi
}

soak_lossy() {
	local bytes=${SOAK_LOSSY_BYTES:-1000000000} flows=${SOAK_LOSSY_FLOWS:-1} digests hook family direction i found forwarded
	# shellcheck source=tests/netns/splice_lab.sh
	. "$(dirname "$0")/../tests/netns/splice_lab.sh"
	splice_bad_links
	ip -n "$lab_g" route add $lab_target4 via 10.2.0.2
	mkdir "$lab_dir/files"
	for ((i = 0; i < flows; i++)); do head -c $((bytes / flows)) /dev/urandom >"$lab_dir/files/$i"; done
	digests=$(cd "$lab_dir/files" && for ((i = 0; i < flows; i++)); do sha256sum <"$i" | cut -d' ' -f1; done)
	lab_start_dante && lab_start_web "$lab_dir/files" || exit 1
	splice_links "loss=1 reorder=1 seed=42" "loss=1 reorder=1 seed=43"
	echo "kernel $(uname -r), $(nproc) CPUs, veth, both links lose 1 % and reorder 1 %, congestion control $lab_congestion," \
		"flows: $flows, upstream dante"
	ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=1
	lossy_transfer none 4 down
	forwarded=("${found[@]}")
	ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=0
	for hook in tc xdp; do
		for family in 4 6; do
			splice_start "$hook" "$family"
			for direction in down up; do
				lossy_transfer "$hook" "$family" "$direction"
				[ "${found[0]}" -eq 0 ] || wrong "$hook, IPv$family, $direction: blocks of SACK were discarded"
				# three times forwarding's share
				[ $((found[1] * forwarded[2])) -le $((3 * forwarded[1] * found[2] + 10 * forwarded[2])) ] ||
					wrong "$hook, IPv$family, $direction: too many segments were too old"
			done
			[ "$(splice_stat spliced)" = $((2 * flows)) ] || wrong "$hook, IPv$family: not all were spliced"
			splice_path "$hook" >/dev/null || wrong "$hook, IPv$family: $(splice_path "$hook")"
			splice_stop
		done
	done
}

case $part in
lossy)
	soak_lossy
	[ $code -eq 0 ] && echo "soak: $part: passed" || echo "soak: $part: FAILED"
	exit $code
	;;
tc | xdp) soak_spliced "$part" ;;
relay) soak_relayed ;;
*)
	echo "soak.sh: unknown part $part; tc, xdp, relay and lossy are known" >&2
	exit 2
	;;
esac
lab_daemon_stop || wrong "the daemon ended with code $?"
[ $code -eq 0 ] && echo "soak: $part: passed" || echo "soak: $part: FAILED"
exit $code
