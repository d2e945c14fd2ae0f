"""The step `http_request`."""

import dataclasses
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.automation.http import MAX_BODY, HttpActivities
from activities.resources import Resources
from core.temporal.steps import StepCall, StepDone
from tests.activities.automation.conftest import step_call
from tests.support.receiver import Answer, receiving


async def request(resources: Resources, call: StepCall) -> StepDone:
    return await ActivityEnvironment().run(HttpActivities(resources).http_request, call)


def call(url: str, **parameters: Any) -> StepCall:
    return step_call(uuid4(), {"url": url} | parameters)


async def test_a_call_carries_its_key_and_its_answer_is_read_as_json(resources: Resources) -> None:
    async with receiving() as receiver:
        receiver.answers.append(
            Answer(200, {"Content-Type": "application/json; charset=utf-8"}, b'{"a": [1, 2.5]}')
        )
        asked = call(
            receiver.url(), method="PUT", body={"x": 1}, headers={"Idempotency-Key": "forged"}
        )
        done = await request(resources, asked)
    assert done.output["status"] == 200
    assert done.output["body"] == {"a": [1, 2.5]}
    (received,) = receiver.received
    assert (received.method, received.body) == ("PUT", b'{"x":1}')
    assert received.headers["idempotency-key"] == asked.key
    assert received.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "expected", "outcome"),
    [
        (204, None, "ok"),
        (404, None, "fails for good"),
        (404, [200, 404], "ok"),
        (204, [200], "fails for good"),
        (500, None, "fails"),
        (429, None, "fails"),
        (302, None, "fails for good"),
    ],
)
async def test_a_status_that_is_not_expected_fails(
    resources: Resources, status: int, expected: list[int] | None, outcome: str
) -> None:
    async with receiving() as receiver:
        receiver.answers.append(Answer(status, {"Location": "/other"}))
        asked = call(receiver.url(), **({"expected": expected} if expected else {}))
        if outcome == "ok":
            assert (await request(resources, asked)).output["status"] == status
            return
        with pytest.raises(ApplicationError, match=str(status)) as caught:
            await request(resources, asked)
    assert caught.value.type == "HttpStatus"
    assert caught.value.non_retryable == (outcome == "fails for good")
    assert len(receiver.received) == 1


async def test_the_server_says_when_to_try_again_within_reason(resources: Resources) -> None:
    async with receiving() as receiver:
        receiver.answers += [
            Answer(503, {"Retry-After": "7"}),
            Answer(429, {"Retry-After": "9999999"}),
        ]
        for seconds in (7, 3600):
            with pytest.raises(ApplicationError) as caught:
                await request(resources, call(receiver.url()))
            assert caught.value.next_retry_delay == timedelta(seconds=seconds)
            assert not caught.value.non_retryable


async def test_an_answer_too_large_to_remember_fails_for_good(resources: Resources) -> None:
    async with receiving() as receiver:
        receiver.answers.append(Answer(200, {}, b"x" * (MAX_BODY + 1)))
        with pytest.raises(ApplicationError) as caught:
            await request(resources, call(receiver.url()))
    assert (caught.value.type, caught.value.non_retryable) == ("HttpBodyTooLarge", True)


async def test_a_private_address_is_refused_for_good_and_not_called(resources: Resources) -> None:
    outbound = resources.settings.outbound.model_copy(update={"allow_networks": []})
    guarded = dataclasses.replace(
        resources, settings=dataclasses.replace(resources.settings, outbound=outbound)
    )
    async with receiving() as receiver:
        with pytest.raises(ApplicationError) as caught:
            await request(guarded, call(receiver.url()))
    assert (caught.value.type, caught.value.non_retryable) == ("blocked_address", True)
    assert receiver.received == []


async def test_a_server_that_is_not_there_may_come_back(resources: Resources) -> None:
    async with receiving() as receiver:
        url = receiver.url()
    with pytest.raises(ApplicationError) as caught:
        await request(resources, call(url))
    assert (caught.value.type, caught.value.non_retryable) == ("outbound_failed", False)
