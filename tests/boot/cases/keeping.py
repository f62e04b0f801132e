"""The log survives: in the log area of the swap disk, and over a reset on the boot volume."""

import difflib
import re
import subprocess
from pathlib import Path

import disks
import log
from harness import Case, case


def files_of(image: Path) -> dict:
    """Returns the contents of all files on the boot volume, by path."""
    volume = f"{image}@@1M"
    listed = subprocess.run(["mdir", "-/", "-b", "-i", volume, "::"], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    return {name: subprocess.run(["mtype", "-i", volume, name], check=True,
                                 stdout=subprocess.PIPE).stdout
            for name in listed.split() if not name.endswith("/")}


def fill(image: Path, filler: Path):
    """Fills the boot volume with a file that leaves no cluster free."""
    volume = f"{image}@@1M"
    listed = subprocess.run(["mdir", "-i", volume, "::"], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    free = int(re.search(r"([0-9 ]+) bytes free", listed)[1].replace(" ", ""))
    with open(filler, "wb") as file:
        file.truncate(free)
    subprocess.run(["mcopy", "-i", volume, filler, "::filler"], check=True)


def from_start(text: str) -> str:
    """Returns a serial log without the firmware's output before it."""
    return text[text.index("KTAP version 1"):]


@case
def log_on_disk(t: Case):
    """The log area has the whole log, with and without a serial line; a report reads it."""
    disk = t.swap_disk()
    run = t.boot(disks=[disk], append="run=cow,wild")
    t.passed(run, ("cow", "wild"))
    kept = disks.tool("build/read-log", disk.path)
    t.check(kept == from_start(run.result.log), "the disk has the serial log, byte for byte",
            f"{len(kept)} and {len(from_start(run.result.log))} bytes")
    run = t.boot(disks=[disk], append="run=cow", serial="none")
    t.check(run.result.verdict == "pass", "a run without a serial line passes")
    kept = disks.tool("build/read-log", disk.path)
    found = log.parse(kept)
    t.check(found.verdict == "pass" and list(found.suites) == ["cow"],
            "the newest log on the disk is that run's, and whole")
    run = t.boot(disks=[disk], append="run=cow report=none")
    t.check(disks.tool("build/read-log", disk.path) == kept, "report=none leaves it as it was")


@case
def log_over_reset(t: Case):
    """report=boot: the next start after a warm reset saves the log, and writes nothing else. If it
    cannot, the log stays for the start after it."""
    image = disks.copy_image(Path("build/faultline.img"), t.path("boot.img"),
                             "run=cow\nreport=boot\nexit=halt\n")
    disk = t.recorded(image, "BOOT")
    before = files_of(image)
    fill(image, t.path("filler"))
    verdicts = []

    def on_line(line, monitor):
        if not line.startswith("# verdict: "):
            return
        verdicts.append(line)
        if len(verdicts) == 1:
            t.check(disks.is_untouched(disk.write_log), "a cold start writes nothing")
        if len(verdicts) == 2:
            subprocess.run(["mdel", "-i", f"{image}@@1M", "::filler"], check=True)
        if len(verdicts) == 3:
            monitor.quit()
            return
        monitor.command("set-action", reboot="reset")
        monitor.command("system_reset")

    run = t.boot(on_line=on_line, image=disk, debug_exit=False)
    logs = from_start(run.result.log).split("\n# verdict: pass\n")
    t.check(len(logs) >= 3, "three runs", run.result.log[-500:])
    first, second, third = logs[0] + "\n# verdict: pass\n", logs[1], logs[2]
    t.check("# report=boot: no log of a run before is in memory" in first, "a cold start has none")
    t.check(re.search(r"# report=boot: the log of the run before, \d+ bytes, is not saved: .*; it "
                      "stays in memory", second),
            "the second start, on a full volume, cannot save it, and says so")
    t.check("# report=boot: the log of the run before is \\faultline.log now" in third,
            "the third start has saved it")
    after = files_of(image)
    name = next((name for name in after if name.lower().endswith("faultline.log")), "")
    kept = after.pop(name, b"").decode("latin-1")
    t.check(kept == first, "the file is the serial log, byte for byte",
            *difflib.unified_diff(first.split("\n"), kept.split("\n"), lineterm=""))
    t.check(after == before, "all other files are as they were")
    start, end = disks.partition(image)
    writes = [entry for entry in disks.read_write_log(disk.write_log) if entry[1] > 0]
    t.check(writes and all(start <= sector and sector + count - 1 <= end
                           for sector, count, _ in writes), "all writes lie in the partition")


@case
def crash_on_disk(t: Case):
    """The log area has the report of a crash, but not if the crash came from the disk's driver."""
    disk = t.swap_disk()
    run = t.boot(disks=[disk], smp=2, append="run=swap,crash-null")
    t.ended(run, "crash")
    t.check(run.log and run.log.after == ["# the log is in the log area of the swap disk"],
            "the run says where its log is", str(run.log and run.log.after))
    kept = disks.tool("build/read-log", disk.path)
    serial = from_start(run.result.log).partition("# ! ")[0]
    t.check(kept == serial, "the disk has the serial log up to the verdict, byte for byte",
            f"{len(kept)} and {len(serial)} bytes")
    before = disks.digest(disk.path)
    run = t.boot(disks=[disk], append="run=crash-driver")
    t.ended(run, "crash")
    t.check(run.log and run.log.after == ["# the log is not on the disk: the crash came from the "
                                          "disk driver"],
            "a crash of the driver is not kept", str(run.log and run.log.after))
    t.check(disks.digest(disk.path) == before, "and the disk is as it was")


@case
def crash_over_reset(t: Case):
    """report=boot: the next start saves the report of a crash."""
    image = disks.copy_image(Path("build/faultline.img"), t.path("boot.img"),
                             "run=crash-null\nreport=boot\nexit=reboot\n")

    def on_line(line, monitor):
        if line.startswith("# Faultline "):
            monitor.command("set-action", reboot="reset")
        if "the log of the run before" in line:
            monitor.quit()

    run = t.boot(on_line=on_line, image=t.recorded(image, "BOOT"), debug_exit=False)
    first = from_start(run.result.log).partition("# verdict: crash\n")
    files = files_of(image)
    name = next((name for name in files if name.lower().endswith("faultline.log")), "")
    kept = files.get(name, b"").decode("latin-1")
    t.check(kept == first[0] + first[1], "the file is the serial log of the crash, byte for byte",
            kept[-500:])
    t.check(kept and log.parse(kept).verdict == "crash", "and a whole log")
