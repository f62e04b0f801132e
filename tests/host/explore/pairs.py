"""All pairs of operations on all set-ups, as lines for tests/host/explore: the long form of its list.

    python3 tests/host/explore/pairs.py [SEED]   prints them in an order that the seed draws
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "ovmf"))
sys.dont_write_bytecode = True

import tool  # noqa: E402

SET_UPS = """blank blank8 zeroread zeroes around own cleared wired withheld cow cowleaf cowown three swapped swapshared
    cached cachedshared large largeshared section sectionpresent sectionfork sectionswap
    object objectpresent objectfork objectswap objectcopy objectcopyfork full fullcow
    blankfork blank8fork zeroreadfork zeroesfork aroundfork withheldfork""".split()
FORKED = {"cow", "cowleaf", "cowown", "three", "swapshared", "tiedshared", "largeshared", "sectionfork",
          "sectionswap", "objectfork", "objectswap", "objectcopyfork", "fullcow", "blankfork", "blank8fork", "zeroreadfork", "zeroesfork",
          "aroundfork", "withheldfork"}
# What faults and reclaim do; what calls on ranges do.
SMALL = "read write write@1 evict scan split spare".split()
RANGES = """unmap unmap+512 none ro+512 dont cold need+2 sequential+512 fork move wire+2 unwire+2
    remap+512 collapse end/1 map@512 map-shared@512 map-zeroes@512""".split()
# Ranges that meet each other, from one space or from two.
CROSSED = "unmap none fork move wire+2 collapse dont unmap+512 ro need+2 cold".split()


# The calls on a section that is an object.
RESIZES = "resize@2 resize@8 snapshot@5".split()


def fitted(set_up, operation):
    """The operation with the size of the set-up's region."""
    if set_up.startswith(("section", "object")):
        operation = operation.replace("+512", "+8")
        return "move+8" if operation == "move" else operation
    return operation.replace("+512", "+2048") if set_up.startswith("blank8") else operation


def pairs_of(set_up, forked):
    """Pairs of operations; with forked the second is the child's."""
    pairs = [(one, two) for i, one in enumerate(SMALL) for two in (SMALL if forked else SMALL[i:])]
    pairs += [(one, two) for one in SMALL for two in RANGES]
    if forked:
        pairs += [(two, one) for one in SMALL for two in RANGES]
    pairs += [(one, two) for i, one in enumerate(CROSSED) for two in CROSSED[i:]]
    if set_up.startswith("object"):
        others = SMALL + RANGES + CROSSED + RESIZES + ["read@5", "write@5"]
        pairs += [(one, two) for one in RESIZES for two in others]
    for one, two in pairs:
        if "split" in (one, two) and not set_up.startswith("large"):
            continue
        if "end/1" in (one, two) and (forked or set_up not in FORKED):
            continue
        yield one, two


def main():
    lines = []
    for set_up in SET_UPS:
        for forked in (False, True) if set_up in FORKED else (False,):
            for one, two in pairs_of(set_up, forked):
                child = "in=1," if forked else ""
                lines.append(f"pair: {set_up} {fitted(set_up, one)} {child}{fitted(set_up, two)}")
    random.Random(sys.argv[1] if len(sys.argv) > 1 else "1").shuffle(lines)
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(tool.run("pairs.py", main, 2))
