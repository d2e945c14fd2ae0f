"""Calls other people's servers."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.automation.steps import fail, parameters, perform
from activities.resources import Resources
from core.dsl.steps import HttpRequestParameters
from core.outbound import OutboundGuard, OutboundResponse
from core.temporal.activity_names import AutomationActivity
from core.temporal.steps import StepCall, StepDone
from core.webhooks import parse_retry_after

MAX_BODY = 256 * 1024
"""Bytes of an answer that a run remembers; a longer one fails the step rather than being cut."""
MAX_RETRY_AFTER = 3600.0
"""Seconds; a server cannot put off the next try for longer."""

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpActivities:
    """The step `http_request`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._guard = OutboundGuard(resources.settings.outbound.allow_networks)

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.http_request,)

    @activity.defn(name=AutomationActivity.HTTP_REQUEST)
    async def http_request(self, call: StepCall) -> StepDone:
        """Make a call; every try carries the same `Idempotency-Key`."""
        return await perform(lambda: self._call(call))

    async def _call(self, call: StepCall) -> dict[str, Any]:
        wanted = parameters(call, HttpRequestParameters)
        headers = {name.lower(): value for name, value in wanted.headers.items()}
        content = b""
        if isinstance(wanted.body, str):
            content = wanted.body.encode()
        elif wanted.body is not None:
            content = msgspec.json.encode(wanted.body)
            headers.setdefault("content-type", "application/json")
        headers["idempotency-key"] = call.key
        answer = await self._guard.send(
            self._resources.http,
            wanted.method,
            wanted.url,
            headers=headers,
            content=content,
            timeout=self._resources.settings.outbound.timeout,
            max_body=MAX_BODY,
        )
        _check(answer, wanted)
        return {
            "status": answer.status_code,
            "headers": dict(answer.headers),
            "body": _body(answer),
        }


def _check(answer: OutboundResponse, wanted: HttpRequestParameters) -> None:
    status = answer.status_code
    expected = status in wanted.expected if wanted.expected else 200 <= status < 300
    message = f"{wanted.method} {wanted.url} answered {status}"
    if not expected:
        retry_after = parse_retry_after(answer.headers.get("retry-after"), datetime.now(UTC))
        if status in (429, 503) and retry_after is not None:
            raise ApplicationError(
                message,
                activity.info().attempt,
                type="HttpStatus",
                next_retry_delay=timedelta(seconds=min(retry_after, MAX_RETRY_AFTER)),
            )
        fail("HttpStatus", message, retry=status in _TRY_AGAIN)
    if answer.truncated:
        fail("HttpBodyTooLarge", f"{message} with more than {MAX_BODY} bytes", retry=False)


def _body(answer: OutboundResponse) -> Any:
    """Return JSON as what it says, anything else as text."""
    if "json" in answer.headers.get("content-type", ""):
        try:
            return msgspec.json.decode(answer.body)
        except msgspec.DecodeError:
            pass  # the header was wrong, which is for the automation to judge
    return answer.body.decode(errors="replace")
