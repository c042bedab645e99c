#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One cell of the tables of bench.sh: a fresh lab, one system in its gateway, each case once. Appends to a TSV of
# lab, system, run, metric, value; what makes a figure doubtful is a line that begins with "# ".
#
#   bench_cell.sh RESULTS RUN LAB SYSTEM CASE...
#
#   LAB     SHAPE/UPSTREAM
#           gso          veth as it is: segments of 64 KB, checksums left to the receiver
#           mtu          frames of the MTU: TSO, GSO and GRO off at all ends
#           mtu-gro      the same with GRO on at all ends
#           mtu-xdp      for XDP between veths: as mtu, besides `tx off` at the hosts (XDP cannot finish a checksum), and
#                        NAPI there without GRO (by an XDP program that passes all), as XDP redirect into a veth needs
#                        NAPI at its peer
#           mtu-gro-xdp  as mtu-gro, besides `tx off` at the hosts; GRO brings the NAPI
#           far          the uplink goes through tests/tools/linkem: 20 ms there and back
#           target       speaks SOCKS5 itself, so that only the gateway is measured
#           password     microsocks that wants a user and a password
#           dante, microsocks   real servers, which relay to the target
#           udp          relay and target of UDP (tests/tools/udp_target.c)
#   SYSTEM  forwarding, redsocks, relay (TAP), relay-xsk (AF_XDP), spliced (tc), spliced-xdp; relay-pool and spliced-pool have
#           warm connections; of UDP: udp-socket (user space, TAP), udp-kernel (tc), udp-kernel-xdp; dns (tc), dns-xdp:
#           mapped DNS besides
#   CASE    bulk, ping, churn:AT-ONCE:TOTAL, setup:TOTAL, idle:CONNECTIONS, untouched, udp, endpoints:RATE, dns
#
# SECONDS_EACH (default 1): how long each bulk and ping case is measured.
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/lab.sh"

results=$1 run=$2 lab=$3 system=$4 cases=("${@:5}")
shape=${lab%/*} upstream=${lab#*/}
seconds=${SECONDS_EACH:-1}
tools=$lab_build/tests/tools
proxy=0 # the process between client and upstream; 0: none

record() { printf '%s\t%s\t%s\t%s\t%s\n' "$lab" "$system" "$run" "$1" "$2" >>"$results"; } # METRIC VALUE
doubt() { echo "# $lab, $system, run $run: $*" | tee -a "$results" >&2; }
field() { sed -n "s/.*\\b$1=\\([0-9.]*\\).*/\\1/p" <<<"$output"; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { print a - b }'; }
divide() { awk -v a="$1" -v b="$2" -v times="${3:-1}" 'BEGIN { print a / b * times }'; } # A B [TIMES]

# busy seconds of the whole machine: everything but idle, waiting and stolen
machine_cpu() { awk -v hz="$(getconf CLK_TCK)" '/^cpu / { print ($2 + $3 + $4 + $7 + $8) / hz }' /proc/stat; }
process_cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat" 2>/dev/null || echo 0; }

# --- the lab ---

# u0 ── k2 │ k3 ── s0, 10 ms in each direction. What crosses packet sockets must have final checksums and be small.
shape_far() {
	local pair
	ip netns add "$lab_l" && ip -n "$lab_l" link set lo up && ip -n "$lab_g" link del u0 || return 1
	ip link add k2 netns "$lab_l" type veth peer name u0 netns "$lab_g"
	ip link add k3 netns "$lab_l" type veth peer name s0 netns "$lab_s"
	ip -n "$lab_g" addr add 10.2.0.1/24 dev u0 && ip -n "$lab_s" addr add 10.2.0.2/24 dev s0
	for pair in "$lab_g u0" "$lab_l k2" "$lab_l k3" "$lab_s s0"; do
		# shellcheck disable=SC2086 # namespace and device
		set -- $pair
		ip netns exec "$1" ethtool -K "$2" tx off tso off gso off gro off >/dev/null 2>&1
		ip -n "$1" link set "$2" up || return 1
	done
	ip -n "$lab_s" route add default via 10.2.0.1 && ip -n "$lab_g" route replace $lab_target4 via 10.2.0.2
	lab_spawn "$lab_l" "$tools/linkem" k2 k3 delay=10
	in_gateway ping -qc 3 -i 0.2 10.2.0.2 >/dev/null
}

shape_lab() {
	local pair
	[ "$shape" != gso ] || return 0
	[ "$shape" != far ] || { shape_far; return; }
	lab_mtu_frames
	case $shape in
	mtu-gro*)
		for pair in "$lab_c c0" "$lab_g l0" "$lab_g u0" "$lab_s s0"; do
			# shellcheck disable=SC2086 # namespace and device
			set -- $pair
			ip netns exec "$1" ethtool -K "$2" gro on >/dev/null || return 1
		done
		;;
	esac
	case $shape in
	*-xdp)
		if [ "$shape" = mtu-xdp ]; then
			clang -O2 -target bpf -x c -c -o "$lab_dir/pass.o" - <<-END || return 1
				__attribute__((section("xdp"), used)) int pass(void *context) { return 2; } /* XDP_PASS */
			END
		fi
		for pair in "$lab_c c0" "$lab_s s0"; do
			# shellcheck disable=SC2086 # namespace and device
			set -- $pair
			ip netns exec "$1" ethtool -K "$2" tx off >/dev/null || return 1
			[ "$shape" != mtu-xdp ] || ip -n "$1" link set "$2" xdp obj "$lab_dir/pass.o" sec xdp || return 1
		done
		;;
	esac
}

# Thousands of short connections must not run out of ports, nor out of places for those in TIME-WAIT.
prepare_namespaces() {
	local name
	for name in "$lab_c" "$lab_g" "$lab_s"; do
		ip netns exec "$name" sysctl -qw net.ipv4.ip_local_port_range="1024 65000" net.ipv4.tcp_tw_reuse=1 \
			net.ipv4.tcp_max_tw_buckets=262144
	done
}

start_upstream() {
	case $upstream in
	target) lab_start_target 5001 5002 5003 ;;
	dante | microsocks)
		lab_spawn "$lab_s" "$tools/target" 1090 5001 5002 5003
		lab_wait_port "$lab_s" 5003 && "lab_start_$upstream"
		;;
	udp)
		lab_spawn "$lab_s" "$tools/udp_target" 1080
		lab_wait_port "$lab_s" 1080
		;;
	password)
		lab_spawn "$lab_s" "$tools/target" 1090 5001 5002 5003
		lab_wait_port "$lab_s" 5003 && lab_start_microsocks -u alice -P secret
		;;
	*)
		echo "bench_cell.sh: unknown upstream $upstream" >&2
		return 2
		;;
	esac
}

start_redsocks() {
	cat >"$lab_dir/redsocks.conf" <<-END
		base { log_debug = off; log_info = off; log = "file:$lab_dir/redsocks.log"; daemon = off; redirector = iptables;
		       rlimit_nofile = 20000; redsocks_conn_max = 3000; }
		redsocks { local_ip = 0.0.0.0; local_port = 12345; ip = 10.2.0.2; port = 1080; type = socks5; splice = true; listenq = 4096; }
	END
	ip netns exec "$lab_g" iptables -t nat -A PREROUTING -i l0 -p tcp ! -d 10.1.0.1 -j REDIRECT --to-ports 12345 || return 1
	lab_spawn "$lab_g" redsocks -c "$lab_dir/redsocks.conf"
	proxy=$lab_last
	lab_wait_port "$lab_g" 12345
}

start_udp() { # HOOK EBPF
	# shellcheck disable=SC2034 # both are lab.sh's
	lab_interface_keys="hook: $1" lab_upstream_keys="ports: 1024-1030"
	lab_config 10.2.0.2:1080 "udp: { idle-timeout: 1s, per-client: 65536 }"$'\n'"performance: { enable_ebpf: $2 }"
	lab_daemon_start || return 1
	proxy=$lab_daemon
}

start_socksplice() { # HOOK RELAY [FURTHER-KEYS]
	# shellcheck disable=SC2034 # both are lab.sh's
	lab_interface_keys="hook: $1" lab_upstream_keys="ports: 2000-60000${3:+, $3}"
	[ "$upstream" != password ] || lab_upstream_keys+=", username: alice, password: secret"
	lab_config 10.2.0.2:1080 "tcp: { relay: $2, half-open-per-source: 4096 }
$([[ $system != dns* ]] || printf 'dns: {}\nstate: %s/state\n' "$lab_dir")"
	lab_daemon_start || return 1
	proxy=$lab_daemon
	[ -z "${3:-}" ] || sleep 1
}

start_system() {
	case $system in
	forwarding) ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=1 ;;
	redsocks) start_redsocks ;;
	relay) start_socksplice tc userspace ;;
	relay-pool) start_socksplice tc userspace "pool: 64" ;;
	spliced-pool) start_socksplice tc auto "pool: 64" ;;
	relay-xsk) start_socksplice xdp userspace ;;
	spliced) start_socksplice tc auto ;;
	spliced-xdp) start_socksplice xdp auto ;;
	udp-socket) start_udp tc false ;;
	udp-kernel) start_udp tc true ;;
	udp-kernel-xdp) start_udp xdp true ;;
	dns) start_socksplice tc auto ;;
	dns-xdp) start_socksplice xdp auto ;;
	*)
		echo "bench_cell.sh: unknown system $system" >&2
		return 2
		;;
	esac
}

# --- the cases ---

bulk() { # up|down PORT FLOWS
	local metric="$1 $3" bytes
	output=$(in_client timeout $((seconds + 30)) "$tools/bulk" "$1" $lab_target4 "$2" "$3" "$seconds" "$proxy")
	bytes=$(field bytes)
	[ "$(field stalled)$(field failed)" = 00 ] || doubt "$metric: ${output:-bulk failed}"
	[ "${bytes:-0}" -gt 0 ] || return 0
	record "$metric" "$(field gbit)"
	record "machine CPU-s/GB $metric" "$(divide "$(field machine_cpu_s)" "$bytes" 1e9)"
	record "proxy CPU-s/GB $metric" "$(divide "$(field process_cpu_s)" "$bytes" 1e9)"
	sleep 0.3 # what the proxy still holds of these flows goes
}

case_bulk() {
	bulk up 5001 1
	bulk down 5002 1
	bulk up 5001 8
	bulk down 5002 8
}

case_ping() {
	output=$(in_client timeout $((seconds + 30)) "$tools/conns" ping $lab_target4 5003 "$seconds" 64) || doubt "ping failed"
	record "ping p50 us" "$(field p50_us)"
	record "ping p99 us" "$(field p99_us)"
}

case_churn() { # AT-ONCE TOTAL
	local metric="conn/s c$1" count machine process
	machine=$(machine_cpu) process=$(process_cpu "$proxy")
	output=$(in_client timeout 120 "$tools/conns" run $lab_target4 5003 "$2" "$1" 1)
	machine=$(minus "$(machine_cpu)" "$machine") process=$(minus "$(process_cpu "$proxy")" "$process")
	count=$(field connections)
	[ "$(field failed)" = 0 ] || doubt "$metric: ${output:-conns failed}"
	[ "${count:-0}" -gt 0 ] || return 0
	record "$metric" "$(field rate)"
	record "p99 ms $metric" "$(divide "$(field p99_us)" 1000)"
	record "machine us/connection $metric" "$(divide "$machine" "$count" 1e6)"
	record "proxy us/connection $metric" "$(divide "$process" "$count" 1e6)"
}

# Connections one after the other: how long each takes until its first byte has come back, one round trip after it stands.
case_setup() { # TOTAL
	output=$(in_client timeout 120 "$tools/conns" run $lab_target4 5003 "$1" 1 1)
	[ "$(field failed)" = 0 ] || doubt "set-up: ${output:-conns failed}"
	record "first byte p50 ms" "$(divide "$(field p50_us)" 1000)"
	record "first byte p99 ms" "$(divide "$(field p99_us)" 1000)"
}

descriptors() { find "/proc/$proxy/fd" -mindepth 1 | wc -l; }
resident_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$proxy/status"; }

case_idle() { # CONNECTIONS
	local held descriptors_before resident_before i
	descriptors_before=$(descriptors) resident_before=$(resident_kb)
	mkfifo "$lab_dir/hold"
	nsenter --net="/run/netns/$lab_c" -- timeout 120 "$tools/conns" hold $lab_target4 5003 "$1" <"$lab_dir/hold" >"$lab_dir/held" 2>&1 &
	lab_pids+=($!)
	exec 8>"$lab_dir/hold"
	for i in $(seq 600); do
		grep -q holding "$lab_dir/held" && break
		sleep 0.1
	done
	output=$(cat "$lab_dir/held")
	held=$(field connections)
	[ "${held:-0}" -eq "$1" ] || doubt "idle: ${output:-none held} after $i looks"
	sleep 1
	record "idle connections" "${held:-0}"
	record "idle: descriptors more" "$(($(descriptors) - descriptors_before))"
	record "idle: daemon KB more" "$(($(resident_kb) - resident_before))"
	record "idle: entries in use" "$(lab_stat .splice.entries_in_use)"
	record "kernel bytes/entry" "$(lab_stat .splice.kernel_bytes_per_entry)"
	record "user bytes/entry" "$(lab_stat .splice.user_bytes_per_entry)"
	exec 8>&-
	wait "${lab_pids[-1]}" || doubt "idle: $(tail -n 1 "$lab_dir/held")"
}

# What the daemon sees and does while 8 flows each way are busy: nothing is wanted.
case_untouched() {
	local direction port packets cpu
	for direction in up down; do
		port=$([ $direction = up ] && echo 5001 || echo 5002)
		nsenter --net="/run/netns/$lab_c" -- timeout 30 "$tools/bulk" $direction $lab_target4 "$port" 8 3 >/dev/null 2>&1 &
		lab_pids+=($!)
		sleep 1
		packets=$(lab_stat '.bpf | .to_tap + .to_socket')
		cpu=$(process_cpu "$proxy")
		sleep 2
		record "bulk $direction 8: daemon CPU ms/s" "$(divide "$(minus "$(process_cpu "$proxy")" "$cpu")" 2 1000)"
		record "bulk $direction 8: packets to daemon" "$(($(lab_stat '.bpf | .to_tap + .to_socket') - packets))"
		wait "${lab_pids[-1]}" || doubt "untouched: bulk $direction failed"
	done
}

# dnsperf as fast as it goes, and at a rate that leaves the daemon asleep in between, when each answer costs a wake-up
answers() { # METRIC DNSPERF-OPTIONS...
	local metric=$1 cpu completed
	shift
	cpu=$(process_cpu "$proxy")
	output=$(in_client timeout $((seconds + 30)) dnsperf -s 198.18.0.1 -d "$lab_dir/queries" -l "$seconds" -c 8 -q 100 "$@")
	cpu=$(minus "$(process_cpu "$proxy")" "$cpu")
	completed=$(awk '/Queries completed/ { print $3 }' <<<"$output")
	[ "${completed:-0}" -gt 0 ] || { doubt "dnsperf: no answer"; return; }
	[ "$(awk '/Queries lost/ { print $3 }' <<<"$output")" = 0 ] || doubt "dnsperf: $(grep 'Queries lost' <<<"$output")"
	record "$metric answers/s" "$(awk '/Queries per second/ { print $4 }' <<<"$output")"
	record "$metric us/answer" "$(divide "$cpu" "$completed" 1e6)"
}

case_dns() {
	local i
	for i in $(seq 5000); do echo "host$i.example.com $([ $((i % 2)) = 0 ] && echo A || echo AAAA)"; done >"$lab_dir/queries"
	answers "dns"
	answers "dns at 10000/s" -Q 10000
	# -v tells of each query how long it took
	in_client timeout $((seconds + 30)) dnsperf -s 198.18.0.1 -d "$lab_dir/queries" -l "$seconds" -c 8 -q 100 -Q 5000 -v |
		awk '/^> NOERROR/ { print $NF * 1e6 }' | sort -n >"$lab_dir/times"
	record "dns p50 us" "$(awk '{ a[NR] = $1 } END { print a[int(NR * 0.5)] }' "$lab_dir/times")"
	record "dns p99 us" "$(awk '{ a[NR] = $1 } END { print a[int(NR * 0.99)] }' "$lab_dir/times")"
}

case_udp() {
	output=$(in_client timeout $((seconds + 30)) "$tools/udp_load" echo 10.2.0.2 5007 "$seconds" 64) || doubt "udp failed"
	record "UDP round trips/s" "$(field rate)"
	record "UDP lost per million" "$(divide "$(field lost)" "$(field sent)" 1e6)"
	output=$(in_client timeout $((seconds + 30)) "$tools/udp_load" ping 10.2.0.2 5007 "$seconds" 64) || doubt "udp ping failed"
	record "UDP ping p50 us" "$(field p50_us)"
	record "UDP ping p99 us" "$(field p99_us)"
	case $system in
	udp-kernel*) [ "$(lab_stat '.udp.sent < 100')" = true ] || doubt "user space sent $(lab_stat .udp.sent) datagrams" ;;
	esac
}

case_endpoints() { # RATE
	output=$(in_client timeout 60 "$tools/udp_load" endpoints 10.2.0.2 5007 10 "$1") || doubt "endpoints: $output"
	record "UDP endpoints/s" "$(field rate)"
}

# A figure of "spliced" must be one of spliced flows, and on the hook it says.
judge_splice() {
	local spliced relayed
	case $system in spliced*) ;; *) return 0 ;; esac
	spliced=$(lab_stat .splice.spliced)
	relayed=$(lab_stat '.splice | with_entries(select((.key | startswith("not_spliced_")) and .value > 0)) | tojson')
	[ "${spliced:-0}" -gt 0 ] || doubt "no flow was spliced"
	[ "$relayed" = "{}" ] || doubt "some flows were not spliced: $relayed"
	# the hook that is not measured may see a connection's beginning and end, but no more
	[ "$system" != spliced-xdp ] || [ "$(lab_stat '.bpf.spliced_tc <= 8 * .splice.spliced')" = true ] ||
		doubt "XDP left packets to tc: $(lab_stat '.bpf | "\(.spliced_xdp) by XDP, \(.spliced_tc) by tc"')"
}

# shellcheck disable=SC2119 # a plain lab
lab_up
shape_lab && prepare_namespaces && start_upstream && start_system || exit 1
for one in "${cases[@]}"; do
	IFS=: read -r name first second <<<"$one"
	# shellcheck disable=SC2086 # arguments that are not there must not be empty ones
	"case_$name" $first $second
done
judge_splice
[ -z "$lab_daemon" ] || lab_daemon_stop || doubt "the daemon ended with code $?"
