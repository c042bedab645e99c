#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs each fuzzer of tests/fuzz for FUZZ_SECONDS (libFuzzer, ASan, UBSan), as a TAP test each. New inputs stay in
# build-fuzz; a crashing input is named.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=${FUZZ_SECONDS:-8}
out=build-fuzz
sources=(user/base/*.c user/core/*.c user/svc/config_*.c user/svc/import_*.c)
# shellcheck disable=SC2054 # the commas belong to the options
flags=(-std=gnu11 -g -O1 -D_GNU_SOURCE '-DSOCKSPLICE_VERSION="fuzz"' -Iheaders -Iuser/base -Iuser/core -Iuser/dev -Iuser/svc
	-Iuser/app -Ibuild -fsanitize=fuzzer,address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined)
count=0 failed=0
mkdir -p "$out"

for source in tests/fuzz/*_fuzz.c; do
	name=$(basename "$source" _fuzz.c)
	count=$((count + 1))
	mkdir -p "$out/$name" "tests/fuzz/corpus/$name"
	extra=()
	libraries=(-lyaml)
	if [ "$name" = control ]; then
		mapfile -t extra < <(printf '%s\n' user/app/*.c user/dev/*.c user/svc/*.c | grep -vE "user/svc/(config|import)")
		read -ra libraries < <(make --no-print-directory -s libs)
	fi
	if ! clang "${flags[@]}" "$source" "${sources[@]}" "${extra[@]}" "${libraries[@]}" -o "$out/$name.bin" >"$out/$name.log" 2>&1; then
		echo "not ok $count - $name builds"
		tail -n 20 "$out/$name.log" | sed 's/^/# /'
		failed=$((failed + 1))
	elif "$out/$name.bin" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$out/$name-" \
		"$out/$name" "tests/fuzz/corpus/$name" >"$out/$name.log" 2>&1; then
		echo "ok $count - $name: $(grep -c . <(ls "$out/$name")) inputs found, $(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' "$out/$name.log")"
	else
		echo "not ok $count - $name"
		tail -n 30 "$out/$name.log" | sed 's/^/# /'
		failed=$((failed + 1))
	fi
done
echo "1..$count"
exit "$((failed > 0))"
