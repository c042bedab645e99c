#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One connection, in words: dial.py HOST PORT [SEND]. Prints how connect() ended and after how many tenths of a second,
and what came back for SEND:  "connected 0 hello", "ECONNREFUSED 0", "EHOSTUNREACH 100", "timeout" (after 15 s)"""
import errno
import socket
import sys
import time

host, port = sys.argv[1], int(sys.argv[2])
conn = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
conn.settimeout(15)
start = time.monotonic()
try:
    conn.connect((host, port))
    words = ["connected", str(int((time.monotonic() - start) * 10))]
    if len(sys.argv) > 3:
        conn.sendall(sys.argv[3].encode())
        conn.shutdown(socket.SHUT_WR)
        data = b""
        while True:
            part = conn.recv(4096)
            if not part:
                break
            data += part
        words.append(data.decode())
except socket.timeout:
    words = ["timeout"]
except OSError as error:
    words = [errno.errorcode.get(error.errno, str(error)), str(int((time.monotonic() - start) * 10))]
print(" ".join(words))
