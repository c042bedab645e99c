#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Several upstreams, on two uplinks: shares by weight; one killed under load and back again; standby; one that is stopped; a
# wrong password; none that answers; SO_MARK; an upstream of the other family; a reload; a restart. Spliced by tc, by
# XDP (failover_xdp.sh), and relayed (failover_relay.sh).
#
#   drawn in upstreams_lab.sh
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/splice_lab.sh
. "$(dirname "$0")/splice_lab.sh"
# shellcheck source=tests/netns/upstreams_lab.sh
. "$(dirname "$0")/upstreams_lab.sh"

upstreams_up
upstreams_serve 1080

finish() {
	ok "$1: flows end" flows_gone
	is "$1: frames add up" "$(frames_balanced)" true
	splice_stop
}
probed() { [ "$(of "$1" probes)" -ge 1 ]; }
shares() { up 'map(.connects_ok) | join(" ")'; }

killed_and_back() {
	local name="$label, killed" b pid before
	upstreams_serve 1081
	b=$lab_last
	: >"$lab_dir/daemon.log"
	upstreams_begin "name: a, server: '10.2.0.2:1080', weight: 3, backoff: 500ms" \
		"name: b, server: '10.4.0.2:1081', weight: 1, backoff: 500ms"
	is "$name: 400 connections" "$(load 400 8)" "connections=400 failed=0"
	is "$name: shares are exact" "$(shares)" "300 100"
	ok "$name: as they should go" went
	is "$name: each by its uplink" "$(up 'map(.uplink) | join(" ")')" "u0 u1"
	ok "$name: these end" flows_gone
	splice_hold $lab_target4 5003 40
	is "$name: 40 connections" "$held" "holding connections=40 failed=0"
	if [ "$mode" = relay ]; then before=relayed; else before=spliced; fi
	is "$name: shown by upstream" "$(up "map(.$before) | join(\" \")")" "30 10"
	load 2000 8 >"$lab_dir/load" 9>&- &
	pid=$!
	sleep 0.3
	lab_end "$b"
	ok "$name: seen" splice_until 3 of_is b state failed
	wait $pid
	# those that were at b when it died are lost, and nobody else
	cmp_ok "$name: under load only what was there is lost" "$(sed 's/.*failed=//' "$lab_dir/load")" -le 8
	is "$name: afterwards none is" "$(load 200 8)" "connections=200 failed=0"
	cmp_ok "$name: clients did not see the dials that failed" "$(of b moved_away)" -ge 3
	cmp_ok "$name: by kind" "$(of b 'failures | .dial_refused + .handshake_closed')" -ge 3
	splice_release
	is "$name: connections by the other are unharmed" "$held" "alive=30 lost=10"
	ok "$name: probed" splice_until 4 probed b
	upstreams_serve 1081
	b=$lab_last
	ok "$name: back within the back-off" splice_until 10 of_is b state healthy
	before=$(of b connects_ok)
	is "$name: and used again" "$(load 400 8)" "connections=400 failed=0"
	is "$name: by its weight" "$(($(of b connects_ok) - before))" 100
	is "$name: failed once" "$(up 'map(.times_failed) | join(" ")')" "0 1"
	is "$name: and said so" "$(grep -c 'upstream b: failed (dial_refused\|upstream b: failed (handshake_closed\|upstream b: it answers again' "$lab_dir/daemon.log")" 2
	finish "$name"
	lab_end "$b"
}

standby() {
	local name="$label, standby" a
	upstreams_serve 1081
	a=$lab_last
	upstreams_begin "name: a, server: '10.4.0.2:1081', backoff: 300ms" "name: s, server: '10.2.0.2:1080', weight: 0, backoff: 300ms"
	is "$name: 50 connections" "$(load 50 4)" "connections=50 failed=0"
	is "$name: none by the standby" "$(shares)" "50 0"
	ok "$name: it is probed all the same" splice_until 4 of_is s probes 1
	is "$name: and known to be there" "$(of s state)" standby
	lab_end "$a"
	is "$name: the other one dies: 50 more" "$(load 50 4)" "connections=50 failed=0"
	is "$name: by the standby" "$(shares)" "50 50"
	upstreams_serve 1081
	a=$lab_last
	ok "$name: it comes back" splice_until 10 of_is a state healthy
	is "$name: 50 more" "$(load 50 4)" "connections=50 failed=0"
	is "$name: not by the standby" "$(shares)" "100 50"
	finish "$name"
	lab_end "$a"
}

stopped() {
	local name="$label, stopped" b
	upstreams_serve 1081
	b=$lab_last
	lab_tcp_keys+=", handshake-timeout: 1s"
	upstreams_begin "name: a, server: '10.2.0.2:1080', backoff: 400ms" "name: b, server: '10.4.0.2:1081', backoff: 400ms"
	kill -STOP "$b"
	is "$name: 20 connections" "$(load 20 20)" "connections=20 failed=0"
	is "$name: all by the other" "$(shares)" "20 0"
	cmp_ok "$name: the handshake timed out" "$(of b failures.handshake_timed_out)" -ge 3
	is "$name: then it is known to fail" "$(of b state | sed s/probing/failed/)" failed
	kill -CONT "$b"
	ok "$name: it goes on" splice_until 10 of_is b state healthy
	is "$name: 20 more" "$(load 20 20)" "connections=20 failed=0"
	is "$name: half of them by it" "$(shares)" "30 10"
	finish "$name"
	lab_end "$b"
	upstreams_mode "$mode"
}

wrong_password() {
	local name="$label, wrong password"
	lab_spawn "$lab_s" microsocks -p 1082 -u alice -P right
	lab_wait_port "$lab_s" 1082 || exit 1
	printf 'wrong\nright\n' >"$lab_dir/password"
	chmod 644 "$lab_dir/password"
	: >"$lab_dir/daemon.log"
	upstreams_begin "name: a, server: '10.2.0.2:1080'" \
		"name: b, server: '10.4.0.2:1082', username: alice, password-file: $lab_dir/password, backoff: 300ms"
	is "$name: 20 connections" "$(load 20 4)" "connections=20 failed=0"
	is "$name: all by the other" "$(shares)" "20 0"
	cmp_ok "$name: counted" "$(of b failures.auth_rejected)" -ge 3
	is "$name: taken out" "$(of b state | sed s/probing/failed/)" failed
	cmp_ok "$name: the probe finds out, too" "$(sleep 1; of b probes_failed)" -ge 1
	is "$name: a file that others may read is warned of" "$(grep -c "password-file $lab_dir/password may be read by others" "$lab_dir/daemon.log")" 1
	is "$name: and never shown" "$(grep -c 'wrong$' "$lab_dir/daemon.log")" 0
	finish "$name"
	lab_end "$lab_last"
}

none_answers() {
	local name="$label, none answers" i
	upstreams_begin "name: a, server: '10.2.0.2:1083', backoff: 1h" "name: b, server: '10.4.0.2:1084', backoff: 1h"
	for i in 1 2 3 4; do
		is "$name: refused ($i)" "$(in_client "$lab_root/tests/tools/dial.py" $lab_target4 5003 hello)" "ECONNREFUSED 0"
	done
	is "$name: both have failed" "$(up 'map(.state) | join(" ")')" "failed failed"
	upstreams_serve 1083
	# the two take turns: one of two connections finds it, whatever its back-off
	for i in 1 2; do in_client "$lab_root/tests/tools/dial.py" $lab_target4 5003 hello >>"$lab_dir/tries"; done
	is "$name: the next clients find the one that is back, long before a probe" "$(grep -c 'connected 0 hello' "$lab_dir/tries")" 1
	rm "$lab_dir/tries"
	is "$name: it is healthy" "$(of a state)" healthy
	is "$name: and has them all" "$(load 20 4)" "connections=20 failed=0"
	# what the server says of a destination is no failure of its own
	for i in 1 2 3 4 5; do in_client "$lab_root/tests/tools/dial.py" $lab_target4 5009 >/dev/null; done
	is "$name: refusals by reply are none" "$(of a state) $(of a connects_refused) $(of a times_failed)" "healthy 5 1"
	finish "$name"
	lab_end "$lab_last"
}

marked() {
	local name="$label, mark"
	ip -n "$lab_g" rule add fwmark 7 table 77
	ip -n "$lab_g" route replace $lab_target4 via 10.4.0.2 dev u1 table 77
	upstreams_begin "name: plain, server: '$lab_target4:1080'" "name: marked, server: '$lab_target4:1080', mark: 7"
	is "$name: 20 connections" "$(load 20 4)" "connections=20 failed=0"
	is "$name: half and half" "$(shares)" "10 10"
	is "$name: the mark takes another way" "$(up 'map(.uplink) | join(" ")')" "u0 u1"
	ok "$name: as they should go" went
	finish "$name"
	ip -n "$lab_g" rule del fwmark 7 table 77
}

# Of two families: each client goes where it is sent, but is only spliced by an upstream of its own.
families() {
	local name="$label, two families"
	upstreams_begin "name: four, server: '10.2.0.2:1080'" "name: six, server: '[fd04::2]:1080'"
	is "$name: IPv4" "$(load 20 4)" "connections=20 failed=0"
	is "$name: IPv6" "$(load 20 4 $lab_target6)" "connections=20 failed=0"
	is "$name: shared" "$(shares)" "20 20"
	[ "$mode" = relay ] || is "$name: the kernel carries those that stay in their family" \
		"$(lab_stat '.splice | [.spliced, .not_spliced_family] | join(" ")')" "20 20"
	finish "$name"
}

restarted() {
	local name="$label, restart"
	upstreams_begin "name: a, server: '10.2.0.2:1080', weight: 3" "name: b, server: '10.4.0.2:1080', ports: 50000-50999"
	is "$name: the ports of all are reserved" "$(in_gateway sysctl -n net.ipv4.ip_local_reserved_ports)" "10000-40000,50000-50999"
	splice_hold $lab_target4 5003 40
	is "$name: 40 connections" "$held" "holding connections=40 failed=0"
	lab_daemon_stop KILL
	# another order: the entries name their upstream
	upstreams_config "name: b, server: '10.4.0.2:1080', ports: 50000-50999" "name: a, server: '10.2.0.2:1080', weight: 3"
	lab_daemon_start 9>&- || exit 1
	is "$name: each is taken over by its own" "$(up 'map(.spliced) | join(" ")')" "10 30"
	is "$name: with its port" "$(up 'map(.ports_in_use) | join(" ")')" "10 30"
	is "$name: and shown with it" "$(splice_flows | jq '[map(select(.upstream == "b" and (.source | test(":5[0-9]{4}$")))), map(select(.upstream == "a" and (.source | test(":5[0-9]{4}$") | not)))] | map(length) | join(" ")' -r)" "10 30"
	lab_daemon_stop
	# b is not in the configuration any more
	upstreams_config "name: a, server: '10.2.0.2:1080'"
	lab_daemon_start 9>&- || exit 1
	is "$name: also without one of them" "$(lab_stat .splice.adopted) $(up 'map(.spliced) | join(" ")')" "40 30"
	is "$name: its ports stay theirs" "$(in_gateway sysctl -n net.ipv4.ip_local_reserved_ports)" "10000-40000,50000-50999"
	is "$name: whose flows are shown without one" "$(splice_flows | jq 'map(select(.upstream == "-")) | length')" 10
	splice_release
	is "$name: all are alive" "$held" "alive=40 lost=0"
	ok "$name: all have ended" splice_until 5 splice_stat_is entries_in_use 0
	upstreams_config "name: a, server: '10.2.0.2:1080'" "name: c, server: '10.2.0.2:1080', ports: 52000-52999"
	"$lab_build/socksplice" reload --control "$lab_control" >/dev/null
	is "$name: and are given back then" "$(in_gateway sysctl -n net.ipv4.ip_local_reserved_ports)" "10000-40000,52000-52999"
	finish "$name"
	is "$name: nothing is left on either uplink" "$(in_gateway bpftool net show 2>/dev/null | grep -c socksplice)" 0
	is "$name: no XDP either" "$(ip -n "$lab_g" -j link show | jq '[.[] | select(.xdp)] | length')" 0
}

# Another list of upstreams while connections live.
reloaded() {
	local name="$label, reload" before c carried=spliced
	[ "$mode" != relay ] || carried=relayed
	upstreams_serve 1081
	c=$lab_last
	upstreams_begin "name: a, server: '10.2.0.2:1080'" "name: b, server: '10.4.0.2:1080', ports: 50000-50999"
	splice_hold $lab_target4 5003 10
	is "$name: ten connections" "$held $(up "map(.$carried) | join(\" \")")" "holding connections=10 failed=0 5 5"
	upstreams_config "name: c, server: '10.4.0.2:1081', ports: 52000-52999, pool: 2" "name: a, server: '10.2.0.2:1080', weight: 3"
	is "$name: applied" "$("$lab_build/socksplice" reload --json --control "$lab_control" | jq -c '[.applied, .needs_restart]')" '[["upstreams"],[]]'
	is "$name: the list" "$(up 'map(.name + "=" + .state + "/" + (.weight | tostring)) | join(" ")')" "c=healthy/1 a=healthy/3 b=removed/1"
	before=$(of a connects_ok)
	is "$name: 40 connections" "$(load 40 4)" "connections=40 failed=0"
	is "$name: by the new weights" "$(($(of a connects_ok) - before)) $(of c connects_ok) $(of b connects_ok)" "30 10 5"
	ok "$name: a pool that is new is filled" splice_until 4 of_is c pool.warm 2
	is "$name: the ports of all are reserved" "$(in_gateway sysctl -n net.ipv4.ip_local_reserved_ports)" \
		"10000-40000,$([ "$mode" = relay ] || echo 50000-50999,)52000-52999"
	splice_release
	is "$name: the ten are alive" "$held" "alive=10 lost=0"
	ok "$name: the removed one goes with its last connection" splice_until 5 only_two
	upstreams_config "name: a, server: '10.2.0.2:1080', weight: 3" "name: c, server: '10.4.0.2:1081', ports: 52000-52999, weight: 0"
	"$lab_build/socksplice" reload --control "$lab_control" >/dev/null
	ok "$name: a pool that is gone is emptied" splice_until 4 of_is c pool.warm 0
	is "$name: and it is a standby now" "$(before=$(of c connects_ok); load 20 2 >/dev/null; echo $(($(of c connects_ok) - before)))" 0
	finish "$name"
	lab_end "$c"
}
only_two() { [ "$(up length)" = 2 ]; }

# failover_xdp.sh and failover_relay.sh are the others
for one in ${UPSTREAM_MODES:-tc}; do
	upstreams_mode $one
	killed_and_back
	standby
	stopped
	wrong_password
	none_answers
	marked
	families
	reloaded
	[ "$mode" = relay ] || restarted
done
tap_done
