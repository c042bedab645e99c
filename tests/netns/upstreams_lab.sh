# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2034,SC2154 # variables of lab.sh, and of who sources this file
# What the tests with several upstreams share: source it after lab.sh, tap.sh and splice_lab.sh.
#
#                                         ┌ u0 10.2.0.1, fd02::1 ── s0 10.2.0.2, fd02::2 ┐
#   client c0 ── l0 gateway (daemon) ─────┤                                              ├ server
#                                         └ u1 10.4.0.1, fd04::1 ── s1 10.4.0.2, fd04::2 ┘
#
# Upstreams are tests/tools/target on several ports: server and destination in one.

# upstreams_up: instead of lab_up
upstreams_up() {
	lab_up
	ip link add u1 netns "$lab_g" type veth peer name s1 netns "$lab_s"
	ip -n "$lab_g" addr add 10.4.0.1/24 dev u1 && ip -n "$lab_g" addr add fd04::1/64 dev u1 nodad
	ip -n "$lab_s" addr add 10.4.0.2/24 dev s1 && ip -n "$lab_s" addr add fd04::2/64 dev s1 nodad
	ip -n "$lab_g" link set u1 up && ip -n "$lab_s" link set s1 up
}

# upstreams_mode MODE: tc, xdp (splice_lab.sh) or relay
upstreams_mode() {
	mode=$1 label=$1 lab_tcp_keys="linger: 500ms"
	case $1 in
	relay) splice_mode tc; lab_tcp_keys+=", relay: userspace" ;;
	*) splice_mode "$1" ;;
	esac
	# shellcheck disable=SC2046 # words
	in_server ethtool -K s1 $([ "$1" = xdp ] && echo gro on tx off || echo gro off tx on) >/dev/null
}

# upstreams_begin UPSTREAM...: the daemon with these, each the keys of one; $extra are further lines
upstreams_begin() {
	upstreams_config "$@"
	lab_daemon_start "${upstreams_program:-$lab_build/socksplice}" || exit 1
}
upstreams_config() {
	local one list=""
	for one in "$@"; do list+="${list:+, }{ $one }"; done
	lab_config "" "${extra:-}"
	sed -i "s|^upstreams:.*|upstreams: [ $list ]|" "$lab_dir/socksplice.yml"
}

# upstreams_serve PORT: one more; its pid is in $lab_last
upstreams_serve() {
	lab_spawn "$lab_s" "$lab_build/tests/tools/target" "$1"
	lab_wait_port "$lab_s" "$1" || exit 1
}

# up FILTER: of the list that `upstreams` prints; of NAME KEY: one value of one
up() { "$lab_build/socksplice" upstreams --json --control "$lab_control" | jq -r "$1"; }
of() { up ".[] | select(.name == \"$1\") | .$2"; } # NAME KEY, or an expression that begins with a key
# of_is NAME KEY VALUE: for splice_until
of_is() {
	local got
	got=$(of "$1" "$2")
	[ "$got" = "$3" ] || { echo "$2 of $1 is $got"; return 1; }
}

# load TOTAL AT-ONCE [HOST]: connections, and what became of them
load() { in_client timeout 40 "$conns" target "${3:-$lab_target4}" 5003 "$1" "$2" 1000 0 2>&1 | sed 's/ refused.*//; s/ seconds.*//'; }
# went: as the mode says, all of them
went() {
	local want='.splice.spliced > 0 and .stack.flows_established == 0 and ([.splice | to_entries[] | select(.key | startswith("not_spliced_")) | .value] | add) == 0'
	[ "$mode" != relay ] || want='.stack.flows_established > 0 and .splice.handovers == 0'
	[ "$(lab_stat "$want")" = true ] && return 0
	lab_stat '{bpf, splice, stack} | map_values(with_entries(select(.value != 0)))'
	return 1
}
