#!/usr/bin/env python3
"""Adds file and line to the addresses of a crash report.

As a module: Resolver.line() takes the lines of a log as they pass. As a program: see --help.
addr2line (binutils) reads the debug information of the linked image, build/faultline.so.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Optional

import tool

ROOT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"# crash (on cpu \d+|within the report of a crash): ")
IMAGE_AT = re.compile(r"# (?:image at ([0-9a-f]{16})|map: ([0-9a-f]{16}) image)$")
VERSION = re.compile(r"# Faultline (\S+)$")
# A place in the code with its name: after `at` or `trap:` the instruction itself, after a number of
# the backtrace an instruction or a return address.
PLACE = re.compile(r"# .*?(\bat|\btrap:|\d+:) ([0-9a-f]{16}) \S+\+0x[0-9a-f]+")
# Ends an answer of addr2line; it belongs to no image.
SENTINEL = "0xffffffffffffffff"
SIZE_MOST = 64 << 20  # bytes; nothing that long is the log of a run


def image_base() -> int:
    """Returns the address to which the image moves; 0 if the header does not say it."""
    header = ROOT / "paging/kernel/layout.h"
    found = re.search(r"^#define IMAGE_BASE +UINT64_C\((\w+)\)", header.read_text(), re.MULTILINE)
    return int(found[1], 16) if found else 0


def built_version(image: Path) -> str:
    """Returns the version that was compiled into the image beside version.h, or ''."""
    try:
        words = (image.parent / "version.h").read_text()
    except OSError:
        return ""
    found = re.search(r'"(.*)"', words)
    return found[1] if found else ""


def source_path(path: str) -> str:
    """Shortens a path of the debug information to one inside the tree, wherever it was built."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        if (ROOT / tail).is_file():
            return tail
    return path


class Resolver:
    """Reads one log line by line. Without addr2line, or for the log of another build, lines pass
    unchanged."""

    def __init__(self, image: str):
        self.image = Path(image)
        self.base = image_base()
        self.process: Optional[subprocess.Popen] = None
        self.usable = self.image.is_file()
        self.in_report = False
        self.exact = set()

    def _ask(self, offset: int) -> str:
        """Returns `file:line` of an offset in the image, with the chain of inlined calls, or ''."""
        if self.process is None:
            try:
                self.process = subprocess.Popen(
                    ["addr2line", "-a", "-i", "-e", str(self.image)], text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            except OSError:
                self.usable = False
                return ""
        try:
            self.process.stdin.write(f"{offset:#x}\n{SENTINEL}\n")
            self.process.stdin.flush()
            lines = []
            while (line := self.process.stdout.readline()) and line.strip() != SENTINEL:
                lines.append(line.strip())
            self.process.stdout.readline()  # the sentinel's own ??:0
        except OSError:
            self.usable = False
            return ""
        places = []
        for line in lines[1:]:
            path, _, number = line.split(" (discriminator")[0].rpartition(":")
            if path and not path.startswith("??") and number.isdigit() and int(number):
                places.append(f"{source_path(path)}:{number}")
        return " inlined at ".join(places)

    def address(self, address: int, returns: bool = False) -> str:
        """Returns `file:line` of an address, or of the call that returns to it; '' if unknown."""
        offset = address - self.base - returns
        return self._ask(offset) if self.usable and 0 < offset < 1 << 31 else ""

    def line(self, line: str) -> str:
        """Returns a line of the log, with file and line added if it is a place in a report."""
        found = VERSION.fullmatch(line)
        if found and built_version(self.image) not in ("", found[1]):
            self.usable = False
        found = IMAGE_AT.fullmatch(line)
        if found:
            self.base = int(found[1] or found[2], 16)
        if HEADING.match(line):
            self.in_report = True
        found = PLACE.match(line) if self.in_report else None
        if not found:
            return line
        address = int(found[2], 16)
        if not found[1].endswith(":") or found[1] == "trap:":
            self.exact.add(address)
        place = self.address(address, address not in self.exact)
        return f"{line} ({place})" if place else line

    def close(self):
        """Ends addr2line."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Add file and line to the crash report in a log, or name those of addresses. "
                    "The image must be the build that crashed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("items", nargs="+", metavar="LOG|ADDRESS",
                        help="a log's file, or an address of 8 to 16 hexadecimal digits")
    parser.add_argument("--image", default="build/faultline.so", help="the linked image")
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")
    if not os.path.isfile(options.image):
        parser.error(f"{options.image}: no such file")
    for item in options.items:
        resolver = Resolver(options.image)
        if re.fullmatch(r"(0x)?[0-9a-fA-F]{8,16}", item) and not os.path.exists(item):
            here, before = (resolver.address(int(item, 16), returns) for returns in (False, True))
            print(f"{item} {here or 'no line'}; if it is a return address: {before or 'no line'}")
        else:
            try:
                with open(item, "rb") as file:
                    text = file.read(SIZE_MOST + 1).decode("latin-1")
            except OSError as error:
                parser.error(f"{item}: {error.strerror}")
            if len(text) > SIZE_MOST:
                parser.error(f"{item}: more than {SIZE_MOST >> 20} MiB: no log of a run")
            for line in text.splitlines():
                print(resolver.line(line))
        resolver.close()
    return 0


if __name__ == "__main__":
    sys.exit(tool.run("resolve.py", main, 2))
