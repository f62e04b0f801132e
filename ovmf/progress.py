"""What `make run` shows while Faultline runs: a line for each experiment, then the verdict.

A Progress is given each line of the serial log as it comes. On a terminal it also rewrites a status
line; elsewhere it prints whole lines only, without control characters.
"""

import os
import re
import shutil
import time
from typing import Callable, List, NamedTuple, Optional

BOOT_SECONDS = 8  # until the first line of the log, on two cores
SHOWN_FAILURES = 5
NAME_WIDTH = 16
RESULT = re.compile(r"(not )?ok ([0-9]{1,9}) (\S+)(?: # SKIP (.*))?")
CHECK = re.compile(r"    (not )?ok ([0-9]{1,9}) (.*)")
PLAN = re.compile(r"(    )?1\.\.([0-9]{1,9})")
NOTE = re.compile(r"(    )?# (.*)")
AFTER_VERDICT = "# ! "
BROKEN_OFF = re.compile(r"experiment: ([a-z0-9-]+), after ")
RUN_OPTION = re.compile(r"(?:^|\s)(?:run|seed)=\S*")


class Failure(NamedTuple):
    name: str
    text: str
    line: int


class Failed(NamedTuple):
    """A failed experiment with its failed checks."""

    name: str
    checks: List[Failure]


def shorten(text: str, width: int) -> str:
    """Cuts a text between two words."""
    if len(text) <= width:
        return text
    cut = text[:max(width - 3, 1)]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut) + "..."


def again(name: str, seed: str, append: str, arguments: str) -> str:
    """Returns the command that runs one experiment as this run did."""
    others = RUN_OPTION.sub(" ", append).split()
    command = f'make run OPTIONS="{" ".join([f"run={name}", f"seed={seed}", *others])}"'
    return command + (f' QEMU_ARGS="{arguments}"' if arguments else "")


class Progress:
    """The state of a run, as far as its log has come."""

    def __init__(self, out, append: str, log: str, resolve: Callable[[str], str] = str,
                 makes_page: bool = False):
        """`makes_page` says that the caller makes the page of this log."""
        self.out = out
        self.makes_page = makes_page
        self.append = append
        self.log = log
        self.resolve = resolve
        self.live = out.isatty()
        self.started = time.monotonic()
        self.line_number = 0
        self.version = ""
        self.seed = "1"
        self.planned = 0
        self.done = 0
        self.checks = 0  # of the experiment that runs
        self.check = 0
        self.question = ""
        self.head = ""
        self.reason = ""  # of its first skipped check
        self.failing: List[Failure] = []
        self.failed: List[Failed] = []
        self.sums = {"pass": 0, "fail": 0, "skip": 0}
        self.passed = 0
        self.skipped = 0
        self.inside = False
        self.crash: List[str] = []
        self.crash_line = 0
        self.verdict = ""
        self.bail_out = ""
        self.broken_off = ""  # the experiment that it was inside

    # ---- the terminal ----

    def width(self) -> int:
        return max(40, shutil.get_terminal_size().columns) if self.live else 80

    def show(self, line: str):
        """Prints a whole line in the place of the status line."""
        self.out.write(("\r\x1b[K" if self.live else "") + line + "\n")
        self.out.flush()

    def status(self) -> str:
        seconds = f"{time.monotonic() - self.started:.0f} s"
        if self.planned == 0:
            return f"booting, about {BOOT_SECONDS} s: {seconds}"
        if not self.inside:
            return f"{self.done}/{self.planned}, {seconds}"
        end = f", check {min(self.check + 1, self.checks)} of {self.checks}, {seconds}"
        begin = f"{self.done + 1}/{self.planned} "
        return begin + shorten(self.question, self.width() - len(begin + end) - 4) + end

    def every_second(self, _monitor=None):
        if self.live:
            self.out.write(f"\r\x1b[K  {self.status()}"[:self.width() + 4])
            self.out.flush()

    # ---- the log ----

    def take(self, line: str):
        """Takes the next line of the log."""
        self.line_number += 1
        # What happens to the run behind its verdict counts.
        line = line.removeprefix(AFTER_VERDICT)
        if line == "    KTAP version 1":
            self.inside = True
            self.checks = self.check = 0
            self.question = self.head = self.reason = ""
            self.failing = []
        elif PLAN.fullmatch(line):
            self._plan(PLAN.fullmatch(line))
        elif self.inside and CHECK.fullmatch(line):
            self._check(CHECK.fullmatch(line))
        elif self.planned and RESULT.fullmatch(line):
            self._result(RESULT.fullmatch(line))
        elif line.startswith("Bail out! "):
            self.bail_out = line[len("Bail out! "):]
        elif NOTE.fullmatch(line):
            self._note(NOTE.fullmatch(line)[2], line)

    def _plan(self, found):
        if found[1]:
            self.checks = int(found[2]) if self.inside else 0
        else:
            self.planned = int(found[2])
            self.show(f"  boot     {self.version}, {time.monotonic() - self.started:.0f} s")

    def _check(self, found):
        self.check = int(found[2])
        text, skip, reason = found[3].partition(" # SKIP ")
        if found[1]:
            self.failing.append(Failure("", text, self.line_number))
            self.sums["fail"] += 1
        else:
            self.sums["skip" if skip else "pass"] += 1
            self.reason = self.reason or reason

    def _result(self, found):
        self.inside = False
        self.done = int(found[2])
        name = found[3]
        mark, text = "ok", self.head or "no answer from this run"
        if found[1]:
            mark = "not ok"
            text = f"{len(self.failing)} of {self.checks} checks failed"
            if not self.failing:
                text = f"planned {self.checks} checks, made {self.check}"
                self.failing = [Failure("", text, self.line_number)]
            self.failed.append(Failed(name, self.failing))
        elif found[4]:
            mark, text = "skip", self.reason or found[4]
            self.skipped += 1
        else:
            self.passed += 1
        begin = f"  {mark:6} {self.done:2}/{self.planned} {name:{NAME_WIDTH}} "
        self.show(begin + shorten(text, self.width() - len(begin)))

    def _note(self, text: str, line: str):
        if self.crash or text.startswith("crash on "):
            self.crash_line = self.crash_line or self.line_number
            self.crash.append(line)
        if BROKEN_OFF.match(text):
            self.broken_off = BROKEN_OFF.match(text)[1]
        elif text.startswith("Faultline "):
            self.version = text
        elif text.startswith("seed: "):
            self.seed = text[len("seed: "):]
        elif text.startswith("verdict: "):
            self.verdict = text[len("verdict: "):]
        elif text.startswith("failure: "):
            self.failed.append(Failed("the run", [Failure("", text[len("failure: "):],
                                                          self.line_number)]))
        elif not self.inside:
            return
        elif text.startswith("answer: "):
            self.head = text[len("answer: "):].split(";")[0].removesuffix(".")
            if self.head == "none":
                self.head = "no answer: " + text.partition("; ")[2].removesuffix(".")
        elif not self.question:
            self.question = text

    # ---- the end ----

    def _show_again(self, name: str):
        arguments = os.environ.get("QEMU_ARGS", "")
        self.show(f"    again: {again(name, self.seed, self.append, arguments)}")

    def _show_failure(self, failed: Failed):
        self.show(f"  FAILED {failed.name}")
        for check in failed.checks[:3]:
            self.show(f"    {shorten(check.text, self.width() - 4)}")
            self.show(f"    {self.log}:{check.line}")
        if failed.name != "the run":
            self._show_again(failed.name)
        self.show("")

    def _show_crash(self):
        for line in self.crash:
            self.show(self.resolve(line))
        where = f" at {self.log}:{self.crash_line}" if self.crash_line else ""
        self.show(f"  {'CRASHED' if self.crash else 'ENDED'}{where}: {self.bail_out}")
        if self.inside:
            self.show(f"    while it asked: {self.question}")
        if self.broken_off:
            self._show_again(self.broken_off)
        self.show("")

    def end(self, trouble: Optional[str] = None):
        """Shows what failed, the sums, and where to read on."""
        self.show("")
        if self.bail_out:
            self._show_crash()
        for failed in self.failed[:SHOWN_FAILURES]:
            self._show_failure(failed)
        if len(self.failed) > SHOWN_FAILURES:
            names = ", ".join(failed.name for failed in self.failed[SHOWN_FAILURES:])
            self.show(f"  and {len(self.failed) - SHOWN_FAILURES} more failed: {names}\n")
        if trouble and self.inside:
            self.show(f"  it was asking: {self.question}")
        self.show(f"  verdict  {self.verdict or trouble or 'none: the log was cut off'}: "
                  f"{self.passed} of {self.planned} experiments passed; {self.sums['pass']} checks hold, "
                  f"{self.sums['fail']} failed, {self.sums['skip']} not made here")
        self.show(f"  log      {self.log}")
        if self.makes_page:
            return
        self.show(f"  report   make report LOG={self.log}: a page for any browser")
        self.show('  next     make run OPTIONS="run=ticket-*": some of them; run=list: all names')

