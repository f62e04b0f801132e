"""docs/answers.md: each question of the forum threads with its answer, from a run that counts instructions."""

import math
import re
from pathlib import Path
from typing import List

import page as pages

FILE = "docs/answers.md"
HEAD = """\
# Answers

`make answers` writes this page from a run of every experiment under QEMU's `-icount`, and the test `report` compares it with
such a run. Each answer is the one in the log, which refuses a number that is no figure of the run ([log.md](log.md)).
`make report` makes a page with the pictures, all figures and the checks behind each answer.

Made with {made}.
"""
README = "README.md"
INDEX_BEGIN = "<!-- the questions, by make answers -->\n"
INDEX_END = "<!-- end of the questions -->\n"
TOLERANCE = 0.03  # of a number in an answer
ANY = math.inf
NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")
WIDTH = 132


def _wrap(text: str) -> List[str]:
    lines: List[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= WIDTH:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _entry(page: pages.Page, name: str) -> List[str]:
    suite = page.log.suites[name]
    answer = suite.answer
    text = "No answer." if answer is None else answer.text
    if answer and answer.missing:
        text = "No answer: " + answer.text.partition("; ")[2]
    lines = [f"### {suite.question}", "", *_wrap(text[:1].upper() + text[1:])]
    if answer and answer.shipped:
        lines += ["", *_wrap(f"Shipped: {answer.shipped}.")]
    if answer and answer.limit:
        lines += ["", *_wrap(f"What this does not say: {answer.limit}.")]
    return lines + ["", f'`make report OPTIONS="run={name}"`', ""]


def write(page: pages.Page, made: str) -> str:
    """Returns the text of the page."""
    lines = HEAD.format(made=made).splitlines() + [""]
    for theme in page.themes:
        if theme.seed == "-":
            continue
        lines += [f"## {theme.title}", ""]
        for name, question in theme.entries:
            if name in page.log.suites:
                lines += _entry(page, name)
        asked = [f"- {question} (`{name}`)" for name, question in page.open_questions(theme)]
        if asked:
            lines += ["Open:", "", *asked, ""]
    return "\n".join(lines).rstrip() + "\n"


def place(heading: str) -> str:
    """The name under which GitHub links to a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def index(page: pages.Page) -> List[str]:
    """Returns the list of README: each forum thread with its questions, which lead to their answers."""
    lines = []
    for theme in page.themes:
        asked = [page.log.suites[name].question for name, _ in theme.entries if name in page.log.suites]
        if theme.seed != "-" and asked:
            lines += [f"- {theme.title}:"] + [
                f"  - [{question}]({FILE}#{place(question)})" for question in asked]
    return lines


def index_of(text: str) -> List[str]:
    """Returns the list that README has."""
    return text.partition(INDEX_BEGIN)[2].partition(INDEX_END)[0].splitlines()


def write_index(text: str, page: pages.Page) -> str:
    """Returns README with the list of this run."""
    before, begin, rest = text.partition(INDEX_BEGIN)
    return before + begin + "\n".join(index(page)) + "\n" + INDEX_END + rest.partition(INDEX_END)[2]


def _same(mine: str, theirs: str, tolerance: float) -> bool:
    """Whether two paragraphs have the same words, and numbers that differ by at most a part."""
    if NUMBER.sub("N", mine) != NUMBER.sub("N", theirs):
        return False
    pairs = zip(*([float(number.replace(",", "")) for number in NUMBER.findall(text)]
                  for text in (mine, theirs)))
    return tolerance == ANY or all(abs(one - other) <= tolerance * other for one, other in pairs)


def differences(found: str, expected: str, tolerance: float = TOLERANCE) -> List[str]:
    """Returns the paragraphs that differ. A number may differ by a part, for a commit that moves a few
    instructions changes no answer; where other tools made one of the pages, numbers do not count."""
    def paragraphs(text: str) -> List[str]:
        parts = (" ".join(part.split()) for part in text.split("\n\n"))
        return [part for part in parts if not part.startswith("Made with")]

    made = [line for line in expected.splitlines() if line.startswith("Made with")]
    if not made or made[0] not in found:
        tolerance = ANY
    mine, theirs = paragraphs(found), paragraphs(expected)
    return [part for part in mine if not any(_same(part, other, tolerance) for other in theirs)] + [
        f"missing: {part}" for part in theirs if not any(_same(other, part, tolerance) for other in mine)]


def read(root: Path) -> str:
    return (root / FILE).read_text("utf-8")

