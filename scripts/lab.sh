# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# The lab: three network namespaces on this machine, removed when the script that sources this file ends.
#
#   client                    gateway                     server
#   c0 10.1.0.2/24 ────────── l0 10.1.0.1/24
#      fd01::2/64                fd01::1/64
#                             u0 10.2.0.1/24 ─────────── s0 10.2.0.2/24, fd02::2/64
#                                fd02::1/64               lo 10.9.0.1, fd09::1 (the targets)
#
# The SOCKS5 server and the targets live in the server namespace. The gateway does not forward: what reaches a target
# went through the daemon. Names are unique per run; processes are ended by pid.

lab_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lab_build=${BUILD:-$lab_root/build}
lab_id=$$
lab_c=ssp-$lab_id-c lab_g=ssp-$lab_id-g lab_s=ssp-$lab_id-s lab_l=ssp-$lab_id-l
lab_dir=$(mktemp -d "/tmp/socksplice-lab-$lab_id-XXXXXX")
lab_control=$lab_dir/control.sock
# a bpffs of its own: pins of this run, gone with it
lab_bpf=$lab_dir/bpf
lab_target4=10.9.0.1 lab_target6=fd09::1
lab_pids=()
lab_daemon=""

# reno is allowed in every namespace; cubic only where the machine's sysctl net.ipv4.tcp_allowed_congestion_control says so
lab_congestion=${LAB_CONGESTION:-reno}

in_client() { nsenter --net="/run/netns/$lab_c" -- "$@"; }
in_gateway() { nsenter --net="/run/netns/$lab_g" -- "$@"; }
in_server() { nsenter --net="/run/netns/$lab_s" -- "$@"; }

lab_cleanup() {
	local code=$? pid name
	trap - EXIT INT TERM
	for pid in "${lab_pids[@]}"; do kill "$pid" 2>/dev/null; done
	[ -z "$lab_daemon" ] || kill "$lab_daemon" 2>/dev/null
	sleep 0.2
	for pid in "${lab_pids[@]}" $lab_daemon; do kill -9 "$pid" 2>/dev/null; done
	for name in "$lab_c" "$lab_g" "$lab_s" "$lab_l"; do
		# what forked away and did not end
		ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null
		ip netns del "$name" 2>/dev/null
	done
	umount "$lab_bpf" 2>/dev/null
	rm -rf "$lab_dir"
	exit "$code"
}

# Namespaces and folders of runs that were killed: their owner's pid is part of the name.
lab_sweep() {
	local name owner
	for name in $(ip netns list 2>/dev/null | awk '/^ssp-[0-9]+-[cgsl]/ {print $1}'); do
		owner=${name#ssp-} owner=${owner%-*}
		[ -d "/proc/$owner" ] && continue
		ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null
		ip netns del "$name" 2>/dev/null
		umount "/tmp/socksplice-lab-$owner-"*/bpf 2>/dev/null
		rm -rf "/tmp/socksplice-lab-$owner-"*
	done
	return 0
}

# lab_up [mtu-frames]: makes the namespaces. mtu-frames: no segmentation offload anywhere, as a NIC delivers.
# shellcheck disable=SC2120 # callers are other files
lab_up() {
	local name
	lab_sweep
	mkdir -p "$lab_bpf" && mount -t bpf bpf "$lab_bpf" || exit 1
	trap lab_cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	for name in "$lab_c" "$lab_g" "$lab_s"; do
		ip netns add "$name" || exit 1
		ip -n "$name" link set lo up
		ip netns exec "$name" sysctl -qw net.ipv4.tcp_congestion_control="$lab_congestion" \
			net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv4.ip_forward=0 \
			net.ipv4.tcp_max_syn_backlog=8192 net.core.somaxconn=8192
	done
	ip link add l0 netns "$lab_g" type veth peer name c0 netns "$lab_c"
	ip link add u0 netns "$lab_g" type veth peer name s0 netns "$lab_s"
	ip -n "$lab_c" addr add 10.1.0.2/24 dev c0 && ip -n "$lab_c" addr add fd01::2/64 dev c0 nodad
	ip -n "$lab_g" addr add 10.1.0.1/24 dev l0 && ip -n "$lab_g" addr add fd01::1/64 dev l0 nodad
	ip -n "$lab_g" addr add 10.2.0.1/24 dev u0 && ip -n "$lab_g" addr add fd02::1/64 dev u0 nodad
	ip -n "$lab_s" addr add 10.2.0.2/24 dev s0 && ip -n "$lab_s" addr add fd02::2/64 dev s0 nodad
	ip -n "$lab_s" addr add $lab_target4/32 dev lo && ip -n "$lab_s" addr add $lab_target6/128 dev lo nodad
	ip -n "$lab_c" link set c0 up && ip -n "$lab_g" link set l0 up
	ip -n "$lab_g" link set u0 up && ip -n "$lab_s" link set s0 up
	ip -n "$lab_c" route add default via 10.1.0.1 && ip -n "$lab_c" route add default via fd01::1
	ip -n "$lab_s" route add default via 10.2.0.1 && ip -n "$lab_s" route add default via fd02::1
	ip -n "$lab_g" route add $lab_target4 via 10.2.0.2 && ip -n "$lab_g" route add $lab_target6 via fd02::2
	[ "${1:-}" != mtu-frames ] || lab_mtu_frames
}

# lab_bad_link OPTIONS...: the client's link goes through linkem, in a namespace of its own: c0 ── k0 │ k1 ── l0.
# To be called instead of lab_up.
lab_bad_link() {
	lab_up
	local name=$lab_l
	ip netns add "$name" || exit 1
	ip -n "$name" link set lo up
	ip -n "$lab_c" link del c0
	ip link add k0 netns "$name" type veth peer name c0 netns "$lab_c"
	ip link add k1 netns "$name" type veth peer name l0 netns "$lab_g"
	ip -n "$lab_c" addr add 10.1.0.2/24 dev c0 && ip -n "$lab_c" addr add fd01::2/64 dev c0 nodad
	ip -n "$lab_g" addr add 10.1.0.1/24 dev l0 && ip -n "$lab_g" addr add fd01::1/64 dev l0 nodad
	# frames cross a packet socket here: checksums must be final and no frame larger than the MTU
	for name in "$lab_c c0" "$lab_l k0" "$lab_l k1" "$lab_g l0"; do
		# shellcheck disable=SC2086 # namespace and device
		set -- $name "$@"
		ip netns exec "$1" sysctl -qw "net.ipv6.conf.$2.accept_dad=0"
		ip netns exec "$1" ethtool -K "$2" tx off tso off gso off gro off >/dev/null 2>&1
		ip -n "$1" link set "$2" up
		shift 2
	done
	ip -n "$lab_c" route add default via 10.1.0.1 && ip -n "$lab_c" route add default via fd01::1
	lab_spawn "$lab_l" "$lab_build/tests/tools/linkem" k0 k1 "$@"
}

lab_mtu_frames() {
	local pair
	for pair in "$lab_c c0" "$lab_g l0" "$lab_g u0" "$lab_s s0"; do
		# shellcheck disable=SC2086 # namespace and device
		set -- $pair
		ip netns exec "$1" ethtool -K "$2" tso off gso off gro off tx-udp-segmentation off >/dev/null 2>&1
	done
}

# lab_spawn NAMESPACE COMMAND...: in the background, ended with the lab; its pid is in lab_last.
lab_spawn() {
	# a plain command, no function: so the pid is the program's own after nsenter's exec
	nsenter --net="/run/netns/$1" -- "${@:2}" >>"$lab_dir/spawned.log" 2>&1 </dev/null &
	lab_last=$!
	lab_pids+=("$lab_last")
}

# lab_end PID...: ends processes of lab_spawn and waits for them.
lab_end() {
	local pid kept=()
	kill "$@" 2>/dev/null
	wait "$@" 2>/dev/null
	# their numbers may be somebody else's by the end of the lab
	for pid in "${lab_pids[@]}"; do [[ " $* " = *" $pid "* ]] || kept+=("$pid"); done
	lab_pids=("${kept[@]}")
}

# lab_wait_port NAMESPACE PORT: until something listens.
lab_wait_port() {
	local i
	for i in $(seq 100); do
		nsenter --net="/run/netns/$1" -- ss -Hltn "sport = :$2" | grep -q . && return 0
		sleep 0.05
	done
	echo "lab: nothing listens on port $2 of $1 after 5 s (try $i)" >&2
	return 1
}

# lab_config [UPSTREAM [EXTRA-LINES]]: writes the daemon's configuration; UPSTREAM defaults to 10.2.0.2:1080. Keys of l0,
# of the upstream and of `tcp` come from lab_interface_keys, lab_upstream_keys and lab_tcp_keys.
lab_config() {
	cat >"$lab_dir/socksplice.yml" <<-END
		interfaces: [ { name: l0${lab_interface_keys:+, $lab_interface_keys} } ]
		bpf-pin: $lab_bpf/pin
		upstreams: [ { name: main, server: "${1:-10.2.0.2:1080}"${lab_upstream_keys:+, $lab_upstream_keys} } ]
		control: $lab_control
		${lab_tcp_keys:+tcp: { $lab_tcp_keys \}}
		${2:-}
	END
}

# lab_daemon_start [PROGRAM]: starts the daemon in the gateway and waits until `status` answers, if only that an upstream
# is missing (5).
lab_daemon_start() {
	local program=${1:-$lab_build/socksplice} i code
	nsenter --net="/run/netns/$lab_g" -- "$program" run -c "$lab_dir/socksplice.yml" >>"$lab_dir/daemon.log" 2>&1 </dev/null &
	lab_daemon=$!
	for i in $(seq 100); do
		"$lab_build/socksplice" status --control "$lab_control" >/dev/null 2>&1
		code=$?
		[ "$code" -ne 0 ] && [ "$code" -ne 5 ] || return 0
		kill -0 "$lab_daemon" 2>/dev/null || break
		sleep 0.05
	done
	echo "lab: the daemon is not ready (try $i); its log:" >&2
	tail -n 20 "$lab_dir/daemon.log" >&2
	return 1
}

# lab_daemon_stop [SIGNAL]: ends the daemon and waits for it.
# shellcheck disable=SC2120 # callers are other files
lab_daemon_stop() {
	[ -n "$lab_daemon" ] || return 0
	kill "-${1:-TERM}" "$lab_daemon" 2>/dev/null
	wait "$lab_daemon" 2>/dev/null
	local code=$?
	lab_daemon=""
	return $code
}

# lab_daemon_flush: ends the daemon as lab_daemon_stop does, then everything that it left.
lab_daemon_flush() {
	lab_daemon_stop
	local code=$?
	in_gateway "$lab_build/socksplice" stop --flush -c "$lab_dir/socksplice.yml" >>"$lab_dir/daemon.log" 2>&1 || code=1
	return $code
}

# lab_stat .group.counter: one number of the daemon's statistics (a jq path).
lab_stat() { "$lab_build/socksplice" stats --json --control "$lab_control" | jq -r "$1"; }

# --- SOCKS5 servers, in the server namespace on port 1080 unless said otherwise ---

lab_start_dante() {
	cat >"$lab_dir/danted.conf" <<-END
		logoutput: $lab_dir/dante.log
		internal: 10.2.0.2 port = 1080
		internal: fd02::2 port = 1080
		external: s0
		external: lo
		external.rotation: route
		socksmethod: none
		clientmethod: none
		timeout.io.udp: 30
		udp.connectdst: no
		user.privileged: root
		user.unprivileged: nobody
		client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
		client pass { from: ::/0 to: ::/0 }
		socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0
			command: connect udpassociate udpreply
		}
		socks pass { from: ::/0 to: ::/0
			command: connect udpassociate udpreply
		}
		socks pass { from: 0.0.0.0/0 to: ::/0
			command: connect udpassociate udpreply
		}
		socks pass { from: ::/0 to: 0.0.0.0/0
			command: connect udpassociate udpreply
		}
	END
	lab_spawn "$lab_s" danted -f "$lab_dir/danted.conf"
	lab_wait_port "$lab_s" 1080
}

# lab_start_microsocks [microsocks options]
lab_start_microsocks() {
	lab_spawn "$lab_s" microsocks -p 1080 "$@"
	lab_wait_port "$lab_s" 1080
}

lab_start_shadowsocks() {
	lab_spawn "$lab_s" ss-server -s 10.2.0.2 -p 8388 -k lab -m aes-256-gcm
	lab_wait_port "$lab_s" 8388
	lab_spawn "$lab_s" ss-local -s 10.2.0.2 -p 8388 -b 10.2.0.2 -l 1080 -k lab -m aes-256-gcm
	lab_wait_port "$lab_s" 1080
}

lab_start_ssh() {
	mkdir -p "$lab_dir/ssh" /run/sshd
	ssh-keygen -q -t ed25519 -N '' -f "$lab_dir/ssh/host" && ssh-keygen -q -t ed25519 -N '' -f "$lab_dir/ssh/user"
	cp "$lab_dir/ssh/user.pub" "$lab_dir/ssh/authorized"
	chmod 700 "$lab_dir/ssh"
	lab_spawn "$lab_s" /usr/sbin/sshd -D -f /dev/null -p 2222 -h "$lab_dir/ssh/host" \
		-o AuthorizedKeysFile="$lab_dir/ssh/authorized" -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes \
		-o PidFile=none
	lab_wait_port "$lab_s" 2222
	lab_spawn "$lab_s" ssh -N -D 10.2.0.2:1080 -p 2222 -i "$lab_dir/ssh/user" -o BatchMode=yes -F /dev/null \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@10.2.0.2
	lab_wait_port "$lab_s" 1080
}

# --- targets, in the server namespace ---

# lab_start_web DIRECTORY: GET serves its files; PUT answers with the sha256 of what it got.
lab_start_web() {
	lab_spawn "$lab_s" python3 "$lab_root/tests/tools/web.py" 80 "$1"
	lab_wait_port "$lab_s" 80
}

# lab_start_target [PLAIN-PORT...]: a target that itself speaks SOCKS5 on port 1080, so that only the gateway is measured.
# What a port number does stands on top of tests/tools/target.c.
lab_start_target() {
	lab_spawn "$lab_s" "$lab_build/tests/tools/target" 1080 "$@"
	lab_wait_port "$lab_s" 1080
}

lab_start_iperf() {
	lab_spawn "$lab_s" iperf3 -s
	lab_wait_port "$lab_s" 5201
}
