#!/usr/bin/python3
"""Tests the report and docs/answers.md with a real run that counts instructions, in a browser.

Debian's own Python, because Selenium is a package of it. Prints TAP.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parents[2]
os.chdir(ROOT)
sys.path[:0] = ["tests/report", "tests/boot", "ovmf"]
sys.dont_write_bytecode = True

import answers  # noqa: E402
import browser  # noqa: E402
import log as reader  # noqa: E402
import page as pages  # noqa: E402
from tap import Tap  # noqa: E402

PLAIN_RUN = "run=ticket-range,ticket-exit,fork-ways,zeroing,spurious,tlb-truth"
# A page broken on purpose, and the finding that it must give. The views take turns, so that each of
# them is seen red; what is faint in light colours is the first one's.
BREAKS = (
    ("wide", "<main>", '<main><p style="width:3000px">wide</p>'),
    ("overlap", 'y="12.0" text-anchor="start">bytes of tickets',
     'y="12.0" text-anchor="start">some words</text><text x="2" y="12">bytes of tickets'),
    ("small", "svg text { font: 11.5px", "svg text { font: 6px"),
    ("cut", '>bytes of tickets and tables</text>',
     ">" + "bytes of tickets and tables " * 6 + "</text>"),
    ("faint", "--quiet: #57606a", "--quiet: #b0b6bd"),
    ("dead", 'href="#log"', 'href="#logs"'),
    ("silent", '<p class="answer">', '<p class="reply">'),
    ("unmarked", 'class="way0"', 'class="way4"'),
    ("script", "<main>", "<main><script>document.title='x'</script>"),
    ("low", "<header>", '<header><p style="height:400px"></p>'),
    ("errors", "<main>", '<main><img src="http://127.0.0.1:9/picture.png">'),
    ("paper", "nav, #log, details { display: none; }", ""),
)
DARK_BREAK = ("faint", "--quiet: #9aa4ad", "--quiet: #4a5158")


def program():
    """tests/report/run as a module."""
    loader = SourceFileLoader("report_run", "tests/report/run")
    module = module_from_spec(spec_from_loader("report_run", loader))
    loader.exec_module(module)
    return module


def failed_log(text: str) -> str:
    """The log of a run in which one check of ticket-range failed."""
    found = re.search(r"    ok (\d+) (.* of them right)\n", text)
    text = text.replace(found[0], "    not" + found[0][3:])
    text = re.sub(r"(    # answer: 4 tickets.*\n(?:    # (?:from|shipped|limit): .*\n)+)", "", text)
    text = re.sub(r"\nok (\d+) ticket-range\n", r"\nnot ok \1 ticket-range\n", text)

    def totals(match):
        return f"{match[1]} pass:{int(match[2]) - 1} fail:1 "

    text = re.sub(r"(# totals: \w+) pass:(\d+) fail:0 ", totals, text)
    text = text.replace("# totals: exp", f"# failed: ticket-range: check {found[1]}: {found[2]}\n"
                        "# totals: exp", 1)
    return text.replace("# verdict: pass", "# verdict: fail")


def recorded_bench() -> Dict[str, int]:
    """The medians of tests/bench/ratchet.tsv, for the pictures that need benchmarks."""
    rows = (line.split("\t") for line in Path("tests/bench/ratchet.tsv").read_text("utf-8").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 3}


def look_at(tap: Tap, shown: browser.Browser, name: str, page: Path):
    for width, scheme in browser.VIEWS:
        findings = shown.look(page, width, scheme)
        for kind, words in browser.WORDS.items():
            tap.check(not findings[kind], f"{name}, {width} {scheme}: {words}",
                      *findings[kind][:5])


def check_breaks(tap: Tap, shown: browser.Browser, html: str, folder: Path):
    """Each check of the browser is seen red."""
    for number, (kind, before, after) in enumerate(BREAKS):
        page = folder / f"broken-{kind}.html"
        page.write_text(html.replace(before, after), "utf-8")
        width, scheme = browser.VIEWS[number % len(browser.VIEWS)]
        found = before in html and shown.look(page, width, scheme)[kind]
        tap.check(found, f"a page broken on purpose is refused, {width} {scheme}: {browser.WORDS[kind]}")
    kind, before, after = DARK_BREAK
    page = folder / "broken-dark.html"
    page.write_text(html.replace(before, after), "utf-8")
    found = before in html and not shown.look(page, 390, "light")[kind] and shown.look(page, 390, "dark")[kind]
    tap.check(found, f"and one that is broken only in the dark: {browser.WORDS[kind]}")


def bad_logs(text: str):
    """Logs that a reader may meet as well: of a crash, cut off, and with contents of a stranger."""
    half = text[:text.index("\n    ok 3 ")]
    long = "word" * 800
    return {
        "crashed": half + f"\n# crash on cpu 0: #PF\n# at 00 {long}\n# experiment: cow, after 2 of 3 checks\nBail out! {long}\n# verdict: crash\n",
        "cut": half,
        "foreign": "<script>document.title = 'x'</script><img src=http://127.0.0.1:9/a.png>\x1b[2J\n"
                   + text.replace("# processor: ", f"# processor: <img src=//127.0.0.1/b.png>{long} ", 1)
                         .replace("    # answer: ", f"    # <b>{long}</b>\n    # answer: ", 1),
    }



def in_browser(tap: Tap, made, folder: Path):
    try:
        shown = browser.Browser()
    except ImportError:
        tap.skip("the pages in a browser", "there is no python3-selenium")
        return
    try:
        for name, html in made.items():
            page = folder / f"{name}.html"
            page.write_text(html, "utf-8")
            look_at(tap, shown, name, page)
        check_breaks(tap, shown, made["passed"], folder)
    finally:
        shown.close()


def check_page(tap: Tap, made):
    """Checks the pages' text, without a browser."""
    tap.check(made["passed"].count('<p class="answer">') >= 36, "every experiment is on the page")
    for theme in pages.read_themes():
        for name in [name for name, _ in theme.entries if theme.seed != "-"]:
            tap.check(f'id="{name}" class="plain"' not in made["passed"], f"{name} has a picture")
    for title in ("Instructions of a fault beside Linux&#x27;s", "Instructions of a fork beside Linux&#x27;s"):
        tap.check(title in made["passed"] and title not in made["failed"],
                  f"with benchmarks there is the picture: {title}")
    tap.check("No answer: a check failed." in made["failed"]
              and "<b>ticket-range</b></a>: check" in made["failed"], "the failed one is named first")
    tap.check(made["failed"].count("make run OPTIONS=&quot;run=ticket-range seed=1&quot;") == 2,
              "with the command to repeat it")
    tap.check("make run OPTIONS=&quot;run=cow seed=1&quot;" in made["crashed"],
              "a crash has the command to repeat it")
    tap.check("costs are left out" in " ".join(made["plain"].split())
              and "time: do not quote" in made["plain"], "a plain run leaves costs out")
    tap.check("The log is refused" in made["cut"], "a log that is cut off has a page, which says so")
    tap.check("The run crashed" in made["crashed"], "so has a crash")
    tap.check("not answered yet" not in made["plain"] and "Can a bad write" not in made["plain"],
              "a run of a few experiments calls no question open")


def check_answers(tap: Tap, text: str, run):
    page = pages.Page(text, {}, {})
    expected = answers.write(page, run.made_with())
    differ = answers.differences(answers.read(ROOT), expected)
    tap.check(not differ, f"{answers.FILE} is that of a run; if not, make answers", *differ[:8])
    readme = (ROOT / answers.README).read_text("utf-8")
    listed = answers.index_of(readme)
    tap.check(listed and listed == answers.index(page), "README lists its questions; if not, make answers",
              *set(answers.index(page)) ^ set(listed))
    headings = {answers.place(line[4:]) for line in answers.read(ROOT).splitlines() if line.startswith("### ")}
    links = set(re.findall(re.escape(f"({answers.FILE}#") + r"([^)]*)", readme))
    tap.check(links and links <= headings, "each leads to its answer", *(links - headings))
    broken = re.sub(r"^4 tickets do", "5 tickets do", answers.read(ROOT), flags=re.MULTILINE)
    broken = broken.replace(re.findall(r"^Made with .*", broken, re.MULTILINE)[0],
                            f"Made with {run.made_with()}.")
    tap.check(answers.differences(broken, expected), "a typed number is noticed there")


def check_readers(tap: Tap, log: Path):
    """Other programs take the log: prove, and subunit of Debian if it is there."""
    done = subprocess.run(["prove", "--exec", "cat", log], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    tap.check(done.returncode == 0 and "Result: PASS" in done.stdout, "prove takes the log",
              done.stdout[-500:])
    if shutil.which("tap2subunit"):
        done = subprocess.run(["sh", "-c", f"tap2subunit <{log} | subunit-stats"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        passed = re.search(r"Passed tests: +(\d+)", done.stdout)
        tap.check(passed and int(passed[1]) >= 36, "Debian's tap2subunit takes the log", done.stdout[-300:])
    else:
        tap.skip("Debian's tap2subunit takes the log", "there is no subunit")
    done = subprocess.run(["python3", "tests/boot/log.py", "--junit", log], stdout=subprocess.PIPE,
                          text=True)
    tap.check(done.returncode == 0 and "<testsuites" in done.stdout, "the log as JUnit")


def main() -> int:
    tap, run = Tap(), program()
    with tempfile.TemporaryDirectory(prefix="faultline-report-") as scratch:
        folder = Path(scratch)
        log, plain = folder / "passed.log", folder / "plain.log"
        result = run.boot("", log, io.StringIO())
        tap.check(result.verdict == "pass", "a run that counts instructions passes")
        subprocess.run(["ovmf/qemu.py", "--append", PLAIN_RUN, "--log", plain], check=True,
                       stdout=subprocess.DEVNULL)
        text = log.read_bytes().decode("latin-1")
        linux = pages.read_linux(run.TARGETS)
        made = {"passed": pages.Page(text, recorded_bench(), linux).html(),
                "failed": pages.Page(failed_log(text), {}, linux).html(),
                "plain": pages.Page(plain.read_bytes().decode("latin-1"), {}, linux).html()}
        made.update({name: pages.Page(bad, {}, linux).html() for name, bad in bad_logs(text).items()})
        tap.check(reader.parse(failed_log(text)).verdict == "fail", "the failed log is a log")
        check_page(tap, made)
        check_answers(tap, text, run)
        check_readers(tap, log)
        in_browser(tap, made, folder)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
