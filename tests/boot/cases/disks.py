"""Disks: which one is written, where, and which must stay as they were."""

import re
import struct
from pathlib import Path

import disks
import qemu
from harness import FEW, HEX, Case, case

SET_UUID = "6b1f2b6e-50d5-4c6e-9d2a-3b8c7e1f0a42"
OTHER_SET_UUID = "0d9c3b57-7f0e-4b61-8f3c-52a1e6d4c938"
OTHER_SERIAL = "FAULTLINE-OTHER"
CLUSTER = 64 * 8  # sectors
LOG_AREA_FIELD = 296  # in the header: its first sector


def swaps_to_memory(t: Case, run):
    """Checks that a run passed with its swap area in RAM, and that its log says so."""
    t.passed(run)
    t.said(run, r"^swap: in RAM, ")
    t.check(not run.notes(r"^swap: on disk|will be written"), "no disk is said to be written")


def prepared(t: Case, name: str = "decoy.img", serial: str = qemu.SWAP_SERIAL) -> Path:
    return disks.prepare(t.path(name), serial, SET_UUID)


@case
def no_disk(t: Case):
    swaps_to_memory(t, t.boot())


@case
def swap_none(t: Case):
    disk = t.swap_disk()
    before = disks.digest(disk.path)
    run = t.boot(disks=[disk], append=f"swap=none {FEW}")
    swaps_to_memory(t, run)
    t.untouched(disk, before)


# ---- disks that must not be written ----


def decoy(t: Case, image: Path, reason: str, serial: str = "DECOY", **settings):
    """Boots beside one disk that must be refused for this reason and stay as it was."""
    disk = t.recorded(image, serial, **settings)
    before = disks.digest(image)
    run = t.boot(disks=[disk], append=FEW)
    swaps_to_memory(t, run)
    t.said(run, rf"^disk .* serial '{serial}', .*: .*{reason}")
    t.untouched(disk, before)


@case
def blank_disk(t: Case):
    decoy(t, disks.blank(t.path("decoy.img")), "no GUID partition table")


@case
def decoy_file_system(t: Case):
    decoy(t, disks.with_file_system(t.path("decoy.img")), "no partition of Faultline's type")


@case
def decoy_linux_swap(t: Case):
    decoy(t, disks.with_linux_swap(t.path("decoy.img")), "no partition of Faultline's type")


@case
def decoy_hibernated(t: Case):
    decoy(t, disks.with_linux_swap(t.path("decoy.img"), hibernated=True),
          "no partition of Faultline's type")


@case
def decoy_mbr(t: Case):
    decoy(t, disks.with_mbr_only(t.path("decoy.img")), "no GUID partition table")


@case
def decoy_checksum(t: Case):
    image = prepared(t)
    first, _ = disks.partition(image)
    disks.flip(image, first * disks.SECTOR + 100)
    decoy(t, image, "its header has a wrong checksum", qemu.SWAP_SERIAL)


@case
def decoy_cloned(t: Case):
    decoy(t, prepared(t), "another serial number", OTHER_SERIAL)


@case
def decoy_truncated(t: Case):
    image = prepared(t)
    with open(image, "r+b") as file:
        file.truncate(image.stat().st_size - (16 << 20))
    decoy(t, image, "both copies of its partition table are damaged", qemu.SWAP_SERIAL)


@case
def decoy_grown(t: Case):
    image = prepared(t)
    with open(image, "r+b") as file:
        file.truncate(image.stat().st_size + (16 << 20))
    decoy(t, image, "the backup partition table is missing", qemu.SWAP_SERIAL)


@case
def decoy_read_error(t: Case):
    image = prepared(t)
    first, _ = disks.partition(image)
    decoy(t, image, "header cannot be read reliably", qemu.SWAP_SERIAL, read_error=first)


@case
def decoy_two_disks(t: Case):
    first = t.recorded(prepared(t, "first.img"), qemu.SWAP_SERIAL)
    second = t.recorded(
        disks.prepare(t.path("second.img"), OTHER_SERIAL, OTHER_SET_UUID), OTHER_SERIAL)
    before = [disks.digest(disk.path) for disk in (first, second)]
    run = t.boot(disks=[first, second], append=FEW)
    swaps_to_memory(t, run)
    for disk, digest in zip((first, second), before):
        t.said(run, rf"^disk .* serial '{disk.serial}', .*: refused, since disk .* matches as well")
        t.untouched(disk, digest)


@case
def two_disks_one_named(t: Case):
    first = t.recorded(prepared(t, "first.img"), qemu.SWAP_SERIAL)
    second = t.recorded(
        disks.prepare(t.path("second.img"), OTHER_SERIAL, OTHER_SET_UUID), OTHER_SERIAL)
    before = disks.digest(first.path)
    run = t.boot(disks=[first, second], append=f"swap={OTHER_SET_UUID} {FEW}")
    t.passed(run)
    t.swapped_to_disk(run)
    t.untouched(first, before)
    t.check(disks.read_write_log(second.write_log), "the named disk was written")


# ---- the swap disk, as the host sees it ----


def inside_partition(t: Case, disk: qemu.Disk):
    """Checks that all recorded writes lie in the disk's partition; returns their bytes' places."""
    first, last = disks.partition(disk.path)
    writes = [entry for entry in disks.read_write_log(disk.write_log) if entry[1] > 0]
    outside = [entry for entry in writes if entry[0] < first or entry[0] + entry[1] - 1 > last]
    t.check(len(writes) >= 100, f"{len(writes)} writes are recorded")
    t.check(not outside, f"all of them in sectors {first} to {last}", str(outside[:8]))
    return {(sector + i) * disks.SECTOR for sector, sectors, _ in writes for i in range(sectors)}


@case
def swap_pages(t: Case):
    disk = t.swap_disk()
    run = t.boot(disks=[disk])
    t.passed(run)
    written = inside_partition(t, disk)
    pages = run.notes(rf"^swap-page slot=(\d+) offset=(\d+) check=({HEX}) tag=({HEX})$")
    t.check(len(pages) >= 4, f"the log names {len(pages)} pages on the disk")
    t.check(len({page[2] for page in pages}) == len(pages), "no two have one place")
    with open(disk.path, "rb") as file:
        for page in pages:
            offset, check, tag = int(page[2]), int(page[3], 16), int(page[4], 16)
            file.seek(offset)
            content = file.read(disks.PAGE)
            t.check(offset in written and struct.unpack("<Q", content[:8])[0] == tag
                    and disks.crc32c(content) == check,
                    f"slot {page[1]}: the page is at byte {offset} of the disk",
                    f"found check {disks.crc32c(content):08x}, begins {content[:8].hex()}")


@case
def swap_disk_twice(t: Case):
    disk = t.swap_disk()
    for _ in range(2):
        run = t.boot(disks=[disk], append="run=swap")
        t.passed(run, ("swap",))
        t.swapped_to_disk(run)
        Path(disk.write_log).unlink()
        disks.make_write_log(Path(disk.write_log))


# ---- without a hypervisor in CPUID: a disk is written only by name, after a countdown ----


def on_real_machine(t: Case, append: str, on_line=None):
    """Boots without a hypervisor in CPUID, beside a disk of a known set."""
    disk = t.recorded(prepared(t, "named.img"), qemu.SWAP_SERIAL)
    before = disks.digest(disk.path)
    run = t.boot(on_line=on_line, cpu="max,-hypervisor", debug_exit=False, disks=[disk],
                 append=f"run=swap exit=poweroff {append}")
    t.check(run.log and run.log.verdict == "pass", "the log says pass", run.log_error)
    return run, disk, before


@case
def real_machine_auto(t: Case):
    run, disk, before = on_real_machine(t, "swap=auto")
    t.said(run, "swap: in RAM")
    t.untouched(disk, before)


@case
def real_machine_named(t: Case):
    run, disk, _ = on_real_machine(t, f"swap={SET_UUID}")
    t.said(run, "Esc within 10 s prevents it")
    t.said(run, "swap: on disk")
    t.check(not disks.is_untouched(disk.write_log), "the named disk was written")


@case
def real_machine_escape(t: Case):
    def press(line, monitor):
        if line.endswith("# 8"):
            monitor.human("sendkey esc")

    run, disk, before = on_real_machine(t, f"swap={SET_UUID}", press)
    t.said(run, "Esc: no disk will be written")
    t.untouched(disk, before)


# ---- several areas ----


def areas_of(t: Case, run):
    """The figures that the experiment swap prints of each disk: {(area, disk): {written, ...}}."""
    figures = {}
    for name, figure in (run.log.metrics.items() if run.log else ()):
        found = re.match(r"swap\.area_(\d)_disk_(\d)_(\w+)$", name)
        if found:
            figures.setdefault((int(found[1]), int(found[2])), {})[found[3]] = figure.value
    t.check(len(figures) == 2, f"the figures of {len(figures)} disks are in the log")
    return figures


def discards_are_slots(t: Case, disk: qemu.Disk, told):
    """Checks that as many slots as the log says were discarded, in whole clusters, and that the
    headers and the log area never were."""
    first, _ = disks.partition(disk.path)
    with open(disk.path, "rb") as file:
        file.seek(first * disks.SECTOR + LOG_AREA_FIELD)
        end, = struct.unpack("<Q", file.read(8))
    writes = disks.read_write_log(disk.write_log)
    trims = [entry for entry in writes if entry[2] & disks.WRITE_FLAG_DISCARD]
    wrong = [entry for entry in trims if (entry[0] - first - 8) % CLUSTER or entry[1] % CLUSTER
             or entry[0] < first + 8 or entry[0] + entry[1] > end]
    slots = sum(entry[1] for entry in trims) // 8
    t.check(trims and not wrong, f"{len(trims)} discards, of whole clusters of slots", str(wrong[:8]))
    t.check(told and slots == int(told[1]), f"{slots} slots in all, as the log says")
    t.check(not writes[-1][2] & disks.WRITE_FLAG_DISCARD, "the mark was taken off after them")


@case
def striped_areas(t: Case):
    """Two named sets of one priority share the pages; each disk is written in its partition only. One
    of them is told at the end which slots are free."""
    serials = (qemu.SWAP_SERIAL, OTHER_SERIAL)
    names = (SET_UUID, OTHER_SET_UUID)
    striped = [t.recorded(disks.prepare(t.path(f"set{i}.img"), serials[i], names[i]), serials[i],
                          discard=i == 0) for i in range(2)]
    run = t.boot(disks=striped, append=f"swap={','.join(names)} run=swap")
    t.passed(run, ("swap",))
    written = [figures["written"] for figures in areas_of(t, run).values()]
    t.check(sum(written) > 0 and min(written) * 3 > max(written), "both took their share",
            str(written))
    for disk in striped:
        inside_partition(t, disk)
    told = t.said(run, rf"^swap: disk {serials[0]} was told that (\d+) slots are free")
    discards_are_slots(t, striped[0], told)


@case
def mirror_corrupted(t: Case):
    """All slots of one half are overwritten while pages are out; then that half is removed. No page is
    lost, no check fails, and the log tells both."""
    serials = (qemu.SWAP_SERIAL, OTHER_SERIAL)
    paths = [t.path(f"half{i}.img") for i in range(2)]
    disks.prepare_mirror(paths[0], paths[1], serials)
    first, _ = disks.partition(paths[1])

    def hurt(line, monitor):
        if re.search(r"pages written, \d+ of them resident", line):
            disks.patch(paths[1], first * disks.SECTOR + disks.PAGE, b"\xa5" * (512 * disks.PAGE))
        elif re.search(r"metric swap\.area_0_disk_1_healed", line):
            monitor.fail_writes("disk1", reads=True)

    run = t.boot(on_line=hurt, disks=[qemu.Disk(str(paths[i]), serial=serials[i], commands_per_second=100000)
                                        for i in range(2)],
                 append="run=swap,shared-map,wire")
    t.passed(run, ("swap", "shared-map", "wire"))
    figures = areas_of(t, run)
    t.check(figures and figures[0, 0]["written"] == figures[0, 1]["written"],
            "both halves took every page", str(figures))
    t.check(figures and figures[0, 1]["healed"] > 0, "pages of the second half were healed")
    t.said(run, r"^swap: area \d+ has slots .*, a mirror of both")
    t.said(run, r"^swap: disk .* is given up, since .*: the mirror goes on degraded, on disk ")
