"""Progress bars on stderr, and only on a terminal; elsewhere nothing is drawn at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, int, int], None]  # (what, done, total); total 0 where it is not known


@contextmanager
def progress() -> Iterator[Report]:
    """Yields report(what, done, total): a new `what` ends the bar before and starts its own."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        current: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in current:
                for task in current.values():
                    bars.remove_task(task)
                current.clear()
                current[what] = bars.add_task(what, total=total or None, count="")
            count = f"{done}/{total}" if total else ""
            bars.update(current[what], completed=done, total=total or None, count=count)

        yield report
