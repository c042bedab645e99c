#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One long connection to a service of target.c, every byte checked.

  stream.py HOST down                 port 5015: 100 MB
  stream.py HOST echo BYTES [RATE]    port 5003: BYTES there and back, both directions at once, RATE bytes a second

Prints "ok" or what is wrong at which byte; then, on a line of its own, the longest silence in tenths of a second.
"""
import socket
import sys
import threading
import time

PERIOD = 1 << 24
BLOCK = 65536
blocks = [bytes((j * 31 + base) & 255 for j in range(256)) for base in range(256)]
pattern = b"".join(blocks[(k * 7 + (k >> 8)) & 255] for k in range(PERIOD >> 8))
pattern += pattern[:BLOCK]


def send(conn, total, rate):
    begun, sent = time.monotonic(), 0
    try:
        while sent < total:
            size = min(BLOCK, total - sent)
            at = sent % PERIOD
            conn.sendall(memoryview(pattern)[at:at + size])
            sent += size
            if rate:
                time.sleep(max(0, begun + sent / rate - time.monotonic()))
        conn.shutdown(socket.SHUT_WR)
    except OSError as error:
        print(f"sending byte {sent}: {error}", flush=True)


def receive(conn, total):
    got, last, silence = 0, time.monotonic(), 0
    verdict = "ok"
    while True:
        try:
            part = conn.recv(BLOCK)
        except OSError as error:
            verdict = f"receiving byte {got}: {error}"
            break
        silence = max(silence, time.monotonic() - last)
        last = time.monotonic()
        if not part:
            break
        at = got % PERIOD
        if pattern[at:at + len(part)] != part:
            verdict = f"wrong bytes from {got} on"
            break
        got += len(part)
    if verdict == "ok" and got != total:
        verdict = f"{got} bytes instead of {total}"
    print(verdict)
    print(int(silence * 10))
    return verdict == "ok"


host, what = sys.argv[1], sys.argv[2]
conn = socket.create_connection((host, 5015 if what == "down" else 5003), 10)
conn.settimeout(30)
if what == "down":
    sys.exit(not receive(conn, 100000000))
total = int(sys.argv[3])
threading.Thread(target=send, args=(conn, total, int(sys.argv[4]) if len(sys.argv) > 4 else 0), daemon=True).start()
sys.exit(not receive(conn, total))
