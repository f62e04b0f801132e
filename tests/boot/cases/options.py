"""Options: files, refusals, and two runs with the same ones."""

from pathlib import Path

import disks
from harness import Case, case


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
