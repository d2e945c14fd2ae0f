"""The demo's figures at one moment, and how a terminal shows them."""

from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from workers.demo.engine import Tally


@dataclass(slots=True)
class Figures:
    """Everything the live view shows.

    Attributes:
        total: Messages of this pass.
        stored, values: Messages and values in the database.
        latency: Percentiles 50, 95 and 99 from engine to WebSocket, in seconds.
        runs: Runs of this pass by status.
        alarms: Open alarms.
        verified, rejected: Webhooks.
    """

    total: int
    tally: Tally
    stored: int = 0
    values: int = 0
    latency: tuple[float, float, float] | None = None
    runs: dict[str, int] = field(default_factory=dict)
    alarms: int = 0
    verified: int = 0
    rejected: int = 0
    rate: float = 0.0


def rows(figures: Figures) -> list[tuple[str, str]]:
    """Return names and values, in the order of a message's path."""
    tally = figures.tally
    runs = ", ".join(f"{count} {status}" for status, count in sorted(figures.runs.items()))
    return [
        ("Engines connected", f"{tally.connected} ({tally.lost} connections lost)"),
        ("Messages sent", f"{tally.sent:,} of {figures.total:,} ({figures.rate:,.0f} a second)"),
        ("Acknowledged", f"{tally.acknowledged:,} ({tally.resent:,} sent again)"),
        ("Stored", f"{figures.stored:,} messages, {figures.values:,} values"),
        ("Engine to WebSocket", _latency(figures.latency)),
        ("Automation runs", runs or "none yet"),
        ("Alarms raised", f"{figures.alarms:,}"),
        ("Commands answered", f"{tally.commands:,}"),
        ("Webhooks verified", f"{figures.verified:,} ({figures.rejected:,} rejected)"),
    ]


def _latency(percentiles: tuple[float, float, float] | None) -> str:
    if percentiles is None:
        return "not measured yet"
    return ", ".join(
        f"p{percent} {seconds * 1000:.0f} ms"
        for percent, seconds in zip((50, 95, 99), percentiles, strict=True)
    )


def view(figures: Figures) -> RenderableType:
    """Return the live view."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows(figures):
        table.add_row(f"[bold]{name}[/]", value)
    whole = Table.grid()
    whole.add_row(ProgressBar(total=figures.total, completed=figures.tally.acknowledged, width=60))
    whole.add_row(table)
    return whole


def line(figures: Figures) -> str:
    """Return one plain line, for logs."""
    return "; ".join(f"{name.lower()}: {value}" for name, value in rows(figures))
