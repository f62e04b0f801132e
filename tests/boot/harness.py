"""The registry of boot cases, and Case: boots machines and checks their runs.

A case is a function of one Case. It has its own folder for disks, a bound on the time of each boot,
and prints TAP.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
import traceback
from pathlib import Path
from typing import Callable, Dict, List, Optional

import bochs
import disks
import log
import qemu
from tap import Tap

ROOT = Path(__file__).resolve().parents[2]

# Bound of one boot, in seconds. A whole run takes 16 to 30 s on an idle machine.
BOOT_SECONDS = 180
# Of one boot on Bochs, whose whole run takes three minutes on an idle machine.
BOCHS_SECONDS = 1200
STATUS = {verdict: status for status, verdict in qemu.VERDICT_OF_STATUS.items()}
HEX = r"[0-9a-f]+"
# For cases about a medium, a disk, the firmware or the screen, which the other experiments do not
# touch: a fault of each kind, eviction and ring 3.
FEW = "run=demand-zero,zero-page,cow,swap,shared-map,wire,ring3"

CASES: Dict[str, Callable] = {}


class Skip(Exception):
    """Raised by a case that this system cannot run; the text is the reason."""


def case(function: Callable) -> Callable:
    """Registers a case under its function's name, with - for _."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


@dataclasses.dataclass
class Run:
    """A boot that has ended, with its log if that could be read."""

    result: qemu.Result
    log: Optional[log.Log]
    log_error: str = ""

    def notes(self, pattern: str) -> List[re.Match]:
        """Returns a match for each note of the log that contains the pattern."""
        found = (re.search(pattern, note) for note in (self.log.notes if self.log else []))
        return [match for match in found if match]


class Case:
    def __init__(self, name: str, function: Callable):
        self.name = name
        self.function = function
        self.tap = Tap()
        self.check = self.tap.check
        self.folder = Path(tempfile.mkdtemp(prefix="faultline-case-"))
        self.runs: List[Run] = []

    # ---- disks ----

    def path(self, name: str) -> Path:
        return self.folder / name

    def swap_disk(self, serial: str = qemu.SWAP_SERIAL) -> qemu.Disk:
        """Returns a copy of the prepared disk whose writes are recorded."""
        number = len(list(self.folder.glob("swap*.img")))
        image = disks.copy_sparse(ROOT / "build/swap.img", self.path(f"swap{number}.img"))
        return self.recorded(image, serial)

    def recorded(self, image: Path, serial: str = "", **settings) -> qemu.Disk:
        """Returns a disk whose writes are recorded beside its image."""
        record = disks.make_write_log(image.with_suffix(".writes"))
        return qemu.Disk(str(image), serial=serial, write_log=str(record), **settings)

    def untouched(self, disk: qemu.Disk, before: str):
        """Checks that a disk was not written, by its record and by its digest."""
        self.check(disks.is_untouched(disk.write_log), f"no write to {Path(disk.path).name}",
                   str(disks.read_write_log(disk.write_log)[:8]))
        self.check(disks.digest(disk.path) == before, f"{Path(disk.path).name} is as it was")

    # ---- machines ----

    def boot_on_bochs(self, machine: bochs.Machine) -> Run:
        """Boots Faultline on Bochs and reads the log."""
        return self._read(bochs.boot(machine, BOCHS_SECONDS))

    def boot(self, on_line=None, every_second=None, seconds=BOOT_SECONDS, **settings) -> Run:
        return self._read(qemu.boot(qemu.Machine(**settings), seconds, on_line, every_second))

    def _read(self, result: qemu.Result) -> Run:
        run = Run(result, None)
        try:
            run.log = log.parse(result.log)
        except log.LogError as error:
            run.log_error = str(error)
        self.runs.append(run)
        return run

    def launch(self, *arguments, **settings) -> subprocess.CompletedProcess:
        """Runs the launcher as a program; returns its status and its words."""
        return subprocess.run(["ovmf/qemu.py", *map(str, arguments)], text=True,
                              timeout=BOOT_SECONDS, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)

    @staticmethod
    def environment(**settings: str) -> Dict[str, str]:
        """Returns the environment of this process with some settings changed."""
        return dict(os.environ, **settings)

    def ended(self, run: Run, verdict: str):
        """Checks that QEMU's status and the log both give this verdict."""
        result = run.result
        self.check(not result.timed_out, f"it ended by itself, after {result.seconds:.1f} s",
                   result.last_state)
        self.check(result.status == STATUS[verdict], f"the machine's status says {verdict}",
                   f"status {result.status}, {result.shutdown}", result.stderr)
        self.check(run.log is not None, "the log is whole", run.log_error)
        self.check(run.log is not None and run.log.verdict == verdict, f"the log says {verdict}")
        self.check(result.stderr == "", "QEMU had no complaint", result.stderr)

    def passed(self, run: Run, experiments=None):
        """Checks that a run passed, and that these experiments, or all of the log, ran in it."""
        self.ended(run, "pass")
        suites = run.log.suites if run.log else {}
        for name in suites if experiments is None else experiments:
            suite = suites.get(name)
            self.check(suite is not None and suite.ok and suite.skipped is None,
                       f"{name} ran and passed")

    def crashes(self, name: str, *patterns: str, append: str = "", **settings) -> Run:
        """Runs an experiment that must crash, and checks that the report contains each pattern."""
        run = self.boot(append=f"run={name} {append}", **settings)
        self.ended(run, "crash")
        self.check(run.log and run.log.bail_out, "it bailed out")
        for pattern in patterns:
            self.said(run, pattern)
        return run

    def _ends_the_machine(self, way: str, reason: str, options: str):
        run = self.boot(append=f"run=cow exit={way} {options}", debug_exit=False)
        self.check(run.log and run.log.verdict == "pass", "the log says pass", run.log_error)
        self.check(run.result.status == 0 and run.result.shutdown == reason,
                   f"QEMU reports {reason}", f"{run.result.status} {run.result.shutdown}")

    def powers_off(self, options: str = ""):
        """Checks that a run with exit=poweroff passes and switches the machine off."""
        self._ends_the_machine("poweroff", "guest-shutdown", options)

    def resets(self, options: str = ""):
        """Checks that a run with exit=reboot passes and resets the machine."""
        self._ends_the_machine("reboot", "guest-reset", options)

    def said(self, run: Run, pattern: str) -> Optional[re.Match]:
        """Checks that a note of the log contains the pattern; returns the first match."""
        found = run.notes(pattern)
        self.check(found, f"the log says: {pattern}")
        return found[0] if found else None

    def swapped_to_disk(self, run: Run):
        """Checks that the run swapped to the prepared disk and not to RAM."""
        self.said(run, r"^swap: on disk ")

    # ---- the whole ----

    def execute(self) -> int:
        try:
            self.function(self)
        except Skip as skip:
            print(f"1..0 # SKIP {skip}")
            return 0
        except Exception:  # of the case itself: a failure like any other
            self.check(False, "the case came to its end", traceback.format_exc())
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.tap.failed:
            self._keep_logs()
        return self.tap.done()

    def _keep_logs(self):
        folder = ROOT / "build/boot-logs"
        folder.mkdir(parents=True, exist_ok=True)
        for number, run in enumerate(self.runs):
            path = folder / f"{self.name}.{number}.log"
            path.write_text(run.result.log, "latin-1")
            self.tap.note(f"serial log: {path.relative_to(ROOT)}")
            lines = [qemu.readable(line) for line in run.result.log.splitlines()]
            for line in [line for line in lines if "not ok" in line] + lines[-12:]:
                self.tap.note("| " + line)


def run_case(name: str) -> int:
    os.chdir(ROOT)
    return Case(name, CASES[name]).execute()
