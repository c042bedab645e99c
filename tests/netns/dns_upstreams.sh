#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Names with several upstreams: a connection to a name that is dialled again, or carried by a warm connection, goes upstream by
# its name all the same and holds it; rules about names choose the upstream, before a reload and after it; upstreams that are
# names themselves. Spliced by tc, and relayed.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server: SOCKS5 servers that resolve on 1080 and 1081 (and none on 1082), an echo
#   on 5003, a name server 10.2.0.53
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
# shellcheck source=tests/netns/upstreams_lab.sh
. "$(dirname "$0")/upstreams_lab.sh"

dial() { in_client timeout 20 "$lab_root/tests/tools/dial.py" "$@" | cut -d' ' -f1; }
# second_up: the server on 1081; its pid is in $second
second_up() {
	lab_spawn "$lab_s" "$lab_dir/resolving-microsocks" -i :: -p 1081
	second=$lab_last
	lab_wait_port "$lab_s" 1081 || exit 1
}
# begin DNS-KEYS RULES UPSTREAM...: the daemon with these, without names of before
begin() {
	rm -rf "$lab_dir/state"
	configure "$@"
	lab_daemon_start "$lab_dir/resolving-daemon" || exit 1
}
configure() {
	extra="dns: { $1 }
state: $lab_dir/state
$([ -z "$2" ] || printf 'rules:\n%s\n' "$2")"
	shift 2
	upstreams_config "$@"
}
# others COUNT: so many names that nobody has asked for
others() {
	local i
	for ((i = 0; i < $1; i++)); do echo "other$((others_asked++)).example A"; done >"$lab_dir/others"
	in_client dig +tries=1 +time=3 @198.18.0.1 +short -f "$lab_dir/others" | wc -l
}
others_asked=0
# outlasts FAKE COUNT: that many connections live by the name, and it outlasts more names than there is room for
outlasts() {
	ok "$name: as the mode says" splice_until 3 splice_flow_count ".tier == \"$tier\" and .name == \"www.proxied.example\"" "$2"
	is "$name: hold their name" "$(dns_stat names_held_now)" 1
	is "$name: many others" "$(others 30 9>&-)" 30
	is "$name: it stays" "$(at www.proxied.example A)" "$1"
	splice_release
	is "$name: all were alive" "$held" "alive=$2 lost=0"
	ok "$name: and let go of it" splice_until 8 dns_stat_is names_held_now 0
}
finish() {
	ok "$name: flows end" splice_until 8 ended
	splice_stop
}
ended() { [ "$(lab_stat '[.splice.live_now, .stack.established_now, .stack.half_open_now] | add')" = 0 ]; }

again() {
	local name="$label, dialled again" fake
	begin "cache: 8" "" "name: a, server: '10.2.0.2:1082', backoff: 1h" "name: b, server: '10.2.0.2:1080'"
	fake=$(at www.proxied.example A)
	splice_hold "$fake" 5003 6
	is "$name: six connections" "$held" "holding connections=6 failed=0"
	cmp_ok "$name: some of them moved" "$(of a moved_away)" -ge 1
	is "$name: all went by name" "$(dns_stat flows_named) $(of b connects_ok)" "6 6"
	outlasts "$fake" 6
	finish
}

warm() {
	local name="$label, warm" fake
	begin "cache: 8" "" "name: a, server: '10.2.0.2:1080', pool: 8"
	fake=$(at www.proxied.example A)
	ok "$name: the pool is full" splice_until 4 of_is a pool.warm 8
	is "$name: and holds no name" "$(dns_stat names_held_now)" 0
	splice_hold "$fake" 5003 3
	is "$name: three connections" "$held" "holding connections=3 failed=0"
	is "$name: all by the pool" "$(of a pool.hits) $(lab_stat .bridge.dials)" "3 0"
	outlasts "$fake" 3
	is "$name: an address is still one" "$(ask tcp 10.9.0.2 7000)" proxied
	finish
}

# A warm connection that ends behind CONNECT gives way to a fresh one, and that to another upstream.
instead() {
	local name="$label, gone behind CONNECT" fake pid
	second_up
	begin "cache: 8" "" "name: a, server: '10.2.0.2:1081', pool: 4, backoff: 1h" "name: b, server: '10.2.0.2:1080', weight: 0"
	fake=$(at www.proxied.example A)
	ok "$name: the pool is full" splice_until 4 of_is a pool.warm 4
	kill -STOP "$second"
	ask tcp "$fake" 7000 >"$lab_dir/way" 9>&- &
	pid=$!
	ok "$name: CONNECT is on its way" splice_until 3 of_is a pool.hits 1
	sleep 0.2
	is "$name: its name is held" "$(dns_stat names_held_now)" 1
	kill -KILL "$second"
	lab_end "$second"
	wait $pid
	is "$name: the client does not notice" "$(cat "$lab_dir/way")" proxied
	is "$name: by the other" "$(of a moved_away) $(of b connects_ok) $(dns_stat flows_named)" "1 1 1"
	ok "$name: nothing is held" splice_until 8 dns_stat_is names_held_now 0
	finish
}

chosen() {
	local name="$label, by rule" far near rules='  - { domain: rejecting.example, action: proxy, upstream: far }'
	second_up
	begin "cache: 100" "$rules" "name: a, server: '10.2.0.2:1080'" "name: far, server: '10.2.0.2:1081', weight: 0"
	far=$(at rejecting.example A) near=$(at www.proxied.example A)
	is "$name: a name with an upstream" "$(ask tcp "$far" 7000)" proxied
	is "$name: goes by it" "$(up 'map(.connects_ok) | join(" ")')" "0 1"
	is "$name: another name" "$(ask tcp "$near" 7000)" proxied
	is "$name: does not" "$(up 'map(.connects_ok) | join(" ")')" "1 1"
	configure "cache: 100" "$rules" "name: far, server: '10.2.0.2:1081', weight: 0" "name: new, server: '10.2.0.2:1082', weight: 0" \
		"name: a, server: '10.2.0.2:1080'"
	is "$name: another order" "$("$lab_build/socksplice" reload --json --control "$lab_control" | jq -c .applied)" '["upstreams","rules"]'
	is "$name: both again" "$(ask tcp "$far" 7000) $(ask tcp "$near" 7000)" "proxied proxied"
	is "$name: as before" "$(of a connects_ok) $(of far connects_ok) $(of new dials)" "2 2 0"
	lab_end "$second"
	is "$name: that upstream or none" "$(dial "$far" 7000)" ECONNREFUSED
	is "$name: the others go on" "$(ask tcp "$near" 7000)" proxied
	finish
}

# The daemon asks for its upstream and for direct names at once.
resolved() {
	local name="$label, an upstream by name"
	begin "cache: 100" "  - { domain: .corp.example, action: direct }" "name: a, server: 'host.corp.example:1080'"
	ok "$name: its address is found" splice_until 4 of_is a addresses 2
	is "$name: a connection by name" "$(ask tcp "$(at www.proxied.example A)" 7000)" proxied
	is "$name: a direct name" "$(at short.corp.example A)" 10.9.0.3
	is "$name: counted apart" "$(dns_stat direct_asked) $(of a connects_ok)" "1 1"
	finish
}

dns_up
lab_spawn "$lab_s" "$lab_build/tests/tools/target" 1085 5003
lab_wait_port "$lab_s" 5003 || exit 1
for label in ${UPSTREAM_MODES:-tc relay}; do
	splice_mode tc
	# shellcheck disable=SC2034 # of lab.sh
	lab_tcp_keys="linger: 500ms" tier=spliced
	[ "$label" != relay ] || lab_tcp_keys+=", relay: userspace" tier=relay
	again
	warm
	instead
	chosen
	resolved
done
tap_done
