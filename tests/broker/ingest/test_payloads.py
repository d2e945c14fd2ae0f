"""What times of a payload mean."""

import pytest

from broker.ingest.payloads import PayloadError, parse_telemetry

NOW = 1_760_000_000_000_000


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1712013100000", 1_712_013_100_000_000),  # epoch milliseconds, though in a string
        ("2024-04-01T23:11:40Z", 1_712_013_100_000_000),
        ("20240401T231140", 1_712_013_100_000_000),
        ("20240401", 1_711_929_600_000_000),
    ],
)
def test_a_time_in_a_string_is_iso_8601_or_epoch_milliseconds(text: str, time: int) -> None:
    payload = f'{{"ts": "{text}", "values": {{"a": 1}}}}'.encode()
    (sample,) = parse_telemetry(payload, NOW).samples
    assert sample.time == time


@pytest.mark.parametrize("text", ["171201310", "9" * 400, "17120131000x0", "\u0661" * 13])
def test_another_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(PayloadError) as refused:
        parse_telemetry(f'{{"ts": "{text}", "values": {{"a": 1}}}}'.encode(), NOW)
    assert refused.value.pointer == "/ts"
