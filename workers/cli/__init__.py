"""The `iotlinker` command.

Commands import what they need when they run: `iotlinker --help` and the starts of the processes
must not pay for each other's libraries.
"""

from workers.cli.errors import reported


def main() -> None:
    """Run the command; an error is one clear line and exit code 1."""
    with reported():
        from workers.cli.app import app

        app()
