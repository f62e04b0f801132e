"""Every option's values with every experiment: each run passes, or skips what it cannot do and says why.

`make soak` boots all of it; the case option-matrix of tests/boot/cases/options.py a fixed dozen. By
hand: `tests/soak --matrix`.
"""

import collections
import dataclasses
import tempfile
from pathlib import Path
from typing import Iterator, List, Tuple

import disks
import log
import qemu

# Experiments that run only by name and crash nothing; with seconds=1 they are quick.
BY_NAME = ("frame-stress-minute", "fork-ways-all", "model-long", "stress", "hold", "mmu-hold",
           "dead-processor")
ALL = ",".join(("*", *BY_NAME))
QUICK = ",".join(name for name in ALL.split(",") if "hold" not in name)
SECONDS = 900

# Values for each key, beside those that a run has anyway.
VALUES = {
    "overcommit": ("never", "heuristic", "always"),
    "spaces": ("1", "2", "3", "10", "65536"),
    "regions": ("1", "16", "1000"),
    "tags": ("1", "32"),
    "pmm": ("bitmap", "buddy", "stack"),
    "policy": ("arc", "lirs", "clockpro"),
    "tables": ("recursive", "window"),
    "la57": ("0", "1"),
    "swap": ("none", "auto"),
    "files": ("none",),
    "mem": ("64M", "96M", "200M"),
    "cpus": ("1", "2"),
    "seed": ("0", "0xffffffffffffffff"),
    "wipe": ("0", "1"),
    "watchdog": ("0", "600"),
    "deadline": ("0", "3000"),
}
# Values with which every experiment skips, so that the verdict is `skipped`.
NOTHING_RUNS = ("regions=1",)
# Machines on which each value is tried: MiB, processors, with a swap disk.
MACHINES = ((64, 1, False), (512, 3, True))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One boot: a machine and options."""

    memory: int
    processors: int
    swap_disk: bool
    options: str

    @property
    def name(self) -> str:
        disk = "swap disk" if self.swap_disk else "no disk"
        return f"{self.memory} MiB, {self.processors} CPUs, {disk}: {self.options or 'no options'}"

    def append(self) -> str:
        """Returns the load options."""
        if self in FIXED:  # waits for no host; what runs only by name is in every third one
            run = QUICK if FIXED.index(self) % 3 == 1 else "*"
        else:  # without options, the run has the benchmark, too
            run = ALL if self.options else f"{ALL},bench"
        return f"run={run} seconds=1 {self.options}".rstrip()


def entries() -> Iterator[Entry]:
    """Yields all of the matrix."""
    for machine in MACHINES:
        yield Entry(*machine, "")
        for key, values in VALUES.items():
            for value in values:
                yield Entry(*machine, f"{key}={value}")
    # Where two limits meet.
    yield Entry(64, 1, False, "overcommit=never spaces=3")
    yield Entry(512, 3, True, "overcommit=never mem=64M")


FIXED: Tuple[Entry, ...] = (
    Entry(256, 2, True, "overcommit=never"),
    Entry(256, 2, True, "overcommit=always"),
    Entry(256, 2, True, "spaces=1"),
    Entry(256, 2, True, "spaces=3"),
    Entry(64, 1, False, "seed=7"),
    Entry(64, 2, False, "tables=recursive"),
    Entry(256, 3, True, "tables=window pmm=stack"),
    Entry(256, 1, True, "pmm=bitmap la57=1"),
    Entry(512, 3, True, "pmm=buddy mem=96M"),
    Entry(64, 2, True, "overcommit=never"),
    Entry(256, 2, False, "swap=none spaces=10 regions=20"),
    Entry(512, 3, True, "cpus=1 wipe=1 tags=1"),
)


def problems(run: log.Log) -> List[str]:
    """Returns the checks that failed, suites that made too few, and skips without a reason."""
    found = []
    for suite in run.suites.values():
        failed = [check.text for check in suite.checks if not check.ok]
        if not suite.ok:
            found.append(f"{suite.name}: " + ("; ".join(failed) or "checks are missing"))
        found += [f"{suite.name}: a skip without a reason" for check in suite.checks
                  if check.skipped is not None and len(check.skipped.split()) < 3]
    return found


def tally(result: qemu.Result) -> collections.Counter:
    """Returns how many experiments passed, failed and were skipped; none if the log is refused."""
    try:
        suites = log.parse(result.log).suites.values()
    except log.LogError:
        return collections.Counter()
    return collections.Counter("skipped" if suite.skipped is not None else
                               "passed" if suite.ok else "failed" for suite in suites)


def words(count: collections.Counter) -> str:
    """Returns a tally in words."""
    return ", ".join(f"{count[kind]} experiments {kind}" for kind in ("passed", "skipped", "failed"))


def boot(entry: Entry, efi: str = "build/faultline.efi") -> Tuple[qemu.Result, List[str]]:
    """Boots an entry; returns QEMU's result and its problems."""
    with tempfile.TemporaryDirectory(prefix="faultline-matrix-") as folder:
        attached = []
        if entry.swap_disk:
            image = disks.copy_sparse(Path("build/swap.img"), Path(folder) / "swap.img")
            attached.append(qemu.Disk(str(image), serial=qemu.SWAP_SERIAL))
        result = qemu.boot(qemu.Machine(efi=efi, memory=entry.memory, smp=entry.processors,
                                        disks=attached, append=entry.append()), SECONDS)
    if result.timed_out:
        return result, [f"it did not end in {SECONDS} s"]
    try:
        run = log.parse(result.log)
    except log.LogError as error:
        return result, [str(error)]
    found = problems(run)
    expected = "skipped" if entry.options in NOTHING_RUNS else "pass"
    if run.verdict != expected or result.verdict != expected:
        found.insert(0, f"the verdict is {run.verdict}, the status says {result.verdict}")
    return result, found
