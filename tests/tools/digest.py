#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Answers with the sha256 of everything that the client sent before it ended its direction. digest.py PORT"""
import hashlib
import socketserver
import sys


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        digest = hashlib.sha256()
        while True:
            data = self.request.recv(65536)
            if not data:
                break
            digest.update(data)
        self.request.sendall((digest.hexdigest() + "\n").encode())


class Server(socketserver.ThreadingTCPServer):
    address_family = __import__("socket").AF_INET6
    allow_reuse_address = True
    daemon_threads = True


Server(("::", int(sys.argv[1])), Handler).serve_forever()
