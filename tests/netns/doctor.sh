#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The doctor: which hook an interface gets and why, exactly as the daemon then takes it; programs of others on the
# interfaces; settings of the kernel; upstreams that answer, are down, refuse the password, are silent or no SOCKS5 server;
# the exit codes; the JSON.
#
#   client c0 ── l0 gateway (doctor) u0 ── s0 server (microsocks on 1080, silence on 1081, something else on 1082)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

report=$lab_dir/doctor.json resolver=()
# doctor: of the configuration that was written last; its report and its exit code in $code
doctor() {
	in_gateway ${resolver[@]+"${resolver[@]}"} "$lab_build/socksplice" doctor -c "$lab_dir/socksplice.yml" --json >"$report" 2>"$lab_dir/doctor.err"
	code=$?
}
get() { jq -r "$1" "$report"; }
# of NAME WHAT KEY: of the finding WHAT about the interface or upstream NAME
of() { get "[.interfaces[], .upstreams[] | select(.name == \"$1\")][0].findings[] | select(.what == \"$2\") | .$3"; }
# general WHAT KEY: the same of machine and network
general() { get "(.machine + .network)[] | select(.what == \"$1\") | .$2"; }
problems() { get '[(.machine + .network)[], (.interfaces + .upstreams)[].findings[] | select(.verdict == "problem") | .what] | join(",")'; }

lab_up
ip netns exec "$lab_g" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.l0.rp_filter=0 net.ipv4.conf.u0.rp_filter=0
lab_start_microsocks -u alice -P 'pass word' || exit 1
lab_spawn "$lab_s" python3 -c 'import socket, time
s = socket.create_server(("", 1081)); time.sleep(600)'
lab_wait_port "$lab_s" 1081
lab_spawn "$lab_s" python3 -c 'import socket
s = socket.create_server(("", 1082))
while True: s.accept()[0].sendall(b"220 mail.example ESMTP\r\n")'
lab_wait_port "$lab_s" 1082
lab_upstream_keys="username: alice, password: 'pass word'"

# --- a gateway that can run ---
lab_config
doctor
is "all well: exit code" "$code" 0
is "all well: nothing else on stderr" "$(cat "$lab_dir/doctor.err")" ""
is "all well: no problem" "$(problems)" ""
is "all well: said in the report" "$(get '[.can_run, .exit_code, .problems] | join(" ")')" "true 0 0"
is "every finding has a verdict, a name and a text" \
	"$(get '[(.machine + .network)[], (.interfaces + .upstreams)[].findings[] |
		select((.verdict | IN("ok", "note", "problem")) and (.what | length > 0) and (.text | length > 0) | not)] | length')" 0
is "every problem and note of an interface names a remedy or that there is none" \
	"$(get '[.interfaces[].findings[] | select(.verdict != "ok" and .remedy == null and (.text | contains("does not let") | not))] | length')" 0
is "interfaces and their roles" "$(get '[.interfaces[] | .name + " " + .role + " " + .driver + " " + .hook] | join(", ")')" \
	"l0 clients veth tc, u0 uplink veth tc"
is "why tc" "$(of l0 hook text)" "tc, because: a virtual device: its large packets (GSO) stay whole"
is "queues are told" "$(of l0 queues text)" "1 for reception, 1 for transmission; any number will do"
is "offloads are told" "$(get '.interfaces[0].offloads | [.tso, .gso, .gro, .lro] | map(tostring) | join(" ")')" \
	"$(for feature in tcp-segmentation-offload generic-segmentation-offload generic-receive-offload large-receive-offload; do
		in_gateway ethtool -k l0 | awk -v f="$feature:" '$1 == f { printf "%s%s", s, ($2 == "on" ? "true" : "false"); s = " " }'
		printf ' '
	done | sed 's/ $//')"
is "the bpffs of bpf-pin" "$(general bpf-pin verdict)" ok
is "the upstream answers" "$(of main answers verdict)" ok
is "with its latency" "$(get '.upstreams[0] | .connect_ms > 0 and .connect_ms < 1000 and .handshake_ms > 0 and .handshake_ms < 1000')" true
is "and has no UDP" "$(get .upstreams[0].udp) $(of main UDP verdict)" "false note"
ok "for people too" bash -c "nsenter --net=/run/netns/$lab_g -- '$lab_build/socksplice' doctor -c '$lab_dir/socksplice.yml' |
	grep -q 'The gateway can run here'"

# the daemon takes the hook that the doctor has told, for the reason that it gave
# same HOOK-KEYS...
same() {
	lab_interface_keys=$1
	lab_config
	doctor
	lab_daemon_start || exit 1
	is "hook of \"$1\": doctor and daemon agree" "$(get '.interfaces[0] | [.hook, .hook_reason, .xsk] | join("; ")')" \
		"$("$lab_build/socksplice" status --json --control "$lab_control" | jq -r '.interfaces[0] | [.hook, .hook_reason, .xsk] | join("; ")')"
	lab_daemon_flush
}
same "hook: auto"
same "hook: xdp"
same "xsk: generic"

# --- XDP on a veth: what it costs, and what its peer must have ---
lab_interface_keys="hook: xdp"
in_client ethtool -K c0 gro off
lab_config
doctor
is "hook xdp: exit code" "$code" 0
is "hook xdp: as configured" "$(of l0 hook text | head -n 1)" "xdp, because: as configured"
is "hook xdp: what would be better" "$(get '.interfaces[0].findings[] | select(.what == "hook" and .verdict == "note") | .remedy')" \
	"hook: auto   (takes tc here)"
is "peer without GRO: XDP cannot send there" "$(of l0 "sending by XDP" verdict)" note
in_client ethtool -K c0 gro on
doctor
is "peer with GRO: it can" "$(of l0 "sending by XDP" verdict)" ok
in_client ethtool -K c0 gro off
in_gateway ip link set l0 mtu 9000
doctor
is "an MTU that XDP cannot take prevents the start" "$code $(problems) $(of l0 MTU remedy)" \
	"1 MTU ip link set dev l0 mtu 3822   (or \`hook: tc\`)"
lab_daemon_start 2>/dev/null
is "as the daemon says" "$? $(grep -c 'MTU 9000 is larger' "$lab_dir/daemon.log")" "1 1"
lab_daemon_flush
in_gateway ip link set l0 mtu 1500
lab_interface_keys="hook: xdp, xsk: zerocopy"
lab_config
doctor
is "zero-copy that the driver has not: prevents" "$code $(problems)" "1 XDP"
lab_interface_keys=""

lab_interface_keys="hook: xdp"
lab_config
ip link add l1 netns "$lab_g" numrxqueues 64 numtxqueues 1 type veth peer name c1 netns "$lab_c"
sed -i 's/^interfaces:.*/interfaces: [ { name: l0, hook: xdp }, { name: l1, hook: xdp } ]/' "$lab_dir/socksplice.yml"
ip -n "$lab_g" link set l1 up
doctor
is "more queues than the daemon serves: prevents" "$code $(problems)" "1 queues"
lab_daemon_start 2>/dev/null
is "as the daemon says" "$? $(grep -c 'more than 64 queues in all' "$lab_dir/daemon.log")" "1 1"
lab_daemon_flush
ip -n "$lab_g" link del l1
lab_interface_keys=""

# --- programs of others ---
in_gateway ip link set dev u0 xdp obj "$lab_build/socksplice_xdp.o" sec xdp
lab_config
doctor
is "a program of ours is none of others" "$(of u0 "other programs" verdict)" ok
in_gateway ip link set dev u0 xdp off
printf '%s\n' '#include <linux/bpf.h>' '__attribute__((section("xdp"), used)) int stranger(void *ctx) { return XDP_PASS; }' \
	'__attribute__((section("tc"), used)) int passerby(void *ctx) { return -1; }' \
	'char terms[] __attribute__((section("license"), used)) = "GPL";' |
	clang -O2 -g -target bpf "-I/usr/include/$(gcc -print-multiarch)" -x c -c -o "$lab_dir/stranger.o" -
in_gateway ip link set dev l0 xdp obj "$lab_dir/stranger.o" sec xdp
in_gateway tc qdisc add dev l0 clsact
in_gateway tc filter add dev l0 ingress pref 77 bpf da obj "$lab_dir/stranger.o" sec tc
doctor
id=$(in_gateway ip -j link show l0 | jq '.[0].xdp.prog.id')
is "another XDP program beside hook tc: noted" "$code $(of l0 "other XDP program" verdict)" "0 note"
is "with its name and id" "$(of l0 "other XDP program" text)" "\"stranger\" (id $id) is attached; it sees packets before tc does"
is "another tc program" "$(of l0 "other tc program" remedy)" "tc filter del dev l0 ingress pref 77   (if it is not wanted)"
is "listed" "$(get '[.interfaces[0].programs[] | .where + " " + .name + " " + (.ours | tostring)] | join(", ")')" \
	"XDP stranger false, clsact ingress passerby false"
lab_interface_keys="hook: xdp"
lab_config
doctor
is "another XDP program where ours should be: prevents" "$code $(problems)" "1 other XDP program"
in_gateway ip link set dev l0 xdp off
in_gateway tc qdisc del dev l0 clsact
lab_interface_keys="attach: external"
lab_config
doctor
is "attach: external without our program: prevents" "$code $(problems)" "1 attach: external"
in_gateway ip link set dev l0 xdp obj "$lab_build/socksplice_xdp.o" sec xdp
doctor
is "attach: external with it: fine" "$code $(problems)" "0 "
in_gateway ip link set dev l0 xdp off
lab_interface_keys=""

# --- settings of the kernel ---
lab_config
ip netns exec "$lab_g" sysctl -qw net.ipv4.conf.l0.rp_filter=1 net.ipv4.tcp_sack=0 net.ipv4.ip_forward=1 \
	net.ipv4.ip_local_port_range="10000 40000"
doctor
is "rp_filter strict: noted, with the command" "$(of l0 rp_filter verdict): $(of l0 rp_filter remedy)" \
	"note: sysctl -w net.ipv4.conf.l0.rp_filter=2"
is "rp_filter of the other: off" "$(of u0 rp_filter text)" off
is "no SACK: noted" "$(general tcp_sack verdict) $(general tcp_timestamps verdict)" "note ok"
is "forwarding" "$(general ip_forward text | cut -d: -f1)" on
is "no port left for relayed connections: a problem that does not prevent" "$code $(problems)" "5 local ports"
ip netns exec "$lab_g" sysctl -qw net.ipv4.conf.l0.rp_filter=0 net.ipv4.tcp_sack=1 net.ipv4.ip_forward=0 \
	net.ipv4.ip_local_port_range="32768 60999"
lab_config 10.2.0.2:1080 "rules: [ { dst: 10.77.0.0/16, action: direct } ]"
doctor
is "direct without forwarding: noted" "$(general ip_forward verdict) $(general ip_forward remedy)" "note sysctl -w net.ipv4.ip_forward=1"
lab_config
sed -i "s,^bpf-pin:.*,bpf-pin: $lab_dir/nowhere/pin," "$lab_dir/socksplice.yml"
doctor
is "no bpffs where pins should be: prevents" "$code $(problems)" "1 bpf-pin"
lab_daemon_start 2>/dev/null
is "as the daemon says" "$?" 1
lab_daemon_stop
lab_config
in_gateway ip link set u0 down
doctor
is "uplink down: no route, no upstream" "$code $(problems)" "5 answers"
in_gateway ip link set u0 up
ip -n "$lab_g" addr add fd02::1/64 dev u0 nodad
ip -n "$lab_g" route replace $lab_target4 via 10.2.0.2
sed -i 's/name: l0/name: nosuch0/' "$lab_dir/socksplice.yml"
doctor
is "an interface that is not there: prevents" "$code $(problems) $(of nosuch0 link text)" "1 link No such device"

# --- upstreams ---
# upstream NAME SERVER KEYS CODE TEXT
upstream() {
	local start
	lab_upstream_keys=$3
	lab_config "$2"
	start=$(date +%s%N)
	doctor
	is "upstream $1: exit code" "$code" "$4"
	is "upstream $1: in words" "$(of main answers text | sed 's/ in [0-9.]* ms/ in T/g')" "$5"
	cmp_ok "upstream $1: in time" $((($(date +%s%N) - start) / 1000000)) -lt 12000
	is "upstream $1: no password is shown" "$(grep -c 'pass word\|wrong' "$report")" 0
}
upstream "up" 10.2.0.2:1080 "username: alice, password: 'pass word'" 0 "connected in T, greeting and authentication in T"
upstream "down" 10.2.0.2:1090 "" 5 "no TCP connection (Connection refused)"
upstream "with a wrong password" 10.2.0.2:1080 "username: alice, password: wrong" 5 \
	"refuses the user name or the password (Permission denied)"
upstream "that wants a password and gets none" 10.2.0.2:1080 "" 5 \
	"accepts none of the authentication methods that we offer (Permission denied)"
upstream "silent" 10.2.0.2:1081 "" 5 "takes the connection, then says nothing (Connection timed out)"
upstream "that is a mail server" 10.2.0.2:1082 "" 5 "takes the connection, but does not answer as SOCKS5 (Protocol error)"
upstream "that is not there" 10.2.0.77:1080 "" 5 "no TCP connection (No route to host)"
lab_end "$(in_server ss -Hltnp 'sport = :1080' | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)"
lab_start_microsocks -i :: || exit 1
upstream "by IPv6" "[fd02::2]:1080" "" 0 "connected in T, greeting and authentication in T"

# --- upstreams by name, by mark, with a password in a file ---
zone=$lab_dir/zone
echo "nameserver 10.2.0.2" >"$lab_dir/resolv.conf"
printf '%s\n' '#!/bin/sh' "mount --make-rprivate / && mount --bind $lab_dir/resolv.conf /etc/resolv.conf && exec \"\$@\"" >"$lab_dir/with-resolver"
chmod +x "$lab_dir/with-resolver"
if unshare -m "$lab_dir/with-resolver" true 2>/dev/null; then
	resolver=(unshare -m "$lab_dir/with-resolver")
	: >"$zone"
	lab_spawn "$lab_s" python3 -u "$lab_root/tests/tools/dns.py" 10.2.0.2 "$zone"
	for _ in $(seq 50); do in_server ss -Hlun 'sport = :53' | grep -q . && break; sleep 0.1; done
	upstream "whose name is not there" "proxy.example:1080" "" 5 "its name has no address (No such file or directory)"
	echo "proxy.example 60 10.2.0.2" >"$zone"
	upstream "by name" "proxy.example:1080" "" 0 "connected in T, greeting and authentication in T"
	is "by name: both are shown" "$(get '.upstreams[0] | .server + " " + .address')" "proxy.example:1080 10.2.0.2:1080"
	is "by name: its uplink is found" "$(get '[.interfaces[] | select(.role == "uplink") | .name] | join(" ")')" u0
	echo "proxy.example - 10.2.0.2" >"$zone"
	upstream "whose name server is silent" "proxy.example:1080" "" 5 "no name server answers for its name (Connection timed out)"
	resolver=()
else
	tap_skip "upstreams by name" "no mount namespaces here"
fi
ip -n "$lab_g" rule add fwmark 7 table 77
ip -n "$lab_g" route add unreachable default table 77
upstream "with a mark that leads nowhere" 10.2.0.2:1080 "mark: 7" 5 "no TCP connection (No route to host)"
upstream "with another mark" 10.2.0.2:1080 "mark: 8" 0 "connected in T, greeting and authentication in T"
ip -n "$lab_g" rule del fwmark 7 table 77
lab_end "$(in_server ss -Hltnp 'sport = :1080' | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)"
lab_start_microsocks -i :: -u alice -P 'pass word' || exit 1
(umask 077; echo 'pass word' >"$lab_dir/password")
upstream "with a password in a file" 10.2.0.2:1080 "username: alice, password-file: $lab_dir/password" 0 \
	"connected in T, greeting and authentication in T"

# --- rights ---
lab_upstream_keys="username: alice, password: 'pass word'"
lab_config "[fd02::2]:1080"
in_gateway prlimit --memlock=1048576:1048576 setpriv --bounding-set -sys_resource "$lab_build/socksplice" doctor --json \
	-c "$lab_dir/socksplice.yml" >"$report"
is "a limit that cannot be raised: noted" "$? $(general RLIMIT_MEMLOCK verdict) $(general RLIMIT_MEMLOCK text | cut -d' ' -f1)" "0 note 1048576"
in_gateway setpriv --bounding-set -all "$lab_build/socksplice" doctor --json -c "$lab_dir/socksplice.yml" >"$report"
is "without any right: prevents" "$? $(general "BPF programs" prevents_start) $(general TCP_REPAIR verdict)" "1 true note"

# --- without a configuration, and used wrongly ---
in_gateway "$lab_build/socksplice" doctor --json >"$report"
is "without a configuration: every interface, no upstream" "$? $(get '([.interfaces[].name] | sort | join(" ")) + "; " + (.upstreams | length | tostring)')" \
	"0 l0 u0; 0"
echo "interfaces: [" >"$lab_dir/socksplice.yml"
doctor
is "a broken configuration" "$code" 3
tap_done
