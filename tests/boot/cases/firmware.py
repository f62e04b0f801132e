"""Firmware tables with false addresses: no device is accessed where memory or nothing is."""

import struct

from harness import Case, case

# Nothing is mapped there, the address is not canonical, memory is there, another device is.
UNMAPPED = 1 << 45
NOT_CANONICAL = 1 << 63
MEMORY = 32 << 20
CMOS_PORT = 0x70
SPACE_MEMORY, SPACE_IO = 0, 1


def acpi_table(t: Case, signature: str, revision: int, content: bytes):
    """Returns QEMU's arguments for one more ACPI table."""
    path = t.path(signature)
    path.write_bytes(content)
    return ["-acpitable", f"sig={signature},rev={revision},data={path}"]


def spcr(space: int, address: int) -> bytes:
    """Returns a table of the serial console, type 16550, behind its header: SPCR, revision 2."""
    place = struct.pack("<BBBBQ", space, 8, 0, 1, address)
    return (struct.pack("<B3x", 0) + place + bytes([2, 4]) + struct.pack("<I", 4)
            + bytes([7, 0, 1, 0, 0, 0]) + struct.pack("<HHBBBIBI", 0xFFFF, 0xFFFF, 0, 0, 0, 0, 0, 0))


def hpet(address: int) -> bytes:
    """Returns a table of the HPET behind its header."""
    return struct.pack("<IBBBBQBHB", 0x8086A201, SPACE_MEMORY, 64, 0, 0, address, 0, 100, 0)


@case
def spcr_false_address(t: Case):
    """The table of the serial console names no UART: nothing is touched there, and COM1 serves."""
    for space, address in ((SPACE_MEMORY, UNMAPPED), (SPACE_MEMORY, NOT_CANONICAL),
                           (SPACE_MEMORY, MEMORY), (SPACE_IO, CMOS_PORT)):
        run = t.boot(append="run=cow", extra=acpi_table(t, "SPCR", 2, spcr(space, address)))
        t.passed(run, ("cow",))
        t.said(run, r"^serial: I/O port 0x3f8 \(COM1\)")


@case
def spcr_true_address(t: Case):
    """The table is believed where a UART is."""
    run = t.boot(append="run=cow", extra=acpi_table(t, "SPCR", 2, spcr(SPACE_IO, 0x3F8)))
    t.passed(run, ("cow",))
    t.said(run, r"^serial: I/O port 0x3f8 \(ACPI SPCR\)")


@case
def hpet_false_address(t: Case):
    """The table of the HPET names no clock: another source calibrates the time."""
    for address in (UNMAPPED, NOT_CANONICAL, MEMORY):
        run = t.boot(machine="q35,hpet=off", append="run=cow",
                     extra=acpi_table(t, "HPET", 1, hpet(address)))
        t.passed(run, ("cow",))
        t.said(run, r"^clock: TSC at \d+ kHz by (?!HPET)")
