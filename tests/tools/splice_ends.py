#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How spliced connections begin and end, step by step, with segments made by hand where no kernel would send them.

  splice_ends.py SCENARIO FAMILY CLIENT-NAMESPACE SERVER-NAMESPACE

Prints what happened, in words that splice_ends.sh and splice_spoof.sh expect. The client by hand is 10.1.0.77 or
fd01::77, which no kernel owns; target.c is the server, or socks_script.py for ports below 3000.
"""
import random
import sys
import time

from wire import ACK, FIN, PSH, RST, SYN, Host, Raw, forget_connection, outcome, reset_connection

scenario, ip, client_namespace, server_namespace = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
TARGET = {4: "10.9.0.1", 6: "fd09::1"}[ip]
NOBODY = {4: "10.1.0.77", 6: "fd01::77"}[ip]
UPSTREAM = {4: "10.2.0.2", 6: "fd02::2"}[ip]
GATEWAY = {4: "10.2.0.1", 6: "fd02::1"}[ip]
OPTIONS = b"\x02\x04\x05\xb4\x04\x02\x01\x03\x03\x07\x01\x01"  # MSS 1460, SACK, window scale 7
client = Host(client_namespace, "c0")
server = Host(server_namespace, "s0")


def by_hand(port):
    return Raw(client, NOBODY, random.randint(2000, 60000), TARGET, port), random.getrandbits(32)


def greet(conn, isn, **more):
    """SYN and SYN-ACK; returns the SYN-ACK."""
    conn.send(SYN, isn, options=OPTIONS, **more)
    return conn.receive(flags=SYN | ACK)


def flags_of(segment):
    if segment is None:
        return "nothing"
    return "".join(name for bit, name in ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "A")) if segment.flags & bit)


def echo(conn, text):
    conn.sendall(text)
    got = b""
    while len(got) < len(text):
        part = conn.recv(65536)
        if not part:
            break
        got += part
    return "echo" if got == text else f"wrong {got!r}"


def live():
    """A connection of the client's kernel to the echo service, and its newest segments as both sides sent them."""
    conn = client.dial(TARGET, 5003)
    echo(conn, b"begin")
    time.sleep(0.2)
    client.forget()
    server.forget()
    echo(conn, b"more")
    port = conn.getsockname()[1]
    time.sleep(0.1)
    sent = received = up = None
    while (s := client.sniff(0, lambda s: s.protocol == 6 and port in (s.sport, s.dport))) is not None:
        if s.outgoing:
            sent = s
        else:
            received = s
    while (s := server.sniff(0, lambda s: s.protocol == 6 and 1080 in (s.sport, s.dport))) is not None:
        if not s.outgoing:
            up = s
    return conn, Raw(client, sent.src, sent.sport, sent.dst, sent.dport), sent, received, up


# --- by hand ---

def syn_rst():
    """The client gives up before it has an answer."""
    conn, isn = by_hand(2000)
    conn.send(SYN, isn, options=OPTIONS)
    time.sleep(0.3)
    conn.send(RST, isn + 1)
    print("SYN-ACK after all:", flags_of(conn.receive(3, SYN)))


def synack_rst():
    """The client gives up when it has the SYN-ACK."""
    conn, isn = by_hand(5003)
    print(flags_of(greet(conn, isn)))
    conn.send(RST, isn + 1)
    print(flags_of(conn.receive(1.5)))


def synack_bad_rst():
    """A reset with another sequence number does not end it."""
    conn, isn = by_hand(5003)
    synack = greet(conn, isn)
    conn.send(RST, isn + 5000)
    conn.send(RST | ACK, isn + 70000, synack.seq + 1)
    conn.send(ACK, isn + 1, synack.seq - 500)
    time.sleep(0.1)
    conn.send(ACK | PSH, isn + 1, synack.seq + 1, payload=b"hello")
    data = conn.receive(3, PSH)
    print(data.payload.decode() if data else "nothing")
    conn.send(RST, isn + 6)


def ack_rst():
    conn, isn = by_hand(5003)
    synack = greet(conn, isn)
    conn.send(ACK, isn + 1, synack.seq + 1)
    time.sleep(0.2)
    conn.send(RST, isn + 1)
    print(flags_of(conn.receive(1)))


def never_ack():
    """Resent, given up; the reset carries the sequence number that the client expects."""
    conn, isn = by_hand(5004)
    synack = greet(conn, isn)
    seen = []
    while (s := conn.receive(4)) is not None:
        seen.append(flags_of(s))
        if s.flags & RST:
            seen.append("exact" if s.seq == (synack.seq + 1) & 0xFFFFFFFF else f"{s.seq} instead of {synack.seq + 1}")
            break
    print(*seen)


def abandoned():
    """As never_ack, but the gateway's daemon dies, and its successor resets."""
    conn, isn = by_hand(1000)
    synack = greet(conn, isn)
    reset = conn.receive(10, RST)
    print(flags_of(synack), flags_of(reset), "exact" if reset and reset.seq == (synack.seq + 1) & 0xFFFFFFFF else "")


def upstream_reset_opening():
    """The server resets while the client has not answered the SYN-ACK."""
    conn, isn = by_hand(2013)
    synack = greet(conn, isn)
    answer = conn.receive(1.0)
    print(flags_of(answer), "exact" if answer and answer.seq == (synack.seq + 1) & 0xFFFFFFFF else "")


def duplicate_syns():
    """Copies of the SYN make no second connection, and do no harm; then all goes its way."""
    conn, isn = by_hand(5003)
    for _ in range(3):
        conn.send(SYN, isn, options=OPTIONS)
    synack = conn.receive(flags=SYN | ACK)
    conn.send(SYN, isn, options=OPTIONS)
    time.sleep(0.7)
    conn.send(SYN, isn, options=OPTIONS)
    again = conn.receive(flags=SYN | ACK)
    print("again", "the same" if again and again.seq == synack.seq else flags_of(again))
    conn.send(ACK, isn + 1, synack.seq + 1)
    conn.send(ACK | PSH, isn + 1, synack.seq + 1, payload=b"hello")
    data = conn.receive(3, PSH)
    print(data.payload.decode() if data else "nothing")
    conn.send(ACK | FIN, isn + 6, synack.seq + 6)
    fin = conn.receive(3, FIN)
    print(flags_of(fin), fin.ack - isn if fin else "")
    conn.send(ACK, isn + 7, fin.seq + 1 if fin else 0)


def ip_options():
    """A client by hand, with IP options in its SYN: the relay's."""
    conn, isn = by_hand(5003)
    synack = greet(conn, isn, ip_options=b"\x94\x04\x00\x00" if ip == 4 else b"")  # router alert
    print(flags_of(synack))
    if synack:
        conn.send(ACK, isn + 1, synack.seq + 1)
        conn.send(ACK | PSH, isn + 1, synack.seq + 1, payload=b"hello")
        data = conn.receive(3, PSH)
        print(data.payload.decode() if data else "nothing")
        time.sleep(float(sys.argv[5]) if len(sys.argv) > 5 else 0)
        conn.send(RST, isn + 6)


def last_hop():
    """A packet that must not be sent on, and its repetition."""
    conn, isn = by_hand(5003)
    synack = greet(conn, isn)
    conn.send(ACK, isn + 1, synack.seq + 1)
    time.sleep(0.1)
    conn.send(ACK | PSH, isn + 1, synack.seq + 1, payload=b"hello", ttl=1)
    print(flags_of(conn.receive(0.5)))
    conn.send(ACK | PSH, isn + 1, synack.seq + 1, payload=b"hello")
    data = conn.receive(3, PSH)
    print(data.payload.decode() if data else "nothing")
    conn.send(RST, isn + 6)


# --- into a living connection ---

def spoofed_syn():
    conn, forged, sent, _, _ = live()
    for _ in range(3):
        forged.send(SYN, random.getrandbits(32), options=OPTIONS)
        time.sleep(0.05)
    print(echo(conn, b"still here"))
    conn.close()


def spoofed_rst():
    """Outside the window, and inside of it but not exact, from both sides."""
    conn, forged, sent, received, up = live()
    server_forged = Raw(server, UPSTREAM, up.dport, up.src, up.sport)
    for off in (100000000, -100000):
        forged.send(RST, sent.seq + len(sent.payload) + off)
        server_forged.send(RST, up.ack + off)
    print(echo(conn, b"outside"))
    for off in (1, 500):
        forged.send(RST, sent.seq + len(sent.payload) + 7 + off)
        server_forged.send(RST, up.ack + 7 + off)
    print(echo(conn, b"inside"))
    time.sleep(1.5)
    print(echo(conn, b"later"))
    conn.close()


def spoofed_rst_idle():
    """As above, but both ends have nothing to say for longer than `linger`."""
    conn, forged, sent, _, _ = live()
    forged.send(RST, sent.seq + len(sent.payload) + 500)
    time.sleep(2.5)
    print(echo(conn, b"later"))
    conn.close()


def spoofed_data():
    """Segments outside of the window do not disturb what the gateway knows."""
    conn, forged, sent, received, up = live()
    forged.send(ACK | PSH, sent.seq + 100000000, sent.ack, payload=b"forged")
    forged.send(ACK | FIN, sent.seq + 200000000, sent.ack)
    print(echo(conn, b"still here"))
    time.sleep(1)
    print(echo(conn, b"later"))
    conn.close()


def revived():
    """A reset between what the server has and what was sent; then the connection goes on."""
    conn, isn = by_hand(5003)
    synack = greet(conn, isn)
    conn.send(ACK, isn + 1, synack.seq + 1)
    time.sleep(0.1)
    conn.send(ACK | PSH, isn + 3, synack.seq + 1, payload=b"llo")  # "he" is lost
    conn.receive()
    conn.send(RST, isn + 4)
    print("challenged" if flags_of(conn.receive(1)) == "A" else "?", end=" ")
    time.sleep(0.1)
    conn.send(ACK | PSH, isn + 1, synack.seq + 1, payload=b"he")
    data = conn.receive(3, PSH)
    conn.send(ACK, isn + 6, synack.seq + 6)
    time.sleep(1.5)
    print("echo" if data and data.payload == b"hello" else "nothing")
    conn.send(ACK | FIN, isn + 6, synack.seq + 6)
    fin = conn.receive(3, FIN)
    conn.send(ACK, isn + 7, fin.seq + 1)


def exact_rst():
    conn, forged, sent, _, _ = live()
    forged.send(RST, sent.seq + len(sent.payload))
    time.sleep(0.3)
    # the client does not know of it: what it says next is answered by a reset, as its server is gone
    try:
        conn.sendall(b"anyone?")
    except OSError:
        pass
    print(outcome(conn, 3))


# --- of kernels ---

def restarted_client():
    """The client forgets the connection and dials again from the same port."""
    conn = client.dial(TARGET, 5003, 23456)
    print(echo(conn, b"before"))
    forget_connection(conn)
    begun = time.monotonic()
    conn = client.dial(TARGET, 5003, 23456)
    print(echo(conn, b"after"), "soon" if time.monotonic() - begun < 3.5 else "late")
    conn.close()


def reused_port():
    """The same port again at once: after a reset, after an orderly end, to the same and to another destination."""
    result = []
    for round_ in range(20):
        port = 5003 if round_ % 2 else 5004
        conn = client.dial(TARGET, port, 24000)
        if port == 5004:
            assert conn.recv(1) == b"A"
        text = random.randbytes(3000)
        result.append(echo(conn, text))
        reset_connection(conn)
    for _ in range(10):  # the server ends first, so no TIME-WAIT here
        conn = client.dial(TARGET, 5006, 24001)
        data = b""
        while (part := conn.recv(1000)):
            data += part
        result.append("echo" if len(data) == 100 and data[:2] == b"AB" else f"wrong {data!r}")
        conn.close()
    print(result.count("echo"), [r for r in result if r != "echo"])


def half_close():
    """Each direction ends alone, and the other goes on for longer than `linger`."""
    conn = client.dial(TARGET, 2012)
    conn.sendall(b"x" * 100000)
    conn.shutdown(1)
    conn.settimeout(5)
    print(conn.recv(100).decode(), outcome(conn))
    conn.close()
    conn = client.dial(TARGET, 2011)
    print(conn.recv(3).decode(), repr(conn.recv(1)))
    time.sleep(1.5)
    for _ in range(20):
        conn.sendall(b"y" * 50000)
    conn.shutdown(1)
    print(outcome(conn))
    conn.close()


def server_resets():
    """After a byte; after the client's end; and instead of the reply."""
    conn = client.dial(TARGET, 2008)
    conn.sendall(b"x")
    print(outcome(conn))
    conn = client.dial(TARGET, 2009)
    conn.sendall(b"x" * 100000)
    conn.shutdown(1)
    print(outcome(conn))
    conn = client.dial(TARGET, 2014)
    conn.sendall(b"y" * 100000 + b"x")
    print(outcome(conn))
    try:
        client.dial(TARGET, 2004)
        print("connected")
    except OSError as error:
        print(type(error).__name__)


def idle():
    """Nothing for longer than `idle-timeout`: both ends are reset."""
    conn = client.dial(TARGET, 5003)
    print(echo(conn, b"hello"))
    server.forget()
    client.forget()
    print(outcome(conn, 8))
    reset = server.sniff(2, lambda s: s.protocol == 6 and not s.outgoing and s.dport == 1080 and s.flags & RST)
    print("server:", flags_of(reset) if reset else "nothing")


random.seed()
globals()[scenario]()
