#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns the TSV of bench.sh (lab, system, run, metric, value) into tables: medians, and medians of the ratios of each run.

bench_report.py RESULTS                prints them
bench_report.py RESULTS --update FILE  besides, puts them as Markdown between the markers of FILE
"""
import statistics
import sys

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
SYSTEMS = ["forwarding", "redsocks", "relay", "relay-xsk", "relay-pool", "udp-socket", "spliced", "spliced-xdp", "spliced-pool",
           "udp-kernel", "udp-kernel-xdp"]
OURS = ["udp-kernel", "udp-kernel-xdp", "spliced-pool", "spliced", "spliced-xdp", "relay", "relay-xsk"]
# the first of these that a lab has is compared
BULK = ["up 1", "down 1", "up 8", "down 8"]
CHURN = ["conn/s c1", "conn/s c64", "conn/s c100"]
LABS = {
    "gso/target": "The target speaks SOCKS5, GSO",
    "mtu/target": "The target speaks SOCKS5, MTU frames, GRO off",
    "mtu-gro/target": "The target speaks SOCKS5, MTU frames, GRO on",
    "mtu-xdp/target": "The target speaks SOCKS5, MTU frames, GRO off, tx off, NAPI at the hosts",
    "mtu-gro-xdp/target": "The target speaks SOCKS5, MTU frames, GRO on, tx off",
    "gso/dante": "Upstream dante, GSO",
    "gso/microsocks": "Upstream microsocks, GSO",
    "mtu/microsocks": "Upstream microsocks, MTU frames, GRO off",
    "gso/udp": "UDP, 64 bytes, the target is the relay",
    "mtu-gro-xdp/udp": "UDP, 64 bytes, the target is the relay, GRO on, tx off",
    "far/target": "The target speaks SOCKS5, 20 ms away",
    "far/password": "Upstream microsocks with a password, 20 ms away",
}
# metric: (what the table says, digits)
PLAIN = {m: (m + " Gbit/s", 2) for m in BULK}
for m in CHURN:
    PLAIN[m] = (m, 0)
    PLAIN["p99 ms " + m] = (m.replace("conn/s", "connecting") + " p99 ms", 1)
PLAIN["first byte p50 ms"] = ("set-up and first byte p50 ms", 1)
PLAIN["first byte p99 ms"] = ("set-up and first byte p99 ms", 1)
PLAIN["ping p50 us"] = ("ping p50 us", 1)
PLAIN["ping p99 us"] = ("ping p99 us", 1)
PLAIN["UDP round trips/s"] = ("round trips/s, 64 at once", 0)
PLAIN["UDP lost per million"] = ("lost per million", 0)
PLAIN["UDP ping p50 us"] = ("one at a time, p50 us", 1)
PLAIN["UDP ping p99 us"] = ("one at a time, p99 us", 1)
PLAIN["UDP endpoints/s"] = ("new endpoints/s of 5000/s", 0)
MEMORY = {
    "idle connections": 0, "idle: descriptors more": 0, "idle: daemon KB more": 0, "idle: entries in use": 0,
    "kernel bytes/entry": 0, "user bytes/entry": 0,
    "bulk up 8: packets to daemon": 0, "bulk up 8: daemon CPU ms/s": 1,
    "bulk down 8: packets to daemon": 0, "bulk down 8: daemon CPU ms/s": 1,
}

values, about, doubts = {}, [], []
for line in open(sys.argv[1], encoding="utf-8"):
    line = line.rstrip("\n")
    if line.startswith("#"):
        (about if line.startswith("## ") else doubts).append(line.lstrip("# "))
        continue
    lab, system, run, metric, value = line.split("\t")
    if value:
        values.setdefault((lab, system, metric), {})[run] = float(value)


def median(lab, system, metric):
    found = values.get((lab, system, metric))
    return statistics.median(found.values()) if found else None


def ratio(lab, metric, over, under):
    """Of the same run each, then the median."""
    a, b = values.get((lab, over, metric), {}), values.get((lab, under, metric), {})
    found = [a[run] / b[run] for run in a if b.get(run)]
    return statistics.median(found) if found else None


def more(lab, metric, system, than):
    a, b = values.get((lab, system, metric), {}), values.get((lab, than, metric), {})
    found = [a[run] - b[run] for run in a if run in b]
    return statistics.median(found) if found else None


def show(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def lab_table(lab):
    """(title, head, rows), or None: nothing was measured."""
    systems = [s for s in SYSTEMS if any((lab, s, m) in values for m in PLAIN)]
    if not systems:
        return None
    ours = next((s for s in OURS if s in systems), None)
    others = [s for s in ("redsocks", "udp-socket", "forwarding") if ours and s in systems]
    rows = []
    for metric, (name, digits) in PLAIN.items():
        row = [median(lab, s, metric) for s in systems]
        if any(v is not None for v in row):
            rows.append([name] + [show(v, digits) for v in row] + [show(ratio(lab, metric, ours, s)) for s in others])
    for prefix, metrics, digits in (("CPU-s/GB", BULK, 2), ("us/connection", CHURN, 0)):
        for metric in metrics:
            cells = []
            for system in systems:
                key = f"{prefix} {metric}"
                # forwarding itself in full, the others beyond it
                machine = (median(lab, system, "machine " + key) if system == "forwarding"
                           else more(lab, "machine " + key, system, "forwarding"))
                proxy = median(lab, system, "proxy " + key)
                cells.append(show(machine, digits) if system == "forwarding" or machine is None
                             else f"+{machine:.{digits}f} ({show(proxy, digits)})".replace("+-", "-"))
            if any(c != "-" for c in cells):
                unit = "CPU " + ("s/GB" if prefix == "CPU-s/GB" else "us/connection")
                rows.append([f"{unit} {metric.replace('conn/s ', '')}"] + cells + [""] * len(others))
    return LABS.get(lab, lab), [""] + systems + [f"{ours}/{s}" for s in others], rows


def memory_table():
    rows = [[name, show(median("gso/target", "spliced", name), digits)] for name, digits in MEMORY.items()
            if ("gso/target", "spliced", name) in values]
    return ("Memory, and what the daemon does about spliced bulk", ["", "spliced"], rows) if rows else None


def rules_table():
    """Programs in rows, numbers of prefixes in columns, each with its ratio to none."""
    lab, rows = "rules", []
    sizes = sorted({int(m.split()[0]) for (l, _, m) in values if l == lab})
    for system in sorted({s for (l, s, _) in values if l == lab}, reverse=True):
        for suffix, name in ((" prefixes ns", "again"), (" prefixes first ns", "first")):
            row, none = [f"{system}, {name}"], median(lab, system, f"0{suffix}")
            for size in sizes:
                value = median(lab, system, f"{size}{suffix}")
                row.append(show(value, 0) if not size or value is None or not none else f"{value:.0f} ({value / none:.2f})")
            rows.append(row)
    return ("What rules cost: ns a packet by BPF_PROG_RUN", [""] + [f"{size} prefixes" for size in sizes], rows) if rows else None


def dns_table():
    metrics = {"dns answers/s": 0, "dns us/answer": 1, "dns at 10000/s us/answer": 1, "dns p50 us": 0, "dns p99 us": 0}
    systems = [s for s in ("dns", "dns-xdp") if ("gso/target", s, "dns answers/s") in values]
    rows = [[name.replace("us/answer", "daemon CPU us/answer").replace("p5", "at 5000/s p5").replace("p9", "at 5000/s p9")]
            + [show(median("gso/target", s, name), digits) for s in systems] for name, digits in metrics.items()]
    return ("Mapped DNS: dnsperf, 8 clients, 100 queries under way", [""] + [s.replace("dns", "tc", 1) if s == "dns" else "xdp" for s in systems], rows) if systems else None


def as_text(title, head, rows):
    width = [max(len(row[i]) for row in [head] + rows) for i in range(len(head))]
    lines = [title] + ["  " + row[0].ljust(width[0]) + "".join("  " + c.rjust(w) for c, w in zip(row[1:], width[1:]))
                       for row in [head] + rows]
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(title, head, rows):
    head = [title] + head[1:]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] + ["--:"] * (len(head) - 1)] + rows)


tables = [t for t in [lab_table(lab) for lab in LABS] + [memory_table(), rules_table(), dns_table()] if t]
CPU_NOTE = ("CPU: of the whole machine; forwarding's in full, the others' beyond forwarding's in the same run, the proxy process's own in "
            "brackets (softirq work is not charged to it).")
print("\n".join(about))
for table in tables:
    print("\n" + as_text(*table))
print("\n" + CPU_NOTE)
for doubt in doubts:
    print("doubtful: " + doubt)

if sys.argv[2:3] == ["--update"]:
    with open(sys.argv[3], encoding="utf-8") as file:
        text = file.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"bench_report.py: {sys.argv[3]} must hold the markers {BEGIN} and {END} once each")
    parts = ["\n".join(about)] + [as_markdown(*table) for table in tables] + [CPU_NOTE]
    if doubts:
        parts.append("Doubtful:\n\n" + "\n".join("- " + doubt for doubt in doubts))
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    with open(sys.argv[3], "w", encoding="utf-8") as file:
        file.write(before + BEGIN + "\n\n" + "\n\n".join(parts) + "\n\n" + END + after)
