"""Ends the platform's processes when their supervisor was killed and could not.

Run by the supervisor as a process of its own with a pipe as standard input. Lines are
`+ PID SIGNAL` when a process was started and `- PID` when it has ended. The end of the input means
that the supervisor is gone: whatever is left then is asked to stop, and killed ten seconds later.
A pipe notices a `kill -9` on every system, and process groups include the processes' children,
neither of which Linux's parent-death signal would give.

Started without the site packages: only the standard library is imported, to stay small.
"""

import os
import signal
import sys
import time

GRACE = 10.0


def alive(group: int) -> bool:
    """Tell whether a process group has a member left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def send(group: int, number: int) -> None:
    """Signal a process group, if it is there."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def end(groups: dict[int, int]) -> None:
    """Ask the groups to stop, last started first, then kill what is left."""
    for group, number in reversed(groups.items()):
        send(group, number)
    deadline = time.monotonic() + GRACE
    while any(alive(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in groups:
        send(group, signal.SIGKILL)


def main() -> None:
    """Read the supervisor's lines until they end."""
    groups: dict[int, int] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", group, number]:
                groups[int(group)] = int(number)
            case ["-", group]:
                groups.pop(int(group), None)
            case _:
                sys.stderr.write(f"unknown line {line!r}\n")
    end(groups)


if __name__ == "__main__":
    main()
