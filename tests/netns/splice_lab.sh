# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2034,SC2154 # variables of lab.sh, and of who sources this file
# What the tests of the splice share: source it after lab.sh and tap.sh. They run once for each word of SPLICE_MODES:
#
#   tc          hook: tc, packets whole (GSO, partial checksums)
#   xdp         hook: xdp; at the far ends of the veth pairs GRO, without which XDP cannot send into them, and no checksum
#               offload, which would leave partial checksums
#   xdp-nogro   hook: xdp without all that: XDP leaves every packet to tc
#
# NAME_xdp.sh is NAME.sh with the two XDP modes.

read -ra splice_modes <<<"${SPLICE_MODES:-tc}"
conns=$lab_build/tests/tools/conns
# by family: where clients dial to, and the upstream
declare -A splice_target=([4]=$lab_target4 [6]=$lab_target6) splice_upstream=([4]=10.2.0.2:1080 [6]="[fd02::2]:1080")

# splice_mode MODE: after lab_up, before lab_config
splice_mode() {
	local gro=off tx=on
	[ "$1" != xdp ] || gro=on tx=off
	case $1 in
	tc) lab_interface_keys="hook: tc" ;;
	*) lab_interface_keys="hook: xdp" ;;
	esac
	# links through linkem keep what they need: final checksums, and frames that GRO does not merge
	if [ -e "/run/netns/$lab_l" ]; then
		splice_linkem_end k1 $gro
	else
		in_client ethtool -K c0 gro $gro tx $tx >/dev/null
	fi
	if [ -n "${splice_uplink:-}" ]; then
		splice_linkem_end k2 $gro
	else
		in_server ethtool -K s0 gro $gro tx $tx >/dev/null
	fi
	# the daemon's own ports are not the limit here, nor are the clients'
	ip netns exec "$lab_c" sysctl -qw net.ipv4.ip_local_port_range="10000 65000" net.ipv4.tcp_tw_reuse=1
}

splice_linkem_end() {
	ip -n "$lab_l" link set "$1" gro_max_size 1500
	ip netns exec "$lab_l" ethtool -K "$1" gro "$2" >/dev/null
}

# splice_start MODE FAMILY [EXTRA-LINES]: the daemon with the upstream of that family
splice_start() {
	splice_mode "$1"
	lab_config "${splice_upstream[$2]}" "${3:-}"
	lab_daemon_start || exit 1
}

# splice_stop: the daemon, and everything that it leaves
splice_stop() {
	lab_daemon_stop
	in_gateway "$lab_build/socksplice" stop --flush -c "$lab_dir/socksplice.yml" >>"$lab_dir/daemon.log" 2>&1
}

splice_stat() { lab_stat ".splice.$1"; }

# splice_idle: every entry was given back; waits for `linger`
splice_idle() {
	local i
	for i in $(seq 80); do
		[ "$(lab_stat '.splice.entries_in_use + .bridge.opening_now + .bridge.closing_now')" = 0 ] && return 0
		sleep 0.1
	done
	echo "entries are still in use (try $i): $(lab_stat '.splice.entries_in_use')"
	return 1
}

# splice_path MODE: the packets went where the mode says
splice_path() {
	local xdp tc
	xdp=$(lab_stat .bpf.spliced_xdp) tc=$(lab_stat .bpf.spliced_tc)
	echo "spliced by XDP: $xdp, by tc: $tc"
	case $1 in
	# those of the handover are always left to tc, and so are partial checksums
	xdp) [ "$xdp" -gt 0 ] ;;
	*) [ "$xdp" -eq 0 ] && [ "$tc" -gt 0 ] ;;
	esac
}

splice_descriptors() { find "/proc/$lab_daemon/fd" -mindepth 1 | wc -l; }

# splice_counter NAMESPACE NAME: of the kernel's TCP there, e.g. TcpRetransSegs
splice_counter() { nsenter --net="/run/netns/$1" -- nstat -asz "$2" | awk -v name="$2" '$1 == name {print $2}'; }

# splice_until SECONDS COMMAND...: until it succeeds
splice_until() {
	local i tries=$(($1 * 10)) output
	shift
	for ((i = 0; i < tries; i++)); do
		output=$("$@" 2>&1) && return 0
		sleep 0.1
	done
	echo "not within $((tries / 10)) s: $*: $output"
	return 1
}
# splice_stat_is NAME VALUE, splice_flow_count FILTER COUNT: for splice_until
splice_stat_is() {
	local got
	got=$(splice_stat "$1")
	[ "$got" = "$2" ] || { echo "$1 is $got"; return 1; }
}
splice_flows() { "$lab_build/socksplice" flows --json --control "$lab_control"; }
splice_flow_count() {
	local got
	got=$(splice_flows | jq "map(select($1)) | length")
	[ "$got" = "$2" ] || { echo "$got flows: $1"; return 1; }
}

# splice_hand_client: the gateway finds the clients that no kernel owns (tests/tools/wire.py)
splice_hand_client() {
	local mac
	mac=$(ip -n "$lab_c" -j link show c0 | jq -r ".[0].address")
	ip -n "$lab_g" neigh replace 10.1.0.77 lladdr "$mac" dev l0
	ip -n "$lab_g" neigh replace fd01::77 lladdr "$mac" dev l0
}

# splice_bad_links: instead of lab_up; both links of the gateway go through linkem, c0 ── k0 │ k1 ── l0 and
# u0 ── k2 │ k3 ── s0, which are perfect until splice_links says otherwise
splice_bad_links() {
	local pair
	lab_bad_link
	splice_client_link=$lab_last
	ip -n "$lab_g" link del u0
	ip link add k2 netns "$lab_l" type veth peer name u0 netns "$lab_g"
	ip link add k3 netns "$lab_l" type veth peer name s0 netns "$lab_s"
	ip -n "$lab_g" addr add 10.2.0.1/24 dev u0 && ip -n "$lab_g" addr add fd02::1/64 dev u0 nodad
	ip -n "$lab_s" addr add 10.2.0.2/24 dev s0 && ip -n "$lab_s" addr add fd02::2/64 dev s0 nodad
	for pair in "$lab_g u0" "$lab_l k2" "$lab_l k3" "$lab_s s0"; do
		# shellcheck disable=SC2086 # namespace and device
		set -- $pair
		ip netns exec "$1" sysctl -qw "net.ipv6.conf.$2.accept_dad=0"
		ip netns exec "$1" ethtool -K "$2" tx off tso off gso off gro off >/dev/null 2>&1
		ip -n "$1" link set "$2" up
	done
	ip -n "$lab_s" route add default via 10.2.0.1 && ip -n "$lab_s" route add default via fd02::1
	lab_spawn "$lab_l" "$lab_build/tests/tools/linkem" k2 k3
	splice_uplink=$lab_last
}

# splice_links "LINKEM OPTIONS OF THE CLIENT'S LINK" "OF THE UPLINK"
splice_links() {
	lab_end "$splice_client_link" "$splice_uplink"
	# shellcheck disable=SC2086 # words
	lab_spawn "$lab_l" "$lab_build/tests/tools/linkem" k0 k1 $1
	splice_client_link=$lab_last
	# shellcheck disable=SC2086 # words
	lab_spawn "$lab_l" "$lab_build/tests/tools/linkem" k2 k3 $2
	splice_uplink=$lab_last
	sleep 0.2
}

# splice_hold HOST PORT COUNT: connections that stay until splice_release; what became of them is in $held
splice_hold() {
	rm -f "$lab_dir/hold"
	# before the holder runs: what an earlier one has said is not its word
	: >"$lab_dir/hold.out"
	mkfifo "$lab_dir/hold"
	in_client timeout 50 "$conns" hold "$1" "$2" "$3" <"$lab_dir/hold" >"$lab_dir/hold.out" 2>&1 &
	splice_holder=$!
	lab_pids+=("$splice_holder")
	exec 9>"$lab_dir/hold"
	splice_until 10 grep -q holding "$lab_dir/hold.out"
	held=$(<"$lab_dir/hold.out")
}
splice_release() {
	exec 9>&-
	wait "$splice_holder"
	held=$(tail -n 1 "$lab_dir/hold.out")
}
