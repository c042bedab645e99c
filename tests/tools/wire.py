# SPDX-License-Identifier: MIT
"""TCP segments and ICMP errors by hand, in network namespaces; for scripts of the network tests.

  host = Host("namespace", "interface")          what it sends is routed by the namespace's kernel
  conn = Raw(host, "10.1.0.77", 4000, "10.9.0.1", 5003)
  conn.send(SYN, seq=1); answer = conn.receive()

An address that no kernel owns leaves all answers to the script: no kernel resets what it does not know. Whoever sends
to it needs a neighbour entry for it.
"""
import ctypes
import ipaddress
import os
import select
import socket
import struct
import time

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MASK = 0xFFFFFFFF
CLONE_NEWNET = 0x40000000
TCP_REPAIR = 19
ETH_P_ALL = 3
PACKET_OUTGOING = 4
libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/self/ns/net", os.O_RDONLY)


def inside(namespace, make):
    """Calls make() in a namespace: what it opens stays there."""
    fd = os.open("/run/netns/" + namespace, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        return make()
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(fd)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def packed(address):
    return ipaddress.ip_address(address).packed


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_header(src, dst, protocol, length, ttl=64, options=b""):
    if family(src) == socket.AF_INET6:
        return struct.pack("!IHBB16s16s", 0x60000000, length, protocol, ttl, packed(src), packed(dst))
    ihl = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | ihl, 0, ihl * 4 + length, 0, 0x4000, ttl, protocol, 0, packed(src),
                       packed(dst)) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def pseudo_header(src, dst, protocol, length):
    return packed(src) + packed(dst) + struct.pack("!II", length, protocol)


class Segment:
    """A TCP segment as it was seen: src, dst, sport, dport, seq, ack, flags, window, options, payload, ttl, outgoing."""

    def __init__(self, frame, outgoing):
        self.outgoing = outgoing
        ethertype = struct.unpack_from("!H", frame, 12)[0]
        if ethertype == 0x0800:
            ihl, total, self.ttl, protocol = (frame[14] & 15) * 4, *struct.unpack_from("!H", frame, 16), frame[22], frame[23]
            self.src, self.dst = (str(ipaddress.ip_address(frame[at:at + 4])) for at in (26, 30))
            tcp, end = 14 + ihl, 14 + total
        elif ethertype == 0x86DD:
            total, protocol, self.ttl = struct.unpack_from("!HBB", frame, 18)
            self.src, self.dst = (str(ipaddress.ip_address(frame[at:at + 16])) for at in (22, 38))
            tcp, end = 54, 54 + total
        else:
            raise ValueError("no IP")
        self.protocol = protocol
        if protocol != socket.IPPROTO_TCP:
            self.body = frame[tcp:end]
            return
        self.sport, self.dport, self.seq, self.ack, offset, self.flags, self.window = struct.unpack_from("!HHIIBBH", frame, tcp)
        self.options = frame[tcp + 20:tcp + (offset >> 4) * 4]
        self.payload = frame[tcp + (offset >> 4) * 4:end]

    def timestamps(self):
        """(TSval, TSecr) or None"""
        at = 0
        while at < len(self.options) and self.options[at]:
            if self.options[at] == 1:
                at += 1
                continue
            if self.options[at] == 8:
                return struct.unpack_from("!II", self.options, at + 2)
            at += max(self.options[at + 1], 2)
        return None


class Host:
    def __init__(self, namespace, interface):
        self.namespace = namespace
        self.interface = interface
        self.sniffer = inside(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
        self.sniffer.bind((interface, ETH_P_ALL))
        self.raw = {socket.AF_INET: inside(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)),
                    socket.AF_INET6: inside(namespace, lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW))}

    def send_ip(self, dst, packet):
        self.raw[family(dst)].sendto(packet, (dst, 0))

    def send_tcp(self, src, sport, dst, dport, flags, seq, ack=0, payload=b"", options=b"", window=64240, ttl=64, ip_options=b""):
        options += b"\0" * (-len(options) % 4)
        head = struct.pack("!HHIIBBHHH", sport, dport, seq & MASK, ack & MASK, (20 + len(options)) << 2, flags, window, 0, 0)
        data = head + options + payload
        check = checksum(pseudo_header(src, dst, 6, len(data)) + data)
        data = data[:16] + struct.pack("!H", check) + data[18:]
        self.send_ip(dst, ip_header(src, dst, 6, len(data), ttl, ip_options) + data)

    def send_icmp(self, src, dst, kind, code, word, inner):
        """An error with `word` as its second four bytes, about the packet `inner`."""
        data = struct.pack("!BBHI", kind, code, 0, word) + inner
        if family(src) == socket.AF_INET6:
            check, protocol = checksum(pseudo_header(src, dst, 58, len(data)) + data), 58
        else:
            check, protocol = checksum(data), 1
        data = data[:2] + struct.pack("!H", check) + data[4:]
        self.send_ip(dst, ip_header(src, dst, protocol, len(data)) + data)

    def sniff(self, seconds, wanted):
        """The first packet that wanted(segment) is true of, or None."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if not select.select([self.sniffer], [], [], max(left, 0))[0]:
                return None
            frame, address = self.sniffer.recvfrom(65535)
            try:
                segment = Segment(frame, address[2] == PACKET_OUTGOING)
            except (ValueError, struct.error, IndexError):
                continue
            if wanted(segment):
                return segment

    def forget(self):
        """Throws away what was seen so far."""
        while select.select([self.sniffer], [], [], 0)[0]:
            self.sniffer.recv(65535)

    def dial(self, address, port, source_port=0, seconds=5):
        """A connection of the kernel."""
        conn = inside(self.namespace, lambda: socket.socket(family(address), socket.SOCK_STREAM))
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.settimeout(seconds)
        if source_port:
            conn.bind(("", source_port))
        conn.connect((address, port))
        return conn


class Raw:
    """One end of a connection, by hand."""

    def __init__(self, host, src, sport, dst, dport):
        self.host, self.src, self.sport, self.dst, self.dport = host, src, sport, dst, dport

    def send(self, flags, seq, ack=0, **more):
        self.host.send_tcp(self.src, self.sport, self.dst, self.dport, flags, seq, ack, **more)

    def receive(self, seconds=3, flags=None):
        """The next segment of the other end, or the next with all of `flags`."""
        return self.host.sniff(seconds, lambda s: s.protocol == 6 and not s.outgoing and s.src == self.dst and s.dst == self.src
                               and s.sport == self.dport and s.dport == self.sport
                               and (flags is None or s.flags & flags == flags))


def forget_connection(conn):
    """Closes a kernel's connection without a word, as a host that restarts does."""
    conn.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    conn.close()


def reset_connection(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def outcome(conn, seconds=5):
    """How the other side ends a connection: "end", "ECONNRESET", ... or "timeout"."""
    import errno
    conn.settimeout(seconds)
    try:
        while conn.recv(65536):
            pass
        return "end"
    except socket.timeout:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
