"""Needs a core's accesses and local order; proves memory free of races, unwritten reads and stale frames.

Accesses are played in one order that the tokens allow. Each segment of memory remembers its last writer, its last
reader on each queue, and whose its content is. Two accesses of which one writes must be ordered by the clocks; a read
of frame f must find bytes of frame f, or constants that ONCE loaded. In a scratchpad an operand is one tile: all its
bytes come from one load group or from one packet's computation; and every byte written is read before it is replaced.

Scratchpads repeat every iteration, so two iterations of the steady state show every pair. WORK holds frames in slots
and is played from the first frame until every slot has been written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from compiler.isa.check.findings import Findings
from compiler.isa.check.footprint import Accesses
from compiler.isa.check.segments import Segments, Where, compress, rows_of
from compiler.isa.check.tokens import NEVER, LocalOrder
from compiler.isa.check.view import CoreView
from compiler.isa.encoding import Ints
from compiler.isa.table import Flag, Queue, Space

UNWRITTEN = -(1 << 62)
ONCE_BASE = -(1 << 60)  # content of a ONCE load: ONCE_BASE - stage
GROUPS = 1 << 24
MESSAGE = GROUPS - 1  # what RX brings into a scratchpad: parts of the weight block that a load group began
_MAX_ITERATIONS = 1024  # 255 slots and the deepest pipelines seen several times over


@dataclass(slots=True)
class Play:
    """The accesses of one region in playing order, with what each needs at hand as plain lists."""

    instruction: list[int]
    write: list[int]
    pattern: list[list[int]]  # of each access: index into `where` by frame slot
    where: list[Where]
    segments: Segments
    writers: list[int]  # queues that write here
    readers: list[int]
    once: bool  # whether a ONCE load writes here


class State:
    """What each segment remembers: last position written and read by each queue, counted from iteration 0; content."""

    def __init__(self, play: Play) -> None:
        n = play.segments.count
        self.writer: NDArray[np.int64] = np.full((len(play.writers), n), NEVER, np.int64)
        self.reader: NDArray[np.int64] = np.full((len(play.readers), n), NEVER, np.int64)
        self.content: NDArray[np.int64] = np.full(n, UNWRITTEN, np.int64)  # frame * GROUPS + group of its writer
        self.used: NDArray[np.bool_] = np.ones(n, np.bool_)  # whether the content was read, or there is none


def _patterns(accesses: Accesses) -> tuple[list[tuple[Ints, int]], list[list[int]]]:
    """Distinct boxes and, of each access, the box of each of its frame slots."""
    boxes: list[tuple[Ints, int]] = []
    known: dict[tuple[int, ...], int] = {}
    result: list[list[int]] = []
    columns = np.column_stack([accesses.address, accesses.run, accesses.counts, accesses.strides])
    keys = columns.tolist()
    for k, (slots, stride) in enumerate(zip(accesses.slots.tolist(), accesses.slot_stride.tolist(), strict=True)):
        mine = []
        for slot in range(slots):
            key = (keys[k][0] + slot * stride, *keys[k][1:])
            if key not in known:
                known[key] = len(boxes)
                boxes.append(rows_of(key[0], accesses.counts[k], accesses.strides[k], key[1]))
            mine.append(known[key])
        result.append(mine)
    return boxes, result


def _groups(view: CoreView) -> list[int]:
    """Which tile each result belongs to: on LD the load group, which a wait for CX opens, else the packet."""
    queue = view.head("queue")
    opens = (queue == Queue.LD) & (view.head("wait") >> Queue.CX & 1 == 1)
    groups = np.where(queue == Queue.LD, np.cumsum(opens), GROUPS // 2 + view.head("packet"))
    return [int(g) for g in np.where(queue == Queue.RX, MESSAGE, groups)]


def regions(accesses: Accesses) -> list[Ints]:
    """Indices of accesses grouped so that boxes of two groups never share a byte (spans over all slots, merged)."""
    if not len(accesses.address):
        return []
    low, high = accesses.low, accesses.high
    order = np.argsort(low, kind="stable")
    reach = np.maximum.accumulate(high[order])
    cuts = np.flatnonzero(low[order][1:] >= reach[:-1]) + 1
    return [np.sort(part) for part in np.split(order, cuts)]


class Player:
    """Plays accesses of one core and reports what is unordered, unwritten or stale."""

    def __init__(self, view: CoreView, order: LocalOrder, findings: Findings) -> None:
        self.view, self.findings = view, findings
        self.space = ""  # name of the space being played
        # An instruction comes after its own reads, so its own queue counts itself as done.
        self.clock, self.length = order.clock.copy(), view.length
        self.clock[np.arange(view.count), view.head("queue")] += 1
        self.rank = np.empty(view.count, np.int64)
        self.rank[order.order] = np.arange(view.count)
        self.queue = view.head("queue").tolist()
        self.position = view.position.tolist()
        self.stage = view.head("stage").tolist()
        self.once = ((view.head("flags") & Flag.ONCE) != 0).tolist()
        self.group = _groups(view)
        self.copies = [i.op == "VCOPY" for i in view.stream]
        # A tile may be put together of fills and copies (or loads) that partly cover each other; nothing else may.
        self.mends = [i.op in ("VCOPY", "VFILL", "LD") for i in view.stream]

    def prepare(self, accesses: Accesses) -> Play:
        """Accesses in playing order: by the topological order, reads of an instruction before its writes."""
        sequence = np.lexsort((accesses.write, self.rank[accesses.instruction]))
        sorted_accesses = accesses.take(sequence)
        boxes, pattern = _patterns(sorted_accesses)
        segments = compress(boxes)
        index, writes = sorted_accesses.instruction.tolist(), sorted_accesses.write.tolist()
        writers = sorted({self.queue[k] for k, w in zip(index, writes, strict=True) if w})
        readers = sorted({self.queue[k] for k, w in zip(index, writes, strict=True) if not w})
        once = any(w and self.once[k] for k, w in zip(index, writes, strict=True))
        return Play(index, writes, pattern, segments.where, segments, writers, readers, once)

    def iteration(
        self, play: Play, state: State, iteration: int, first_frame: int, *, judge: bool, tiles: bool
    ) -> None:
        """Plays one iteration; instructions of frames before `first_frame` do nothing.

        judge: whether content is judged. tiles: whether an operand is one tile and nothing is written in vain.
        """
        base = iteration * self.length
        writer, reader, content, used = state.writer, state.reader, state.content, state.used
        writer_row = {q: r for r, q in enumerate(play.writers)}
        reader_row = {q: r for r, q in enumerate(play.readers)}
        before_write = self.clock[:, play.writers] + base[play.writers]
        before_read = self.clock[:, play.readers] + base[play.readers]
        for k, write, slots in zip(play.instruction, play.write, play.pattern, strict=True):
            frame = iteration - self.stage[k]
            if frame < first_frame:
                continue
            at = play.where[slots[frame % len(slots)]]
            queue = self.queue[k]
            here = iteration * int(self.length[queue]) + self.position[k]
            last = writer[:, at]
            known = before_write[k][:, None]
            if (last >= known).any():
                self._race(k, last, known, at, play, play.writers, "writes")
            if not write:
                if judge:
                    self._judge(k, content[at], frame, at, play, tiles)
                reader[reader_row[queue], at] = here
                used[self._span(at) if self.copies[k] else at] = True
                continue
            if self.once[k]:
                writer[writer_row[queue], at] = here
                continue
            last = reader[:, at]
            known = before_read[k][:, None]
            if (last >= known).any():
                self._race(k, last, known, at, play, play.readers, "reads")
            mine = frame * GROUPS + (self.group[k] if tiles else 0)
            if tiles:
                if judge and not used[at].all():
                    lost = ~used[at] & (content[at] != mine) if self.mends[k] else ~used[at]
                    self._in_vain(k, writer[:, at], lost, at, play)
                used[at] = False
            writer[:, at] = NEVER
            writer[writer_row[queue], at] = here
            if play.once:
                lasting = content[at]
                if ((lasting <= ONCE_BASE) & (lasting > UNWRITTEN)).any():
                    self.findings.add(
                        "FVC328", "overwrites what a ONCE load left there for all frames", *self.view.where(k)
                    )
            content[at] = mine

    def place_once(self, play: Play, state: State) -> None:
        """ONCE loads fill their bytes before everything else; no two may share a byte."""
        for k, write, slots in zip(play.instruction, play.write, play.pattern, strict=True):
            if write and self.once[k]:
                at = play.where[slots[0]]
                if (state.content[at] != UNWRITTEN).any():
                    self.findings.add("FVC328", "two ONCE loads fill the same bytes", *self.view.where(k))
                state.content[at] = ONCE_BASE - self.stage[k]

    def _address(self, at: Where, hits: Ints, play: Play) -> int:
        first = int(hits[0])
        segment = at.start + first if isinstance(at, slice) else int(at[first])
        return int(play.segments.edges[segment])

    def _race(
        self, k: int, last: NDArray[np.int64], known: Ints, at: Where, play: Play, queues: list[int], verb: str
    ) -> None:
        rows, hits = np.nonzero(last >= known)
        q = queues[int(rows[0])]
        index = self._instance(q, int(last[rows[0], hits[0]]))
        self.findings.add(
            "FVC326",
            f"no token orders it after {Queue(q).name}[{self.position[index]}] {self.view.stream[index].op}, "
            f"which {verb} {self.space} byte {self._address(at, hits, play)}",
            *self.view.where(k),
        )

    def _in_vain(self, k: int, last: NDArray[np.int64], lost: NDArray[np.bool_], at: Where, play: Play) -> None:
        hits = np.flatnonzero(lost)
        if not hits.size:
            return
        row = int(np.argmax(last[:, hits[0]]))
        author = self._instance(play.writers[row], int(last[row, hits[0]]))
        what = f"{self.space} byte {self._address(at, hits, play)} is replaced before anything reads it"
        self.findings.add("FVC328", what, *self.view.where(author), *self.view.where(k)[:1])

    @staticmethod
    def _span(at: Where) -> slice:
        """From the first to the last segment: a strided copy may have been loaded with what lies between."""
        return at if isinstance(at, slice) else slice(int(at.min()), int(at.max()) + 1)

    def _instance(self, queue: int, position: int) -> int:
        """Index of the instruction at a position of a queue counted from iteration 0."""
        return int(self.view.first[queue] + position % self.view.length[queue])

    def _judge(self, k: int, found: NDArray[np.int64], frame: int, at: Where, play: Play, tiles: bool) -> None:
        first = int(found[0])
        if (found == first).all():
            if first == ONCE_BASE - self.stage[k] or (first > ONCE_BASE and first // GROUPS == frame):
                return
            hits = np.zeros(1, np.int64)
        else:
            good = (found // GROUPS == frame) | (found == ONCE_BASE - self.stage[k])
            hits = np.flatnonzero(~good)
            if not hits.size:
                if tiles:
                    own = found[found % GROUPS != MESSAGE]
                    if not own.size or (own == own[0]).all():
                        return
                    hits = np.flatnonzero((found != own[0]) & (found % GROUPS != MESSAGE))
                    what = f"{self.space} byte {self._address(at, hits, play)} belongs to another tile than the first"
                    self.findings.add("FVC328", what, *self.view.where(k))
                return
        was = int(found[hits[0]])
        place = f"{self.space} byte {self._address(at, hits, play)}"
        if was == UNWRITTEN:
            self.findings.add("FVC327", f"reads {place}, which was never written", *self.view.where(k))
        elif was <= ONCE_BASE:
            stage = ONCE_BASE - was
            what = f"reads {place} at stage {self.stage[k]}, loaded ONCE at stage {stage}"
            self.findings.add("FVC328", what, *self.view.where(k))
        else:
            what = f"reads {place}, which holds frame f{was // GROUPS - frame:+d} where frame f is worked on"
            self.findings.add("FVC328", what, *self.view.where(k))


def check_scratch(player: Player, accesses: Accesses, space: Space) -> None:
    """Two iterations of the steady state of one scratchpad."""
    index = np.flatnonzero(accesses.space == space)
    if not index.size:
        return
    player.space = space.name
    play = player.prepare(accesses.take(index))
    state = State(play)
    player.place_once(play, state)
    deep = 1 << 20  # any iteration far from the first: frames all exist
    player.iteration(play, state, deep, 0, judge=False, tiles=True)
    player.iteration(play, state, deep + 1, 0, judge=True, tiles=True)


def check_work(player: Player, accesses: Accesses) -> None:
    """Every region of WORK from frame 0 on until its slots have all been written again."""
    work = accesses.take(np.flatnonzero(accesses.space == Space.WORK))
    player.space = Space.WORK.name
    for index in regions(work):
        part = work.take(index)
        stages = [player.stage[k] for k in part.instruction.tolist()]
        period = lcm(*set(part.slots.tolist()))
        rounds = max(stages) - min(stages) + period + 1
        if rounds > _MAX_ITERATIONS:
            what = f"buffers whose slots repeat only every {period} frames share bytes; {_MAX_ITERATIONS} can be proved"
            player.findings.add("FVC328", what, *player.view.where(int(part.instruction[0])))
            continue
        play = player.prepare(part)
        state = State(play)
        for iteration in range(min(stages), min(stages) + rounds):
            player.iteration(play, state, iteration, 0, judge=True, tiles=False)


def check_memory(view: CoreView, order: LocalOrder, accesses: Accesses, findings: Findings) -> None:
    """FVC326 unordered accesses, FVC327 reads of unwritten bytes, FVC328 content of another frame."""
    player = Player(view, order, findings)
    for space in (Space.ACT, Space.WGT, Space.ACC, Space.TAB):
        check_scratch(player, accesses, space)
    check_work(player, accesses)
