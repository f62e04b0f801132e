"""Trouble during a run: killed runs, a table that somebody overwrites, and errors of a disk."""

import re
from pathlib import Path

import disks
import qemu
from harness import Case, case

DISK_ERROR = (r"^disk error: serial (\S+): (READ|WRITE) DMA EXT of \d+ sectors at LBA (\d+)"
              r"(?: \(swap slot \d+\))?: failed, ATA status ([0-9a-f]{2}), error ([0-9a-f]{2}), "
              r"command slot \d+, tries (\d+): (healed|lost)$")


def slots_with_data(disk: qemu.Disk, pages) -> int:
    """Returns how many pages at these bytes of the disk are not zero."""
    with open(disk.path, "rb") as file:
        found = 0
        for offset in pages:
            file.seek(offset)
            found += any(file.read(disks.PAGE))
        return found


@case
def wipe_after_killed_run(t: Case):
    """wipe=1 wipes what an earlier run has written that was killed, although this run swaps nothing."""
    disk = t.swap_disk()
    named = []

    def kill(line, monitor):
        found = re.search(r"swap-page slot=\d+ offset=(\d+)", line)
        if found:
            named.append(int(found[1]))
        if len(named) == 8:
            monitor.quit()

    killed = t.boot(on_line=kill, disks=[disk], append="run=swap")
    t.check(killed.log is None and len(named) >= 8, "a run was killed while pages were out")
    t.check(slots_with_data(disk, named) == len(named), f"{len(named)} of its pages are on the disk")
    run = t.boot(disks=[disk], append="run=zero-page wipe=1")
    t.passed(run, ("zero-page",))
    t.check(slots_with_data(disk, named) == 0, "the next run has wiped them")


@case
def table_overwritten(t: Case):
    """Somebody overwrites the partition table while a run holds: closing notices, and it fails."""
    for name, sector in (("primary header", 1), ("primary entries", 2), ("backup header", -1)):
        disk = t.swap_disk()
        size = Path(disk.path).stat().st_size // disks.SECTOR

        def overwrite(line, _monitor, disk=disk, place=sector % size * disks.SECTOR):
            if re.search(r"^ok \d+ swap$", line):
                disks.patch(disk.path, place, b"\xa5" * disks.SECTOR)

        run = t.boot(on_line=overwrite, disks=[disk], append="run=swap,hold wipe=1")
        t.ended(run, "fail")
        t.check(run.log and all(suite.ok for suite in run.log.suites.values()),
                f"{name}: every experiment passed")
        t.check(run.log and [name for name, _ in run.log.failed] == ["the run"],
                f"{name}: the end of the log names the failure", str(run.log and run.log.failed))


def disk_errors(t: Case, run, healed: bool):
    """Checks that each failed command has one line, and that the totals count them."""
    errors = run.notes(DISK_ERROR)
    t.check(errors, f"{len(errors)} commands failed, each with a line", *run.notes("disk error"))
    for error in errors[:4]:
        status, tries = int(error[4], 16), int(error[6])
        t.check(status & 1 == 1 and int(error[5], 16) != 0 and 1 <= tries <= 8
                and (error[7] == "healed") == healed,
                f"LBA {error[3]}: status {error[4]}, error {error[5]}, {tries} tries, {error[7]}")
    totals = t.said(run, r"^disk errors: (\d+) in all, of \d+ commands$")
    t.check(totals and int(totals[1]) == len(errors), f"the total is {totals and totals[1]}")
    t.check(any("(swap slot " in error[0] for error in errors), "the slot of a page is named")
    return errors


@case
def disk_error_healed(t: Case):
    """Writes fail once; the retry heals them, the run passes, and the log has each error once."""
    disk = t.swap_disk()
    disk.commands_per_second = 10000
    begun = []

    def disturb(line, monitor):
        if "1..10" in line or re.search(r"# metric swap\.write=", line):
            begun.append(line)
            monitor.fail_writes("disk0", once=True)

    run = t.boot(on_line=disturb, disks=[disk], append="run=swap")
    t.check(begun, "a fault was put into the disk")
    t.ended(run, "pass")
    disk_errors(t, run, healed=True)


@case
def log_write_fails(t: Case):
    """The log area cannot be written, at the very end: the run fails for that, its serial log is whole and
    says so, and the disk is closed as ever."""
    disk = t.swap_disk()
    disk.write_error, sectors = disks.log_area(disk.path)
    with open(disk.path, "r+b") as file:  # as no run has used it: the log goes to its first sector
        file.seek(disk.write_error * disks.SECTOR)
        file.write(bytes(sectors * disks.SECTOR))
    run = t.boot(disks=[disk], append="run=wild")
    t.ended(run, "fail")
    reason = "writing the log to the swap disk: device error"
    t.check(run.log and run.log.failed == [("the run", reason)], "the run says what failed, and nothing else",
            str(run.log and run.log.failed))
    t.check(run.log and run.log.suites["wild"].ok, "the experiment passed")
    errors = run.notes(DISK_ERROR)
    t.check(len(errors) == 1 and errors[0][2] == "WRITE" and errors[0][7] == "lost",
            "the command has its line", *run.notes("disk error"))
    totals = run.notes(r"^disk errors: (\d+) in all, of \d+ commands$")
    t.check(totals and totals[-1][1] == "1", "the last total has it", *(line[0] for line in totals))
    disk.write_error = None
    run = t.boot(disks=[disk], append="run=wild")
    t.passed(run, ("wild",))
    kept = disks.tool("build/read-log", disk.path)
    t.check(kept == run.result.log[run.result.log.index("KTAP version 1"):],
            "the next run takes the same disk, and its log is there")


@case
def disk_error_lost(t: Case):
    """A sector of the swap area cannot be read: its page is lost, and the run fails."""
    disk = t.swap_disk()
    first, _ = disks.partition(disk.path)
    disk.read_error = first + (4 << 20) // disks.SECTOR
    run = t.boot(disks=[disk], append="run=swap,cow")
    t.ended(run, "fail")
    errors = disk_errors(t, run, healed=False)
    t.check(all(int(error[6]) > 1 for error in errors), "each was tried several times")
    t.check(run.log and run.log.suites["cow"].ok, "the run went on")
