"""Pictures of a report, as SVG: lines, bars, dots, stacks, and a table of cells.

Each is 400 units wide, so that its letters stay legible on a phone, and takes its colours from the
classes of page.css. Shades never carry a meaning alone: ways differ by mark and dash, parts by
pattern. The shipped way has class 0: thick, bold, and the first colour.
"""

import html
import math
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

WIDTH = 400
LETTER = 6.4  # width of a letter of 11 units, on the safe side
SHIPPED = 0
LEFT = 44  # of a picture with an axis: room for its labels
TOP = 28
BOTTOM = 42
MARKS = (
    '<circle r="3.6"/>',
    '<rect x="-3.2" y="-3.2" width="6.4" height="6.4"/>',
    '<path d="M0-4.4 4 3-4 3Z"/>',
    '<path d="M0-4.6 4.6 0 0 4.6-4.6 0Z"/>',
    '<path d="M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5" fill="none"/>',
)


class Line(NamedTuple):
    """One way over all places of the x axis; None where it has no figure."""

    name: str
    values: Sequence[Optional[float]]
    way: int


class Row(NamedTuple):
    """A labelled value of a way; the note is a second line under the label."""

    label: str
    value: float
    way: int
    note: str = ""


class Stack(NamedTuple):
    label: str
    parts: Sequence[float]


class Cell(NamedTuple):
    value: str
    note: str
    level: int  # 0 nothing is lost, 1 something, 2 much


escape = html.escape


def whole(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """A label of an axis: 10k, 2.5M."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return (f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}'
            "</text>")


def picture(title: str, height: float, parts: Sequence[str], compared: bool = False) -> str:
    """Wraps the parts. `compared` says that ways are compared, so that one is the shipped one."""
    kind = ' class="compared"' if compared else ""
    return (f'<svg{kind} viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>" + "".join(parts) + "</svg>")


def wrap(words: str, letters: int) -> List[str]:
    """Breaks a label between words."""
    lines: List[str] = []
    for word in words.split():
        if lines and len(lines[-1]) + 1 + len(word) <= letters:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def spread(places: Sequence[float], gap: float, low: float, high: float) -> List[float]:
    """Moves labels apart until each is `gap` from the next, inside the picture."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    edge = low
    for i in order:
        moved[i] = edge = max(moved[i], edge)
        edge += gap
    edge = high
    for i in reversed(order):
        moved[i] = edge = min(moved[i], edge)
        edge -= gap
    return moved


class Axis(NamedTuple):
    """The vertical axis: where a value is drawn, and its labels."""

    place: Callable[[float], float]
    ticks: List[float]


def log_axis(values: Sequence[float], height: float) -> Axis:
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = max(math.ceil(math.log10(max(values)) - 1e-9), low + 1)

    def place(value: float) -> float:
        return TOP + height * (high - math.log10(max(value, 10 ** low))) / (high - low)

    step = 1 if high - low <= 6 else 2
    return Axis(place, [10.0 ** power for power in range(low, high + 1, step)])


def linear_axis(values: Sequence[float], height: float) -> Axis:
    """From zero, with at most five labels."""
    rough = max(max(values), 1) * 1.05 / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    ticks = [step * i for i in range(int(max(values) / step) + 2)]
    return Axis(lambda value: TOP + height * (1 - value / ticks[-1]), ticks)


def _frame(axis: Axis, y_title: str, x_title: str, right: float, height: float,
           labels: Sequence[Tuple[float, str]]) -> List[str]:
    """Grid, axes and their labels; labels that would touch the one before are left out."""
    foot = TOP + height
    parts = [text(0, 12, y_title, "title")]
    for tick in axis.ticks:
        y = axis.place(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right:.1f}"/>')
        parts.append(text(LEFT - 5, y + 4, short(tick), "tick", "end"))
    parts.append(f'<path class="axis" d="M{LEFT} {foot}H{right:.1f}"/>')
    edge = 0.0
    for x, label in labels:
        half = len(label) * LETTER / 2
        if not label or x - half < edge:
            continue
        edge = x + half + 4
        parts.append(f'<path class="axis" d="M{x:.1f} {foot}v4"/>')
        parts.append(text(x, foot + 16, label, "tick", "middle"))
    parts.append(text((LEFT + right) / 2, foot + 34, x_title, "tick", "middle"))
    return parts


def lines(title: str, series: Sequence[Line], labels: Sequence[str], y_title: str, x_title: str,
          places: Optional[Sequence[float]] = None, logarithmic: bool = True,
          height: float = 170, band: Optional[int] = None) -> str:
    """Draws a line for each way, named at its end. `places` are the x of the labels, by default
    evenly spaced; `band` marks one of them."""
    places = places or list(range(len(labels)))
    right = WIDTH - 26 - LETTER * max(len(line.name) for line in series)
    values = [value for line in series for value in line.values
              if value is not None and (value or not logarithmic)]
    axis = (log_axis if logarithmic else linear_axis)(values, height)
    extent = (places[-1] - places[0]) or 1

    def place_of(i: int) -> float:
        return LEFT + 12 + (right - LEFT - 18) * (places[i] - places[0]) / extent

    parts = _frame(axis, y_title, x_title, right, height,
                   [(place_of(i), label) for i, label in enumerate(labels)])
    if band is not None:
        parts.append(f'<rect class="band" x="{place_of(band) - 8:.1f}" y="{TOP}" width="16" '
                     f'height="{height}"/>')
    ends = []
    for line in series:
        points = [(place_of(i), axis.place(value), value)
                  for i, value in enumerate(line.values) if value is not None]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
        marks = "".join(f'<g transform="translate({x:.1f} {y:.1f})" class="mark">{MARKS[line.way]}'
                        f"<title>{escape(line.name)}: {whole(value)}</title></g>"
                        for x, y, value in points)
        parts.append(f'<g class="way{line.way}"><path class="line" d="M{path}"/>{marks}</g>')
        ends.append(points[-1])
    moved = spread([end[1] for end in ends], 13, TOP + 2, TOP + height)
    for line, (x, y, _), label in zip(series, ends, moved):
        parts.append(f'<path class="lead" d="M{x + 5:.1f} {y:.1f}L{right + 7:.1f} {label:.1f}"/>')
        parts.append(f'<g class="way{line.way}"><g class="mark" transform="translate('
                     f'{right + 12:.1f} {label:.1f})">{MARKS[line.way]}</g>')
        parts.append(text(right + 20, label + 4, line.name, "label") + "</g>")
    return picture(title, TOP + height + BOTTOM, parts, len(series) > 1 and band is None)


def _labels(rows: Sequence[Row], letters: int):
    """The lines of each row's label, and the height of the row."""
    for row in rows:
        label, note = wrap(row.label, letters), wrap(row.note, letters + 2)
        yield row, label, note, 13 * (len(label) + len(note)) + 9


def _labelled_rows(rows: Sequence[Row], draw: Callable[[Row, float], str]) -> Tuple[List[str], float]:
    parts, y = [], 18.0
    for row, label, note, height in _labels(rows, 20):
        parts.append(f'<g class="way{row.way}">')
        for i, line in enumerate(label):
            parts.append(text(132, y + 12 + 13 * i, line, "label", "end"))
        for i, line in enumerate(note):
            parts.append(text(132, y + 12 + 13 * (len(label) + i), line, "tick", "end"))
        middle = y + 8
        parts.append(draw(row, middle))
        parts.append(text(WIDTH, middle + 4, whole(row.value), "value", "end") + "</g>")
        y += height
    return parts, y


def bars(title: str, rows: Sequence[Row], unit: str) -> str:
    """Draws bars from zero."""
    most = max(row.value for row in rows)
    room = WIDTH - 140 - LETTER * len(whole(most)) - 12

    def draw(row: Row, y: float) -> str:
        length = max(room * row.value / most, 1) if row.value else 0
        return f'<rect class="fill" x="140" y="{y - 5:.1f}" width="{length:.1f}" height="11"/>'

    parts, y = _labelled_rows(rows, draw)
    return picture(title, y + 2, [text(0, 12, unit, "title"), *parts])


def dots(title: str, rows: Sequence[Row], unit: str) -> str:
    """Draws dots on a logarithmic scale, where the length of a bar would mean nothing."""
    most = math.log10(max(row.value for row in rows))
    room = WIDTH - 146 - LETTER * len(whole(max(row.value for row in rows))) - 18

    def draw(row: Row, y: float) -> str:
        rail = f'<path class="rail" d="M140 {y:.1f}h{room + 6:.1f}"/>'
        if row.value < 1:
            return rail
        x = 140 + room * math.log10(row.value) / most
        return rail + f'<g class="mark" transform="translate({x:.1f} {y:.1f})">{MARKS[row.way]}</g>'

    parts, y = _labelled_rows(rows, draw)
    return picture(title, y + 2, [text(0, 12, unit + " (logarithmic)", "title"), *parts])


def stacks(title: str, rows: Sequence[Stack], parts_of: Sequence[Tuple[str, int]], unit: str) -> str:
    """Draws a stack a row; `parts_of` names each part and the pattern that fills it."""
    most = max(sum(row.parts) for row in rows)
    room = WIDTH - 140 - LETTER * len(whole(most)) - 12
    parts, x, y = [text(0, 12, unit, "title")], 0.0, 22.0
    for name, pattern in parts_of:
        length = 18 + LETTER * len(name) + 10
        if x + length > WIDTH:
            x, y = 0.0, y + 16
        parts.append(f'<rect class="part{pattern}" x="{x:.1f}" y="{y:.1f}" width="12" height="11"/>')
        parts.append(text(x + 17, y + 10, name, "tick"))
        x += length
    y += 20
    for row in rows:
        label = wrap(row.label, 20)
        for i, line in enumerate(label):
            parts.append(text(132, y + 11 + 13 * i, line, "label", "end"))
        x = 140.0
        for value, (name, pattern) in zip(row.parts, parts_of):
            length = room * value / most
            if value:
                parts.append(f'<rect class="part{pattern}" x="{x:.1f}" y="{y:.1f}" '
                             f'width="{length:.2f}" height="13"><title>{escape(name)}: {whole(value)}'
                             "</title></rect>")
            x += length
        parts.append(text(WIDTH, y + 11, whole(sum(row.parts)), "value", "end"))
        y += 13 * len(label) + 8
    return picture(title, y, parts)


def table(title: str, columns: Sequence[str], rows: Sequence[Tuple[str, int, Sequence[Cell]]]) -> str:
    """A table of cells: a value, what it does in words, and an edge that shows how bad that is."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for name, way, cells in rows:
        mark = " shipped" if way == SHIPPED else ""
        body.append(f'<tr class="way{way}{mark}"><th>{escape(name)}</th>' + "".join(
            f'<td class="level{cell.level}"><b>{escape(cell.value)}</b><small>{escape(cell.note)}</small></td>'
            for cell in cells) + "</tr>")
    return (f'<table class="cells"><caption>{escape(title)}</caption><thead><tr><th></th>{head}</tr>'
            f'</thead><tbody>{"".join(body)}</tbody></table>')


# The patterns of stacks, once a page. A pattern's ground is a light shade of its colour.
PATTERNS = """<svg class="patterns" width="0" height="0" aria-hidden="true"><defs>
<pattern id="slash" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5"/><path d="M0 0V5"/></pattern>
<pattern id="upright" width="4" height="4" patternUnits="userSpaceOnUse"><rect width="4" height="4"/><path d="M1 0V4"/></pattern>
<pattern id="points" width="5" height="5" patternUnits="userSpaceOnUse"><rect width="5" height="5"/><circle cx="2.5" cy="2.5" r="1.5"/></pattern>
<pattern id="level" width="4" height="4" patternUnits="userSpaceOnUse"><rect width="4" height="4"/><path d="M0 1H4"/></pattern>
<pattern id="pale" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect width="5" height="5"/><path d="M0 0V5"/></pattern>
</defs></svg>"""
