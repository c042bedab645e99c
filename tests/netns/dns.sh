#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Mapped DNS with real clients: every kind of query and answer, connections by name through a SOCKS5 server that resolves,
# names that go direct, rules for names, queries to any address, and that no query leaves the gateway but as it should.
# Once for each of SPLICE_MODES (splice_lab.sh).
#
#   client c0 ── l0 gateway (daemon, forwarding; its resolver asks 10.2.0.53) u0 ── s0 server: microsocks, targets 10.9.0.N,
#   198.18.0.1 is nowhere: the daemon answers for it                                   fd09::N, a name server 10.2.0.53
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

dial() { in_client "$lab_root/tests/tools/dial.py" "$@" | cut -d' ' -f1,3; }
# what a UDP client is told
udp_error() {
	in_client python3 -c '
import errno, socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect((sys.argv[1], 443))
s.send(b"x")
try:
    s.recv(1)
except OSError as e:
    print(errno.errorcode.get(e.errno, e))' "$1"
}

# queries_watch: packets of DNS on the uplink from here on, until queries_left prints how many
queries_watch() {
	rm -f "$lab_dir/dns.pcap"
	lab_spawn "$lab_s" tshark -q -i s0 -w "$lab_dir/dns.pcap" -f "port 53 and not (host 10.2.0.2 or host fd02::2)"
	dns_watcher=$lab_last
	splice_until 10 test -s "$lab_dir/dns.pcap"
	sleep 0.2
}
queries_left() {
	sleep 0.3
	lab_end "$dns_watcher"
	tshark -r "$lab_dir/dns.pcap" 2>/dev/null | wc -l
}

answers() {
	local first second reply
	first=$(at www.proxied.example A) second=$(at www.proxied.example AAAA)
	is "$label: A is a fake address" "$first" 198.18.0.2
	is "$label: AAAA is another of the same number" "$second" fc00:5::2
	is "$label: the same name, the same address, whatever its case" "$(at WWW.Proxied.Example A)" "$first"
	reply=$(ask_dns @198.18.0.1 WwW.pRoXiEd.ExAmPlE A)
	is "$label: the question comes back in its case" "$(grep -c '^;WwW.pRoXiEd.ExAmPlE' <<<"$reply")" 1
	is "$label: so does the answer's name, with a short TTL" "$(awk '/^WwW/ {print $1, $2}' <<<"$reply")" "WwW.pRoXiEd.ExAmPlE. 60"
	is "$label: from the address that was asked" "$(grep -c 'SERVER: 198.18.0.1#53' <<<"$reply")" 1
	is "$label: another name gets another address" "$(at other.example A)" 198.18.0.3
	for kind in MX TXT NS SOA SRV TYPE64 HTTPS CAA DNSKEY; do
		is "$label: $kind of a proxied name is empty, with an SOA" "$(status @198.18.0.1 www.proxied.example $kind)" \
			"NOERROR qr rd ra 0 1"
	done
	is "$label: ANY gets a part" "$(status @198.18.0.1 www.proxied.example ANY +notcp)" "NOERROR qr rd ra 1 0"
	is "$label: PTR of the IPv4 address" "$(at -x "$first")" www.proxied.example.
	is "$label: PTR of the IPv6 address" "$(at -x "$second")" www.proxied.example.
	is "$label: PTR of an address without a name" "$(status @198.18.0.1 -x 198.18.77.77)" "NXDOMAIN qr rd ra 0 1"
	is "$label: PTR of a real address is not asked elsewhere" "$(status @198.18.0.1 -x 192.0.2.1)" "NOERROR qr rd ra 0 1"
	is "$label: localhost" "$(at localhost A) $(at x.localhost AAAA)" "127.0.0.1 ::1"
	is "$label: no name of a host" "$(status @198.18.0.1 'a\032b.example' A)" "NXDOMAIN qr rd ra 0 1"
	is "$label: the root" "$(status @198.18.0.1 . NS)" "NOERROR qr rd ra 0 1"
	is "$label: another class" "$(status @198.18.0.1 version.bind CH TXT)" "REFUSED qr rd ra 0 0"
	is "$label: another operation" "$(status @198.18.0.1 +opcode=status www.proxied.example)" "NOTIMP qr rd ra 0 0"
	is "$label: another version of EDNS" "$(status @198.18.0.1 +edns=1 +noednsneg www.proxied.example)" "BADVERS qr rd ra 0 0"
	is "$label: without EDNS there is none in the answer" "$(ask_dns @198.18.0.1 +noedns www.proxied.example | grep -c EDNS)" 0
	is "$label: with EDNS there is" "$(ask_dns @198.18.0.1 +dnssec www.proxied.example | grep -c 'EDNS: version: 0, flags: do; udp: 1232')" 1
	is "$label: by TCP" "$(at +tcp www.proxied.example A)" "$first"
	is "$label: several in one connection" "$(at +tcp +keepopen www.proxied.example A www.proxied.example AAAA other.example A | xargs)" \
		"$first $second 198.18.0.3"
	is "$label: which are counted" "$(dns_stat tcp_connections) $(dns_stat queries_tcp)" "2 4"
	ok "$label: and closed" splice_until 3 dns_stat_is tcp_now 0
	is "$label: rubbish is not answered by silence" "$(in_client python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", ("198.18.0.1", 53))
print(s.recv(512).hex())')" 123481810000000000000000
	is "$label: nothing was asked of anybody" "$(dns_stat direct_asked)" 0
}

# named FAMILY: connections to names
named() {
	local kind fake
	kind=$([ "$1" = 4 ] && echo A || echo AAAA)
	fake=$(at www.proxied.example "$kind")
	is "$label: a connection by name" "$(in_client "$lab_dir/resolving-client" curl -s -m 10 "-$1" "http://www.proxied.example/hello")" "hello by name"
	is "$label: went upstream by name" "$(dns_stat flows_named)" 1
	is "$label: and the target saw the proxy" "$(ask tcp "$fake" 7000)" proxied
	splice_hold "$fake" 5003 3
	is "$label: three that stay" "$held" "holding connections=3 failed=0"
	ok "$label: are the kernel's" splice_until 3 splice_flow_count '.tier == "spliced"' 3
	is "$label: are shown by name" "$(splice_flows | jq -r '.[].name' | sort -u)" www.proxied.example
	is "$label: and for people" "$("$lab_build/socksplice" flows --control "$lab_control" | grep -c www.proxied.example)" 3
	is "$label: hold their name" "$(dns_stat names_held_now)" 1
	splice_release
	is "$label: were alive" "$held" "alive=3 lost=0"
	ok "$label: end" splice_idle
	is "$label: and let go of it" "$(dns_stat names_held_now)" 0
	# microsocks calls that a general failure
	is "$label: a name that does not exist" "$(dial "$(at gone.example "$kind")" 7000)" ECONNREFUSED
	is "$label: an address without a name" "$(dial "$([ "$1" = 4 ] && echo 198.18.200.200 || echo fc00:5::1234)" 7000)" EHOSTUNREACH
	is "$label: is counted" "$(dns_stat flows_unknown)" 1
	is "$label: what is not TCP is told so at once" "$(udp_error "$fake" | sed 's/EACCES\|EHOSTUNREACH/told/')" told
}

direct() {
	local name="$label, direct" mac
	is "$name: before, an address is proxied" "$(ask tcp 10.9.0.2 7000)" proxied
	is "$name: A is the real one, its TTL the name server's" "$(ask_dns @198.18.0.1 host.corp.example A | awk '/IN.*A.*10/ {print $2, $5}')" "300 10.9.0.2"
	is "$name: now it is direct" "$(ask tcp 10.9.0.2 7000)" direct
	is "$name: from another address of the client too" "$(ask tcp 10.9.0.2 7000 10.1.0.66)" direct
	mac=$(ip -n "$lab_c" -j link show c0 | jq -r ".[0].address")
	ip -n "$lab_c" link set c0 address 02:00:00:00:00:77
	splice_until 5 in_client ping -c 1 -W 1 10.1.0.1 >/dev/null
	is "$name: for who asked, not for others" "$(ask tcp 10.9.0.2 7000)" proxied
	ip -n "$lab_c" link set c0 address "$mac"
	splice_until 5 in_client ping -c 1 -W 1 10.1.0.1 >/dev/null
	is "$name: AAAA" "$(at host.corp.example AAAA)" fd09::2
	is "$name: over IPv6 too" "$(ask tcp fd09::2 7000)" direct
	is "$name: an alias" "$(at alias.corp.example A)" 10.9.0.2
	is "$name: the domain's name below which all is direct" "$(status @198.18.0.1 corp.example A)" "NXDOMAIN qr rd ra 0 0"
	is "$name: the hosts file" "$(at filed.corp.example A)" 10.9.0.4
	is "$name: goes direct as well" "$(ask tcp 10.9.0.4 7000)" direct
	is "$name: MX is passed on" "$(at mail.corp.example MX)" "10 host.corp.example."
	is "$name: no such type" "$(status @198.18.0.1 mail.corp.example A)" "NOERROR qr rd ra 0 0"
	is "$name: no such name" "$(status @198.18.0.1 none.corp.example A)" "NXDOMAIN qr rd ra 0 0"
	is "$name: no such name, another type" "$(status @198.18.0.1 none.corp.example MX)" "NXDOMAIN qr rd ra 0 0"
	is "$name: a broken server" "$(status @198.18.0.1 broken.corp.example A)" "SERVFAIL qr rd ra 0 0"
	is "$name: more addresses than an answer has" "$(at many.corp.example A | wc -l)" 16
	is "$name: too long for 512 bytes" "$(status @198.18.0.1 big.corp.example TXT +noedns +ignore)" "NOERROR qr tc rd ra 0 0"
	is "$name: and for what EDNS allows" "$(status @198.18.0.1 big.corp.example TXT +bufsize=1000 +ignore)" "NOERROR qr tc rd ra 0 0"
	is "$name: no more than that came" "$(ask_dns @198.18.0.1 big.corp.example TXT +bufsize=1000 +ignore | awk '/MSG SIZE/ {print $5 < 600}')" 1
	is "$name: whole by TCP" "$(at big.corp.example TXT | tr -d '" \n' | wc -c)" 3000
	is "$name: asked by TCP, in one connection" "$(at +tcp +keepopen host.corp.example A mail.corp.example MX big.corp.example TXT | wc -c)" 3067
}

by_rule() {
	local name="$label, rules"
	is "$name: a rejected name does not exist" "$(status @198.18.0.1 ads.example A)" "NXDOMAIN qr rd ra 0 1"
	is "$name: in any type" "$(status @198.18.0.1 x.ads.example HTTPS)" "NXDOMAIN qr rd ra 0 1"
	is "$name: a dropped one is not answered" "$(status @198.18.0.1 dropped.example A +time=1)" "none  0 0"
	is "$name: only it, not what is below" "$(status @198.18.0.1 x.dropped.example A)" "NOERROR qr rd ra 1 0"
	is "$name: counted" "$(dns_stat answers_rejected) $(dns_stat dropped_by_rule)" "2 1"
}

# anywhere: with `hijack` every address answers; without it only one
anywhere() {
	local name="$label, hijack"
	is "$name: whatever address is asked" "$(ask_dns @8.8.8.8 +short www.proxied.example A)" 198.18.0.2
	is "$name: answers itself" "$(ask_dns @8.8.8.8 www.proxied.example | grep -c 'SERVER: 8.8.8.8#53')" 1
	is "$name: IPv6" "$(ask_dns @2001:db8::53 +short www.proxied.example A)" 198.18.0.2
	is "$name: by TCP" "$(ask_dns @9.9.9.9 +tcp +short www.proxied.example A)" 198.18.0.2
	is "$name: by TCP over IPv6" "$(ask_dns @2001:db8::53 +tcp +short www.proxied.example A)" 198.18.0.2
	is "$name: the gateway's own address" "$(ask_dns @10.1.0.1 +short www.proxied.example A)" 198.18.0.2
	is "$name: a name server that is there" "$(ask_dns @10.2.0.53 +short host.corp.example A)" 10.9.0.2
}

# TCP connections of clients that behave badly
bad_tcp() {
	local name="$label, TCP"
	is "$name: sixteen of one client, no more" "$(in_client python3 -c '
import socket
conns, refused = [], 0
for i in range(20):
    s = socket.socket()
    s.settimeout(3)
    try:
        s.connect(("198.18.0.1", 53))
        conns.append(s)
    except OSError:
        refused += 1
# bytewise, and two in one segment
query = b"\0\x1d\x12\x34\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"
for i in range(len(query)):
    conns[0].send(query[i:i + 1])
a = conns[0].recv(100)
conns[1].send(query + query)
b = b""
while len(b) < 2 * len(a):
    b += conns[1].recv(100)
# the end of the queries is no end of the answers
conns[2].send(query)
conns[2].shutdown(socket.SHUT_WR)
c = b""
while part := conns[2].recv(100):
    c += part
# a message that is too long to be a query
conns[3].send(b"\xff\xff" + b"x" * 100)
try:
    d = conns[3].recv(100)
except ConnectionResetError:
    d = b"reset"
print(len(conns), refused, len(a), b == a + a, c == a, d.decode())')" "16 4 47 True True reset"
	is "$name: counted" "$(dns_stat tcp_refused) $(dns_stat tcp_aborted)" "4 1"
	ok "$name: all are gone" splice_until 3 dns_stat_is tcp_now 0
	is "$name: a silent one is closed" "$(in_client timeout 20 python3 -c '
import socket, time
s = socket.create_connection(("198.18.0.1", 53))
start = time.monotonic()
print(s.recv(1), 9 < time.monotonic() - start < 13)')" "b'' True"
	is "$name: and counted" "$(dns_stat tcp_timed_out)" 1
}

rules="  - { domain: .corp.example, action: direct }
  - { domain: .ads.example, action: reject }
  - { domain: dropped.example, action: drop }
  - { domain: rejecting.example, action: proxy }
  - { proto: tcp, dport: 7010, action: reject }
  - { dst: 10.2.0.53, proto: udp, dport: 53, action: direct }"

dns_up
mkdir -p "$lab_dir/web"
echo "hello by name" >"$lab_dir/web/hello"
lab_start_web "$lab_dir/web" || exit 1
lab_spawn "$lab_s" "$lab_build/tests/tools/target" 1085 5003
lab_wait_port "$lab_s" 5003 || exit 1

for mode in "${splice_modes[@]}"; do
	for family in 4 6; do
		label="$mode, IPv$family upstream"
		rm -rf "$lab_dir/state"
		dns_start "$mode" "$family" "cache: 1000" "$rules"
		queries_watch
		[ "$family" = 6 ] || { answers; by_rule; bad_tcp; }
		named "$family"
		is "$label: a rule about packets counts for fake addresses" \
			"$(dial "$(at rejecting.example "$([ "$family" = 4 ] && echo A || echo AAAA)")" 7010)" ECONNREFUSED
		is "$label: another address answers for itself" "$(ask_dns @10.2.0.53 +short www.proxied.example A)" 10.9.0.1
		is "$label: no other query left the gateway" "$(queries_left)" 2
		direct
		splice_stop
		is "$label: nothing of the daemon's is left" "$(in_gateway ip -j addr show | grep -c 198.18)" 0
	done
	label=$mode
	rm -rf "$lab_dir/state"
	dns_start "$mode" 4 "hijack: true" "$rules"
	queries_watch
	anywhere
	# of the gateway's resolver, for the direct name
	is "$label, hijack: only what the gateway asked itself left" "$(queries_left)" 2
	splice_stop
done
tap_done
