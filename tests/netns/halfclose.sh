#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The end of one direction does not end the other, and a reset arrives as a reset, both ways.
#
#   client c0 ── l0 gateway (daemon) u0 ── s0 server (dante with a target on lo; then a scripted SOCKS5 server)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

lab_up
lab_start_dante || exit 1
lab_config
lab_daemon_start || exit 1
head -c 5000000 /dev/urandom >"$lab_dir/data"
want=$(sha256sum <"$lab_dir/data" | cut -d' ' -f1)

lab_spawn "$lab_s" "$lab_root/tests/tools/digest.py" 7001
lab_wait_port "$lab_s" 7001 || exit 1
for host in $lab_target4 $lab_target6; do
	got=$(in_client timeout 20 ncat "$host" 7001 <"$lab_dir/data")
	is "$host: ncat ends its direction first and gets its answer" "$got" "$want"
done
ok "flows have ended" flows_gone
lab_daemon_stop

lab_spawn "$lab_s" "$lab_root/tests/tools/socks_script.py" 1081
lab_wait_port "$lab_s" 1081 || exit 1
lab_config 10.2.0.2:1081
lab_daemon_start || exit 1
for host in $lab_target4 $lab_target6; do
	result=$(in_client python3 - "$host" <<-'END'
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
	)
	is "$host: the server's reset reaches the client" "$(sed -n 1p <<<"$result")" ECONNRESET
	is "$host: and after a half-close too" "$(sed -n 2p <<<"$result")" ECONNRESET
	is "$host: the server ends its direction first" "$(sed -n 3p <<<"$result")" "bye b''"
	is "$host: and the client's direction goes on" "$(sed -n 4p <<<"$result")" end
done
sleep 0.3
is "all bytes arrived after the server's end" "$(grep -c 'got 1000000' "$lab_dir/spawned.log")" 2
is "the client's resets are counted" "$(lab_stat .stack.flows_client_reset)" 2
is "the server's resets are counted" "$(lab_stat .bridge.upstream_resets)" 4
ok "flows have ended" flows_gone
ok "no flow holds frames" frames_settled
lab_daemon_stop
tap_done
