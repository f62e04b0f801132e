"""docs/extend.md: its files are taken out of the page, built into a copy of the tree, and run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from harness import Case, ROOT, case

FILE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES_MAX = 60
BUILT = ("kernel", "swap.img", "version.h", "setup-build.mk")


def copy_tree(folder: Path):
    """Copies the sources, and the objects of the image, so that only new files are compiled."""
    shutil.copytree(ROOT, folder, symlinks=True, ignore=lambda path, names: [
        name for name in names if name in ("__pycache__", ".git") or
        (Path(path) == ROOT and name == "build")])
    (folder / "build").mkdir()
    subprocess.run(["cp", "-a", "--sparse=always", *(f"build/{name}" for name in BUILT),
                    folder / "build"], cwd=ROOT, check=True)


def run_in(folder: Path, *command) -> subprocess.CompletedProcess:
    """Runs a command in the copy, free of the settings of a surrounding make."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")}
    return subprocess.run(command, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@case
def extend(t: Case):
    """Each example of docs/extend.md is one new file, and works as the page says."""
    files = dict(FILE.findall((ROOT / "docs/extend.md").read_text()))
    t.check(len(files) == 4, "the page has four files", *files)
    folder = t.path("tree")
    copy_tree(folder)
    for name, text in files.items():
        t.check(not (folder / name).exists() and text.count("\n") < LINES_MAX,
                f"{name} is new and has {text.count(chr(10))} lines, under {LINES_MAX}")
        (folder / name).write_text(text)
        if name.endswith(".c"):
            formatted = run_in(folder, "clang-format", "--dry-run", "-Werror", name)
            t.check(formatted.returncode == 0, f"{name} is formatted", formatted.stdout)
    made = run_in(folder, "make", "-s", "build/faultline.efi")
    if not t.check(made.returncode == 0, "the copy builds with nothing else changed", made.stdout):
        return
    run = t.boot(efi=str(folder / "build/faultline.efi"), disks=[t.swap_disk()], seconds=500,
                 append="run=second-touch,cow,swap,frame-allocator,frame-stress pmm=nextfit "
                        "policy=lfu")
    t.passed(run, ("second-touch", "cow", "swap", "frame-allocator", "frame-stress"))
    t.said(run, "^the run's own allocator: nextfit")
    t.said(run, "^policy: lfu")
    figure = run.log.metrics.get("swap.pages_written") if run.log else None
    t.check(figure and figure.value > 0, "pages that lfu chose went out")
    if run.log:
        t.check("second-touch.second" in run.log.metrics, "second-touch prints its figure")
        checks = [check.text for check in run.log.suites["frame-allocator"].checks]
        t.check(any(text.startswith("nextfit ") for text in checks),
                "frame-allocator compares nextfit with the others", *checks)
    case_run = run_in(folder, "tests/run", "boot/small-machine")
    t.check(case_run.returncode == 0, "boot/small-machine passes", case_run.stdout)
