"""What a batch does beside adding telemetry rows, written in its transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from broker.ingest.batching import Effects
from broker.ingest.dead_letters import Graveyard, fault
from broker.ingest.payloads import MAX_REPORTED, twin_too_large
from broker.metrics import BrokerMetrics
from core import topics
from core.db.repositories import ingest as sql
from core.db.repositories.ingest_dead_letters import DeadLetterRow
from core.db.repositories.ingest_gateways import store_claims
from core.db.repositories.mqtt_sessions import write_sessions

_encode: Final = msgspec.json.Encoder().encode
_Twin = tuple[UUID, UUID]


@dataclass(frozen=True, slots=True)
class Written:
    """What came of effects that are not committed yet.

    Attributes:
        answered: Commands that are answered by them.
        refused: Patches that would make a twin too large, as dead letters.
    """

    answered: Sequence[UUID]
    refused: dict[_Twin, DeadLetterRow]

    def tell(self, effects: Sequence[Effects]) -> None:
        """Let devices be told of their refused patches, once this is committed."""
        for effect in effects:
            for twin in effect.reported.keys() & self.refused.keys():
                effect.faults.append(fault(self.refused[twin]))


class EffectWriter:
    """Writes the effects of batches; of a state or twin the newest counts."""

    def __init__(self, metrics: BrokerMetrics) -> None:
        self._metrics = metrics
        self._graveyard = Graveyard()

    async def write(self, connection: sql.Connection, effects: Sequence[Effects]) -> Written:
        """Write; runs in the transaction of the batch."""
        forget = [key for effect in effects for key in effect.forget]
        dead = [row for effect in effects for row in effect.dead_letters]
        events = [row for effect in effects for row in effect.events]
        responses = {row.command_id: row for effect in effects for row in effect.responses}
        outbox = [row for effect in effects for row in effect.outbox]
        claims = {key: row for effect in effects for key, row in effect.claims.items()}
        sessions = [effect.sessions for effect in effects if effect.sessions is not None]
        states: dict[Any, sql.TriggerStateRow] = {}
        for effect in effects:
            states.update(effect.states)
        answered: list[UUID] = []
        if forget:
            await sql.forget_trigger_states(connection, forget)
        refused = await self._merge_reported(connection, effects)
        if dead or refused:
            await self._graveyard.bury(connection, [*dead, *refused.values()])
        if events:
            await sql.insert_events(connection, events)
        if responses:
            answered = await sql.store_responses(connection, responses.values())
        if sessions:
            await write_sessions(connection, sessions)
        if states:
            await sql.save_trigger_states(connection, states.values())
        if claims:
            await store_claims(connection, claims)
        if outbox:
            await sql.enqueue(connection, outbox)
        return Written(answered, refused)

    async def _merge_reported(
        self, connection: sql.Connection, effects: Sequence[Effects]
    ) -> dict[_Twin, DeadLetterRow]:
        """Merge what devices report; return the patches that would make a twin too large."""
        reported: dict[_Twin, dict[str, Any]] = {}
        for effect in effects:
            for twin, patch in effect.reported.items():
                reported.setdefault(twin, {}).update(patch)
        if not reported:
            return {}
        # In one order, so that two transactions cannot wait for each other.
        patches = {twin: _encode(patch) for twin, patch in sorted(reported.items(), key=_by_device)}
        too_large = await sql.merge_reported(
            connection,
            [sql.ReportedRow(*twin, patch.decode()) for twin, patch in patches.items()],
            MAX_REPORTED,
        )
        now, reason = datetime.now(UTC), twin_too_large()
        refused = {
            (device_id, tenant_id): DeadLetterRow(
                tenant_id,
                device_id,
                now,
                topics.attributes(device_id),
                patch,
                reason.code,
                reason.pointer,
                reason.message,
            )
            for (device_id, tenant_id), patch in patches.items()
            if device_id in too_large
        }
        self._metrics.dead_letters.labels(reason.code).inc(len(refused))
        return refused


def _by_device(item: tuple[_Twin, object]) -> UUID:
    return item[0][0]
