# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2034,SC2154 # variables of lab.sh, and of who sources this file
# What tests of all ways through the gateway share: source it after lab.sh and tap.sh.
#
#   relay-xdp   the relay, its packets by AF_XDP (hook: xdp, relay: userspace)
#   relay-tap   the relay, its packets by a TAP device (hook: tc, relay: userspace)
#   spliced     the kernel carries connections, as it does by default; client and upstream are of the same family
#
#   for mode in "${modes[@]}"; do
#       mode_set "$mode"
#       lab_config "$mode_upstream:1080"
#       for host in "${mode_hosts[@]}"; do ...
# A line is: way, address of the upstream, families of the clients.
modes=("relay-xdp 10.2.0.2 4 6" "relay-tap [fd02::2] 4 6" "spliced 10.2.0.2 4" "spliced [fd02::2] 6")

# mode_set LINE: sets mode_way, mode_label, mode_upstream, mode_hosts, and the keys that lab_config writes. Further keys of
# `tcp` are to be appended to lab_tcp_keys.
mode_set() {
	local family
	# shellcheck disable=SC2086 # words
	set -- $1
	mode_way=$1 mode_label=$1 mode_upstream=$2 mode_hosts=()
	case $1 in
	relay-xdp) lab_interface_keys="hook: xdp" lab_tcp_keys="relay: userspace" ;;
	relay-tap) lab_interface_keys="hook: tc" lab_tcp_keys="relay: userspace" ;;
	spliced) lab_interface_keys="hook: auto" lab_tcp_keys="relay: auto, linger: 500ms" mode_label="$1, IPv$3" ;;
	esac
	for family in "${@:3}"; do
		[ "$family" = 4 ] && mode_hosts+=("$lab_target4") || mode_hosts+=("$lab_target6")
	done
}

# mode_url HOST: as it stands in a URL
mode_url() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac }

# mode_went: connections were carried as mode_way says, all of them
mode_went() {
	local want
	case $mode_way in
	relay-xdp) want='.bpf.to_socket > 0 and .bpf.to_tap == 0 and .splice.handovers == 0' ;;
	relay-tap) want='.bpf.to_tap > 0 and .bpf.to_socket == 0 and .splice.handovers == 0' ;;
	spliced) want='.splice.spliced > 0 and .stack.flows_established == 0 and
		([.splice | to_entries[] | select(.key | startswith("not_spliced_")) | .value] | add) == 0' ;;
	esac
	[ "$(lab_stat "$want")" = true ] && return 0
	lab_stat '{bpf, splice, stack} | map_values(with_entries(select(.value != 0)))'
	return 1
}
