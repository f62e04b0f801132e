"""Disks for the boot tests: copies of the prepared one, decoys, and records of writes."""

import hashlib
import os
import struct
import subprocess
from pathlib import Path
from typing import List, Tuple, Union

SECTOR = 512
PAGE = 4096
# Size of the sparse file that records all writes of a run.
WRITE_LOG_SIZE = 4 << 30
WRITE_LOG_MAGIC = 0x6A736677736872
WRITE_FLAG_DISCARD = 4
LINUX_SWAP_TYPE = "8200"
LINUX_FILESYSTEM_TYPE = "8300"
HIBERNATED = b"S1SUSPEND\0"
LOG_AREA_AT = 296  # bytes, in the header (swapdisk/format/header.c): first sector of the log area, its sectors
ENVIRONMENT = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")


def _crc32c_table() -> List[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC32C_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def tool(*arguments, **options):
    """Runs a program of the host; returns its output, or raises RuntimeError with it."""
    done = subprocess.run([str(argument) for argument in arguments], env=ENVIRONMENT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def copy_sparse(source: Path, target: Path) -> Path:
    tool("cp", "--sparse=always", source, target)
    return target


def blank(path: Path, mib: int = 64) -> Path:
    with open(path, "wb") as file:
        file.truncate(mib << 20)
    return path


def digest(path: Union[str, Path]) -> str:
    """Returns a digest of the whole disk: SHA-256 over its size and each block that is not zero."""
    total = hashlib.sha256()
    zeroes = bytes(1 << 16)
    size = os.stat(path).st_size
    offset = 0
    with open(path, "rb") as file:
        while offset < size:
            try:
                data = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                break  # no data behind here
            offset = data // len(zeroes) * len(zeroes)
            file.seek(offset)
            block = file.read(len(zeroes))
            if block.strip(b"\0"):
                total.update(struct.pack("<Q", offset) + block)
            offset += len(zeroes)
    total.update(struct.pack("<Q", size))
    return total.hexdigest()


def make_write_log(path: Path) -> Path:
    with open(path, "wb") as file:
        file.truncate(WRITE_LOG_SIZE)
    return path


def is_untouched(path: Path) -> bool:
    """Returns whether a write log is empty: its file has only zeroes."""
    with open(path, "rb") as file:
        offset = 0
        while True:
            try:
                offset = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return True  # no data behind here
            file.seek(offset)
            chunk = file.read(1 << 20)
            if chunk.strip(b"\0"):
                return False
            offset += len(chunk)


def read_write_log(path: Path) -> List[Tuple[int, int, int]]:
    """Returns the recorded writes, in the format of dm-log-writes, as (sector, sectors, flags)."""
    return [(sector, sectors, flags) for sector, sectors, flags, _ in _read_entries(path)]


def read_written(path: Path) -> List[Tuple[int, bytes]]:
    """Returns the recorded writes with their data, as (sector, data); a flush has none."""
    entries = []
    with open(path, "rb") as file:
        for sector, sectors, flags, place in _read_entries(path):
            file.seek(place)
            entries.append((sector, b"" if flags & WRITE_FLAG_DISCARD
                            else file.read(sectors * SECTOR)))
    return entries


def _read_entries(path: Path) -> List[Tuple[int, int, int, int]]:
    """Returns the entries of a record with the place of their data, all in sectors of 512 bytes."""
    entries = []
    with open(path, "rb") as file:
        magic, version, count, sector_size = struct.unpack("<QQQI", file.read(28))
        if magic == 0 and count == 0:
            return entries
        if magic != WRITE_LOG_MAGIC or version != 1:
            raise ValueError(f"{path}: no write log")
        offset = sector_size
        for _ in range(count):
            file.seek(offset)
            sector, sectors, flags, _ = struct.unpack("<4Q", file.read(32))
            offset += sector_size
            entries.append((sector * sector_size // SECTOR, sectors * sector_size // SECTOR, flags,
                            offset))
            if not flags & WRITE_FLAG_DISCARD:
                offset += sectors * sector_size
    return entries


def partition(path: Path, number: int = 0) -> Tuple[int, int]:
    """Returns the first and last sector of a partition, by the disk's primary table."""
    with open(path, "rb") as file:
        file.seek(SECTOR)
        header = file.read(92)
        if header[:8] != b"EFI PART":
            raise ValueError(f"{path}: no GUID partition table")
        entries, _, size = struct.unpack_from("<QII", header, 72)
        file.seek(entries * SECTOR + number * size)
        return struct.unpack_from("<QQ", file.read(size), 32)


def patch(path: Path, offset: int, data: bytes):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int):
    """Inverts one byte."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def prepare(path: Path, serial: str, set_uuid: str, mib: int = 64) -> Path:
    """Makes a swap disk of this set, bound to a serial number."""
    tool("build/prepare-swap", "--yes", "--size", f"{mib}M", "--serial", serial, "--uuid", set_uuid,
         path)
    return path


def prepare_mirror(first: Path, second: Path, serials, mib: int = 64):
    """Makes the two halves of a mirror, bound to two serial numbers."""
    tool("build/prepare-swap", "--yes", "--size", f"{mib}M", "--serial", serials[0], "--serial",
         serials[1], "--mirror", second, first)


def _with_partition(path: Path, kind: str, content: Path) -> Path:
    blank(path)
    tool("sgdisk", "--new=1:2048:+32M", f"--typecode=1:{kind}", path)
    tool("dd", f"if={content}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc", "status=none")
    return path


def with_file_system(path: Path) -> Path:
    """Makes a foreign GPT disk with an ext4 file system."""
    content = blank(path.with_suffix(".part"), 32)
    tool("mkfs.ext4", "-q", content)
    return _with_partition(path, LINUX_FILESYSTEM_TYPE, content)


def with_linux_swap(path: Path, hibernated: bool = False) -> Path:
    """Makes a disk with Linux swap; hibernated: a suspended system's signature as magic."""
    content = blank(path.with_suffix(".part"), 32)
    tool("mkswap", content)
    if hibernated:
        patch(content, PAGE - len(HIBERNATED), HIBERNATED)
    return _with_partition(path, LINUX_SWAP_TYPE, content)


def with_mbr_only(path: Path) -> Path:
    """Makes a disk with an MBR partition table and a FAT file system."""
    blank(path)
    content = blank(path.with_suffix(".part"), 32)
    tool("mkfs.vfat", content)
    tool("dd", f"if={content}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc", "status=none")
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x0C, b"\xfe\xff\xff", 2048, 65536)
    patch(path, 446, entry)
    patch(path, 510, b"\x55\xaa")
    return path


def log_area(path: Path, number: int = 0) -> Tuple[int, int]:
    """Returns the first sector of the log area of a prepared partition and its sectors, by its header."""
    first, _ = partition(path, number)
    with open(path, "rb") as file:
        file.seek(first * SECTOR + LOG_AREA_AT)
        return struct.unpack("<QQ", file.read(16))


def copy_image(source: Path, target: Path, options: str) -> Path:
    """Copies the image of the stick, with another \\faultline.cfg."""
    copy_sparse(source, target)
    config = target.with_suffix(".cfg")
    config.write_text(options)
    tool("mcopy", "-o", "-i", f"{target}@@1M", config, "::/faultline.cfg")
    config.unlink()
    return target
