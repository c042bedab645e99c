#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The configuration read again while packets are served. A list of 10,000 prefixes is replaced 100 times under traffic: no
# answer is wrong, live flows (spliced, relayed, direct) stay, although the other list drops where they go, the daemon's memory
# does not grow, and nothing leaves that should be proxied. What a reload applies, what it refuses, and what it leaves.
# Once for each of SPLICE_MODES (splice_lab.sh).
#
#   client c0 ── l0 gateway (daemon, forwarding) u0 ── s0 server: microsocks, an echo, and a service that tells who asks
#                                                      lo 10.9.0.N, fd09::N:  1 proxied  2 direct  3 dropped  4 rejected
#                                                         5 changes with every reload   6, 7 live flows go there
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"
# shellcheck source=tests/netns/rules_lab.sh
. "$(dirname "$0")/rules_lab.sh"

reloads=100

# large_list LETTER: 10,000 prefixes that no traffic here goes to, others for each letter, and rules for the hosts
large_list() {
	local five=direct six=proxy seven=direct net=0
	[ "$1" = a ] || { five=proxy six=drop seven=drop net=100; }
	cat <<-END
		rules:
		  - { dst: [10.9.0.2, 'fd09::2'], action: direct }
		  - { dst: [10.9.0.3, 'fd09::3'], action: drop }
		  - { dst: [10.9.0.4, 'fd09::4'], action: reject }
		  - { dst: [10.9.0.5, 'fd09::5'], action: $five }
		  - { dst: [10.9.0.6, 'fd09::6'], action: $six }
		  - { dst: 'fd09::7', action: $seven }
		  - action: $([ "$1" = a ] && echo drop || echo direct)
		    dst:
	END
	awk -v net="$net" 'BEGIN { for (i = 0; i < 5000; i++) {
		printf "      - %d.%d.%d.0/24\n      - 2001:%x:%x::/48\n", 20 + net + i / 1000, i / 4 % 250, i % 4 * 60 + net % 50, i, net } }'
}
memory() { awk '/^VmRSS/ {print $2}' "/proc/$lab_daemon/status"; }
reload() { "$lab_build/socksplice" reload --control "$lab_control" "$@" 2>&1; }
# told: of the last reload, as JSON in $answer
told() { jq -r "$1" <<<"$answer"; }
logged() { grep -c "$1" "$lab_dir/daemon.log"; }

# under_traffic MODE
under_traffic() {
	local mode=$1 i letter failed=0 slowest=0 before took
	for letter in a b; do
		lab_config 10.2.0.2:1080 "$(large_list $letter)"
		cp "$lab_dir/socksplice.yml" "$lab_dir/$letter.yml"
	done
	cp "$lab_dir/a.yml" "$lab_dir/socksplice.yml"
	lab_daemon_start || exit 1
	splice_hold 10.9.0.6 5003 50
	spliced_holder=$splice_holder
	is "$mode: live flows are there" "$(lab_stat .splice.live_now)" 50
	mkfifo "$lab_dir/hold6"
	in_client timeout 100 "$conns" hold fd09::6 5003 50 <"$lab_dir/hold6" >"$lab_dir/hold6.out" 2>&1 9>&- &
	lab_pids+=("$!")
	relayed_holder=$!
	exec 8>"$lab_dir/hold6"
	splice_until 10 grep -q holding "$lab_dir/hold6.out"
	is "$mode: relayed ones too" "$(lab_stat .stack.established_now)" 50
	mkfifo "$lab_dir/hold7"
	in_client timeout 100 "$conns" hold fd09::7 5003 50 <"$lab_dir/hold7" >"$lab_dir/hold7.out" 2>&1 8>&- 9>&- &
	lab_pids+=("$!")
	direct_holder=$!
	exec 6>"$lab_dir/hold7"
	splice_until 10 grep -q holding "$lab_dir/hold7.out"
	is "$mode: and direct ones, which the daemon knows nothing of" "$(lab_stat '[.splice.live_now, .stack.established_now] | join(" ")')" "50 50"
	leaks_begin 10.9.0.1 10.9.0.3 10.9.0.4 10.9.0.6 fd09::1 fd09::3 fd09::4 fd09::6
	mkfifo "$lab_dir/watch"
	in_client python3 "$lab_root/tests/tools/ways.py" watch {tcp,udp}/{10.9.0.2,fd09::2}/7000=direct tcp/{10.9.0.1,fd09::1}/7000=proxied \
		tcp/{10.9.0.4,fd09::4}/7000=ECONNREFUSED udp/10.9.0.4/7000=EHOSTUNREACH udp/fd09::4/7000=EACCES \
		tcp/{10.9.0.5,fd09::5}/7000=direct,proxied <"$lab_dir/watch" >"$lab_dir/watch.out" 2>&1 6>&- 8>&- 9>&- &
	watcher=$!
	# for itself: its answers take long
	in_client python3 "$lab_root/tests/tools/ways.py" watch {tcp,udp}/{10.9.0.3,fd09::3}/7000=timeout \
		<"$lab_dir/watch" >"$lab_dir/watch3.out" 2>&1 6>&- 8>&- 9>&- &
	watcher3=$!
	lab_pids+=("$watcher" "$watcher3")
	exec 7>"$lab_dir/watch"
	for ((i = 1; i <= reloads; i++)); do
		[ $((i % 2)) -eq 1 ] && letter=b || letter=a
		cp "$lab_dir/$letter.yml" "$lab_dir/socksplice.yml"
		answer=$(reload --json) || failed=$((failed + 1))
		took=$(told .milliseconds)
		[ "${took:-9999}" -le "$slowest" ] || slowest=${took:-9999}
		[ "$i" -ne 10 ] || before=$(memory)
	done
	echo "# $reloads reloads of 10,000 prefixes, the slowest took $slowest ms; $before KB of memory, then $(memory) KB"
	is "$mode: every reload succeeded" "$failed" 0
	cmp_ok "$mode: in less than a second each" "$slowest" -lt 1000
	cmp_ok "$mode: memory stays as it is" $(($(memory) - before)) -le 2048
	is "$mode: the last one is in force" "$(told '[.rules, .prefixes, (.applied | join(" ")), (.needs_restart | length)] | join(",")')" \
		"7,10011,rules,0"
	exec 7>&-
	wait "$watcher" "$watcher3"
	echo "# $(<"$lab_dir/watch.out"); to what is dropped: $(<"$lab_dir/watch3.out")"
	is "$mode: no answer was wrong" "$(grep -o 'wrong=.*' "$lab_dir/watch.out")" "wrong=0"
	is "$mode: and what is dropped had none" "$(grep -o 'wrong=.*' "$lab_dir/watch3.out")" "wrong=0"
	cmp_ok "$mode: and there were many" "$(sed -n 's/asked=\([0-9]*\) .*/\1/p' "$lab_dir/watch.out")" -gt 1000
	is "$mode: nothing left unproxied" "$(leaks_end)" 0

	# new flows to where the live ones go are dropped now
	cp "$lab_dir/b.yml" "$lab_dir/socksplice.yml"
	reload >/dev/null
	is "$mode: a new flow is judged by the new rules" "$(ask tcp 10.9.0.6 7000) $(ask tcp fd09::6 7000)" "timeout timeout"
	splice_holder=$spliced_holder
	splice_release
	is "$mode: spliced flows have survived" "$held" "alive=50 lost=0"
	exec 8>&-
	wait "$relayed_holder"
	is "$mode: relayed flows have survived" "$(tail -n 1 "$lab_dir/hold6.out")" "alive=50 lost=0"
	is "$mode: a new flow to where the direct ones go, too" "$(ask tcp fd09::7 7000)" timeout
	exec 6>&-
	wait "$direct_holder"
	is "$mode: direct flows have survived" "$(tail -n 1 "$lab_dir/hold7.out")" "alive=50 lost=0"
	is "$mode: each relayed flow had its key" "$(lab_stat .bridge.relay_keys_missing)" 0
	ok "$mode: flows end" flows_gone
	sleep 0.6
	is "$mode: and no key is left" "$(bpftool -j map dump pinned "$lab_bpf/pin/flow_keys" | jq length)" 0

	# killed between two reloads: the list stays in force
	leaks_begin 10.9.0.1 10.9.0.3 10.9.0.4 10.9.0.6
	lab_daemon_stop KILL
	is "$mode: killed: direct goes on" "$(ask tcp 10.9.0.2 7000)" direct
	is "$mode: killed: nothing else does" "$(ask tcp 10.9.0.1 7000) $(ask tcp 10.9.0.6 7000)" "timeout timeout"
	is "$mode: killed: nothing leaves that should not" "$(leaks_end)" 0
	splice_stop
	rm -f "$lab_dir"/hold[67] "$lab_dir/watch"
}

# what_is_applied: text and JSON, errors, restarts, SIGHUP
what_is_applied() {
	local base="rules: [ { dst: 10.9.0.3, action: drop } ]"
	lab_tcp_keys=""
	lab_config 10.2.0.2:1080 "$base"
	lab_daemon_start || exit 1
	is "nothing has changed" "$(reload --json | jq -c '[.applied, .needs_restart, .rules, .prefixes]')" "[[],[],1,1]"

	lab_tcp_keys="max-flows: 1024, half-open: 7, half-open-per-source: 3, linger: 100ms, idle-timeout: 1s, connect-timeout: 500ms"
	lab_config 10.2.0.2:1080 "rules: [ { dst: 10.9.0.4, action: reject } ]
log: { level: error }
on-down: pass
performance: { batch_size: 4 }"
	answer=$(reload)
	ok "text: what is in force" grep -q "socksplice.yml is in force: 1 rules, 1 prefixes" <<<"$answer"
	ok "text: what was applied" grep -qx "applied: on-down, rules, tcp.connect-timeout, tcp.idle-timeout, tcp.linger, tcp.half-open, tcp.half-open-per-source, log.level" <<<"$answer"
	ok "text: what was not" grep -qx "needs a restart, left as it was: tcp.max-flows, performance.batch_size" <<<"$answer"
	is "log.level: no more of it is logged" "$(logged "info  reload: applied: on-down")" 0
	answer=$(reload --json)
	is "again: only what needs a restart is told" "$(told '[(.applied | length), .needs_restart] | flatten | join(" ")')" \
		"0 tcp.max-flows performance.batch_size"
	is "rules: the new one" "$(ask tcp 10.9.0.4 7000)" ECONNREFUSED
	is "rules: the old one is gone" "$(ask tcp 10.9.0.3 7000)" proxied
	ok "max-flows is as it was" test "$(lab_stat .splice.entries_total)" = 65536
	# a connection that says nothing for a second
	in_client timeout 8 bash -c 'exec 3<>/dev/tcp/10.9.0.1/5003; cat <&3' 2>"$lab_dir/idle.out"
	ok "idle-timeout: it is reset" test "$(lab_stat .splice.finished_idle)" -ge 1

	is "an error tells file, line and column" "$(sed -i 's/action: reject/action: bounce/' "$lab_dir/socksplice.yml"; reload >"$lab_dir/error"; echo $?)" 3
	echo "# $(<"$lab_dir/error")"
	ok "in words" grep -q "says: $lab_dir/socksplice.yml:[0-9]*:[0-9]*: action: \"bounce\" is not allowed" "$lab_dir/error"
	is "and is logged" "$(logged 'error reload: nothing is changed: .*"bounce"')" 1
	is "the rules are as they were" "$(ask tcp 10.9.0.4 7000)" ECONNREFUSED
	mv "$lab_dir/socksplice.yml" "$lab_dir/away.yml"
	ok "a file that is not there" grep -q "socksplice.yml: No such file" <<<"$(reload)"
	lab_tcp_keys=""
	# nothing listens there
	lab_config 10.2.0.2:1079 "rules: [ { dst: 10.9.0.4, action: proxy, upstream: main } ]"
	is "another server: applied" "$(reload --json | jq -c '[(.applied | index("upstreams") != null), .needs_restart]')" '[true,[]]'
	is "another server: and used" "$(ask tcp 10.9.0.4 7000)" ECONNREFUSED
	sed -i 's|^upstreams:.*|upstreams: [ { name: other, server: "10.2.0.2:1080" }, { name: main, server: "10.2.0.2:1079" } ]|' "$lab_dir/socksplice.yml"
	is "a new upstream: applied" "$(reload --json | jq -c '[.applied, .needs_restart]')" '[["upstreams","rules"],[]]'
	is "a rule means the one that it names, at whatever place" "$(ask tcp 10.9.0.4 7000)" ECONNREFUSED
	is "others take the one that answers" "$(ask tcp 10.9.0.3 7000)" proxied
	sed -i 's/upstream: main/upstream: other/' "$lab_dir/socksplice.yml"
	reload >/dev/null
	is "a rule names the new one" "$(ask tcp 10.9.0.4 7000)" proxied

	lab_config 10.2.0.2:1080 "rules: [ { dst: 10.9.0.4, action: drop } ]
tcp: { half-open: 100, half-open-per-source: 50 }"
	kill -HUP "$lab_daemon"
	ok "SIGHUP does the same" splice_until 5 grep -q "info  reload: applied: upstreams, rules, tcp.half-open, tcp.half-open-per-source$" "$lab_dir/daemon.log"
	is "SIGHUP: the rules" "$(ask tcp 10.9.0.4 7000)" timeout
	echo "rules: {" >>"$lab_dir/socksplice.yml"
	kill -HUP "$lab_daemon"
	ok "SIGHUP: an error is logged" splice_until 5 grep -q "error reload: nothing is changed: .*not YAML" "$lab_dir/daemon.log"
	is "SIGHUP: and changes nothing" "$(ask tcp 10.9.0.4 7000)" timeout
	lab_config 10.2.0.2:1080 "on-down: pass"
	reload >/dev/null
	is "no rules any more" "$(ask tcp 10.9.0.4 7000)" proxied
	lab_daemon_stop KILL
	is "on-down: pass came by reload" "$(ask tcp 10.9.0.4 7000)" direct
	splice_stop

	# the daemon runs without enable_ebpf: what user space cannot do is refused
	lab_config 10.2.0.2:1080 "performance: { enable_ebpf: false }"
	lab_daemon_start || exit 1
	lab_config 10.2.0.2:1080 "rules: [ { dst: 10.9.0.4, action: direct } ]"
	ok "enable_ebpf: false: direct takes a restart" grep -q "number 1 is not possible while the daemon runs without" <<<"$(reload)"
	lab_config 10.2.0.2:1080 "performance: { enable_ebpf: false }
rules: [ { dst: 10.9.0.4, proto: tcp, action: reject } ]"
	is "enable_ebpf: false: proxied" "$(ask tcp 10.9.0.4 7000)" proxied
	ok "enable_ebpf: false: a reload" reload
	is "enable_ebpf: false: rejected at once" "$(ask tcp 10.9.0.4 7000)" ECONNREFUSED
	splice_stop
}

rules_up
ip -n "$lab_s" addr add 10.9.0.6/32 dev lo && ip -n "$lab_s" addr add fd09::6/128 dev lo nodad
ip -n "$lab_g" route add 10.9.0.6 via 10.2.0.2 && ip -n "$lab_g" route add fd09::6 via fd02::2
ip -n "$lab_s" addr add fd09::7/128 dev lo nodad && ip -n "$lab_g" route add fd09::7 via fd02::2
lab_spawn "$lab_s" "$lab_build/tests/tools/target" 1081 5003
lab_wait_port "$lab_s" 5003 || exit 1
for mode in "${splice_modes[@]}"; do
	lab_tcp_keys="linger: 500ms"
	splice_mode "$mode"
	under_traffic "$mode"
done
what_is_applied
tap_done
