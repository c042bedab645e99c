#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every header compiles alone; those shared with BPF code by both compilers. BPF headers serve two hooks; their tc side is
# checked here, the XDP side by building the XDP object.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bad=0
include=(-Iheaders -Iuser/base -Iuser/core -Iuser/dev -Iuser/svc -Iuser/app -Iuser/doctor -Iuser "-I${BUILD:-build}")
for header in headers/*.h user/*/*.h user/*.h; do
	echo "#include \"$(basename "$header")\"" |
		gcc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror "${include[@]}" -fsyntax-only -x c - ||
		{ echo "$header does not compile alone"; bad=1; }
done
for header in headers/*.h bpf/*.h; do
	echo "#include \"$(basename "$header")\"" |
		clang -std=gnu11 -target bpf -mcpu=v3 -DHOOK_TC -O2 -Wall -Wextra -Werror -Wno-unused-function -Iheaders -Ibpf \
			"-I/usr/include/$(gcc -print-multiarch)" -fsyntax-only -x c - ||
		{ echo "$header does not compile alone for BPF"; bad=1; }
done
[ "$bad" -eq 0 ] && echo "headers: each compiles alone"
exit "$bad"
