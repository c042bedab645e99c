#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A SOCKS5 server that misbehaves on request: the destination port says how.

  socks_script.py PORT [early]

early: with the answer to the greeting it says success before it was asked for anything; then, whatever the port, echo.

  1xxx  reply code xxx % 256 (1000: success, then echo)
  2000  success after two seconds, then echo
  2001  every byte of every reply by itself, then echo
  2002  closes instead of replying        2003  garbage instead of a reply
  2004  resets instead of replying        2005  never replies
  2006  success with "early" in the same segment, then echo
  2007  success with a domain name as BND.ADDR, then echo
  2008  success, reads one byte, resets   2009  success, then resets when the client half-closes
  2012  success, says "late" a second and a half after the client's end, then closes
  2013  success, resets after 300 ms      2014  success, resets when it has "x"
  2010  success, then reads nothing       2011  success, sends "bye" and closes its direction, then counts bytes to stderr

A connection that the client resets is noted on stderr.
"""
import socket
import struct
import sys
import threading
import time


def take(conn, count):
    data = b""
    while len(data) < count:
        part = conn.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def echo(conn):
    while True:
        data = conn.recv(65536)
        if not data:
            break
        conn.sendall(data)
    conn.close()


def say(conn, data, bytewise):
    if not bytewise:
        conn.sendall(data)
        return
    for i in range(len(data)):
        conn.sendall(data[i:i + 1])
        time.sleep(0.01)


def serve(conn):
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    good = b"\5\0\0\1\x0a\2\0\2\4\x38"
    methods = take(conn, 2)[1]
    take(conn, methods)
    if "early" in sys.argv:
        conn.sendall(b"\5\0" + good)
        take(conn, {1: 8, 4: 20}[take(conn, 4)[3]] - 2)
        echo(conn)
        return
    conn.sendall(b"\5")
    time.sleep(0.005)
    conn.sendall(b"\0")
    atyp = take(conn, 4)[3]
    take(conn, {1: 4, 4: 16}[atyp])
    port = struct.unpack("!H", take(conn, 2))[0]
    if 1000 <= port < 2000:
        code = (port - 1000) % 256
        conn.sendall(bytes([5, code]) + good[2:])
        if code:
            time.sleep(0.1)
            conn.close()
            return
        echo(conn)
    elif port == 2000:
        time.sleep(2)
        conn.sendall(good)
        echo(conn)
    elif port == 2001:
        say(conn, good, True)
        echo(conn)
    elif port == 2002:
        conn.close()
    elif port == 2003:
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        time.sleep(1)
        conn.close()
    elif port == 2004:
        reset(conn)
    elif port == 2005:
        conn.recv(1)
    elif port == 2006:
        conn.sendall(good + b"early")
        echo(conn)
    elif port == 2007:
        conn.sendall(b"\5\0\0\3\x0bexample.org\0\x50")
        echo(conn)
    elif port == 2008:
        conn.sendall(good)
        conn.recv(1)
        reset(conn)
    elif port == 2009:
        conn.sendall(good)
        while conn.recv(65536):
            pass
        reset(conn)
    elif port == 2010:
        conn.sendall(good)
        time.sleep(60)
    elif port == 2011:
        conn.sendall(good + b"bye")
        conn.shutdown(socket.SHUT_WR)
        total = 0
        while True:
            data = conn.recv(65536)
            if not data:
                break
            total += len(data)
        print("got", total, file=sys.stderr, flush=True)
        conn.close()
    elif port == 2012:
        conn.sendall(good)
        while conn.recv(65536):
            pass
        time.sleep(1.5)
        conn.sendall(b"late")
        conn.close()
    elif port == 2013:
        conn.sendall(good)
        time.sleep(0.3)
        reset(conn)
    elif port == 2014:
        conn.sendall(good)
        while not conn.recv(65536).endswith(b"x"):
            pass
        reset(conn)


def guarded(conn):
    try:
        serve(conn)
    except ConnectionResetError:
        print("reset by the client", file=sys.stderr, flush=True)
        conn.close()
    except (EOFError, OSError):
        conn.close()


listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
while True:
    client, _ = listener.accept()
    threading.Thread(target=guarded, args=(client,), daemon=True).start()
