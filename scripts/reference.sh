#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The reference of all keys stands in two documents, between markers, and is made from user/svc/config_keys.c,
# user/svc/config_help.c and the defaults in user/svc/config_yaml.c.
#   reference.sh write    puts it there again (make reference)
#   reference.sh check    says where the documents differ from it
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# both FILE FORMAT: the file with a new reference in $work/new
both() {
	"${BUILD:-build}/reference" "$2" >"$work/reference"
	awk -v reference="$work/reference" '
		/reference: end/ { skip = 0; ends++ }
		!skip { print }
		/reference: begin/ { skip = 1; begins++; while ((getline line < reference) > 0) print line }
		END { exit !(begins == 1 && ends == 1) }' "$1" >"$work/new" || {
		echo "$1: the markers \"reference: begin\" and \"reference: end\" are needed, each once"
		exit 1
	}
}
for pair in docs/configuration.md=markdown packaging/man/socksplice.yml.5=mdoc; do
	file=${pair%=*}
	both "$file" "${pair#*=}"
	cmp -s "$file" "$work/new" && continue
	case ${1:-check} in
	write) cat "$work/new" >"$file" && echo "$file: reference written" ;;
	*)
		echo "$file differs from the table of keys; a key's text is in user/svc/config_help.c; then: make reference"
		diff "$file" "$work/new" | head -n 10 || true
		bad=1
		;;
	esac
done
exit "$bad"
