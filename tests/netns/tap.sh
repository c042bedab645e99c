# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# TAP for shell tests: source it after lab.sh, call ok/is/..., end with tap_done.
tap_count=0
tap_failed=0

# tap_result CODE NAME [DETAIL]
tap_result() {
	tap_count=$((tap_count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tap_count - $2"
	else
		tap_failed=$((tap_failed + 1))
		echo "not ok $tap_count - $2"
		[ -z "${3:-}" ] || printf '%s\n' "$3" | sed 's/^/# /'
	fi
}
# is NAME GOT WANTED
is() {
	if [ "$2" = "$3" ]; then tap_result 0 "$1"; else tap_result 1 "$1" "got: $2"$'\n'"wanted: $3"; fi
}
# cmp_ok NAME GOT OPERATOR WANTED: integers, as test(1) compares them
cmp_ok() {
	if test "$2" "$3" "$4" 2>/dev/null; then tap_result 0 "$1"; else tap_result 1 "$1" "got: $2, wanted: $3 $4"; fi
}
# ok NAME COMMAND...
ok() {
	local name=$1 output code=0
	shift
	output=$("$@" 2>&1) || code=$?
	tap_result "$code" "$name" "$output"
}
tap_skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}
# shellcheck disable=SC2154 # lab_dir is lab.sh's
tap_done() {
	echo "1..$tap_count"
	if [ "$tap_failed" -gt 0 ] && [ -f "$lab_dir/daemon.log" ]; then
		tail -n 20 "$lab_dir/daemon.log" | sed 's/^/# daemon: /'
	fi
	[ "$tap_failed" -eq 0 ]
	exit
}

# frames_balanced: pool + fill + rx + flows + tx + completion = total
frames_balanced() {
	lab_stat '.frames | (.pool + .fill + .rx + .flows + .tx + .completion) == .total'
}
# frames_settled: no flow holds a frame any more; waits for the last completions
frames_settled() {
	local i
	for i in $(seq 60); do
		[ "$(lab_stat '.frames | .flows == .flows_recv and .tx == 0')" = true ] && return 0
		sleep 0.1
	done
	echo "frames are still held (try $i): $(lab_stat .frames)"
	return 1
}
# flows_gone: every flow has ended, TIME-WAIT apart; entries of spliced ones are given back after `linger`
flows_gone() {
	local i
	for i in $(seq 100); do
		[ "$(lab_stat '.stack.established_now + .stack.half_open_now + .splice.entries_in_use + ([.bridge | to_entries[] | select(.key | endswith("_now")) | .value] | add)')" = 0 ] && return 0
		sleep 0.1
	done
	echo "flows are still there (try $i): $(lab_stat "{stack, bridge, splice}")"
	return 1
}
