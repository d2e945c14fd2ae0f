"""When the demo says that all of it held."""

import pytest

from workers.demo.engine import Tally
from workers.demo.figures import Figures, line
from workers.demo.verdict import Answer, accounting, faults, root_mean_square_error


def good() -> Figures:
    return Figures(
        total=100,
        tally=Tally(sent=100, acknowledged=100, connected=5, commands=2),
        stored=100,
        values=2100,
        latency=(0.01, 0.02, 0.03),
        runs={"completed": 3},
        alarms=2,
        verified=2,
    )


def judged(figures: Figures, *, altered: int = 0, unanswered: int = 0) -> list[str]:
    return faults(figures, values=2100, altered=altered, unanswered=unanswered)


def test_a_pass_without_a_fault_has_none() -> None:
    assert judged(good()) == []


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("stored", 99, "stored 99"),
        ("stored", 101, "stored 101"),
        ("values", 2099, "2099 of 2100 values"),
        ("total", 101, "100 of 101 messages"),
        ("runs", {}, "no automation run completed"),
        ("runs", {"completed": 3, "failed": 1}, "'failed': 1"),
        ("runs", {"completed": 3, "running": 1}, "'running': 1"),
        ("alarms", 0, "no alarm"),
        ("verified", 0, "no webhook"),
        ("rejected", 1, "wrong signature"),
    ],
)
def test_every_figure_that_is_off_is_named(field: str, value: object, words: str) -> None:
    figures = good()
    setattr(figures, field, value)
    assert words in "; ".join(judged(figures))


def test_a_message_without_its_acknowledgement_is_a_fault() -> None:
    figures = good()
    figures.tally.acknowledged = 99
    assert "acknowledged 99" in "; ".join(judged(figures))


def test_a_webhook_with_two_bodies_is_a_fault() -> None:
    assert judged(good(), altered=1) == ["1 webhooks came with two bodies"]


def test_an_engine_without_a_prediction_is_a_fault() -> None:
    assert judged(good(), unanswered=1) == ["the model gave no answer for 1 engines"]


def test_the_accounting_says_plainly_whether_it_is_equal() -> None:
    assert "sent 100 = acknowledged 100 = stored 100" in accounting(good())
    figures = good()
    figures.stored = 99
    assert "NOT EQUAL" in accounting(figures)


def test_the_error_is_taken_against_the_true_life() -> None:
    answers = [Answer(1, 10, 23.0, 20), Answer(2, 10, 16.0, 20)]
    assert root_mean_square_error(answers) == pytest.approx(12.5**0.5)


def test_a_plain_line_holds_every_figure() -> None:
    shown = line(good())
    for words in ("100 of 100", "2,100 values", "p95 20 ms", "3 completed", "2 (0 rejected)"):
        assert words in shown
