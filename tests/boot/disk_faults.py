"""Faults of the swap disk, put into QEMU while the experiment swap has its pages out.

`make soak` boots all of them and prints the counts; by hand: `tests/soak --disk-faults`, or
`python3 tests/boot/disk_faults.py NAME...`. Whatever the disk does, the run ends by itself, the log
is whole, the experiments beside it pass, and each page is right or told: no wrong page is handed
out, and unless the disk is given up, no more pages are missing than the log has failed requests and
wrong check values.
"""

import dataclasses
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, Tuple

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "ovmf"), str(Path(__file__).resolve().parent)]

import disks  # noqa: E402
import log  # noqa: E402
import qemu  # noqa: E402

SET_UUID = "6b1f2b6e-50d5-4c6e-9d2a-3b8c7e1f0a42"
BESIDE = ("cow", "zero-page")  # experiments that use no slot of the swap disk
SECONDS = 600
SLOTS = 6144  # at the start of the area: more than the experiment uses
WRITTEN = r"(\d+) pages written, \d+ of them resident"
CAME_BACK = r"(\d+) pages came back intact"
WORKING_SET = r"metric swap\.working_set=(\d+)"
WRONG_PAGE = r"^ *# [0-9a-f]+ holds [0-9a-f]{16} instead of "
GIVEN_UP = r"swap: disk \S+ \(given up\): "
TOTALS = (r"swap: disk \S+(?: \(given up\))?: \d+ pages written, \d+ read, (\d+) requests failed, "
          r"(\d+) wrong check values")


@dataclasses.dataclass
class Stage:
    """A run in progress: its disk, and what the fault keeps from one line to the next."""

    image: Path
    seed: random.Random
    kept: bytes = b""
    done: int = 0  # faults that were put in

    @property
    def slots(self) -> int:
        """The byte at which the first slot is."""
        return disks.partition(self.image)[0] * disks.SECTOR + disks.PAGE

    def read(self) -> bytes:
        with open(self.image, "rb") as file:
            file.seek(self.slots)
            return file.read(SLOTS * disks.PAGE)

    def rewrite(self, monitor, change: Callable[[bytes], bytes]):
        """Changes all slots while the machine is stopped."""
        monitor.command("stop")
        disks.patch(self.image, self.slots, change(self.read()))
        monitor.command("cont")
        self.done += 1


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault: called for each line of the log, and what the run has to come to."""

    name: str
    on_line: Callable[[str, object, Stage], None]
    verdict: str  # pass, fail, or "" for either
    speed: int = 100000  # commands per second
    killed: bool = False  # the machine is killed; the disk must serve the next run
    by_drive: bool = False  # attached by -drive, which drive_del needs
    told: bool = False  # the log must tell of pages


def at(pattern: str, act):
    """Returns an on_line that acts at the first line of a pattern."""
    def on_line(line, monitor, stage):
        if stage.done == 0 and re.search(pattern, line):
            act(monitor, stage)
            stage.done += stage.done == 0
    return on_line


def each_nth(count: int, act):
    """Returns an on_line that acts at each n-th line of the experiment."""
    def on_line(line, monitor, stage):
        stage.kept += b"." if re.search(r"swap\.|ok \d+", line) else b""
        if len(stage.kept) == count:
            stage.kept = b""
            act(monitor, stage)
            stage.done += 1
    return on_line


def exchanged(slots: bytes) -> bytes:
    """Exchanges each slot with its neighbour."""
    pages = [slots[i:i + disks.PAGE] for i in range(0, len(slots), disks.PAGE)]
    return b"".join(pages[i ^ 1] for i in range(len(pages)))


def rolled_back(line, monitor, stage):
    """All slots become what they were one round of writes ago."""
    if re.search(WRITTEN, line):
        stage.kept = stage.read()
    elif stage.kept and stage.done == 0 and re.search("a third written again", line):
        stage.rewrite(monitor, lambda _: stage.kept)


def kill(_line, monitor, stage):
    """Kills the machine at a line that the seed draws."""
    stage.kept += b"."
    if len(stage.kept) == 1:
        stage.kept += b"." * stage.seed.randrange(40)
    if len(stage.kept) >= 60 and stage.done == 0:
        stage.done = 1
        monitor.quit()


FAULTS = (
    Fault("write-once", at(WRITTEN, lambda m, s: m.fail_writes("disk0", once=True)), "pass"),
    Fault("write-nth", each_nth(4, lambda m, s: m.fail_writes("disk0", once=True)), "pass"),
    Fault("write-ever", at(WRITTEN, lambda m, s: m.fail_writes("disk0")), ""),
    Fault("all-ever", at(WRITTEN, lambda m, s: m.fail_writes("disk0", reads=True)), "fail"),
    Fault("throttle", at("1..10", lambda m, s: None), "pass", speed=1000),
    Fault("drive-del", at(WRITTEN, lambda m, s: m.human("drive_del gone")), "fail", by_drive=True),
    Fault("exchanged", at(WRITTEN, lambda m, s: s.rewrite(m, exchanged)), "fail", told=True),
    Fault("rolled-back", rolled_back, "fail", told=True),
    Fault("zeroed", at(WRITTEN, lambda m, s: s.rewrite(m, lambda slots: bytes(len(slots)))), "fail",
          told=True),
    Fault("killed", kill, "", killed=True),
)


def machine_of(fault: Fault, image: Path, append: str) -> qemu.Machine:
    if not fault.by_drive:
        disk = qemu.Disk(str(image), serial=qemu.SWAP_SERIAL, commands_per_second=fault.speed)
        return qemu.Machine(disks=[disk], append=append)
    return qemu.Machine(append=append, extra=[
        "-drive", f"if=none,id=gone,format=raw,file={image}",
        "-device", f"ide-hd,bus=ide.0,drive=gone,serial={qemu.SWAP_SERIAL}"])


def lost_and_told(text: str) -> Tuple[int, int]:
    """Returns how many pages did not come back, and how many the log tells of."""
    came = re.search(CAME_BACK, text)
    all_pages = re.search(WORKING_SET, text)
    totals = re.search(TOTALS, text)
    lost = int(all_pages[1]) - int(came[1]) if came and all_pages else 0
    return lost, int(totals[1]) + int(totals[2]) if totals else 0


def judge(fault: Fault, result: qemu.Result) -> List[str]:
    """Returns what is wrong with the end of a run."""
    if result.timed_out:
        return ["it did not end by itself"]
    if fault.killed:
        return []
    try:
        read = log.parse(result.log)
    except log.LogError as error:
        return [f"the log is not whole: {error}"]
    problems = [f"{name} did not pass" for name in BESIDE
                if name not in read.suites or not read.suites[name].ok]
    if read.bail_out or read.verdict != result.verdict or read.verdict not in ("pass", "fail"):
        problems.append(f"it ended with {read.verdict}, status {result.status}")
    if fault.verdict and read.verdict != fault.verdict:
        problems.append(f"it ended with {read.verdict}, not {fault.verdict}")
    lost, told = lost_and_told(result.log)
    if lost > told and not re.search(GIVEN_UP, result.log):
        problems.append(f"{lost} pages did not come back, the log tells of {told}")
    if fault.told and told == 0:
        problems.append("the log tells of no page")
    if re.search(WRONG_PAGE, result.log, re.MULTILINE):
        problems.append("a wrong page was handed out")
    return problems


def serves_again(image: Path) -> List[str]:
    """Boots once more with the disk of a killed run, which wipes it."""
    disk = qemu.Disk(str(image), serial=qemu.SWAP_SERIAL)
    result = qemu.boot(qemu.Machine(disks=[disk], append="run=swap wipe=1"), SECONDS)
    with open(image, "rb") as file:
        file.seek(disks.partition(image)[0] * disks.SECTOR + disks.PAGE)
        left = file.read(SLOTS * disks.PAGE).strip(b"\0")
    problems = [] if result.verdict == "pass" else [f"the next run ended with {result.verdict}"]
    return problems + (["the next run has not wiped its pages"] if left else [])


def boot(fault: Fault, seed: int) -> Tuple[qemu.Result, List[str], str]:
    """Boots one fault. Returns the run, what is wrong with it, and its counts in words."""
    with tempfile.TemporaryDirectory() as folder:
        image = disks.prepare(Path(folder) / "swap.img", qemu.SWAP_SERIAL, SET_UUID)
        stage = Stage(image, random.Random(f"{seed} {fault.name}"))
        result = qemu.boot(machine_of(fault, image, f"run={','.join(('swap', *BESIDE))}"), SECONDS,
                           lambda line, monitor: fault.on_line(line, monitor, stage))
        problems = judge(fault, result)
        if stage.done == 0:
            problems.append("no fault was put in")
        if fault.killed and not problems:
            problems += serves_again(image)
    lost, told = lost_and_told(result.log)
    return result, problems, (f"{stage.done} faults, {result.verdict or 'killed'}, {lost} pages lost, {told} told, "
                              f"{len(re.findall('disk error: serial', result.log))} errors in the log, "
                              f"{result.seconds:.0f} s")


def main() -> int:
    wanted = sys.argv[1:] or [fault.name for fault in FAULTS]
    failed = False
    for fault in FAULTS:
        if fault.name not in wanted:
            continue
        result, problems, words = boot(fault, 1)
        failed = failed or bool(problems)
        print(f"{'not ok' if problems else 'ok'} - {fault.name}: {words}", *problems, sep="\n#   ", flush=True)
        if problems:
            path = Path("build/boot-logs") / f"disk-fault-{fault.name}.log"
            path.parent.mkdir(exist_ok=True)
            path.write_text(result.log, "latin-1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
