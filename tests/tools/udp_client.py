#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""UDP clients for the network tests. Each prints one line and ends with 0 if all is as wanted.

  udp_client.py echo HOST PORT SIZE...        each size comes back intact; three tries each, as a path MTU is learnt so
  udp_client.py cone HOST PORT ADDRESS PORT   a datagram to HOST is answered by ADDRESS PORT
  udp_client.py sized HOST PORT SIZE...       service 5011: an answer of that size
  udp_client.py odd HOST PORT                 service 5010: exactly one answer
  udp_client.py unreachable HOST PORT [S]     an ICMP error (connection refused) within S seconds
  udp_client.py bound HOST PORT OWN TEXT      one echo of TEXT from own address and port OWN (address:port)
  udp_client.py many HOST PORT COUNT          COUNT endpoints at once, each gets its own echo; prints how many did
  udp_client.py keep HOST PORT SECONDS        an echo every 100 ms; prints how many of how many came back
  udp_client.py mtu HOST PORT SIZE            with DF: the path MTU that the kernel has learnt then
  udp_client.py serve HOST PORT               an echo server; "who?" is answered from PORT + 1
"""
import os
import select
import socket
import sys
import time


def open_udp(host, own=None):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if own:
        address, port = own.rsplit(":", 1)
        udp.bind((address, int(port)))
    udp.settimeout(1.5)
    return udp


def receive(udp, seconds=1.5):
    udp.settimeout(seconds)
    try:
        return udp.recvfrom(65536)
    except socket.timeout:
        return None, None


def echo_once(udp, host, port, data, tries=3):
    for _ in range(tries):
        try:
            udp.sendto(data, (host, port))
        except OSError as error:
            if error.errno != 90:  # EMSGSIZE: the path MTU has just been learnt
                raise
            continue
        while True:
            got, sender = receive(udp)
            if got is None:
                break
            # an answer to an earlier try may come late
            if got == data and sender[:2] == (host, port):
                return True
    return False


def main(args):
    what, host, port = args[0], args[1], int(args[2])
    if what == "echo":
        udp = open_udp(host)
        bad = [size for size in args[3:] if not echo_once(udp, host, port, os.urandom(int(size)))]
        print("bad sizes:", *bad)
        return bool(bad)
    if what == "cone":
        udp = open_udp(host)
        udp.sendto(b"who?", (host, port))
        got, sender = receive(udp)
        print(got, sender)
        return got != b"who?" or sender[:2] != (args[3], int(args[4]))
    if what == "sized":
        udp = open_udp(host)
        bad = []
        for size in map(int, args[3:]):
            for _ in range(3):
                udp.sendto(size.to_bytes(4, "big"), (host, port))
                got, _ = receive(udp)
                if got is not None:
                    break
            if got != bytes(i * 7 & 255 for i in range(size)):
                bad.append(size)
        print("bad sizes:", *bad)
        return bool(bad)
    if what == "odd":
        udp = open_udp(host)
        udp.sendto(b"odd", (host, port))
        answers = []
        while True:
            got, _ = receive(udp, 0.7)
            if got is None:
                break
            answers.append(got)
        print(answers)
        return answers != [b"odd"]
    if what == "unreachable":
        udp = open_udp(host)
        udp.connect((host, port))
        until = time.monotonic() + float(args[3] if len(args) > 3 else 2)
        while time.monotonic() < until:
            try:
                udp.send(b"anybody?")
                udp.settimeout(0.3)
                udp.recv(100)
            except ConnectionRefusedError:
                print("refused")
                return False
            except socket.timeout:
                pass
        print("nothing")
        return True
    if what == "bound":
        udp = open_udp(host, args[3])
        good = echo_once(udp, host, port, args[4].encode())
        print(good)
        return not good
    if what == "many":
        count = int(args[3])
        sockets = {}
        poll = select.poll()
        for i in range(count):
            udp = open_udp(host)
            udp.setblocking(False)
            sockets[udp.fileno()] = (udp, b"endpoint %d" % i)
            poll.register(udp, select.POLLIN)
        missing = set(sockets)
        wrong = 0
        for _ in range(4):
            for fd in list(missing):
                udp, text = sockets[fd]
                udp.sendto(text, (host, port))
            until = time.monotonic() + 2
            while missing and time.monotonic() < until:
                for fd, _ in poll.poll(200):
                    udp, text = sockets[fd]
                    got = udp.recv(100)
                    wrong += got != text
                    missing.discard(fd)
            if not missing:
                break
        print(f"{count - len(missing)} of {count}, {wrong} wrong")
        if len(args) > 4:
            time.sleep(float(args[4]))
        return bool(missing or wrong)
    if what == "keep":
        udp = open_udp(host)
        sent = came = 0
        until = time.monotonic() + float(args[3])
        while time.monotonic() < until:
            try:
                udp.sendto(b"%d" % sent, (host, port))
                sent += 1
                got, _ = receive(udp, 0.1)
                came += got is not None
            except OSError:
                pass
            time.sleep(0.1)
        print(came, sent)
        return False
    if what == "mtu":
        udp = open_udp(host)
        v6 = ":" in host
        level, discover, value, mtu = (41, 23, 2, 24) if v6 else (0, 10, 2, 14)
        udp.setsockopt(level, discover, value)
        udp.connect((host, port))
        try:
            udp.send(bytes(int(args[3])))
            time.sleep(0.3)
            udp.send(bytes(int(args[3])))
        except OSError:
            pass
        print(udp.getsockopt(level, mtu))
        return False
    if what == "serve":
        udp = open_udp(host, f"{host}:{port}")
        other = open_udp(host, f"{host}:{port + 1}")
        udp.settimeout(None)
        while True:
            data, sender = udp.recvfrom(65536)
            (other if data == b"who?" else udp).sendto(data, sender)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
