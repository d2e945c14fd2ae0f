"""What brokers send: JSON or a form, with the fields of EMQX and of mosquitto-go-auth."""

from typing import Annotated, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from core.errors import InvalidInputError

_LONGEST: Final = 4096  # characters
_FORM: Final = "application/x-www-form-urlencoded"

Text = Annotated[str, msgspec.Meta(max_length=_LONGEST)]


class Question(msgspec.Struct):
    """One question; which fields count depends on it.

    Attributes:
        action: publish or subscribe (EMQX).
        acc: 1 read, 2 write, 3 both, 4 subscribe (mosquitto-go-auth).
    """

    username: Text | None = None
    password: Text | None = None
    topic: Text = ""
    action: Text = ""
    acc: int = 0


async def read(request: Request) -> Question:
    """Read a question.

    Raises:
        InvalidInputError: It is neither JSON nor a form, or has a field of the wrong type.
    """
    body = await request.body()
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip() == _FORM:
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
            return msgspec.convert(fields, Question, strict=False)
        return msgspec.json.decode(body, type=Question)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise InvalidInputError(f"The question cannot be read: {error}"[:300]) from error
