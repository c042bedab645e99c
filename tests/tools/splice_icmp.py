#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ICMP errors about packets of a spliced connection, made up by a router on either side of the gateway.

  splice_icmp.py FAMILY CLIENT-NAMESPACE SERVER-NAMESPACE

For each error one line: which, and "ok" or what is wrong with the error that the other end got: it must come from the
router (or, for the upstream, from the gateway), be about a packet that this end has sent, and have right checksums.
"""
import socket
import struct
import sys
import time

from wire import Host, checksum, ip_header, packed, pseudo_header

ip, client_namespace, server_namespace = int(sys.argv[1]), sys.argv[2], sys.argv[3]
TARGET = {4: "10.9.0.1", 6: "fd09::1"}[ip]
CLIENT = {4: "10.1.0.2", 6: "fd01::2"}[ip]
GATEWAY = {4: "10.2.0.1", 6: "fd02::1"}[ip]
UPSTREAM = {4: "10.2.0.2", 6: "fd02::2"}[ip]
ROUTER = {4: "192.0.2.9", 6: "2001:db8::9"}[ip]
ICMP = {4: 1, 6: 58}[ip]
# name, type, code, second word
ERRORS = {4: [("fragmentation needed", 3, 4, 1300), ("host unreachable", 3, 1, 0), ("time exceeded", 11, 0, 0)],
          6: [("packet too big", 2, 0, 1300), ("no route", 1, 0, 0), ("hop limit exceeded", 3, 0, 0)]}[ip]
client = Host(client_namespace, "c0")
server = Host(server_namespace, "s0")


def newest(host, wanted):
    last = None
    while (s := host.sniff(0.2, lambda s: s.protocol == 6 and wanted(s))) is not None:
        last = s
    return last


def tcp_start(segment):
    """What every error carries of a segment: ports, sequence number; here 20 bytes."""
    return struct.pack("!HHIIBBHHH", segment.sport, segment.dport, segment.seq, segment.ack, 0x50, segment.flags,
                       segment.window, 0, 0)


def judge(got, router, dst, original):
    """`original` is the segment as the end that is told had sent it."""
    if got is None:
        return "nothing came"
    if (got.src, got.dst) != (router, dst):
        return f"from {got.src} to {got.dst} instead of {router} to {dst}"
    body = got.body
    whole = pseudo_header(got.src, got.dst, 58, len(body)) + body if ip == 6 else body
    if checksum(whole):
        return "wrong checksum"
    inner = body[8:]
    head = 20 if ip == 4 else 40
    addresses = inner[12:20] if ip == 4 else inner[8:40]
    if addresses != packed(original.src) + packed(original.dst):
        return f"inner addresses {addresses.hex()}"
    if ip == 4 and checksum(inner[:20]):
        return "wrong inner checksum"
    sport, dport, seq = struct.unpack_from("!HHI", inner, head)
    if (sport, dport, seq) != (original.sport, original.dport, original.seq):
        return f"inner {sport} {dport} {seq} instead of {original.sport} {original.dport} {original.seq}"
    return "ok"


def try_all(sender, hears, seen, original, router, told):
    """`seen` as the router saw the segment, `original` as the end sent it."""
    # it has arrived; a kernel believes errors about what is still under way only
    for segment in (seen, original):
        segment.seq = (segment.seq + len(segment.payload)) & 0xFFFFFFFF
    for name, kind, code, word in ERRORS:
        start = tcp_start(seen)
        inner = ip_header(seen.src, seen.dst, 6, len(start) + 1200, 60) + start
        hears.forget()
        sender.send_icmp(ROUTER, seen.src, kind, code, word, inner)
        got = hears.sniff(2, lambda s: s.protocol == ICMP and not s.outgoing and s.body[0] == kind)
        print(f"{name}: {judge(got, router, told, original)}")


def exchange(conn):
    client.forget()
    server.forget()
    conn.sendall(b"to the upstream and back")
    conn.recv(100)


conn = client.dial(TARGET, 5003)
time.sleep(0.2)
port = conn.getsockname()[1]
exchange(conn)
sent = newest(client, lambda s: s.outgoing and s.sport == port and s.payload)
seen = newest(server, lambda s: not s.outgoing and s.dport == 1080 and s.payload)
print("about the client's")
try_all(server, client, seen, sent, ROUTER, CLIENT)
exchange(conn)
seen = newest(client, lambda s: not s.outgoing and s.dport == port and s.payload)
sent = newest(server, lambda s: s.outgoing and s.sport == 1080 and s.payload)
print("about the upstream's")
try_all(client, server, seen, sent, GATEWAY, UPSTREAM)
# the upstream's host itself complains: to the client that is the target
exchange(conn)
sent = newest(client, lambda s: s.outgoing and s.sport == port and s.payload)
seen = newest(server, lambda s: not s.outgoing and s.dport == 1080 and s.payload)
ROUTER = UPSTREAM
print("by the upstream's host")
try_all(server, client, seen, sent, TARGET, CLIENT)
try:
    conn.sendall(b"still")
    print("alive" if conn.recv(100) == b"still" else "wrong")
except OSError as error:
    print(error)
