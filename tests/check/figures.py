"""Figures that the pages quote: each comes from a command, and is compared with a record.

tests/check/figures.tsv has two kinds of lines. `command key value` is the record: what the command
measured. `page text` says where a page quotes figures: the text has {key} in the place of a number,
or {key/key} of a ratio. `page lines command` says that a page's example of a log is made of lines of
that command's log. A number with the unit instructions or ticks in a page must be one of these.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

FILE = "tests/check/figures.tsv"
ICOUNT = ("frame-allocator", "table-access", "zeroing")  # each in a boot of its own, as the pages say
EXAMPLE = "zero-page,mmu-truth"
GENERATED = "docs/answers.md"  # all of it comes from a run, with which the test `report` compares it
COUNTED = re.compile(r"(?<![\w.{])\d[\d,]*\s+(?:instructions|ticks)\b")
BLOCK = re.compile(r"^```\n(KTAP version 1\n.*?)^```$", re.MULTILINE | re.DOTALL)
TOLERANCE = 0.1  # of ratios, and of all figures where another compiler or emulator made the record

Record = Dict[str, int]


def read(root: Path) -> Tuple[str, Record, List[Tuple[str, str]]]:
    """Returns the tools of the record, the record, and the quotes as (page, text)."""
    made, record, quotes = "", {}, []
    for line in (root / FILE).read_text().split("\n"):
        first, *rest = line.split("\t")
        if first == "made with":
            made = rest[0]
        elif first.endswith(".md"):
            quotes.append((first, rest[0]))
        elif rest:
            record[rest[0]] = int(rest[1])
    return made, record, quotes


def pattern(text: str) -> Tuple[re.Pattern, List[str]]:
    """A pattern of a quote, and the key of each of its groups."""
    parts = re.split(r"\{([^}]*)\}", text)
    words = [r"\s+".join(re.escape(word) for word in re.split(r"\s+", part)) for part in parts[::2]]
    return re.compile(r"([\d,.]+)".join(words)), parts[1::2]


def expected(record: Record, key: str) -> float:
    over, _, under = key.partition("/")
    return record[over] / record[under] if under else record[over]


def quoted(root: Path) -> Tuple[str, List[str]]:
    """Checks that every figure in a page is in the record."""
    _, record, quotes = read(root)
    problems, spans, count = [], {}, 0
    for page, text in quotes:
        if text.startswith("lines "):
            continue
        content = (root / page).read_text()
        wanted, keys = pattern(text)
        found = list(wanted.finditer(content))
        if len(found) != 1:
            problems.append(f"{page}: {len(found)} times: {text}")
            continue
        spans.setdefault(page, []).append(found[0].span())
        for key, number in zip(keys, found[0].groups()):
            count += 1
            value = float(number.replace(",", ""))
            if any(part not in record for part in key.split("/")):
                problems.append(f"{FILE}: no value of {key}")
            elif abs(value - expected(record, key)) > ("/" in key) * TOLERANCE * value:
                problems.append(f"{page}: {number} is quoted, {expected(record, key):g} is {key}")
    for path in [*root.glob("docs/*.md"), root / "README.md"]:
        page = str(path.relative_to(root))
        if page == GENERATED:
            continue
        for match in COUNTED.finditer(path.read_text()):
            if not any(start <= match.start() < end for start, end in spans.get(page, ())):
                problems.append(f"{page}: {' '.join(match[0].split())}: not in {FILE}")
    return f"{count} figures in pages are those of {FILE}", problems


def metrics(log: str) -> Iterator[Tuple[str, int]]:
    for name, value in re.findall(r"^\s*# metric (\S+)=(\d+) ", log, re.MULTILINE):
        yield name, int(value)


def boot(root: Path, folder: str, run: str, *arguments: str) -> str:
    log = Path(folder) / "log"
    subprocess.run(["ovmf/qemu.py", *arguments, "--efi", "build/faultline.efi", "--append", f"run={run}",
                    "--log", log], cwd=root, check=True, stdout=subprocess.DEVNULL)
    return log.read_text().replace("\r", "")


def bench_rows(root: Path, folder: str) -> List[dict]:
    """Returns the rows of `make bench`, without its metadata."""
    # Its status is that of the rows, which boot/bench judges; without figures there is no file.
    subprocess.run(["tests/bench/run", folder], cwd=root, check=False, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in (Path(folder) / "bench.jsonl").read_text().splitlines()]


def measure(root: Path, rows: List[dict]) -> Tuple[str, Dict[str, Record], Dict[str, str]]:
    """Returns the tools, the figures of each command, and the logs of examples; the figures of
    `make bench` are those of `rows`, and are measured if there are none."""
    with tempfile.TemporaryDirectory() as folder:
        bench = {row["op"]: row.get("median", row.get("mean"))
                 for row in rows or bench_rows(root, folder) if row.get("unit") == "instructions"}
        icount = "".join(boot(root, folder, run, "--icount", "--cpu", "max,-erms") for run in ICOUNT)
        example = boot(root, folder, EXAMPLE)
    versions = [subprocess.run([program, "--version"], check=True, text=True,
                               stdout=subprocess.PIPE).stdout.split("\n")[0]
                for program in ("gcc", "qemu-system-x86_64")]
    made = "; ".join(versions)
    return made, {"bench": bench, "icount": dict(metrics(icount))}, {"example": example}


def judged(root: Path, made: str, measured: Dict[str, Record],
           logs: Dict[str, str]) -> List[Tuple[str, List[str]]]:
    """Returns what must hold of the pages, each with its problems."""
    return [("the record is as measured", compared(root, made, measured)),
            ("pages quote the record", quoted(root)[1]),
            ("examples are lines of the log", examples(root, logs))]


def examples(root: Path, logs: Dict[str, str]) -> List[str]:
    """Lines of a page's example that the log does not have."""
    problems = []
    for page, text in read(root)[2]:
        if not text.startswith("lines "):
            continue
        have = {line.strip() for line in logs[text.split()[1]].split("\n")}
        block = BLOCK.search((root / page).read_text())
        if not block:
            problems.append(f"{page}: no example of a log")
        problems += [f"{page}: the log has no line {line.strip()}"
                     for line in (block[1] if block else "").split("\n")
                     if line.strip() not in have | {"", "..."}]
    return problems


def compared(root: Path, made: str, measured: Dict[str, Record]) -> List[str]:
    """Returns the figures of the record that were measured differently now."""
    recorded_with, record, _ = read(root)
    now = {key: value for figures in measured.values() for key, value in figures.items()}
    allowed = 0 if made == recorded_with else TOLERANCE
    return [f"{key}: {value} in {FILE}, now {now.get(key, 'not measured')}"
            for key, value in record.items()
            if key not in now or abs(now[key] - value) > allowed * value]


def write(root: Path, made: str, measured: Dict[str, Record]) -> None:
    """Records the measured figures, and writes them into the pages."""
    lines = []
    for line in (root / FILE).read_text().split("\n"):
        first, *rest = line.split("\t")
        if first == "made with":
            line = f"made with\t{made}"
        elif first in measured:
            line = f"{first}\t{rest[0]}\t{measured[first][rest[0]]}"
        lines.append(line)
    (root / FILE).write_text("\n".join(lines))
    _, record, quotes = read(root)
    for page, text in quotes:
        if text.startswith("lines "):
            continue
        content = (root / page).read_text()
        wanted, keys = pattern(text)
        found = wanted.search(content)
        for number, key in reversed(list(enumerate(keys, 1)) if found else []):
            new = f"{expected(record, key):.2g}" if "/" in key else f"{record[key]:,}"
            content = content[:found.start(number)] + new + content[found.end(number):]
        (root / page).write_text(content)
