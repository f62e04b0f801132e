"""Reads the text on a picture of the screen, by comparing its cells with the font's glyphs."""

import gzip
import struct
from pathlib import Path
from typing import Dict, List, Tuple

FONTS = "/usr/share/consolefonts/spleen-{}.psfu.gz"
SIZES = ((8, 16), (12, 24), (16, 32), (32, 64))
# A pixel whose green is at least this belongs to a letter.
THRESHOLD = bytes(0 if value < 0x60 else 1 for value in range(256))


def read_ppm(path: str) -> Tuple[int, int, List[bytes]]:
    """Returns width, height, and one row of zeroes and ones for each line of a P6 picture."""
    data = Path(path).read_bytes()
    kind, width, height, most = data.split(maxsplit=4)[:4]
    if kind != b"P6" or most != b"255":
        raise ValueError(f"{path}: not a P6 picture")
    width, height = int(width), int(height)
    pixels = data[len(data) - 3 * width * height:]
    rows = [pixels[3 * width * y:3 * width * (y + 1)][1::3].translate(THRESHOLD)
            for y in range(height)]
    return width, height, rows


def _glyph_letters(table: bytes, wide: bool, count: int) -> List[List[str]]:
    """Returns the letters of each glyph, from the Unicode table behind them."""
    letters: List[List[str]] = []
    if wide:
        for entry in table.split(b"\xff")[:count]:
            letters.append(list(entry.split(b"\xfe")[0].decode("utf-8", "replace")))
        return letters
    units = struct.unpack(f"<{len(table) // 2}H", table[:len(table) // 2 * 2])
    current: List[str] = []
    for unit in units:
        if unit == 0xFFFF:
            letters.append(current)
            current = []
        elif unit != 0xFFFE:
            current.append(chr(unit))
    return letters[:count]


def glyphs(size: Tuple[int, int]) -> Dict[tuple, str]:
    """Returns a dictionary from the rows of a cell to its ASCII letter."""
    data = gzip.decompress(Path(FONTS.format("%dx%d" % size)).read_bytes())
    if data[:2] == b"\x36\x04":
        count, height, width, start = 512 if data[2] & 1 else 256, data[3], 8, 4
        glyph_size, wide = height, False
    else:
        _, _, start, _, count, glyph_size, height, width = struct.unpack_from("<8I", data)
        wide = True
    row_bytes = (width + 7) // 8
    letters = _glyph_letters(data[start + count * glyph_size:], wide, count)
    found: Dict[tuple, str] = {}
    for number, names in enumerate(letters):
        bits = data[start + number * glyph_size:start + (number + 1) * glyph_size]
        rows = []
        for y in range(height):
            value = int.from_bytes(bits[y * row_bytes:(y + 1) * row_bytes], "big")
            rows.append(bytes(value >> (8 * row_bytes - 1 - x) & 1 for x in range(width)))
        for name in names:
            if " " <= name <= "~":
                found.setdefault(tuple(rows), name)
    return found


def read_text(path: str, scale: int = 1) -> List[str]:
    """Returns the lines of text on the picture, in the font that finds most letters. A cell without
    a letter is \x00. With `scale`, reads the letters that are drawn so
    many times as large, from the second column on."""
    width, height, pixels = read_ppm(path)
    pixels = [row[::scale] for row in pixels[::scale]]
    width, height = width // scale, height // scale
    best, most = [], 0
    for cell_width, cell_height in SIZES:
        font = glyphs((cell_width, cell_height))
        start = cell_width * (scale - 1) // scale
        lines = []
        for top in range(0, height - cell_height + 1, cell_height):
            rows = pixels[top:top + cell_height]
            lines.append("".join(
                font.get(tuple(row[left:left + cell_width] for row in rows), "\x00")
                for left in range(start, width - cell_width + 1, cell_width)).rstrip())
        count = sum(letter not in " \x00" for line in lines for letter in line)
        if count > most:
            best, most = lines, count
    return best
