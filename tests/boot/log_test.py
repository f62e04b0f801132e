#!/usr/bin/env python3
"""Tests the log reader: it accepts whole logs and refuses all others."""

import sys
import unittest
from pathlib import Path

import log
import tap

GOOD = """\
KTAP version 1
# faultline 1
# memory: 512 MiB
1..3
    KTAP version 1
    1..2
    # pages 100
    ok 1 every page is zero
    # metric demand-zero.faults=100 faults
    # metric demand-zero.pages1=7 pages
    ok 2 frames come back
    # answer: 100 faults, 1 a page; see the limit.
    # from: faults pages1
ok 1 demand-zero
# between
    KTAP version 1
    1..2
    ok 1 reads back # SKIP no disk
    ok 2 the ledger is even
    # answer: none; no disk.
ok 2 swap
ok 3 wild # SKIP this processor lacks NX
# totals: experiments pass:2 fail:0 skip:1
# totals: checks pass:3 fail:0 skip:1
# verdict: pass
"""
FAILED = """\
KTAP version 1
1..1
    KTAP version 1
    1..2
    ok 1 a
    not ok 2 b
not ok 1 cow
# failed: cow: check 2: b
# totals: experiments pass:0 fail:1 skip:0
# totals: checks pass:1 fail:1 skip:0
# verdict: fail
"""
FAILED_AT_THE_END = GOOD.replace("# totals: exp", "# failed: the run: closing\n# totals: exp").replace(
    "verdict: pass", "verdict: fail")
SKIPPED = """\
KTAP version 1
1..2
    KTAP version 1
    1..1
    ok 1 a # SKIP no disk
    # answer: none; no disk.
ok 1 swap # SKIP every check was skipped
ok 2 wild # SKIP no NX
# totals: experiments pass:0 fail:0 skip:2
# totals: checks pass:0 fail:0 skip:1
# verdict: skipped
"""
REFUSED = """\
KTAP version 1
# faultline 1
# load options: unknown key 'bogus'
Bail out! 1 option is not understood
# verdict: fail
"""
CRASHED = """\
KTAP version 1
1..1
    KTAP version 1
    1..2
    ok 1 a pag
# crash: page fault at 0
# rip ffffffff80001000 crash_null+0x10
Bail out! page fault
# verdict: crash
"""


class Accepts(unittest.TestCase):
    def test_pass(self):
        read = log.parse(GOOD)
        self.assertEqual(read.verdict, "pass")
        self.assertEqual(list(read.suites), ["demand-zero", "swap", "wild"])
        self.assertEqual(read.metrics["demand-zero.faults"], log.Metric(100, "faults"))
        self.assertEqual(read.summary, ["faultline 1", "memory: 512 MiB"])
        self.assertEqual(read.suites["swap"].checks[0].skipped, "no disk")
        self.assertEqual(read.suites["demand-zero"].answer.head, "100 faults, 1 a page")
        self.assertEqual(read.suites["demand-zero"].answer.sources, ["faults", "pages1"])
        self.assertTrue(read.suites["swap"].answer.missing)

    def test_fail(self):
        read = log.parse(FAILED)
        self.assertEqual((read.verdict, read.failed), ("fail", [("cow", "check 2: b")]))

    def test_fail_at_the_end(self):
        read = log.parse(FAILED_AT_THE_END)
        self.assertEqual((read.verdict, read.failed), ("fail", [("the run", "closing")]))

    def test_skipped(self):
        self.assertEqual(log.parse(SKIPPED).verdict, "skipped")

    def test_refused_options(self):
        read = log.parse(REFUSED)
        self.assertEqual((read.verdict, read.bail_out), ("fail", "1 option is not understood"))
        self.assertIn("load options: unknown key 'bogus'", read.notes)

    def test_crash_inside_a_line(self):
        read = log.parse(CRASHED)
        self.assertEqual((read.verdict, read.bail_out), ("crash", "page fault"))
        self.assertIn("rip ffffffff80001000 crash_null+0x10", read.notes)

    def test_firmware_before_and_carriage_returns(self):
        text = "\x1b[2J\x1b[01;01HBdsDxe: loading\n\x1b[0m" + GOOD
        self.assertEqual(log.parse(text.replace("\n", "\r\n")).verdict, "pass")


class Answers(unittest.TestCase):
    """Which sentences are taken as the answer of `cost`, and which are refused."""

    FIGURES = {"pages.8m": "2048 pages", "records": "4 tickets", "zero": "0 frames",
               "fork": "182825 instructions", "wait": "7 ticks"}

    def log(self, sentence: str, *more: str, check: str = "ok 1 a"):
        figures = "".join(f"    # metric cost.{name}={value}\n"
                          for name, value in self.FIGURES.items())
        lines = "".join(f"    # {line}\n" for line in (f"answer: {sentence}", *more))
        return f"""KTAP version 1\n1..1\n    KTAP version 1\n    1..1\n{figures}    {check}\n{lines}ok 1 cost
# totals: experiments pass:1 fail:0 skip:0\n# totals: checks pass:1 fail:0 skip:0\n# verdict: pass\n"""

    def taken(self, *lines: str):
        self.assertEqual(log.parse(self.log(*lines)).verdict, "pass")

    def refused(self, words: str, *lines: str):
        with self.assertRaises(log.LogError) as caught:
            log.parse(self.log(*lines))
        self.assertIn(words, str(caught.exception))

    def test_numbers_are_figures(self):
        self.taken("4 tickets for 2,048 pages, of 8 MiB or 24 bits.", "from: records pages.8m")
        self.taken("8 fit, the name says.", "from: pages.8m")
        self.taken("2,044 and 2,052 and 512 and 512.0 and 0.00.", "from: records pages.8m")
        self.taken("183,000 instructions, and 0.", "from: fork zero")
        for text in ("5 tickets.", "2048.5 pages.", "40,960 pages.", "182,825 instructions."):
            self.refused("is no figure of this run", text, "from: records pages.8m fork")
        self.refused("4, which is no figure", "4 tickets.")
        self.refused("no figure of this run", "None more.", "from: tables")

    def test_no_times_and_nothing_that_varies(self):
        self.refused("differs from run to run", "7 of them.", "from: wait")
        text = self.log("2,048 pages.", "from: records").replace("cost", "fault-around")
        with self.assertRaises(log.LogError):
            log.parse(text)
        text = self.log("183,000.", "from: fork").replace("cost", "fault-device").replace("fork", "page")
        with self.assertRaises(log.LogError) as caught:
            log.parse(text)
        self.assertIn("differs from run to run", str(caught.exception))

    def test_length(self):
        self.taken("a" * 48 + "; " + "b" * 109 + ".")
        self.refused("has 161 letters", "a" * 48 + "; " + "b" * 110 + ".")
        self.refused("has 49 letters", "a" * 49 + ".")
        self.refused("no sentence", "a")

    def test_once_and_in_its_place(self):
        self.refused("out of place", "a.", "answer: b.")
        self.refused("out of place", "a.", "limit: b", "limit: c")
        self.refused("behind the answer", "a.", "metric cost.late=1 pages")
        with self.assertRaises(log.LogError) as caught:
            log.parse(self.log("a.").replace("    # answer: a.\n", ""))
        self.assertIn("cost has no answer", str(caught.exception))

    def test_none_has_a_reason(self):
        self.taken("none; there are 3 reasons.")
        self.refused("one reason", "none.")
        self.refused("one reason", "none; a; b.")

    def test_no_answer_after_a_failed_check(self):
        text = self.log("a.", check="not ok 1 a").replace("ok 1 cost", "not ok 1 cost")
        with self.assertRaises(log.LogError) as caught:
            log.parse(text)
        self.assertIn("a check that failed", str(caught.exception))

    def test_two_decimals(self):
        text = self.log("a.").replace("=7 ticks", "=7.25 floors")
        self.assertEqual(log.parse(text).metrics["cost.wait"], log.Metric(7.25, "floors"))


class Refuses(unittest.TestCase):
    def refused(self, text: str, words: str = ""):
        with self.assertRaises(log.LogError) as caught:
            log.parse(text)
        self.assertIn(words, str(caught.exception))

    def test_failure_outside_of_experiments(self):
        text = GOOD.replace("# totals: exp", "# failure: the disk is lost\n# totals: exp")
        self.refused(text, "the results say fail")
        self.assertEqual(log.parse(text.replace("verdict: pass", "verdict: fail")).verdict, "fail")

    def test_cut_at_every_character(self):
        for text in (GOOD, FAILED, FAILED_AT_THE_END, SKIPPED, REFUSED, CRASHED):
            for end in range(len(text)):
                with self.subTest(end=end):
                    self.refused(text[:end])

    def test_any_line_missing_but_a_note(self):
        for text in (GOOD, FAILED, SKIPPED):
            lines = text.splitlines(True)
            for i, line in enumerate(lines):
                if line.strip().startswith("# ") and "answer:" not in line and not line.startswith(
                        ("# verdict", "# totals", "# failed")):
                    continue
                with self.subTest(missing=line):
                    self.refused("".join(lines[:i] + lines[i + 1:]))

    def test_any_line_twice_but_a_note(self):
        for text in (GOOD, FAILED, SKIPPED, REFUSED):
            lines = text.splitlines(True)
            for i, line in enumerate(lines[1:], 1):
                if line.strip().startswith("# ") and "metric" not in line and (
                        not line.startswith(("# verdict", "# totals", "# failed"))):
                    continue
                with self.subTest(twice=line):
                    self.refused("".join(lines[:i] + [line] + lines[i:]))

    def test_text_after_the_verdict(self):
        self.refused(GOOD + "\n", "follows")
        self.refused(GOOD + "# more\n", "follows")
        log.parse(GOOD + "# > counters\n# | faults: 1\n# |\n")
        self.refused(GOOD + "# > counters\nok 9 cow\n", "follows")
        self.refused(CRASHED + "# more\n", "follows")

    def test_cut_when_it_was_kept(self):
        """Also behind the verdict: what is missing may be a failure."""
        source = (Path(__file__).resolve().parents[2] / "efi/log/kept_log.c").read_text()
        self.assertIn(f'"\\n{log.KEPT_END}\\n"', source)
        for text in (GOOD, GOOD[:GOOD.index("\n1..") + 1], GOOD + "# > help\n# | he\n"):
            with self.assertRaisesRegex(log.LogError, "ends here; it had no room for more"):
                log.parse(text + log.KEPT_END + "\n")

    def test_failures_after_the_verdict(self):
        """What happens to a run behind its verdict line counts."""
        kept = "# ! # the log is in the log area of the swap disk\n"
        self.assertEqual(log.parse(GOOD + kept).verdict, "pass")
        read = log.parse(GOOD + "# ! # failure: the disk is lost\n")
        self.assertEqual((read.verdict, read.failed), ("fail", [("the run", "the disk is lost")]))
        crash = "# ! \n# ! # crash on cpu 0: #PF\n# ! Bail out! #PF\n# ! # verdict: crash\n"
        read = log.parse(GOOD + "# > run cow\n# | # verdict: fail\n" + crash)
        self.assertEqual((read.verdict, read.bail_out), ("crash", "#PF"))
        self.assertEqual(log.parse(CRASHED + kept + crash).bail_out, "page fault")
        self.assertIn("<error", log.as_junit(log.parse(GOOD + crash)))
        self.refused(GOOD + crash + "# more\n", "follows")
        self.refused(GOOD + "# ! a\x07\n", "not a line of text")

    def test_two_runs(self):
        self.refused(GOOD + GOOD)

    def test_plan_larger_and_smaller(self):
        self.refused(GOOD.replace("1..3", "1..4"))
        self.refused(GOOD.replace("1..3", "1..2"))
        self.refused(GOOD.replace("    1..2", "    1..3", 1))
        self.refused(GOOD.replace("    1..2", "    1..1", 1))
        self.refused(GOOD.replace("1..3", "1..0"))

    def test_wrong_verdict(self):
        for verdict in ("fail", "crash", "skipped", "good", ""):
            self.refused(GOOD.replace("verdict: pass", f"verdict: {verdict}"))
        self.refused(FAILED.replace("verdict: fail", "verdict: pass"), "results say fail")
        self.refused(FAILED_AT_THE_END.replace("verdict: fail", "verdict: pass"), "say fail")
        self.refused(CRASHED.replace("verdict: crash", "verdict: pass"))
        self.refused(SKIPPED.replace("verdict: skipped", "verdict: pass"))

    def test_failures(self):
        line = "# failed: cow: check 2: b\n"
        self.refused(FAILED.replace(line, ""), "names no failure of cow")
        self.refused(FAILED.replace("failed: cow", "failed: swap"), "swap")
        self.refused(FAILED.replace("check 2: b", "check 1: a"), "check 1")
        self.refused(GOOD.replace("# between\n", "# failed: the run: early\n"), "is missing")
        self.refused(GOOD.replace("# totals: exp", "# failed: swap: check 1: x\n# totals: exp"))

    def test_wrong_totals(self):
        self.refused(GOOD.replace("pass:3", "pass:4"), "totals")
        self.refused(GOOD.replace("pass:2", "pass:3"), "totals")
        self.refused(FAILED.replace("checks pass:1 fail:1", "checks pass:2 fail:0"), "totals")

    def test_experiment_that_hides_its_checks(self):
        self.refused(FAILED.replace("not ok 1 cow", "ok 1 cow"), "not that of its checks")
        self.refused(GOOD.replace("ok 2 swap", "not ok 2 swap"))
        self.refused(SKIPPED.replace(" # SKIP every check was skipped", ""), "skipped exactly")
        self.refused(GOOD.replace("ok 2 swap", "ok 2 swap # SKIP it"), "skipped exactly")
        self.refused(GOOD.replace("ok 3 wild # SKIP this processor lacks NX", "ok 3 wild"))

    def test_numbers_out_of_order(self):
        self.refused(GOOD.replace("ok 2 frames", "ok 3 frames"), "where 2")
        self.refused(GOOD.replace("ok 2 swap", "ok 1 swap"), "where 2")
        self.refused(GOOD.replace("ok 2 swap", "ok 02 swap"))

    def test_numbers_with_thousands_of_digits(self):
        many = "1" + "0" * 5000
        self.refused(f"KTAP version 1\n1..{many}\n", "line 2: the plan is missing; found '1..1000")
        with self.assertRaises(log.LogError) as caught:
            log.parse(f"KTAP version 1\n1..{many}\n")
        self.assertLess(len(str(caught.exception)), 400)

    def test_directives(self):
        self.refused(GOOD.replace("# SKIP no disk", "# LATER no disk"), "directive")
        self.refused(GOOD.replace("# SKIP no disk", "# SKIP"), "")
        self.refused(FAILED.replace("not ok 2 b", "not ok 2 b # SKIP no"), "not ok")

    def test_figures(self):
        good = "# metric demand-zero.faults=100 faults"
        for bad in ("# metric demand-zero.faults=100", "# metric demand-zero.faults = 100 faults",
                    "# metric faults=100 faults", "# metric demand-zero.faults=-1 faults",
                    "# metric demand-zero.faults=1.5 faults", "# metric cow.faults=100 faults",
                    "# metric demand-zero.faults=0x10 faults", "# metric: demand-zero.a=1 b",
                    "# metric demand-zero.faults=100 page faults"):
            self.refused(GOOD.replace(good, bad))
        self.refused(GOOD.replace("# between", good), "outside")

    def test_lines_that_are_not_of_the_format(self):
        for bad in ("hello", "", "    ", "#note", "ok", "ok 1", "    ok 2 b ", "\tok 1 a", "\x07",
                    "  # note", "Bail out", "pragma +strict", "K\u00e4se"):
            lines = GOOD.splitlines()
            for place in range(1, len(lines)):
                with self.subTest(bad=bad, place=place):
                    self.refused("\n".join(lines[:place] + [bad] + lines[place:]) + "\n")

    def test_wrong_indentation(self):
        self.refused(GOOD.replace("    ok 1 every", "ok 1 every"))
        self.refused(GOOD.replace("    ok 1 every", "        ok 1 every"))
        self.refused(GOOD.replace("# between", "    # between"))
        self.refused(GOOD.replace("    # pages 100", "# pages 100"))

    def test_same_experiment_twice(self):
        self.refused(GOOD.replace("ok 2 swap", "ok 2 demand-zero"), "twice")

    def test_bail_out(self):
        self.refused(REFUSED.replace(" 1 option is not understood", ""), "Bail out")
        self.refused(REFUSED.replace("verdict: fail", "verdict: skipped"))
        self.refused(GOOD.replace("# verdict", "Bail out! late\n# verdict"), "after the end")

    def test_nothing(self):
        self.refused("", "no line")
        self.refused("BdsDxe: failed to load\n", "no line")


if __name__ == "__main__":
    sys.exit(tap.run_unittests(sys.modules["__main__"]))
