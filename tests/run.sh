#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs test programs and adds up their TAP results.
#   run.sh [NAME=VALUE...] PROGRAM...
# One line per program; every failed and every skipped test is shown. The last line counts all of them:
#   N passed, N failed, N skipped
# A program that dies, runs out of time or prints no plan counts as one failure. A skip that tests/expected-skips does
# not name is a failure too.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
limit=${TEST_TIMEOUT:-240}
output=$(mktemp)
trap 'rm -f "$output"' EXIT
passed=0 failed=0 skipped=0

# A line of tests/expected-skips is: PROGRAM: TEST NAME
expected() { grep -qxF "$1: $2" "$here/expected-skips"; }

run_one() {
	local program=$1 name code=0 ok=0 bad=0 skip=0 line plan="" text start
	name=$(basename "$program")
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
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

for argument in "$@"; do
	case $argument in
	*=*) export "${argument?}" ;;
	*) run_one "$argument" ;;
	esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
