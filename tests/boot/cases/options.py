"""Options: files, refusals, and two runs with the same ones."""

import re
from pathlib import Path

import disks
import matrix
import qemu
from harness import Case, Run, case


@case
def options_from_file(t: Case):
    image = disks.copy_image(Path("build/faultline.img"), t.path("boot.img"),
                             "# two of them\nrun=zero-page,cow\nseed = 7\n")
    run = t.boot(image=t.recorded(image, "BOOT"))
    t.passed(run, ("zero-page", "cow"))
    t.check(run.log and len(run.log.suites) == 2, "nothing else ran")


@case
def unknown_option(t: Case):
    disk = t.swap_disk()
    before = disks.digest(disk.path)
    run = t.boot(disks=[disk], append="run=cow colour=blue")
    t.ended(run, "fail")
    t.check(run.log and run.log.bail_out, "it bailed out")
    t.said(run, "^option error: .*colour")
    t.untouched(disk, before)


@case
def unreadable_options(t: Case):
    """A control character, and letters that are not ASCII, end the run before any disk is written."""
    for append in ("swap=none run=cow \x01", "swap=none run=swap \u00e9\u00e8\u00ea" * 12):
        disk = t.swap_disk()
        before = disks.digest(disk.path)
        run = t.boot(disks=[disk], append=append)
        t.ended(run, "fail")
        t.said(run, "^option error: load options")
        t.untouched(disk, before)


@case
def bad_value(t: Case):
    run = t.boot(append="mem=lots seed=x1")
    t.ended(run, "fail")
    for key in ("mem", "seed"):
        t.said(run, rf"option error.*{key}")


@case
def foreign_serial_port(t: Case):
    """serial= with the port of another device ends the run before that device is touched. The log
    is on the port that Faultline finds by itself."""
    for port in ("0x1f0", "0xc000"):
        run = t.boot(machine="pc", append=f"run=cow serial={port}")
        t.ended(run, "fail")
        t.said(run, f"^option error: serial={port}: no serial port is known there")


@case
def unknown_experiment(t: Case):
    run = t.boot(append="run=no-such-thing")
    t.ended(run, "fail")
    t.said(run, "no-such-thing")


@case
def same_log_twice(t: Case):
    """With time counted in instructions, two runs write equal logs."""
    logs = []
    for _ in range(2):
        run = t.boot(icount=True, append="run=demand-zero,zero-page,cow,zeroing")
        t.passed(run, ("demand-zero", "zero-page", "cow", "zeroing"))
        t.said(run, "^clock: an emulator counts instructions, 8 ticks each")
        logs.append(run.result.log)
    t.check(logs[0] == logs[1], "both serial logs are the same")


# ---- docs/log.md ----


def line_kind(line: str) -> str:
    """Returns a line of a log without its numbers and without the words of checks and questions."""
    line = re.sub(r"(?<=[ =:.])[0-9a-f]*[0-9][0-9a-f]*\b", "N", qemu.readable(line))
    line = re.sub(r"flags=\S+", "flags=F", line)
    line = re.sub(r"^( {4}ok N) .*?( # SKIP .*)?$", lambda m: m[1] + (" # SKIP" if m[2] else ""), line)
    line = re.sub(r"^# Faultline .*$", "# Faultline VERSION", line)
    return re.sub(r"^( *#) .*\?$", r"\1 QUESTION", line)


@case
def log_example(t: Case):
    """The example of docs/log.md is a log that this image writes."""
    text = Path("docs/log.md").read_text()
    options = re.search(r'`make run OPTIONS="(.*?)"`', text)[1]
    example = re.search(r"```\n(KTAP version 1\n.*?)```", text, re.DOTALL)[1].splitlines()
    run = t.boot(append=options)
    t.passed(run, options[len("run="):].split(","))
    kinds = [line_kind(line) for line in run.result.log.splitlines()]
    at = 0
    for number, line in enumerate(example):
        if line.strip() == "...":
            continue
        free = number > 0 and example[number - 1].strip() == "..." or number == 0
        found = line_kind(line) in (kinds[at:] if free else kinds[at:at + 1])
        t.check(found, f"the log has: {line_kind(line)}".replace("# SKIP", "(skipped)"),
                *kinds[at:at + 3])
        if found:
            at = kinds.index(line_kind(line), at) + 1


@case
def few_spaces(t: Case):
    """With fewer address spaces, or regions of one, than an experiment needs it is skipped, and says so."""
    for option, skipped in (("spaces=1", "cow"), ("spaces=3", "table-ledger"), ("regions=20", "flexpage")):
        run = t.boot(append=f"{option} run=levels,cow,table-ledger,flexpage,zero-page")
        t.check(run.result.verdict == "pass", f"{option}: the run passes", f"status {run.result.status}")
        t.check(re.search(rf"^ok \d+ {skipped} # SKIP it (has|may have) .*, {option} allows fewer",
                          run.result.log, re.MULTILINE), f"{skipped} is skipped")
        t.check(re.search(r"^ok \d+ zero-page\r?$", run.result.log, re.MULTILINE), "zero-page is not")


@case
def never_overcommit(t: Case):
    t.passed(t.boot(append="overcommit=never run=vma-structure,cow"), ("vma-structure", "cow"))


@case
def small_without_disk(t: Case):
    """64 MiB and no swap disk: an experiment that promises more is skipped, and says so."""
    run = t.boot(memory=64, append="run=table-access,cow")
    t.check(run.result.verdict == "pass", "the run passes", f"status {run.result.status}")
    t.check("# SKIP a region of 64 MiB is more" in run.result.log, "table-access is skipped")


@case
def option_matrix(t: Case):
    """A dozen combinations of options with every experiment: a pass, or skips that say why."""
    for entry in matrix.FIXED:
        result, problems = matrix.boot(entry)
        t.check(not problems, f"{entry.name}: {matrix.words(matrix.tally(result))}, "
                f"{result.seconds:.0f} s", *problems)
        if problems:
            t.runs.append(Run(result, None))
