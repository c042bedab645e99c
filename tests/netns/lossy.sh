#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# 20 MB up and down over a bad client link: 1 % loss, 1 % reordering, 5 ms each way; IPv4 and IPv6. Then corruption
# and duplicates.
#
#   client c0 ── k0 linkem k1 ── l0 gateway (daemon) u0 ── s0 server (microsocks, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

lab_bad_link loss=1 reorder=1 delay=5 seed=42
bad_link=$lab_last
mkdir "$lab_dir/www"
head -c 20000000 /dev/urandom >"$lab_dir/www/big"
head -c 2000000 /dev/urandom >"$lab_dir/www/small"
want=$(sha256sum <"$lab_dir/www/big" | cut -d' ' -f1)
small=$(sha256sum <"$lab_dir/www/small" | cut -d' ' -f1)
lab_start_microsocks && lab_start_web "$lab_dir/www" || exit 1
lab_config
lab_daemon_start || exit 1

for host in $lab_target4 "[$lab_target6]"; do
	is "20 MB down from $host" "$(in_client curl -gsS -m 100 "http://$host/big" | sha256sum | cut -d' ' -f1)" "$want"
	is "20 MB up to $host" "$(in_client curl -gsS -m 100 -T "$lab_dir/www/big" "http://$host/put" 2>&1)" "$want"
done
cmp_ok "lost segments were sent again" "$(lab_stat .stack.segments_retransmitted)" -ge 100
cmp_ok "most losses were found without a time-out" "$(lab_stat '.stack.segments_retransmitted / (.stack.retransmission_timeouts + 1) | floor')" -ge 5
cmp_ok "segments came out of order" "$(lab_stat .stack.segments_out_of_order)" -ge 100
ok "flows have ended" flows_gone
ok "no flow holds frames" frames_settled

lab_end "$bad_link"
lab_spawn "$lab_l" "$lab_build/tests/tools/linkem" k0 k1 corrupt=2 dup=2 seed=7
sleep 0.3
is "2 MB down over a link that corrupts" "$(in_client curl -gsS -m 60 "http://$lab_target4/small" | sha256sum | cut -d' ' -f1)" "$small"
is "2 MB up over a link that corrupts" "$(in_client curl -gsS -m 60 -T "$lab_dir/www/small" "http://$lab_target4/put" 2>&1)" "$small"
cmp_ok "wrong checksums were dropped and counted" "$(lab_stat '.drops.tcp_checksum + .drops.ip_checksum + .drops.bad_tcp_hdr')" -ge 5
ok "flows have ended" flows_gone
is "frames add up" "$(frames_balanced)" true
lab_daemon_stop
tap_done
