"""Files on FAT32 volumes of AHCI disks: read by faults, and never written without a grant."""

import struct
from pathlib import Path

import disks
from harness import Case, case

PAGES = 40
TAIL = 1000  # bytes on the last page
TAG = 0xF11E0000  # of the first page
WORDS = disks.PAGE // 8
MASK = (1 << 64) - 1


def page_of_tag(tag: int) -> bytes:
    """Returns a page as tests/runner/user_pages.c fills it."""
    words, state = [tag], tag
    for _ in range(WORDS - 1):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        words.append(z ^ z >> 31)
    return struct.pack(f"<{WORDS}Q", *words)


def content() -> bytes:
    pages = [page_of_tag(TAG + i) for i in range(PAGES)]
    return b"".join(pages)[:(PAGES - 1) * disks.PAGE + TAIL]


def with_pages_file(t: Case, name: str, cluster_sectors: int = 1, mib: int = 40) -> Path:
    """Makes a GPT disk with a FAT32 volume, whose file of pages lies in the holes of others."""
    path = disks.blank(t.path(name), mib + 2)
    disks.tool("sgdisk", "--new=1:2048:-0", "--typecode=1:0700", path)
    volume = disks.blank(path.with_suffix(".part"), mib)
    disks.tool("mkfs.fat", "-F", "32", "-s", cluster_sectors, volume)
    folder = t.path("files")
    folder.mkdir(exist_ok=True)
    for i in range(60):
        (folder / f"other file {i:02}.bin").write_bytes(bytes([i]) * 1500)
    (folder / "pages.bin").write_bytes(content())
    disks.tool("mmd", "-i", volume, "::/faultline")
    disks.tool("mcopy", "-i", volume, *sorted(folder.glob("other*")), "::/faultline")
    disks.tool("mdel", "-i", volume, "::/faultline/other file ?[13579].bin")
    disks.patch(volume, 512 + 492, struct.pack("<I", 2))  # the search for free clusters begins anew
    disks.tool("mcopy", "-i", volume, folder / "pages.bin", "::/faultline")
    disks.tool("dd", f"if={volume}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc,sparse",
               "status=none")
    volume.unlink()
    return path


@case
def foreign_file(t: Case):
    """A file of a foreign disk is read by faults; neither it nor the disk beside it is written."""
    images = [disks.with_mbr_only(t.path("other.img")), with_pages_file(t, "files.img")]
    attached = [t.recorded(image, f"FILES{i}") for i, image in enumerate(images)]
    before = [disks.digest(image) for image in images]
    run = t.boot(disks=attached, append="run=file-section")
    t.passed(run, ("file-section",))
    for disk, digest in zip(attached, before):
        t.untouched(disk, digest)
