# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2034,SC2154 # variables of lab.sh, and of who sources this file
# What the tests of rules share: source it after lab.sh, tap.sh and splice_lab.sh.

# rules_up: the lab, with a gateway that forwards, five targets of each family, and two client addresses
rules_up() {
	local n
	lab_up
	ip netns exec "$lab_g" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	for n in 2 3 4 5; do
		ip -n "$lab_s" addr add "10.9.0.$n/32" dev lo && ip -n "$lab_s" addr add "fd09::$n/128" dev lo nodad
		ip -n "$lab_g" route add "10.9.0.$n" via 10.2.0.2 && ip -n "$lab_g" route add "fd09::$n" via fd02::2
	done
	ip -n "$lab_c" addr add 10.1.0.66/24 dev c0 && ip -n "$lab_c" addr add fd01::66/64 dev c0 nodad
	# the client's usual address stays the one above
	ip -n "$lab_c" route replace default via 10.1.0.1 src 10.1.0.2
	ip -n "$lab_c" route replace default via fd01::1 src fd01::2
	lab_spawn "$lab_s" python3 "$lab_root/tests/tools/ways.py" serve 7000 7001 7002 7010 7011 7012
	lab_wait_port "$lab_s" 7012 || exit 1
	lab_start_microsocks || exit 1
}

# ask tcp|udp HOST PORT [FROM]: the way, in a word (tests/tools/ways.py)
ask() { in_client python3 "$lab_root/tests/tools/ways.py" ask "$@"; }

# leaks_begin HOST...: packets of the client itself to these are counted at the server's link, until leaks_end prints how many
leaks_begin() {
	local filter="" host
	for host in "$@"; do filter+="${filter:+ or }dst host $host"; done
	rm -f "$lab_dir/leaks.pcap"
	lab_spawn "$lab_s" tshark -q -i s0 -w "$lab_dir/leaks.pcap" -f "(net 10.1.0.0/24 or net fd01::/64) and ($filter)"
	leaks_watcher=$lab_last
	splice_until 10 test -s "$lab_dir/leaks.pcap"
	sleep 0.2
}
leaks_end() {
	sleep 0.3
	lab_end "$leaks_watcher"
	tshark -r "$lab_dir/leaks.pcap" 2>/dev/null | wc -l
}
