#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which way does traffic take? A server that tells who it thinks is asking, and clients that judge by the answer.

  ways.py serve PORT...                 TCP and UDP, IPv4 and IPv6: answers with the address of its peer
  ways.py ask tcp|udp HOST PORT [FROM]  prints the way: direct (the server saw us), proxied (it saw somebody else), the
                                        name of an error (ECONNREFUSED, EHOSTUNREACH, ...), or timeout (after 0.8 s)
  ways.py watch PROTO/HOST/PORT=WAY[,WAY...] ...
                                        asks all of them in turn, on several threads, until its standard input ends;
                                        prints one line: asked=N wrong=N, and each wrong answer with how often it came
"""
import collections
import errno
import selectors
import socket
import sys
import threading

TIMEOUT = 0.8
THREADS = 4


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def plain(address):
    return address[7:] if address.startswith("::ffff:") else address


def serve(ports):
    selector = selectors.DefaultSelector()
    for port in ports:
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            sock = socket.socket(socket.AF_INET6, kind)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if kind == socket.SOCK_DGRAM:
                # the answer must come from the address that was asked
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
            selector.register(sock, selectors.EVENT_READ, kind)
    while True:
        for key, _ in selector.select():
            try:
                if key.data == socket.SOCK_STREAM:
                    conn, peer = key.fileobj.accept()
                    conn.sendall(plain(peer[0]).encode())
                    conn.close()
                else:
                    _, ancillary, _, peer = key.fileobj.recvmsg(2048, 256)
                    info = [data for level, kind, data in ancillary
                            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO]
                    own = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, data[:16] + b"\0\0\0\0") for data in info]
                    key.fileobj.sendmsg([plain(peer[0]).encode()], own, 0, peer)
            except OSError:
                pass


def ask(proto, host, port, source=None):
    sock = socket.socket(family(host), socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT)
    try:
        if source:
            sock.bind((source, 0))
        sock.connect((host, port))
        own = sock.getsockname()[0]
        if proto == "udp":
            sock.send(b"who")
        data = sock.recv(256).decode()
        return "direct" if data == own else "proxied" if data else "closed"
    except socket.timeout:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    finally:
        sock.close()


def watch(targets):
    wanted = []
    for target in targets:
        where, ways = target.split("=")
        proto, host, port = where.split("/")
        wanted.append((proto, host, int(port), ways.split(",")))
    over = threading.Event()
    lock = threading.Lock()
    asked, wrong = collections.Counter(), collections.Counter()

    def run(first):
        i = first
        while not over.is_set():
            proto, host, port, ways = wanted[i % len(wanted)]
            way = ask(proto, host, port)
            with lock:
                asked[host] += 1
                if way not in ways:
                    wrong[f"{proto}/{host}/{port}:{way}"] += 1
            i += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(f"asked={sum(asked.values())} wrong={sum(wrong.values())}", *(f"{k}={n}" for k, n in wrong.items()))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve([int(port) for port in sys.argv[2:]])
    elif sys.argv[1] == "ask":
        print(ask(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] if len(sys.argv) > 5 else None))
    else:
        watch(sys.argv[2:])
