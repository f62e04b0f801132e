"""Files on FAT32 volumes of AHCI disks: read by faults, and written under a grant alone."""

import random
import re
import struct
import time
from pathlib import Path
from typing import Dict, List

import disks
import qemu
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


def content(tag: int = TAG) -> bytes:
    pages = [page_of_tag(tag + i) for i in range(PAGES)]
    return b"".join(pages)[:(PAGES - 1) * disks.PAGE + TAIL]


def with_file(t: Case, name: str, kind: str, file: str, data: bytes, mib: int = 40) -> Path:
    """Makes a GPT disk with a FAT32 volume, one of whose files lies in the holes of others."""
    path = disks.blank(t.path(name), mib + 2)
    disks.tool("sgdisk", "--new=1:2048:-0", f"--typecode=1:{kind}", path)
    volume = disks.blank(path.with_suffix(".part"), mib)
    disks.tool("mkfs.fat", "-F", "32", "-s", 1, volume)
    folder = t.path("files")
    folder.mkdir(exist_ok=True)
    for i in range(60):
        (folder / f"other file {i:02}.bin").write_bytes(bytes([i]) * 1500)
    (folder / file).write_bytes(data)
    (folder / "locked.bin").write_bytes(data)
    disks.tool("mmd", "-i", volume, "::/faultline")
    disks.tool("mcopy", "-i", volume, *sorted(folder.glob("other*")), "::/faultline")
    disks.tool("mdel", "-i", volume, "::/faultline/other file ?[13579].bin")
    disks.patch(volume, 512 + 492, struct.pack("<I", 2))  # the search for free clusters begins anew
    disks.tool("mcopy", "-i", volume, folder / file, folder / "locked.bin", "::/faultline")
    disks.tool("mattrib", "-i", volume, "+r", "::/faultline/locked.bin")
    disks.tool("dd", f"if={volume}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc,sparse",
               "status=none")
    volume.unlink()
    return path


def with_pages_file(t: Case, name: str) -> Path:
    """Makes a disk that is only read, with a file of pages."""
    return with_file(t, name, "0700", "pages.bin", content())


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


# ---- writing ----

FILES_TYPE = "0184FFB1-AA25-4421-BEC5-E1E948B35D54"
FILES_SET = "3d1c6a52-8f0e-4b7a-9a35-5b1d2c7e4f60"
FILES_SERIAL = "FILES"
FIRST = 2048  # sector of the partition
WRITTEN = "written.bin"
# Tags of tests/experiments/file_write.c: of the first page, and between two generations.
WRITTEN_TAG = 0xF17E0000
GENERATION = 0x1000
GENERATIONS = 8  # with the first content of the file


class Cut(Exception):
    """The power is cut: QEMU is killed."""


def generations() -> List[bytes]:
    return [content(WRITTEN_TAG + i * GENERATION) for i in range(GENERATIONS)]


def with_written_file(t: Case) -> Path:
    """Makes a disk that is prepared for writing, whose file has generation 0."""
    path = with_file(t, "written.img", FILES_TYPE, WRITTEN, generations()[0])
    disks.tool("build/prepare-files", "--yes", "--serial", FILES_SERIAL, "--uuid", FILES_SET, path)
    return path


def place_of_sectors(t: Case, image: Path) -> Dict[int, int]:
    """Returns the byte of the file for each sector of the disk that is the file's, by mtools."""
    shown = disks.tool("mshowfat", "-i", f"{image}@@{FIRST * disks.SECTOR}", f"::/faultline/{WRITTEN}")
    with open(image, "rb") as file:
        file.seek(FIRST * disks.SECTOR)
        boot = file.read(disks.SECTOR)
    reserved, tables = struct.unpack_from("<HB", boot, 14)
    data = FIRST + reserved + tables * struct.unpack_from("<I", boot, 36)[0]
    clusters: List[int] = []
    for first, last in re.findall(r"<(\d+)(?:-(\d+))?>", shown):
        clusters.extend(range(int(first), int(last or first) + 1))
    t.check(boot[13] == 1 and len(clusters) * disks.SECTOR >= len(generations()[0]) and
            any(b != a + 1 for a, b in zip(clusters, clusters[1:])),
            f"the file lies in {len(clusters)} clusters, in pieces")
    return {data + cluster - 2: i * disks.SECTOR for i, cluster in enumerate(clusters)}


def sound_volume(t: Case, state: bytes, when: str):
    """Checks the volume of a disk's content by fsck.fat, which changes nothing."""
    volume = t.path("judged.part")
    volume.write_bytes(state[FIRST * disks.SECTOR:][:40 << 20])
    try:
        found = disks.tool("fsck.fat", "-n", volume)
    except RuntimeError as error:
        found = str(error)
    t.check(re.search(r"\d+ files, \d+/\d+ clusters", found) and "ended with" not in found,
            f"fsck.fat finds no fault {when}", found)


def old_or_new(t: Case, before: bytes, after: bytes, places: Dict[int, int], when: str) -> int:
    """Checks that the file's sectors are each of one generation, and all others as before. Returns
    how many sectors are not of generation 0."""
    all_generations = generations()
    new = wrong = foreign = 0
    for sector in range(len(before) // disks.SECTOR):
        span = slice(sector * disks.SECTOR, (sector + 1) * disks.SECTOR)
        if before[span] == after[span]:
            continue
        at = places.get(sector)
        if at is None:
            foreign += 1
            continue
        new += 1
        inside = max(min(disks.SECTOR, len(all_generations[0]) - at), 0)
        wrong += (after[span][:inside] not in
                  [data[at:at + inside] for data in all_generations]
                  or after[span][inside:] != before[span][inside:])
    t.check(foreign == 0, f"no sector beside the file's changed {when}", f"{foreign} changed")
    t.check(wrong == 0, f"each sector of the file is old or new {when}", f"{wrong} are neither")
    return new


@case
def file_write(t: Case):
    """Stores reach the file of a prepared disk: each write lies in its clusters, and the volume is
    sound after each of some writes, as it would be after a power cut there."""
    image = with_written_file(t)
    before = image.read_bytes()
    places = place_of_sectors(t, image)
    disk = t.recorded(image, FILES_SERIAL)
    run = t.boot(disks=[disk], append=f"run=file-write files={FILES_SET}")
    t.passed(run, ("file-write",))
    t.said(run, r"^files: faultline/locked.bin is not written: its directory entry is read-only")
    writes = [(sector, data) for sector, data in disks.read_written(disk.write_log) if data]
    t.check(len(writes) > PAGES * (GENERATIONS - 1), f"{len(writes)} writes are recorded")
    t.check(all(sector + i in places for sector, data in writes
                for i in range(len(data) // disks.SECTOR)), "each lies in the file's clusters")
    dice = random.Random(14)
    cuts = dice.sample(range(len(writes)), 4)
    state = bytearray(before)
    for number, (sector, data) in enumerate(writes):
        at = sector * disks.SECTOR
        if number in cuts:  # in the middle of its sectors
            half = len(data) // disks.SECTOR // 2 * disks.SECTOR
            state[at:at + half] = data[:half]
            when = f"after write {number} in part"
            sound_volume(t, state, when)
            old_or_new(t, before, state, places, when)
        state[at:at + len(data)] = data
    after = image.read_bytes()
    t.check(after == state, "the writes are all that changed the disk")
    sound_volume(t, after, "at the end")
    t.check(old_or_new(t, before, after, places, "at the end") > 0, "the file has changed")
    disks.tool("mcopy", "-i", f"{image}@@{FIRST * disks.SECTOR}", f"::/faultline/{WRITTEN}",
               t.path("last.bin"))
    t.check(t.path("last.bin").read_bytes() == generations()[-1],
            "the last generation is in the file")


@case
def power_cut(t: Case):
    """QEMU is killed while the file is written: the volume is sound, and each sector old or new."""
    image = with_written_file(t)
    before = image.read_bytes()
    places = place_of_sectors(t, image)
    dice = random.Random()
    generation, delay = dice.randrange(1, 5), dice.random() * 0.05

    def cut(line: str, _monitor):
        if f"# generation {generation}" in line:
            time.sleep(delay)
            raise Cut

    try:
        t.boot(disks=[qemu.Disk(str(image), serial=FILES_SERIAL)], on_line=cut,
               append=f"run=file-write files={FILES_SET}")
        t.check(False, "it was killed")
    except Cut:
        t.check(True, f"it was killed {delay * 1000:.1f} ms after generation {generation} began")
    after = image.read_bytes()
    sound_volume(t, after, "after the cut")
    new = old_or_new(t, before, after, places, "after the cut")
    t.tap.note(f"{new} sectors of the file were written")
