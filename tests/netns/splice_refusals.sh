#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is not spliced, and that it works all the same: each reason is counted, shown for the connection, and the relay
# carries it. With `relay: splice` it is refused instead.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target; socks_script.py on port 1081, which may speak too soon)
#                                 └ lo: a target here too, for a local upstream
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
lab_spawn "$lab_s" "$lab_root/tests/tools/socks_script.py" 1081 early
lab_wait_port "$lab_s" 1081 || exit 1
lab_spawn "$lab_g" "$conns" serve 7000
lab_spawn "$lab_g" "$lab_build/tests/tools/target" 1080
lab_wait_port "$lab_g" 1080 || exit 1
splice_hand_client

start() { # start UPSTREAM [EXTRA-LINES]
	splice_mode "$mode"
	lab_config "$1" "${2:-}"
	lab_daemon_start || exit 1
}

# relayed NAME REASON HOST PORT [COUNT [HOW-MANY-OF-THEM]]
relayed() {
	local count=${5:-3} of=${6:-${5:-3}}
	splice_hold "$3" "$4" "$count"
	is "$label: $1: connections work" "$held" "holding connections=$count failed=0"
	is "$label: $1: counted as $2" "$(splice_stat "not_spliced_$2")" "$of"
	ok "$label: $1: shown for each" splice_until 2 splice_flow_count ".tier == \"relay\" and .not_spliced == \"$2\"" "$of"
	is "$label: $1: the rest are spliced" "$(splice_stat spliced)" $((count - of))
	splice_release
	is "$label: $1: and go on working" "$held" "alive=$count lost=0"
	ok "$label: $1: flows end" flows_gone
	is "$label: $1: frames add up" "$(frames_balanced)" true
	splice_stop
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family" target=${splice_target[$family]} server=${splice_upstream[$family]}
		start "$server" "tcp: { relay: userspace }"
		relayed "relay: userspace" policy "$target" 5003
		start "$server" "tcp: { accept: early }"
		relayed "accept: early" policy "$target" 5003
		start "$server" "performance: { enable_ebpf: false }"
		relayed "enable_ebpf: false" policy "$target" 5003
		start "$([ $family = 4 ] && echo 10.2.0.1:1080 || echo "[fd02::1]:1080")"
		relayed "a server on the gateway itself" local_upstream "$target" 5003
		start "${splice_upstream[$((10 - family))]}"
		relayed "the other family" family "$target" 5003
		lab_upstream_keys="ports: 20000-20009"
		start "$server"
		relayed "ten ports" ports "$target" 5003 30 20
		lab_upstream_keys=""
		start "$server" "tcp: { max-flows: 16 }"
		is "$label: a small table: connections work" "$(in_client timeout 30 "$conns" target "$target" 5003 100 8 100 0 | sed 's/ refused.*//')" \
			"connections=100 failed=0"
		cmp_ok "$label: a small table: counted" "$(splice_stat not_spliced_table)" -gt 0
		splice_stop
		start "${server/1080/1081}"
		relayed "a server that speaks before CONNECT" early_bytes "$target" 1000
		start "$server" "tcp: { relay: splice, accept: deferred }"
		splice_hold "$target" 5003 3
		is "$label: relay: splice, and it can be: connections work" "$held" "holding connections=3 failed=0"
		splice_release
		splice_stop
		start "${splice_upstream[$((10 - family))]}" "tcp: { relay: splice }"
		is "$label: relay: splice, and it cannot be: refused" \
			"$(in_client timeout 20 "$lab_root/tests/tools/dial.py" "$target" 5003 hello)" "ECONNREFUSED 0"
		is "$label: relay: splice, and it cannot be: counted" "$(splice_stat not_spliced_family)" 1
		splice_stop
		start "$server"
		"$lab_root/tests/tools/splice_ends.py" ip_options $family "$lab_c" "$lab_s" 1.5 >"$lab_dir/words" 2>&1 &
		pid=$!
		if [ $family = 4 ]; then
			ok "$label: IP options in the SYN: shown" splice_until 5 splice_flow_count '.not_spliced == "options"' 1
			wait $pid
			is "$label: IP options in the SYN: works" "$(cat "$lab_dir/words")" $'SA\nhello'
			is "$label: IP options in the SYN: counted" "$(splice_stat not_spliced_options)" 1
		fi
		wait $pid
		splice_stop
	done
done
tap_done
