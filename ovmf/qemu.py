#!/usr/bin/env python3
"""Starts QEMU with OVMF and Faultline, for `make run`, tests, benchmarks and the debugger.

As a module: describe a Machine, call boot() and judge the Result. As a program: see --help.

Every run has a fresh copy of the firmware's variables, a bound on its time, and a scratch folder
that is removed afterwards. QEMU dies with the process that started it.
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
import uuid
from pathlib import Path
from typing import Callable, List, Optional

import progress
import resolve
import tool

FIRMWARE_DIRS = ("/usr/share/OVMF", "/usr/share/edk2/ovmf", "/usr/share/edk2/x64")
FIRMWARE = {"4M": ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), "2M": ("OVMF_CODE.fd", "OVMF_VARS.fd")}
DEBUG_EXIT_PORT = 0xF4
# The guest writes v to isa-debug-exit, and QEMU ends with 2v + 1.
VERDICT_OF_STATUS = {33: "pass", 35: "fail", 37: "crash", 39: "skipped"}
# The exit status of this program and of `make run`.
STATUS_OF_VERDICT = {"pass": 0, "fail": 1, "crash": 2, "skipped": 3}
STATUS_TIMEOUT = 4
STATUS_BROKEN = 5
SWAP_SERIAL = "FAULTLINE-SWAP"
SWAP_PARTITION_TYPE = uuid.UUID("884D1742-3B38-4D93-9CA8-FAEF6A858151")
DISK_MODEL = "QEMU HARDDISK"
CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-9;=?]*[A-Za-z]|[()].|.)")
# Repeats exactly: virtual time counts instructions, 8 ticks of the TSC each.
ICOUNT = ["-icount", "shift=3,sleep=off", "-seed", "1", "-rtc", "base=2024-01-01,clock=vm"]


@dataclasses.dataclass
class Disk:
    """One disk on the AHCI controller, or on USB."""

    path: str
    serial: str = ""
    usb: bool = False
    write_log: Optional[str] = None  # blklogwrites: where every write is recorded
    read_error: Optional[int] = None  # blkdebug: the sector whose reads fail
    write_error: Optional[int] = None  # the sector whose writes fail
    commands_per_second: Optional[int] = None  # a throttle filter's limit
    discard: bool = False  # TRIM frees blocks of the file; otherwise it does nothing


@dataclasses.dataclass
class Machine:
    """The machine to start. Without `image` the application is passed by -kernel."""

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
    types: bool = False  # the monitor's type() reaches the serial line
    gdb: Optional[str] = None  # the -gdb argument; the machine then starts stopped
    extra: List[str] = dataclasses.field(default_factory=list)


class Trouble(Exception):
    """A trouble of the launcher or its host, in one line; the guest has no part in it."""


@dataclasses.dataclass
class Result:
    status: int = -1  # of QEMU's process
    timed_out: bool = False
    log: str = ""  # the serial line's text, with bare newlines
    stderr: str = ""
    shutdown: str = ""  # QMP's reason: guest-shutdown, guest-reset, host-qmp-quit...
    seconds: float = 0.0
    last_state: str = ""  # registers, when the time ran out

    @property
    def verdict(self) -> str:
        """By exit status alone; empty without a debug exit."""
        return VERDICT_OF_STATUS.get(self.status, "")


class Monitor:
    """A QMP connection, over a socket that QEMU inherited: no path that could be too long."""

    def __init__(self, connection: socket.socket, patience: float):
        self.events: List[dict] = []
        self.faults = 0  # nodes that fail, of all disks
        self.pending = b""
        self.line = None  # the serial line, to write to
        self.over = False  # QEMU was asked to end
        self.socket = connection
        self.socket.settimeout(patience)
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

    def quit(self):
        """Ends QEMU, which may close the connection before it answers."""
        self.over = True
        try:
            self.command("quit")
        except ConnectionError:
            pass

    def human(self, line: str) -> str:
        return self.command("human-monitor-command", **{"command-line": line}).replace("\r", "")

    def type(self, text: str):
        """Sends text over the serial line, to a machine that started with types."""
        os.write(self.line.fileno(), text.encode())

    def fail_writes(self, disk: str, once: bool = False, reads: bool = False):
        """From now on each write fails, or the next one, to a disk that started with
        commands_per_second; with reads everything fails."""
        fault = {"event": "none", "errno": 5, "once": once}
        if not reads:
            fault["iotype"] = "write"
        self.faults += 1
        self.command("blockdev-add", **{
            "driver": "blkdebug", "image": disk + "-file", "inject-error": [fault],
            "node-name": f"{disk}-broken{self.faults}"})
        self.command("blockdev-reopen", options=[{
            "driver": "throttle", "throttle-group": disk + "-speed", "file": f"{disk}-broken{self.faults}",
            "node-name": disk + "-throttle"}])

    def drain(self) -> bool:
        """Takes in the events that have arrived; returns False after QEMU has ended."""
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


def prepared_serial(path: str) -> str:
    """The serial number that the header of a prepared disk is bound to; SWAP_SERIAL without one."""
    try:
        with open(path, "rb") as file:
            file.seek(2 * 512)
            entries = file.read(128 * 128)
            for at in range(0, len(entries), 128):
                if entries[at:at + 16] != SWAP_PARTITION_TYPE.bytes_le:
                    continue
                file.seek(int.from_bytes(entries[at + 32:at + 40], "little") * 512)
                header = file.read(512)
                if header.startswith(b"Faultline swap\r\n"):
                    return header[240:264].rstrip(b"\0").decode("ascii")
    except (OSError, UnicodeDecodeError):
        pass  # QEMU will say what is wrong with the file
    return SWAP_SERIAL


def firmware_files(size: str):
    """Returns the paths of code and variables, or None if this system lacks the firmware."""
    for folder in FIRMWARE_DIRS:
        code, variables = (os.path.join(folder, name) for name in FIRMWARE[size])
        if os.path.exists(code) and os.path.exists(variables):
            return code, variables
    return None


def _disk_arguments(disk: Disk, name: str, bus: str, counted: bool = False) -> List[str]:
    arguments: List[str] = []
    # In counted time (ICOUNT) an idle machine's minute is over at once: a flush that the host needs
    # a moment for would be a hung command. So the host is not asked to flush.
    node = {"driver": "file", "filename": disk.path, "node-name": name + "-file",
            "cache": {"no-flush": counted}}
    faults = [{"event": "none", "iotype": kind, "sector": sector, "errno": 5}
              for kind, sector in (("read", disk.read_error), ("write", disk.write_error))
              if sector is not None]
    if faults:
        node = {"driver": "blkdebug", "image": node, "inject-error": faults,
                "node-name": name + "-fault"}
    if disk.commands_per_second is not None:
        group = name + "-speed"
        arguments = ["-object",
                     f"throttle-group,id={group},x-iops-total={disk.commands_per_second}"]
        node = {"driver": "throttle", "throttle-group": group, "file": node,
                "node-name": name + "-throttle"}
    node = {"driver": "raw", "file": node, "node-name": name + "-raw"}
    if disk.write_log is not None:
        # The log's super block is brought up to date with each write; QEMU's default is 4,096.
        node = {"driver": "blklogwrites", "file": node, "log-super-update-interval": 1,
                "log": {"driver": "file", "filename": disk.write_log}, "node-name": name}
    layer = node
    while disk.discard and isinstance(layer, dict):
        layer["discard"] = "unmap"
        layer = layer.get("file", layer.get("image"))
    device = f"drive={node['node-name']}"
    serial = disk.serial.replace(",", ",,")
    if disk.usb:
        device = f"usb-storage,{device},removable=on"
    else:
        device = f"ide-hd,{device},bus={bus},rerror=report,werror=report"
    if serial:
        device += f",serial={serial}"
    if name == "boot":
        device += ",bootindex=0"
    return arguments + ["-blockdev", json.dumps(node), "-device", device]


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
        arguments += _disk_arguments(disk, name, "" if disk.usb else ports.pop(0), machine.icount)
    if machine.cdrom:
        arguments += ["-device", f"ide-cd,bus={ports.pop(0)}"]
    return arguments


def program() -> str:
    """Returns the QEMU to start: QEMU= of the environment, or the usual one."""
    return os.environ.get("QEMU") or "qemu-system-x86_64"


def accelerator() -> str:
    """Returns ACCEL= of the environment, or TCG, on which all figures are taken."""
    return os.environ.get("ACCEL") or "tcg"


def _in_option(path: str) -> str:
    """Escapes a path for a comma-separated option of QEMU."""
    return path.replace(",", ",,")


def command_line(machine: Machine, code: str, variables: str, monitor: int) -> List[str]:
    """Returns QEMU's arguments; monitor is the file descriptor of its end of the QMP connection."""
    arguments = [
        program(), "-accel", accelerator(), "-machine", machine.machine, "-cpu", machine.cpu,
        "-m", str(machine.memory), "-smp", str(machine.smp), "-display", "none", "-nodefaults",
        "-no-user-config", "-no-reboot", "-chardev", f"socket,id=qmp,fd={monitor}",
        "-mon", "chardev=qmp,mode=control",
        "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_in_option(code)}",
        "-drive", f"if=pflash,format=raw,unit=1,file={_in_option(variables)}"]
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

    def __init__(self, machine: Machine, folder: str, on_line, every_second, log,
                 timeout: float):
        self.result = Result()
        self.log = log
        self.on_line = on_line
        self.every_second = every_second
        self.partial = ""
        self.started = time.monotonic()
        variables = os.path.join(folder, "vars.fd")
        firmware = firmware_files(machine.firmware)
        if firmware is None:
            raise Trouble(f"no {machine.firmware} OVMF in {', '.join(FIRMWARE_DIRS)}")
        shutil.copyfile(firmware[1], variables)
        self.errors = open(os.path.join(folder, "stderr"), "w+b")
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = subprocess.Popen(
                    command_line(machine, firmware[0], variables, theirs.fileno()),
                    stdin=subprocess.PIPE if machine.types else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                    pass_fds=[theirs.fileno()], preexec_fn=_die_with_parent)
            except OSError as error:
                raise Trouble(f"{program()} cannot be started: {error.strerror}") from error
        try:
            self.monitor = Monitor(ours, min(timeout, 20))
            self.monitor.line = self.process.stdin
        except (OSError, ValueError, RuntimeError):
            ours.close()
            self.monitor = None  # QEMU refused its command line; stderr has its words

    def _take(self, data: bytes):
        text = data.decode("latin-1").replace("\r\n", "\n").replace("\r", "")
        self.result.log += text
        if self.log is not None:
            self.log.write(text.encode("latin-1"))
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
            if (self.every_second is not None and self.monitor and not self.monitor.over
                    and now >= next_second):
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
        if self.process.stdin:
            self.process.stdin.close()


def boot(machine: Machine, timeout: float = 60, on_line=None, every_second=None,
         log=None) -> Result:
    """Starts the machine and follows it to its end or the bound, in seconds.

    Calls on_line(line, monitor) for every whole line of the serial log as it arrives, and
    every_second(monitor) about once a second. Writes the serial log to `log`, a binary file.
    Raises Trouble if QEMU cannot be started.
    """
    folder = tempfile.mkdtemp(prefix="faultline-")
    try:
        run = _Run(machine, folder, on_line, every_second, log, timeout)
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
    """Returns a line of the log without the firmware's control sequences."""
    return CONTROL_SEQUENCE.sub("", line).replace("\x00", "").rstrip()


def shower(resolver: resolve.Resolver):
    """Returns an on_line that prints each line, with file and line in crash reports."""

    def show(line: str, _monitor):
        text = readable(line)
        if text:
            print(resolver.line(text), flush=True)

    return show


class Parser(argparse.ArgumentParser):
    """Refuses bad arguments with STATUS_BROKEN: argparse's own status is that of a crash."""

    def error(self, message: str):
        self.exit(STATUS_BROKEN, f"{self.prog}: {message}; see --help\n")


def count(text: str) -> int:
    """The type of arguments that are whole numbers above 0."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def seconds(text: str) -> float:
    """The type of arguments that are times above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="qemu.py",
        description="Boot Faultline in QEMU and show its log, with file and line in crash reports.",
        usage="%(prog)s [OPTIONS] [-- QEMU'S ARGUMENTS]",
        epilog="Exit status: 0 pass, 1 fail, 2 crash, 3 everything skipped, 4 out of time, 5 no "
               "verdict: the launcher or QEMU had a trouble, or the machine switched itself off. "
               "Environment: QEMU= is the program to start, ACCEL= its accelerator (tcg; kvm where "
               "the host has it), TMPDIR= the place of the scratch folder.")
    parser.add_argument("--efi", default="build/faultline.efi", metavar="FILE",
                        help="the application to start (%(default)s)")
    parser.add_argument("--image", metavar="FILE", help="boot from this disk image instead")
    parser.add_argument("--usb", action="store_true", help="the image is a USB stick")
    parser.add_argument("--append", default="", metavar="OPTIONS",
                        help="options of the run; with --image, those of its faultline.cfg count")
    parser.add_argument("--swap", action="append", default=[], metavar="FILE",
                        help="add a prepared swap disk on AHCI, with the serial number that its "
                             "header is bound to; may be given several times")
    parser.add_argument("--machine", default="q35", choices=("q35", "pc"),
                        help="the chipset (%(default)s)")
    parser.add_argument("--cpu", default="max", help="QEMU's model of the processor (%(default)s)")
    parser.add_argument("--memory", type=count, default=512, metavar="MIB",
                        help="MiB of memory (%(default)s)")
    parser.add_argument("--smp", type=count, default=1, metavar="N",
                        help="processors (%(default)s)")
    parser.add_argument("--firmware", default="4M", choices=sorted(FIRMWARE),
                        help="size of OVMF (%(default)s)")
    parser.add_argument("--serial", default="isa", choices=("isa", "pci", "none"),
                        help="the serial port, which carries the log (%(default)s)")
    parser.add_argument("--no-vga", action="store_true", help="leave out the screen")
    parser.add_argument("--no-debug-exit", action="store_true",
                        help="leave out the port by which the run sets the exit status")
    parser.add_argument("--icount", action="store_true", help="count instructions as time")
    parser.add_argument("--gdb", metavar="WHERE", help="start stopped, for gdb at WHERE")
    parser.add_argument("--timeout", type=seconds, default=300, metavar="SECONDS",
                        help="stop the machine after this time (%(default)s)")
    parser.add_argument("--log", metavar="FILE", help="also write the serial log, as it arrives")
    parser.add_argument("--summary", action="store_true",
                        help="show a line for each experiment, then the verdict; needs --log")
    return parser


def _parse(arguments: List[str]):
    """Returns the options and QEMU's own arguments, those behind `--`."""
    extra: List[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, extra = arguments[:at], arguments[at + 1:]
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.append and options.image:
        parser.error("--append reaches only --efi; an image has its options in \\faultline.cfg")
    if options.usb and not options.image:
        parser.error("--usb is about --image, which is missing")
    if options.summary and not options.log:
        parser.error("--summary needs --log, where the lines are that it leaves out")
    if options.icount and accelerator() != "tcg":
        parser.error(f"--icount needs TCG, and ACCEL={accelerator()}")
    for path in ([options.image] if options.image else [options.efi]) + options.swap:
        if not os.path.isfile(path):
            parser.error(f"{path}: no such file")
    return options, extra


class LogFile:
    """The file of --log. It is opened before the run: without a place for its log, none begins."""

    def __init__(self, path: str):
        self.path = path
        self.file = open(path, "wb", buffering=0)

    def write(self, data: bytes):
        try:
            self.file.write(data)
        except OSError as error:
            raise Trouble(f"{self.path}: {error.strerror}") from error

    def close(self):
        self.file.close()


def _launch() -> int:
    options, extra = _parse(sys.argv[1:])
    machine = Machine(
        efi=options.efi, append=options.append, machine=options.machine, cpu=options.cpu,
        image=Disk(options.image, usb=options.usb) if options.image else None,
        memory=options.memory, smp=options.smp, firmware=options.firmware, serial=options.serial,
        vga=not options.no_vga, debug_exit=not options.no_debug_exit, icount=options.icount,
        disks=[Disk(path, serial=prepared_serial(path)) for path in options.swap], gdb=options.gdb,
        extra=extra)
    log = LogFile(options.log) if options.log else None
    resolver = resolve.Resolver(str(Path(options.efi).with_suffix(".so")))
    shown = (progress.Progress(sys.stdout, options.append, options.log, resolver.line)
             if options.summary else None)
    try:
        if shown:
            result = boot(machine, options.timeout, lambda line, _: shown.take(readable(line)),
                          shown.every_second, log)
            shown.end("out of time" if result.timed_out else None)
        else:
            result = boot(machine, options.timeout, shower(resolver), log=log)
    finally:
        resolver.close()
        if log is not None:
            log.close()
    sys.stderr.write(result.stderr)
    if result.timed_out:
        print(f"qemu.py: stopped after {options.timeout:g} s", file=sys.stderr)
        return STATUS_TIMEOUT
    if result.verdict:
        return STATUS_OF_VERDICT[result.verdict]
    raise Trouble(f"QEMU ended with status {result.status} {result.shutdown}".rstrip())


def run_program(name: str, launch: Callable[[], int]) -> int:
    """Runs a launcher's main function and returns the exit status. A trouble outside of the guest
    ends with one line and STATUS_BROKEN, an interruption with 130."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        if sys.stdout is None or sys.stderr is None:
            raise Trouble("standard output or standard error is closed")
        sys.stdout.reconfigure(errors="backslashreplace")
        status = launch()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        trouble = "the output was closed; the run was stopped"
    except (Trouble, subprocess.SubprocessError) as error:
        trouble = str(error)
    except OSError as error:
        trouble = f"{error.filename or 'output'}: {error.strerror or error}"
    tool.last_words(name, trouble)
    return STATUS_BROKEN


def main() -> int:
    return run_program("qemu.py", _launch)


if __name__ == "__main__":
    sys.exit(main())
