"""Questions that come at once share a query."""

import asyncio

import pytest

from broker.lookups import Lookups
from tests.support.waiting import eventually


async def test_what_is_asked_while_a_query_is_under_way_goes_into_the_next() -> None:
    asked: list[list[int]] = []
    go = asyncio.Event()

    async def fetch(keys: list[int]) -> dict[int, str]:
        asked.append(keys)
        await go.wait()
        return {key: str(key) for key in keys if key != 3}

    lookups = Lookups(fetch, at_once=1, largest=3)
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(lookups.get(key)) for key in (0, 1, 2, 3, 4, 1)]
        await eventually(lambda: asked)
        go.set()
    assert [answer.result() for answer in answers] == ["0", "1", "2", None, "4", "1"]
    assert asked in ([[0], [1, 2, 3], [4]], [[0, 1, 2], [3, 4]])


async def test_a_failure_reaches_everybody_in_it_and_the_next_may_succeed() -> None:
    fails = True

    async def fetch(keys: list[int]) -> dict[int, int]:
        if fails:
            raise OSError
        return {key: key for key in keys}

    lookups = Lookups(fetch)
    outcomes = await asyncio.gather(lookups.get(1), lookups.get(2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError, OSError]
    fails = False
    assert await lookups.get(1) == 1


async def test_one_who_stops_waiting_takes_nothing_from_others() -> None:
    go = asyncio.Event()

    async def fetch(keys: list[int]) -> dict[int, int]:
        await go.wait()
        return {key: key for key in keys}

    lookups = Lookups(fetch)
    first, second = (asyncio.create_task(lookups.get(1)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 1


async def test_a_question_at_the_very_end_of_a_round_is_not_forgotten() -> None:
    async def fetch(keys: list[int]) -> dict[int, int]:
        return {key: key for key in keys}

    lookups = Lookups(fetch, at_once=1)

    async def a_moment_later() -> int | None:
        await asyncio.sleep(0)  # the round has ended, its task is not put away yet
        return await lookups.get(2)

    async with asyncio.timeout(5):
        assert await asyncio.gather(lookups.get(1), a_moment_later()) == [1, 2]
