"""The ratchet: bounds that today's tree exceeds, which may only fall.

tests/check/ratchet.txt has a line for each: `kind key value`, or `kind file header: reason` for an
include. A rule compares each measured value with the rule's limit or, if the list has the key, with
the recorded value. After work that lowers a value, `tests/check/run --shrink` writes the list anew:
it lowers values, deletes lines that nothing needs any more, and never adds or raises one. `make
check` fails while the list is not as short as it can be. Nobody adds a line but with a reason that
a reviewer accepts.
"""

from pathlib import Path
from typing import Dict, List, Tuple

FILE = "tests/check/ratchet.txt"
INCLUDES = ("cut", "keep")  # includes that point up: until they are cut, or for good

Measured = Dict[str, int]


def read(root: Path) -> Tuple[Dict[Tuple[str, str], int], Dict[Tuple[str, str], Tuple[str, str]]]:
    """The bounds by kind and key, and the kind and reason of each excepted include."""
    bounds, includes = {}, {}
    path = root / FILE
    for line in path.read_text().split("\n") if path.exists() else ():
        if not line or line.startswith("#"):
            continue
        kind, rest = line.split(" ", 1)
        if kind in INCLUDES:
            pair, _, reason = rest.partition(":")
            source, header = pair.split()
            includes[source, header] = (kind, reason.strip())
        else:
            key, value = rest.split()
            bounds[kind, key] = int(value)
    return bounds, includes


def exceeded(root: Path, kind: str, measured: Measured, limit: int, unit: str) -> List[str]:
    """Returns each value beyond its limit, and beyond its bound in the list if it has one."""
    bounds, _ = read(root)
    problems = []
    for key, value in sorted(measured.items()):
        bound = max(limit, bounds.get((kind, key), limit))
        if value > bound:
            old = f", {bound} in {FILE}" if bound > limit else ""
            problems.append(f"{key}: {value} {unit}, at most {limit}{old}")
    return problems


def shrunk(root: Path, measured: Dict[str, Measured], limits: Dict[str, int],
           needed: List[Tuple[str, str]]) -> str:
    """Returns the list with lower values, and without entries that are not needed any more."""
    lines = []
    for line in (root / FILE).read_text().split("\n"):
        kind, _, rest = line.partition(" ")
        if kind in INCLUDES:
            if tuple(rest.partition(":")[0].split()) not in needed:
                continue
        elif kind in measured:
            key, value = rest.split()
            value = min(int(value), measured[kind].get(key, 0))
            if value <= limits[kind]:
                continue
            line = f"{kind} {key} {value}"
        lines.append(line)
    return "\n".join(lines)
