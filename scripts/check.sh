#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every test: unit, replay and BPF tests, the first two again under ASan and UBSan, the fuzzers for a minute in all, and
# the network tests. The last line counts them all. With LINT=1 the static checks as well.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

make --no-print-directory -j2 all tests build/reference || exit 1
# headers of packets lie at odd addresses, which every supported processor reads
# gcc 12 sees overlaps in instrumented code that are not there
sanitize="-fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined -Wno-restrict"
make --no-print-directory -j2 B=build-asan SAN="$sanitize" OPT=-O1 all tests || exit 1
programs=(build/tests/*/*_test build-asan/tests/unit/*_test build-asan/tests/replay/*_test scripts/fuzz.sh)
[ -z "${LINT:-}" ] || programs+=(scripts/lint.sh)
for program in tests/netns/*.sh; do
	[ -x "$program" ] && programs+=("$program")
done
existing=()
for program in "${programs[@]}"; do
	[ -x "$program" ] && existing+=("$program")
done
# the real daemon once more, watched by the sanitizers
exec tests/run.sh "${existing[@]}" BUILD="$PWD/build-asan" tests/netns/refusals.sh tests/netns/halfclose.sh
