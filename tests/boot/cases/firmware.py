"""Firmware tables with false addresses: no device is accessed where memory or nothing is."""

import struct

from harness import Case, case

# Nothing is mapped there, the address is not canonical, memory is there, another device is.
UNMAPPED = 1 << 45
NOT_CANONICAL = 1 << 63
MEMORY = 32 << 20
CMOS_PORT = 0x70
HPET = 0xFED00000
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


def with_header(signature: str, content: bytes) -> bytes:
    """Returns an ACPI table of revision 1 with its header and checksum."""
    table = struct.pack("<4sIBB6s8sI4sI", signature.encode(), 36 + len(content), 1, 0, b"FAULTL",
                        b"BOOTCASE", 1, b"TEST", 1) + content
    return table[:9] + bytes([-sum(table) & 0xFF]) + table[10:]


def only_table(t: Case, table: bytes):
    """Returns QEMU's arguments for a machine on which OVMF finds one ACPI table.

    OVMF takes its tables from a file of QEMU, and runs a list of commands: load the file, then add
    the file's address to a pointer in it. It installs each table to which such a pointer leads.
    """
    name = b"etc/acpi/tables"
    pointer = 36  # the only entry of an RSDT, behind its header
    place = pointer + 4
    commands = (struct.pack("<I56sIB", 1, name, 64, 1),
                struct.pack("<I56s56sIB", 2, name, name, pointer, 4))
    files = {"tables": with_header("RSDT", struct.pack("<I", place)) + table,
             "loader": b"".join(command.ljust(128, b"\0") for command in commands)}
    for file, content in files.items():
        t.path(file).write_bytes(content)
    return ["-fw_cfg", f"name=etc/acpi/tables,file={t.path('tables')}",
            "-fw_cfg", f"name=etc/table-loader,file={t.path('loader')}"]


@case
def hpet_address(t: Case):
    """Without a PM timer the HPET calibrates the time, unless its table names a false address."""
    for address, clock in ((HPET, "HPET"), (UNMAPPED, "(?!HPET)"), (NOT_CANONICAL, "(?!HPET)")):
        run = t.boot(machine="q35,acpi=off", append="run=cow",
                     extra=only_table(t, with_header("HPET", hpet(address))))
        # QEMU warns of a file that is not below opt/, so its words are not compared.
        t.check(run.result.verdict == "pass" and run.log and run.log.suites["cow"].ok,
                f"HPET at {address:x}: the run passes", run.log_error)
        t.said(run, rf"^clock: TSC at \d+ kHz by {clock}")
