"""Whether all of it held, and the closing table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from workers.demo.figures import Figures

_SHOWN = 15


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said of one engine after its last cycle, and what was true, in cycles."""

    unit: int
    cycles: int
    predicted: float
    true: int


def root_mean_square_error(answers: Sequence[Answer]) -> float:
    """Return the RMSE in cycles against the true remaining life, not a capped one."""
    return math.sqrt(sum((a.predicted - a.true) ** 2 for a in answers) / len(answers))


def table(answers: Sequence[Answer]) -> Table:
    """Return predicted against true remaining life, evenly chosen from short lives to long."""
    ordered = sorted(answers, key=lambda answer: answer.true)
    step = max(1, len(ordered) // _SHOWN)
    shown = Table(title="Remaining life after the last cycle, in cycles")
    for name in ("engine", "cycles flown", "predicted", "true", "difference"):
        shown.add_column(name, justify="right")
    for answer in ordered[::step]:
        shown.add_row(
            str(answer.unit),
            str(answer.cycles),
            f"{answer.predicted:.0f}",
            str(answer.true),
            f"{answer.predicted - answer.true:+.0f}",
        )
    return shown


def accounting(figures: Figures) -> str:
    """Say plainly whether sent = acknowledged = stored."""
    sent, acknowledged = figures.tally.sent, figures.tally.acknowledged
    equal = sent == acknowledged == figures.stored
    return (
        f"sent {sent:,} {'=' if equal else '/'} acknowledged {acknowledged:,} "
        f"{'=' if equal else '/'} stored {figures.stored:,} messages ({figures.values:,} values): "
        f"{'every message is accounted for' if equal else 'NOT EQUAL'}"
    )


def faults(figures: Figures, *, values: int, altered: int, unanswered: int) -> list[str]:
    """Return what did not hold; nothing when all of it did.

    Args:
        figures: At the end.
        values: Values that should be stored.
        altered: Webhook ids that came with more than one body.
        unanswered: Engines for which the model gave no answer.
    """
    tally = figures.tally
    checks = [
        (tally.sent == figures.total, f"{tally.sent} of {figures.total} messages were sent"),
        (
            tally.sent == tally.acknowledged == figures.stored,
            f"sent {tally.sent}, acknowledged {tally.acknowledged}, stored {figures.stored}",
        ),
        (figures.values == values, f"{figures.values} of {values} values are stored"),
        (figures.runs.get("completed", 0) > 0, "no automation run completed"),
        (
            set(figures.runs) <= {"completed"},
            f"automation runs by status: {figures.runs}",
        ),
        (figures.alarms > 0, "no alarm was raised"),
        (tally.commands > 0, "no engine was sent a command"),
        (figures.verified > 0, "no webhook arrived with a valid signature"),
        (figures.rejected == 0, f"{figures.rejected} webhooks had a wrong signature"),
        (altered == 0, f"{altered} webhooks came with two bodies"),
        (unanswered == 0, f"the model gave no answer for {unanswered} engines"),
    ]
    return [fault for held, fault in checks if not held]
