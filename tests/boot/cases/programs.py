"""Programs in address spaces, under stress, under count and under the debugger."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import disks
import latency
from harness import ROOT, Case, Skip, case

sys.path[:0] = [str(ROOT / "tests/bench"), str(ROOT / "tests/check")]
import figures as pages  # noqa: E402
import rows as bench_rows  # noqa: E402


@case
def ring3(t: Case):
    """Programs, their stacks, and a device that a fault drives; QEMU's device edu is the device."""
    experiments = ("ring3", "stack-trim", "fault-device")
    for cpu in ("max", "qemu64"):
        run = t.boot(disks=[t.swap_disk()], cpu=cpu, smp=2, append="run=" + ",".join(experiments),
                     extra=["-device", "edu,dma_mask=0xffffffff"])
        t.passed(run, experiments)


@case
def stress(t: Case):
    """All processors share one address space that has more pages than may be resident."""
    for count in (2, 4):
        run = t.boot(disks=[t.swap_disk()], smp=count, append="run=shootdown,stress seconds=8")
        t.passed(run, ("shootdown", "stress"))


@case
def model(t: Case):
    """The model of address spaces agrees with the real faults of one CPU and of four."""
    for count in (1, 4):
        run = t.boot(disks=[t.swap_disk()], smp=count, append="run=model-long seconds=8 seed=3")
        t.passed(run, ("model-long",))


@case
def attacks(t: Case):
    """Rights change beside first writes, and pages are unmapped beside reads from swap."""
    run = t.boot(smp=2, append="run=attack-protect,attack-swap-in seconds=6")
    t.passed(run, ("attack-protect", "attack-swap-in"))


@case
def lock_checks(t: Case):
    """The build that checks owners and order of spin locks passes under stress."""
    made = subprocess.run(["make", "-s", "B=build/checked", "CHECKS=1",
                           "build/checked/faultline.efi"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    t.check(made.returncode == 0, "it compiles", made.stdout)
    run = t.boot(efi="build/checked/faultline.efi", disks=[t.swap_disk()], smp=3,
                 append="run=cow,shared-map,swap,stress,attack-protect,attack-swap-in seconds=6")
    t.passed(run, ("cow", "shared-map", "swap", "stress", "attack-protect",
                   "attack-swap-in"))
    run = t.boot(efi="build/checked/faultline.efi", disks=[t.swap_disk()], icount=True,
                 append="run=stress seconds=1")
    t.passed(run, ("stress",))
    figures = latency.longest(run.notes(latency.PATTERN),
                              latency.read_symbols(ROOT / "build/checked/faultline.so"))
    problems = latency.exceeded(figures, latency.bounds((ROOT / latency.PAGE).read_text()))
    t.check(not problems, "locks and interrupts off: within their bounds", *problems)
    t.crashes("crash-lock-order", r"lock order: .* it was the other way round before",
              efi="build/checked/faultline.efi")


# ---- figures ----


@case
def fault_anatomy(t: Case):
    """The parts of a fault add up to the whole; stepping and `make bench` count the same."""
    run = t.boot(icount=True, cpu="max,-erms", append="run=fault-anatomy,bench")
    t.passed(run, ("fault-anatomy", "bench"))
    figures = {name: metric.value for name, metric in run.log.metrics.items()} if run.log else {}
    for kind in ("zero_read", "anon_first_write", "zero_to_private", "cow_reuse"):
        prefix = f"fault-anatomy.{kind}."
        parts = {name[len(prefix):]: value for name, value in figures.items()
                 if name.startswith(prefix)}
        whole, median = parts.pop("mean", 0), parts.pop("median", 0)
        for word in ("least", "most", "whole", "locked"):
            parts.pop(word, None)
        t.check(abs(sum(parts.values()) - whole) <= len(parts),
                f"{kind}: the parts make up {whole} instructions", str(parts))
        counted = figures.get(f"bench.{kind}.median", 0)
        t.check(abs(counted - median) <= 2, f"{kind}: counted, {counted}, and stepped, {median}")
    t.said(run, r"^histogram of zero_read, instructions from:faults \d+:\d+")


@case
def bench(t: Case):
    """`make bench` has a figure for each row, none worse than recorded, counts the same twice, and
    the pages quote what is measured."""
    figures, statuses = [], []
    for _ in range(2):
        done = subprocess.run(["tests/bench/run", t.path("bench")], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        statuses.append(done.returncode)
        t.check(done.returncode == 0, "no row is missing or worse than recorded",
                *done.stdout.splitlines()[-8:])
        lines = (t.path("bench") / "bench.jsonl").read_text().splitlines()
        figures.append([json.loads(line) for line in lines])
    metadata, *first = figures[0]
    for key in ("commit", "emulator", "processor", "options", "date"):
        t.check(metadata.get(key), f"bench.jsonl begins with the {key}: {metadata.get(key)}")
    rows = {line["op"]: line for line in first}
    for name, target in bench_rows.read_targets().items():
        line = rows.get(name, {})
        t.check(line.get("unit") == "instructions" and 0 < line.get("median", 0) <= line["max"]
                and line["linux_lean"] == target.lean and line["goal"] == target.goal,
                f"{name} takes {line.get('median')} instructions", str(line))
    for part in ("entry", "find", "allocate", "clear", "map", "return"):
        line = rows.get(f"anon_first_write.{part}", {})
        t.check(line.get("unit") == "instructions" and line.get("mean", 0) > 0,
                f"the {part} of a fault takes {line.get('mean')} instructions", str(line))
    t.check(all(line["unit"] == "instructions" for line in first),
            "bench.jsonl has no time of this machine")
    lines = (t.path("bench") / "bench-shootdown.jsonl").read_text().splitlines()
    times = {line["op"]: line for line in map(json.loads, lines)}
    for cpus, batch in ((1, "pages1"), (2, "pages8"), (4, "pages32"), (4, "whole")):
        line = times.get(f"shootdown.cpus{cpus}.{batch}", {})
        t.check(line.get("unit") == "ns" and line.get("median", 0) > 0,
                f"a shootdown of {batch} on {cpus} takes {line.get('median')} ns", str(line))
    counted = [[line for line in each[1:] if line["op"] not in bench_rows.DISK_ROWS]
               for each in figures]
    t.check(counted[0] == counted[1], "a second run counts the same, but for the disk's rows",
            *[f"{a} {b}" for a, b in zip(*counted) if a != b])
    for name, problems in pages.judged(ROOT, *pages.measure(ROOT, first)):
        t.check(not problems, f"figures of the pages: {name}", *problems)


# ---- the debugger ----


@case
def debugger(t: Case):
    """`make debug` stops before and after the image moves, with symbols at both places."""
    if not shutil.which("gdb"):
        raise Skip("gdb is not installed")
    swap = disks.copy_sparse(Path("build/swap.img"), t.path("swap.img"))
    words = disks.tool("env", f"SWAP={swap}", "ovmf/debug", "-batch", "-ex", "faultline-start",
                       "-ex", "backtrace 1", "-ex", "continue", "-ex", "backtrace 2")
    t.check(re.search(r"(?m)^#0 +efi_main \(.*\) at efi/entry\.c:\d+$", words),
            "it stops in efi_main, where the firmware loaded it", words)
    t.check(re.search(r"(?m)^#0 +faultline_main \(.*\) at tests/runner/main\.c:\d+$", words),
            "it stops in faultline_main, after the move", words)
    t.check(re.search(r"(?m)^#1 +0xffffffff8[0-9a-f]+ in continue_in_upper_half ", words),
            "the backtrace there has names and places", words)
