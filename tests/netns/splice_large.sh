#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The largest table, `max-flows: 4194304`: it starts, a living connection at its last index is taken over and goes on, new
# ones work beside it, it stops; and what that takes of memory. SKIP where less than 6 GB are free.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (target)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"

entries=4194304
if [ "$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)" -lt 6000000 ]; then
	tap_skip "the largest table" "less than 6 GB of memory are free"
	tap_done
fi
lab_up
lab_start_target || exit 1
splice_mode tc
lab_config 10.2.0.2:1080 "tcp: { max-flows: $entries, linger: 500ms }"

# start NAME: making the table may take longer than lab_daemon_start waits
start() {
	local began
	began=$(date +%s%N)
	lab_daemon_start 9>&- 2>"$lab_dir/impatience" ||
		splice_until 30 "$lab_build/socksplice" status --control "$lab_control" || exit 1
	echo "# $1: ready after $((($(date +%s%N) - began) / 1000000)) ms; $(memory)"
}
memory() {
	awk '/^(VmRSS|RssAnon|RssFile|RssShmem)/ { printf "%s %d MB, ", substr($1, 1, length($1) - 1), $2 / 1024 }' "/proc/$lab_daemon/status"
	for map in "$lab_bpf"/pin/*; do
		bpftool -j map show pinned "$map" 2>/dev/null |
			jq -r 'select(.bytes_memlock > 10000000) | "map \(.name) \(.bytes_memlock / 1048576 | floor) MB"'
	done | paste -sd, | sed 's/,/, /g'
}

start "first start"
is "the table has that size" "$(splice_stat entries_total)" $entries
is "a gigabyte and three quarters of entries are the kernel's" \
	"$(bpftool -j map show pinned "$lab_bpf/pin/flows" | jq ".bytes_memlock >= $entries * 416 and .bytes_memlock < $entries * 420")" true
splice_hold $lab_target4 5003 3
is "three connections" "$held" "holding connections=3 failed=0"
ok "are the kernel's" splice_until 3 splice_stat_is spliced 3
lab_daemon_stop
"$lab_root/tests/tools/flow_entry.py" "$lab_bpf/pin" move 0 $((entries - 1))
"$lab_root/tests/tools/flow_entry.py" "$lab_bpf/pin" move 1 $((entries - 2))
start "taking over from the last index"
is "all are taken over" "$(splice_stat adopted)" 3
ok "and shown" splice_until 3 splice_flow_count '.tier == "spliced"' 3
cpu() { awk '{ print $14 + $15 }' "/proc/$lab_daemon/stat"; }
before=$(cpu)
sleep 2
echo "# the sweep over all of it: $(($(cpu) - before)) ticks of 10 ms in 2 s"
is "300 new connections" "$(in_client "$conns" target $lab_target4 5005 300 30 100 100 | sed 's/ refused.*//')" "connections=300 failed=0"
ok "are the kernel's too" splice_until 2 splice_stat_is spliced 300
splice_release
is "those at the end of the table are alive" "$held" "alive=3 lost=0"
ok "they end, and are found by the end of the table" splice_until 8 splice_stat_is entries_in_use 0
is "and counted" "$(splice_stat finished)" 303
lab_daemon_flush
is "it stops" $? 0
is "and leaves nothing" "$(find "$lab_bpf" -mindepth 2 | wc -l)" 0
tap_done
