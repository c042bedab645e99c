#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Warm connections: made in advance, used by spliced and by relayed connections, replaced; thrown away when they are old, closed
# by the server, or of no use for a client; bounded by performance.connection_pool_size; gone when their server fails. The
# time that they save is measured by `make bench`; here the dials are counted.
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
splice_hand_client
server4=10.2.0.2:1080 server6="[fd02::2]:1080"
dial() { in_client timeout 20 "$lab_root/tests/tools/dial.py" "$@"; }
# pools_gone: connections have ended, those of the pool apart
pools_gone() { splice_until 8 test_equal "$(up 'map(.pool.warm) | add')" '[.splice.live_now, .stack.established_now, .stack.half_open_now] | add'; }
test_equal() { [ "$(lab_stat "$2")" = 0 ]; }
target_of() { case $1 in 4) echo $lab_target4 ;; 6) echo $lab_target6 ;; esac; }

used() {
	local family=$1 host server name="$label, IPv$1" sent before
	host=$(target_of "$family")
	[ "$family" = 4 ] && server=$server4 || server=$server6
	upstreams_begin "name: a, server: '$server', pool: 8"
	ok "$name: filled" splice_until 4 of_is a pool.warm 8
	is "$name: by eight dials" "$(of a dials)" 8
	is "$name: no client has dialled" "$(lab_stat .bridge.dials)" 0
	is "$name: one connection" "$(dial "$host" 5003 hello)" "connected 0 hello"
	is "$name: by the pool" "$(of a pool.hits) $(of a pool.misses) $(lab_stat .bridge.dials)" "1 0 0"
	ok "$name: as the mode says" went
	ok "$name: and filled again" splice_until 4 of_is a pool.warm 8
	is "$name: 300 connections, one after the other" "$(load 300 1 "$host")" "connections=300 failed=0"
	cmp_ok "$name: most of them by the pool" "$(of a pool.hits)" -ge 150
	is "$name: 600 at once" "$(load 600 30 "$host")" "connections=600 failed=0"
	is "$name: those that found it empty have dialled" "$(($(of a pool.hits) + $(of a pool.misses)))" 901
	is "$name: and only those" "$(lab_stat .bridge.dials)" "$(of a pool.misses)"
	ok "$name: all as the mode says" went
	ok "$name: each service behaves" services "$host"
	sent=$(in_client timeout 40 "$lab_root/tests/tools/stream.py" "$host" echo 30000000 33000000 2>&1 | head -n 1)
	is "$name: a transfer in both directions" "$sent" ok
	ok "$name: flows end" pools_gone
	ok "$name: and filled again" splice_until 4 of_is a pool.warm 8
	is "$name: nothing but the pool holds entries" "$(lab_stat .splice.entries_in_use)" "$([ "$mode" = relay ] && echo 0 || echo 8)"
	is "$name: frames add up" "$(frames_balanced)" true
	splice_stop
	before=$(in_server ss -Htn state established "sport = :1080" | wc -l)
	is "$name: nothing is left at the server" "$before" 0
}
# services HOST: banners of every size, ends and resets, by warm connections
services() {
	local how
	for how in "5004 1000 1 echo" "5005 1000 100 echo" "5006 0 100 end" "5007 1000 20000 echo" "5013 1000 100 echo" "5010 0 0 reset"; do
		# shellcheck disable=SC2086 # words
		set -- "$1" $how
		in_client timeout 40 "$conns" target "$1" "$2" 40 4 "$3" "$4" "$5" || return 1
	done
}

# windows_agree: the window of a client's segment, in its scale, is what the server reads in the pool's (7)
windows_agree() {
	local pids=() scale client server
	rm -f "$lab_dir/c0.pcap" "$lab_dir/s0.pcap"
	lab_spawn "$lab_c" tshark -q -i c0 -w "$lab_dir/c0.pcap" -f "tcp port 5003"
	pids+=("$lab_last")
	lab_spawn "$lab_s" tshark -q -i s0 -w "$lab_dir/s0.pcap" -f "tcp port 1080"
	pids+=("$lab_last")
	splice_until 10 test -s "$lab_dir/c0.pcap" -a -s "$lab_dir/s0.pcap" || return
	dial $lab_target4 5003 hello >/dev/null
	sleep 0.5
	lab_end "${pids[@]}"
	scale=$(tshark -r "$lab_dir/c0.pcap" -Y 'tcp.flags.syn == 1 && tcp.dstport == 5003' -T fields -e tcp.options.wscale.shift 2>/dev/null | head -n 1)
	client=$(tshark -r "$lab_dir/c0.pcap" -Y 'tcp.len == 5 && tcp.dstport == 5003' -T fields -e tcp.window_size_value 2>/dev/null | head -n 1)
	server=$(tshark -r "$lab_dir/s0.pcap" -Y 'tcp.len == 5 && tcp.dstport == 1080' -T fields -e tcp.window_size_value 2>/dev/null | head -n 1)
	[ "${scale:-7}" -ne 7 ] && [ $((client << scale >> 7)) = "$server" ] && echo yes && return
	echo "scale $scale, window $client became $server"
}

# Clients that cannot do what the pool has offered.
unfit() {
	local name="$label, other clients" i
	upstreams_begin "name: a, server: '$server4', pool: 8"
	ok "$name: filled" splice_until 4 of_is a pool.warm 8
	# another window scale is no hindrance: it is translated
	in_client ip route replace default via 10.1.0.1 window 600000
	is "$name: small windows: works" "$(load 20 2)" "connections=20 failed=0"
	cmp_ok "$name: small windows: by the pool" "$(of a pool.hits)" -ge 10
	is "$name: small windows: a transfer" "$(in_client timeout 40 "$lab_root/tests/tools/stream.py" $lab_target4 echo 30000000 33000000 2>&1 | head -n 1)" ok
	ok "$name: filled again" splice_until 4 of_is a pool.warm 8
	[ "$mode" = relay ] || is "$name: small windows: the server reads the same" "$(windows_agree)" yes
	in_client ip route replace default via 10.1.0.1
	in_client sysctl -qw net.ipv4.tcp_rmem="4096 131072 33554432"
	[ "$mode" = relay ] || is "$name: large windows: the server reads the same" "$(windows_agree)" yes
	is "$name: large windows: a transfer" "$(in_client timeout 40 "$lab_root/tests/tools/stream.py" $lab_target4 echo 30000000 33000000 2>&1 | head -n 1)" ok
	in_client sysctl -qw net.ipv4.tcp_rmem="4096 131072 6291456"
	ok "$name: filled again" splice_until 4 of_is a pool.warm 8
	local before hits
	for i in tcp_timestamps tcp_sack tcp_window_scaling; do
		in_client sysctl -qw net.ipv4.$i=0
		before=$(of a pool.unfit) hits=$(of a pool.hits)
		is "$name: $i=0: works" "$(load 10 2)" "connections=10 failed=0"
		if [ "$mode" = relay ]; then
			cmp_ok "$name: $i=0: relayed ones do not care" "$(of a pool.hits)" -gt "$hits"
		else
			is "$name: $i=0: dialled afresh" "$(($(of a pool.unfit) - before)) $(($(of a pool.hits) - hits))" "10 0"
		fi
		in_client sysctl -qw net.ipv4.$i=1
	done
	in_client ip route replace default via 10.1.0.1 advmss 1300
	before=$(of a pool.unfit)
	is "$name: a small MSS: works" "$(load 10 2)" "connections=10 failed=0"
	[ "$mode" = relay ] || is "$name: a small MSS: dialled afresh" "$(($(of a pool.unfit) - before))" 10
	in_client ip route replace default via 10.1.0.1
	ok "$name: all as the mode says" went
	# of the other family: relayed, by what is there
	ok "$name: filled again" splice_until 4 of_is a pool.warm 8
	hits=$(of a pool.hits)
	is "$name: IPv6: works" "$(load 3 1 $lab_target6)" "connections=3 failed=0"
	cmp_ok "$name: IPv6: by the pool" "$(of a pool.hits)" -gt "$hits"
	[ "$mode" = relay ] || is "$name: IPv6: relayed, for that reason" "$(lab_stat '[.splice.not_spliced_family, .stack.flows_established] | join(" ")')" "3 3"
	ok "$name: flows end" pools_gone
	is "$name: frames add up" "$(frames_balanced)" true
	splice_stop
}

aged_least() { [ "$(of a pool.aged)" -ge "$1" ]; }
aged() {
	local name="$label, age" server
	upstreams_serve 1081
	server=$lab_last
	upstreams_begin "name: a, server: '10.2.0.2:1081', pool: 4, pool-max-age: 1s, backoff: 300ms"
	ok "$name: filled" splice_until 4 of_is a pool.warm 4
	ok "$name: each is replaced when its time is up" splice_until 8 aged_least 4
	is "$name: and nothing else" "$(of a 'pool | [.discarded, .misses, .unfit] | join(" ")') $(of a times_failed)" "0 0 0 0"
	is "$name: one dial for each" "$(up ".[0] | .dials <= .pool.aged + 8")" true
	ok "$name: filled again" splice_until 4 of_is a pool.warm 4
	splice_stop
	# the server goes away: all are closed, and its failure is found out without any client
	upstreams_begin "name: a, server: '10.2.0.2:1081', pool: 4, pool-max-age: 1h, backoff: 300ms"
	ok "$name: filled" splice_until 4 of_is a pool.warm 4
	lab_end "$server"
	ok "$name: the server dies: none is kept" splice_until 4 of_is a pool.warm 0
	is "$name: and they were seen to be closed" "$(of a pool.discarded)" 4
	ok "$name: which tells that it has failed" splice_until 4 of_is a times_failed 1
	is "$name: nothing is dialled but probes" "$(before=$(of a 'dials - .probes'); sleep 1; echo $(($(of a 'dials - .probes') - before)))" 0
	upstreams_serve 1081
	server=$lab_last
	ok "$name: it comes back: filled again" splice_until 10 of_is a pool.warm 4
	is "$name: a connection" "$(dial $lab_target4 5003 hello)" "connected 0 hello"
	splice_stop
	lab_end "$server"
}

# A server that has forgotten its idle connections without a word (it was killed behind a firewall, say): the client must
# not notice.
dead() {
	local name="$label, dead" server
	upstreams_serve 1081
	server=$lab_last
	upstreams_begin "name: a, server: '10.2.0.2:1081', pool: 4, pool-max-age: 1h"
	ok "$name: filled" splice_until 4 of_is a pool.warm 4
	# its resets do not reach us
	ip -n "$lab_s" link set s0 down
	lab_end "$server"
	# nor what its kernel would send again
	in_server ss -K "sport = :1081" >/dev/null
	ip -n "$lab_s" link set s0 up
	ip -n "$lab_s" addr replace fd02::2/64 dev s0 nodad
	ip -n "$lab_s" route replace default via 10.2.0.1
	upstreams_serve 1081
	server=$lab_last
	is "$name: the pool does not know" "$(of a pool.warm)" 4
	is "$name: a connection works" "$(dial $lab_target4 5003 hello)" "connected 0 hello"
	is "$name: by a dial of its own" "$(lab_stat '[.bridge.dials, .bridge.dialled_again] | join(" ")')" "1 1"
	is "$name: which is no failure" "$(of a state) $(of a times_failed)" "healthy 0"
	ok "$name: flows end" pools_gone
	splice_stop
	lab_end "$server"
}

bounded() {
	local name="$label, bounded"
	extra="performance: { connection_pool_size: 12 }"
	upstreams_begin "name: a, server: '$server4', pool: 30" "name: b, server: '10.4.0.2:1080', pool: 10"
	ok "$name: cut to the limit of all" splice_until 4 of_is a pool.warm 9
	ok "$name: in proportion" splice_until 4 of_is b pool.warm 3
	splice_stop
	extra="performance: { enable_connection_pool: false }"
	upstreams_begin "name: a, server: '$server4', pool: 30"
	is "$name: switched off" "$(load 10 1) $(of a dials) $(of a pool.target)" "connections=10 failed=0 10 0"
	extra=""
	splice_stop
}

passwords() {
	local name="$label, password"
	lab_spawn "$lab_s" microsocks -p 1082 -u alice -P 'pass word'
	lab_wait_port "$lab_s" 1082 || exit 1
	lab_spawn "$lab_s" "$conns" serve 7000
	lab_wait_port "$lab_s" 7000 || exit 1
	upstreams_begin "name: a, server: '10.2.0.2:1082', username: alice, password: 'pass word', pool: 4"
	ok "$name: filled" splice_until 4 of_is a pool.warm 4
	ok "$name: 50 connections" in_client "$conns" run $lab_target4 7000 50 2 20000
	cmp_ok "$name: by the pool" "$(of a pool.hits)" -ge 20
	splice_stop
	# a server that may be sent all at once: fresh dials are, warm ones cannot be
	upstreams_begin "name: a, server: '$server4', username: alice, password: 'pass word', pool: 4, pipeline: true"
	ok "$name: pipelined: filled" splice_until 4 of_is a pool.warm 4
	is "$name: pipelined: 300 connections" "$(load 300 20)" "connections=300 failed=0"
	is "$name: pipelined: some by the pool, some not" "$(of a 'pool | [.hits > 3, .misses > 3] | join(" ")')" "true true"
	ok "$name: pipelined: as the mode says" went
	splice_stop
	upstreams_begin "name: a, server: '10.2.0.2:1082', username: alice, password: wrong, pool: 4, backoff: 10s"
	ok "$name: wrong: known before the first client" splice_until 4 of_is a state failed
	cmp_ok "$name: wrong: and not tried again and again" "$(of a dials)" -le 8
	splice_stop
	lab_end "$lab_last"
}

early() {
	local name="$label, accept: early"
	lab_tcp_keys+=", accept: early"
	upstreams_begin "name: a, server: '$server4', pool: 4"
	ok "$name: filled" splice_until 4 of_is a pool.warm 4
	is "$name: 20 connections" "$(load 20 1)" "connections=20 failed=0"
	cmp_ok "$name: by the pool" "$(of a pool.hits)" -ge 10
	splice_stop
	upstreams_mode "$mode"
}

# The daemon dies with a pool: its entries are taken back, their ports are free.
restarted() {
	local name="$label, restart"
	upstreams_begin "name: a, server: '$server4', pool: 6"
	ok "$name: filled" splice_until 4 of_is a pool.warm 6
	splice_hold $lab_target4 5003 10
	ok "$name: filled again" splice_until 4 of_is a pool.warm 6
	lab_daemon_stop KILL
	lab_daemon_start 9>&- || exit 1
	is "$name: what was spliced is taken over, warm ones are not" "$(lab_stat '.splice | [.adopted, .adopted_unusable] | join(" ")')" "10 6"
	ok "$name: there is a new pool" splice_until 4 of_is a pool.warm 6
	splice_release
	is "$name: all are alive" "$held" "alive=10 lost=0"
	ok "$name: flows end" pools_gone
	ok "$name: ports are given back" splice_until 4 of_is a ports_in_use 6
	splice_stop
}

extra=""
# pool_xdp.sh and pool_relay.sh are the others
for one in ${UPSTREAM_MODES:-tc}; do
	upstreams_mode $one
	used 4
	used 6
	unfit
	aged
	dead
	passwords
	if [ "$mode" = relay ]; then
		bounded
		early
	else
		restarted
	fi
done
tap_done
