#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `log.flows`: every connection that ends leaves one line that says how, whoever carried it; over a restart, too.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (microsocks, echo server and one that resets on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns
flows=$lab_dir/flows.log
run() { in_client "$conns" run "$@"; }
# count FILTER: records that a jq expression selects
count() { jq -s "map(select($1)) | length" "$flows"; }
# until_count SECONDS FILTER COUNT
until_count() {
	local i
	for i in $(seq $(($1 * 10))); do
		[ "$(count "$2")" = "$3" ] && return 0
		sleep 0.1
	done
	echo "$(count "$2") records instead of $3 (try $i): $2"
	tail -n 5 "$flows"
	return 1
}
# one_connection HOST PORT HOW: 1000 bytes and their echo, then an end by "reset" (ours), or "wait" (the other side's)
one_connection() { in_client timeout 10 python3 "$lab_dir/one.py" "$@" >/dev/null 2>&1; }
# hold_begin HOST: one idle connection, until hold_end
hold_begin() {
	local i
	mkfifo "$lab_dir/hold"
	sleep 600 >"$lab_dir/hold" &
	sleeper=$!
	in_client "$conns" hold "$1" 7000 1 <"$lab_dir/hold" >"$lab_dir/hold.out" 2>&1 &
	holder=$!
	lab_pids+=("$sleeper" "$holder")
	for i in $(seq 100); do grep -q holding "$lab_dir/hold.out" && break; sleep 0.1; done
	rm "$lab_dir/hold"
}
hold_end() {
	kill "$sleeper"
	wait "$holder" 2>/dev/null
	lab_end "$sleeper" "$holder"
}

cat >"$lab_dir/one.py" <<-'END'
	import socket, struct, sys
	s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
	s.sendall(b"x" * 1000)
	got = 0
	while got < 1000:
	    got += len(s.recv(1000))
	if sys.argv[3] == "reset":
	    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	else:
	    try:
	        s.recv(1)
	    except OSError:
	        pass
	s.close()
END
# a SOCKS5 server that is the destination, too, and resets after its echo
cat >"$lab_dir/resets.py" <<-'END'
	import socket, struct, time
	def read(s, wanted):
	    got = b""
	    while len(got) < wanted:
	        part = s.recv(wanted - len(got))
	        if not part:
	            break
	        got += part
	    return got
	server = socket.create_server(("::", 1080), family=socket.AF_INET6, dualstack_ipv6=True)
	while True:
	    s, _ = server.accept()
	    read(s, 3)
	    s.sendall(b"\5\0")
	    read(s, 6 if read(s, 4)[3:] == b"\1" else 18)
	    s.sendall(b"\5\0\0\1\0\0\0\0\0\0")
	    s.sendall(read(s, 1000))
	    time.sleep(0.2)
	    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	    s.close()
END

lab_up
lab_spawn "$lab_s" "$conns" serve 7000
lab_start_microsocks || exit 1
socks=$lab_last
lab_wait_port "$lab_s" 7000
lab_tcp_keys="linger: 300ms"
lab_config 10.2.0.2:1080 "log: { flows: $flows }"
lab_daemon_start || exit 1

# IPv4 is spliced, IPv6 relayed: the upstream is of the other family
ok "connections of the kernel" run $lab_target4 7000 40 10 3000
ok "a line for each" until_count 3 '.tier == "spliced" and .end == "closed"' 40
is "with what it carried" "$(count '.bytes_from_client == 3000 and .bytes_to_client == 3000 and .packets_from_client >= 4 and .packets_to_client >= 3')" 40
is "who and where to" "$(count '(.client | test("^10\\.1\\.0\\.2:[0-9]+$")) and .destination == "10.9.0.1:7000" and .upstream == "main"')" 40
is "all of them different" "$(jq -s 'map(.client) | unique | length' "$flows")" 40
is "when, and for how long" "$(count "(.time | sub(\"\\\\.[0-9]+\"; \"\") | fromdate) > now - 60 and .duration_ms < 5000")" 40
ok "connections of the relay" run $lab_target6 7000 40 10 3000
ok "a line for each of these" until_count 3 '.tier == "relay" and .end == "closed" and .not_spliced == "family"' 40
is "with what these carried" "$(count '.tier == "relay" and .bytes_from_client == 3000 and .bytes_to_client == 3000 and .packets_from_client >= 4 and .packets_to_client >= 3')" 40

for tier in spliced:$lab_target4 relay:$lab_target6; do
	host=${tier#*:} tier=${tier%%:*}
	one_connection "$host" 7000 reset
	ok "$tier: a client's reset" until_count 3 ".tier == \"$tier\" and .end == \"client_reset\" and .bytes_to_client == 1000" 1
	in_client curl -gsS -m 3 "http://$([ "$tier" = relay ] && echo "[$host]" || echo "$host"):81/" >/dev/null 2>&1
	ok "$tier: a refused target" until_count 3 '.tier == "none" and .end == "refused" and .why == "reply_refused"' \
		"$([ "$tier" = spliced ] && echo 1 || echo 2)"
done
lab_end "$socks"
lab_spawn "$lab_s" python3 "$lab_dir/resets.py"
resets=$lab_last
lab_wait_port "$lab_s" 1080
for tier in spliced:$lab_target4 relay:$lab_target6; do
	one_connection "${tier#*:}" 7000 wait
	ok "${tier%%:*}: the target's reset" until_count 3 \
		".tier == \"${tier%%:*}\" and .end == \"upstream_reset\" and .bytes_to_client == 1000" 1
done
lab_end "$resets"
run $lab_target4 7000 2 1 100 >/dev/null 2>&1
ok "no upstream" until_count 3 '.end == "refused" and .why == "dial_refused"' 2
lab_start_microsocks
is "nothing else was recorded" "$(jq -s length "$flows")" 88
is "as many as there were connections" "$(lab_stat .stack.flows_opened)" 88
is "stats: lines" "$(lab_stat '.records | "\(.written) \(.lost) \(.current)"')" "88 0 0"
is "for root only" "$(stat -c %a "$flows")" 600

# --- the daemon stops: relayed connections end, spliced ones are recorded by the next daemon ---
hold_begin $lab_target4
spliced_sleeper=$sleeper spliced_holder=$holder
hold_begin $lab_target6
lab_daemon_stop
is "relayed: the daemon stopped" "$(count '.tier == "relay" and .end == "stopped"')" 1
is "spliced: goes on, no line" "$(jq -s length "$flows")" 89
hold_end
lab_daemon_start || exit 1
sleep 1
kill "$spliced_sleeper"
wait "$spliced_holder" 2>/dev/null
lab_end "$spliced_sleeper" "$spliced_holder"
ok "spliced: recorded by the next daemon, whole" until_count 3 \
	'.tier == "spliced" and .end == "closed" and .duration_ms > 1000 and .bytes_from_client == .bytes_to_client and .bytes_from_client > 0' 1
hold_begin $lab_target4
lab_daemon_stop
lab_daemon_start || exit 1
"$lab_build/socksplice" stop --flush --control "$lab_control"
wait "$lab_daemon" 2>/dev/null
lab_daemon=""
is "flushed" "$(count '.tier == "spliced" and .end == "flushed"')" 1
hold_end
lab_daemon_flush

# --- idle, and one that is dialled while the daemon stops ---
lab_tcp_keys="linger: 300ms, idle-timeout: 1s, connect-timeout: 5s"
lab_config 10.2.0.2:1080 "log: { flows: $flows }"
lab_daemon_start || exit 1
for how in signal command; do
	mv "$flows" "$flows.$how"
	if [ "$how" = signal ]; then kill -HUP "$lab_daemon"; else "$lab_build/socksplice" reload --control "$lab_control" >/dev/null; fi
	for _ in $(seq 30); do [ -e "$flows" ] && break; sleep 0.1; done
	run $lab_target4 7000 3 1 100 >/dev/null 2>&1
	ok "reload by $how: a new file" until_count 3 '.end == "closed"' 3
done
hold_begin $lab_target4
ok "spliced: idle" until_count 5 '.tier == "spliced" and .end == "idle" and .duration_ms >= 1000' 1
hold_end
hold_begin $lab_target6
ok "relayed: idle" until_count 5 '.tier == "relay" and .end == "idle" and .duration_ms >= 1000' 1
hold_end
# an upstream that never answers
ip -n "$lab_s" link set s0 down
in_client curl -sS -m 3 "http://$lab_target4:7000/" >/dev/null 2>&1 &
sleep 1
lab_daemon_stop
is "the daemon stops while it dials" "$(count '.tier == "none" and .end == "stopped"')" 1
wait $!
is "every line is JSON with an end" "$(jq -s 'map(select(.end == "none" or .end == null)) | length' "$flows")" 0
lab_daemon_flush
tap_done
