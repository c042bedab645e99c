#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Changes the pinned tables of flows while no daemon runs; layout: headers/flow_abi.h.

  flow_entry.py PIN phase INDEX PHASE   writes the phase of an entry (a number of enum flow_phase)
  flow_entry.py PIN move FROM TO        moves an entry and its keys to another index
"""
import json
import struct
import subprocess
import sys

PHASE = 320


def bpftool(*words):
    out = subprocess.run(["bpftool", "-j", "map", *words], check=True, capture_output=True, text=True).stdout
    return json.loads(out) if out.strip() else None


def raw(values):
    return bytes(int(v, 16) for v in values)


def hexes(data):
    return ["hex", *(f"{b:02x}" for b in data)]


def read(index):
    return raw(bpftool("lookup", "pinned", flows, "key", *hexes(struct.pack("=I", index)))["value"])


def write(index, entry):
    bpftool("update", "pinned", flows, "key", *hexes(struct.pack("=I", index)), "value", *hexes(entry))


flows, keys = sys.argv[1] + "/flows", sys.argv[1] + "/flow_keys"
first, second = int(sys.argv[3]), int(sys.argv[4])
entry = read(first)
if sys.argv[2] == "phase":
    write(first, entry[:PHASE] + struct.pack("=I", second) + entry[PHASE + 4:])
else:
    write(second, entry)
    for element in bpftool("dump", "pinned", keys):
        key, ref = raw(element["key"]), raw(element["value"])
        if struct.unpack_from("=I", ref)[0] == first:
            bpftool("update", "pinned", keys, "key", *hexes(key), "value", *hexes(struct.pack("=I", second) + ref[4:]))
    write(first, bytes(len(entry)))
