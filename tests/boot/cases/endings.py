"""Endings: crashes with their reports, power off and reset, and a screen that can be read."""

import re
import subprocess
from pathlib import Path

import disks
import screen
from harness import FEW, Case, case


# ---- crashes ----


@case
def crash_null(t: Case):
    run = t.crashes("crash-null", r"^crash on cpu 0: #PF .*\b0x0: read by the kernel: not present",
                    r"^at [0-9a-f]{16} read_null\+0x", r"^rip [0-9a-f]{16} .* vector 14 ",
                    r"^cr0 .* cr2 0{16} +cr3 [0-9a-f]{16}", r"level 4: .*empty",
                    r"0: [0-9a-f]{16} read_null\+0x", r"1: [0-9a-f]{16} run_null\+0x",
                    r"\d: [0-9a-f]{16} faultline_main\+0x")
    t.check(run.log and "#PF" in (run.log.bail_out or ""), "'Bail out!' says why")
    t.said(run, "^experiment: crash-null, after 0 of 2 checks$")


@case
def crash_panic(t: Case):
    t.crashes("crash-panic", r"^crash on cpu 0: tests/experiments/crash\.c:\d+: deliberate",
              r"0: [0-9a-f]{16} panic_at\+0x", r"1: [0-9a-f]{16} run_panic\+0x")


@case
def crash_jump(t: Case):
    t.crashes("crash-jump", r"^crash on cpu 0: #PF page fault at 0xffffe00000000000: "
              r"instruction fetch by the kernel: not present", r"^ +\d+: [0-9a-f]+ run_jump")


@case
def crash_double_fault(t: Case):
    t.crashes("crash-double-fault", r"^crash on cpu 0: #DF double fault")


@case
def crash_in_handler(t: Case):
    t.crashes("crash-handler", r"^crash on cpu 0: #PF page fault at 0xffffe00000001000",
              r"^trap: [0-9a-f]+ (read_null|run_handler)")


@case
def crash_overflow(t: Case):
    """The stack of a thread on CPU 1 overflows; the report also gives the place of CPU 0."""
    t.crashes("crash-overflow", r"^crash on cpu 1: stack overflow: stack of cpu 1, thread 1",
              r"^  0: [0-9a-f]+ go_deeper", r"^     and \d\d more calls from there$",
              r"^ +\d+: [0-9a-f]+ overflow\+", r"^cpu 0 was at ", smp=2)


@case
def crash_machine_check(t: Case):
    t.crashes("crash-machine-check", r"^crash on cpu 0: #MC machine check",
              r"^machine check: mcg_status [0-9a-f]{16}, \d+ banks$",
              r"^bank 1: status 8400000000000135  address ffffe00000000000$")


@case
def crash_lost_shootdown(t: Case):
    t.crashes("crash-lost-shootdown",
              r"TLB shootdown lost: cpu 1 has not answered cpu 0 for 500 ms",
              r"^cpu 1 was at .*, interrupts off$", r"^  \d: [0-9a-f]+ stop_answering", smp=2)


@case
def watchdog(t: Case):
    """CPU 1 notices that CPU 0 hangs with interrupts off."""
    t.crashes("crash-hang", r"watchdog: no progress for \d+ s",
              r"^cpu 0 was at .*, interrupts off$", r"^  \d: [0-9a-f]+ run_hang",
              append="watchdog=3", smp=2)


@case
def watchdog_alone(t: Case):
    t.crashes("crash-hang", r"watchdog: no progress for \d+ s",
              r"^trap: [0-9a-f]+ (machine_pause|run_hang)", append="watchdog=3")


@case
def watchdog_slow_disk(t: Case):
    """A disk that needs longer for an experiment than the watchdog waits is slow, not stuck."""
    disk = t.swap_disk()
    disk.commands_per_second = 150
    t.passed(t.boot(disks=[disk], append="run=swap watchdog=4"), ("swap",))


@case
def deadline(t: Case):
    """The run ends inside an experiment; the log names it and those that were not reached."""
    order = ["stress", "hold", "mmu-hold"]
    run = t.boot(smp=2, append="run=stress,hold,mmu-hold seconds=3600 deadline=10")
    t.ended(run, "fail")
    # A slow host may spend the time before the first experiment, which has no end by itself.
    inside = run.notes(r"^experiment: (\S+), after \d+ of \d+ checks$")
    rest = order[1:] if inside else order
    t.check(not inside or inside[0][1] == "stress", "it was inside stress, or before")
    words = f"deadline: 10 s have passed, {len(rest)} experiments not reached"
    t.check(run.log and run.log.bail_out == words, f"'Bail out!' says: {words}",
            str(run.log and run.log.bail_out))
    t.said(run, f"^not reached: {', '.join(rest)}$")


@case
def crash_file_and_line(t: Case):
    """The launcher adds file and line to the report on its output, and not to the log."""
    log = t.path("crash.log")
    shown = t.launch("--append", "run=crash-panic", "--log", log)
    t.check(shown.returncode == 2, "the launcher's status says crash", f"{shown.returncode}")
    heading = re.search(r"^# crash on cpu 0: (tests/experiments/crash\.c:\d+): ", shown.stdout, re.M)
    place = heading[1] if heading else "no heading"
    t.check(re.search(rf"^#   1: [0-9a-f]+ run_panic\+0x[0-9a-f]+ \({place}\)$", shown.stdout, re.M),
            f"the caller of panic_at is at {place}", shown.stdout[-3000:])
    t.check(f"({place})" not in log.read_text(), "the log is as it came")
    told = disks.tool("ovmf/resolve.py", log)
    t.check(f"({place})" in told, "ovmf/resolve.py adds it to a log", told[-2000:])
    address = re.search(r"^#   1: ([0-9a-f]+) run_panic", shown.stdout, re.M)
    told = disks.tool("ovmf/resolve.py", address[1] if address else "nothing")
    t.check(told.strip().endswith(place), "ovmf/resolve.py names the place of an address", told)
    said = re.search(r"^# for file and line: (addr2line -e build/faultline\.so 0x[0-9a-f]+) ",
                     log.read_text(), re.M)
    told = subprocess.run(said[1].split() if said else ["false"], capture_output=True, text=True)
    t.check(told.stdout.strip().endswith(place), "the command in the report names the place",
            told.stdout + told.stderr)
    shown = t.launch("--append", "run=crash-null")
    found = re.search(r"^# at [0-9a-f]+ read_null\+0x\w+ \(tests/experiments/crash\.c:(\d+)\)$",
                      shown.stdout, re.M)
    lines = Path("tests/experiments/crash.c").read_text().splitlines()
    t.check(found and lines[int(found[1]) - 1].strip() == "(void)*null;",
            "a trap is at the line that it interrupted", shown.stdout[-3000:])


@case
def crash_lock_order(t: Case):
    """A build without lock checks skips the check instead of failing it."""
    run = t.boot(append="run=crash-lock-order")
    t.ended(run, "pass")
    suite = run.log.suites.get("crash-lock-order") if run.log else None
    t.check(suite and suite.checks[0].skipped == "this build has no lock checks",
            "the log gives the reason")


@case
def too_little_memory(t: Case):
    run = t.boot(memory=60, append="run=cow")
    t.ended(run, "fail")
    t.check(run.log and "too little memory: " in (run.log.bail_out or ""), "'Bail out!' says why",
            str(run.log and run.log.bail_out))


# ---- late failures ----


@case
def closing_fails(t: Case):
    """A disk whose writes fail after the last experiment fails a run that passed until then."""
    disk = t.swap_disk()
    disk.commands_per_second = 10000

    def look(line, monitor):
        # The experiment hold, which follows, does not use the disk.
        if re.search(r"^ok \d+ swap$", line):
            monitor.fail_writes("disk0")

    run = t.boot(on_line=look, disks=[disk], append="run=swap,hold wipe=1")
    t.ended(run, "fail")
    t.check(run.log and all(suite.ok for suite in run.log.suites.values()),
            "every experiment passed")
    t.check(run.log and len(run.log.failed) == 1 and run.log.failed[0][0] == "the run"
            and run.log.failed[0][1].startswith("closing the swap area: "),
            "the end of the log names the failure", str(run.log and run.log.failed))
    disk = t.swap_disk()
    disk.commands_per_second = 10000

    def fail(line, monitor):
        if line == "1..1":
            monitor.fail_writes("disk0")

    run = t.boot(on_line=fail, disks=[disk], append="run=wild")
    t.ended(run, "fail")
    t.check(run.log and run.log.failed == [("the run", "writing the log to the swap disk: "
                                            "device error")],
            "a log that cannot be written fails a run", str(run.log and run.log.failed))
    t.check(run.log and not run.log.after, "nothing comes behind the verdict",
            str(run.log and run.log.after))
    t.said(run, "^disk error: .*: lost$")


# ---- power off, reset, halt ----


@case
def exit_poweroff(t: Case):
    t.powers_off()


@case
def exit_reboot(t: Case):
    t.resets()


def reads_on_screen(t: Case, words: str, append: str = FEW, **settings):
    """Boots until the screen shows the words, then stops the halted machine."""
    picture = t.path("screen.ppm")
    seen = []

    def look(monitor):
        monitor.command("screendump", filename=str(picture))
        seen[:] = screen.read_text(str(picture))
        if any(words in line for line in seen):
            monitor.quit()

    run = t.boot(every_second=look, append=f"exit=halt {append}", **settings)
    t.check(any(words in line for line in seen), f"the screen shows: {words}", *seen[-40:])
    return run, seen


@case
def no_serial(t: Case):
    run = t.boot(serial="none", disks=[t.swap_disk()], append=FEW)
    t.check(run.result.verdict == "pass", "QEMU's status says pass", f"status {run.result.status}")
    t.check(run.result.log == "", "nothing came over a serial line")
    _, seen = reads_on_screen(t, "verdict pass,", serial="none")
    t.check(any(re.match(r" ok [a-z]", line) for line in seen), "it shows results as well",
            *seen[-20:])


@case
def halted(t: Case):
    run, seen = reads_on_screen(t, "verdict pass,", "run=cow,wild")
    t.check(run.log and run.log.verdict == "pass", "the log says pass, and nothing after it",
            run.log_error)
    t.check(any("2 of 2 experiments passed" in line for line in screen.read_text(
        str(t.path("screen.ppm")), scale=2)), "the headline counts them", *seen)
    t.check(any(line.startswith(" ok cow ") for line in seen), "it names each experiment", *seen)
