"""Machines: processors, memory, firmware, controllers, and the medium that boots."""

from pathlib import Path

import disks
import qemu
from harness import FEW, Case, Skip, case


def plain(t: Case, **settings):
    """A run on a machine with a swap disk passes: a whole one, if no option says otherwise."""
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
    t.passed(run)
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
    """Each allocator runs the machine and has a block of 1 GiB."""
    for way in ("llfree", "bitmap", "stack", "buddy"):
        run = t.boot(disks=[t.swap_disk()], memory=6144, smp=4,
                     append=f"pmm={way} run=frame-stress,cow,no-heap")
        t.passed(run, ("frame-stress", "cow", "no-heap"))
        t.said(run, f"{way}: 4 processors")
        t.said(run, "1 GiB in one block, at frame")


@case
def firmware_4m(t: Case):
    plain(t, firmware="4M", append=FEW)


@case
def firmware_2m(t: Case):
    if qemu.firmware_files("2M") is None:
        raise Skip("this system has no 2 MiB OVMF")
    plain(t, firmware="2M", append=FEW)


def on_processors(t: Case, count: int, **settings):
    """A whole run on this many processors, each of which the log counts."""
    run = t.boot(disks=[t.swap_disk()], smp=count, **settings)
    t.passed(run)
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
def dead_processor(t: Case):
    run = t.boot(smp=2, append="run=dead-processor,cow")
    t.passed(run, ("dead-processor", "cow"))


@case
def machine_pc(t: Case):
    run = t.boot(machine="pc", disks=[t.swap_disk()], append=FEW)
    t.passed(run)
    t.swapped_to_disk(run)


def boots_from(t: Case, **settings):
    """Boots from the image for sticks as a disk with these settings, which the run leaves as it was."""
    image = disks.copy_sparse(Path("build/faultline.img"), t.path("boot.img"))
    disk = t.recorded(image, **settings)
    before = disks.digest(image)
    run = t.boot(image=disk, disks=[t.swap_disk()], append=FEW)
    t.passed(run)
    t.swapped_to_disk(run)
    t.untouched(disk, before)


@case
def image_on_usb(t: Case):
    boots_from(t, usb=True)


@case
def image_on_ahci(t: Case):
    boots_from(t, serial="BOOT")


@case
def empty_cd_drive(t: Case):
    run = t.boot(disks=[t.swap_disk()], append=FEW, cdrom=True)
    t.passed(run)
    t.swapped_to_disk(run)


@case
def serial_pci(t: Case):
    plain(t, serial="pci", append=FEW)


@case
def no_vga(t: Case):
    plain(t, vga=False, append=FEW)
