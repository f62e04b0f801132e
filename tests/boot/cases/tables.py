"""Page tables: their levels, the ways to reach them, and the MMU that reads them."""

import re

import disks
import qemu
from harness import HEX, Case, case


# ---- five levels ----


def levels(t: Case, run, number: int):
    """Checks that the processor walked this many levels."""
    t.said(run, rf"^map: 0{{16}} programs, {number}-level paging")
    t.check(run.log and any(check.ok and f"walks {number} levels" in check.text
                            for check in run.log.suites["levels"].checks),
            f"the processor walked {number} levels")


def boots_with_levels(t: Case, number: int, experiments=None, **settings):
    """Boots with a swap disk; the experiments, or all, pass with this many levels."""
    run = t.boot(disks=[t.swap_disk()], **settings)
    t.passed(run, experiments)
    levels(t, run, number)
    return run


@case
def la57(t: Case):
    boots_with_levels(t, 5, append="la57=1")


@case
def la57_small_machine(t: Case):
    """An old chipset, little memory, 2 MiB pages at most."""
    boots_with_levels(t, 5, cpu="max,-pdpe1gb", machine="pc", memory=64, append="la57=1")


@case
def la57_high_memory(t: Case):
    """Most memory is above 4 GiB; the switch to five levels needs its top table below."""
    boots_with_levels(t, 5, ("cow", "levels"), memory=6144, append="la57=1 run=cow,levels")


@case
def la57_processors(t: Case):
    """Application processors start with five levels and take part in a stress."""
    run = boots_with_levels(t, 5, ("levels", "tlb-truth", "shootdown", "stress"), smp=3,
                            append="la57=1 run=levels,tlb-truth,shootdown,stress seconds=4")
    t.said(run, r"^processors: 3 of 3 run")


@case
def la57_off(t: Case):
    boots_with_levels(t, 4, append="la57=0")


@case
def la57_refused(t: Case):
    """A processor without LA57: the option is an error, and the disk stays as it was."""
    disk = t.swap_disk()
    before = disks.digest(disk.path)
    run = t.boot(cpu="qemu64", disks=[disk], append="la57=1")
    t.ended(run, "fail")
    t.check(run.log and run.log.bail_out, "it bailed out")
    t.said(run, r"^option error: la57=1: this processor has no five-level paging")
    t.untouched(disk, before)


@case
def la57_crash(t: Case):
    t.crashes("crash-null la57=1", r"^crash on cpu 0: #PF .*\b0x0: read by the kernel",
              r"level 5: .*empty", r"0: [0-9a-f]{16} read_null\+0x")


@case
def la57_poweroff(t: Case):
    """Runtime services run with the firmware's own number of levels."""
    t.powers_off("la57=1")


@case
def la57_reboot(t: Case):
    t.resets("la57=1")


# ---- the ways to reach tables ----


@case
def tables_recursive(t: Case):
    run = t.boot(disks=[t.swap_disk()], append="tables=recursive")
    t.passed(run)
    t.said(run, "^tables: reached by the recursive way$")


@case
def tables_recursive_la57(t: Case):
    boots_with_levels(t, 5, append="tables=recursive la57=1")


@case
def tables_window(t: Case):
    run = t.boot(disks=[t.swap_disk()], append="tables=window")
    t.passed(run)
    t.said(run, "^tables: reached by the window way$")


# ---- the tables, as QEMU's monitor sees them ----


TLB_LINE = re.compile(rf"({HEX}): ({HEX}) ([XGPDACTUW-]{{9}})")


HOLD_LINE = re.compile(
    rf"# hold va=({HEX}) pa=({HEX}) flags=([W-][U-][A-][D-][X-]) what=([a-z-]+)$")


def tlb_entries(text: str):
    """Returns the entries of `info tlb`: {virtual: (physical, flags in the order of HOLD_LINE)}."""
    found = (TLB_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {int(line[1], 16): (int(line[2], 16), "".join(line[3][i] for i in (8, 7, 4, 3, 0)))
            for line in found if line}


def held_mappings(t: Case, experiment: str, **settings):
    """Runs an experiment that holds mappings, and compares each with the monitor's view of it.
    Returns the run and all entries that the monitor showed."""
    waiting, seen, everything = [], [], {}

    def look(line, monitor):
        found = HOLD_LINE.search(qemu.readable(line))
        if found:
            waiting.append((int(found[1], 16), int(found[2], 16), found[3], found[4]))
        elif waiting:
            monitor.command("stop")
            entries = tlb_entries(monitor.human("info tlb"))
            everything.update(entries)
            for mapping in waiting:
                reached = monitor.human(f"gva2gpa {mapping[0]:#x}").strip()
                seen.append((*mapping, entries.get(mapping[0]), reached))
            waiting.clear()
            monitor.command("cont")

    run = t.boot(append=f"run={experiment}", on_line=look, **settings)
    t.passed(run, (experiment,))
    t.check(len(seen) >= 3, f"the log names {len(seen)} mappings")
    for address, physical, flags, what, entry, reached in seen:
        t.check(entry == (physical, flags),
                f"info tlb, {what}: {address:x} -> {physical:x} {flags}", str(entry))
        found = re.fullmatch(r"gpa: ((?:0x)?[0-9a-f]+)", reached)
        t.check(found and int(found[1], 16) == physical,
                f"a walk from {address:x} ends at {physical:x}", str(reached))
    return run, everything


@case
def page_tables(t: Case):
    run, entries = held_mappings(t, "hold")
    # In the recursive slot the monitor prints the flags of table entries alone. It leaves out NX of
    # the slot's own entry, which covers all of them.
    slot = t.said(run, rf"^map: ({HEX}) recursive slot, (\d+) GiB$")
    first, size = (int(slot[1], 16), int(slot[2]) << 30) if slot else (0, 0)
    both = [f"{address:x} {flags}" for address, (_, flags) in entries.items()
            if flags[0] == "W" and flags[4] == "-" and not 0 <= address - first < size]
    t.check(entries and not both, f"none of {len(entries)} entries is writable and executable",
            *both[:8])


@case
def mmu_view(t: Case):
    """The model and QEMU agree on pages of 4 KiB, 2 MiB and 1 GiB in scratch tables."""
    held_mappings(t, "mmu-hold")


# ---- the MMU, held to its manual ----


DEVIATION = r"^QEMU's TCG deviates, rule \S+: (.*): (\d+) accesses$"
RULES = ("P", "reserved", "U/S", "R/W", "NX", "SMEP", "SMAP", "keys", "allowed")


def mmu_truth_on(t: Case, cpu: str, skipped=()):
    """The sample passes on this processor, and the log names the features that it lacks."""
    run = t.boot(cpu=cpu, append="run=mmu-truth")
    t.passed(run, ("mmu-truth",))
    made = run.log.metrics.get("mmu-truth.combinations") if run.log else None
    t.check(made and made.value >= 300000, f"{made.value if made else 0} combinations")
    t.check(not run.notes("^difference"), "no difference but QEMU's own")
    for rule in RULES:
        t.said(run, rf"^rule {rule}: \d+ as the manual says, \d+ as QEMU deviates, 0 different$")
    known = [found[1] for found in run.notes(DEVIATION)]
    t.check(known, "QEMU's deviations are named", *known)
    for feature in skipped:
        t.check(re.search(rf"ok \d+ {feature} on and off # SKIP", run.result.log),
                f"the log says that {feature} is absent")
    return run


@case
def mmu_truth(t: Case):
    mmu_truth_on(t, "max")


@case
def mmu_truth_qemu64(t: Case):
    mmu_truth_on(t, "qemu64", ("SMEP", "SMAP", "protection keys of user pages"))


@case
def mmu_truth_without_nx(t: Case):
    mmu_truth_on(t, "max,-nx", ("NX",))


@case
def mmu_truth_unknown(t: Case):
    """Deviations of TCG are excused only if CPUID names TCG; otherwise the run fails. QEMU's own
    ports are left alone as well, since another machine may have another device there."""
    trace = t.path("fw_cfg.txt")
    run = t.boot(cpu="max,-hypervisor", append="run=mmu-truth exit=poweroff",
                 extra=["-trace", "fw_cfg_select", "-D", str(trace)])
    selected = re.findall(r"key 0x\w+ '(\w+)'", trace.read_text() if trace.exists() else "")
    t.check("signature" in selected, "the firmware read the signature of fw_cfg")
    t.check(selected and selected[-1] != "signature", "Faultline did not read it after that",
            *selected[-3:])
    t.check(run.log and run.log.verdict == "fail", "the log says fail", run.log_error)
    t.check(not run.notes(DEVIATION), "a processor without a name has no excuse")
    t.said(run, r"^difference: \w+ from ring [03] at [0-9a-f]+: expected #PF [0-9a-f]+, found")
    t.said(run, r"^ +level 4: [0-9a-f]{16} before")


@case
def tlb_truth(t: Case):
    """Each flush works on both models; the log names the sites that TCG cannot show."""
    for cpu in ("max", "qemu64"):
        run = t.boot(cpu=cpu, smp=2, append="run=tlb-truth,spurious")
        t.passed(run, ("tlb-truth", "spurious"))
        checks = run.log.suites["tlb-truth"].checks if run.log else []
        t.check(checks and not any(check.skipped for check in checks if "global" not in check.text),
                "each old translation was used before its flush")
        for site in ("global pages", "process-context identifiers", "paging-structure caches"):
            t.said(run, rf"^QEMU's TCG cannot show: .*{site}")
        limit = t.said(run, r"^tlb: up to (\d+) pages are dropped one by one, more")
        t.check(limit and 1 <= int(limit[1]) <= 64, f"the limit is {limit and limit[1]} pages")
