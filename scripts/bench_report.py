#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns the TSV of bench.sh (lab, system, metric, value) into tables of medians and of ratios taken in the same run."""
import statistics
import sys

SYSTEMS = ["forwarding", "redsocks", "socksplice"]
METRICS = ["up 1", "down 1", "up 8", "down 8", "conn/s c1", "conn/s c64", "ping p50 us", "ping p99 us"]

values = {}
for line in open(sys.argv[1], encoding="utf-8"):
    lab, system, metric, value = line.rstrip("\n").split("\t")
    if value:
        values.setdefault((lab, system, metric), []).append(float(value))


def median(lab, system, metric):
    found = values.get((lab, system, metric))
    return statistics.median(found) if found else None


def show(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


for lab in ["GSO", "MTU-frames"]:
    print(f"\n{lab} lab{'':12}" + "".join(f"{s:>13}" for s in SYSTEMS) + "   ours/redsocks  ours/forwarding")
    for metric in METRICS:
        row = [median(lab, s, metric) for s in SYSTEMS]
        digits = 0 if "conn" in metric else 1 if "ping" in metric else 2
        unit = " Gbit/s" if metric[:2] in ("up", "do") else ""
        ratios = [row[2] / row[i] if row[2] and row[i] else None for i in (1, 0)]
        print(f"  {metric + unit:20}" + "".join(f"{show(v, digits):>13}" for v in row)
              + f"{show(ratios[0]):>16}{show(ratios[1]):>17}")
    for prefix, cases in (("CPU-s/GB", METRICS[:4]), ("us/connection", METRICS[4:6])):
        for metric in cases:
            base = median(lab, "forwarding", f"machine {prefix} {metric}")
            cells = []
            for system in SYSTEMS[1:]:
                machine = median(lab, system, f"machine {prefix} {metric}")
                proxy = median(lab, system, f"proxy {prefix} {metric}")
                more = machine - base if machine is not None and base is not None else None
                digits = 0 if "us/" in prefix else 2
                cells.append(f"{show(more, digits)} ({show(proxy, digits)})")
            print(f"  {prefix + ' ' + metric:33}" + "".join(f"{c:>17}" for c in cells))
print("\nCPU: whole machine minus plain forwarding's, the proxy process's own in brackets (softirq work is not charged to it).")
