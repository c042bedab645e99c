#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs each fuzzer of tests/fuzz for FUZZ_SECONDS (libFuzzer, ASan, UBSan), as a TAP test each, as many at a time as there
# are CPUs. New inputs stay in build-fuzz; a crashing input is named.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=${FUZZ_SECONDS:-8}
out=build-fuzz
# everything but the program's entry, once, instrumented; each fuzzer links what it uses
mapfile -t sources < <(printf '%s\n' user/*/*.c user/*.c | grep -vx user/main.c)
mapfile -t includes < <(printf -- '-I%s\n' headers user user/*/ build)
# shellcheck disable=SC2054 # the commas belong to the options
flags=(-std=gnu11 -g -O1 -D_GNU_SOURCE '-DSOCKSPLICE_VERSION="fuzz"' "${includes[@]}" -w)
# headers of packets lie at odd addresses, which every supported processor reads
sanitizers=address,undefined
strict=(-fno-sanitize=alignment -fno-sanitize-recover=undefined)
read -ra libraries < <(make --no-print-directory -s libs)
rm -rf "$out/obj"
mkdir -p "$out/obj"

# compile SOURCE
compile() { clang "${flags[@]}" -fsanitize=fuzzer-no-link,$sanitizers "${strict[@]}" -c "$1" -o "$out/obj/${1//\//_}.o"; }

# fuzz NUMBER SOURCE
fuzz() {
	local count=$1 name
	name=$(basename "$2" _fuzz.c)
	mkdir -p "$out/$name" "tests/fuzz/corpus/$name"
	if ! clang "${flags[@]}" -fsanitize=fuzzer,$sanitizers "${strict[@]}" "$2" "$out/socksplice.a" "${libraries[@]}" \
		-o "$out/$name.bin" >"$out/$name.log" 2>&1; then
		echo "not ok $count - $name builds"
		tail -n 20 "$out/$name.log" | sed 's/^/# /'
	elif "$out/$name.bin" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$out/$name-" \
		"$out/$name" "tests/fuzz/corpus/$name" >"$out/$name.log" 2>&1; then
		echo "ok $count - $name: $(grep -c . <(ls "$out/$name")) inputs found, $(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' "$out/$name.log")"
	else
		echo "not ok $count - $name"
		tail -n 30 "$out/$name.log" | sed 's/^/# /'
	fi
}

# at_once COMMAND: no more of them than CPUs
at_once() {
	while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
	"$@" &
}

for source in "${sources[@]}"; do at_once compile "$source"; done
wait
rm -f "$out/socksplice.a"
ar rcs "$out/socksplice.a" "$out"/obj/*.o
count=0
rm -f "$out"/result-*
for source in tests/fuzz/*_fuzz.c; do
	count=$((count + 1))
	at_once fuzz "$count" "$source" >"$out/result-$count"
done
wait
for number in $(seq "$count"); do cat "$out/result-$number"; done
echo "1..$count"
! grep -q '^not ok' "$out"/result-*
