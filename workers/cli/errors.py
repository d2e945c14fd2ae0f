"""Turns the errors that are expected into one clear line and an exit code."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from pydantic import ValidationError

from core.errors import IoTLinkerError

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


@contextmanager
def reported() -> Generator[None]:
    """End the process with exit code 1 and a line on standard error for an expected error."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        match _first(error):
            case KeyboardInterrupt():
                sys.exit(INTERRUPTED)
            case IoTLinkerError() as expected:
                lines = [f"{expected.title}: {expected.detail}"]
                lines += [f"  {fault.pointer or '/'}: {fault.message}" for fault in expected.errors]
                _end("\n".join(lines))
            case ValidationError() as wrong:
                _end(_settings(wrong))
            case OSError() as refused:
                # A server that is down is the usual one.
                _end(f"{refused}\nIs the platform running? `iotlinker status` tells.")
            case _:
                raise


def _first(error: BaseException) -> BaseException:
    """Return what went wrong first where several tasks failed together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _settings(error: ValidationError) -> str:
    """Name the environment variables that are wrong; the models are our settings groups."""
    group = error.title.removesuffix("Settings").upper()
    faults = [
        f"IOTLINKER_{group}_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
        for fault in error.errors(include_url=False)
    ]
    return "Configuration error: " + "; ".join(faults)


def _end(message: str) -> None:
    sys.stderr.write(f"iotlinker: {message}\n")
    sys.exit(1)
