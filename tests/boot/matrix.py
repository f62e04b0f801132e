"""Every option's values with every experiment: each run ends in a pass, or in skips that name a reason.

tests/soak runs all of it; the boot cases of tests/boot/cases/options.py a fixed dozen.
"""

import dataclasses
from typing import Iterator, List, Tuple

# Experiments that run only by name, but crash nothing; with seconds=1 they are quick.
BY_NAME = ("frame-stress-minute", "fork-ways-all", "model-long", "stress", "hold", "mmu-hold",
           "dead-processor")
ALL = ",".join(("*", *BY_NAME))

# Values for each key, beside those that a run has anyway. 32M is the least that mem= accepts.
VALUES = {
    "overcommit": ("never", "heuristic", "always"),
    "spaces": ("1", "2", "3", "10", "65536"),
    "pmm": ("bitmap", "buddy", "stack"),
    "tables": ("recursive", "window"),
    "la57": ("0", "1"),
    "swap": ("none",),
    "mem": ("64M", "96M", "200M"),
    "cpus": ("1", "2"),
    "seed": ("0", "0xffffffffffffffff"),
    "wipe": ("1",),
    "watchdog": ("0",),
}
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
        return f"{self.memory} MiB, {self.processors} processors, {disk}: {self.options or 'no options'}"

    def append(self, experiments: str = ALL) -> str:
        return f"run={experiments} seconds=1 {self.options}".rstrip()


def entries() -> Iterator[Entry]:
    """Returns all of the matrix."""
    for machine in MACHINES:
        yield Entry(*machine, "")
        for key, values in VALUES.items():
            for value in values:
                yield Entry(*machine, f"{key}={value}")
    # Where two limits meet.
    yield Entry(64, 1, False, "overcommit=never spaces=3")
    yield Entry(512, 3, True, "overcommit=never mem=64M")


def problems(log) -> List[str]:
    """Returns what a log says of checks that failed, and of experiments that made too few."""
    found = []
    for suite in log.suites.values():
        failed = [check.text for check in suite.checks if not check.ok]
        if not suite.ok:
            found.append(f"{suite.name}: " + ("; ".join(failed) or "checks are missing"))
        found += [f"{suite.name}: a skip without a reason" for check in suite.checks
                  if check.skipped == ""]
    return found


FIXED: Tuple[Entry, ...] = (
    Entry(256, 2, True, "overcommit=never"),
    Entry(256, 2, True, "overcommit=always"),
    Entry(256, 2, True, "spaces=1"),
    Entry(256, 2, True, "spaces=3"),
    Entry(64, 1, False, ""),
    Entry(64, 2, False, "tables=recursive"),
    Entry(256, 3, True, "tables=window pmm=stack"),
    Entry(256, 1, True, "pmm=bitmap la57=1"),
    Entry(512, 3, True, "pmm=buddy mem=96M"),
    Entry(64, 2, True, "overcommit=never"),
    Entry(256, 2, False, "swap=none spaces=10"),
    Entry(512, 3, True, "cpus=1 wipe=1"),
)
