#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A tiny name server over UDP, for tests: dns.py ADDRESS ZONE-FILE

A line of the zone is NAME TTL ADDRESS...; the file is read anew for every query. A name that is not there does not exist
(NXDOMAIN); a TTL of "-" means that nothing is answered. Each query is noted on stdout: NAME TYPE.
"""
import ipaddress
import socket
import struct
import sys

A, AAAA = 1, 28


def zone(path):
    names = {}
    with open(path, encoding="ascii") as lines:
        for line in lines:
            words = line.split()
            if words:
                names[words[0].lower()] = (words[1], [ipaddress.ip_address(word) for word in words[2:]])
    return names


def answer(query, names):
    """The reply to one query of one question, or None."""
    ident, flags, questions = struct.unpack("!HHH", query[:6])
    pos, labels = 12, []
    while query[pos]:
        labels.append(query[pos + 1:pos + 1 + query[pos]].decode("ascii"))
        pos += 1 + query[pos]
    kind = struct.unpack("!H", query[pos + 1:pos + 3])[0]
    name = ".".join(labels).lower()
    print(name, {A: "A", AAAA: "AAAA"}.get(kind, kind), flush=True)
    if questions != 1 or name not in names:
        return struct.pack("!HHHHHH", ident, 0x8183 | (flags & 0x100), 1, 0, 0, 0) + query[12:pos + 5]
    ttl, addresses = names[name]
    if ttl == "-":
        return None
    wanted = [a for a in addresses if a.version == (4 if kind == A else 6 if kind == AAAA else 0)]
    reply = struct.pack("!HHHHHH", ident, 0x8180, 1, len(wanted), 0, 0) + query[12:pos + 5]
    for address in wanted:
        reply += struct.pack("!HHHIH", 0xC00C, kind, 1, int(ttl), len(address.packed)) + address.packed
    return reply


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
while True:
    packet, peer = server.recvfrom(1500)
    said = answer(packet, zone(sys.argv[2]))
    if said:
        server.sendto(said, peer)
