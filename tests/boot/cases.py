"""The boot cases: what machine is started, and what must be true of the run and afterwards."""

import json
import re
import shutil
import subprocess
import struct
from pathlib import Path

import disks
import qemu
import screen
from harness import CASES, EXPERIMENTS, Case, Skip, case

__all__ = ["CASES"]

SET_UUID = "6b1f2b6e-50d5-4c6e-9d2a-3b8c7e1f0a42"
OTHER_SET_UUID = "0d9c3b57-7f0e-4b61-8f3c-52a1e6d4c938"
OTHER_SERIAL = "FAULTLINE-OTHER"
HEX = r"[0-9a-f]+"


# ---- processors, memory, firmware ----


def plain(t: Case, **settings):
    """A whole run on a machine with a swap disk."""
    t.passed(t.boot(disks=[t.swap_disk()], **settings))


@case
def cpu_max(t: Case):
    plain(t, cpu="max")


@case
def cpu_qemu64(t: Case):
    plain(t, cpu="qemu64")


@case
def cpu_without_nx(t: Case):
    run = t.boot(cpu="max,-nx", disks=[t.swap_disk()])
    t.passed(run, [name for name in EXPERIMENTS if name != "wild"])
    t.said(run, r"(?i)\bNX\b.*(not|no|lack|without|lost)|(not|no|lack|without|lost).*\bNX\b")


@case
def memory_64m(t: Case):
    plain(t, memory=64)


@case
def memory_512m(t: Case):
    plain(t, memory=512)


@case
def memory_6g(t: Case):
    plain(t, memory=6144)


@case
def memory_limited(t: Case):
    run = t.boot(disks=[t.swap_disk()], memory=512, append="mem=128M")
    t.passed(run)
    t.said(run, r"^memory: 131072 KiB free to use$")
    t.said(run, r"^memory: [1-9]\d* KiB more are left out, as mem=131072 KiB says$")


@case
def frame_allocators(t: Case):
    """Each allocator runs the machine; a GiB in one block is there."""
    for way in ("llfree", "bitmap", "stack", "buddy"):
        run = t.boot(disks=[t.swap_disk()], memory=6144, smp=4,
                     append=f"pmm={way} run=frame-stress,cow,no-heap")
        t.passed(run, ("frame-stress", "cow", "no-heap"))
        t.said(run, f"{way}: 4 processors")
        t.said(run, "1 GiB in one block, at frame")


@case
def firmware_4m(t: Case):
    plain(t, firmware="4M")


@case
def firmware_2m(t: Case):
    if qemu.firmware_files("2M") is None:
        raise Skip("this system has no 2 MiB OVMF")
    plain(t, firmware="2M")


# ---- several processors ----


def on_processors(t: Case, count: int, **settings):
    """A whole run and a short stress on so many processors; the log says how many run."""
    run = t.boot(disks=[t.swap_disk()], smp=count, **settings)
    t.passed(run, EXPERIMENTS + ("spurious", "tlb-truth", "shootdown"))
    t.said(run, rf"^processors: {count} of {count} run")


@case
def two_processors(t: Case):
    on_processors(t, 2)


@case
def three_processors(t: Case):
    on_processors(t, 3, cpu="qemu64")


@case
def eight_processors(t: Case):
    on_processors(t, 8)


@case
def cpus_limited(t: Case):
    run = t.boot(smp=3, append="cpus=1 run=cow,shootdown")
    t.passed(run, ("cow", "shootdown"))
    t.said(run, r"^processors: 1 of 3 run, as cpus= limits them")


@case
def stress(t: Case):
    """Every processor in one address space, with fewer resident pages than are in use."""
    for count in (2, 4):
        run = t.boot(disks=[t.swap_disk()], smp=count, append="run=shootdown,stress seconds=8")
        t.passed(run, ("shootdown", "stress"))


@case
def model(t: Case):
    """The host's model of address spaces, through the real faults of one processor and of four."""
    for count in (1, 4):
        run = t.boot(disks=[t.swap_disk()], smp=count, append="run=model-long seconds=8 seed=3")
        t.passed(run, ("model-long",))


@case
def lock_checks(t: Case):
    """The test build, which checks owners and order of spin locks, under stress."""
    made = subprocess.run(["make", "-s", "B=build/checked", "CHECKS=1",
                           "build/checked/faultline.efi"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    t.check(made.returncode == 0, "it compiles", made.stdout)
    run = t.boot(efi="build/checked/faultline.efi", disks=[t.swap_disk()], smp=3,
                 append="run=cow,shared-map,swap,stress seconds=6")
    t.passed(run, ("cow", "shared-map", "swap", "stress"))
    crashes(t, "crash-lock-order", r"lock order: .* it was the other way round before",
            efi="build/checked/faultline.efi")


@case
def dead_processor(t: Case):
    run = t.boot(smp=2, append="run=dead-processor,cow")
    t.passed(run, ("dead-processor", "cow"))


# ---- crashes: each with its report, and the exit status of a crash ----


def crashes(t: Case, name: str, *patterns: str, append: str = "", **settings):
    run = t.boot(append=f"run={name} {append}", **settings)
    t.ended(run, "crash")
    for pattern in patterns:
        t.check(re.search(pattern, run.result.log, re.MULTILINE), f"the report says: {pattern}")
    return run


@case
def crash_jump(t: Case):
    crashes(t, "crash-jump", r"^# crash on cpu 0: #PF page fault at 0xffffe00000000000: "
            r"instruction fetch by the kernel: not present", r"^# +\d+: [0-9a-f]+ run_jump")


@case
def crash_double_fault(t: Case):
    crashes(t, "crash-double-fault", r"^# crash on cpu 0: #DF double fault")


@case
def crash_in_handler(t: Case):
    crashes(t, "crash-handler", r"^# crash on cpu 0: #PF page fault at 0xffffe00000001000",
            r"^# trap: [0-9a-f]+ (read_null|run_handler)")


@case
def crash_overflow(t: Case):
    """The stack of a thread on another processor; the first one's place is told too."""
    crashes(t, "crash-overflow", r"^# crash on cpu 1: stack overflow: stack of cpu 1, thread 1",
            r"^#   0: [0-9a-f]+ go_deeper", r"^# cpu 0 was at ", smp=2)


@case
def crash_lost_shootdown(t: Case):
    crashes(t, "crash-lost-shootdown",
            r"TLB shootdown lost: cpu 1 has not answered cpu 0 for 500 ms",
            r"^# cpu 1 was at .*, interrupts off$", r"^#   \d: [0-9a-f]+ stop_answering", smp=2)


@case
def watchdog(t: Case):
    """A processor that is stuck with interrupts off is noticed by another one."""
    crashes(t, "crash-hang", r"watchdog: no progress for \d+ s",
            r"^# cpu 0 was at .*, interrupts off$", r"^#   \d: [0-9a-f]+ run_hang",
            append="watchdog=3", smp=2)


@case
def watchdog_alone(t: Case):
    crashes(t, "crash-hang", r"watchdog: no progress for \d+ s",
            r"^# trap: [0-9a-f]+ (machine_pause|run_hang)", append="watchdog=3")


# ---- levels of page tables, and ways to reach them ----


def levels(t: Case, run, number: int):
    """The run walked so many levels, and a crash would have shown them."""
    t.said(run, rf"^map: 0{{16}} programs, {number}-level paging")
    t.check(run.log and any(check.ok and f"walks {number} levels" in check.text
                            for check in run.log.suites["levels"].checks),
            f"the processor walked {number} levels")


@case
def la57(t: Case):
    run = t.boot(disks=[t.swap_disk()], append="la57=1")
    t.passed(run)
    levels(t, run, 5)


@case
def la57_small_machine(t: Case):
    """An old chipset, little memory, 2 MiB pages at most."""
    run = t.boot(cpu="max,-pdpe1gb", machine="pc", memory=64, disks=[t.swap_disk()],
                 append="la57=1")
    t.passed(run)
    levels(t, run, 5)


@case
def la57_high_memory(t: Case):
    """Most memory is above 4 GiB, where no top table may be that the switch loads."""
    run = t.boot(memory=6144, disks=[t.swap_disk()], append="la57=1 run=cow,levels")
    t.passed(run, ("cow", "levels"))
    levels(t, run, 5)


@case
def la57_processors(t: Case):
    """Other processors start with five levels, and take part in a stress."""
    run = t.boot(smp=3, disks=[t.swap_disk()], append="la57=1 run=levels,tlb-truth,shootdown,stress "
                 "seconds=4")
    t.passed(run, ("levels", "tlb-truth", "shootdown", "stress"))
    t.said(run, r"^processors: 3 of 3 run")
    levels(t, run, 5)


@case
def la57_off(t: Case):
    run = t.boot(disks=[t.swap_disk()], append="la57=0")
    t.passed(run)
    levels(t, run, 4)


@case
def la57_refused(t: Case):
    """A processor without it: an error, before anything is touched."""
    disk = t.swap_disk()
    before = disks.digest(disk.path)
    run = t.boot(cpu="qemu64", disks=[disk], append="la57=1")
    t.ended(run, "fail")
    t.check(run.log and run.log.bail_out, "it bailed out")
    t.said(run, r"^option error: la57=1: this processor has no five-level paging")
    t.untouched(disk, before)


@case
def la57_crash(t: Case):
    crashed(t, "crash-null la57=1", r"^crash on cpu 0: #PF .*\b0x0: read by the kernel",
            r"level 5: .*empty", r"0: [0-9a-f]{16} read_null\+0x")


@case
def la57_poweroff(t: Case):
    """Runtime services are called with the firmware's own number of levels."""
    switched_off(t, "la57=1")


@case
def la57_reboot(t: Case):
    was_reset(t, "la57=1")


@case
def tables_recursive(t: Case):
    run = t.boot(disks=[t.swap_disk()], append="tables=recursive")
    t.passed(run)
    t.said(run, "^tables: reached by the recursive way$")


@case
def tables_recursive_la57(t: Case):
    run = t.boot(disks=[t.swap_disk()], append="tables=recursive la57=1")
    t.passed(run)
    levels(t, run, 5)


@case
def tables_window(t: Case):
    run = t.boot(disks=[t.swap_disk()], append="tables=window")
    t.passed(run)
    t.said(run, "^tables: reached by the window way$")


# ---- where it is booted from, and from which controller it swaps ----


def swapped_to_disk(t: Case, run):
    """The swap experiment used the prepared disk and not memory."""
    t.said(run, r"^swap: on disk ")


@case
def machine_pc(t: Case):
    run = t.boot(machine="pc", disks=[t.swap_disk()])
    t.passed(run)
    swapped_to_disk(t, run)


@case
def image_on_usb(t: Case):
    image = disks.copy_sparse(Path("build/faultline.img"), t.path("stick.img"))
    stick = t.recorded(image, usb=True)
    before = disks.digest(image)
    run = t.boot(image=stick, disks=[t.swap_disk()])
    t.passed(run)
    swapped_to_disk(t, run)
    t.untouched(stick, before)


@case
def image_on_ahci(t: Case):
    image = disks.copy_sparse(Path("build/faultline.img"), t.path("boot.img"))
    disk = t.recorded(image, "BOOT")
    before = disks.digest(image)
    run = t.boot(image=disk, disks=[t.swap_disk()])
    t.passed(run)
    swapped_to_disk(t, run)
    t.untouched(disk, before)


@case
def options_from_file(t: Case):
    image = disks.copy_image(Path("build/faultline.img"), t.path("boot.img"),
                             "# two of them\nrun=zero-page,cow\nseed = 7\n")
    run = t.boot(image=t.recorded(image, "BOOT"))
    t.passed(run, ("zero-page", "cow"))
    t.check(run.log and len(run.log.suites) == 2, "nothing else ran")


@case
def empty_cd_drive(t: Case):
    run = t.boot(disks=[t.swap_disk()], cdrom=True)
    t.passed(run)
    swapped_to_disk(t, run)


# ---- disks that must not be written ----


def swaps_to_memory(t: Case, run):
    """Without a disk that may be written, memory serves, and the log says so."""
    t.passed(run)
    t.said(run, r"^swap: in RAM, ")
    t.check(not run.notes(r"^swap: on disk|will be written"), "no disk is said to be written")


def decoy(t: Case, image: Path, reason: str, serial: str = "DECOY", **settings):
    """One disk that looks like something else than the prepared one."""
    disk = t.recorded(image, serial, **settings)
    before = disks.digest(image)
    run = t.boot(disks=[disk])
    swaps_to_memory(t, run)
    t.said(run, rf"^disk .* serial '{serial}', .*: .*{reason}")
    t.untouched(disk, before)


def prepared(t: Case, name: str = "decoy.img", serial: str = qemu.SWAP_SERIAL) -> Path:
    return disks.prepare(t.path(name), serial, SET_UUID)


@case
def no_disk(t: Case):
    swaps_to_memory(t, t.boot())


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
    run = t.boot(disks=[first, second])
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
    run = t.boot(disks=[first, second], append=f"swap={OTHER_SET_UUID}")
    t.passed(run)
    swapped_to_disk(t, run)
    t.untouched(first, before)
    t.check(disks.read_write_log(second.write_log), "the named disk was written")


@case
def swap_none(t: Case):
    disk = t.swap_disk()
    before = disks.digest(disk.path)
    run = t.boot(disks=[disk], append="swap=none")
    swaps_to_memory(t, run)
    t.untouched(disk, before)


# ---- the swap disk, as the host sees it ----


def inside_partition(t: Case, disk: qemu.Disk):
    """Every recorded write lies in the disk's one partition."""
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
    t.check(len({page[2] for page in pages}) == len(pages), "each has a place of its own")
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
        swapped_to_disk(t, run)
        Path(disk.write_log).unlink()
        disks.make_write_log(Path(disk.write_log))


# ---- consoles ----


def reads_on_screen(t: Case, words: str, **settings):
    """Boots until the words are to be read on the screen; the machine halts and is then stopped."""
    picture = t.path("screen.ppm")
    seen = []

    def look(monitor):
        monitor.command("screendump", filename=str(picture))
        seen[:] = screen.read_text(str(picture))
        if any(words in line for line in seen):
            monitor.command("quit")

    run = t.boot(every_second=look, append="exit=halt", **settings)
    t.check(any(words in line for line in seen), f"the screen shows: {words}", *seen[-40:])
    return run, seen


@case
def no_serial(t: Case):
    run = t.boot(serial="none", disks=[t.swap_disk()])
    t.check(run.result.verdict == "pass", "QEMU's status says pass", f"status {run.result.status}")
    t.check(run.result.log == "", "nothing came over a serial line")
    _, seen = reads_on_screen(t, "# verdict: pass", serial="none")
    t.check(any(re.match(r"ok \d+ [a-z]", line) for line in seen), "it shows results as well",
            *seen[-20:])


@case
def halted(t: Case):
    run, _ = reads_on_screen(t, "# verdict: pass")
    t.check(run.log and run.log.verdict == "pass", "the log says pass, and nothing after it",
            run.log_error)


@case
def serial_pci(t: Case):
    plain(t, serial="pci")


@case
def no_vga(t: Case):
    plain(t, vga=False)


# ---- options, crashes, ends ----


@case
def unknown_option(t: Case):
    disk = t.swap_disk()
    before = disks.digest(disk.path)
    run = t.boot(disks=[disk], append="run=cow colour=blue")
    t.ended(run, "fail")
    t.check(run.log and run.log.bail_out, "it bailed out")
    t.said(run, "^option error: .*colour")
    t.untouched(disk, before)


@case
def bad_value(t: Case):
    run = t.boot(append="mem=lots seed=x1")
    t.ended(run, "fail")
    for key in ("mem", "seed"):
        t.said(run, rf"option error.*{key}")


@case
def unknown_experiment(t: Case):
    run = t.boot(append="run=no-such-thing")
    t.ended(run, "fail")
    t.said(run, "no-such-thing")


def crashed(t: Case, name: str, *patterns: str):
    run = t.boot(append=f"run={name}", disks=[t.swap_disk()])
    t.ended(run, "crash")
    t.check(run.log and run.log.bail_out, "it bailed out")
    for pattern in patterns:
        t.said(run, pattern)
    return run


@case
def crash_null(t: Case):
    run = crashed(t, "crash-null", r"^crash on cpu 0: #PF .*\b0x0: read by the kernel: not present",
                  r"^at [0-9a-f]{16} read_null\+0x", r"^rip [0-9a-f]{16} .* vector 14 ",
                  r"^cr0 .* cr2 0{16} +cr3 [0-9a-f]{16}", r"level 4: .*empty",
                  r"0: [0-9a-f]{16} read_null\+0x", r"1: [0-9a-f]{16} run_null\+0x",
                  r"2: [0-9a-f]{16} faultline_main\+0x")
    t.check(run.log and "#PF" in (run.log.bail_out or ""), "'Bail out!' says why")


@case
def crash_panic(t: Case):
    crashed(t, "crash-panic", r"^crash on cpu 0: tests/crash\.c:\d+: deliberate, with seed 1$",
            r"0: [0-9a-f]{16} panic_at\+0x", r"1: [0-9a-f]{16} run_panic\+0x")


def switched_off(t: Case, options: str = ""):
    run = t.boot(append=f"run=cow exit=poweroff {options}", debug_exit=False)
    t.check(run.log and run.log.verdict == "pass", "the log says pass", run.log_error)
    t.check(run.result.status == 0 and run.result.shutdown == "guest-shutdown",
            "the machine switched itself off", f"{run.result.status} {run.result.shutdown}")


@case
def exit_poweroff(t: Case):
    switched_off(t)


def was_reset(t: Case, options: str = ""):
    run = t.boot(append=f"run=cow exit=reboot {options}", debug_exit=False)
    t.check(run.log and run.log.verdict == "pass", "the log says pass", run.log_error)
    t.check(run.result.status == 0 and run.result.shutdown == "guest-reset",
            "the machine reset itself", f"{run.result.status} {run.result.shutdown}")


@case
def exit_reboot(t: Case):
    was_reset(t)


# ---- the page tables, as QEMU's monitor sees them ----

TLB_LINE = re.compile(rf"({HEX}): ({HEX}) ([XGPDACTUW-]{{9}})")
HOLD_LINE = re.compile(rf"# hold va=({HEX}) pa=({HEX}) flags=([W-][U-][A-][D-][X-]) what=([a-z-]+)$")


def tlb_entries(text: str):
    """From the virtual address of each entry of `info tlb` to its physical address and its flags,
    in the order of HOLD_LINE."""
    found = (TLB_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {int(line[1], 16): (int(line[2], 16), "".join(line[3][i] for i in (8, 7, 4, 3, 0)))
            for line in found if line}


def held_mappings(t: Case, experiment: str, **settings):
    """Runs an experiment that holds mappings, and asks the monitor about each group of them while
    it is there. Returns all entries that were seen."""
    waiting, seen, everything = [], [], {}

    def look(line, monitor):
        found = HOLD_LINE.search(qemu.readable(line))
        if found:
            waiting.append((int(found[1], 16), int(found[2], 16), found[3], found[4]))
        elif waiting:
            monitor.command("stop")
            entries = tlb_entries(monitor.human("info tlb"))
            everything.update(entries)
            for mapping in waiting:
                reached = monitor.human(f"gva2gpa {mapping[0]:#x}").strip()
                seen.append((*mapping, entries.get(mapping[0]), reached))
            waiting.clear()
            monitor.command("cont")

    run = t.boot(append=f"run={experiment}", on_line=look, **settings)
    t.passed(run, (experiment,))
    t.check(len(seen) >= 3, f"the log names {len(seen)} mappings")
    for address, physical, flags, what, entry, reached in seen:
        t.check(entry == (physical, flags),
                f"info tlb, {what}: {address:x} -> {physical:x} {flags}", str(entry))
        found = re.fullmatch(r"gpa: ((?:0x)?[0-9a-f]+)", reached)
        t.check(found and int(found[1], 16) == physical,
                f"a walk from {address:x} ends at {physical:x}", str(reached))
    return run, everything


@case
def page_tables(t: Case):
    run, entries = held_mappings(t, "hold")
    # In the recursive slot the monitor prints the flags of entries that name tables, without those of
    # the slot itself, which make it all no-execute.
    slot = t.said(run, rf"^map: ({HEX}) recursive slot, (\d+) GiB$")
    first, size = (int(slot[1], 16), int(slot[2]) << 30) if slot else (0, 0)
    both = [f"{address:x} {flags}" for address, (_, flags) in entries.items()
            if flags[0] == "W" and flags[4] == "-" and not 0 <= address - first < size]
    t.check(entries and not both, f"none of {len(entries)} entries is writable and executable",
            *both[:8])


@case
def mmu_view(t: Case):
    """Pages of 4 KiB, 2 MiB and 1 GiB in scratch tables, as the model and as QEMU see them."""
    held_mappings(t, "mmu-hold")


# ---- the MMU, held to its manual ----

KNOWN_FAILURE = r"^known failure of TCGTCGTCGTCG: (.*): (\d+) combinations$"


def mmu_truth_on(t: Case, cpu: str, skipped=()):
    """The sample on this processor: so many combinations, and the features that are named as absent."""
    run = t.boot(cpu=cpu, append="run=mmu-truth")
    t.passed(run, ("mmu-truth",))
    made = run.log.metrics.get("mmu-truth.combinations") if run.log else None
    t.check(made and made.value >= 300000, f"{made.value if made else 0} combinations")
    t.check(not run.notes("^difference"), "no difference but those that are known")
    known = [found[1] for found in run.notes(KNOWN_FAILURE)]
    t.check(known, "what is known of the emulator is named", *known)
    for feature in skipped:
        t.check(re.search(rf"ok \d+ {feature} on and off # SKIP", run.result.log),
                f"the log says that {feature} is absent")
    return run


@case
def mmu_truth(t: Case):
    mmu_truth_on(t, "max")


@case
def mmu_truth_qemu64(t: Case):
    mmu_truth_on(t, "qemu64", ("SMEP", "SMAP", "protection keys of user pages"))


@case
def mmu_truth_without_nx(t: Case):
    mmu_truth_on(t, "max,-nx", ("NX",))


@case
def mmu_truth_unknown(t: Case):
    """What is known of TCG is known only where CPUID says that it is TCG: else it is a failure."""
    run = t.boot(cpu="max,-hypervisor", append="run=mmu-truth exit=poweroff")
    t.check(run.log and run.log.verdict == "fail", "the log says fail", run.log_error)
    t.check(not run.notes(KNOWN_FAILURE), "nothing is known of a processor without a name")
    t.said(run, r"^difference: \w+ from ring [03] at [0-9a-f]+: expected #PF [0-9a-f]+, found")
    t.said(run, r"^ +level 4: [0-9a-f]{16} before")


@case
def tlb_truth(t: Case):
    """Each flush on both processors; what no run here can show is named; the limit is measured."""
    for cpu in ("max", "qemu64"):
        run = t.boot(cpu=cpu, smp=2, append="run=tlb-truth,spurious")
        t.passed(run, ("tlb-truth", "spurious"))
        checks = run.log.suites["tlb-truth"].checks if run.log else []
        t.check(checks and not any(check.skipped for check in checks),
                "each old translation was used before its flush")
        for site in ("global pages", "process-context identifiers", "paging-structure caches"):
            t.said(run, rf"^QEMU's TCG cannot show: .*{site}")
        limit = t.said(run, r"^tlb: up to (\d+) pages are dropped one by one, more")
        t.check(limit and 1 <= int(limit[1]) <= 64, f"the limit is {limit and limit[1]} pages")


# ---- ring 3 ----


@case
def ring3(t: Case):
    for cpu in ("max", "qemu64"):
        t.passed(t.boot(cpu=cpu, append="run=ring3"), ("ring3",))


@case
def fault_anatomy(t: Case):
    """The parts of a fault make up the whole, and stepping sees what `make bench` counts."""
    run = t.boot(icount=True, cpu="max,-erms", append="run=fault-anatomy,bench")
    t.passed(run, ("fault-anatomy", "bench"))
    figures = {name: metric.value for name, metric in run.log.metrics.items()} if run.log else {}
    for kind in ("zero_read", "anon_first_write", "zero_to_private", "cow_reuse"):
        prefix = f"fault-anatomy.{kind}."
        parts = {name[len(prefix):]: value for name, value in figures.items()
                 if name.startswith(prefix)}
        whole, median = parts.pop("mean", 0), parts.pop("median", 0)
        for word in ("least", "most", "whole"):
            parts.pop(word, None)
        t.check(abs(sum(parts.values()) - whole) <= len(parts),
                f"{kind}: the parts make up {whole} instructions", str(parts))
        counted = figures.get(f"bench.{kind}.median", 0)
        t.check(abs(counted - median) <= 2, f"{kind}: counted, {counted}, and stepped, {median}")
    t.said(run, r"^histogram of zero_read, instructions from:faults \d+:\d+")


# ---- repetition ----


@case
def same_log_twice(t: Case):
    """With time counted in instructions, two runs write the same log, byte by byte."""
    logs = []
    for _ in range(2):
        run = t.boot(icount=True, append="run=demand-zero,zero-page,cow,zeroing")
        t.passed(run, ("demand-zero", "zero-page", "cow", "zeroing"))
        t.said(run, "^clock: an emulator counts instructions, 8 ticks each")
        logs.append(run.result.log)
    t.check(logs[0] == logs[1], "both serial logs are the same")


@case
def bench(t: Case):
    """`make bench` has the rows that exist, the parts of a fault and the shootdown; what is counted
    in instructions is the same each time."""
    rows = ("null_fault", "anon_first_write", "zero_read", "zero_to_private", "cow_copy", "cow_reuse")
    figures = []
    for _ in range(2):
        disks.tool("tests/bench/run", t.path("bench"))
        lines = (t.path("bench") / "bench.jsonl").read_text().splitlines()
        figures.append({line["op"]: line for line in map(json.loads, lines)})
    for row in rows:
        line = figures[0].get(row, {})
        t.check(line.get("unit") == "instructions" and 10 < line.get("median", 0) <= line["max"]
                and line.get("n", 0) >= 1000, f"{row} takes {line.get('median')} instructions",
                str(line))
    for part in ("entry", "find", "allocate", "clear", "map", "return"):
        line = figures[0].get(f"anon_first_write.{part}", {})
        t.check(line.get("unit") == "instructions" and line.get("mean", 0) > 0,
                f"the {part} of a fault takes {line.get('mean')} instructions", str(line))
    for cpus, batch in ((1, "pages1"), (2, "pages8"), (4, "pages32"), (4, "whole")):
        line = figures[0].get(f"shootdown.cpus{cpus}.{batch}", {})
        t.check(line.get("unit") == "ns" and line.get("median", 0) > 0,
                f"a shootdown of {batch} on {cpus} takes {line.get('median')} ns", str(line))
    counted = [{op: line for op, line in each.items() if line["unit"] == "instructions"}
               for each in figures]
    t.check(counted[0] == counted[1], "a second run counts the same", *map(str, counted))


# ---- the debugger ----


@case
def debugger(t: Case):
    """`make debug` stops in the same image before and after the move, with its symbols."""
    if not shutil.which("gdb"):
        raise Skip("gdb is not installed")
    swap = disks.copy_sparse(Path("build/swap.img"), t.path("swap.img"))
    words = disks.tool("env", f"SWAP={swap}", "ovmf/debug", "-batch", "-ex", "faultline-start",
                       "-ex", "backtrace 1", "-ex", "continue", "-ex", "backtrace 2")
    t.check(re.search(r"(?m)^#0 +efi_main \(.*\) at efi/entry\.c:\d+$", words),
            "it stops in efi_main, where the firmware loaded it", words)
    t.check(re.search(r"(?m)^#0 +faultline_main \(.*\) at tests/main\.c:\d+$", words),
            "it stops in faultline_main, after the move", words)
    t.check(re.search(r"(?m)^#1 +0xffffffff8[0-9a-f]+ in continue_in_upper_half ", words),
            "the backtrace there has names and places", words)


# ---- a real machine, as far as CPUID tells: a disk is written only by name, after a countdown ----


def on_real_machine(t: Case, append: str, on_line=None):
    """A run without a hypervisor in CPUID, on a disk of a known set."""
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
