#!/usr/bin/env python3
"""Reads the log of a run strictly: docs/log.md in code.

parse() returns a Log, or raises LogError that names the bad line. A line that the specification
does not allow is an error, and so is a log without its last line.
"""

import argparse
import codecs
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import BinaryIO, Dict, List, Optional, Tuple
from xml.etree import ElementTree

VERSION = "KTAP version 1"
INDENT = "    "
VERDICTS = ("pass", "fail", "crash", "skipped")
# A number has at most 20 digits (2^64); Python refuses to convert thousands.
RESULT = re.compile(r"(not )?ok ([1-9][0-9]{0,19}) (\S.*)")
SKIP = re.compile(r"(.*\S) # SKIP (\S.*)")
PLAN = re.compile(r"1\.\.([1-9][0-9]{0,19})")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
METRIC = re.compile(r"([a-z0-9][a-z0-9-]*)\.([a-z0-9][a-z0-9_.-]*)=([0-9]{1,20}(?:\.[0-9]{2})?) "
                    r"([A-Za-z0-9%/_-]+)")
ANSWER = re.compile(r"(answer|from|shipped|limit): (\S.*)")
TOTALS = re.compile(r"# totals: (experiments|checks) pass:([0-9]{1,20}) fail:([0-9]{1,20}) "
                    r"skip:([0-9]{1,20})")
FAILED = re.compile(r"# failed: (the run|[a-z0-9][a-z0-9-]*): ((?:check ([0-9]{1,20}): )?(\S.*))")
SEED = re.compile(r"seed: ([0-9a-fx]{1,20})")
BROKEN_OFF = re.compile(r"experiment: ([a-z0-9-]+), after [0-9]+ of [0-9]+ checks")
MORE_FAILED = re.compile(r"# failed: [0-9]+ more")
CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-9;=?]*[A-Za-z]|[()].|.)")


SIZE_MOST = 64 << 20  # bytes; nothing that long is the log of a run
ANSWER_LENGTH = 160
HEAD_LENGTH = 48
# A number in an answer; one with a unit of size is a parameter of the question.
NUMBER = re.compile(r"(?<![\w.,])[0-9][0-9,]*(?:\.[0-9]+)?(?![\w])")
PARAMETER = re.compile(r"[0-9][0-9,.]*(?: [KMGT]iB| bits?)\b")
# Units of time: they are noise in a log, and no answer rests on them.
TIMES = ("ticks", "ns", "per-second")
# Figures that differ between two runs of one image under -icount, by name: what decides them is the
# host's disk, the order in which processors get their turn, which frames a cache happens to have, or
# the size of the image, which leaves more or less memory.
VARYING = re.compile(
    r"fault-around\..*|heap-pause\..*\.(p999|longest)|table-ledger\.ask_.*|overcommit\.full\..*|"
    r"swap\.(read|write)|wire\.(fork|writes_that_waited)|shootdown\..*\.(pages.*|whole)|"
    r"frame-stress(-minute)?\.(steps|processors)|zero-ladder\.sweep\..*|snapshot\.restores\..*|"
    r"shared-map\.hand_over.*|zeroing\.clear_stosb|ticket-exit\.(live_counts|full_scan|lean_scan|owner_list|lazy\.sweep)\.\w+")

# Costs that differ by up to 20 % between two such runs: what a page takes depends on whether its frame
# was cleared before, and that on when the host's disk has ended a command.
NOISY = re.compile(
    r"fork-ways(-all)?\.(\w+\.write[0-9]+|eager\.\w+|leaf_table\.(fork|drop))\..*|"
    r"fork-ways(-all)?\.page\.(fork|drop)\.sparse_1t|"
    r"snapshot\.(restore\.([4-9]|[0-9]{2,})|a_dirtied_page)|heap-pause\..*\.(median|giving_back)|"
    r"large-page\.(touch_mib\..*|fork_and_split)|demand-zero\.touch_and_verify|fault-device\.page|"
    r"fault-dumb\.\w+\.first_touch|"
    r"vma-structure\.(list|space)\.\w+\.[0-9]+|ticket-range\.split\.\w+|space-limit\.create")


class LogError(Exception):
    """The line that is refused, and the reason."""


@dataclasses.dataclass
class Check:
    text: str
    ok: bool
    skipped: Optional[str] = None  # the reason
    line: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass
class Answer:
    """The sentence, and the figures that its numbers come from."""

    text: str
    sources: List[str] = dataclasses.field(default_factory=list)
    shipped: Optional[str] = None
    limit: Optional[str] = None

    @property
    def head(self) -> str:
        """Returns the part of the answer that must be true by itself: up to its first ';'."""
        return self.text.split(";")[0].removesuffix(".")

    @property
    def missing(self) -> bool:
        return self.head == "none"


@dataclasses.dataclass
class Suite:
    name: str
    ok: bool = False
    skipped: Optional[str] = None
    checks: List[Check] = dataclasses.field(default_factory=list)
    notes: List[str] = dataclasses.field(default_factory=list)
    answer: Optional[Answer] = None
    line: int = 0  # of its first line in the file

    @property
    def question(self) -> str:
        return next((note for note in self.notes if note.endswith("?")), self.name)


@dataclasses.dataclass
class Metric:
    value: float  # whole, but for a unit of floors
    unit: str
    line: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass
class Log:
    verdict: str = ""
    summary: List[str] = dataclasses.field(default_factory=list)  # notes before the plan
    notes: List[str] = dataclasses.field(default_factory=list)  # all notes, without '# '
    suites: Dict[str, Suite] = dataclasses.field(default_factory=dict)
    metrics: Dict[str, Metric] = dataclasses.field(default_factory=dict)
    failed: List[Tuple[str, str]] = dataclasses.field(default_factory=list)  # name, reason
    bail_out: Optional[str] = None  # the reason
    after: List[str] = dataclasses.field(default_factory=list)  # behind the verdict, without '# ! '

    @property
    def seed(self) -> str:
        found = (SEED.fullmatch(note) for note in self.summary or self.notes)
        return next((match[1] for match in found if match), "1")

    @property
    def broken_off(self) -> str:
        """The experiment that a crash or a deadline has broken off; an empty text without one."""
        found = (BROKEN_OFF.fullmatch(note) for note in self.notes)
        return next((match[1] for match in found if match), "")

    def again(self, name: str) -> str:
        """The command that runs an experiment of this log again."""
        return f'make run OPTIONS="run={name} seed={self.seed}"'

    def count(self, level: str, what: str) -> int:
        """Returns how many experiments or checks passed, failed or were skipped ('skip')."""
        items = list(self.suites.values())
        if level == "checks":
            items = [check for suite in items for check in suite.checks]
        return sum(what == ("skip" if i.skipped is not None else "pass" if i.ok else "fail")
                   for i in items)


# The last line of a log that was longer than the memory for it: what followed may be a failure.
KEPT_END = "# the kept log ends here: it has no room for more"
# A command of the prompt, a line that it prints, and what happened to the run after its verdict.
AFTER_VERDICT = re.compile(r"# ([>|!])( |$)")


class _Reader:
    """The lines of the log, one at a time."""

    def __init__(self, text: str):
        if not text.endswith("\n"):
            text += "\x1a"  # cut inside a line: no printable line, so it is refused below
        lines = text.replace("\r\n", "\n").split("\n")
        self.lines = lines[:-1] if lines[-1] == "" else lines
        self.at = len(self.lines)
        if self.lines[-1:] == [KEPT_END]:
            self.fail("a log that was kept in memory ends here; it had no room for more")
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
        raise LogError(f"line {self.at}: {message if len(message) <= 300 else message[:297] + '...'}")

    def peek(self) -> Optional[str]:
        return self.lines[self.at] if self.at < len(self.lines) else None

    def next(self, wanted: str) -> str:
        line = self.peek()
        self.at += 1
        if line is None:
            self.fail(f"the log is cut off; {wanted} is missing")
        if line.endswith("\x1a") and self.at == len(self.lines):
            self.fail("the log is cut off inside this line")
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
    value = float(metric[3]) if "." in metric[3] else int(metric[3])
    log.metrics[name] = Metric(value, metric[4], reader.at)
    suite.notes.append(text)


def read_text(file: BinaryIO, most: int = SIZE_MOST) -> str:
    """Returns the text of an open file. A log that Windows has saved begins with a byte-order mark.
    Raises LogError for more bytes than the longest log has."""
    data = file.read(most + 1)
    if len(data) > most:
        raise LogError(f"more than {most >> 20} MiB: no log of a run")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def varies(name: str, metric: Metric) -> bool:
    """Returns whether a figure may differ between two runs of one image."""
    return (metric.unit in TIMES or VARYING.fullmatch(name) is not None
            or metric.unit == "instructions" and NOISY.fullmatch(name) is not None)


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _rounded(value: int) -> int:
    """A count of instructions in an answer: above 9,999 it has three digits."""
    unit = 10 ** max(0, len(str(value)) - 3)
    return (value + unit // 2) // unit * unit if value >= 10000 else value


def _shown(figures: List[Metric], decimals: int):
    """Returns all numbers, with this many decimals, that an answer may make from its figures."""
    for a in figures:
        yield _rounded(a.value) if a.unit == "instructions" else a.value
        for b in figures:
            for value in (a.value - b.value, a.value + b.value):
                yield _rounded(value) if a.unit == "instructions" else value
            if b.value:
                scale = 10 ** decimals
                yield (a.value * scale + b.value // 2) // b.value / scale


def _check_answer(reader: _Reader, log: Log, suite: Suite):
    """The rules of docs/log.md for the sentence, whose numbers must be figures of this run."""
    answer = suite.answer
    if not all(check.ok for check in suite.checks):
        reader.fail(f"{suite.name} has an answer, and a check that failed")
    if len(answer.text) > ANSWER_LENGTH:
        reader.fail(f"the answer of {suite.name} has {len(answer.text)} letters, {ANSWER_LENGTH} "
                    "are allowed")
    if len(answer.head) > HEAD_LENGTH:
        reader.fail(f"the head of the answer of {suite.name} has {len(answer.head)} letters, "
                    f"{HEAD_LENGTH} are allowed: '{answer.head}'")
    if not answer.text.endswith("."):
        reader.fail(f"the answer of {suite.name} is no sentence: '{answer.text}'")
    if answer.text.startswith("none") and not re.match(r"none; [^;]+\.$", answer.text):
        reader.fail(f"an answer that is missing has one reason: '{answer.text}'")
    figures = []
    for name in answer.sources:
        full = f"{suite.name}.{name}"
        if full not in log.metrics:
            reader.fail(f"the answer rests on {full}, which is no figure of this run")
        if varies(full, log.metrics[full]):
            reader.fail(f"the answer rests on {full}, which differs from run to run")
        figures.append(log.metrics[full])
    names = {int(number) for name in answer.sources for number in re.findall(r"[0-9]{1,20}", name)}
    for number in [] if answer.missing else NUMBER.findall(PARAMETER.sub("", answer.text)):
        value = float(number.replace(",", ""))
        if value not in names and value not in _shown(figures, _decimals(number)):
            reader.fail(f"the answer of {suite.name} has {number}, which is no figure of this run")


def _read_answer(reader: _Reader, log: Log, suite: Suite):
    """Takes the lines of the answer, which follow the last check and the last figure."""
    parts: Dict[str, str] = {}
    for text in suite.notes:
        found = ANSWER.fullmatch(text)
        if found is None:
            if parts and text.startswith("metric "):
                reader.fail(f"a figure behind the answer of {suite.name}")
            continue
        if found[1] in parts or ("answer" in parts) == (found[1] == "answer"):
            reader.fail(f"out of place: '{text}'")
        parts[found[1]] = found[2]
    if parts:
        suite.answer = Answer(parts["answer"], parts.get("from", "").split(),
                              parts.get("shipped"), parts.get("limit"))
        _check_answer(reader, log, suite)
    elif all(check.ok for check in suite.checks):
        reader.fail(f"{suite.name} has no answer")


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
    suite.line = reader.at
    planned = int(reader.match(PLAN, "the experiment's plan", INDENT)[1])
    _notes(reader, log, suite)
    for number in range(1, planned + 1):
        result = reader.match(RESULT, f"check {number} of {planned}", INDENT)
        if int(result[2]) != number:
            reader.fail(f"check {result[2]} where {number} of {planned} is due")
        text, reason = _split_skip(reader, result[3], not result[1])
        suite.checks.append(Check(text, not result[1], reason, reader.at))
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
    if suite.checks:
        _read_answer(reader, log, suite)
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
    """The verdict line; only commands of the prompt and their output may follow it."""
    line = reader.next("the verdict")
    log.verdict = line[len("# verdict: "):]
    if not line.startswith("# verdict: ") or log.verdict not in VERDICTS:
        reader.fail(f"the verdict is missing; found '{line}'")
    while reader.peek() is not None and AFTER_VERDICT.match(reader.peek()):
        if reader.peek().startswith("# ! "):
            log.after.append(reader.next("a line")[4:])
        else:
            reader.at += 1
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


def _count_after(log: Log):
    """A failure or crash behind the verdict line counts."""
    for line in log.after:
        if line.startswith("# failure: "):
            log.failed.append(("the run", line[len("# failure: "):]))
            log.verdict = "crash" if log.verdict == "crash" else "fail"
        elif line.startswith("Bail out! "):
            log.bail_out = log.bail_out or line[len("Bail out! "):]
            log.verdict = "crash"


def parse(text: str) -> Log:
    log = _parse(text)
    _count_after(log)
    return log


def _parse(text: str) -> Log:
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


def as_json(log: Log) -> str:
    """The whole log for programs: verdict, experiments with checks, answers and figures."""
    return json.dumps({
        "verdict": log.verdict, "bail_out": log.bail_out, "summary": log.summary,
        "failed": [{"name": name, "reason": reason} for name, reason in log.failed],
        "experiments": [{
            "name": suite.name, "ok": suite.ok, "skipped": suite.skipped, "line": suite.line,
            "question": suite.question,
            "answer": dataclasses.asdict(suite.answer) if suite.answer else None,
            "checks": [dataclasses.asdict(check) for check in suite.checks],
        } for suite in log.suites.values()],
        "figures": {name: dataclasses.asdict(metric) for name, metric in log.metrics.items()},
    }, indent=1)


def as_junit(log: Log) -> str:
    """JUnit's XML: a suite for each experiment, a case for each check."""
    root = ElementTree.Element("testsuites", name="faultline",
                               tests=str(sum(map(len, (s.checks for s in log.suites.values())))),
                               failures=str(log.count("checks", "fail")),
                               skipped=str(log.count("checks", "skip")))
    for suite in log.suites.values():
        part = ElementTree.SubElement(
            root, "testsuite", name=suite.name, tests=str(len(suite.checks)),
            failures=str(sum(not check.ok for check in suite.checks)),
            skipped=str(sum(check.skipped is not None for check in suite.checks)))
        for check in suite.checks:
            case = ElementTree.SubElement(part, "testcase", classname=suite.name, name=check.text)
            if not check.ok:
                failure = ElementTree.SubElement(case, "failure", message=check.text)
                failure.text = f"line {check.line} of the log; to repeat: {log.again(suite.name)}"
            elif check.skipped is not None:
                ElementTree.SubElement(case, "skipped", message=check.skipped)
        if suite.answer:
            ElementTree.SubElement(part, "system-out").text = suite.answer.text
    if log.bail_out or (log.verdict == "fail" and not log.count("checks", "fail")):
        part = ElementTree.SubElement(root, "testsuite", name="run", tests="1", errors="1")
        case = ElementTree.SubElement(part, "testcase", classname="run", name="the run ends well")
        reason = log.bail_out or "; ".join(reason for _, reason in log.failed)
        error = ElementTree.SubElement(case, "error", message=reason)
        if log.broken_off:
            error.text = f"inside {log.broken_off}; to repeat: {log.again(log.broken_off)}"
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="log.py", description="Check that a log is whole and allowed by docs/log.md, and "
        "print its verdict with the numbers of checks and figures.",
        epilog="Exit status: 0 the verdict is pass, 1 it is another one, 2 the log is refused or "
        "cannot be read, or the output cannot be written.")
    parser.add_argument("file", nargs="?", metavar="FILE",
                        help="the log; standard input without it")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print all of it as JSON")
    shape.add_argument("--junit", action="store_true", help="print its checks as JUnit's XML")
    options = parser.parse_args()
    sys.stderr.reconfigure(errors="backslashreplace")
    try:
        with open(options.file, "rb") if options.file else sys.stdin.buffer as file:
            log = parse(read_text(file))
    except (LogError, OSError) as error:
        words = f"{options.file}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"log.py: {words}", file=sys.stderr)
        return 2
    if options.json or options.junit:
        print(as_json(log) if options.json else as_junit(log))
        return 0 if log.verdict == "pass" else 1
    print(f"{log.verdict}: {log.count('checks', 'pass')} checks passed, "
          f"{log.count('checks', 'fail')} failed, {log.count('checks', 'skip')} skipped, "
          f"{len(log.metrics)} figures")
    return 0 if log.verdict == "pass" else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ovmf"))
    sys.dont_write_bytecode = True
    import tool
    sys.exit(tool.run("log.py", main, 2))
