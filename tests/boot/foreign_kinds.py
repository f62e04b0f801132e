"""Disks with content of other systems, made by their own tools, and boots beside them.

Each kind is a whole disk, a partition table that is damaged or unusual, or a partition of our type
with other content. Whatever the options for swap are, none may be written. `tests/soak --foreign`
boots all of it; the case foreign-disks-31 of tests/boot/cases/foreign.py four options.
"""

import dataclasses
import random
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import disks
import log
import qemu

SET_UUID = "3b2f6c0e-7a41-4e0b-9d55-1f3c8a6d7e90"
OTHER_UUID = "94f0a3d6-2f57-4c3a-8a0e-6a1d5b7c2e31"
FOREIGN_TYPE = bytes([0x77] * 16)
MIB = 32
MOST = 31  # disks at once
SECONDS = 180
OPTIONS = ("swap=auto", "swap=none", f"swap={SET_UUID}", f"swap={SET_UUID} wipe=1",
           f"swap={OTHER_UUID}:7,{SET_UUID}:3", f"files={SET_UUID}")

# ---- content of other systems: each function makes a disk at a path ----


def _blank(path: Path, mib: int = MIB) -> Path:
    return disks.blank(path, mib)


def ext4(path: Path):
    disks.tool("mkfs.ext4", "-q", _blank(path))


def xfs(path: Path):
    disks.tool("mkfs.xfs", "-q", _blank(path, 300))  # the least that mkfs.xfs takes


def btrfs(path: Path):
    disks.tool("mkfs.btrfs", "-q", _blank(path, 128))


def ntfs(path: Path):
    disks.tool("mkntfs", "-F", "-Q", "-q", _blank(path))


def fat(path: Path):
    disks.tool("mkfs.vfat", _blank(path))


def luks(path: Path):
    disks.tool("cryptsetup", "--batch-mode", "luksFormat", "--pbkdf", "pbkdf2",
               "--pbkdf-force-iterations", 1000, "--key-file", "-", _blank(path), input="secret")


def linux_swap(path: Path):
    disks.tool("mkswap", _blank(path))


def hibernation(path: Path):
    linux_swap(path)
    disks.patch(path, disks.PAGE - len(disks.HIBERNATED), disks.HIBERNATED)


def iso(path: Path):
    with tempfile.TemporaryDirectory(prefix="faultline-iso-") as folder:
        (Path(folder) / "README").write_text("a disc\n")
        disks.tool("xorriso", "-as", "mkisofs", "-quiet", "-o", path, folder)
    with open(path, "r+b") as file:
        file.truncate(4 << 20)


def lvm(path: Path):
    """The label of a physical volume, as pvcreate writes it; that takes devices only (LVM2,
    lib/label/label.h and lib/format_text/layout.h)."""
    volume = (b"0123456789abcdefghijklmnopqrstuv" + struct.pack("<QQQ", MIB << 20, 1 << 20, 0)
              + bytes(16) + struct.pack("<QQ", 4096, (1 << 20) - 4096) + bytes(16))
    rest = (struct.pack("<I", 32) + b"LVM2 001" + volume).ljust(disks.SECTOR - 20, b"\0")
    check = zlib.crc32(rest, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    disks.patch(_blank(path), disks.SECTOR, b"LABELONE" + struct.pack("<QI", 1, check) + rest)


def md(path: Path):
    """The superblock, version 1.2, of half a mirror, as mdadm writes it; that takes devices only
    (Linux, include/uapi/linux/raid/md_p.h)."""
    block = bytearray(260)
    sectors = (MIB - 1) << 11
    struct.pack_into("<II", block, 0, 0xA92B4EFC, 1)
    block[16:32] = bytes(range(16))
    block[32:42] = b"host:array"
    struct.pack_into("<QIIQII", block, 64, 1700000000, 1, 0, sectors, 0, 2)
    struct.pack_into("<QQQ", block, 128, 2048, sectors, 8)
    struct.pack_into("<I", block, 220, 2)
    total = sum(struct.unpack("<65I", block))
    struct.pack_into("<I", block, 216, (total + (total >> 32)) & 0xFFFFFFFF)
    disks.patch(_blank(path), disks.PAGE, bytes(block))


def mbr(path: Path):
    """Four partitions, with a file system in the first."""
    ext4(path.with_suffix(".part"))
    disks.blank(path, MIB + 4)
    for i in range(4):
        record = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\xfe\xff\xff",
                             2048 + (MIB << 11 if i else 0) + 1024 * max(0, i - 1),
                             1024 if i else MIB << 11)
        disks.patch(path, 446 + 16 * i, record)
    disks.patch(path, 510, b"\x55\xaa")
    _lay(path.with_suffix(".part"), path, 1 << 20)


def _lay(content: Path, path: Path, offset: int):
    """Writes content into a disk: its first MiB, and all besides that is not zero. Removes it."""
    size = content.stat().st_size
    with open(content, "rb") as source, open(path, "r+b") as target:
        for at in range(0, size, 1 << 20):
            block = source.read(1 << 20)
            if at == 0 or block.strip(b"\0"):
                target.seek(offset + at)
                target.write(block)
    content.unlink()


@dataclasses.dataclass(frozen=True)
class Content:
    """Content of another system."""

    make: Callable[[Path], None]
    tool: str  # the program that makes it; empty: none is needed
    blkid: str  # the type by which libblkid knows it
    mark: Tuple[int, bytes]  # offset and bytes of what tells it, without the tool


CONTENT: Dict[str, Content] = {
    "ext4": Content(ext4, "mkfs.ext4", "ext4", (0x438, b"\x53\xef")),
    "xfs": Content(xfs, "mkfs.xfs", "xfs", (0, b"XFSB")),
    "btrfs": Content(btrfs, "mkfs.btrfs", "btrfs", (0x10040, b"_BHRfS_M")),
    "NTFS": Content(ntfs, "mkntfs", "ntfs", (3, b"NTFS    ")),
    "FAT": Content(fat, "mkfs.vfat", "vfat", (82, b"FAT32   ")),
    "LUKS": Content(luks, "cryptsetup", "crypto_LUKS", (0, b"LUKS\xba\xbe")),
    "LVM": Content(lvm, "", "LVM2_member", (512, b"LABELONE")),
    "md": Content(md, "", "linux_raid_member", (4096, b"\xfc\x4e\x2b\xa9")),
    "Linux swap": Content(linux_swap, "mkswap", "swap", (4086, b"SWAPSPACE2")),
    "hibernation image": Content(hibernation, "mkswap", "swsuspend", (4086, b"S1SUSPEND\0")),
    "ISO 9660": Content(iso, "xorriso", "iso9660", (0x8001, b"\1CD001")),
    "MBR with four partitions": Content(mbr, "mkfs.ext4", "dos", (510, b"\x55\xaa")),
}


def lacking() -> List[str]:
    """Returns the programs that this system lacks."""
    path = disks.ENVIRONMENT["PATH"]
    return sorted({content.tool for content in CONTENT.values()
                   if content.tool and not shutil.which(content.tool, path=path)})


def known_as(path: Path) -> str:
    """Returns the type of content by libblkid, or of a partition table."""
    found = disks.tool("blkid", "-p", "-o", "export", path)
    values = dict(line.split("=", 1) for line in found.splitlines() if "=" in line)
    return values.get("TYPE") or values.get("PTTYPE", "")


def with_content(name: str, path: Path) -> Path:
    """Makes a disk with this content: by its tool, or without the tool its mark only."""
    content = CONTENT[name]
    if content.tool in lacking():
        disks.patch(_blank(path), *content.mark)
    else:
        content.make(path)
    return path


# ---- partition tables ----

# Fields of a GPT header, and of our entry in the table behind it: offset in the disk.
GPT_FIELDS = {"signature": 0, "revision": 8, "header size": 12, "checksum": 16, "own LBA": 24,
              "other LBA": 32, "first usable LBA": 40, "last usable LBA": 48, "disk GUID": 56,
              "entries' LBA": 72, "number of entries": 80, "entry size": 84, "entries' checksum": 88}
ENTRY_FIELDS = {"type": 0, "GUID": 16, "first LBA": 32, "last LBA": 40, "attributes": 48}


def prepared(path: Path, serial: str = qemu.SWAP_SERIAL, mib: int = MIB) -> Path:
    return disks.prepare(path, serial, SET_UUID, mib)


def put_table(path: Path, entries: List[bytes], entry_size: int = 128, count: int = 128):
    """Writes both copies of a sound table with these entries (UEFI 2.10, 5.3)."""
    sectors = path.stat().st_size // disks.SECTOR
    length = entry_size * count
    table = b"".join(entry.ljust(entry_size, b"\0") for entry in entries).ljust(length, b"\0")
    usable = 2 + length // disks.SECTOR
    for own, other, place in ((1, sectors - 1, 2), (sectors - 1, 1, sectors + 1 - usable)):
        header = bytearray(struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, own, other, usable,
            sectors - usable - 1, bytes(range(16)), place, count, entry_size, zlib.crc32(table)))
        struct.pack_into("<I", header, 16, zlib.crc32(header))
        disks.patch(path, place * disks.SECTOR, table)
        disks.patch(path, own * disks.SECTOR, bytes(header).ljust(disks.SECTOR, b"\0"))
    disks.patch(path, 446, struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors - 1))
    disks.patch(path, 510, b"\x55\xaa")


def entry(kind: bytes, number: int, first: int, last: int) -> bytes:
    return kind + bytes([number] * 16) + struct.pack("<QQQ", first, last, 0) + bytes(72)


def own_entry(path: Path) -> bytes:
    """Returns the entry of a prepared disk's partition."""
    with open(path, "rb") as file:
        file.seek(2 * disks.SECTOR)
        return file.read(128)


def overlapping(path: Path, at_end: bool) -> Path:
    """A prepared disk with another partition over the start or the end of ours."""
    first, last = disks.partition(prepared(path))
    span = (last, last + 8) if at_end else (first - 8, first)
    put_table(path, [own_entry(path), entry(FOREIGN_TYPE, 0x51, *span)])
    return path


def entries_of(path: Path, size: int) -> Path:
    """A foreign table whose entries have another size."""
    put_table(_blank(path), [entry(FOREIGN_TYPE, 0x51, 2048, 40959)], size)
    return path


def resized(path: Path, mib: int) -> Path:
    prepared(path)
    with open(path, "r+b") as file:
        file.truncate((MIB + mib) << 20)
    return path


def over_prepared(name: str, path: Path) -> Path:
    """Other content in a prepared partition, whose type and second header are still ours."""
    content = with_content(name, path.with_suffix(".content"))
    prepared(path, mib=(content.stat().st_size >> 20) + 4)
    _lay(content, path, disks.partition(path)[0] * disks.SECTOR)
    return path


def damaged(path: Path, offset: int) -> Path:
    disks.flip(prepared(path), offset)
    return path


def kinds() -> Dict[str, Callable[[Path], object]]:
    """Returns a function that makes a disk for each kind. The twins are kinds of their own."""
    made: Dict[str, Callable[[Path], object]] = {}
    for name in CONTENT:
        made[name] = lambda path, name=name: with_content(name, path)
    for name, offset in GPT_FIELDS.items():
        made[f"GPT, its {name} damaged"] = \
            lambda path, at=disks.SECTOR + offset: damaged(path, at)
    for name, offset in ENTRY_FIELDS.items():
        made[f"entry, its {name} damaged"] = \
            lambda path, at=2 * disks.SECTOR + offset: damaged(path, at)
    for name in CONTENT:
        made[f"{name} over a prepared partition"] = lambda path, name=name: over_prepared(name, path)
    made["partition over our start"] = lambda path: overlapping(path, False)
    made["partition over our end"] = lambda path: overlapping(path, True)
    made["entries of 256 bytes"] = lambda path: entries_of(path, 256)
    made["entries of 4,096 bytes"] = lambda path: entries_of(path, 4096)
    made["twin"] = prepared
    made["other twin"] = prepared
    made["clone with another serial number"] = lambda path: prepared(path, "OTHER")
    made["shrunk disk"] = lambda path: resized(path, -4)
    made["grown disk"] = lambda path: resized(path, 4)
    made["blank disk"] = _blank
    return made


def make(folder: Path, names=None) -> Dict[str, Path]:
    """Makes disks of these kinds, or of all, in a folder; returns them by name."""
    made = {}
    for number, (name, function) in enumerate(kinds().items()):
        if names is None or name in names:
            made[name] = folder / f"foreign{number}.img"
            function(made[name])
    return made


# ---- boots ----


def attach(images: Dict[str, Path]) -> Tuple[List[qemu.Disk], List[str]]:
    """Returns recorded disks, and QEMU's arguments for as many controllers as they need."""
    found, arguments = [], []
    for number, image in enumerate(images.values()):
        if number % 6 == 0:
            arguments += ["-device", f"ich9-ahci,id=more{number // 6}"]
        record = image.with_suffix(".writes")
        record.unlink(missing_ok=True)
        disks.make_write_log(record)
        disk = qemu.Disk(str(image), serial=qemu.SWAP_SERIAL, write_log=str(record))
        found.append(disk)
        arguments += qemu._disk_arguments(disk, f"more{number}", f"more{number // 6}.{number % 6}")
    return found, arguments


def boot(images: Dict[str, Path], options: str) -> Tuple[qemu.Result, List[str]]:
    """Boots beside disks. Returns QEMU's result and what is wrong: a run that did not pass with its
    swap area in memory, and each disk that was written or is not as it was."""
    before = [disks.digest(image) for image in images.values()]
    attached, arguments = attach(images)
    result = qemu.boot(qemu.Machine(append=f"run=swap {options}", extra=arguments), SECONDS)
    wrong = [f"{name}: written" for name, disk in zip(images, attached)
             if not disks.is_untouched(Path(disk.write_log))]
    wrong += [f"{name}: not as it was" for (name, image), digest in zip(images.items(), before)
              if disks.digest(image) != digest]
    try:
        run = log.parse(result.log)
        if run.verdict != "pass" or result.verdict != "pass":
            wrong.append(f"the verdict is {run.verdict}, the status says {result.verdict}")
        if not any(note.startswith("swap: in RAM, ") for note in run.notes):
            wrong.append("the swap area is not in RAM")
    except log.LogError as error:
        wrong.append(str(error))
    return result, wrong


def entries(seed: int) -> Iterator[Tuple[List[str], str]]:
    """Yields names of kinds and options: all kinds with each option, then 1 to 31 disks, drawn by
    the seed. A twin is never without the other one: alone it is a prepared disk."""
    names = list(kinds())
    chance = random.Random(seed)
    for options in OPTIONS:
        for start in range(0, len(names), MOST):
            yield names[start:start + MOST], options
    for count in range(1, MOST + 1):
        twins = ["twin", "other twin"] if count > 2 and chance.random() < 0.5 else []
        others = [name for name in names if "twin" not in name]
        yield twins + chance.sample(others, count - len(twins)), OPTIONS[count % len(OPTIONS)]
