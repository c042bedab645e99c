#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The end of one direction does not end the other, and a reset arrives as a reset, both ways, whichever way they go
# (modes.sh).
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (dante with a target on lo; then a scripted SOCKS5 server)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"
# shellcheck source=tests/netns/modes.sh
. "$(dirname "$0")/modes.sh"

# said WORDS: how often the scripted server said so
said() { grep -c "$1" "$lab_dir/spawned.log"; }
ends() {
	in_client python3 - "$1" <<-'END'
		import errno, socket, struct, sys, time
		host = sys.argv[1]
		def dial(port):
		    conn = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
		    conn.settimeout(10)
		    conn.connect((host, port))
		    return conn
		def outcome(conn):
		    try:
		        while conn.recv(4096):
		            pass
		        return "end"
		    except OSError as error:
		        return errno.errorcode.get(error.errno, "timeout")
		conn = dial(2008)
		conn.sendall(b"x")
		print(outcome(conn))
		conn = dial(2009)
		conn.sendall(b"x" * 100000)
		conn.shutdown(socket.SHUT_WR)
		print(outcome(conn))
		conn = dial(2011)
		print(conn.recv(3).decode(), repr(conn.recv(1)))
		time.sleep(0.3)
		for _ in range(20):
		    conn.sendall(b"y" * 50000)
		conn.shutdown(socket.SHUT_WR)
		print(outcome(conn))
		conn = dial(1000)
		conn.sendall(b"z")
		conn.recv(1)
		conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		conn.close()
	END
}

lab_up
lab_start_dante || exit 1
head -c 5000000 /dev/urandom >"$lab_dir/data"
want=$(sha256sum <"$lab_dir/data" | cut -d' ' -f1)
lab_spawn "$lab_s" "$lab_root/tests/tools/digest.py" 7001
lab_wait_port "$lab_s" 7001 || exit 1
lab_spawn "$lab_s" "$lab_root/tests/tools/socks_script.py" 1081
lab_wait_port "$lab_s" 1081 || exit 1

for mode in "${modes[@]}"; do
	mode_set "$mode"
	lab_config "$mode_upstream:1080"
	lab_daemon_start || exit 1
	for host in "${mode_hosts[@]}"; do
		got=$(in_client timeout 20 ncat "$host" 7001 <"$lab_dir/data")
		is "$mode_label: $host: ncat ends its direction first and gets its answer" "$got" "$want"
	done
	ok "$mode_label: flows have ended" flows_gone
	ok "$mode_label: connections went that way" mode_went
	lab_daemon_stop

	# what the first daemon left is taken over
	lab_config "$mode_upstream:1081"
	lab_daemon_start || exit 1
	arrived=$(said 'got 1000000') resets=$(said 'reset by the client')
	for host in "${mode_hosts[@]}"; do
		result=$(ends "$host")
		is "$mode_label: $host: the server's reset reaches the client" "$(sed -n 1p <<<"$result")" ECONNRESET
		is "$mode_label: $host: and after a half-close too" "$(sed -n 2p <<<"$result")" ECONNRESET
		is "$mode_label: $host: the server ends its direction first" "$(sed -n 3p <<<"$result")" "bye b''"
		is "$mode_label: $host: and the client's direction goes on" "$(sed -n 4p <<<"$result")" end
	done
	ok "$mode_label: flows have ended" flows_gone
	is "$mode_label: all bytes arrived after the server's end" $(($(said 'got 1000000') - arrived)) ${#mode_hosts[@]}
	is "$mode_label: the client's resets reach the server" $(($(said 'reset by the client') - resets)) ${#mode_hosts[@]}
	if [ "$mode_way" = spliced ]; then
		is "$mode_label: both resets of the server and the client's are counted" "$(lab_stat .splice.finished_reset)" 3
		is "$mode_label: and the orderly end" "$(lab_stat .splice.finished)" 1
	else
		is "$mode_label: the client's resets are counted" "$(lab_stat .stack.flows_client_reset)" 2
		is "$mode_label: the server's resets are counted" "$(lab_stat .bridge.upstream_resets)" 4
	fi
	ok "$mode_label: no flow holds frames" frames_settled
	ok "$mode_label: connections went that way" mode_went
	lab_daemon_flush
	is "$mode_label: the daemon stops in order" "$?" 0
done
tap_done
