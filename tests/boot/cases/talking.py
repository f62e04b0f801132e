"""Talking to a run: the menu before it, the prompt on the serial line after it, keys at its end."""

import screen
from harness import Case, case

COMMANDS = ("help", "counters", "walk 0x7f0000000", "region 0x7f0000000", "frame 0x1000", "slot 0",
            "descriptor 0", "run wild", " slot  0x1F ", "slot 18446744073709551616",
            "walk 0x8000000000000000", "write 0xffff800000000000", "\x1bslot 16384", "nonsense", "history", "\x1b[A\x1b[A",
            "quit")
PAUSE = 5  # seconds


@case
def prompt(t: Case):
    """Every command answers; what an experiment prints behind the verdict leaves the log valid."""
    def on_line(line, monitor):
        if line == "# verdict: pass":
            monitor.type("".join(command + "\r" for command in COMMANDS))

    run = t.boot(on_line=on_line, types=True, append="run=cow prompt=1")
    t.passed(run, ("cow",))
    t.check(run.log and list(run.log.suites) == ["cow"], "the log has the run's experiment only")
    after = run.result.log.partition("\n# verdict: pass\n")[2]
    for words in ("# > help", "# | walk ADDRESS: ", "# | frames:", "# | #   level 1: ",
                  "# | 00000007f0000000 to 00000007f0010000, read write, private, 1 of 16 pages",
                  "# | frame 1000 at 1000000: ", "# | slot 0: count 0, empty",
                  "# | descriptor 0: ", "# | ok 1 wild", "# | # verdict: pass",
                  "# | slot 31: count 0", "# | more than 64 bits: 18446744073709551616",
                  "# | not canonical", "# | refused: no program may write there", "# | there are 16384 slots", "# | no such command",
                  "# | 14 nonsense", "# > quit"):
        t.check(words in after, f"the prompt says: {words}", after[-3000:])
    t.check(after.count("# | no such command") == 2, "the key up brings a line back", after[-600:])


@case
def menu(t: Case):
    """menu=1 lists experiments and disks, takes names and settings, refuses wrong ones, and Enter
    begins the run."""
    keys = (list("nonsense") + ["ret"] + list("report") + ["equal"] + list("boot") + ["ret"] +
            list("wildx") + ["delete", "spc"] + list("seed") + ["equal", "9", "ret", "ret"])

    def on_line(line, monitor):
        if "Enter alone begins the run" in line:
            for key in keys:
                monitor.human(f"sendkey {key}")

    run = t.boot(on_line=on_line, disks=[t.swap_disk()], append="run=cow menu=1")
    t.passed(run, ("wild",))
    t.check(run.log and list(run.log.suites) == ["wild"], "only the chosen experiment ran")
    for words in ("^run=nonsense names no experiment$",
                  "^menu: error: serial= and report=boot have their effect before",
                  r"^menu:   \d+ cow: Do two ", r"^menu: options: run=cow menu=1",
                  r"^menu:   AHCI disk, 256 MiB, set [0-9a-f-]{36}: will be written",
                  r"^menu: options: menu=1 seed=9 run=wild$", "^seed: 9$"):
        t.said(run, words)


class EndKeysUser:
    """Looks at the log, at the result and at the answers, and powers the machine off."""

    # A key, and a text that the screen shows then.
    STEPS = (("l", "KTAP version 1"), ("q", "look through the log"), ("a", "    # answer: "),
             ("q", "look through the log"), ("q", None))

    def __init__(self, picture: str):
        self.picture = picture
        self.over = False
        self.typed = 0  # keys

    def on_line(self, line, _monitor):
        self.over = self.over or line == "# verdict: pass"

    def every_second(self, monitor):
        if not self.over or self.typed == len(self.STEPS):
            return
        if self.typed > 0:
            monitor.command("screendump", filename=self.picture)
            text = self.STEPS[self.typed - 1][1]
            if not any(text in line for line in screen.read_text(self.picture)):
                return
        monitor.type(self.STEPS[self.typed][0])
        self.typed += 1


@case
def end_keys(t: Case):
    """On the halted machine's screen l shows the log, a the answers, q comes back, and q again
    powers it off. The watchdog does not end the wait for a person."""
    user = EndKeysUser(str(t.path("screen.ppm")))
    run = t.boot(on_line=user.on_line, every_second=user.every_second, types=True,
                 append="run=cow exit=halt watchdog=4", debug_exit=False)
    t.check(user.typed == len(user.STEPS), "every key showed its picture",
            f"{user.typed} of {len(user.STEPS)} keys were typed")
    t.check(run.result.shutdown == "guest-shutdown" and not run.result.timed_out,
            "a key powers the machine off", run.result.shutdown)
    t.check(run.log and run.log.verdict == "pass", "the log says pass", run.log_error)


class KeyboardUser:
    """Pauses a run with the PS/2 keyboard, goes on, runs it again at its end, and powers off."""

    def __init__(self):
        self.pressed = False
        self.silent = 0  # seconds without a line while it is paused
        self.ends = 0

    def on_line(self, line, monitor):
        self.silent = 0 if self.silent < PAUSE else self.silent
        if line.startswith("ok 1 ") and not self.pressed:
            self.pressed = True
            monitor.human("sendkey p")
        if line == "# verdict: pass":
            self.ends += 1
            monitor.command("set-action", reboot="reset")
            monitor.human("sendkey " + "rq"[self.ends - 1])

    def every_second(self, monitor):
        if self.pressed and self.ends == 0 and self.silent < PAUSE:
            self.silent += 1
            if self.silent == PAUSE:
                monitor.human("sendkey p")


@case
def keyboard(t: Case):
    """On a PS/2 keyboard p pauses a run and lets it go on, r runs it again, q powers off."""
    user = KeyboardUser()
    run = t.boot(on_line=user.on_line, every_second=user.every_second, debug_exit=False,
                 append="run=cow,zero-page,swap,shared-map,demand-zero,wire exit=halt")
    t.check(run.result.shutdown == "guest-shutdown" and not run.result.timed_out,
            "a key powers the machine off", run.result.shutdown)
    t.check(user.silent == PAUSE, f"the paused run wrote nothing for {PAUSE} seconds")
    t.check(user.ends == 2, "it ran again", f"{user.ends} verdicts")
