#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Bytes arrive as they were sent: 200 MB up and down, IPv4 and IPv6, through dante; packets on the client's link are
# well-formed; frames add up and return to the pool.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (dante, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

lab_up
mkdir "$lab_dir/www"
echo hello >"$lab_dir/www/page"
head -c 200000000 /dev/urandom >"$lab_dir/www/big"
head -c 3000000 /dev/urandom >"$lab_dir/www/small"
want=$(sha256sum <"$lab_dir/www/big" | cut -d' ' -f1)
small=$(sha256sum <"$lab_dir/www/small" | cut -d' ' -f1)
lab_start_dante && lab_start_web "$lab_dir/www" || exit 1
lab_config
lab_daemon_start || exit 1

before=$(lab_stat .frames.pool)
for host in $lab_target4 "[$lab_target6]"; do
	is "page from $host" "$(in_client curl -gsS -m 10 "http://$host/page" 2>&1)" hello
	is "200 MB down from $host" "$(in_client curl -gsS -m 120 "http://$host/big" | sha256sum | cut -d' ' -f1)" "$want"
	is "200 MB up to $host" "$(in_client curl -gsS -m 120 -T "$lab_dir/www/big" "http://$host/put" 2>&1)" "$want"
done
cmp_ok "payload to clients is counted" "$(lab_stat .stack.bytes_to_clients)" -ge 400000000
cmp_ok "payload from clients is counted" "$(lab_stat .stack.bytes_from_clients)" -ge 400000000
is "nothing was dropped for its checksum" "$(lab_stat '.drops.tcp_checksum + .drops.ip_checksum')" 0
ok "flows have ended" flows_gone
ok "no flow holds frames" frames_settled
is "frames add up" "$(frames_balanced)" true
is "the pool is as full as before" "$(lab_stat .frames.pool)" "$before"

# what the client sees on its link, judged by tshark: packets from the gateway carry final checksums
lab_spawn "$lab_c" tshark -q -i c0 -w "$lab_dir/client.pcap" -f 'inbound and tcp'
tshark_pid=$lab_last
for i in $(seq 50); do [ -s "$lab_dir/client.pcap" ] && break; sleep 0.1; done
for host in $lab_target4 "[$lab_target6]"; do
	is "3 MB down from $host, captured" "$(in_client curl -gsS -m 30 "http://$host/small" | sha256sum | cut -d' ' -f1)" "$small"
done
sleep 0.5
lab_end "$tshark_pid"
packets=$(tshark -r "$lab_dir/client.pcap" 2>/dev/null | wc -l)
cmp_ok "the capture holds the transfers (try $i)" "$packets" -gt 3000
# the payload is noise: only the headers are to be looked at
wrong=$(tshark --only-protocols frame,eth,ethertype,ip,ipv6,tcp,data -o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE -r "$lab_dir/client.pcap" \
	-Y 'tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed' 2>/dev/null | head -n 5)
is "no bad checksum, nothing malformed" "$wrong" ""
lab_daemon_stop
is "the daemon stops in order" "$?" 0
tap_done
