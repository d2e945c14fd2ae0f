"""Dead letters: the newest of each device are kept, the rest are counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from core.db.repositories.ingest import Connection
from core.db.repositories.ingest_dead_letters import (
    DeadLetterRow,
    TrimRow,
    insert_dead_letters,
    trim_dead_letters,
)

KEPT: Final = 10_000
"""Dead letters of a device that are kept."""
_SLACK: Final = 1_000  # letters of a device between two looks at how many there are
_DEVICES: Final = 50_000  # that are remembered; a forgotten one is only looked at too early

_encode: Final = msgspec.json.Encoder().encode


def fault(letter: DeadLetterRow) -> bytes:
    """Return what the device is told of its dead letter."""
    return _encode(
        {
            "topic": letter.topic,
            "code": letter.code,
            "pointer": letter.pointer,
            "message": letter.message,
        }
    )


class Graveyard:
    """Keeps dead letters. A device has at most `keep` of them, and for a while some more."""

    def __init__(self, keep: int = KEPT, slack: int = _SLACK) -> None:
        self._keep, self._slack = keep, slack
        self._since: OrderedDict[UUID, int] = OrderedDict()

    async def bury(self, connection: Connection, letters: Iterable[DeadLetterRow]) -> None:
        """Keep letters, oldest first; runs in the transaction of their batch."""
        by_device: dict[UUID, list[DeadLetterRow]] = {}
        for letter in letters:
            by_device.setdefault(letter.device_id, []).append(letter)
        full: list[TrimRow] = []
        for device_id, mine in sorted(by_device.items()):
            dropped = max(0, len(mine) - self._keep)
            del mine[:dropped]
            since = self._since.pop(device_id, self._slack) + len(mine)
            if dropped or since >= self._slack:
                full.append(TrimRow(device_id, mine[0].tenant_id, dropped))
                since = 0
            self._since[device_id] = since
            if len(self._since) > _DEVICES:
                self._since.popitem(last=False)
        await insert_dead_letters(
            connection, [letter for mine in by_device.values() for letter in mine]
        )
        if full:
            await trim_dead_letters(connection, full, self._keep)
