"""The launcher as a program, in odd places, with the real QEMU."""

from harness import Case, case


@case
def scratch_folder(t: Case):
    """A scratch folder with commas, blanks and a path longer than a socket's may be."""
    folder = t.path("a, b,,c " + "long " * 30)
    folder.mkdir()
    log = folder / "the log, of it"
    shown = t.launch("--append", "run=cow", "--log", log, env=t.environment(TMPDIR=str(folder)))
    t.check(shown.returncode == 0, "the run passes", str(shown.returncode), shown.stderr)
    t.check([path.name for path in folder.iterdir()] == [log.name], "nothing else is left")


@case
def own_arguments(t: Case):
    """Arguments after `--` reach QEMU, and its refusal is no verdict."""
    shown = t.launch("--append", "run=cow", "--", "-smp", "2")
    t.check(shown.returncode == 0, "the run passes", str(shown.returncode), shown.stderr)
    t.check("# processors: 2 of 2 run" in shown.stdout, "it has two processors")
    shown = t.launch("--append", "run=cow", "--", "-no-such")
    t.check(shown.returncode == 5, "a refusal of QEMU ends with 5", str(shown.returncode))
    t.check("-no-such: invalid option" in shown.stderr, "its words are shown", shown.stderr)
