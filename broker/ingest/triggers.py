"""The telemetry triggers of all tenants, and which of them watch a device."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from broker.devices import Device
from broker.ingest.batching import Effects, Part, Scores
from broker.ingest.watches import Binding, MetricWatch, Watch, by_metric
from broker.metrics import BrokerMetrics
from core.db.repositories.ingest import (
    DefinitionRow,
    OutboxRow,
    TriggerStateRow,
    instant,
)
from core.db.repositories.outbox import outbox_key
from core.dsl.expressions import ExpressionError
from core.dsl.telemetry_trigger import CompiledTrigger, Step, TriggerState
from core.errors import InvalidInputError
from core.temporal.outbox import StartRun

_log = structlog.get_logger(__name__)
_encode: Final = msgspec.json.Encoder().encode

Key = tuple[UUID, int]
"""Automation and position among its triggers."""


class _Tenant:
    """The triggers of one tenant, by what they watch."""

    __slots__ = ("_of_all", "_of_device", "_of_type")

    def __init__(self) -> None:
        self._of_all: list[Watch] = []
        self._of_device: dict[UUID, list[Watch]] = {}
        self._of_type: dict[str, list[Watch]] = {}

    def add(self, watch: Watch) -> None:
        """Add one."""
        trigger = watch.trigger
        if trigger.device_id is not None:
            self._of_device.setdefault(trigger.device_id, []).append(watch)
        elif trigger.device_type is not None:
            self._of_type.setdefault(trigger.device_type, []).append(watch)
        else:
            self._of_all.append(watch)

    def watching(self, device: Device) -> list[Watch]:
        """Return those that watch a device."""
        near = (
            *self._of_all,
            *self._of_type.get(device.profile, ()),
            *self._of_device.get(device.id, ()),
        )
        return [watch for watch in near if watch.trigger.applies_to(device.id, device.profile)]


def _microseconds(row: Any) -> int | None:
    return None if row is None else round(row.timestamp() * 1_000_000)


class TriggerIndex:
    """Compiled triggers by tenant; kept as long as their source stays the same."""

    def __init__(self, metrics: BrokerMetrics) -> None:
        self._metrics = metrics
        self._watches: dict[Key, Watch] = {}
        self._tenants: dict[UUID, _Tenant] = {}
        self._complained = 0.0

    def watches(self, tenant_id: UUID) -> bool:
        """Tell whether a tenant has any trigger, so whether stored states matter."""
        return tenant_id in self._tenants

    def load(self, rows: Sequence[DefinitionRow]) -> list[Key]:
        """Take over what is published now.

        Returns:
            The triggers that are gone or changed: what they remember is void.
        """
        watches: dict[Key, Watch] = {}
        for row in rows:
            for index, definition in enumerate(msgspec.json.decode(row.triggers)):
                if not isinstance(definition, dict) or definition.get("type") != "telemetry":
                    continue
                watch = self._compile(row, index, definition)
                if watch is not None:
                    watches[row.workflow_id, index] = watch
        void = [
            key
            for key, old in self._watches.items()
            if key not in watches or watches[key].source != old.source
        ]
        self._watches = watches
        self._tenants = {}
        for watch in watches.values():
            self._tenants.setdefault(watch.tenant_id, _Tenant()).add(watch)
        return void

    def _compile(self, row: DefinitionRow, index: int, definition: dict[str, Any]) -> Watch | None:
        source = _encode(definition)
        old = self._watches.get((row.workflow_id, index))
        if old is not None and old.source == source:
            trigger = old.trigger
            digest = old.digest
        else:
            digest = hashlib.sha256(source).digest()
            try:
                trigger = CompiledTrigger.compile(definition)
            except InvalidInputError as error:
                _log.warning(
                    "trigger skipped: it does not compile",
                    workflow_id=str(row.workflow_id),
                    version=row.version,
                    index=index,
                    reason=error.detail,
                    errors=[f"{fault.pointer}: {fault.message}" for fault in error.errors],
                )
                return None
        return Watch(row.tenant_id, row.workflow_id, row.version, index, source, digest, trigger)

    def bind(self, device: Device, stored: Iterable[TriggerStateRow] | None) -> None:
        """Give a device the triggers that watch it.

        Args:
            device: The device.
            stored: Its states in the database; None keeps those in memory, as far as the trigger
                they belong to is still the same.
        """
        states: dict[Key, TriggerState] = {}
        if stored is None:
            for watched in device.bindings:
                watched.wake()
                for binding in watched.bindings:
                    key = (binding.watch.workflow_id, binding.watch.index)
                    if key in self._watches and self._watches[key].source == binding.watch.source:
                        states[key] = binding.state
        else:
            for row in stored:
                watch = self._watches.get((row.workflow_id, row.trigger_index))
                if watch is None or watch.digest != row.definition_sha256:
                    continue  # the definition changed while no broker ran
                states[row.workflow_id, row.trigger_index] = TriggerState(
                    active=row.active,
                    fired=row.fired,
                    since=_microseconds(row.since),
                    last_fired=_microseconds(row.last_fired),
                )
        tenant = self._tenants.get(device.tenant_id)
        device.bindings = by_metric(
            Binding(watch, states.get((watch.workflow_id, watch.index)) or TriggerState())
            for watch in (tenant.watching(device) if tenant is not None else ())
        )

    def judge(
        self,
        part: Part,
        device: Device,
        at: int,
        now: int,
        values: Mapping[str, float | None],
        quality: Scores = None,
    ) -> None:
        """Let a device's triggers judge one sample; what follows becomes effects of the part.

        Args:
            part: Gets the effects.
            device: The device that measured.
            at: Time of the sample in microseconds.
            now: Time of its receipt.
            values: By metric.
            quality: Their scores.
        """
        for watched in device.bindings:
            value = values.get(watched.metric)
            if value is None:
                continue
            due = watched.due(value, at, now)
            if due:
                score = 100 if quality is None else quality[[*values].index(watched.metric)]
                self._look(part, device, watched, due, (at, now, value, values, score))

    def _look(
        self,
        part: Part,
        device: Device,
        watched: MetricWatch,
        due: Sequence[Binding],
        sample: tuple[int, int, float, Mapping[str, float | None], int],
    ) -> None:
        at, now, value, values, score = sample
        changed = False
        for binding in due:
            trigger = binding.watch.trigger
            if score < trigger.min_quality:
                continue
            context = None
            if trigger.needs_context:
                context = {
                    "value": value,
                    "values": values,
                    "quality": score,
                    "device": device.context,
                    "trigger": self._event(device, at, watched.metric, values)
                    | {"time": instant(at)},
                }
            try:
                step = trigger.observe(binding.state, at, now, value, context)
            except ExpressionError as error:
                self._complain(binding, device, error)
                continue
            if step is not Step.NOTHING:
                changed = True
                self._record(device, binding, at, values, step, part.effect())
        if changed:
            watched.settle()

    def _record(
        self,
        device: Device,
        binding: Binding,
        at: int,
        values: Mapping[str, float | None],
        step: Step,
        effects: Effects,
    ) -> None:
        watch, state = binding.watch, binding.state
        effects.states[watch.workflow_id, watch.index, device.id] = TriggerStateRow(
            watch.workflow_id,
            watch.index,
            device.id,
            device.tenant_id,
            state.active,
            state.fired,
            None if state.since is None else instant(state.since),
            None if state.last_fired is None else instant(state.last_fired),
            watch.digest,
        )
        if step is Step.FIRED:
            self._metrics.fired.inc()
            run = StartRun(
                workflow_id=str(watch.workflow_id),
                version=watch.version,
                event_key=f"t{watch.index}:{device.id}:{at // 1000}",
                trigger=self._event(device, at, watch.trigger.metric, values),
                device_id=str(device.id),
            )
            effects.outbox.append(
                OutboxRow(
                    device.tenant_id,
                    "start_run",
                    outbox_key(device.tenant_id, run),
                    _encode(run).decode(),
                )
            )

    @staticmethod
    def _event(
        device: Device, at: int, metric: str, values: Mapping[str, float | None]
    ) -> dict[str, Any]:
        return {
            "type": "telemetry",
            "device_id": str(device.id),
            "time": instant(at).isoformat().replace("+00:00", "Z"),
            "metric": metric,
            "value": values[metric],
            "values": values,
        }

    def _complain(self, binding: Binding, device: Device, error: ExpressionError) -> None:
        self._metrics.trigger_errors.inc()
        if time.monotonic() - self._complained < 10:  # a bad expression fails at every message
            return
        self._complained = time.monotonic()
        _log.warning(
            "a trigger's condition could not be evaluated",
            workflow_id=str(binding.watch.workflow_id),
            index=binding.watch.index,
            device_id=str(device.id),
            reason=error.detail,
        )
