"""What commands print with: plain lines without a terminal, progress bars on one."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console(highlight=False)
if not console.is_terminal:
    console.soft_wrap = True  # a log's lines are as long as they are

Advance = Callable[[float, float, str], None]
"""Called with what is done, the total, and a few words on what happens now."""


@contextmanager
def progress(title: str) -> Generator[Advance]:
    """Show a bar while the block runs; without a terminal only the title is printed."""
    if not console.is_terminal:
        console.print(f"{title} …")
        yield lambda _done, _total, _words: None
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None, words="")

        def advance(done: float, total: float, words: str) -> None:
            bar.update(task, completed=done, total=total, words=words)

        yield advance
