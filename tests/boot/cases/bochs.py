"""Bochs: the same image on a second implementation of the x86 MMU."""

import re
from typing import List

import bochs
from harness import HEX, Case, Skip, case

ENTRY = re.compile(rf"^\s*(PML4|PDPE|PDE|PTE): 0x({HEX})\s", re.MULTILINE)
HOLD = rf"^hold va=({HEX}) pa=({HEX}) flags=(\S+) what=(\S+)$"
HELD = ("0x7f0000000", "0x7f0001000", "0x7f0004000")
FRAME_MASK = 0x000FFFFFFFFFF000
# Instructions between two looks of the debugger; pages are held for three times as many.
STEP = 250000000
STEPS = 10


def on_bochs(t: Case, **settings):
    if bochs.missing():
        raise Skip(bochs.missing())
    return t.boot_on_bochs(bochs.Machine(**settings))


def seen_all(t: Case, run, but: str):
    """Checks that tlb-truth saw the old translation at every site but those of a pattern."""
    checks = run.log.suites["tlb-truth"].checks if run.log else []
    skipped = [check.text for check in checks if check.skipped and not re.search(but, check.text)]
    t.check(checks and not skipped, "each old translation was used before its flush", *skipped)


@case
def bochs_whole(t: Case):
    """Every experiment that is safe by default, on a processor with PCIDs and x2APIC."""
    run = on_bochs(t)
    t.passed(run)
    t.said(run, r"^processors: 1 of 1 run; x2APIC")
    t.said(run, r"^clock: TSC at 1[45]\d{4} kHz by PIT")
    t.check(not run.notes("icount"), "no word of QEMU's clock")
    t.check(not run.notes("^not in use:.*x2APIC"), "x2APIC is not said to be unused")
    t.check(not run.notes(r"^rule .*, [1-9]\d* (as QEMU deviates|different)"),
            "no difference from the manual")
    seen_all(t, run, "another processor")
    kept = t.said(run, r"^pcid: (\d+) loads of a root kept the translations, (\d+) flushed them$")
    t.check(kept and int(kept[1]) > 0 and int(kept[2]) > 0, "both kinds of load were made")


@case
def bochs_amd(t: Case):
    """A processor of AMD's, with SMAP and without PCIDs and INVPCID."""
    names = ("mmu-truth", "tlb-truth", "wild", "ring3", "cow")
    run = on_bochs(t, cpu="ryzen", append="run=" + ",".join(names))
    t.passed(run, names)
    t.check(not run.notes("^difference"), "no difference from the manual")
    # With SMAP, Bochs caches no kernel access to a user page.
    checks = run.log.suites["tlb-truth"].checks if run.log else []
    t.check(any("global page" in check.text and not check.skipped for check in checks[-2:-1]),
            "a load of CR3 kept a global translation")


@case
def bochs_two(t: Case):
    """Two processors, which the loader's ACPI tables name."""
    names = ("shootdown", "tlb-truth", "stress", "shared-map")
    run = on_bochs(t, smp=2, append="run=" + ",".join(names) + " seconds=1")
    t.passed(run, names)
    t.said(run, r"^processors: 2 of 2 run; x2APIC")
    t.said(run, r"^clock: TSC at 1[45]\d{4} kHz by ACPI PM timer")
    seen_all(t, run, "^$")


def walks(words: str) -> List[List[int]]:
    """Returns the entries of each walk that the debugger printed, from the top table down."""
    found: List[List[int]] = []
    for name, value in ENTRY.findall(words):
        if name == "PML4":
            found.append([])
        if found:
            found[-1].append(int(value, 16))
    return found


def flags_of(leaf: int) -> str:
    """Returns the rights of an entry as the log writes them."""
    bits = (("W", 1), ("U", 2), ("A", 5), ("D", 6), ("X", 63))
    return "".join(letter if leaf >> bit & 1 else "-" for letter, bit in bits)


@case
def bochs_walk(t: Case):
    """The debugger's walk of the page tables ends at the entries that the log names."""
    look = [f"sb {STEP}", "c"] + [f"page {address}" for address in HELD]
    run = on_bochs(t, append="run=hold", debugger=look * STEPS)
    t.passed(run, ("hold",))
    seen = walks(run.result.last_state)
    t.check(len(seen) >= len(HELD), f"the debugger printed {len(seen)} walks")
    held = run.notes(HOLD)
    t.check([int(line[1], 16) for line in held] == [int(address, 16) for address in HELD],
            "the log names the three pages")
    for line in held:
        wanted = (int(line[2], 16), line[3])
        same = [walk for walk in seen if len(walk) == 4
                and (walk[3] & FRAME_MASK, flags_of(walk[3])) == wanted]
        t.check(same, f"{line[4]}: a walk from {line[1]} ends at {line[2]} {line[3]}",
                *(" ".join(f"{entry:016x}" for entry in walk) for walk in seen[-9:]))
        t.check(all(entry & 0x27 == 0x27 for walk in same for entry in walk[:3]),
                f"{line[4]}: its tables are present, accessed and leave the rights to the page")
