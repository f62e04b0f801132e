#!/usr/bin/env python3
"""Tests how `make bench` judges its rows: which of them end it with 1."""

import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/boot"), str(ROOT / "tests/bench")]
sys.dont_write_bytecode = True

import rows  # noqa: E402
import tap  # noqa: E402

TARGETS = {"read": rows.Target(200, 150, 0, 100, "a read"),
           "write": rows.Target(None, None, 512, None, "a write")}


def row(median: int, mean: int) -> rows.Row:
    return {"median": median, "mean": mean, "p99": mean, "max": mean, "n": 10}


GOOD = {"read": row(90, 91), "write": row(600, 610)}
RECORD = rows.Record("tools", {"read": (90, 91), "write": (600, 610)})


class Judge(unittest.TestCase):
    def judged(self, measured, made="tools", goals=False, record=RECORD, targets=None):
        status, words = rows.status(measured, targets or TARGETS, record, made, goals)
        return status, "\n".join(words)

    def test_as_recorded(self):
        """Figures as recorded end with 0, whether goals count or not."""
        self.assertEqual(self.judged(GOOD), (0, ""))
        self.assertEqual(self.judged(GOOD, goals=True), (0, ""))

    def test_row_without_figure(self):
        """A row of the targets that was not measured ends with 1, and is in the table."""
        measured = {"read": GOOD["read"]}
        status, words = self.judged(measured)
        self.assertEqual(status, 1)
        self.assertIn("write has no figure", words)
        self.assertRegex("\n".join(rows.table(measured, TARGETS)), r"(?m)^write .*NO FIGURE")

    def test_worse(self):
        """One instruction more ends with 1, in the median or in the mean alone."""
        for worse in (row(91, 91), row(90, 92)):
            status, words = self.judged({**GOOD, "read": worse})
            self.assertEqual(status, 1)
            self.assertIn("read is worse", words)

    def test_locked(self):
        """A locked instruction too many is told, and so is a kind without a count."""
        kinds = {kind: {"locked": most} for kind, most in rows.LOCKED.items()}
        self.assertEqual(rows.too_locked(kinds), [])
        for wrong in ({"locked": 2}, {}):
            self.assertEqual(len(rows.too_locked({**kinds, "zero_read": wrong})), 1)

    def test_better(self):
        """Better figures end with 0, and say how to renew the record."""
        status, words = self.judged({**GOOD, "read": row(80, 81)})
        self.assertEqual(status, 0)
        self.assertIn("--record", words)

    def test_not_recorded(self):
        """A row that no record has ends with 1: it would not be watched."""
        status, words = self.judged({**GOOD, "new": row(1, 1)})
        self.assertEqual(status, 1)
        self.assertIn("new is not in", words)

    def test_missed_goal(self):
        """A missed goal is shown; it ends with 1 only where goals count. The mean counts, too."""
        for figures in (row(101, 90), row(90, 101)):
            measured = {**GOOD, "read": figures}
            record = rows.Record("tools", {**RECORD.rows, "read": (101, 101)})
            status, words = self.judged(measured, record=record)
            self.assertEqual(status, 0)
            self.assertIn("MISSED: 1 of 1 goals (read)", words)
            self.assertRegex("\n".join(rows.table(measured, TARGETS)), r"(?m)^read .* MISSED ")
            self.assertEqual(self.judged(measured, record=record, goals=True)[0], 1)

    def test_tolerance(self):
        """Other tools may differ by 10 %, rows of the disk by 25 %, and not by more."""
        self.assertEqual(self.judged({**GOOD, "write": row(659, 670)}, made="others")[0], 0)
        self.assertEqual(self.judged({**GOOD, "write": row(661, 610)}, made="others")[0], 1)
        record = rows.Record("tools", {"swap_rand_read": (1000, 1000)})
        targets = {"swap_rand_read": rows.Target(None, None, 0, None, "a swap")}
        for median, wanted in ((1250, 0), (1251, 1)):
            self.assertEqual(self.judged({"swap_rand_read": row(median, 900)}, record=record,
                                         targets=targets)[0], wanted)

    def test_record(self):
        """A record reads back, and judges the same figures as equal."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ratchet.tsv"
            self.assertEqual(rows.read_record(path).rows, {})
            rows.write_record(GOOD, "tools", path)
            self.assertEqual(rows.read_record(path), RECORD)


class Files(unittest.TestCase):
    def test_targets(self):
        """Each target is recorded, and each record is of a target."""
        targets = rows.read_targets(ROOT / rows.TARGETS)
        record = rows.read_record(ROOT / rows.RATCHET)
        self.assertGreaterEqual(len(targets), 41)
        self.assertEqual(set(targets), set(record.rows))
        self.assertTrue(record.made)


if __name__ == "__main__":
    sys.exit(tap.run_unittests(sys.modules[__name__]))
