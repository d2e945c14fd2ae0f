"""The rules of device profiles, compiled: conversion, derived metrics, quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import structlog
from pydantic import ValidationError

from broker.ingest.quality import Track, Value, Yardstick
from core.db.repositories.ingest_devices import ProfileRow
from core.db.repositories.ingest_rows import RowEncoder
from core.dsl.expressions import ExpressionError
from core.profiles.configuration import Derived, ProfileConfiguration
from core.profiles.units import Conversion

_log = structlog.get_logger(__name__)

MAX_SCHEMES: Final = 10_000
"""Metric lists that a profile's rules are kept for."""
MAX_STREAMS: Final = 256
"""Metric lists that are followed of one device; of more, the oldest are forgotten."""

Values = dict[str, Value]


class Measured(NamedTuple):
    """What a message's values have become.

    Attributes:
        quality: A score per value; None when all are 100.
    """

    values: Values
    quality: list[int] | None


class Scheme:
    """The rules of one profile for messages with one list of metrics.

    Attributes:
        names: The metrics that are stored: the message's, then the derived ones.
        changes: Values are converted or derived.
    """

    __slots__ = ("_conversions", "_derived", "_on_error", "changes", "names", "yardstick")

    def __init__(
        self,
        sent: tuple[str, ...],
        configuration: ProfileConfiguration,
        derived: Iterable[Derived],
        on_error: Callable[[], None],
    ) -> None:
        rules = configuration.metrics
        # What the device sends itself is not derived.
        self._derived = tuple(
            metric for metric in derived if metric.name not in sent and metric.needs.issubset(sent)
        )
        self._on_error = on_error
        self._conversions: list[tuple[int, str, Conversion]] = []
        for position, name in enumerate(sent):
            found = rules[name].conversion if name in rules else None
            if found is not None:
                self._conversions.append((position, name, found))
        self.names = (*sent, *(metric.name for metric in self._derived))
        self.changes = bool(self._derived or self._conversions)
        self.yardstick = Yardstick([rules.get(name) for name in self.names])

    def complete(self, sent: Mapping[str, Value], device: Any) -> tuple[Values, frozenset[int]]:
        """Return the values that are stored, and the positions of those that cannot be computed.

        A derived metric one of whose values is null is null too, and no failure.
        """
        values: Values = dict(sent)
        failed: set[int] = set()
        for position, name, (factor, offset) in self._conversions:
            value = values[name]
            if value is not None:
                value = factor * value + offset
                if not math.isfinite(value):
                    value = None
                    failed.add(position)
                    self._on_error()
                values[name] = value
        if not self._derived:
            return values, frozenset(failed)
        context = {"values": values.copy(), "device": device}
        for metric in self._derived:
            value = None
            if all(values[name] is not None for name in metric.needs):
                try:
                    value = metric.compute(context)
                except ExpressionError:
                    failed.add(len(values))
                    self._on_error()
            values[metric.name] = value
        return values, frozenset(failed)


class Stream:
    """The messages of one device with one list of metrics.

    Attributes:
        encoder: Of the stored metrics; None until their list has a number.
        changes: Values are converted or derived, so that `score` alone will not do.
        score: Scores a message without nulls (`Track.score`).
    """

    __slots__ = ("_judge", "_scheme", "changes", "encoder", "score")

    def __init__(self, scheme: Scheme) -> None:
        track = Track(scheme.yardstick)
        self._scheme = scheme
        self._judge = track.judge
        self.score = track.score_one if len(scheme.names) == 1 else track.score
        self.changes = scheme.changes
        self.encoder: RowEncoder | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that are stored."""
        return self._scheme.names

    def measure(self, at: int, now: int, sent: Mapping[str, Value], device: Any) -> Measured:
        """Convert, derive and score a message's values.

        Args:
            at: Time of the message in microseconds.
            now: Time of its receipt.
            sent: What the device sent.
            device: What expressions see as `device`.
        """
        values, failed = self._scheme.complete(sent, device)
        return Measured(values, self._judge(at, now, tuple(values.values()), failed))


class ProfileRules:
    """What a profile says about the messages of its devices."""

    def __init__(self, configuration: ProfileConfiguration, on_error: Callable[[], None]) -> None:
        self._configuration = configuration
        self._on_error = on_error
        self._derived = tuple(Derived(*item) for item in configuration.derived.items())
        self._schemes: dict[tuple[str, ...], Scheme] = {}

    def stream(self, names: tuple[str, ...]) -> Stream:
        """Return a new stream of messages with these metrics."""
        scheme = self._schemes.get(names)
        if scheme is None:
            if len(self._schemes) >= MAX_SCHEMES:
                self._schemes.clear()
            scheme = self._schemes[names] = Scheme(
                names, self._configuration, self._derived, self._on_error
            )
        return Stream(scheme)


class Profiles:
    """The rules of every profile that has some; compiled again only when they changed."""

    def __init__(self, on_error: Callable[[], None]) -> None:
        self._on_error = on_error
        self._sources: dict[UUID, str] = {}
        self._rules: dict[UUID, ProfileRules] = {}

    def get(self, profile_id: UUID) -> ProfileRules | None:
        """Return a profile's rules; None when it has none."""
        return self._rules.get(profile_id)

    def load(self, rows: Iterable[ProfileRow]) -> None:
        """Take over the rules as they are now."""
        sources = {row.profile_id: row.rules for row in rows}
        rules: dict[UUID, ProfileRules] = {}
        for profile_id, source in sources.items():
            if self._sources.get(profile_id) == source:
                if profile_id in self._rules:
                    rules[profile_id] = self._rules[profile_id]
                continue
            compiled = self._compile(profile_id, source)
            if compiled is not None:
                rules[profile_id] = compiled
        self._sources, self._rules = sources, rules

    def _compile(self, profile_id: UUID, source: str) -> ProfileRules | None:
        try:
            configuration = ProfileConfiguration.model_validate(msgspec.json.decode(source))
        except ValidationError as error:
            _log.warning(
                "a profile's rules are skipped: they are malformed",
                profile_id=str(profile_id),
                errors=[f"{fault['loc']}: {fault['msg']}" for fault in error.errors()],
            )
            return None
        return ProfileRules(configuration, self._on_error)
