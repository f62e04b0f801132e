"""Traces: recorded by one run, and replayed by another."""

import subprocess
import sys
from pathlib import Path
from typing import List

import disks
from harness import Case, case


def belady(pages: List[int], memory: int) -> int:
    """Returns the faults if the page goes whose next use is farthest."""
    resident, faults = set(), 0
    for number, page in enumerate(pages):
        if page in resident:
            continue
        faults += 1
        if len(resident) == memory:
            rest = pages[number:]
            resident.remove(max(resident, key=lambda old: rest.index(old) if old in rest else len(rest)))
        resident.add(page)
    return faults


def boot_with(t: Case, name: str, config: str, *files: Path):
    """Boots a stick that has the files, with a swap disk."""
    image = disks.copy_image(Path("build/faultline.img"), t.path(f"{name}.img"), config)
    for file in files:
        disks.tool("mcopy", "-i", f"{image}@@1M", file, f"::/{file.name}")
    return t.boot(image=t.recorded(image, "BOOT"), disks=[t.swap_disk()])


@case
def trace(t: Case):
    """What record-workloads prints becomes a file that trace= takes, with the faults that follow."""
    run = t.boot(disks=[t.swap_disk()], append="run=record-workloads")
    t.passed(run, ("record-workloads",))
    kept = t.path("log")
    kept.write_text(run.result.log)
    files = [t.path("graph.csv"), t.path("graph.oracleGeneral")]
    for file in files:
        done = subprocess.run([sys.executable, "tests/report/trace", kept, "graph", file], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        t.check(done.returncode == 0, f"{file.name} is made", done.stdout)
    pages = [int(line.split(",")[1]) for line in files[0].read_text().splitlines()[1:]]
    for file in files:
        run = boot_with(t, file.suffix[1:], f"run=trace\ntrace=/{file.name}\n", file)
        t.passed(run, ("trace",))
        t.said(run, rf"^trace: {file.name}: {len(pages)} requests for {len(set(pages))} objects; 0 of")
        figures = run.log.metrics if run.log else {}
        memory = len(set(pages)) // 2
        for name, size in (("trace.faults.opt", memory), (f"trace.curve.opt.{memory // 2}", memory // 2)):
            found = figures[name].value if name in figures else None
            t.check(found == belady(pages, size), f"{name} is Belady's for {size} pages: {found}")
    broken = t.path("broken.csv")
    broken.write_text("time,object,size\n1,2,4096\n2,x,4096\n")
    run = boot_with(t, "broken", "run=trace\ntrace=broken.csv\n", broken)
    t.ended(run, "fail")
    t.said(run, r"^option error: trace=broken\.csv: line 3: the object is no number of 64 bits")
