"""The report of a run as one HTML page, from its log: no script, and nothing from elsewhere."""

import json
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import log as reader
import pictures
import svg

HERE = Path(__file__).resolve().parent
VERDICTS = {"pass": "Everything holds", "fail": "Something failed", "crash": "The run crashed",
            "skipped": "Nothing could run"}
COUNTED = "an emulator counts instructions"
COSTS = {True: "Costs are <b>instructions</b>, counted by the emulator: equal on every machine, and no "
               "measure of caches, TLBs or disks.",
         False: "In this run a tick is <b>time</b>: counts, bytes and frames hold, and costs are left "
                "out. <code>make report</code> boots with counted instructions."}
EXPERIMENT = re.compile(r'\.name = "([a-z0-9-]+)"')
escape = svg.escape


def built_experiments(root: Path = HERE.parents[1]) -> Set[str]:
    """The names of all experiments of this tree, of which a run may have had only some."""
    return {name for source in (root / "tests/experiments").rglob("*.c")
            for name in EXPERIMENT.findall(source.read_text("utf-8"))}


class Theme(NamedTuple):
    seed: str  # number of the forum thread; `-` for none
    title: str
    entries: List[Tuple[str, str]]  # experiment, and its question


def read_themes(path: Path = HERE / "questions.tsv") -> List[Theme]:
    themes: List[Theme] = []
    for line in path.read_text("utf-8").splitlines():
        first, *rest = line.split("\t")
        if first == "theme":
            themes.append(Theme(rest[0], rest[1], []))
        elif line.startswith("\t"):
            themes[-1].entries.append((rest[0], rest[1] if len(rest) > 1 else ""))
    return themes


def read_linux(path: Path) -> Dict[str, pictures.LinuxRow]:
    rows = {}
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, *figures = line.split("\t")[:4]
            stock, lean, clearing = (None if figure == "-" else int(figure) for figure in figures)
            rows[name] = pictures.LinuxRow(stock, lean, clearing or 0)
    return rows


class Page:
    """The page of one log. A log that is refused still has its lines, verdict and reason."""

    def __init__(self, text: str, bench: Dict[str, int], linux: Dict[str, pictures.LinuxRow]):
        self.lines = text.replace("\r", "").split("\n")
        self.bench = bench
        self.linux = linux
        self.refused = ""
        try:
            self.log = reader.parse(text)
        except reader.LogError as error:
            self.log = reader.Log(verdict="")
            self.refused = str(error)
        self.built = built_experiments()
        # A log that ended by 'Bail out!' has no summary apart.
        self.summary = self.log.summary or self.log.notes
        self.counted = any(COUNTED in note for note in self.summary)
        self.themes = self._themes()

    def _themes(self) -> List[Theme]:
        """Returns the themes; the last one takes the experiments that no other has."""
        themes = read_themes()
        named = {name for theme in themes for name, _ in theme.entries}
        themes[-1].entries.extend((name, "") for name in self.log.suites if name not in named)
        return themes

    def note(self, beginning: str) -> str:
        return next((note for note in self.summary if note.startswith(beginning)), "")

    def line_of(self, beginning) -> int:
        """Returns the number of the first line that begins so, or in one of these ways; else 1."""
        return next((number for number, line in enumerate(self.lines, 1)
                     if line.startswith(beginning)), 1)

    def open_questions(self, theme: Theme) -> List[Tuple[str, str]]:
        """Returns the questions that no experiment answers yet."""
        return [(name, question) for name, question in theme.entries
                if question and name not in self.log.suites and name not in self.built]

    def _asked(self, name: str) -> bool:
        """Returns whether a forum thread asks the question of this experiment."""
        return any(theme.seed != "-" and name in (entry for entry, _ in theme.entries)
                   for theme in self.themes)

    # ---- an experiment ----

    def _chip(self, suite: reader.Suite) -> str:
        failed = sum(not check.ok for check in suite.checks)
        skipped = sum(check.skipped is not None for check in suite.checks)
        if failed or not suite.ok:
            return f'<span class="chip fail">✗ {failed} of {len(suite.checks)} checks failed</span>'
        if suite.skipped is not None:
            return '<span class="chip">– skipped</span>'
        more = f", {skipped} not made" if skipped else ""
        return (f'<span class="chip pass">✓ {len(suite.checks) - skipped} of {len(suite.checks)} checks'
                f"{more}</span>")

    def _again(self, name: str) -> str:
        return f"<p>To repeat: <code>{escape(self.log.again(name))}</code></p>"

    def _sentence(self, suite: reader.Suite) -> str:
        answer = suite.answer
        if not suite.ok:
            failed = "".join(f'<li><a href="#L{check.line}">{escape(check.text)}</a></li>'
                             for check in suite.checks if not check.ok)
            return (f'<p class="answer">No answer: a check failed.</p><ul class="failures">{failed}'
                    f"</ul>{self._again(suite.name)}")
        if answer is None:
            return f'<p class="answer">No answer: {escape(suite.skipped or "it did not run")}.</p>'
        if answer.missing:
            reason = answer.text.partition("; ")[2]
            return f'<p class="answer">No answer: {escape(reason)}</p>'
        text = answer.text[:1].upper() + answer.text[1:]
        body = f'<p class="answer">{escape(text)}</p>'
        if answer.shipped:
            body += f'<p class="shipped-line"><b>● Shipped:</b> {escape(answer.shipped)}</p>'
        if answer.limit:
            body += (f'<p class="limit"><b>What this does not say:</b> {escape(answer.limit)}.</p>')
        return body

    def _figures(self, suite: reader.Suite) -> str:
        used = suite.answer.sources if suite.answer else []
        rows = []
        for full, metric in self.log.metrics.items():
            experiment, name = full.split(".", 1)
            if experiment != suite.name or name.endswith(".of_floor"):
                continue
            noise = metric.unit in reader.TIMES
            floors = self.log.metrics.get(full + ".of_floor")
            note = ("time: do not quote" if noise else
                    f"{floors.value:,.2f} floors" if floors and self.counted else "")
            kind = "used" if name in used else "noise" if noise else ""
            rows.append(f'<tr class="{kind}"><td><a href="#L{metric.line}">{escape(name)}</a></td>'
                        f'<td class="number">{metric.value:,} {escape(metric.unit)}</td>'
                        f'<td class="number">{note}</td></tr>')
        return (f'<div class="wide"><table class="figures">{"".join(rows)}</table></div>' if rows
                else "<p>This experiment prints no figures.</p>")

    def _checks(self, suite: reader.Suite) -> str:
        items = []
        for check in suite.checks:
            kind = "skip" if check.skipped is not None else "" if check.ok else "fail"
            reason = f" (not made: {escape(check.skipped)})" if check.skipped is not None else ""
            items.append(f'<li class="{kind}"><a href="#L{check.line}">{escape(check.text)}</a>'
                         f"{reason}</li>")
        return f'<ol class="checks">{"".join(items)}</ol>' if items else ""

    def article(self, suite: reader.Suite) -> str:
        sources = suite.answer.sources if suite.answer and self._asked(suite.name) else []
        picture = pictures.draw(suite.name, sources, self.log.metrics, self.bench,
                                self.linux) if suite.ok else ""
        count = sum(name.startswith(suite.name + ".") and not name.endswith(".of_floor")
                    for name in self.log.metrics)
        line = suite.line or self.line_of(f"ok {list(self.log.suites).index(suite.name) + 1} ")
        figure = f"<figure>{picture}</figure>" if picture else ""
        return (f'<article id="{suite.name}" class="{"drawn" if picture else "plain"}">'
                f'<div class="words"><h3>{escape(suite.question)}</h3>{self._sentence(suite)}'
                f'<p class="meta">{self._chip(suite)} <code>{suite.name}</code> · '
                f'<a href="#L{line}">log, line {line}</a></p></div>{figure}'
                f"<details><summary>{count} figures, {len(suite.checks)} checks</summary>"
                f"{self._figures(suite)}{self._checks(suite)}</details></article>")

    # ---- the parts of the page ----

    def _theme(self, number: int, theme: Theme) -> str:
        ran = [self.log.suites[name] for name, _ in theme.entries if name in self.log.suites]
        left = self.open_questions(theme)
        if not ran:
            return ""
        answered = sum(bool(suite.answer and not suite.answer.missing) for suite in ran)
        seed = (f" <small>forum thread {theme.seed}: {answered} of {len(theme.entries)} answered</small>"
                if theme.seed != "-" else "")
        items = "".join(f'<li id="{name}">{escape(question)} <code>{name}</code></li>'
                        for name, question in left)
        asked = (f'<article class="open plain"><div class="words"><h3>Asked, and not answered yet</h3>'
                 f"<ul>{items}</ul></div></article>") if left else ""
        return (f'<section id="theme{number}"><h2>{escape(theme.title)}{seed}</h2>'
                f'{"".join(map(self.article, ran))}{asked}</section>')

    def _failures(self) -> str:
        items = []
        for name, reason in self.log.failed:
            place = f"#{name}" if name in self.log.suites else f"#L{self.line_of('# failed:')}"
            again = self._again(name) if name in self.log.suites else ""
            items.append(f'<li><a href="{place}"><b>{escape(name)}</b></a>: {escape(reason)}{again}'
                         "</li>")
        if self.refused:
            items.append(f"<li>The log is refused: {escape(self.refused)}</li>")
        if self.log.bail_out:
            line = self.line_of(("Bail out!", "# ! Bail out!"))
            broken = self.log.broken_off
            again = f"<br>It was inside {escape(broken)}.{self._again(broken)}" if broken else ""
            items.append(f'<li><a href="#L{line}"><b>Bail out</b></a>: {escape(self.log.bail_out)}'
                         f"{again}</li>")
        return f'<ul class="failures">{"".join(items)}</ul>' if items else ""

    def _header(self, sections: List[Tuple[str, str]]) -> str:
        count = self.log.count
        verdict = self.log.verdict or "refused"
        word = VERDICTS.get(verdict, "The log is cut off or not one of Faultline's")
        sign = "✓" if verdict == "pass" else "✗"
        machine = " · ".join(filter(None, (
            self.note("Faultline "), self.note("processor: ")[11:], self.note("seed: "),
            next((note[8:].strip() for note in self.summary if "free to use" in note), ""))))
        links = "".join(f'<a href="#{place}">{escape(title)}</a>' for place, title in sections)
        return (f'<header><p class="brand">Faultline · report of a run</p><h1 class="{verdict}">{sign} '
                f'{word}</h1><p class="sums"><b>{count("experiments", "pass")}</b> of '
                f'{len(self.log.suites)} experiments pass, <b>{count("checks", "pass")}</b> checks hold, '
                f'<b>{count("checks", "fail")}</b> fail, <b>{count("checks", "skip")}</b> could not be '
                f"made here.</p>{self._failures()}"
                f'<p class="clock">{COSTS[self.counted]}</p><p class="machine">{escape(machine)}</p>'
                f"<nav>{links}</nav></header>")

    def _unchecked(self) -> str:
        rows = []
        for suite in self.log.suites.values():
            if not suite.checks and suite.skipped is not None:
                rows.append(f'<tr><td><a href="#{suite.name}">{suite.name}</a></td><td>all of it</td>'
                            f"<td>{escape(suite.skipped)}</td></tr>")
            rows += [f'<tr><td><a href="#{suite.name}">{suite.name}</a></td><td><a href="#L{check.line}">'
                     f"{escape(check.text)}</a></td><td>{escape(check.skipped)}</td></tr>"
                     for check in suite.checks if check.skipped is not None]
        body = (f'<div class="wide"><table class="figures">{"".join(rows)}</table></div>' if rows
                else "<p>Every check was made.</p>")
        return f'<section id="unchecked"><h2>Not checked here, and why</h2>{body}</section>'

    def _log(self) -> str:
        lines = "".join(f'<span id="L{number}"><a href="#L{number}">{number:5}</a> '
                        f"{escape(_printable(line))}</span>"
                        for number, line in enumerate(self.lines, 1) if line)
        return f'<section id="log"><h2>The log</h2><pre>{lines}</pre></section>'

    def html(self) -> str:
        themes = [(number, theme, self._theme(number, theme))
                  for number, theme in enumerate(self.themes)]
        sections = [(f"theme{number}", theme.title) for number, theme, body in themes if body]
        sections += [("unchecked", "Not checked here"), ("log", "Log")]
        style = (HERE / "page.css").read_text("utf-8")
        return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
                '<meta name="viewport" content="width=device-width,initial-scale=1">'
                f"<title>Faultline: {self.log.verdict or 'refused'}</title><style>{style}</style></head>"
                f"<body>{svg.PATTERNS}{self._header(sections)}<main>"
                f'{"".join(body for _, _, body in themes)}{self._unchecked()}{self._log()}</main></body>'
                "</html>\n")


def _printable(line: str) -> str:
    """A line without the firmware's control sequences."""
    line = reader.CONTROL_SEQUENCE.sub("", line)
    return re.sub(r"[^\x20-\x7e]", "?", line)


def read_bench(path: Optional[Path]) -> Dict[str, int]:
    """The medians in instructions of build/bench.jsonl; none without the file."""
    if path is None or not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return {row["op"]: row["median"] for row in rows
            if row.get("unit") == "instructions" and "median" in row}
