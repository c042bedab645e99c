#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A configuration of hev-socks5-tunnel, translated, drives the daemon: with its password, to its server, by its time limits.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (microsocks with a password, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

socksplice=$lab_build/socksplice
cat >"$lab_dir/main.yml" <<'END'
tunnel:
  name: tun0
  mtu: 8500
  ipv4: 198.18.0.1

socks5:
  port: 1080
  address: 10.2.0.2
  udp: 'udp'
  username: 'alice'
  password: 'pass: word'
  pipeline: false

misc:
  connect-timeout: 3000
  log-level: debug
END

lab_up
mkdir "$lab_dir/www"
echo hello >"$lab_dir/www/page"
lab_start_web "$lab_dir/www" || exit 1
lab_start_microsocks -u alice -P 'pass: word' || exit 1

"$socksplice" import --interface l0 "$lab_dir/main.yml" >"$lab_dir/socksplice.yml" 2>"$lab_dir/notes"
is "import: exit code" "$?" 0
is "its notes name line and column" "$(grep -c "^$lab_dir/main.yml:[0-9]*:[0-9]*: " "$lab_dir/notes")" "$(wc -l <"$lab_dir/notes")"
is "and no password" "$(grep -c 'pass: word' "$lab_dir/notes")" 0
is "check accepts it" "$("$socksplice" check -c "$lab_dir/socksplice.yml")" "$lab_dir/socksplice.yml: all right"
# places of this lab, which no main.yml knows
printf 'control: %s\nbpf-pin: %s\n' "$lab_control" "$lab_bpf/pin" >>"$lab_dir/socksplice.yml"
lab_daemon_start || exit 1
is "a page through it" "$(in_client curl -gsS -m 10 "http://$lab_target4/page" 2>&1)" hello
is "by the kernel" "$(lab_stat '.splice.handovers')" 1
lab_daemon_flush
is "the daemon stops in order" "$?" 0

# what is wrong, and what for
# refused NAME CODE WORDS ARGUMENTS...
refused() {
	local output code
	output=$("$socksplice" import "${@:4}" 2>&1)
	code=$?
	is "$1: exit code" "$code" "$2"
	ok "$1: said so" grep -q -- "$3" <<<"$output"
}
sed 's/port: 1080/port: 1080x/' "$lab_dir/main.yml" >"$lab_dir/broken.yml"
refused "a broken file" 3 "broken.yml:7:9: socks5.port" --interface l0 "$lab_dir/broken.yml"
refused "no such file" 3 "nowhere.yml: No such file" --interface l0 "$lab_dir/nowhere.yml"
refused "no interface" 2 "--interface NAME" "$lab_dir/main.yml"
refused "no file" 2 "main.yml of hev-socks5-tunnel is expected" --interface l0
refused "no interface's name" 3 "is no name of an interface" --interface averyveryverylongname "$lab_dir/main.yml"
tap_done
