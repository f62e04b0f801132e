"""The rules that `make check` holds the sources to; each function returns (what it did, problems)."""

import fnmatch
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import figures
import ratchet

# From the lowest to the highest: a folder includes headers of itself and of those before it.
LAYERS = ("lib", "cpu", "pmm", "paging", "swapdisk", "vmm", "efi", "tests")
FOLDERS = LAYERS + ("ovmf",)
HOST_FOLDERS = ("ovmf", "tests/host", "tests/fuzz")  # also use the C library; tests look inside wings
# The one application beside the image: it starts the image on Bochs.
LOADER = "ovmf/bochs-loader.c"
# Headers of the C library that need no library, and the trees and lists of libbsd, which are macros.
FREESTANDING = {"stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "limits.h", "stdatomic.h",
                "bsd/sys/tree.h", "bsd/sys/queue.h"}
# The headers that declare the machine's functions for the core.
SEAMS = ("cpu/machine.h", "cpu/interrupts/idle_halt.h", "cpu/smp/thread.h",
         "lib/bytes.h", "lib/check.h", "swapdisk/ahci/hardware.h", "swapdisk/pci/pci.h",
         "paging/kernel/map.h", "vmm/fault/entry.h")
SEAM_LIBRARY = {"memcpy", "memset", "memmove", "memcmp",  # the compiler itself calls these
                "_GLOBAL_OFFSET_TABLE_"}  # and reaches the ends of a linker's table by it
# The ends of the tables that efi/image/faultline.lds collects.
SEAM_LINKER = {f"__{end}_{table}" for end in ("start", "stop")
               for table in ("shrinkers", "frame_allocators", "policies")}
SEAM_INLINE = {"machine_by_bytes"}  # a variable that the functions of cpu/machine_inline.h read
CORE = ("lib", "pmm", "paging", "swapdisk", "vmm")
# Where inline assembly is allowed.
ASSEMBLY = re.compile(r"cpu/.*|paging/kernel/[a-z_]*\.[cS]|tests/(programs|runner|experiments)/.*\.[cS]")
# The wings of each folder from the lowest to the highest; a wing includes headers of itself and of
# those before it. A file may be a wing of its own, by its name without the suffix.
WINGS = {
    "cpu": ("cpu", "cpu/clock", "cpu/interrupts", "cpu/trap", "cpu/smp", "cpu/crash"),
    "pmm": ("pmm/alloc", "pmm"),
    "paging": ("paging", "paging/kernel", "paging/tlb", "paging/tree", "paging/plain", "paging/sole",
               "paging/ticket"),
    "swapdisk": ("swapdisk/pci", "swapdisk/format", "swapdisk/block", "swapdisk/ahci",
                 "swapdisk/fs", "swapdisk", "swapdisk/mark", "swapdisk/area", "swapdisk/log"),
    "vmm": ("vmm/policy", "vmm/ghosts", "vmm/range_tree", "vmm/page", "vmm/reclaimer", "vmm/space", "vmm/section", "vmm/flex", "vmm/files",
            "vmm/fault", "vmm/range", "vmm/program"),
    "efi": ("efi/trace", "efi/options", "efi/log", "efi/firmware", "efi/acpi", "efi/console", "efi/image", "efi"),
    "tests": ("tests/model", "tests/screen", "tests/programs", "tests/runner", "tests/experiments", "tests/host",
              "tests/fuzz"),
}
KEPT_INCLUDES = 3  # a folder, each with its reason in tests/check/ratchet.txt
# What a value beyond the limit of its kind is, by kind; see tests/check/ratchet.py.
LIMITS = {"lines": 450, "header": 250, "wing-files": 14, "wing-lines": 3000, "columns": 0, "name": 1,
          "lines-per-assertion": 50}
PRODUCT = ("lib", "cpu", "pmm", "paging", "swapdisk", "vmm", "efi", "ovmf")
ASSERTED = ("pmm", "paging", "swapdisk", "vmm")
ASSERTION = re.compile(r"\b(?:CHECK|CHECK_MSG|PANIC|_Static_assert)\s*\(")
COMMENT_COLUMNS = 100
# Folders whose sources are linked into the image, where a function's name is to be unique.
LINKED = ("lib", "cpu", "pmm", "paging", "swapdisk", "vmm", "efi", "tests/screen", "tests/programs",
          "tests/runner",
          "tests/experiments", "tests/model")
DEFINITION = re.compile(r"^(?!typedef\b|struct\s+\w+\s*\{)[A-Za-z_][^;={}#]*?\b(?!__attribute__)([a-z_]\w*)\s*"
                        r"\((?:[^;{}]*)\)\s*\n\{", re.MULTILINE)
RULES = "docs/rules.md"
RULE = re.compile(r"^\*\*([A-Z]\d{1,2})\.\*\*", re.MULTILINE)
CITED = re.compile(r"\b([A-Z]\d{1,2})\b")
NO_RULES = {f"R{number}" for number in range(8, 16)} | {"D0"}  # registers, a power state of PCI
# A path of the tree in a document; X and NAME in it stand for any name.
DOCUMENT_PATH = re.compile(r"(?<![\w./-])(?:" + "|".join(FOLDERS) + r"|docs|\.ci)/[\w./*-]*")
CODE_FILES = {".c", ".h", ".S", ".py", ".mk", ".lds", ""}
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*', re.DOTALL)
# A file, and a name with a lower-case letter and a line below, that a comment names.
COMMENT_FILE = re.compile(r"(?<![\w/.<*-])(?:[a-z_0-9-]+/)*[a-z_0-9-]+\.[chS]\b")
COMMENT_NAME = re.compile(r"(?<![\w/-])[a-z][a-z0-9]*_\w+(?![\w/.])")
CODE_NAME = re.compile(r"(?<![\w/-])[A-Za-z]\w*_\w+")
FOREIGN_NAMES = {"glossary.md"}  # names of other systems
PROPOSED = re.compile(r"^```\w+ \S+$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)\)")
PLACED = re.compile(r"`(\w+)`\s+in\s+`([\w./-]+\.[chS])`")  # a name, and the file that has it
TARGET = re.compile(r"(?:`|^)make ([a-z][a-z-]*)", re.MULTILINE)
RUN = re.compile(r"\brun=([a-z][\w*?,-]*)")
FUNCTION_LINES = 80
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK|not imple" r"mented|unimple" r"mented|"
                        r"for n" r"ow|place" r"holder|dum" r"my|st" r"ub)\b", re.IGNORECASE)
TEXT_FILES = {".c", ".h", ".S", ".lds", ".mk", ".md", ".py", ".sh", ".gdb", ""}

Outcome = Tuple[str, List[str]]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def sources(root: Path, suffixes=(".c", ".h")) -> List[Path]:
    """The C files of the project, by paths from its root."""
    return sorted(path.relative_to(root) for folder in FOLDERS for path in (root / folder).rglob("*")
                  if path.suffix in suffixes and path.is_file())


def without_comments(text: str) -> str:
    """The same text and lines, comments and strings blanked."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.DOTALL)


def comments(text: str) -> Iterator[Tuple[int, str]]:
    """Yields (offset, text) of each comment; strings are skipped."""
    for match in re.finditer(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', text, flags=re.DOTALL):
        if match[0].startswith("/"):
            yield match.start(), match[0]


def includes(root: Path) -> Outcome:
    """Includes point down the layers; only efi/ sees the firmware's headers."""
    problems, count = [], 0
    for path in sources(root, (".c", ".h", ".S")):
        layer = path.parts[0]
        hosted = str(path).startswith(HOST_FOLDERS)
        for kind, name in INCLUDE.findall((root / path).read_text()):
            count += 1
            other = name.split("/")[0]
            if kind == '"' and name != "build/version.h":
                if other not in FOLDERS:
                    problems.append(f"{path}: \"{name}\" is not a path from the root")
                elif FOLDERS.index(other) > FOLDERS.index(layer):
                    problems.append(f"{path}: {layer}/ may not include {name}")
            elif kind == "<" and re.match(r"(efi|Uefi|Library/|Protocol/)", name):
                if layer != "efi" and str(path) != LOADER:
                    problems.append(f"{path}: <{name}> is a UEFI header outside of efi/")
            elif kind == "<" and not hosted and name not in FREESTANDING:
                problems.append(f"{path}: <{name}> is not a freestanding header")
    return f"{count} includes point down the layers", problems


def declared_functions(text: str) -> Set[str]:
    """Returns the names of the functions that a header declares."""
    text = re.sub(r"^\s*#(?:\\\n|[^\n])*", "", without_comments(text), flags=re.MULTILINE)
    while "{" in text:
        shorter = re.sub(r"\{[^{}]*\}", ";", text)
        if shorter == text:
            break
        text = shorter
    names = set()
    for declaration in text.split(";"):
        found = re.search(r"\b(?!__attribute__)([a-z_][a-z0-9_]*)\s*\(", declaration)
        if found and not re.search(r"\b(static|typedef)\b", declaration):
            names.add(found[1])
    return names


def seam(root: Path, objects: List[str], scratch: str) -> Outcome:
    """Checks that the core's objects, linked together, need only the named seams."""
    allowed: Dict[str, str] = {name: "the compiler" for name in SEAM_LIBRARY}
    allowed.update((name, "cpu/machine_inline.h") for name in SEAM_INLINE)
    allowed.update((name, "the linker") for name in SEAM_LINKER)
    for header in SEAMS:
        if (root / header).exists():
            for name in declared_functions((root / header).read_text()):
                allowed[name] = header
    linked = subprocess.run(["ld", "-r", "-o", scratch] + objects, cwd=root, text=True,
                            stderr=subprocess.PIPE)
    if linked.returncode:
        return "", linked.stderr.splitlines()
    listing = subprocess.run(["nm", "-u", scratch], check=True, cwd=root, text=True,
                             stdout=subprocess.PIPE).stdout
    needed = {line.split()[-1] for line in listing.splitlines()}
    problems = [f"the core needs {name}, which no seam declares"
                for name in sorted(needed - set(allowed))]
    return f"{len(objects)} objects of the core need {len(needed)} functions of the seams", problems


def assembly(root: Path) -> Outcome:
    """Checks that inline assembly and assembly files are only where they are allowed."""
    problems, count = [], 0
    for path in sources(root, (".c", ".h", ".S")):
        if not ASSEMBLY.fullmatch(str(path)) and path.suffix == ".S" and path.parts[0] != "efi":
            problems.append(f"{path}: an assembly file outside of cpu/, efi/ and the handover")
        text = without_comments((root / path).read_text())
        for match in re.finditer(r"\b(?:__asm__|__asm|asm)\b", text):
            count += 1
            if not ASSEMBLY.fullmatch(str(path)):
                line = text[:match.start()].count("\n") + 1
                problems.append(f"{path}:{line}: inline assembly")
    return f"{count} pieces of inline assembly in their places", problems


def functions(text: str):
    """(line, lines, name) of each function of a C file in the house style."""
    start, name = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("{"):
            start = number
        elif re.match(r"[A-Za-z_].*\(", line) and not line.startswith("#"):
            name = line
        if line.startswith("}") and start:
            yield start, number - start, name
            start = 0


def shape(root: Path) -> Outcome:
    """Every file opens with a comment, and no function is too long."""
    problems, count = [], 0
    for path in sources(root, (".c", ".h", ".S", ".lds")):
        text = (root / path).read_text()
        if not text.startswith("/*"):
            problems.append(f"{path}: does not open with a comment that says what it is")
        if path.suffix != ".c":
            continue
        for line, length, name in functions(text):
            count += 1
            if length > FUNCTION_LINES:
                problems.append(f"{path}:{line}: {length} lines: {name.strip()}")
    return f"{count} functions of at most {FUNCTION_LINES} lines, files with an opening", problems


def words(root: Path) -> Outcome:
    """No words of unfinished work."""
    problems, count = [], 0
    for folder in FOLDERS + ("docs", "."):
        paths = (root / folder).glob("*") if folder == "." else (root / folder).rglob("*")
        for path in sorted(paths):
            if not path.is_file() or path.suffix not in TEXT_FILES or "mutants" in path.parts:
                continue
            if "__pycache__" in path.parts or path.name.startswith("."):
                continue
            count += 1
            for number, line in enumerate(path.read_text(errors="replace").split("\n"), 1):
                if UNFINISHED.search(line):
                    problems.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    return f"no word of unfinished work in {count} files", problems


def wing_of(path: str) -> str:
    """Returns the wing of a path: its folder's subfolder, or the folder itself."""
    parts = path.split("/")
    alone = path.rsplit(".", 1)[0]
    if alone in WINGS.get(parts[0], ()):
        return alone
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def upward_includes(root: Path) -> Iterator[Tuple[str, str, str]]:
    """(file, header, problem) of includes that point up inside a folder, or into another wing."""
    for path in sources(root, (".c", ".h", ".S")):
        wing = wing_of(str(path))
        for kind, name in INCLUDE.findall((root / path).read_text()):
            other = wing_of(name)
            if kind != '"' or other == wing:
                continue
            if name.endswith("internal.h") and not str(path).startswith(HOST_FOLDERS):
                yield str(path), name, "is for its own wing"
            order = WINGS.get(path.parts[0], ())
            if name.split("/")[0] != path.parts[0] or not order:
                continue
            if wing not in order or other not in order:
                yield str(path), name, "has no place in the order of wings"
            elif order.index(other) > order.index(wing):
                yield str(path), name, f"is of a higher wing than {wing}"


def wings(root: Path) -> Outcome:
    """Includes between the wings of a folder point down; internal headers stay in their wing."""
    _, excepted = ratchet.read(root)
    found = list(upward_includes(root))
    problems = [f"{path}: {name} {problem}" for path, name, problem in found
                if (path, name) not in excepted]
    kept = defaultdict(list)
    for (path, name), (kind, reason) in excepted.items():
        if kind == "keep":
            kept[path.split("/")[0]].append(name)
        if len(reason.split()) < 3:
            problems.append(f"{ratchet.FILE}: {path} {name}: no reason")
    problems += [f"{ratchet.FILE}: {len(names)} kept includes in {folder}/, at most {KEPT_INCLUDES}"
                 for folder, names in kept.items() if len(names) > KEPT_INCLUDES]
    return f"wings in order, but for {len(excepted)} includes", problems


def size_measures(root: Path) -> Dict[str, ratchet.Measured]:
    """Lines of files and public headers, files and lines of wings."""
    measured = {kind: defaultdict(int) for kind in ("lines", "header", "wing-files", "wing-lines")}
    for path in sources(root, (".c", ".h", ".S")):
        if path.parts[0] not in PRODUCT:
            continue
        length = (root / path).read_text().count("\n")
        public = path.suffix == ".h" and not path.name.endswith("internal.h")
        measured["header" if public else "lines"][str(path)] = length
        measured["wing-files"][wing_of(str(path))] += 1
        measured["wing-lines"][wing_of(str(path))] += length
    return measured


def sizes(root: Path) -> Outcome:
    """Files, public headers and wings of the product are small; the larger ones do not grow."""
    measured = size_measures(root)
    problems = []
    for kind, unit in (("lines", "lines"), ("header", "lines"), ("wing-files", "files"),
                       ("wing-lines", "lines")):
        problems += ratchet.exceeded(root, kind, measured[kind], LIMITS[kind], unit)
    return f"sizes of {len(measured['wing-files'])} wings", problems


def column_measures(root: Path) -> ratchet.Measured:
    """Returns the lines of each file whose comment exceeds the last column."""
    measured = defaultdict(int)
    for path in sources(root, (".c", ".h", ".S")):
        text = (root / path).read_text()
        for start, comment in comments(text):
            first = text.rfind("\n", 0, start) + 1
            for line in text[first:start + len(comment)].split("\n"):
                measured[str(path)] += len(line) > COMMENT_COLUMNS
    return measured


def columns(root: Path) -> Outcome:
    """Checks that comments end at column 100; clang-format checks the code."""
    measured = column_measures(root)
    return (f"comments end at column {COMMENT_COLUMNS}",
            ratchet.exceeded(root, "columns", measured, LIMITS["columns"], "comment lines too wide"))


def definitions(root: Path) -> Dict[str, Set[str]]:
    """Returns, for each function name in the linked image, the files that define it."""
    defined = defaultdict(set)
    for path in sources(root):
        if str(path).startswith(tuple(folder + "/" for folder in LINKED)):
            for name in DEFINITION.findall(without_comments((root / path).read_text())):
                defined[name].add(str(path))
    return defined


def once(root: Path) -> Outcome:
    """A function's name is defined once in the image, so that a backtrace names one place. The
    sources are read, and not the symbols: an inlined function is in a backtrace too."""
    defined = definitions(root)
    measured = {name: len(files) for name, files in defined.items()}
    problems = ratchet.exceeded(root, "name", measured, LIMITS["name"], "files define it")
    for number, problem in enumerate(problems):
        problems[number] += ": " + ", ".join(sorted(defined[problem.split(":")[0]]))
    return f"{len(defined)} names of functions", problems


def assertion_measures(root: Path) -> ratchet.Measured:
    """Lines for each assertion, by folder."""
    lines, assertions = defaultdict(int), defaultdict(int)
    for path in sources(root):
        if path.parts[0] in ASSERTED:
            text = (root / path).read_text()
            lines[path.parts[0]] += text.count("\n")
            assertions[path.parts[0]] += len(ASSERTION.findall(without_comments(text)))
    return {folder: -(-lines[folder] // max(assertions[folder], 1)) for folder in lines}


def assertions(root: Path) -> Outcome:
    """At least 2 assertions in 100 lines where memory is managed."""
    measured = assertion_measures(root)
    told = ", ".join(f"{folder} {100 / lines:.1f}" for folder, lines in sorted(measured.items()))
    return (f"assertions in 100 lines: {told}",
            ratchet.exceeded(root, "lines-per-assertion", measured, LIMITS["lines-per-assertion"],
                             "lines for each assertion"))


def documents(root: Path) -> List[Path]:
    """Returns the documents, by paths from the root."""
    return sorted(path.relative_to(root) for path in [*root.glob("docs/*.md"), root / "README.md"]
                  if path.exists())


def cited(root: Path) -> Outcome:
    """Every rule that a comment or a page cites is in docs/rules.md, once. A capital letter and a
    number in a comment is a rule where the letter is one of the rules' or the word rule is before."""
    rules = RULE.findall((root / RULES).read_text())
    letters = {rule[0] for rule in rules}
    problems = [f"{RULES}: {rule} is there twice" for rule in set(rules) if rules.count(rule) > 1]
    count = 0
    for path in sources(root, (".c", ".h", ".S")) + documents(root):
        text = (root / path).read_text()
        for start, part in [(0, text)] if path.suffix == ".md" else comments(text):
            for match in CITED.finditer(part):
                rule = match[1]
                said = re.search(r"\brules?:?[\s*]+$", part[:match.start()], re.IGNORECASE)
                if rule in NO_RULES or not (said or rule[0] in letters):
                    continue
                count += 1
                if rule not in rules:
                    line = text[:start + match.start()].count("\n") + 1
                    problems.append(f"{path}:{line}: {RULES} has no rule {rule}")
    return f"{count} citations of {len(rules)} rules", problems


def guards(root: Path) -> Outcome:
    """Each rule says whether it is built, and the tests, mutants and experiments that it names exist."""
    text = (root / RULES).read_text()
    parts = RULE.split(text.split("\n# Rules of planned work")[0])
    problems = [f"{RULES}: {rule} does not say whether it is built"
                for rule, body in zip(parts[1::2], parts[2::2])
                if not re.search(r"\*(Built|Built in part|To come)\b", body)]
    cases = "".join(path.read_text() for path in (root / "tests/boot").rglob("*.py"))
    experiments = "".join(path.read_text() for path in (root / "tests/experiments").rglob("*.c"))
    scenarios = root / "tests/host/explore/scenarios"
    explored = scenarios.read_text() if scenarios.exists() else ""
    named = re.findall(r"\b(test|mutant|experiment)\s+`([^`]+)`", text)
    for kind, name in named:
        folder, _, rest = name.partition("/")
        function = rest.replace("-", "_")
        if not {"mutant": lambda: (root / f"tests/mutants/{name}.patch").exists(),
                "experiment": lambda: f'"{name}"' in experiments,
                "test": lambda: (f"def {function}(" in cases if folder == "boot" else
                                 f"\n{rest} " in explored if folder == "explore" else
                                 (root / f"tests/host/test_{rest}.c").exists())}[kind]():
            problems.append(f"{RULES}: there is no {kind} {name}")
    return f"{len(named)} guards of rules exist", problems


def mutants(root: Path) -> Outcome:
    """Each mutant names its test, and its patch applies to the tree as it is."""
    problems = []
    patches = sorted((root / "tests/mutants").glob("*.patch"))
    for path in patches:
        words = path.read_text()
        tried = subprocess.run(["patch", "-p1", "--dry-run", "--force"], cwd=root, input=words, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if not re.match(r"# test: \S+\n", words):
            problems.append(f"{path.relative_to(root)}: the first line is not '# test: NAME'")
        if tried.returncode != 0:
            problems.append(f"{path.relative_to(root)}: it does not apply")
    return f"{len(patches)} mutants apply", problems


def paths(root: Path) -> Outcome:
    """Every file, folder and name of the code that a page names is in the tree."""
    problems, count = [], 0
    code = set()
    for path in root.rglob("*"):
        if path.suffix not in CODE_FILES or path.relative_to(root).parts[0] in ("build", ".git"):
            continue
        code.add(path.stem)
        code.update(re.split("(?:test|fuzz)_", path.stem))
        if path.is_file():
            code.update(re.findall(r"\w+", path.read_text(errors="replace")))
    for page in documents(root):
        # A code block with a path is a new file that the page proposes.
        text = PROPOSED.sub(lambda match: " " * len(match[0]), (root / page).read_text())
        found = [(match.start(), match[0].rstrip("."), root) for match in DOCUMENT_PATH.finditer(text)]
        found += [(match.start(), match[1], root / page.parent) for match in LINK.finditer(text)]
        for start, name, base in found:
            pattern = re.sub(r"(?<![A-Za-z])(X|NAME)(?![A-Za-z])", "*", name).rstrip("/")
            if not any(base.glob(pattern)):
                problems.append((page, start, name))
        names = [(match.start(), name) for match in re.finditer(r"`([^`\n]+)`", text)
                 for name in CODE_NAME.findall(match[1]) if page.name not in FOREIGN_NAMES]
        problems += [(page, start, name) for start, name in names if name not in code]
        count += len(found) + len(names)
    return (f"{count} paths and names in {len(documents(root))} pages",
            [f"{page}:{(root / page).read_text()[:start].count(chr(10)) + 1}: there is no {name}"
             for page, start, name in problems])


def code_words(root: Path) -> Set[str]:
    """Returns all words of the code without its comments, and of the names of files."""
    found = set()
    for path in (path for folder in FOLDERS for path in (root / folder).rglob("*")):
        found.update(re.split("(?:test|fuzz)_", path.stem) + [path.stem])
        if path.suffix in CODE_FILES and path.is_file():
            text = path.read_text(errors="replace")
            found.update(re.findall(r"\w+", COMMENT.sub(" ", text)
                                    if path.suffix in (".c", ".h", ".S") else text))
    return found


def named(root: Path) -> Outcome:
    """The files, and the functions and variables, that comments name are in the tree."""
    problems, count = [], 0
    words = code_words(root)
    files = {path.name for folder in FOLDERS for path in (root / folder).rglob("*.[chS]")}
    for path in sources(root, (".c", ".h", ".S")):
        text = (root / path).read_text()
        for start, comment in comments(text):
            named_files = [(match.start(), match[0]) for match in COMMENT_FILE.finditer(comment)]
            lost = [(at, name) for at, name in named_files
                    if not ((root / name).exists() or any(root.glob(f"*/{name}"))
                            if "/" in name else name in files)]
            names = [(match.start(), match[0]) for match in COMMENT_NAME.finditer(comment)]
            lost += [(at, name) for at, name in names if name not in words]
            problems += [f"{path}:{text[:start + at].count(chr(10)) + 1}: there is no {name}"
                         for at, name in lost]
            count += len(named_files) + len(names)
    return f"{count} files and names in comments", problems


def places(root: Path) -> Outcome:
    """A name that a page places in a file is there, and make's targets and the experiments that a page
    tells the reader to run exist."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(), re.MULTILINE))
    sources_of = [path.read_text() for path in (root / "tests/experiments").rglob("*.c")]
    problems, count = [], 0
    for page in documents(root):
        text = (root / page).read_text()
        named = set(re.findall(r"\.name = \"([\w-]+)\"", "\n".join(sources_of + [text])))
        found = [(match.start(), f"{match[2]} has no {match[1]}", (root / match[2]).exists() and bool(
            re.search(rf"\b{match[1]}\b", (root / match[2]).read_text())))
                 for match in PLACED.finditer(text)]
        found += [(match.start(), f"there is no target {match[1]}", match[1] in targets)
                  for match in TARGET.finditer(text)]
        found += [(match.start(), f"there is no experiment {name}", bool(fnmatch.filter(named, name)))
                  for match in RUN.finditer(text) for name in match[1].split(",") if name]
        count += len(found)
        problems += [f"{page}:{text[:start].count(chr(10)) + 1}: {problem}"
                     for start, problem, exists in found if not exists]
    return f"{count} names in their files, targets and experiments in the pages", problems


def quotes(root: Path) -> Outcome:
    """Figures in pages are those of the record; tests/check/figures measures them."""
    return figures.quoted(root)


def shrink(root: Path, write: bool) -> Outcome:
    """The ratchet's list is as short as it can be; with `write`, makes it so."""
    measured = dict(size_measures(root), columns=column_measures(root),
                    name={name: len(files) for name, files in definitions(root).items()})
    measured["lines-per-assertion"] = assertion_measures(root)
    old = (root / ratchet.FILE).read_text()
    new = ratchet.shrunk(root, measured, LIMITS, [found[:2] for found in upward_includes(root)])
    if write:
        (root / ratchet.FILE).write_text(new)
    stale = set(old.split("\n")) - set(new.split("\n"))
    return (f"no line of {ratchet.FILE} is loose",
            [f"{line}: run tests/check/run --shrink" for line in sorted(stale)])


def complaints(status: int, text: str) -> List[str]:
    """Returns a tool's lines if it has failed; at least one then, even of a tool without a word."""
    return (text.splitlines() or [f"it ended with {status}"]) if status else []


def formatting(root: Path) -> Outcome:
    """clang-format would change nothing."""
    files = [str(path) for path in sources(root)]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror"] + files, cwd=root, text=True,
                          stderr=subprocess.PIPE)
    return f"{len(files)} files are formatted", complaints(done.returncode, done.stderr)


def tidy(root: Path) -> Outcome:
    """Runs clang-tidy on changed files; it must find nothing."""
    done = subprocess.run(["make", "--no-print-directory", "-k", "tidy"], cwd=root, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return "clang-tidy has no complaint", complaints(done.returncode, done.stdout)
