"""Foreign disks: whatever is on them, no swap option makes Faultline write to one.

The host test foreign has more kinds, on simulated controllers; here they are disks of QEMU, one alone
and 31 at once. `tests/soak --foreign` boots all kinds of tests/boot/foreign_kinds.py.
"""

from pathlib import Path
from typing import Dict

import foreign_kinds
from foreign_kinds import SET_UUID
from harness import Case, case


def stay_as_they_are(t: Case, images: Dict[str, Path], options: str) -> int:
    """Boots beside the disks, and checks that none is written; returns how many that were."""
    _, wrong = foreign_kinds.boot(images, options)
    t.check(not wrong, f"{options}: {len(images)} disks are as they were, and swap is in RAM", *wrong)
    return len(images)


@case
def foreign_disks_31(t: Case):
    """31 foreign disks at once, and some of them alone, with every swap option."""
    names = [*foreign_kinds.CONTENT, "twin", "other twin",
             *(name for name in foreign_kinds.kinds() if name.endswith(" damaged"))]
    names.remove("FAT")
    images = foreign_kinds.make(t.folder, names)
    t.check(len(images) == 31, f"{len(images)} kinds of disks")
    count = 0
    for options, alone in (("swap=auto", "GPT, its number of entries damaged"),
                           ("swap=none", "ext4"), (f"swap={SET_UUID}", "entry, its attributes damaged"),
                           (f"swap={SET_UUID} wipe=1", "entry, its attributes damaged")):
        count += stay_as_they_are(t, images, options)
        count += stay_as_they_are(t, {alone: images[alone]}, options)
    t.check(count == 4 * 32, f"{count} disks stayed byte-identical")
