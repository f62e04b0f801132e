#!/usr/bin/env python3
"""Starts Bochs with OVMF and Faultline: a second implementation of the x86 MMU.

As a module: describe a Machine, call boot() and judge the Result. As a program: see --help.

Bochs is deterministic: two runs of one image write equal logs and execute equally many
instructions. It has no debug-exit port and always ends with status 1. The verdict is that of the
log, and it counts only if the machine switched itself off.
"""

import argparse
import ctypes
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List, Optional

import qemu
import resolve

FIRMWARE = ("/usr/share/ovmf/OVMF.fd", "/usr/share/OVMF/OVMF.fd", "/usr/share/qemu/OVMF.fd")
VGA_ROM = "/usr/share/vgabios/vgabios.bin"
LOADER = "build/bochs-loader.efi"
# Also the rate of the TSC. A whole default run takes 25e9 instructions.
INSTRUCTIONS_PER_SECOND = 150000000
INSTRUCTIONS_MAX = 60000000000
SWITCHED_OFF = "ACPI control: soft power off"
STATUS_OF_VERDICT = {verdict: status for status, verdict in qemu.VERDICT_OF_STATUS.items()}
# All paths are in the folder of the run. The power switch is a panic of Bochs, which ends it.
CONFIGURATION = """\
config_interface: textconfig
display_library: term
megs: {memory}
romimage: file="OVMF.fd"
vgaromimage: file="vgabios.bin"
vga: extension=vbe, update_freq=5
cpu: model={cpu}, count={smp}, ips={ips}, reset_on_triple_fault=0
pci: enabled=1, chipset=i440fx
com1: enabled=1, mode=file, dev=serial.log
ata0: enabled=1
ata0-master: type=disk, path="esp", mode=vvfat
boot: disk
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
clock: sync=none, time0=1700000000
"""


@dataclasses.dataclass
class Machine:
    efi: str = "build/faultline.efi"
    append: str = ""
    cpu: str = "corei7_haswell_4770"
    memory: int = 512  # MiB, 2048 at most
    smp: int = 1  # or 2
    # Lines for Bochs's debugger, before the one that lets the machine run to its end.
    debugger: List[str] = dataclasses.field(default_factory=list)


def missing() -> str:
    """Returns the reason why this system cannot run Bochs, or ''."""
    if shutil.which("bochs") is None:
        return "bochs is not installed"
    if firmware() is None:
        return f"no OVMF in one file ({', '.join(FIRMWARE)})"
    return "" if os.path.exists(VGA_ROM) else f"{VGA_ROM} is missing"


def firmware() -> Optional[str]:
    """Returns the path of OVMF with code and variables in one file, or None."""
    return next((path for path in FIRMWARE if os.path.exists(path)), None)


def _die_with_parent():
    # A new session has no terminal: Bochs would draw on it.
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def _fill(folder: Path, machine: Machine):
    """Writes the files of a run: firmware, the volume to boot from, and the configuration."""
    boot_folder = folder / "esp/EFI/BOOT"
    boot_folder.mkdir(parents=True)
    shutil.copyfile(firmware(), folder / "OVMF.fd")
    shutil.copyfile(VGA_ROM, folder / "vgabios.bin")
    if machine.smp == 1:
        shutil.copyfile(machine.efi, boot_folder / "BOOTX64.EFI")
    else:
        shutil.copyfile(LOADER, boot_folder / "BOOTX64.EFI")
        shutil.copyfile(machine.efi, folder / "esp/FAULTLINE.EFI")
    options = machine.append.split()
    if not any(option.startswith("exit=") for option in options):
        options.append("exit=poweroff")
    (folder / "esp/faultline.cfg").write_text("".join(f"{option}\n" for option in options))
    (folder / "rc").write_text(CONFIGURATION.format(
        memory=machine.memory, cpu=machine.cpu, smp=machine.smp, ips=INSTRUCTIONS_PER_SECOND))
    lines = [f"sba {INSTRUCTIONS_MAX}", *machine.debugger, "c"]
    (folder / "debugger").write_text("".join(f"{line}\n" for line in lines))


class _Run:
    """One Bochs process from start to end."""

    def __init__(self, folder: Path, on_line, log):
        self.folder = folder
        self.on_line = on_line
        self.log = log
        self.result = qemu.Result()
        self.partial = ""
        self.started = time.monotonic()
        self.out = open(folder / "out", "wb")
        try:
            self.process = subprocess.Popen(
                ["bochs", "-q", "-f", "rc", "-rc", "debugger"], cwd=folder,
                env=dict(os.environ, TERM="xterm"), stdin=subprocess.DEVNULL, stdout=self.out,
                stderr=self.out, preexec_fn=_die_with_parent)
        except OSError as error:
            raise qemu.Trouble(f"bochs cannot be started: {error.strerror}") from error

    def _take(self, serial):
        text = serial.read().decode("latin-1").replace("\r\n", "\n").replace("\r", "")
        self.result.log += text
        if self.log is not None:
            self.log.write(text.encode("latin-1"))
        *lines, self.partial = (self.partial + text).split("\n")
        for line in lines:
            if self.on_line is not None:
                self.on_line(line, None)

    def follow(self, until: float):
        path = self.folder / "serial.log"
        while not path.exists() and self.process.poll() is None:
            time.sleep(0.05)
        if not path.exists():
            return
        with open(path, "rb") as serial:
            while self.process.poll() is None:
                if time.monotonic() >= until:
                    self.result.timed_out = True
                    self.process.kill()
                    self.process.wait()
                    break
                time.sleep(0.2)
                self._take(serial)
            self._take(serial)

    def finish(self):
        """Takes the verdict of the log, if the machine switched itself off."""
        result = self.result
        self.out.close()
        result.seconds = time.monotonic() - self.started
        result.last_state = (self.folder / "out").read_text("latin-1")
        log = self.folder / "bochs.log"
        words = log.read_text("latin-1").strip().splitlines() if log.exists() else []
        result.shutdown = words[-1] if words else "no words of Bochs"
        verdicts = [line[len("# verdict: "):] for line in result.log.splitlines()
                    if line.startswith("# verdict: ")]
        if result.shutdown.endswith(SWITCHED_OFF) and verdicts:
            result.status = STATUS_OF_VERDICT.get(verdicts[-1], -1)


def boot(machine: Machine, timeout: float = 600, on_line=None, log=None) -> qemu.Result:
    """Starts the machine and follows it to its end or the bound, in seconds.

    The result has the debugger's words as last_state, and as status that which QEMU would have for
    the verdict; -1 if the machine did not switch itself off.
    """
    if missing():
        raise qemu.Trouble(missing())
    folder = tempfile.mkdtemp(prefix="faultline-bochs-")
    try:
        _fill(Path(folder), machine)
        run = _Run(Path(folder), on_line, log)
        try:
            run.follow(run.started + timeout)
        finally:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
        run.finish()
        return run.result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parse():
    parser = qemu.Parser(
        prog="bochs.py",
        description="Boot Faultline in Bochs and show its log, with file and line in crash reports.",
        epilog="Exit status: 0 pass, 1 fail, 2 crash, 3 everything skipped, 4 out of time, 5 no "
               "verdict. Models of the processor: bochs --help cpu. Bochs has ATA only, so the swap "
               "area is in RAM.")
    parser.add_argument("--efi", default="build/faultline.efi", metavar="FILE",
                        help="the application to start (%(default)s)")
    parser.add_argument("--append", default="", metavar="OPTIONS", help="options of the run")
    parser.add_argument("--cpu", default="corei7_haswell_4770",
                        help="Bochs's model of the processor (%(default)s)")
    parser.add_argument("--memory", type=qemu.count, default=512, metavar="MIB",
                        help="MiB of memory, 2048 at most (%(default)s)")
    parser.add_argument("--smp", type=int, default=1, choices=(1, 2), help="processors (%(default)s)")
    parser.add_argument("--timeout", type=qemu.seconds, default=1200, metavar="SECONDS",
                        help="stop the machine after this time (%(default)s)")
    parser.add_argument("--log", metavar="FILE", help="also write the serial log, as it arrives")
    options = parser.parse_args()
    if options.memory > 2048:
        parser.error("--memory: Bochs has 2048 MiB at most")
    for path in [options.efi] + ([LOADER] if options.smp > 1 else []):
        if not os.path.isfile(path):
            parser.error(f"{path}: no such file")
    return options


def _launch() -> int:
    options = _parse()
    machine = Machine(efi=options.efi, append=options.append, cpu=options.cpu,
                      memory=options.memory, smp=options.smp)
    log = qemu.LogFile(options.log) if options.log else None
    resolver = resolve.Resolver(str(Path(options.efi).with_suffix(".so")))
    try:
        result = boot(machine, options.timeout, qemu.shower(resolver), log)
    finally:
        resolver.close()
        if log is not None:
            log.close()
    if result.timed_out:
        print(f"bochs.py: stopped after {options.timeout:g} s", file=sys.stderr)
        return qemu.STATUS_TIMEOUT
    if result.verdict:
        return qemu.STATUS_OF_VERDICT[result.verdict]
    raise qemu.Trouble(f"no verdict; the last words of Bochs: {result.shutdown}")


if __name__ == "__main__":
    sys.exit(qemu.run_program("bochs.py", _launch))
