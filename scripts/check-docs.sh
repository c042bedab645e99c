#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Documents against the program: the reference of keys is as generated, every command and option of --help stands in
# socksplice(8) and every command in docs/cli.md, the manual pages are clean mdoc.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
program=${BUILD:-build}/socksplice
bad=0

complain() {
	echo "$*"
	bad=1
}
scripts/reference.sh check || bad=1
for page in packaging/man/*; do
	mandoc -Tlint -W warning "$page" || bad=1
done
help=$("$program" --help) || complain "$program --help fails"
for command in $(sed -n 's/^  socksplice \([a-z]*\) .*/\1/p' <<<"$help"); do
	grep -q "^\.It Cm $command\$" packaging/man/socksplice.8 || complain "packaging/man/socksplice.8: no entry \".It Cm $command\""
	grep -q "^| \`socksplice ${command}[ \`]" docs/cli.md || complain "docs/cli.md: no row \"socksplice $command\""
done
for option in $(grep -o -- '--[a-z][a-z-]*' <<<"$help" | sort -u); do
	grep -q -- "^\.It Fl .*${option#-}\b" packaging/man/socksplice.8 || complain "packaging/man/socksplice.8: no entry for $option"
done
[ "$bad" -eq 0 ] && echo "documents: as the program is"
exit "$bad"
