#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A name server for tests: names.py ADDRESS ZONE-FILE, UDP and TCP port 53.

Each line of the zone file is NAME TTL TYPE DATA; a name may have several. A name without lines does not exist; one whose
type is FAIL is answered SERVFAIL, SILENT not at all. By UDP an answer of more than 512 bytes, or than EDNS allows, is cut to
nothing, with TC. Every question is printed.
"""
import socket
import socketserver
import struct
import sys
import threading

TYPES = {"A": 1, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28}


def wire_name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def wire_data(kind, data):
    if kind == "A":
        return socket.inet_aton(data)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, data)
    if kind == "CNAME":
        return wire_name(data)
    if kind == "MX":
        preference, host = data.split()
        return struct.pack(">H", int(preference)) + wire_name(host)
    # TXT*N: N bytes
    text = b"x" * int(data[1:]) if data.startswith("*") else data.encode()
    return b"".join(bytes([len(text[i : i + 255])]) + text[i : i + 255] for i in range(0, len(text), 255))


def read_zone(path):
    zone = {}
    for line in open(path):
        if line.strip():
            name, ttl, kind, data = (line.split(None, 3) + [""])[:4]
            zone.setdefault(name, []).append((int(ttl), kind, data.strip()))
    return zone


def read_question(message):
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels), struct.unpack(">H", message[at + 1 : at + 3])[0], at + 5


def find(zone, name, qtype):
    """Records of the name, through its CNAMEs, as (owner, ttl, type, data)."""
    records, owner = [], name.lower()
    while True:
        lines = zone.get(owner, [])
        alias = [line for line in lines if line[1] == "CNAME" and qtype != TYPES["CNAME"]]
        records += [(owner, *line) for line in (alias or lines) if alias or TYPES.get(line[1]) == qtype]
        if not alias:
            return records
        owner = alias[0][2]


def answer(zone, message, limit):
    name, qtype, end = read_question(message)
    print(name, qtype, "udp" if limit < 65535 else "tcp", flush=True)
    lines = zone.get(name.lower())
    if lines and lines[0][1] == "SILENT":
        return None
    rcode = 3 if lines is None else 2 if lines[0][1] == "FAIL" else 0
    records = [] if rcode else find(zone, name, qtype)
    body = b"".join(
        wire_name(owner) + struct.pack(">HHIH", TYPES[kind], 1, ttl, len(wire_data(kind, data))) + wire_data(kind, data)
        for owner, ttl, kind, data in records
    )
    edns = message[end:] != b""
    if edns and limit < 65535:
        limit = max(512, struct.unpack(">H", message[end + 3 : end + 5])[0])
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if edns else b""
    truncated = end + len(body) + len(opt) > limit
    if truncated:
        body, records = b"", []
    flags = 0x8180 | (0x0200 if truncated else 0) | rcode
    return message[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, int(edns)) + message[12:end] + body + opt


def serve_tcp(zone, address):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while len(head := self.rfile.read(2)) == 2:
                said = answer(zone, self.rfile.read(struct.unpack(">H", head)[0]), 65535)
                if said:
                    self.wfile.write(struct.pack(">H", len(said)) + said)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer((address, 53), Handler).serve_forever()


def main():
    address, zone = sys.argv[1], read_zone(sys.argv[2])
    threading.Thread(target=serve_tcp, args=(zone, address), daemon=True).start()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    while True:
        message, peer = server.recvfrom(4096)
        said = answer(zone, message, 512)
        if said:
            server.sendto(said, peer)


main()
