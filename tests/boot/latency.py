"""Compares the longest holds of locks, and times with interrupts off, with docs/locking.md.

The image that checks locks prints them in instructions, with places in the image; its symbols give
the locks names. A lock outside of the image is an object's.
"""

import bisect
import re
import subprocess
from pathlib import Path
from typing import Dict, List, Tuple

PAGE = "docs/locking.md"
HEAD = "| held | instructions, at most |"
OTHER = "any other lock"
OFF = "interrupts off"
PATTERN = (r"^longest (hold|with interrupts off): (?:until )?"
           r"(table of level \d|image\+([0-9a-f]+)) for (\d+)$")


def bounds(text: str) -> Dict[str, int]:
    """Returns the bounds of the page's table by name."""
    lines = text[text.index(HEAD):].splitlines()[2:]
    rows = {}
    for line in lines:
        found = re.fullmatch(r"\| `?([^|`]+)`? \| ([\d,]+) \|", line)
        if not found:
            break
        rows[found[1].strip()] = int(found[2].replace(",", ""))
    return rows


def read_symbols(image: Path) -> List[Tuple[int, str]]:
    """Returns the linked image's symbols in the order of their places."""
    lines = subprocess.run(["nm", image], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    return sorted((int(line.split()[0], 16), line.split()[2]) for line in lines
                  if len(line.split()) == 3)


def name_of(place: int, symbols: List[Tuple[int, str]]) -> str:
    """Returns the symbol at a place of the image, or `objects` outside of it."""
    at = bisect.bisect(symbols, (place, "\x7f")) - 1
    return symbols[at][1] if 0 <= at < len(symbols) - 1 else "objects"


def longest(found, symbols: List[Tuple[int, str]]) -> Dict[str, int]:
    """Returns the instructions by name; of locks with one name the longest."""
    figures: Dict[str, int] = {}
    for kind, what, place, count in (match.groups() for match in found):
        name = OFF if kind != "hold" else name_of(int(place, 16), symbols) if place else what
        figures[name] = max(figures.get(name, 0), int(count))
    return figures


def exceeded(figures: Dict[str, int], allowed: Dict[str, int]) -> List[str]:
    """Returns a line for each figure above its bound, and for what must be there and is not."""
    lines = [f"{name}: {count} instructions, {PAGE} promises {allowed.get(name, allowed[OTHER])}"
             for name, count in figures.items() if count > allowed.get(name, allowed[OTHER])]
    lines += [f"{name} was not measured" for name in (OFF, "table of level 1", "tree_ring_locks")
              if name not in figures]
    return lines
