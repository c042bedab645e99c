#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What an administrator looks at: `status` (what it says and its exit code) while upstream and links fail and recover, `top`,
# the metrics listener, and that no password is ever shown.
#
#   client c0 ── l0 gateway (daemon, metrics) u0 ── s0 server (microsocks, echo server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

conns=$lab_build/tests/tools/conns
run() { in_client "$conns" run "$@"; }
ctl() { "$lab_build/socksplice" "$@" --control "$lab_control"; }
status() { ctl status --json | jq -r "$1"; }
first() { ctl status | head -n 1; }
metrics() { in_gateway curl -sS -m 5 "http://127.0.0.1:9105/$1"; }
code() { in_gateway curl -sS -m 5 -o /dev/null -w '%{http_code}' "${@:2}" "http://127.0.0.1:9105/$1"; }
# until SECONDS FIRST-LINE-PATTERN
until_first() {
	local i
	for i in $(seq $(($1 * 10))); do
		# shellcheck disable=SC2053 # a pattern
		[[ $(first) == $2 ]] && return 0
		sleep 0.1
	done
	echo "status says (try $i): $(first)"
	return 1
}
# screen NAME FILE: it fits a terminal
screen() {
	cmp_ok "$1: at most 24 lines" "$(wc -l <"$2")" -le 24
	cmp_ok "$1: at most 80 columns" "$(awk '{ if (length > n) n = length } END { print n }' "$2")" -le 80
}
# names documented in FILE, one per line: the first column of its tables
documented() { sed -n 's/^| `\([a-z0-9_]*\)` .*/\1/p' "$1" | sort; }

lab_up
lab_spawn "$lab_s" "$conns" serve 7000
lab_start_microsocks -u alice -P tops3cret || exit 1
socks=$lab_last
lab_wait_port "$lab_s" 7000
lab_upstream_keys="username: alice, password: tops3cret"
lab_tcp_keys="linger: 300ms, connect-timeout: 2s"
lab_config 10.2.0.2:1080 "log: { level: debug, flows: $lab_dir/flows.log }
metrics: 127.0.0.1:9105"
lab_daemon_start || exit 1

# --- all is well ---
ok "connections" run $lab_target4 7000 200 20 2000
is "status: its first line" "$(first)" working
ok "status: exit code" ctl status
is "status: state" "$(status '.state + .reason')" working
is "status: the upstream has answered" "$(status '.upstreams[0] | "\(.name) \(.usable) \(.answered) \(.failures)"')" \
	"main true true 0"
is "status: links" "$(status '[.links[] | .name + (if .up then "+" else "-" end)] | join(" ")')" "l0+ u0+"
ctl status >"$lab_dir/screen"
screen "status" "$lab_dir/screen"
in_client "$conns" ping $lab_target4 7000 6 60000 >"$lab_dir/ping" 2>&1 &
pinger=$!
in_client "$conns" ping $lab_target6 7000 6 30000 >"$lab_dir/ping6" 2>&1 &
pinger6=$!
sleep 3.5
cmp_ok "status: a rate of the spliced tier" "$(status .rates.spliced_bytes_from_clients)" -gt 100000
cmp_ok "status: a rate of the relayed tier" "$(status .rates.relayed_bytes_to_clients)" -gt 100000
cmp_ok "status: packets" "$(status '.rates.spliced_packets')" -gt 100

# --- top ---
ctl top --once --interval 1 >"$lab_dir/top"
ok "top: exit code" test $? -eq 0
screen "top" "$lab_dir/top"
is "top: the verdict" "$(head -n 1 "$lab_dir/top")" working
ok "top: the spliced flow" grep -Eq "^10\.1\.0\.2:[0-9]+ +$lab_target4:7000 +spliced +[0-9.]+[kMG] +[0-9.]+[kMG]" "$lab_dir/top"
ok "top: the relayed flow" grep -Eq "^\[fd01::2\]:[0-9]+ +\[$lab_target6\]:7000 +relay +[0-9.]+[kMG] +[0-9.]+[kMG]" "$lab_dir/top"
ok "top: clients" grep -Eq '^10\.1\.0\.2 +1 +[0-9.]+[kMG] +[0-9.]+[kMG]' "$lab_dir/top"
ok "top: rates of both tiers" awk '$1 == "spliced" || $1 == "relayed" { n += $2 + 0 > 0 && $3 + 0 > 0 && $4 + 0 > 0 }
	END { exit n != 2 }' "$lab_dir/top"
ctl top --interval 0.1 --count 1 >"$lab_dir/top"
is "top: no terminal, one screen" "$(grep -c '^BUSIEST CLIENTS' "$lab_dir/top")" 1
is "top: no more rows than asked for" "$(grep -c ':7000 ' "$lab_dir/top")" 1
is "top: --json" "$(ctl top --json --interval 0.2 | jq -r '[.flows[0].tier, .clients[0].client, (.flows[0].rate_from_client > 0)] | join(" ")' |
	grep -cE '^(spliced|relay) (10.1.0.2|fd01::2) true$')" 1
ctl top --interval 0 2>/dev/null
is "top: a wrong interval" "$?" 2
ctl top --count 101 2>/dev/null
is "top: a wrong count" "$?" 2
cat >"$lab_dir/terminal.py" <<-'END'
	import os, pty, select, sys, time
	pid, fd = pty.fork()
	if pid == 0:
	    os.execv(sys.argv[1], sys.argv[1:])
	seen, pressed, start = b"", False, time.time()
	while time.time() - start < 10:
	    if select.select([fd], [], [], 0.1)[0]:
	        try:
	            data = os.read(fd, 65536)
	        except OSError:
	            break
	        seen += data
	    if seen.count(b"\033[H") >= 3 and not pressed:
	        os.write(fd, b"q")
	        pressed = True
	_, status = os.waitpid(pid, 0)
	print(os.waitstatus_to_exitcode(status), seen.count(b"BUSIEST CLIENTS") >= 3, time.time() - start < 5)
END
is "top: live in a terminal until q" \
	"$(python3 "$lab_dir/terminal.py" "$lab_build/socksplice" top --interval 0.2 --control "$lab_control")" "0 True True"
wait "$pinger" "$pinger6"

# --- metrics ---
ok "metrics: promtool finds nothing" bash -c "nsenter --net=/run/netns/$lab_g -- curl -sS http://127.0.0.1:9105/metrics |
	promtool check metrics"
metrics metrics >"$lab_dir/metrics"
sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' "$lab_dir/metrics" | sort >"$lab_dir/names"
documented "$lab_root/docs/metrics.md" >"$lab_dir/documented"
ok "metrics: names are those of docs/metrics.md" diff "$lab_dir/documented" "$lab_dir/names"
is "metrics: a counter, as in stats" "$(awk '$1 == "socksplice_flows_started_total{tier=\"spliced\"}" {print $2}' "$lab_dir/metrics")" \
	"$(lab_stat .splice.spliced)"
cmp_ok "metrics: payload of spliced flows" \
	"$(awk -F'} ' '/^socksplice_flow_bytes_total.*spliced.*to_client/ {print $2}' "$lab_dir/metrics")" -gt 1000000
is "metrics: no label from the wire" "$(grep -cE '10\.1\.0\.2|10\.9\.0\.1' "$lab_dir/metrics")" 0
is "metrics: code" "$(code metrics)" 200
is "metrics: HEAD" "$(code metrics --head)" 200
is "metrics: HEAD tells a length and sends nothing" \
	"$(in_gateway curl -sS -m 5 --head http://127.0.0.1:9105/metrics | grep -ci '^content-length: [1-9]')" 1
is "metrics: an unknown path" "$(code elsewhere)" 404
is "metrics: a method that is not allowed" "$(code metrics -X POST -d x=1)" 405
is "metrics: which ones are" "$(in_gateway curl -sS -m 5 -i -X DELETE http://127.0.0.1:9105/healthz | grep -ci '^allow: GET, HEAD')" 1
is "healthz: code" "$(code healthz)" 200
is "healthz: text" "$(metrics healthz)" working
cat >"$lab_dir/hog.py" <<-'END'
	import socket, time
	hogs = [socket.create_connection(("127.0.0.1", 9105)) for _ in range(40)]
	for hog in hogs:
	    try:
	        hog.send(b"GET /metrics HTTP/1.1\r\n")
	    except OSError:
	        pass
	print("holding", flush=True)
	time.sleep(60)
END
in_gateway python3 "$lab_dir/hog.py" >"$lab_dir/hog" 2>&1 &
hog=$!
lab_pids+=("$hog")
for _ in $(seq 50); do grep -q holding "$lab_dir/hog" && break; sleep 0.1; done
ok "metrics: silent clients hold it up" bash -c "! nsenter --net=/run/netns/$lab_g -- curl -sS -m 1 http://127.0.0.1:9105/healthz"
ok "metrics: for a few seconds" in_gateway curl -sS --retry 20 --retry-delay 1 --retry-all-errors -m 2 http://127.0.0.1:9105/healthz
lab_end "$hog"

# --- stats ---
ctl stats --json | jq -r 'to_entries[] | .key as $g | if (.value | type) == "object" then .value | keys[] | "\($g).\(.)" else $g end' |
	sort >"$lab_dir/names"
awk '/^## `/ { gsub(/[#` ]/, ""); group = $0 "."; next } /^## / { group = "" }
	/^\| `/ { split($0, part, "`"); print group part[2] }' "$lab_root/docs/stats.md" | sort >"$lab_dir/documented"
ok "stats: names are those of docs/stats.md" diff "$lab_dir/documented" "$lab_dir/names"
is "stats: in use, at most, there is" "$(lab_stat '[.pool, .batch, .ebpf, .uring, .records | .current <= .peak and .peak <= .total] | all')" true
is "stats: pool" "$(lab_stat '.pool.current + .frames.pool == .frames.total')" true
cmp_ok "stats: the kernel's table was in use" "$(lab_stat .ebpf.peak)" -ge 20
cmp_ok "stats: batches" "$(lab_stat '.batch.packets')" -ge 200

# --- the upstream fails, and comes back ---
lab_end "$socks"
run $lab_target4 7000 3 1 100 >/dev/null 2>&1
until_first 2 'not working: upstream main fails: connection refused*'
is "upstream gone: status says so" "$(first | sed 's/(.*//')" "not working: upstream main fails: connection refused "
ctl status >/dev/null
is "upstream gone: exit code" "$?" 5
ctl status --json >/dev/null
is "upstream gone: exit code with --json" "$?" 5
# an answer may be a quarter of a second old
sleep 0.3
is "upstream gone: /healthz" "$(code healthz)" 503
ok "upstream gone: /healthz says why" bash -c "nsenter --net=/run/netns/$lab_g -- curl -sS http://127.0.0.1:9105/healthz |
	grep -q '^not working: upstream main fails: connection refused'"
is "upstream gone: metrics" "$(metrics metrics | awk '/^socksplice_upstream_usable/ {print $2}')" 0
sleep 1.2
is "upstream gone: one line in the log" "$(grep -c 'not working: upstream main fails' "$lab_dir/daemon.log")" 1
is "upstream gone: it is the last problem" "$(status '.problems[0].text[:32]')" "not working: upstream main fails"
ctl status >"$lab_dir/screen"
screen "upstream gone" "$lab_dir/screen"
lab_start_microsocks -u alice -P wr0ng-one
socks=$lab_last
run $lab_target4 7000 3 1 100 >/dev/null 2>&1
ok "wrong password: status says so" until_first 2 'not working: upstream main fails: it rejects username and password*'
lab_end "$socks"
lab_start_microsocks -u alice -P tops3cret
ok "upstream back" run $lab_target4 7000 3 1 100
ok "upstream back: status" until_first 2 working
is "upstream back: /healthz" "$(code healthz)" 200
sleep 1.2
cmp_ok "upstream back: a line in the log" "$(grep -c 'working again' "$lab_dir/daemon.log")" -ge 1

# --- links ---
ip -n "$lab_c" link set c0 down
ok "client's link down" until_first 3 'not working: interface l0 is down*'
ip -n "$lab_c" link set c0 up
ok "client's link up" until_first 3 working
ip -n "$lab_s" link set s0 down
ok "uplink down" until_first 3 'not working: uplink u0 is down*'
is "uplink down: /healthz" "$(code healthz)" 503
ip -n "$lab_s" link set s0 up
ok "uplink up" until_first 3 working

# --- nobody sees the password ---
{ ctl status; ctl status --json; ctl stats; ctl stats --json; ctl flows; ctl flows --json; ctl top --once; metrics metrics; metrics healthz
	cat "$lab_dir/daemon.log" "$lab_dir/flows.log"; } >"$lab_dir/everything"
cmp_ok "what was searched is not empty" "$(wc -c <"$lab_dir/everything")" -gt 10000
is "the password is nowhere" "$(grep -cE 'tops3cret|wr0ng-one' "$lab_dir/everything")" 0
lab_daemon_flush
is "the daemon stops in order" "$?" 0

# --- several upstreams ---
# gone with the client's link
ip -n "$lab_c" route replace default via 10.1.0.1
lab_config 10.2.0.2:1080 "metrics: 127.0.0.1:9105
log: { flows: $lab_dir/several.log }"
sed -i "s|^upstreams:.*|upstreams: [ { name: main, server: '10.2.0.2:1080', username: alice, password: tops3cret },\
	{ name: spare, server: '10.2.0.2:1998', weight: 0, backoff: 100ms }, { name: gone, server: '10.2.0.2:1999', backoff: 100ms } ]|" \
	"$lab_dir/socksplice.yml"
usable() { metrics metrics | sed -n 's/^socksplice_upstream_usable{upstream="\(.*\)"} /\1=/p' | paste -sd' '; }
lab_daemon_start || exit 1
for _ in $(seq 40); do [ "$(status '.upstreams[1].usable')" = false ] && break; sleep 0.1; done
is "several: a standby that is down" "$(status '.upstreams | map(.name + "=" + (.usable | tostring)) | join(" ")')" "main=true spare=false gone=true"
is "several: is not missed" "$(first)" working
ok "several: clients do not notice the one that is gone" run $lab_target4 7000 8 1 100
ok "several: status does" until_first 2 'degraded: upstream gone fails: connection refused*'
sleep 0.3
is "several: /healthz" "$(code healthz)" 200
is "several: each in the metrics" "$(usable)" "main=1 spare=0 gone=0"
is "several: its failures" "$(metrics metrics | grep -c '^socksplice_upstream_failures_total{upstream="gone",reason="dial_refused"} [3-9]')" 1
is "several: granted by the other" "$(metrics metrics | grep '^socksplice_upstream_granted_total' | paste -sd' ')" \
	'socksplice_upstream_granted_total{upstream="main"} 8 socksplice_upstream_granted_total{upstream="spare"} 0 socksplice_upstream_granted_total{upstream="gone"} 0'
ctl status >"$lab_dir/screen"
is "several: those that are down stand first" "$(awk '/^upstream/ {print $2, $3}' "$lab_dir/screen" | paste -sd' ')" "spare DOWN gone DOWN"
screen "several" "$lab_dir/screen"
for _ in $(seq 50); do [ "$(wc -l <"$lab_dir/several.log")" -ge 8 ] && break; sleep 0.1; done
is "several: records name the one that served" "$(jq -r .upstream "$lab_dir/several.log" | sort | uniq -c | xargs)" "8 main"
lab_daemon_flush

# --- the listener ---
lab_upstream_keys=""
lab_config 10.2.0.2:1080 'metrics: "[::1]:9105"'
lab_daemon_start || exit 1
is "IPv6: served" "$(in_gateway curl -gsS -m 5 'http://[::1]:9105/healthz')" working
ok "IPv6: not on IPv4" bash -c "! nsenter --net=/run/netns/$lab_g -- curl -sS -m 1 http://127.0.0.1:9105/healthz"
lab_daemon_flush
lab_spawn "$lab_g" "$conns" serve 9105
lab_wait_port "$lab_g" 9105
lab_daemon_start 2>/dev/null
is "a port in use: no start" "$?" 1
ok "a port in use: which one, and why" grep -q 'metrics: cannot listen on \[::1\]:9105: Address already in use' "$lab_dir/daemon.log"
lab_daemon=""
lab_config 10.2.0.2:1080 "log: { flows: /nosuch/flows.log }"
lab_daemon_start 2>/dev/null
is "no place for records: no start" "$?" 1
ok "no place for records: which one, and why" grep -q 'log.flows: /nosuch/flows.log: No such file' "$lab_dir/daemon.log"
lab_daemon=""
tap_done
