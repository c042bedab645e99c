#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs test programs and adds up their TAP results.
#   run.sh [NAME=VALUE...] PROGRAM...
# One line per program; every failed and every skipped test is shown. The last line counts all of them:
#   N passed, N failed, N skipped
# A program that dies, runs out of time or prints no plan counts as one failure. A skip that tests/expected-skips does
# not name is a failure too. Network tests mostly wait: TEST_JOBS of them (default 3) run at a time.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
limit=${TEST_TIMEOUT:-400}
jobs=${TEST_JOBS:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A line of tests/expected-skips is: PROGRAM: TEST NAME
expected() { grep -qxF "$1: $2" "$here/expected-skips"; }

run_one() {
	local program=$1 name code=0 ok=0 bad=0 skip=0 line plan="" text start output
	name=$(basename "$program")
	output=$(mktemp "$work/output-XXXXXX")
	start=$(date +%s)
	timeout -k 20 "$limit" "$program" >"$output" 2>&1 </dev/null || code=$?
	while IFS= read -r line; do
		case $line in
		1..*) plan=${line#1..} ;;
		"ok "*"# SKIP"*)
			text=${line#ok * - }
			if expected "$name" "${text%% # SKIP*}"; then
				skip=$((skip + 1))
				echo "    SKIP $name: $text"
			else
				bad=$((bad + 1))
				echo "    FAIL $name: unexpected skip: $text"
			fi
			;;
		"ok "*) ok=$((ok + 1)) ;;
		"not ok "*)
			bad=$((bad + 1))
			echo "    FAIL $name: ${line#not ok * - }"
			;;
		esac
	done <"$output"
	if [ -z "$plan" ] || [ "$plan" -ne $((ok + bad + skip)) ] || { [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; }; then
		bad=$((bad + 1))
		echo "    FAIL $name: ended with code $code after $((ok + bad + skip - 1)) of ${plan:-an unknown number of} tests"
	fi
	if [ "$bad" -gt 0 ]; then
		grep -vE '^ok ' "$output" | tail -n 40 | sed 's/^/      | /'
	fi
	printf '%-44s %4d passed %3d failed %3d skipped %4d s\n' "$name" $ok $bad $skip $(($(date +%s) - start))
	echo "$ok $bad $skip" >>"$counts"
}

# Beside others: what it has to say comes in one piece.
run_beside() {
	local report counts
	counts=$(mktemp "$work/beside-XXXXXX")
	report=$(run_one "$1")
	if grep -q ' 0 [0-9]*$' "$counts"; then
		cat "$counts" >>"$work/counts"
	else
		echo "$1" >>"$work/again"
		report=${report//    FAIL /    BUSY }
	fi
	flock "$work" printf '%s\n' "$report"
}

# Those that failed beside others.
run_again() {
	local program
	wait
	[ -e "$work/again" ] || return 0
	while read -r program; do
		echo "again, by itself: $program"
		run_one "$program"
	done <"$work/again"
	rm "$work/again"
}

counts=$work/counts
running=0
for argument in "$@"; do
	case $argument in
	tests/netns/*)
		if [ "$running" -ge "$jobs" ]; then
			wait -n
			running=$((running - 1))
		fi
		run_beside "$argument" &
		running=$((running + 1))
		;;
	*)
		run_again
		running=0
		# shellcheck disable=SC2163 # NAME=VALUE
		case $argument in *=*) export "$argument" ;; *) run_one "$argument" ;; esac
		;;
	esac
done
run_again
awk '{ passed += $1; failed += $2; skipped += $3 }
	END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 || passed == 0 }' "$work/counts"
