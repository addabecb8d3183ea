"""A bar on a terminal for what takes long; nothing where nobody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from tocsin.cli.output import console


@contextmanager
def bytes_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; what it gives takes the bytes done and the bytes in all."""
    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield lambda done, total: None
        return
    with Progress(
        TextColumn(what), BarColumn(), DownloadColumn(), TimeElapsedColumn(), console=out
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def steps_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """The same for what is counted in things done, of things in all (None while unknown)."""
    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield lambda done, total: None
        return
    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=out
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def count_bar(*, quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """A count on standard error; what it gives takes what is counted, and how many so far."""
    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield lambda what, count: None
        return
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=out) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, count: bar.update(task, description=f"{what}: {count:,}")
