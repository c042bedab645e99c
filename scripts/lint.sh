#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The static checks, each as a TAP test.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
count=0 failed=0

check() { # check NAME COMMAND...
	local name=$1 output
	shift
	count=$((count + 1))
	if output=$("$@" 2>&1); then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name"
		printf '%s\n' "$output" | tail -n 40 | sed 's/^/# /'
		failed=$((failed + 1))
	fi
}

mapfile -t sources < <(git ls-files '*.c' '*.h')
mapfile -t user < <(git ls-files 'user/*.c')
mapfile -t shell < <(git ls-files '*.sh' .ci/run)
flags=(-std=gnu11 -D_GNU_SOURCE '-DSOCKSPLICE_VERSION=""' -Iheaders -Iuser/base -Iuser/core -Iuser/dev -Iuser/svc -Iuser/app -Iuser/doctor
	-Iuser "-I${BUILD:-build}")

check "clang-format" clang-format --dry-run -Werror "${sources[@]}"
check "floors, system calls, licences" scripts/check-floors.sh
check "headers compile alone" scripts/check-headers.sh
check "cppcheck" cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --suppress=missingInclude --suppress=unknownMacro \
	--suppress=arithOperationsOnVoidPointer \
	--std=c11 -Iheaders -Iuser/base -Iuser/core -Iuser/dev -Iuser/svc -Iuser/app -Iuser/doctor "${user[@]}"
check "clang-tidy" clang-tidy --quiet --warnings-as-errors='*' "${user[@]}" -- "${flags[@]}"
check "documents" scripts/check-docs.sh
check "shellcheck" shellcheck -x -S warning "${shell[@]}"
echo "1..$count"
exit "$((failed > 0))"
