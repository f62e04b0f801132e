"""Judges the rows of `make bench`: against goals, against Linux, and against what was recorded.

tests/bench/targets.tsv has the rows that must be there, with Linux's figures and the goals;
tests/bench/ratchet.tsv the figures that may not rise. `tests/bench/run --record` renews the latter.
"""

import dataclasses
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

TARGETS = "tests/bench/targets.tsv"
RATCHET = "tests/bench/ratchet.tsv"
RATCHET_HEAD = """\
# The most that each row of `make bench` may cost, in instructions; `tests/bench/run --record` renews it.
# Exact with the tools that made it; 10 % with others, and 25 % where a disk takes part.
"""
OTHER_TOOLS = 0.10
DISK = 0.25
DISK_ROWS = ("swap_seq_write", "swap_rand_write", "swap_rand_read")

# The most locked instructions of a fault on the fast path, as fault-anatomy steps through it. Those of
# cow_copy are the locks of the table and the clock, the frame cache, and the count; INVLPG is the fence
# before the look at the back pointer.
LOCKED = {"zero_read": 1, "anon_first_write": 3, "cow_copy": 4}

Row = Dict[str, int]  # median, mean, p99, max, n


@dataclasses.dataclass(frozen=True)
class Target:
    """A row's target and Linux's figures; None where there is no figure."""

    stock: Optional[int]
    lean: Optional[int]
    fixed: int  # clearing or copying the page, which no software avoids
    goal: Optional[int]
    what: str


@dataclasses.dataclass
class Record:
    """The recorded median and mean of each row, and the tools that they came from."""

    made: str = ""
    rows: Dict[str, Tuple[int, int]] = dataclasses.field(default_factory=dict)


def read_targets(path=TARGETS) -> Dict[str, Target]:
    """Returns the targets by row, in the order of the file."""
    targets = {}
    for line in Path(path).read_text().splitlines():
        if line and not line.startswith("#"):
            row, *cells, what = line.split("\t")
            stock, lean, fixed, goal = (None if cell == "-" else int(cell) for cell in cells)
            targets[row] = Target(stock, lean, fixed or 0, goal, what)
    return targets


def read_record(path=RATCHET) -> Record:
    """Returns the record; without a file it is empty."""
    record = Record()
    if not Path(path).exists():
        return record
    for line in Path(path).read_text().splitlines():
        first, *cells = line.split("\t")
        if first == "made with":
            record.made = cells[0]
        elif cells and not first.startswith("#"):
            record.rows[first] = (int(cells[0]), int(cells[1]))
    return record


def write_record(rows: Dict[str, Row], made: str, path=RATCHET):
    """Records the median and mean of each row."""
    lines = [f"{name}\t{row['median']}\t{row['mean']}" for name, row in rows.items()]
    Path(path).write_text(f"{RATCHET_HEAD}made with\t{made}\n" + "\n".join(lines) + "\n")


def tolerance(name: str, same_tools: bool) -> float:
    """Returns the part by which a row may exceed its record."""
    return max(0 if same_tools else OTHER_TOOLS, DISK if name in DISK_ROWS else 0)


def missing(rows: Dict[str, Row], targets: Dict[str, Target]) -> List[str]:
    """Returns a line for each row that has no figure."""
    return [f"{name} has no figure: {target.what}" for name, target in targets.items()
            if name not in rows]


def worse(rows: Dict[str, Row], record: Record, made: str) -> List[str]:
    """Returns a line for each figure that exceeds its record, and for each row without one."""
    found = []
    for name, row in rows.items():
        if name not in record.rows:
            found.append(f"{name} is not in {RATCHET}: tests/bench/run --record puts it there")
            continue
        slack = tolerance(name, made == record.made)
        for field, recorded in zip(("median", "mean"), record.rows[name]):
            if row[field] > recorded * (1 + slack):
                found.append(f"{name} is worse: {field} {row[field]}, recorded are {recorded}")
    return found


def too_locked(kinds: Dict[str, Dict[str, int]]) -> List[str]:
    """Returns a line for each kind of fault with more locked instructions than it may have, or
    without a count of them."""
    return [f"{kind} has {kinds.get(kind, {}).get('locked', 'no count of')} locked instructions, "
            f"at most {most}" for kind, most in LOCKED.items()
            if not kinds.get(kind, {}).get("locked", most + 1) <= most]


def better(rows: Dict[str, Row], record: Record) -> List[str]:
    """Returns the rows whose record can be lowered."""
    return [name for name, row in rows.items()
            if name in record.rows and name not in DISK_ROWS
            and (row["median"], row["mean"]) < record.rows[name]]


def misses(row: Row, target: Target) -> bool:
    """Returns whether the median or the mean exceeds the goal."""
    return target.goal is not None and max(row["median"], row["mean"]) > target.goal


def missed(rows: Dict[str, Row], targets: Dict[str, Target]) -> List[str]:
    """Returns the rows that miss their goals."""
    return [name for name, target in targets.items()
            if name in rows and misses(rows[name], target)]


def status(rows: Dict[str, Row], targets: Dict[str, Target], record: Record, made: str,
           goals_count: bool) -> Tuple[int, List[str]]:
    """Returns the exit status, and the words that explain it."""
    problems = missing(rows, targets) + worse(rows, record, made)
    goals = missed(rows, targets)
    words = [f"bench: {problem}" for problem in problems]
    if goals:
        words.append(f"MISSED: {len(goals)} of {sum(t.goal is not None for t in targets.values())} "
                     f"goals ({', '.join(goals)})")
    lower = better(rows, record)
    if lower and not problems:
        words.append(f"{len(lower)} rows are better than {RATCHET} has them; "
                     f"tests/bench/run --record renews it: {', '.join(lower)}")
    return 1 if problems or (goals and goals_count) else 0, words


def ratio(linux: Optional[int], ours: int, fixed: int) -> str:
    """Returns how many times less software work than Linux's a row is."""
    if linux is None or ours - fixed <= 0:
        return "-"
    return f"{(linux - fixed) / (ours - fixed):.1f}"


def table(rows: Dict[str, Row], targets: Dict[str, Target]) -> Iterator[str]:
    """Yields the lines of the table: all targets, with figures or without, then rows besides."""
    lines = [("row", "median", "mean", "p99", "goal", "", "stock", "lean", "ratio", "operation")]
    for name, target in targets.items():
        row = rows.get(name)
        if row is None:
            lines.append((name, None, None, None, target.goal, "NO FIGURE", target.stock,
                          target.lean, "-", target.what))
            continue
        met = "" if target.goal is None else "MISSED" if misses(row, target) else "met"
        lines.append((name, row["median"], row["mean"], row["p99"], target.goal, met, target.stock,
                      target.lean, ratio(target.lean, row["median"], target.fixed), target.what))
    for name in rows:
        if name not in targets:
            row = rows[name]
            lines.append((name, row["median"], row["mean"], row["p99"], None, "", None, None, "-", ""))
    for first, *cells, last in lines:
        yield (f"{first:20}" + "".join(f"{'-' if cell is None else cell:>10}" for cell in cells)
               + f"  {last}").rstrip()
