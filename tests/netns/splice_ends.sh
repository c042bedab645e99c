#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How connections end: a client that resets at each step, or never answers; a server that resets at each step; copies of
# the SYN; the end of one direction alone; idleness; a client that uses its port again at once, or restarts.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target on port 1080, socks_script.py on 1081)
#   10.1.0.77, fd01::77: a client by hand
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

lab_up
lab_start_target || exit 1
lab_spawn "$lab_s" "$lab_root/tests/tools/socks_script.py" 1081
lab_wait_port "$lab_s" 1081 || exit 1
splice_hand_client

# scenario NAME: runs it and leaves its words in $words
scenario() { words=$(timeout 30 "$lab_root/tests/tools/splice_ends.py" "$1" "$family" "$lab_c" "$lab_s" 2>&1); }
# grown COUNTER: since the last call of mark
mark() { marked=$(lab_stat .splice); }
grown() { echo $(($(splice_stat "$1") - $(jq ".$1" <<<"$marked"))); }
# none_left NAME: entries are given back, and the server knows no connection of the gateway any more
server_has_none() { [ -z "$(in_server ss -Htn state established state close-wait "sport = :$port")" ]; }
none_left() {
	ok "$label: $1: entries are given back" splice_idle
	ok "$label: $1: nothing lingers at the server" splice_until 3 server_has_none
}

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family"

		port=1080
		splice_start "$mode" $family "tcp: { linger: 300ms, handshake-timeout: 2s }"
		mark
		scenario synack_rst
		is "$label: a reset after the SYN-ACK" "$words" $'SA\nnothing'
		none_left "a reset after the SYN-ACK"
		is "$label: it is counted" "$(lab_stat .splice.client_reset) $(grown finished_reset)" "1 1"
		scenario synack_bad_rst
		is "$label: wrong resets and ACKs before the client's first" "$words" hello
		cmp_ok "$label: they are counted" "$(lab_stat .bpf.drop_opening_bad)" -eq 3
		none_left "wrong resets and ACKs before the client's first"
		mark
		scenario ack_rst
		is "$label: a reset after the client's ACK" "$words" nothing
		none_left "a reset after the client's ACK"
		is "$label: it is counted as its end" "$(grown finished_reset)" 1
		scenario duplicate_syns
		is "$label: copies of the SYN" "$words" $'again the same\nhello\nFA 7'
		none_left "copies of the SYN"
		scenario never_ack
		is "$label: a client that never answers is asked again, then reset" "$words" "SA RA exact"
		is "$label: and counted" "$(splice_stat client_never_acked)" 1
		none_left "a client that never answers"

		scenario reused_port
		is "$label: a port used again at once" "$words" "30 []"
		none_left "a port used again at once"
		mark
		scenario restarted_client
		is "$label: a client that restarted" "$words" $'echo\necho soon'
		is "$label: it was challenged, and the old connection reset" "$(grown finished_reset) $(($(grown challenge_acks) > 0))" "1 1"
		none_left "a client that restarted"
		splice_stop

		splice_start "$mode" $family "tcp: { linger: 300ms, idle-timeout: 1s }"
		scenario idle
		is "$label: an idle connection is reset" "$words" $'echo\nECONNRESET\nserver: RA'
		none_left "an idle connection"
		is "$label: and counted" "$(splice_stat finished_idle)" 1
		splice_stop

		port=1081
		splice_mode "$mode"
		lab_config "${splice_upstream[$family]/1080/1081}" "tcp: { linger: 300ms }"
		lab_daemon_start || exit 1
		scenario syn_rst
		is "$label: a reset before the answer" "$words" "SYN-ACK after all: nothing"
		none_left "a reset before the answer"
		scenario upstream_reset_opening
		is "$label: a server that resets before the client's ACK" "$words" "RA exact"
		is "$label: and is counted" "$(splice_stat upstream_reset)" 1
		none_left "a server that resets before the client's ACK"
		mark
		scenario server_resets
		is "$label: a server that resets later" "$words" $'ECONNRESET\nECONNRESET\nECONNRESET\nConnectionRefusedError'
		none_left "a server that resets later"
		is "$label: each reset is an end" "$(grown finished_reset)" 3
		mark
		scenario half_close
		is "$label: each direction ends alone" "$words" $'late end\nbye b\'\'\nend'
		none_left "half-closed"
		is "$label: in order" "$(grown finished)" 2
		splice_stop
	done
done
is "all bytes arrived after the server's end" "$(grep -c 'got 1000000' "$lab_dir/spawned.log")" $((2 * ${#splice_modes[@]}))
tap_done
