"""From PUBLISH packets to parts: decode, validate, judge by triggers, encode.

Everything here runs at receipt, in the order of receipt, without waiting for anything: that is
what keeps a device's messages in order for its triggers, however many flushers there are. What
can wait (an unknown metric list, a missing partition) is left to the flusher in the part.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import msgspec

from broker.devices import Device
from broker.ingest.batching import IngestQueue, Part
from broker.ingest.dead_letters import fault
from broker.ingest.payloads import (
    PayloadError,
    Sample,
    Telemetry,
    parse_attributes,
    parse_event,
    parse_lenient_telemetry,
    parse_response,
    parse_telemetry,
)
from broker.ingest.profiles import MAX_STREAMS, ProfileRules, Stream
from broker.ingest.triggers import TriggerIndex
from broker.metrics import BrokerMetrics
from core.db.repositories.ingest import EventRow, ResponseRow, instant
from core.db.repositories.ingest_dead_letters import DeadLetterRow
from core.db.repositories.rollups import LATE_AFTER
from core.limits import MAX_LISTS
from core.topics import PREFIX
from core.topics_acl import Route

_ME: Final = f"{PREFIX}me/".encode()
_DAY: Final = 86_400_000_000
_HOUR: Final = 3_600_000_000
_LATE_AFTER: Final = LATE_AFTER // timedelta(microseconds=1)
_encode: Final = msgspec.json.Encoder().encode


class UsualWindow:
    """The times that need no care, as [start, end) in microseconds.

    Within it, partitions are known to be there and roll-ups have not come yet; the flusher sees to
    the hours of rows outside. One comparison a row for both.
    """

    __slots__ = ("_prepared", "end", "start")

    def __init__(self) -> None:
        self._prepared = self.start = self.end = 0

    def prepared(self, first_day: int, last_day: int) -> None:
        """These days, counted from 1970, have their partitions."""
        self._prepared, self.end = first_day * _DAY, (last_day + 1) * _DAY

    def move(self, now: int) -> None:
        """Let rows that would be late by now be outside; called about once a second."""
        self.start = max(self._prepared, now - _LATE_AFTER)


class Ingest:
    """Turns messages into parts and hands them to the queue."""

    def __init__(self, queue: IngestQueue, triggers: TriggerIndex, metrics: BrokerMetrics) -> None:
        self.queue = queue
        self.triggers = triggers
        self.window = UsualWindow()
        self._metrics = metrics

    def submit(self, part: Part) -> None:
        """Hand over what a chunk brought."""
        self._metrics.received.inc(part.messages)
        device = part.device
        if device is not None:
            device.received += part.messages
            if part.live or part.unresolved:
                device.seen = time.time_ns() // 1000
                if device.bindings:
                    self._metrics.evaluations.inc(len(part.live) * len(device.bindings))
        if part.doubtful:
            self._metrics.doubtful.inc(part.doubtful)
        self.queue.put(part)

    def message(
        self, part: Part, device: Device, route: Route, topic: bytes, payload: bytes, now: int
    ) -> None:
        """Take one message of any kind; a faulty one becomes a dead letter."""
        try:
            match route:
                case Route.TELEMETRY:
                    # `me` is ThingsBoard's word, so what follows is read as ThingsBoard does.
                    lenient = topic.startswith(_ME)
                    read = parse_lenient_telemetry if lenient else parse_telemetry
                    self.measured(part, device, read(payload, now), now)
                case Route.ATTRIBUTES:
                    self._reported(part, device, parse_attributes(payload))
                case Route.EVENTS:
                    event = parse_event(payload, now)
                    at = self.receipt(device, now) if event.time is None else event.time
                    data = _encode(event.data).decode()
                    part.effect().events.append(
                        EventRow(device.tenant_id, device.id, instant(at), event.name, data)
                    )
                case Route.RESPONSE:
                    command_id, response = parse_response(payload)
                    part.effect().responses.append(
                        ResponseRow(command_id, device.id, _encode(response).decode())
                    )
        except PayloadError as error:
            self.bury(part, device, topic, payload, now, error)

    def sample(
        self, part: Part, device: Device, at: int, now: int, values: dict[str, float | None]
    ) -> None:
        """Take the measurements of one time, as they came."""
        quality = None
        if device.rules is None:
            names = tuple(values)
            encoder = device.lists.get(names)
        else:
            stream = self._stream(device, device.rules, tuple(values))
            values, quality = stream.measure(at, now, values, device.context)
            encoder = stream.encoder
        if encoder is None:
            part.unresolved.append((at, values, quality))
        else:
            row = encoder.row(device.prefix, at, list(values.values()), quality)
            part.rows.append(row)
            part.live.append((at, values, encoder, quality))
        if quality is not None:
            part.doubtful += 1
        if not self.window.start <= at < self.window.end:
            part.hours.add(at // _HOUR)
        if device.bindings:
            self.triggers.judge(part, device, at, now, values, quality)

    @staticmethod
    def _stream(device: Device, rules: ProfileRules, names: tuple[str, ...]) -> Stream:
        """Return what messages of a device with these metrics are measured by."""
        streams = device.streams
        assert streams is not None  # as long as there are rules
        stream = streams.get(names)
        if stream is None:
            if len(streams) >= MAX_STREAMS:
                del streams[next(iter(streams))]
            stream = streams[names] = rules.stream(names)
        if stream.encoder is None:
            stream.encoder = device.lists.get(stream.names)
        return stream

    def _stored(self, device: Device, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the metrics that are stored of messages with these."""
        if device.rules is None:
            return names
        return self._stream(device, device.rules, names).names

    @staticmethod
    def receipt(device: Device, now: int) -> int:
        """Return the time for a message without one."""
        device.last_time = now if now > device.last_time else device.last_time + 1
        return device.last_time

    def measured(self, part: Part, device: Device, telemetry: Telemetry, now: int) -> None:
        """Take what was read of one message.

        Raises:
            PayloadError: The tenant has too many combinations of metrics already.
        """
        lists = {self._stored(device, tuple(s.values)) for s in telemetry.samples}
        unknown = lists - device.lists.keys()
        if unknown and len(device.lists) + len(unknown) > MAX_LISTS:
            raise PayloadError(
                "too_many_lists", "", f"the tenant has {MAX_LISTS} combinations of metrics already"
            )
        for sample in telemetry.samples:
            self._take(part, device, sample, now)
        if telemetry.attributes:
            self._reported(part, device, telemetry.attributes)

    def _take(self, part: Part, device: Device, sample: Sample, now: int) -> None:
        at = self.receipt(device, now) if sample.time is None else sample.time
        self.sample(part, device, at, now, sample.values)

    @staticmethod
    def _reported(part: Part, device: Device, patch: dict[str, object]) -> None:
        reported = part.effect().reported
        reported.setdefault((device.id, device.tenant_id), {}).update(patch)

    def bury(
        self,
        part: Part,
        device: Device,
        topic: bytes,
        payload: bytes,
        now: int,
        error: PayloadError,
    ) -> None:
        """Keep a message that cannot be taken as what it claims to be, and why."""
        self._metrics.dead_letters.labels(error.code).inc()
        letter = DeadLetterRow(
            device.tenant_id,
            device.id,
            instant(now),
            _storable(topic.decode(errors="replace")),
            payload,
            error.code,
            _storable(error.pointer),
            _storable(error.message),
        )
        effects = part.effect()
        effects.dead_letters.append(letter)
        effects.faults.append(fault(letter))


def _storable(text: str) -> str:
    """Return what PostgreSQL can store of a text that a device may have had a hand in."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
