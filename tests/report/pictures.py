"""Which picture an experiment has: its figures as lines, bars, dots, stacks or a table.

A picture whose figures are missing is left out; one of costs needs a run that counts instructions.
"""

import math
import re
from typing import Callable, Dict, List, NamedTuple, Optional

import svg
from svg import Cell, Line, Row, Stack

# Instructions of the same fault in Linux, and those that clear or copy the page in both: the columns
# `lean` and `clear or copy` of tests/bench/targets.tsv.
FAULT_WORDS = {"zero_read": "first read", "anon_first_write": "first write",
               "zero_to_private": "write after read", "cow_copy": "write, shared page",
               "cow_reuse": "write, last owner", "violation": "bad access"}

# Linux's forks of other sizes, in MiB, stock and lean: measured with those of tests/bench/targets.tsv.
LINUX_FORKS = {1: (145336, 74435), 64: (2327312, 2144212)}

# Fill levels of `frame-allocator` after mixed use.
LEVELS = (10, 20, 30, 40, 50, 60, 70)


class LinuxRow(NamedTuple):
    stock: Optional[int]
    lean: Optional[int]
    clearing: int


class Source:
    """The figures of one experiment, and those of the benchmarks."""

    def __init__(self, name: str, metrics, bench: Dict[str, int], linux: Dict[str, LinuxRow]):
        self.name = name
        self.metrics = metrics
        self.bench = bench
        self.linux = linux

    def __call__(self, figure: str) -> float:
        """Returns a figure; KeyError if there is none."""
        return self.metrics[f"{self.name}.{figure}"].value

    def cost(self, figure: str) -> float:
        """Returns a figure in instructions; KeyError if this run has none."""
        metric = self.metrics[f"{self.name}.{figure}"]
        if metric.unit != "instructions":
            raise KeyError(figure)
        return metric.value

    def names(self, end: str) -> List[str]:
        """Returns the middle of each figure with this end, in the order of the log; KeyError if there is
        none."""
        begin = self.name + "."
        found = [full[len(begin):-len(end)] for full in self.metrics
                 if full.startswith(begin) and full.endswith(end)]
        if not found:
            raise KeyError(end)
        return found

    def may(self, figure: str) -> float:
        metric = self.metrics.get(f"{self.name}.{figure}")
        return metric.value if metric else 0


def ticket_range(of: Source) -> str:
    sizes = ("8m", "64m", "512m", "8192m")
    return svg.lines("Bytes of tickets and tables by size of the program", [
        Line("one a page", [of(f"page.bytes.{size}") for size in sizes], 1),
        Line("one a range", [of(f"range.bytes.{size}") for size in sizes], 2),
        Line("upper levels", [of(f"upper.bytes.{size}") for size in sizes], 0),
    ], ("8 MiB", "64 MiB", "512 MiB", "8 GiB"), "bytes of tickets and tables", "size of the program",
        places=(3, 6, 9, 13))


def ticket_exit(of: Source) -> str:
    strides = ("4k", "256k", "2m", "1g")
    return svg.lines("Instructions to take a space down, by stride", [
        Line("full scan", [of.cost(f"full_scan.{at}") for at in strides], 1),
        Line("lean scan", [of.cost(f"lean_scan.{at}") for at in strides], 4),
        Line("live counts", [of.cost(f"live_counts.{at}") for at in strides], 0),
        Line("owner's list", [of.cost(f"owner_list.{at}") for at in strides], 2),
        Line("lazy + sweep", [of.cost(f"lazy.exit.{at}") + of.cost(f"lazy.sweep.{at}")
                              for at in strides], 3),
    ], ("4 KiB", "256 KiB", "2 MiB", "1 GiB"), "instructions to take 128 pages down",
        "one page in each ...")


def ticket_forge(of: Source) -> str:
    widths = ("width0", "width4", "width8", "width12", "width16", "shipped")

    def rate(kind: str) -> List[float]:
        return [of(f"{width}.{kind}") or 0.5 for width in widths]

    return svg.lines("Forgeries that pass, by width of the signature", [
        Line("stale", rate("stale"), 1), Line("flipped bits", rate("flipped"), 2),
        Line("random", rate("random"), 3),
    ], ("0", "4", "8", "12", "16", "24, shipped"), "accepted of a million (bottom: none)",
        "bits of signature; the shipped ones have a generation", band=5)


def ticket_share(of: Source) -> str:
    return svg.dots("Bytes of bookkeeping for a GiB that is never touched", [
        Row("one ticket a page", of("per_page.1x1-64m"), 1),
        Row("a record a region, 64 regions", of("per_region.16x64-1024m"), 2),
        Row("shared, 64 regions", of("shared.16x64-1024m"), 0),
        Row("a record a region, 1 region", of("per_region.16x1-1024m"), 2),
        Row("shared, 1 region", of("shared.16x1-1024m"), 0, "shipped"),
    ], "bytes a GiB")


def entry_states(of: Source) -> str:
    return svg.bars("Bytes beside the tables for 8 MiB", [
        Row("a record a page", of("plain.side_table_8m"), 1,
            f"{of('plain.states_in_entry')} states in the entry"),
        Row("Linux's layout", of("linux.side_table_8m"), 2, f"{of('linux.states_in_entry')} states"),
        Row("shipped", of("shipped.side_table_8m"), 0, f"{of('shipped.states_in_entry')} states"),
    ], "bytes beside the tables for 8 MiB")


def fault_dumb(of: Source) -> str:
    wild = f"of {of('wild')} wild accesses backed"
    return svg.bars("Instructions of a first touch, by what the handler asks", [
        Row("no check", of.cost("dumb.first_touch"), 1, f"{of('dumb.silently_backed')} {wild}"),
        Row("asks the ticket", of.cost("ticket.first_touch"), 2, "none"),
        Row("asks the region", of.cost("region.first_touch"), 3, "none"),
        Row("shipped", of.cost("shipped.first_touch"), 0, "none"),
    ], "instructions of a first touch")


def vma_structure(of: Source) -> str:
    sizes = ("10", "100", "1000", "10000", "100000")

    def gap(kind: str) -> List[float]:
        return [of(f"{kind}.find_gap.{size}.lines") for size in sizes]

    return svg.dots("Cache lines to find a gap at 567 ranges", [
        Row("page tables", of("scan.find_gap.567.lines"), 1),
        Row("list", of("list.find_gap.567.lines"), 2),
        Row("tree", of("tree.find_gap.567.lines"), 0, "shipped"),
    ], "cache lines for a gap, 642,410 pages") + svg.lines(
        "Cache lines to find a gap, by number of ranges",
        [Line("page tables", gap("scan"), 1), Line("list", gap("list"), 2),
         Line("tree", gap("tree"), 0)],
        ("10", "100", "1k", "10k", "100k"), "cache lines, 2 pages a range", "ranges")


def frame_allocator(of: Source) -> str:
    names = (("buddy", "buddy", 1), ("LLFree", "llfree", 0), ("bitmap", "bitmap", 2),
             ("stack", "stack", 3))
    fills = ("empty", "full10", "full50", "full90", "full99")

    def order(number: int, at) -> List[Line]:
        return [Line(name, [of.cost(f"{key}.repeat_{level}_order{number}") for level in at], way)
                for name, key, way in names]

    whole = [Line(name, [of(f"{key}.whole_2m_mixed{level}") for level in LEVELS], way)
             for name, key, way in names]
    return svg.lines("Instructions for one frame, by fill level", order(0, fills),
                     ("0", "10", "50", "90", "99"), "instructions, one frame taken and freed",
                     "% of the zone taken at random", (0, 10, 50, 90, 99), False) + svg.lines(
        "Instructions for eight frames, by fill level", order(3, fills[:3]), ("0", "10", "50"),
        "the same for a block of eight frames", "% of the zone; none is left at 90", (0, 10, 50),
        False, 130) + svg.lines(
        "Whole blocks of 2 MiB, by fill level after mixed use", whole,
        [str(level) for level in LEVELS], "whole free blocks of 2 MiB, of 128",
        "% of the zone taken after mixed use", LEVELS, False, 110) + svg.bars(
        "Metadata for 16 GiB",
        [Row(name, of(f"{key}.metadata_16g") / 1024, way) for name, key, way in names],
        "KiB of metadata for 16 GiB")


def table_access(of: Source) -> str:
    actions = ("read_own", "read_foreign", "edit_own", "edit_foreign")

    def cell(action: str, way: str) -> Cell:
        emptied = of(f"{action}.{way}.emptied")
        dropped = of(f"{action}.{way}.invalidated")
        words = (f"empties {emptied} TLBs" if emptied else
                 f"drops {dropped} entr{'y' if dropped == 1 else 'ies'}" if dropped else "drops nothing")
        return Cell(svg.whole(of(f"{action}.{way}")), words, 2 if emptied else 1 if dropped else 0)

    return svg.table("instructions for one entry, and translations lost by it",
                     ("read own", "read another's", "edit own", "edit another's"),
                     [(name, way, [cell(action, key) for action in actions]) for name, key, way in
                      (("direct map, shipped", "direct", 0), ("recursive slot", "recursive", 1),
                       ("window", "window", 2))])


def zero_ladder(of: Source) -> str:
    levels = (("page", "page"), ("table", "table"), ("directory", "directory"),
              ("directory pointer", "pointer"))
    frames = svg.dots("Frames for a readable TiB, by the level that is shared",
                      [Row(name, of(f"frames_of_tib.{key}"), 0 if key == "pointer" else 4,
                           "shipped: all levels" if key == "pointer" else "")
                       for name, key in levels], "frames for a readable TiB")
    try:
        return frames + svg.bars("Instructions of the first write, by level",
                                 [Row(name, of.cost(f"split.{key}"), 4) for name, key in levels],
                                 "instructions of the first write under it")
    except KeyError:
        return frames


def fault_anatomy(of: Source) -> str:
    groups = (("entry, return", ("entry", "return", "decode")), ("find", ("find",)),
              ("allocate", ("allocate",)), ("clear, copy", ("clear", "copy")),
              ("map, flush, upcall", ("map", "flush", "upcall", "slow")))
    rows = []
    for kind, words in FAULT_WORDS.items():
        parts = [sum(of.may(f"{kind}.{part}") for part in group) for _, group in groups]
        rows.append(Stack(words, [*parts, max(0, of.bench.get(kind, 0) - sum(parts))]))
    patterns = (4, 0, 2, 1, 3, 5)
    names = [name for name, _ in groups] + ["not stepped"]
    out = svg.stacks("Instructions of each part of a fault", rows, list(zip(names, patterns)),
                     "instructions of each part")
    pairs = []
    for kind, words in FAULT_WORDS.items():
        other = of.linux.get(kind)
        if kind in of.bench and other and other.lean:
            mine = of.bench[kind]
            pairs += [Stack(words, [mine - other.clearing, other.clearing, 0, 0]),
                      Stack("Linux, lean", [0, 0, other.lean - other.clearing, other.clearing])]
    if not pairs:
        return out
    return out + svg.stacks("Instructions of a fault beside Linux's", pairs,
                            [("Faultline", 0), ("clear, copy", 1), ("Linux", 5), ("clear, copy", 6)],
                            "instructions as a program feels them")


def fork_ways(of: Source) -> str:
    ways = (("eager", "eager", 1), ("page COW", "page", 2), ("leaf tables", "leaf_table", 4),
            ("all levels", "all_levels", 0))

    def whole(key: str) -> List[float]:
        first = of.cost(f"{key}.fork.16m") + of.cost(f"{key}.drop.16m")
        return [first] + [first + of.cost(f"{key}.write{share}.16m") for share in (1, 10, 50, 100)]

    out = svg.lines("Instructions of a fork and its end, by share written",
                    [Line(name, whole(key), way) for name, key, way in ways],
                    ("0", "1", "10", "50", "100 %"), "16 MiB: fork, writes and end, instructions",
                    "pages that the child writes")
    linux = of.linux.get("fork_256m")
    if not linux or "fork_256m" not in of.bench:
        return out
    sizes = (1, 4, 64, 256, 1024)
    mine = {4: of.bench.get("fork_4m"), 256: of.bench["fork_256m"], 1024: of.bench.get("fork_1g")}
    theirs = {**LINUX_FORKS, 256: (linux.stock, linux.lean)}
    return out + svg.lines("Instructions of a fork beside Linux's, by resident size", [
        *(Line(f"Linux {kind}", [theirs[size][i] if size in theirs else None for size in sizes], way)
          for i, (kind, way) in enumerate((("stock", 1), ("lean", 2)))),
        Line("Faultline", [mine.get(size) for size in sizes], 0),
    ], ("1 MiB", "4 MiB", "64 MiB", "256 MiB", "1 GiB"), "instructions of a fork alone",
        "resident memory of the parent", [math.log2(size) for size in sizes])


def mmu_truth(of: Source) -> str:
    rules = (("absent", "present"), ("reserved bits", "reserved"), ("user bit", "user"),
             ("write bit", "write"), ("no-execute", "nx"), ("SMEP", "smep"), ("SMAP", "smap"),
             ("keys", "keys"), ("allowed", "allowed"))
    return svg.stacks("Accesses by the rule that decides them", [
        Stack(name, [of(f"rule.{key}.{kind}") for kind in ("agreed", "known", "unknown")])
        for name, key in rules], [("as the manual says", 0), ("known of TCG", 1), ("unknown", 3)],
        "accesses tried")


def snapshot(of: Source) -> str:
    counts = (1, 4, 16, 64, 256, 1024, 4096)
    return svg.lines("Instructions of a restore, by dirtied pages",
                     [Line("restore", [of.cost(f"restore.{count}") for count in counts], 0)],
                     [f"{count:,}" for count in counts], "instructions of fork, dirty and drop",
                     "dirtied pages, of 4,096")


def zeroing(of: Source) -> str:
    return svg.bars("Instructions of a first write, by where cleared frames come from", [
        Row("each fault clears", of.cost("burst"), 1, f"{of('burst_from_pool')} % from the pool"),
        Row("without a pause", of.cost("on_end"), 2, f"{of('on_end_from_pool')} %"),
        Row("after a rest, shipped", of.cost("background"), 0, f"{of('background_from_pool')} %"),
    ], "instructions of a first write")


def fault_around(of: Source) -> str:
    return svg.bars("Instructions a page, by size of the group", [
        Row(f"groups of {size}", of.cost(f"group{size}.write"), 0 if size == 16 else 2,
            f"{of(f'group{size}.faults'):,} faults, {of(f'group{size}.resident')} resident for "
            f"{of('group1.resident')}") for size in (1, 2, 4, 8, 16)],
        "instructions a page, written in order")


def ticket_deny(of: Source) -> str:
    return svg.bars("Pages read for 64 accesses to pages that are out", [
        Row("refused write", of("write_loaded"), 0, f"{of('write_refused')} refused"),
        Row("refused read", of("read_loaded"), 0, f"{of('read_refused')} refused"),
        Row("allowed access", of("allowed_loaded"), 4),
    ], f"pages read from the disk, of {of('out')} that are out")


# When a heap gives free pages back, and the class of each way: none is the shipped one.
HEAPS = (("never", "never", 1), ("at-once", "at once", 2), ("background", "in the background", 3),
         ("on-notice", "on notice", 4))


def heap_return(of: Source) -> str:
    return svg.bars("Pages that a heap keeps, by when it gives them back", [
        Row(name, of(f"{key}.resident_end"), way) for key, name, way in HEAPS],
        "pages resident at the end") + svg.bars(
        "Faults on pages that were given back", [
            Row(name, of(f"{key}.refaults"), way) for key, name, way in HEAPS],
        "faults on pages that were given back")


def heap_pause(of: Source) -> str:
    return svg.bars("Pages given back in one pause, by when the heap does it", [
        Row(name, of(f"{key}.stretch"), way) for key, name, way in HEAPS],
        "pages given back in the longest pause")


def stack_trim(of: Source) -> str:
    return svg.bars("Pages below the stack pointer", [
        Row("once used", of("dipped"), 4), Row("given back", of("returned"), 0),
        Row("faults to use again", of("faults"), 1)], "pages, and faults of the next dip")


def table_ledger(of: Source) -> str:
    levels = svg.bars("Tables of each level", [
        Row(f"level {level}", of(f"tables.level{level}"), 0) for level in (1, 2, 3, 4)],
        f"tables for {of('pages')} pages")
    try:
        return levels + svg.bars("Instructions to count the tables", [
            Row("walk the tree", of.cost("walk_a_table"), 1, "for each table"),
            Row("ask the ledger", of.cost("ask_the_ledger"), 0, "for all tables")],
            "instructions")
    except KeyError:
        return levels


def spurious(of: Source) -> str:
    return svg.bars("Faults without a cause", [
        Row("all", of("faults"), 4), Row("without a cause", of("spurious"), 1)],
        "faults where rights are raised")


def no_heap(of: Source) -> str:
    return svg.bars("Calls of the kernel heap", [
        Row("to map and fork", of("heap_calls_to_map_and_fork"), 1),
        Row("in faults", of("heap_calls_in_faults"), 0, f"{of('faults'):,} faults"),
        Row("in the allocator", of("heap_calls_in_allocator"), 0)], "calls of the heap")


def space_limit(of: Source) -> str:
    return svg.dots("Frames of many address spaces", [
        Row(f"{of('thousand'):,} spaces", of("frames_of_thousand"), 0),
        Row(f"{of('real.spaces'):,} spaces", of("real.frames"), 0, "the limit"),
        Row("a fork bomb", of("bomb.frames"), 1, f"{of('bomb.spaces')} spaces")], "frames")


def overcommit(of: Source) -> str:
    return svg.bars("Parts of memory that are granted", [
        Row("always", of("always.parts"), 1), Row("heuristic", of("heuristic.parts"), 0),
        Row("never", of("never.parts"), 2)],
        f"promises granted, of {of('always.committed') // of('always.parts'):,} pages each")


def section_cost(of: Source) -> str:
    depths = (1, 4, 16, 64)
    return svg.lines("Instructions of a section's faults, by snapshots below it", [
        Line("first touch", [of.cost(f"depth{depth}.first") for depth in depths], 0),
        Line("read", [of.cost(f"depth{depth}.read") for depth in depths], 2),
        Line("page there", [of.cost(f"depth{depth}.resident") for depth in depths], 4),
    ], [str(depth) for depth in depths], "instructions of a fault", "snapshots of the section",
        logarithmic=False)


def section_kinds(of: Source) -> str:
    kinds = of.names(".first_touch")
    return svg.bars("Instructions of a section's faults", [
        Row(kind, of.cost(f"{kind}.first_touch"), 4,
            f"page present: {of.cost(f'{kind}.touch_of_present')}") for kind in kinds],
        "instructions of a first touch, by kind of section")


def flexpage(of: Source) -> str:
    ways = of.names(".lend")
    return svg.dots("Instructions to lend and to revoke", [
        row for way in ways for row in (Row(f"lend, {way}", of.cost(f"{way}.lend"), 2),
                                        Row("revoke", of.cost(f"{way}.revoke"), 1))],
        "instructions")


def fault_device(of: Source) -> str:
    return svg.bars("Bytes that a device writes into memory of a program", [
        Row("arrived", of("arrived"), 0), Row("copied on the way", of("copied"), 1)], "bytes")


def of_answer(name: str, sources: List[str], metrics) -> str:
    """A picture for an experiment that has none of its own: the figures of its answer, those of the most
    frequent unit. An empty text with fewer than two."""
    found = [(source, metrics[f"{name}.{source}"]) for source in sources if f"{name}.{source}" in metrics]
    units = [metric.unit for _, metric in found]
    if not units:
        return ""
    unit = max(units, key=units.count)
    rows = [Row(re.sub("[._-]", " ", source), metric.value, 4) for source, metric in found
            if metric.unit == unit]
    if len(rows) < 2 or not any(row.value for row in rows):
        return ""
    return svg.bars(f"Figures of {name}", rows, unit)


PICTURES: Dict[str, Callable[[Source], str]] = {
    picture.__name__.replace("_", "-"): picture for picture in (
        ticket_range, ticket_exit, ticket_forge, ticket_share, entry_states, fault_dumb,
        vma_structure, frame_allocator, table_access, zero_ladder, fault_anatomy, fork_ways,
        mmu_truth, snapshot, zeroing, fault_around, ticket_deny, heap_return, heap_pause, stack_trim,
        table_ledger, spurious, no_heap, space_limit, overcommit, section_cost, section_kinds, flexpage,
        fault_device)}


def draw(name: str, sources: List[str], metrics, bench: Dict[str, int],
         linux: Dict[str, LinuxRow]) -> str:
    """Returns the picture of an experiment, whose answer rests on `sources`; an empty text if it has none in
    this run."""
    try:
        return PICTURES[name](Source(name, metrics, bench, linux))
    except KeyError:
        return of_answer(name, sources, metrics)
