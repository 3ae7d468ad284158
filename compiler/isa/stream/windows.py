"""Cycles of a window generator: reading and writing hold each other up at a line buffer, most where images end.

Reader and writer move a word a cycle each. When an image ends its last rows still stand in the buffer, so the reader
has only as much of the next one as finds room beside them, and the writer waits for the rest of its first windows.
"""

from __future__ import annotations

HANDED_ON = 2  # cycles between a place given back and the word there, beside the firings: those of reader and writer


def window_cycles(f: dict[str, int]) -> int:
    """Cycles an image of a WIN between neighbours that never wait, for line buffers as docs/streaming.md has them.

    The longest circle of events: the writer's firings `begin`..`end` of an image, the place of word `oldest` that `end`
    gives back, the words that are read from there on into the next image, up to the `newest` that `begin` needs. All
    three are linear in row, column, block and tap of the window, so only their corners matter."""
    folds, per_block = f["channels"] // f["pe"], f["block"] // f["pe"]
    row, words_in = f["in_w"] * folds, f["in_h"] * f["in_w"] * folds
    taps = [(per_block, 1), (f["kw"], f["dw"] * folds), (f["kh"], f["dh"] * row)]
    places = [(f["channels"] // f["block"], per_block), (f["ow"], f["sw"] * folds), (f["oh"], f["sh"] * row)]
    at_once = f["pe_out"] != f["pe"]
    reach = sum((n - 1) * words for n, words in taps) if at_once else 0
    steps, firings = [], 1
    for n, words in places if at_once else taps + places:
        if n > 1:
            steps.append(((n - 1) * firings, (n - 1) * words))
        firings *= n
    out = max(words_in, firings)
    spare = words_in - f["depth"] + reach + 1 + HANDED_ON  # of the circle of firing 0 and word 0
    if spare + sum(abs(fires - words) for fires, words in steps) <= out:
        return out
    corners = [(0, 0)]
    for fires, words in steps:
        corners += [(k + fires, x + words) for k, x in corners]
    for end, oldest in corners:
        for begin, newest in corners:
            read = newest + reach + 1 - (oldest + f["depth"] - words_in)
            if begin <= end and read > 0:
                out = max(out, end - begin + read + HANDED_ON)
    return out
