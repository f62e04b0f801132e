"""Prints TAP on standard output, for tests written in Python."""

import os
import sys
import traceback
import unittest


TOLD = 20  # lines of details that a quiet harness is told


class Tap:
    """A list of checks, printed as they are made; done() prints the plan and gives the status."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def check(self, ok, text: str, *details: str) -> bool:
        self.count += 1
        self.failed += not ok
        print(f"{'ok' if ok else 'not ok'} {self.count} - {text}".replace("#", "\\#"))
        if not ok:
            for detail in details:
                self.note(detail)
            self._tell_harness(text, details)
        sys.stdout.flush()
        return bool(ok)

    @staticmethod
    def _tell_harness(text: str, details):
        """Under a quiet `prove`, which drops the output of a test, says on stderr what failed."""
        if "HARNESS_ACTIVE" not in os.environ or "HARNESS_IS_VERBOSE" in os.environ:
            return
        lines = [line for detail in (text, *details) for line in str(detail).splitlines()]
        for line in lines[:1] + lines[1:][-TOLD:]:
            print(f"# {line}", file=sys.stderr, flush=True)

    def skip(self, text: str, reason: str):
        self.count += 1
        print(f"ok {self.count} - {text} # SKIP {reason}", flush=True)

    def note(self, text: str):
        for line in str(text).rstrip("\n").split("\n"):
            print(f"# {line}", flush=True)

    def done(self) -> int:
        print(f"1..{self.count}", flush=True)
        return 1 if self.failed or not self.count else 0


class _UnittestResult(unittest.TestResult):
    def __init__(self, tap: Tap):
        super().__init__()
        self.tap = tap

    def addSuccess(self, test):
        self.tap.check(True, test.id())

    def addFailure(self, test, err):
        self.tap.check(False, test.id(), "".join(traceback.format_exception(*err)))

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addFailure(subtest, err)

    def addSkip(self, test, reason):
        self.tap.skip(test.id(), reason)


def run_unittests(module) -> int:
    tap = Tap()
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    suite.run(_UnittestResult(tap))
    return tap.done()
