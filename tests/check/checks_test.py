#!/usr/bin/env python3
"""Tests of the rules: a small tree that obeys them, and each rule broken once."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/boot"), str(ROOT / "tests/check")]
sys.dont_write_bytecode = True

import checks  # noqa: E402
import tap  # noqa: E402

TREE = {
    "lib/check.h": "/* Checks. */\n_Noreturn void panic_at(const char *f, int l, ...);\n",
    "cpu/machine.h": "/* The seam. */\n#include <stdint.h>\nuint64_t machine_ticks(void);\n"
                     "static inline int twice(int a)\n{\n    return own(a) + a;\n}\n",
    "cpu/machine.c": "/* The machine. */\nvoid f(void)\n{\n    __asm__ volatile(\"hlt\");\n}\n",
    "pmm/pmm.c": "/* Frames. */\n#include \"lib/check.h\"\n#include <stdint.h>\n"
                 "#include \"cpu/machine.h\"\n/* No asm here. */\n",
    "efi/entry.c": "/* Entry. */\n#include <efi.h>\n#include \"pmm/pmm.h\"\n",
    "tests/host/test_a.c": "/* Test. */\n#include <stdio.h>\n#include \"efi/entry.h\"\n",
}


class Rules(unittest.TestCase):
    def problems(self, rule, **changes):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            tree = dict(TREE, **{name.replace("__", "/").replace("_DOT_", "."): text
                                 for name, text in changes.items()})
            for name, text in tree.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return rule(root)[1]

    def test_good_tree(self):
        for rule in (checks.includes, checks.assembly, checks.shape, checks.words):
            self.assertEqual(self.problems(rule), [])

    def test_include_of_a_higher_layer(self):
        found = self.problems(checks.includes, pmm__x_DOT_c="/* X. */\n#include \"vmm/space/space.h\"\n")
        self.assertEqual(len(found), 1)
        found = self.problems(checks.includes, lib__x_DOT_h="/* X. */\n# include \"cpu/a.h\"\n")
        self.assertEqual(len(found), 1)

    def test_include_without_folder(self):
        found = self.problems(checks.includes, pmm__x_DOT_c="/* X. */\n#include \"pmm.h\"\n")
        self.assertEqual(len(found), 1)

    def test_firmware_headers(self):
        for name in ("efi.h", "efilib.h", "Uefi.h"):
            found = self.problems(checks.includes, vmm__x_DOT_c=f"/* X. */\n#include <{name}>\n")
            self.assertEqual(len(found), 1)

    def test_hosted_header_in_the_kernel(self):
        found = self.problems(checks.includes, vmm__x_DOT_c="/* X. */\n#include <stdio.h>\n")
        self.assertEqual(len(found), 1)

    def test_assembly(self):
        for word in ("__asm__", "asm", "__asm"):
            text = f"/* X. */\nvoid f(void)\n{{\n    {word} volatile(\"hlt\");\n}}\n"
            self.assertEqual(len(self.problems(checks.assembly, vmm__x_DOT_c=text)), 1)
            self.assertEqual(self.problems(checks.assembly, cpu__x_DOT_c=text), [])
            self.assertEqual(self.problems(checks.assembly, paging__kernel__x_DOT_c=text), [])
        self.assertEqual(len(self.problems(checks.assembly, vmm__x_DOT_S="/* X. */\n")), 1)

    def test_long_function(self):
        for lines, problems in ((78, 0), (79, 0), (80, 1)):
            text = "/* X. */\nint f(int a,\n      int b)\n{\n" + "    a++;\n" * lines + "}\n"
            self.assertEqual(len(self.problems(checks.shape, vmm__x_DOT_c=text)), problems, lines)

    def test_no_opening(self):
        self.assertEqual(len(self.problems(checks.shape, vmm__x_DOT_h="#ifndef A\n")), 1)

    def test_unfinished_words(self):
        for word in ("TO" + "DO", "fix" + "me", "st" + "ub", "for " + "now", "place" + "holder"):
            self.assertEqual(len(self.problems(checks.words, vmm__x_DOT_c=f"/* A {word}. */\n")), 1)
        self.assertEqual(self.problems(checks.words, vmm__x_DOT_c="/* Stubborn todos. */\n"), [])

    def test_declared_functions(self):
        text = ("/* f(int); */\n#define M(a) g(a);\nint a(void);\nMUST_USE enum status b(\n    int x"
                ",\n    void (*y)(int));\nvoid c(const char *f, ...) PRINTF_LIKE(1, 2);\n"
                "static inline int d(int v)\n{\n    if (v) {\n        e(v);\n    }\n    return 0;\n}\n"
                "struct s {\n    int (*h)(void);\n};\n")
        self.assertEqual(checks.declared_functions(text), {"a", "b", "c"})

    def test_seam(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "cpu").mkdir()
            (root / "cpu/machine.h").write_text(TREE["cpu/machine.h"])
            for name, text in (("a", "int b(void); long machine_ticks(void);"
                                     "long a(void) { return b() + machine_ticks(); }"),
                               ("b", "int b(void); int b(void) { return 1; }"),
                               ("c", "int stray(void); int c(void); int c(void) { return stray(); }")):
                (root / f"{name}.c").write_text(text)
                subprocess.run(["gcc", "-c", f"{name}.c"], cwd=root, check=True)
            self.assertEqual(checks.seam(root, ["a.o", "b.o"], "core.o")[1], [])
            self.assertEqual(len(checks.seam(root, ["a.o"], "core.o")[1]), 1)
            found = checks.seam(root, ["a.o", "b.o", "c.o"], "core.o")[1]
            self.assertTrue(len(found) == 1 and "stray" in found[0])


if __name__ == "__main__":
    sys.exit(tap.run_unittests(sys.modules["__main__"]))
