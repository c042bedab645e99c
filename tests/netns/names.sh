#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Upstreams that are given by name: the daemon starts before the name exists; several addresses, of which one does not answer;
# an address that changes when its TTL is up, to another uplink; a name server that is silent. The daemon gets a resolv.conf
# of its own by a mount namespace.
#
#   drawn in upstreams_lab.sh; the name server (tests/tools/dns.py) is at 10.2.0.2
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
zone=$lab_dir/zone
: >"$zone"
echo "nameserver 10.2.0.2" >"$lab_dir/resolv.conf"
cat >"$lab_dir/with-resolver" <<-END
	#!/bin/sh
	exec unshare -m sh -c 'mount --make-rprivate / && mount --bind $lab_dir/resolv.conf /etc/resolv.conf && exec $lab_build/socksplice "\$@"' sh "\$@"
END
chmod +x "$lab_dir/with-resolver"
upstreams_program=$lab_dir/with-resolver
if ! unshare -m sh -c "mount --make-rprivate / && mount --bind '$lab_dir/resolv.conf' /etc/resolv.conf" 2>/dev/null; then
	tap_skip "names of upstreams" "no mount namespaces here"
	tap_done
fi
lab_spawn "$lab_s" python3 -u "$lab_root/tests/tools/dns.py" 10.2.0.2 "$zone"
splice_until 5 sh -c "nsenter --net=/run/netns/$lab_s ss -Hlun sport = :53 | grep -q ." || exit 1
dial() { in_client timeout 20 "$lab_root/tests/tools/dial.py" "$@"; }
said() { grep -c "$1" "$lab_dir/daemon.log"; }
asked() { grep -c "^$1" "$lab_dir/spawned.log"; }

not_there_yet() {
	local name="$label, not there yet"
	: >"$zone"
	: >"$lab_dir/daemon.log"
	upstreams_begin "name: main, server: 'proxy.example:1080'"
	is "$name: the daemon runs, and says it" "$(of main state)" unresolved
	ok "$name: in its log, too" splice_until 5 grep -q "upstream main: proxy.example cannot be resolved: .*gets no connections" "$lab_dir/daemon.log"
	is "$name: in status" "$("$lab_build/socksplice" status --control "$lab_control" | grep -c 'upstream .*main .*DOWN proxy.example:1080, unresolved')" 1
	is "$name: clients are refused" "$(dial $lab_target4 5003 hello)" "ECONNREFUSED 0"
	is "$name: and counted" "$(lab_stat .bridge.no_upstream)" 1
	echo "proxy.example 1 10.2.0.2" >"$zone"
	ok "$name: it appears" splice_until 10 of_is main state healthy
	is "$name: with its address" "$(of main address)" 10.2.0.2:1080
	is "$name: clients are served" "$(load 50 4)" "connections=50 failed=0"
	ok "$name: as the mode says" went
	is "$name: one line said that it could not be resolved" "$(said 'cannot be resolved')" 1
	ok "$name: flows end" flows_gone
	splice_stop
}

two_addresses() {
	local name="$label, two addresses"
	# nothing listens on the first one's port, nor on the last one's
	in_server ip addr add 10.2.0.9/24 dev s0 2>/dev/null
	lab_spawn "$lab_s" microsocks -i 10.2.0.9 -p 1085
	lab_spawn "$lab_s" "$conns" serve 7000
	lab_wait_port "$lab_s" 1085 && lab_wait_port "$lab_s" 7000 || exit 1
	echo "proxy.example 3600 10.4.0.2 10.2.0.9 fd02::77" >"$zone"
	upstreams_begin "name: main, server: 'proxy.example:1085'"
	ok "$name: resolved" splice_until 5 of_is main state healthy
	is "$name: both families" "$(of main addresses)" 3
	is "$name: 20 connections" "$(in_client timeout 40 "$conns" run $lab_target4 7000 20 4 1000 | sed 's/ refused.*//')" "connections=20 failed=0"
	is "$name: by the one that answers" "$(of main address)" 10.2.0.9:1085
	is "$name: which is no failure of the upstream" "$(of main times_failed)" 0
	is "$name: it is not asked for again before its time" "$(a=$(asked proxy.example); sleep 2; echo $(($(asked proxy.example) - a)))" 0
	ok "$name: flows end" flows_gone
	splice_stop
}

moves() {
	local name="$label, moves"
	echo "proxy.example 1 10.2.0.2" >"$zone"
	upstreams_begin "name: main, server: 'proxy.example:1080', pool: 2"
	ok "$name: resolved" splice_until 5 of_is main address 10.2.0.2:1080
	splice_hold $lab_target4 5003 5
	is "$name: five connections" "$held" "holding connections=5 failed=0"
	echo "proxy.example 1 10.4.0.2" >"$zone"
	ok "$name: seen when the TTL is up" splice_until 12 of_is main address 10.4.0.2:1080
	is "$name: by the other uplink" "$(of main uplink)" u1
	is "$name: new connections go there" "$(load 20 4)" "connections=20 failed=0"
	cmp_ok "$name: really" "$(in_server ss -Htan "sport = :1080 and src 10.4.0.2" | wc -l)" -ge 1
	ok "$name: as the mode says" went
	splice_release
	is "$name: those there were live on" "$held" "alive=5 lost=0"
	# the name server is silent: what is known stays in use
	echo "proxy.example - 10.4.0.2" >"$zone"
	ok "$name: the name server is silent: said" splice_until 20 grep -q "proxy.example cannot be resolved: .*stay in use" "$lab_dir/daemon.log"
	is "$name: connections work" "$(load 20 4)" "connections=20 failed=0"
	splice_stop
}

for one in tc relay; do
	upstreams_mode $one
	not_there_yet
	two_addresses
	moves
done
tap_done
