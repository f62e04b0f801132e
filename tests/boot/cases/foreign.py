"""Foreign disks: whatever is on them, no swap option makes Faultline write to one.

The host test foreign has more kinds, on simulated controllers; here they are disks of QEMU, one alone
and 31 at once.
"""

import struct
from pathlib import Path
from typing import Dict

import disks
import qemu
from harness import Case, case

SET_UUID = "3b2f6c0e-7a41-4e0b-9d55-1f3c8a6d7e90"
MIB = 32
# Content of other systems: offset and bytes.
MARKS = {
    "ext4": (0x438, b"\x53\xef"), "xfs": (0, b"XFSB"), "btrfs": (0x10040, b"_BHRfS_M"),
    "NTFS": (3, b"NTFS    "), "LUKS": (0, b"LUKS\xba\xbe"), "LVM": (512, b"LABELONE"),
    "md": (4096, b"\xfc\x4e\x2b\xa9"), "Linux swap": (4086, b"SWAPSPACE2"),
    "hibernation image": (4086, b"S1SUSPEND\0"), "ISO 9660": (0x8001, b"\1CD001"),
}
# Fields of a GPT header, and of our entry in the table behind it: offset in the disk.
GPT_FIELDS = {"signature": 0, "revision": 8, "header size": 12, "checksum": 16, "own LBA": 24,
              "other LBA": 32, "first usable LBA": 40, "last usable LBA": 48, "disk GUID": 56,
              "entries' LBA": 72, "number of entries": 80, "entry size": 84, "entries' checksum": 88}
ENTRY_FIELDS = {"type": 0, "GUID": 16, "first LBA": 32, "last LBA": 40, "attributes": 48}


def prepared(path: Path) -> Path:
    return disks.prepare(path, qemu.SWAP_SERIAL, SET_UUID, MIB)


def foreign_disks(folder: Path) -> Dict[str, Path]:
    """Makes 31 disks, no two of one kind but the twins; returns them by name."""
    made: Dict[str, Path] = {}

    def add(name: str, prepare=prepared) -> Path:
        made[name] = prepare(folder / f"foreign{len(made)}.img")
        return made[name]

    for name, (offset, mark) in MARKS.items():
        disks.patch(add(name, lambda path: disks.blank(path, MIB)), offset, mark)
    mbr = add("MBR with four partitions", lambda path: disks.blank(path, MIB))
    for i in range(4):
        disks.patch(mbr, 446 + 16 * i,
                    struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\xfe\xff\xff", 2048 + 4096 * i, 4096))
    disks.patch(mbr, 510, b"\x55\xaa")
    for name, offset in GPT_FIELDS.items():
        disks.flip(add(f"GPT, its {name} damaged"), disks.SECTOR + offset)
    for name, offset in ENTRY_FIELDS.items():
        disks.flip(add(f"entry, its {name} damaged"), 2 * disks.SECTOR + offset)
    add("twin")
    add("other twin")
    return made


def attach(t: Case, images: Dict[str, Path]):
    """Returns recorded disks, and QEMU's arguments for as many controllers as they need."""
    found, arguments = [], []
    for number, image in enumerate(images.values()):
        if number % 6 == 0:
            arguments += ["-device", f"ich9-ahci,id=more{number // 6}"]
        Path(image.with_suffix(".writes")).unlink(missing_ok=True)
        disk = t.recorded(image, qemu.SWAP_SERIAL)
        found.append(disk)
        arguments += qemu._disk_arguments(disk, f"more{number}",
                                          f"more{number // 6}.{number % 6}")
    return found, arguments


def stay_as_they_are(t: Case, images: Dict[str, Path], options: str) -> int:
    """Boots beside the disks, and checks that none is written; returns how many that were."""
    before = [disks.digest(image) for image in images.values()]
    attached, arguments = attach(t, images)
    run = t.boot(append=f"run=swap {options}", extra=arguments)
    t.passed(run, ("swap",))
    t.said(run, r"^swap: in RAM, ")
    written = [name for name, disk in zip(images, attached)
               if not disks.is_untouched(disk.write_log)]
    changed = [name for (name, image), digest in zip(images.items(), before)
               if disks.digest(image) != digest]
    t.check(not written, f"{options}: no write to {len(images)} disks", *written)
    t.check(not changed, f"{options}: {len(images)} disks are as they were", *changed)
    return len(images)


@case
def foreign_disks_31(t: Case):
    """31 foreign disks at once, and some of them alone, with every swap option."""
    images = foreign_disks(t.folder)
    t.check(len(images) == 31, f"{len(images)} kinds of disks")
    count = 0
    for options, alone in (("swap=auto", "GPT, its number of entries damaged"),
                           ("swap=none", "ext4"), (f"swap={SET_UUID}", "entry, its attributes damaged"),
                           (f"swap={SET_UUID} wipe=1", "entry, its attributes damaged")):
        count += stay_as_they_are(t, images, options)
        count += stay_as_they_are(t, {alone: images[alone]}, options)
    t.check(count == 4 * 32, f"{count} disks stayed byte-identical")
