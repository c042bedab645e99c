#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Names outlive the daemon: stopped or killed, with and without its file, with a broken one. Live connections keep their
# address whatever is asked meanwhile. A reload changes what names get. Once for each of SPLICE_MODES (splice_lab.sh).
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server: microsocks that resolves, an echo on 5003, a name server 10.2.0.53
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"
# shellcheck source=tests/netns/rules_lab.sh
. "$(dirname "$0")/rules_lab.sh"
# shellcheck source=tests/netns/dns_lab.sh
. "$(dirname "$0")/dns_lab.sh"

dial() { in_client "$lab_root/tests/tools/dial.py" "$@" | cut -d' ' -f1,3; }
again() { lab_daemon_start "$lab_dir/resolving-daemon" 9>&- || exit 1; }
# ask_many PREFIX COUNT: so many new names, by one dnsperf-like burst of dig
ask_many() {
	local i
	for ((i = 0; i < $2; i++)); do echo "$1$i.example A"; done >"$lab_dir/many"
	in_client dig +tries=1 +time=3 @198.18.0.1 +short -f "$lab_dir/many"
}

kept() {
	local name="$label, names" before after
	rm -rf "$lab_dir/state"
	dns_start "$mode" 4 "cache: 100"
	before=$(ask_many kept 20 | xargs)
	is "$name: twenty of them" "$(wc -w <<<"$before")" 20
	lab_daemon_stop
	ok "$name: their file is the daemon's alone" test "$(stat -c %a "$lab_dir/state/names")" = 600
	again
	is "$name: loaded" "$(dns_stat names_loaded)" 20
	after=$(ask_many kept 20 | xargs)
	is "$name: the same addresses after a stop" "$after" "$before"
	before+=" $(ask_many late 5 | xargs)"
	# 5 s between two files
	ok "$name: saved in the background" splice_until 8 dns_stat_is files_saved 1
	lab_daemon_stop KILL
	again
	after="$(ask_many kept 20 | xargs) $(ask_many late 5 | xargs)"
	is "$name: and after a kill" "$after" "$before"
	before=$(at brand-new.example A)
	lab_daemon_stop KILL
	again
	is "$name: what a kill lost is nobody's" "$(dial "$before" 5003)" EHOSTUNREACH
	cmp_ok "$name: and not given to another soon" "$(ask_many other 10 | grep -cx "$before")" -eq 0
	lab_daemon_stop
	sed -i '3s/.*/12 rubbish/; $d' "$lab_dir/state/names"
	printf '99 5 cut.off' >>"$lab_dir/state/names"
	again
	is "$name: a broken file costs its broken lines" "$(dns_stat lines_refused)" 2
	is "$name: and says so" "$(grep -c 'names: 2 lines made no sense' "$lab_dir/daemon.log")" 1
	lab_daemon_stop
	lab_config "${splice_upstream[4]}" "dns: { mapped: 100.64.0.0/16 }
state: $lab_dir/state"
	again
	is "$name: a file for other ranges is none" "$(dns_stat names_loaded)" 0
	is "$name: which are used" "$(at kept0.example A)" 100.64.0.1
	splice_stop
}

# Connections that live across everything.
live() {
	local name="$label, live" fake i evicted
	rm -rf "$lab_dir/state"
	dns_start "$mode" 4 "cache: 8"
	fake=$(at www.proxied.example A)
	evicted=$(at evicted.example A)
	splice_hold "$fake" 5003 5
	is "$name: five connections" "$held" "holding connections=5 failed=0"
	ok "$name: are the kernel's" splice_until 3 splice_flow_count '.tier == "spliced"' 5
	is "$name: 100 other names" "$(ask_many flood 100 9>&- | wc -l)" 100
	is "$name: some had to go" "$(dns_stat names_evicted)" 94
	is "$name: not this one" "$(at www.proxied.example A)" "$fake"
	is "$name: whoever still has the address of one that went is refused" "$(dial "$evicted" 5003)" EHOSTUNREACH
	for i in TERM KILL; do
		lab_daemon_stop $i
		again
		is "$name: taken over after $i" "$(splice_stat adopted)" 5
		is "$name: with their name" "$(splice_flows | jq -r '.[].name' | sort | uniq -c | xargs)" "5 www.proxied.example"
		is "$name: which they hold" "$(dns_stat names_held_now)" 1
		ask_many "flood$i" 20 >/dev/null 9>&-
		is "$name: against others" "$(at www.proxied.example A)" "$fake"
	done
	lab_daemon_stop
	rm "$lab_dir/state/names"
	again
	is "$name: without the file they live on, nameless" "$(splice_flow_count '.tier == "spliced" and (has("name") | not)' 5 && echo yes)" yes
	is "$name: their address is nobody's" "$(ask_many lost 50 9>&- | grep -cx "$fake")" 0
	is "$name: and leads nowhere anew" "$(dial "$fake" 5003)" EHOSTUNREACH
	splice_release
	is "$name: all five live" "$held" "alive=5 lost=0"
	ok "$name: and end" splice_idle
	is "$name: and hold nothing" "$(dns_stat names_held_now)" 0
	splice_stop
}

reload() {
	local name="$label, reload" fake
	rm -rf "$lab_dir/state"
	dns_start "$mode" 4 "cache: 100"
	fake=$(at host.corp.example A)
	is "$name: proxied at first" "$(cut -d. -f1,2 <<<"$fake")" 198.18
	dns_config 4 "cache: 100" "  - { domain: .corp.example, action: direct }
  - { domain: gone.example, action: reject }"
	"$lab_build/socksplice" reload --control "$lab_control" >/dev/null
	is "$name: then direct" "$(at host.corp.example A)" 10.9.0.2
	is "$name: the old address is refused, so that it is asked again" "$(dial "$fake" 5003)" EHOSTUNREACH
	is "$name: counted" "$(dns_stat flows_forbidden)" 1
	is "$name: a name that is rejected now" "$(status @198.18.0.1 gone.example A)" "NXDOMAIN qr rd ra 0 1"
	dns_config 4 "cache: 200, hijack: true"
	is "$name: keys of dns need a restart" \
		"$("$lab_build/socksplice" reload --json --control "$lab_control" | jq -c '.needs_restart')" '["dns.cache","dns.hijack"]'
	is "$name: and proxied again" "$(at host.corp.example A)" "$fake"
	splice_stop
}

# What cannot be is said at the start.
refused() {
	local name="$label, refused" out
	splice_mode "$mode"
	lab_config "${splice_upstream[4]}" "dns: { mapped: 10.1.0.0/16 }
state: $lab_dir/state"
	out=$(in_gateway timeout 20 "$lab_build/socksplice" run -c "$lab_dir/socksplice.yml" 2>&1)
	is "$name: fake addresses that are the gateway's own" "$? $(grep -c 'an address of this machine is among the fake' <<<"$out")" "1 1"
	lab_config "${splice_upstream[4]}" "dns: {}
state: $lab_dir/none/such"
	out=$(in_gateway timeout 20 "$lab_build/socksplice" run -c "$lab_dir/socksplice.yml" 2>&1)
	is "$name: nowhere to keep names" "$? $(grep -c 'state: .*/none/such: No such file or directory' <<<"$out")" "1 1"
	in_gateway "$lab_build/socksplice" stop --flush -c "$lab_dir/socksplice.yml" >>"$lab_dir/daemon.log" 2>&1
}

dns_up
lab_spawn "$lab_s" "$lab_build/tests/tools/target" 1085 5003
lab_wait_port "$lab_s" 5003 || exit 1
for mode in "${splice_modes[@]}"; do
	label=$mode
	kept
	live
	reload
	refused
done
tap_done
