#!/usr/bin/env python3
"""Reads the log of a run strictly: docs/log.md in code.

parse() returns a Log, or raises LogError that names the bad line. A line that the specification
does not allow is an error, and so is a log without its last line.
"""

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

VERSION = "KTAP version 1"
INDENT = "    "
VERDICTS = ("pass", "fail", "crash", "skipped")
RESULT = re.compile(r"(not )?ok ([1-9][0-9]*) (\S.*)")
SKIP = re.compile(r"(.*\S) # SKIP (\S.*)")
PLAN = re.compile(r"1\.\.([1-9][0-9]*)")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
METRIC = re.compile(r"([a-z0-9][a-z0-9-]*)\.([a-z0-9][a-z0-9_.-]*)=([0-9]+) ([A-Za-z0-9%/_-]+)")
TOTALS = re.compile(r"# totals: (experiments|checks) pass:([0-9]+) fail:([0-9]+) skip:([0-9]+)")
FAILED = re.compile(r"# failed: (the run|[a-z0-9][a-z0-9-]*): ((?:check ([0-9]+): )?(\S.*))")
MORE_FAILED = re.compile(r"# failed: [0-9]+ more")
CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-9;=?]*[A-Za-z]|[()].|.)")


class LogError(Exception):
    """The line that is refused, and the reason."""


@dataclasses.dataclass
class Check:
    text: str
    ok: bool
    skipped: Optional[str] = None  # the reason


@dataclasses.dataclass
class Suite:
    name: str
    ok: bool = False
    skipped: Optional[str] = None
    checks: List[Check] = dataclasses.field(default_factory=list)
    notes: List[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Metric:
    value: int
    unit: str


@dataclasses.dataclass
class Log:
    verdict: str = ""
    summary: List[str] = dataclasses.field(default_factory=list)  # notes before the plan
    notes: List[str] = dataclasses.field(default_factory=list)  # all notes, without '# '
    suites: Dict[str, Suite] = dataclasses.field(default_factory=dict)
    metrics: Dict[str, Metric] = dataclasses.field(default_factory=dict)
    failed: List[Tuple[str, str]] = dataclasses.field(default_factory=list)  # name, reason
    bail_out: Optional[str] = None  # the reason

    def count(self, level: str, what: str) -> int:
        """Returns how many experiments or checks passed, failed or were skipped ('skip')."""
        items = list(self.suites.values())
        if level == "checks":
            items = [check for suite in items for check in suite.checks]
        return sum(what == ("skip" if i.skipped is not None else "pass" if i.ok else "fail")
                   for i in items)


class _Reader:
    """The lines of the log, one at a time."""

    def __init__(self, text: str):
        if not text.endswith("\n"):
            text += "\x1a"  # cut inside a line: no printable line, so it is refused below
        lines = text.replace("\r\n", "\n").split("\n")
        self.lines = lines[:-1] if lines[-1] == "" else lines
        self.at = 0
        # Skips the firmware's own output, whose last line may be unfinished.
        while self.at < len(self.lines):
            if CONTROL_SEQUENCE.sub("", self.lines[self.at]) == VERSION:
                break
            self.at += 1
        else:
            raise LogError(f"no line '{VERSION}'")
        self.at += 1

    def fail(self, message: str):
        raise LogError(f"line {self.at}: {message}")

    def peek(self) -> Optional[str]:
        return self.lines[self.at] if self.at < len(self.lines) else None

    def next(self, wanted: str) -> str:
        line = self.peek()
        self.at += 1
        if line is None:
            self.fail(f"the log is cut off; {wanted} is missing")
        if not all(" " <= letter <= "~" for letter in line) or not line.strip() or (
                line.endswith(" ") and not line.strip().startswith("#")):
            self.fail(f"not a line of text: {line!r}")
        return line

    def expect(self, line: str):
        found = self.next(f"'{line}'")
        if found != line:
            self.fail(f"'{line}' is missing; found '{found}'")

    def match(self, pattern, wanted: str, indent: str = ""):
        line = self.next(wanted)
        found = pattern.fullmatch(line[len(indent):]) if line.startswith(indent) else None
        if found is None:
            self.fail(f"{wanted} is missing; found '{line}'")
        return found


def _note(reader: _Reader, log: Log, suite: Optional[Suite]):
    """Takes one diagnostic line, which is known to begin with '#'."""
    line = reader.next("a note").lstrip(" ")
    if not line.startswith("# "):
        reader.fail(f"a note begins with '# ': '{line}'")
    text = line[2:]
    if text.startswith(("verdict:", "totals:", "failed:")):
        reader.fail(f"too early: '{line}'")
    log.notes.append(text)
    (log.summary if suite is None and not log.suites else suite.notes if suite else []).append(text)
    if not text.startswith("metric"):
        return
    metric = METRIC.fullmatch(text[len("metric "):])
    if metric is None:
        reader.fail(f"not '# metric experiment.name=number unit': '{line}'")
    name = f"{metric[1]}.{metric[2]}"
    if suite is None:
        reader.fail(f"a figure outside of an experiment: {name}")
    if name in log.metrics:
        reader.fail(f"a figure twice: {name}")
    log.metrics[name] = Metric(int(metric[3]), metric[4])
    suite.notes.append(text)


def _notes(reader: _Reader, log: Log, suite: Optional[Suite] = None):
    """Takes the notes up to the next line of another kind, with the indentation of the suite."""
    indent = INDENT if suite else ""
    while True:
        line = reader.peek()
        if line is None or not line.startswith(indent + "#"):
            return
        if not suite and re.match(r"# (verdict|totals|failed):", line):
            return
        _note(reader, log, suite)


def _split_skip(reader: _Reader, text: str, ok: bool):
    skip = SKIP.fullmatch(text)
    if skip is None:
        if "#" in text:
            reader.fail(f"a directive other than '# SKIP reason': '{text}'")
        return text, None
    if not ok:
        reader.fail("skipped and not ok")
    return skip[1], skip[2]


def _checks(reader: _Reader, log: Log, suite: Suite):
    """The lines inside an experiment, which its version line has begun."""
    planned = int(reader.match(PLAN, "the experiment's plan", INDENT)[1])
    _notes(reader, log, suite)
    for number in range(1, planned + 1):
        result = reader.match(RESULT, f"check {number} of {planned}", INDENT)
        if int(result[2]) != number:
            reader.fail(f"check {result[2]} where {number} of {planned} is due")
        text, reason = _split_skip(reader, result[3], not result[1])
        suite.checks.append(Check(text, not result[1], reason))
        _notes(reader, log, suite)


def _suite_result(reader: _Reader, log: Log, suite: Suite, number: int, planned: int):
    result = reader.match(RESULT, f"experiment {number} of {planned}")
    if int(result[2]) != number:
        reader.fail(f"experiment {result[2]} where {number} of {planned} is due")
    suite.ok = not result[1]
    suite.name, suite.skipped = _split_skip(reader, result[3], suite.ok)
    if not NAME.fullmatch(suite.name):
        reader.fail(f"not an experiment's name: '{suite.name}'")
    if suite.name in log.suites:
        reader.fail(f"an experiment twice: {suite.name}")
    if suite.ok != all(check.ok for check in suite.checks):
        reader.fail(f"the result of {suite.name} is not that of its checks")
    if bool(suite.checks) + bool(suite.skipped) == 0:
        reader.fail(f"{suite.name} has no checks and is not skipped")
    if suite.checks and (suite.skipped is not None) != all(
            check.skipped is not None for check in suite.checks):
        reader.fail(f"{suite.name} is skipped exactly if all its checks are")
    for text in suite.notes:
        if text.startswith("metric ") and not text.startswith(f"metric {suite.name}."):
            reader.fail(f"a figure of another experiment inside {suite.name}: {text}")
    log.suites[suite.name] = suite


def _failures(reader: _Reader, log: Log):
    """Takes the failures that the end of the log names: those of all failed experiments, in order,
    and those of the run."""
    due = [name for name, suite in log.suites.items() if not suite.ok]
    while (reader.peek() or "").startswith("# failed:"):
        line = reader.next("a failure")
        if MORE_FAILED.fullmatch(line):
            return
        found = FAILED.fullmatch(line)
        if found is None:
            reader.fail(f"not '# failed: name: reason': '{line}'")
        if found[1] != "the run":
            if found[1] not in due[:1]:
                reader.fail(f"{found[1]} is not the next experiment that failed")
            due.pop(0)
            checks = log.suites[found[1]].checks
            if found[3] is not None and (int(found[3]) > len(checks)
                                         or checks[int(found[3]) - 1].ok):
                reader.fail(f"{found[1]}: check {found[3]} has not failed")
        log.failed.append((found[1], found[2]))
    if due:
        reader.fail(f"the end names no failure of {due[0]}")


def _suites(reader: _Reader, log: Log):
    _notes(reader, log)
    planned = int(reader.match(PLAN, "the plan")[1])
    for number in range(1, planned + 1):
        suite = Suite("")
        if log.suites:
            _notes(reader, log)
        if reader.peek() == INDENT + VERSION:
            reader.next("")
            _checks(reader, log, suite)
        _suite_result(reader, log, suite, number, planned)
    _notes(reader, log)
    _failures(reader, log)
    for level in ("experiments", "checks"):
        totals = reader.match(TOTALS, f"the totals of {level}")
        if totals[1] != level:
            reader.fail(f"the totals of {level} are due")
        for what, printed in zip(("pass", "fail", "skip"), totals.groups()[1:]):
            if int(printed) != log.count(level, what):
                reader.fail(f"totals of {level}: {what} is {printed}, "
                            f"the log has {log.count(level, what)}")


def _end(reader: _Reader, log: Log):
    """The verdict line, and nothing after it."""
    line = reader.next("the verdict")
    log.verdict = line[len("# verdict: "):]
    if not line.startswith("# verdict: ") or log.verdict not in VERDICTS:
        reader.fail(f"the verdict is missing; found '{line}'")
    if reader.peek() is not None:
        reader.at += 1
        reader.fail(f"something follows the verdict: {reader.lines[reader.at - 1]!r}")


def _bailed_out(reader: _Reader, log: Log):
    """Reads a log that ends by 'Bail out!': takes the notes and no results, since a crash may cut
    any line before it."""
    while not reader.peek().startswith("Bail out!"):
        line = reader.peek().lstrip(" ")
        if line.startswith("# "):
            log.notes.append(line[2:])
            if re.match(r"# (verdict|totals):", line):
                reader.at += 1
                reader.fail("'Bail out!' after the end")
        reader.at += 1
    line = reader.next("'Bail out!'")
    log.bail_out = line[len("Bail out! "):]
    if not line.startswith("Bail out! ") or not log.bail_out:
        reader.fail("'Bail out!' without a reason")
    _end(reader, log)
    if log.verdict not in ("crash", "fail"):
        reader.fail(f"'Bail out!' and the verdict {log.verdict}")


def parse(text: str) -> Log:
    reader = _Reader(text)
    log = Log()
    if any(line.startswith("Bail out!") for line in reader.lines[reader.at:]):
        _bailed_out(reader, log)
        return log
    _suites(reader, log)
    _end(reader, log)
    failed, passed = log.count("experiments", "fail"), log.count("experiments", "pass")
    failed = failed or log.failed or any(note.startswith("failure: ") for note in log.notes)
    verdict = "fail" if failed else "pass" if passed else "skipped"
    if log.verdict != verdict:
        reader.fail(f"the verdict is {log.verdict}, the results say {verdict}")
    return log


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="log.py", description="Check that a log is whole and allowed by docs/log.md, and "
        "print its verdict with the numbers of checks and figures.",
        epilog="Exit status: 0 the verdict is pass, 1 it is another one, 2 the log is refused or "
        "cannot be read.")
    parser.add_argument("file", nargs="?", metavar="FILE",
                        help="the log; standard input without it")
    options = parser.parse_args()
    try:
        data = Path(options.file).read_bytes() if options.file else sys.stdin.buffer.read()
        log = parse(data.decode("latin-1"))
    except (LogError, OSError) as error:
        words = f"{options.file}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"log.py: {words}", file=sys.stderr)
        return 2
    print(f"{log.verdict}: {log.count('checks', 'pass')} checks passed, "
          f"{log.count('checks', 'fail')} failed, {log.count('checks', 'skip')} skipped, "
          f"{len(log.metrics)} figures")
    return 0 if log.verdict == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
