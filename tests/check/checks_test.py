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
import figures  # noqa: E402
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
    "tests/boot/cases.py": "def two_processors(t):\n    pass\n",
    "tests/experiments/cow.c": "/* COW. */\nEXPERIMENT(cow, 1) = {\n    .name = \"cow\",\n};\n",
    "Makefile": "run: a ## boot\n",
    "tests/host/explore/scenarios": "# Lines.\npairs deep=1: own write write\n",
    "tests/mutants/no-flush.patch": "# test: host/a\n--- a/cpu/machine.c\n+++ b/cpu/machine.c\n@@ -3,2 +3,2 @@\n {\n"
                                    "-    __asm__ volatile(\"hlt\");\n+    __asm__ volatile(\"nop\");\n",
    "tests/check/ratchet.txt": "# The list.\n",
    "docs/rules.md": "# Rules\n\n**E1.** One.\n*Built:* test `host/a`, mutant\n`no-flush`.\n\n"
                     "**E2.** Two. See E1.\n*To come.*\n\n# Rules of planned work\n\n**D1.** Three.\n",
    "README.md": "See `pmm/pmm.c`, tests/host/test_X.c and [the rules](docs/rules.md).\n",
}
RATCHET = "tests__check__ratchet_DOT_txt"


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
        for rule in (checks.includes, checks.assembly, checks.shape, checks.words, checks.wings,
                     checks.sizes, checks.columns, checks.once, checks.cited, checks.guards,
                     checks.mutants, checks.paths, checks.named, checks.places,
                     lambda root: checks.shrink(root, False)):
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

    def test_wings(self):
        up = dict(vmm__page__a_DOT_c="/* A. */\n#include \"vmm/fault/b.h\"\n")
        self.assertEqual(len(self.problems(checks.wings, **up)), 1)
        down = dict(vmm__fault__a_DOT_c="/* A. */\n#include \"vmm/page/b.h\"\n")
        self.assertEqual(self.problems(checks.wings, **down), [])
        homeless = dict(vmm__attic__a_DOT_c="/* A. */\n#include \"vmm/page/b.h\"\n")
        self.assertEqual(len(self.problems(checks.wings, **homeless)), 1)
        low = dict(swapdisk__ahci__a_DOT_c="/* A. */\n#include \"swapdisk/block/block.h\"\n")
        self.assertEqual(self.problems(checks.wings, **low), [])
        for line, problems in (("cut vmm/page/a.c vmm/fault/b.h: it moves down soon", 0),
                               ("cut vmm/page/a.c vmm/fault/b.h:", 1),
                               ("cut vmm/page/a.c vmm/fault/c.h: it moves down soon", 1)):
            found = self.problems(checks.wings, **up, **{RATCHET: line + "\n"})
            self.assertEqual(len(found), problems, line)

    def test_wings_keep_three_includes(self):
        tree, lines = {}, []
        for name in "abcd":
            tree[f"cpu__{name}_DOT_c"] = f"/* A. */\n#include \"cpu/smp/{name}.h\"\n"
            lines.append(f"keep cpu/{name}.c cpu/smp/{name}.h: it has a reason\n")
            problems = 1 if name == "d" else 0
            self.assertEqual(len(self.problems(checks.wings, **tree, **{RATCHET: "".join(lines)})),
                             problems)

    def test_internal_headers(self):
        for folder, problems in (("vmm/fault", 1), ("efi", 1), ("vmm/page", 0), ("tests/host", 0)):
            name = folder.replace("/", "__") + "__a_DOT_c"
            text = "/* A. */\n#include \"vmm/page/internal.h\"\n"
            self.assertEqual(len(self.problems(checks.wings, **{name: text})), problems, folder)

    def test_sizes(self):
        def made(lines):
            return "/* A. */\n" * lines
        for name, most in (("vmm__page__a_DOT_c", 450), ("vmm__page__internal_DOT_h", 450),
                           ("vmm__page__a_DOT_h", 250)):
            self.assertEqual(self.problems(checks.sizes, **{name: made(most)}), [])
            self.assertEqual(len(self.problems(checks.sizes, **{name: made(most + 1)})), 1)
        self.assertEqual(self.problems(checks.sizes, tests__runner__a_DOT_c=made(500)), [])
        files = {f"vmm__page__a{number}_DOT_c": made(201) for number in range(14)}
        self.assertEqual(self.problems(checks.sizes, **files), [])
        files["vmm__page__b_DOT_c"] = made(1)
        self.assertEqual(len(self.problems(checks.sizes, **files)), 1)
        files = {f"vmm__page__a{number}_DOT_c": made(430) for number in range(7)}
        self.assertEqual(len(self.problems(checks.sizes, **files)), 1)

    def test_larger_ones_do_not_grow(self):
        name, line = "vmm__page__a_DOT_c", {RATCHET: "lines vmm/page/a.c 460\n"}
        for lines, problems, loose in ((460, 0, 0), (461, 1, 0), (459, 0, 1), (400, 0, 1)):
            tree = {name: "/* A. */\n" * lines, **line}
            self.assertEqual(len(self.problems(checks.sizes, **tree)), problems)
            found = self.problems(lambda root: checks.shrink(root, False), **tree)
            self.assertEqual(len(found), loose, lines)

    def test_shrink_writes_the_list(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name in ("tests/check", "vmm/page"):
                (root / name).mkdir(parents=True)
            (root / "vmm/page/a.c").write_text("/* A. */\n" * 455)
            (root / "vmm/page/b.c").write_text("/* A. */\n#include \"vmm/fault/b.h\"\n")
            path = root / "tests/check/ratchet.txt"
            path.write_text("# The list.\nlines vmm/page/a.c 460\nlines vmm/page/b.c 470\nname f 2\n"
                            "cut vmm/page/b.c vmm/fault/b.h: a\ncut vmm/page/c.c vmm/fault/b.h: a\n")
            checks.shrink(root, True)
            self.assertEqual(path.read_text(), "# The list.\nlines vmm/page/a.c 455\n"
                                               "cut vmm/page/b.c vmm/fault/b.h: a\n")

    def test_columns(self):
        for text, problems in (("/* " + "a" * 94 + " */\n", 0), ("/* " + "a" * 95 + " */\n", 1),
                               ("int a; // " + "a" * 91 + "\n", 1),
                               ("/* A.\n * " + "a" * 98 + " */\n", 1),
                               ("const char *a = \"/* " + "a" * 95 + " */\";\n", 0)):
            self.assertEqual(len(self.problems(checks.columns, vmm__x_DOT_c=text)), problems, text)

    def test_names_are_defined_once(self):
        first = {"vmm__a_DOT_c": "/* A. */\nstatic int work(int a)\n{\n    return a;\n}\n"}
        self.assertEqual(self.problems(checks.once, **first), [])
        for name, problems in (("pmm__b_DOT_h", 1), ("tests__experiments__b_DOT_c", 1),
                               ("tests__host__b_DOT_c", 0)):
            other = {name: "/* B. */\nMUST_USE static void *work(void (*a)(int),\n    int b)\n{\n}\n"}
            self.assertEqual(len(self.problems(checks.once, **first, **other)), problems, name)
        calls = {"vmm__b_DOT_c": "/* B. */\nint work(int a);\nint c(void)\n{\n    if (work(1))\n"
                                 "        return work(2);\n    return 0;\n}\n"}
        self.assertEqual(self.problems(checks.once, **first, **calls), [])

    def test_assertions(self):
        text = "/* A. */\n" + "\n" * 98 + "CHECK(a);\n"
        self.assertEqual(len(self.problems(checks.assertions, vmm__a_DOT_c=text)), 1)
        found = self.problems(checks.assertions, vmm__a_DOT_c=text + "_Static_assert(1, \"\");\n" +
                              "PANIC(\"\");\n", pmm__a_DOT_c="CHECK_MSG(1);\n")
        self.assertEqual(found, [])

    def test_cited_rules(self):
        for text, problems in (("rule E1", 0), ("rules: E1 to E3", 1), ("(E2)", 0), ("see (E4).", 1),
                               ("Rule Z9", 1), ("Z9", 0), ("R8 and R15", 0), ("rule\n * D2", 1)):
            found = self.problems(checks.cited, vmm__x_DOT_c=f"/* A: {text} */\n")
            self.assertEqual(len(found), problems, text)
        self.assertEqual(self.problems(checks.cited, vmm__x_DOT_c="/* A. */\nchar *a = \"E7\";\n"), [])
        self.assertEqual(len(self.problems(checks.cited, docs__tree_DOT_md="By E7.\n")), 1)
        twice = TREE["docs/rules.md"] + "\n**E2.** Again.\n"
        self.assertEqual(len(self.problems(checks.cited, docs__rules_DOT_md=twice)), 1)

    def test_guards_of_rules(self):
        for guard, problems in (("test `host/a`", 0), ("boot test `boot/two-processors`", 0),
                                ("mutant `no-flush`", 0), ("experiment `cow`", 0), ("test `host/b`", 1),
                                ("test `boot/three-processors`", 1),
                                ("test `explore/pairs`", 0), ("test `explore/threes`", 1), ("mutant `none`", 1),
                                ("experiment `co`", 1)):
            text = f"# Rules\n\n**E1.** One.\n*Built:* {guard}.\n"
            self.assertEqual(len(self.problems(checks.guards, docs__rules_DOT_md=text)), problems, guard)
        self.assertEqual(len(self.problems(checks.guards, docs__rules_DOT_md="**E1.** One.\n")), 1)

    def test_mutants(self):
        good = TREE["tests/mutants/no-flush.patch"]
        for patch, problems in ((good, 0), (good.replace("hlt", "hltt"), 1), (good.replace("# test", "#"), 1),
                                (good.replace("machine.c", "machines.c"), 1), ("# test: host/a\n", 1)):
            found = self.problems(checks.mutants, tests__mutants__a_DOT_patch=patch)
            self.assertEqual(len(found), problems, patch)

    def test_paths_in_pages(self):
        for text, problems in (("`pmm/pmm.c`", 0), ("pmm/pmm.d", 1), ("tests/mutants/NAME.patch", 0),
                               ("tests/fuzz/fuzz_X.c", 1), ("pmm/*.c.", 0), ("[a](docs/no.md)", 2),
                               ("[a](https://example.org/pmm/a)", 0), ("build/vmm/a", 0),
                               ("`machine_ticks`, `run.machine_ticks(a)`, `test_a`", 0),
                               ("`machine_tocks`", 1)):
            self.assertEqual(len(self.problems(checks.paths, README_DOT_md=text + "\n")), problems, text)
        self.assertEqual(len(self.problems(checks.paths, docs__a_DOT_md="[a](b.md)\n")), 1)

    def test_names_in_comments(self):
        for text, problems in (("pmm.c and pmm/pmm.c", 0), ("pmn.c", 1), ("pmm/pmn.c", 1), ("<pmn.c>", 0),
                               ("machine_ticks(), machine_*", 0), ("machine_tocks", 1), ("IA32_TOCKS", 0)):
            found = self.problems(checks.named, cpu__b_DOT_c=f"/* {text} */\n")
            self.assertEqual(len(found), problems, text)

    def test_places_in_pages(self):
        for text, problems in (("`twice` in `cpu/machine.h`", 0), ("`twice`\nin `cpu/machine.c`", 1),
                               ("`twice` in `cpu/no.h`", 1), ("`twic` in `cpu/machine.h`", 1),
                               ("`make run OPTIONS=\"run=c*,cow\"`", 0), ("```\nmake rum\n```", 1),
                               ("`make runs`", 1), ("`run=cow,crow`", 1), ("`run=b*`", 1),
                               ("`run=own`\n```c a.c\n.name = \"own\",\n```", 0)):
            self.assertEqual(len(self.problems(checks.places, README_DOT_md=text + "\n")), problems, text)

    def test_figures_in_pages(self):
        record = "made with\ta\nbench\tcost\t1200\nicount\tsize.a\t64\nicount\tsize.b\t21\n"
        record += "README.md\tcosts {cost} instructions\nREADME.md\t{size.a/size.b} times\n"
        for text, problems in (("costs 1,200\ninstructions, 3 times", 0),
                               ("costs 1,201 instructions, 3 times", 1),
                               ("costs 1,200 instructions, 4 times", 1), ("costs 3 times", 1),
                               ("costs 1,200 instructions, 3 times, 7 ticks", 1)):
            found = self.problems(checks.quotes, README_DOT_md=text + "\n",
                                  tests__check__figures_DOT_tsv=record)
            self.assertEqual(len(found), problems, text)
        lost = record.replace("icount\tsize.b\t21\n", "")
        found = self.problems(checks.quotes, README_DOT_md="costs 1,200 instructions, 3 times\n",
                              tests__check__figures_DOT_tsv=lost)
        self.assertEqual(len(found), 1)

    def test_figures_as_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "tests/check").mkdir(parents=True)
            (root / figures.FILE).write_text("made with\ta\nbench\tcost\t100\nREADME.md\t{cost} each\n"
                                             "README.md\tlines example\n")
            (root / "README.md").write_text("100 each\n```\nKTAP version 1\n...\nok 1 a\n```\n")
            for made, cost, problems in (("a", 100, 0), ("a", 101, 1), ("b", 109, 0), ("b", 111, 1)):
                found = figures.compared(root, made, {"bench": {"cost": cost}})
                self.assertEqual(len(found), problems, (made, cost))
            self.assertEqual(len(figures.compared(root, "a", {"bench": {}})), 1)
            good, bad = "KTAP version 1\n    ok 1 a\n", "KTAP version 1\nok 1 b\n"
            self.assertEqual(figures.examples(root, {"example": good}), [])
            self.assertEqual(len(figures.examples(root, {"example": bad})), 1)
            figures.write(root, "b", {"bench": {"cost": 1234}})
            self.assertTrue((root / "README.md").read_text().startswith("1,234 each"))
            self.assertEqual(figures.compared(root, "b", {"bench": {"cost": 1234}}), [])

    def test_formatting(self):
        style = {"_DOT_clang-format": (ROOT / ".clang-format").read_text()}
        for text, problems in (("/* A. */\nint a;\n", False), ("/* A. */\nint   a;\n", True)):
            found = self.problems(checks.formatting, **style, vmm__x_DOT_c=text)
            self.assertEqual(any("vmm/x.c" in line for line in found), problems, found)

    def test_tidy(self):
        for recipe, problems in (("true", False), ("echo a.c:1: wrong; false", True), ("exit 1", True)):
            found = self.problems(checks.tidy, Makefile=f"tidy: ## all\n\t@{recipe}\n")
            self.assertEqual(bool(found), problems, recipe)
        self.assertEqual(checks.complaints(1, ""), ["it ended with 1"])

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
