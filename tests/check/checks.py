"""The rules that `make check` holds the sources to; each function returns (what it did, problems)."""

import re
import subprocess
from pathlib import Path
from typing import Dict, List, Set, Tuple

# From the lowest to the highest: a folder includes headers of itself and of those before it.
LAYERS = ("lib", "cpu", "pmm", "paging", "swapdisk", "vmm", "efi", "tests")
FOLDERS = LAYERS + ("ovmf",)
HOST_FOLDERS = ("ovmf", "tests/host", "tests/fuzz")  # also use the C library
# Headers of the C library that need no library, and the trees and lists of libbsd, which are macros.
FREESTANDING = {"stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "limits.h", "stdatomic.h",
                "bsd/sys/tree.h", "bsd/sys/queue.h"}
# The headers that declare what the core leaves to the machine.
SEAMS = ("cpu/machine.h", "cpu/smp/thread.h", "lib/bytes.h", "lib/check.h", "swapdisk/ahci/hardware.h", "swapdisk/pci/pci.h",
         "paging/kernel/map.h", "vmm/fault/entry.h")
SEAM_LIBRARY = {"memcpy", "memset", "memmove", "memcmp"}  # the compiler itself calls these
SEAM_INLINE = {"machine_by_bytes"}  # a variable that the functions of cpu/machine_inline.h read
CORE = ("lib", "pmm", "paging", "swapdisk", "vmm")
# Where inline assembly may stand.
ASSEMBLY = re.compile(r"cpu/.*|paging/kernel/[a-z_]*\.[cS]|tests/(runner|experiments)/.*\.[cS]")
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
                if layer != "efi":
                    problems.append(f"{path}: <{name}> is a UEFI header outside of efi/")
            elif kind == "<" and not hosted and name not in FREESTANDING:
                problems.append(f"{path}: <{name}> is not a freestanding header")
    return f"{count} includes point down the layers", problems


def declared_functions(text: str) -> Set[str]:
    """The names of the functions that a header declares."""
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
    """The core's objects, linked together, need nothing but the named seams."""
    allowed: Dict[str, str] = {name: "the compiler" for name in SEAM_LIBRARY}
    allowed.update((name, "cpu/machine_inline.h") for name in SEAM_INLINE)
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
    """Inline assembly and assembly files stand where they are allowed."""
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


def formatting(root: Path) -> Outcome:
    """clang-format would change nothing."""
    files = [str(path) for path in sources(root)]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror"] + files, cwd=root, text=True,
                          stderr=subprocess.PIPE)
    return f"{len(files)} files are formatted", done.stderr.splitlines() if done.returncode else []


def tidy(root: Path) -> Outcome:
    """clang-tidy finds nothing; unchanged files are not read again."""
    done = subprocess.run(["make", "--no-print-directory", "-k", "tidy"], cwd=root, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return "clang-tidy has no complaint", done.stdout.splitlines() if done.returncode else []
