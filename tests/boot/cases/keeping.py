"""The log survives: in the log area of the swap disk, and over a reset on the boot volume."""

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
    """report=boot: the next start after a warm reset saves the log, and writes nothing else."""
    image = disks.copy_image(Path("build/faultline.img"), t.path("boot.img"),
                             "run=cow\nreport=boot\nexit=halt\n")
    disk = t.recorded(image, "BOOT")
    before = files_of(image)
    verdicts = []

    def on_line(line, monitor):
        if not line.startswith("# verdict: "):
            return
        verdicts.append(line)
        if len(verdicts) == 1:
            t.check(disks.is_untouched(disk.write_log), "a cold start writes nothing")
            monitor.command("set-action", reboot="reset")
            monitor.command("system_reset")
        else:
            monitor.quit()

    run = t.boot(on_line=on_line, image=disk, debug_exit=False)
    logs = from_start(run.result.log).split("\n# verdict: pass\n")
    t.check(len(logs) >= 2, "two runs", run.result.log[-500:])
    first, second = logs[0] + "\n# verdict: pass\n", logs[1]
    t.check("# report=boot: no log of a run before is in memory" in first, "a cold start has none")
    t.check("# report=boot: the log of the run before is \\faultline.log now" in second,
            "the second start has found it")
    after = files_of(image)
    name = next((name for name in after if name.lower().endswith("faultline.log")), "")
    kept = after.pop(name, b"").decode("latin-1")
    t.check(kept == first, "the file is the serial log, byte for byte",
            f"{len(kept)} and {len(first)} bytes")
    t.check(after == before, "all other files are as they were")
    start, end = disks.partition(image)
    writes = [entry for entry in disks.read_write_log(disk.write_log) if entry[1] > 0]
    t.check(writes and all(start <= sector and sector + count - 1 <= end
                           for sector, count, _ in writes), "all writes lie in the partition")
