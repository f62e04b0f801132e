"""docs/answers.md: each question of the forum threads with its answer, from a run that counts instructions."""

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
NUMBER = re.compile(r"[0-9][0-9,.]*")
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


def differences(found: str, expected: str) -> List[str]:
    """Returns the lines that differ. Numbers count only where the same tools made both pages."""
    def lines(text: str) -> List[str]:
        made = next((line for line in text.splitlines() if line.startswith("Made with")), "")
        same = made and made in found and made in expected
        return [line if same else NUMBER.sub("N", line) for line in text.splitlines()
                if line != made]

    mine, theirs = lines(found), lines(expected)
    return [f"{line}" for line in mine if line not in theirs] + [
        f"missing: {line}" for line in theirs if line not in mine]


def read(root: Path) -> str:
    return (root / FILE).read_text("utf-8")

