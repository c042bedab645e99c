#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks the layout: every file includes only headers of its own floor and of lower ones, BPF code only headers/ and bpf/;
# and every file names its licence.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
floors=(headers user/base user/core user/dev user/svc user/app user/doctor user)
bad=0

complain() {
	echo "$*"
	bad=1
}
# floor_of HEADER-NAME: index of the floor that holds it, nothing: not ours
floor_of() {
	local i
	for i in "${!floors[@]}"; do
		[ -f "${floors[$i]}/$1" ] && echo "$i" && return
	done
}
for i in "${!floors[@]}"; do
	for file in "${floors[$i]}"/*.[ch]; do
		[ -f "$file" ] || continue
		while read -r name; do
			floor=$(floor_of "$name")
			[ -z "$floor" ] || [ "$floor" -le "$i" ] ||
				complain "$file (floor $i) includes $name of the higher floor ${floors[$floor]}"
		done < <(sed -n 's/^#include "\(.*\)"/\1/p' "$file")
	done
done
for file in bpf/*; do
	while read -r name; do
		[ -f "headers/$name" ] || [ -f "bpf/$name" ] || complain "$file includes $name, which is neither in headers/ nor in bpf/"
	done < <(sed -n 's/^#include "\(.*\)"/\1/p' "$file")
done
# base and core make no system call and read no clock
if grep -nE '\b(clock_gettime|gettimeofday|time|socket|open|read|write|ioctl|mmap|getrandom)\(' user/core/*.c user/base/*.c |
	grep -vE 'static|/\*|\* '; then
	complain "the lines above make system calls on a floor that must not"
fi
while read -r file; do
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: ' || complain "$file: no SPDX-License-Identifier in its first lines"
	case $file in
	bpf/* | headers/*) head -n 3 "$file" | grep -q 'GPL-2.0-only OR MIT' || complain "$file: BPF code is GPL-2.0-only OR MIT" ;;
	esac
done < <(git ls-files '*.c' '*.h' '*.sh' '*.py' Makefile)
[ "$bad" -eq 0 ] && echo "floors and licences: all right"
exit "$bad"
