#!/usr/bin/env python3
"""Starts QEMU with OVMF and Faultline: the one launcher of `make run`, tests, benchmarks and debug.

As a module: describe a Machine, call boot() and judge the Result. As a program: see --help.

Every run has a fresh copy of the firmware's variables, a bound on its time, and a scratch folder
that is removed afterwards; QEMU dies with the process that started it.
"""

import argparse
import ctypes
import dataclasses
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, List, Optional

import resolve

FIRMWARE_DIRS = ("/usr/share/OVMF", "/usr/share/edk2/ovmf", "/usr/share/edk2/x64")
FIRMWARE = {"4M": ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), "2M": ("OVMF_CODE.fd", "OVMF_VARS.fd")}
DEBUG_EXIT_PORT = 0xF4
# What QEMU makes of the value v written to isa-debug-exit: the status 2v + 1.
VERDICT_OF_STATUS = {33: "pass", 35: "fail", 37: "crash", 39: "skipped"}
# The exit status of this program and of `make run`.
STATUS_OF_VERDICT = {"pass": 0, "fail": 1, "crash": 2, "skipped": 3}
STATUS_TIMEOUT = 4
STATUS_BROKEN = 5
SWAP_SERIAL = "FAULTLINE-SWAP"
DISK_MODEL = "QEMU HARDDISK"
CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-9;=?]*[A-Za-z]|[()].|.)")
# Exact repetition: virtual time is counted in instructions, 8 ticks of the TSC each.
ICOUNT = ["-icount", "shift=3,sleep=off", "-seed", "1", "-rtc", "base=2024-01-01,clock=vm"]


@dataclasses.dataclass
class Disk:
    """One disk on the AHCI controller, or on USB."""

    path: str
    serial: str = ""
    usb: bool = False
    write_log: Optional[str] = None  # blklogwrites: where every write is recorded
    read_error: Optional[int] = None  # blkdebug: the sector whose reads fail


@dataclasses.dataclass
class Machine:
    """What is started. Without `image` the application is passed by -kernel."""

    efi: str = "build/faultline.efi"
    image: Optional[Disk] = None
    append: str = ""
    machine: str = "q35"
    cpu: str = "max"
    memory: int = 512  # MiB
    smp: int = 1
    firmware: str = "4M"
    disks: List[Disk] = dataclasses.field(default_factory=list)
    cdrom: bool = False  # an empty CD drive on the AHCI controller
    serial: str = "isa"  # isa, pci or none
    vga: bool = True
    debug_exit: bool = True
    icount: bool = False
    gdb: Optional[str] = None  # the -gdb argument; the machine then starts stopped
    extra: List[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Result:
    status: int = -1  # of QEMU's process
    timed_out: bool = False
    log: str = ""  # what came over the serial line, bare newlines
    stderr: str = ""
    shutdown: str = ""  # QMP's reason: guest-shutdown, guest-reset, host-qmp-quit...
    seconds: float = 0.0
    last_state: str = ""  # registers, when the time ran out

    @property
    def verdict(self) -> str:
        """By exit status alone; empty without a debug exit."""
        return VERDICT_OF_STATUS.get(self.status, "")


class Monitor:
    """A QMP connection."""

    def __init__(self, path: str, alive: Callable[[], bool]):
        self.events: List[dict] = []
        self.pending = b""
        self.socket = socket.socket(socket.AF_UNIX)
        until = time.monotonic() + 20
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > until or not alive():
                    raise
                time.sleep(0.01)
        self.socket.settimeout(20)
        self._message()
        self.command("qmp_capabilities")

    def _message(self) -> dict:
        while b"\n" not in self.pending:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("QEMU closed its monitor")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def command(self, name: str, **arguments):
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._message()
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise RuntimeError(f"{name}: {message['error']['desc']}")
            else:
                return message["return"]

    def human(self, line: str) -> str:
        return self.command("human-monitor-command", **{"command-line": line}).replace("\r", "")

    def drain(self) -> bool:
        """Takes in the events that have arrived; False once QEMU is gone."""
        self.socket.setblocking(False)
        try:
            while True:
                data = self.socket.recv(65536)
                if not data:
                    return False
                self.pending += data
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        finally:
            self.socket.settimeout(20)
            while b"\n" in self.pending:
                message = self._message()
                if "event" in message:
                    self.events.append(message)


def firmware_files(size: str):
    """The paths of code and variables, or None where this system has no such firmware."""
    for folder in FIRMWARE_DIRS:
        code, variables = (os.path.join(folder, name) for name in FIRMWARE[size])
        if os.path.exists(code) and os.path.exists(variables):
            return code, variables
    return None


def _disk_arguments(disk: Disk, name: str, bus: str) -> List[str]:
    node = {"driver": "file", "filename": disk.path, "node-name": name + "-file"}
    if disk.read_error is not None:
        fault = {"event": "none", "iotype": "read", "sector": disk.read_error, "errno": 5}
        node = {"driver": "blkdebug", "image": node, "inject-error": [fault],
                "node-name": name + "-fault"}
    node = {"driver": "raw", "file": node, "node-name": name + "-raw"}
    if disk.write_log is not None:
        # The log's super block is brought up to date with each write; QEMU's default is 4,096.
        node = {"driver": "blklogwrites", "file": node, "log-super-update-interval": 1,
                "log": {"driver": "file", "filename": disk.write_log}, "node-name": name}
    device = f"drive={node['node-name']}"
    if disk.usb:
        device = f"usb-storage,{device},removable=on"
    else:
        device = f"ide-hd,{device},bus={bus},rerror=report,werror=report"
    if disk.serial:
        device += f",serial={disk.serial}"
    if name == "boot":
        device += ",bootindex=0"
    return ["-blockdev", json.dumps(node), "-device", device]


def _storage_arguments(machine: Machine) -> List[str]:
    arguments: List[str] = []
    ports = [f"ide.{i}" for i in range(6)]
    if machine.machine == "pc":
        arguments += ["-device", "ich9-ahci,id=ahci"]
        ports = [f"ahci.{i}" for i in range(6)]
    disks = [(disk, f"disk{i}") for i, disk in enumerate(machine.disks)]
    if machine.image is not None:
        disks.insert(0, (machine.image, "boot"))
    if any(disk.usb for disk, _ in disks):
        arguments += ["-device", "qemu-xhci"]
    for disk, name in disks:
        arguments += _disk_arguments(disk, name, "" if disk.usb else ports.pop(0))
    if machine.cdrom:
        arguments += ["-device", f"ide-cd,bus={ports.pop(0)}"]
    return arguments


def command_line(machine: Machine, code: str, variables: str, monitor: str) -> List[str]:
    arguments = [
        "qemu-system-x86_64", "-accel", "tcg", "-machine", machine.machine, "-cpu", machine.cpu,
        "-m", str(machine.memory), "-smp", str(machine.smp), "-display", "none", "-nodefaults",
        "-no-user-config", "-no-reboot", "-qmp", f"unix:{monitor},server=on,wait=off",
        "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}",
        "-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
    if machine.serial == "none":
        arguments += ["-serial", "none"]
    else:
        device = "pci-serial" if machine.serial == "pci" else "isa-serial"
        arguments += ["-chardev", "stdio,id=serial,signal=off",
                      "-device", f"{device},chardev=serial"]
    if machine.vga:
        arguments += ["-device", "VGA"]
    if machine.debug_exit:
        arguments += ["-device", f"isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=4"]
    if machine.image is None:
        arguments += ["-kernel", machine.efi]
        if machine.append:
            arguments += ["-append", machine.append]
    arguments += _storage_arguments(machine)
    if machine.icount:
        arguments += ICOUNT
    if machine.gdb is not None:
        arguments += ["-S", "-gdb", machine.gdb]
    return arguments + machine.extra


def _die_with_parent():
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


class _Run:
    """One QEMU process from start to end."""

    def __init__(self, machine: Machine, folder: str, on_line, every_second):
        self.result = Result()
        self.on_line = on_line
        self.every_second = every_second
        self.partial = ""
        self.started = time.monotonic()
        monitor_path = os.path.join(folder, "qmp")
        variables = os.path.join(folder, "vars.fd")
        firmware = firmware_files(machine.firmware)
        if firmware is None:
            raise FileNotFoundError(f"no {machine.firmware} OVMF in {', '.join(FIRMWARE_DIRS)}")
        shutil.copyfile(firmware[1], variables)
        self.errors = open(os.path.join(folder, "stderr"), "w+b")
        self.process = subprocess.Popen(
            command_line(machine, firmware[0], variables, monitor_path), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self.errors, preexec_fn=_die_with_parent)
        try:
            self.monitor = Monitor(monitor_path, lambda: self.process.poll() is None)
        except OSError:
            self.monitor = None  # QEMU refused its command line; its words are in stderr

    def _take(self, data: bytes):
        text = data.decode("latin-1").replace("\r\n", "\n").replace("\r", "")
        self.result.log += text
        *lines, self.partial = (self.partial + text).split("\n")
        for line in lines:
            if self.on_line is not None:
                self.on_line(line, self.monitor)

    def follow(self, until: float):
        output = self.process.stdout
        watched = [output] + ([self.monitor.socket] if self.monitor else [])
        next_second = time.monotonic() + 1
        while watched:
            now = time.monotonic()
            if now >= until:
                self.result.timed_out = True
                return
            if self.every_second is not None and self.monitor and now >= next_second:
                next_second = now + 1
                self.every_second(self.monitor)
            ready = select.select(watched, [], [], max(min(until - now, 1), 0))[0]
            if output in ready:
                data = os.read(output.fileno(), 65536)
                if data:
                    self._take(data)
                else:
                    watched.remove(output)
            if self.monitor and self.monitor.socket in ready and not self.monitor.drain():
                watched.remove(self.monitor.socket)

    def finish(self):
        result = self.result
        if result.timed_out and self.monitor:
            try:
                result.last_state = self.monitor.human("info registers")
            except (OSError, RuntimeError):
                pass
        if result.timed_out:
            self.process.kill()
        try:
            result.status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            result.status = self.process.wait()
        if self.monitor:
            for event in self.monitor.events:
                if event["event"] == "SHUTDOWN":
                    result.shutdown = event["data"]["reason"]
            self.monitor.socket.close()
        result.seconds = time.monotonic() - self.started
        self.errors.seek(0)
        result.stderr = self.errors.read().decode("utf-8", "replace")
        self.errors.close()
        self.process.stdout.close()


def boot(machine: Machine, timeout: float = 60, on_line=None, every_second=None) -> Result:
    """Starts the machine and follows it to its end or the bound, in seconds.

    on_line(line, monitor) is called for every whole line of the serial log as it arrives, and
    every_second(monitor) about once a second.
    """
    folder = tempfile.mkdtemp(prefix="faultline-")
    try:
        run = _Run(machine, folder, on_line, every_second)
        try:
            run.follow(run.started + timeout)
            run.finish()
        finally:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
        return run.result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def readable(line: str) -> str:
    """A line of the log without what firmware writes to move a terminal's cursor."""
    return CONTROL_SEQUENCE.sub("", line).replace("\x00", "").rstrip()


def shower(resolver: resolve.Resolver):
    """Returns an on_line that prints each line, with file and line in crash reports."""

    def show(line: str, _monitor):
        text = readable(line)
        if text:
            print(resolver.line(text), flush=True)

    return show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Boot Faultline in QEMU.",
        epilog="Exit status: 0 pass, 1 fail, 2 crash, 3 everything skipped, 4 out of time, "
               "5 QEMU ended in another way.")
    parser.add_argument("--efi", default="build/faultline.efi")
    parser.add_argument("--image", help="boot from this disk image in place of --efi")
    parser.add_argument("--usb", action="store_true", help="the image is a USB stick")
    parser.add_argument("--append", default="", help="options of the run")
    parser.add_argument("--swap", action="append", default=[], metavar="FILE",
                        help="a prepared swap disk on AHCI")
    parser.add_argument("--machine", default="q35", choices=("q35", "pc"))
    parser.add_argument("--cpu", default="max")
    parser.add_argument("--memory", type=int, default=512, help="MiB")
    parser.add_argument("--smp", type=int, default=1)
    parser.add_argument("--firmware", default="4M", choices=sorted(FIRMWARE))
    parser.add_argument("--serial", default="isa", choices=("isa", "pci", "none"))
    parser.add_argument("--no-vga", action="store_true")
    parser.add_argument("--no-debug-exit", action="store_true")
    parser.add_argument("--icount", action="store_true", help="count instructions as time")
    parser.add_argument("--gdb", metavar="WHERE", help="start stopped, for gdb at WHERE")
    parser.add_argument("--timeout", type=float, default=300, help="seconds")
    parser.add_argument("--log", help="also write the serial log to this file")
    return parser


def main() -> int:
    options = _parser().parse_args()
    machine = Machine(
        efi=options.efi, append=options.append, machine=options.machine, cpu=options.cpu,
        image=Disk(options.image, usb=options.usb) if options.image else None,
        memory=options.memory, smp=options.smp, firmware=options.firmware, serial=options.serial,
        vga=not options.no_vga, debug_exit=not options.no_debug_exit, icount=options.icount,
        disks=[Disk(path, serial=SWAP_SERIAL) for path in options.swap], gdb=options.gdb)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    resolver = resolve.Resolver(str(Path(options.efi).with_suffix(".so")))
    try:
        result = boot(machine, options.timeout, shower(resolver))
    finally:
        resolver.close()
    if options.log:
        Path(options.log).write_text(result.log, "latin-1")
    sys.stderr.write(result.stderr)
    if result.timed_out:
        print(f"qemu.py: stopped after {options.timeout:g} s", file=sys.stderr)
        return STATUS_TIMEOUT
    if result.verdict:
        return STATUS_OF_VERDICT[result.verdict]
    print(f"qemu.py: QEMU ended with status {result.status} {result.shutdown}", file=sys.stderr)
    return STATUS_BROKEN


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
