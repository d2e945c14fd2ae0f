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
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except IoTLinkerError as error:
        lines = [f"{error.title}: {error.detail}"]
        lines += [f"  {fault.pointer or '/'}: {fault.message}" for fault in error.errors]
        _end("\n".join(lines))
    except ValidationError as error:
        _end(_settings(error))
    except OSError as error:
        # A server that is down is the usual one: "the platform is not running".
        _end(f"{error}\nIs the platform running? `iotlinker status` tells.")


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
