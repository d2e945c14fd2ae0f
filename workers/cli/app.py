"""The commands and their options; each hands over to a module that does the work."""

from pathlib import Path
from typing import Annotated

import typer

from core.temporal.names import TaskQueue

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="IoTLinker: devices' messages in, durable automations out.",
)
user = typer.Typer(no_args_is_help=True, help="Create and list users, reset a password.")
migrate = typer.Typer(no_args_is_help=True, help="Bring the database schema up or down.")
app.add_typer(user, name="user")
app.add_typer(migrate, name="migrate")

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="IOTLINKER_HOME",
        show_default=".iotlinker",
        help="The folder with all state.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def up(home: Home = None) -> None:
    """Start the platform and keep it running; Ctrl-C ends all of it."""
    from workers.cli.up import up as run

    run(home)


@app.command()
def demo(
    home: Home = None,
    leave: Annotated[
        bool, typer.Option("--exit", help="End when done: 0 when all of it held, else 1.")
    ] = False,
    rate: Annotated[
        float, typer.Option(min=1, help="Messages per second of the whole fleet.")
    ] = 400,
) -> None:
    """Start the platform and run its main job on NASA's turbofan engines."""
    from workers.demo.main import run

    run(home, leave=leave, rate=rate)


@app.command()
def status(
    home: Home = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs; exit code 1 when not all of it does."""
    from workers.cli.control import status as run

    run(home, as_json=as_json)


@app.command()
def down(home: Home = None) -> None:
    """End the platform that runs in another terminal."""
    from workers.cli.control import down as run

    run(home)


@app.command()
def reset(home: Home = None, yes: Yes = False) -> None:
    """Delete all state: databases, models, logs, secrets."""
    from workers.cli.control import reset as run

    run(home, yes=yes)


@app.command()
def api(home: Home = None) -> None:
    """Run the HTTP API in this process."""
    from workers.cli.processes import api as run

    run(home)


@app.command()
def broker(home: Home = None) -> None:
    """Run the MQTT broker in this process."""
    from workers.cli.processes import broker as run

    run(home)


@app.command()
def ingest(
    home: Home = None,
    mqtt: Annotated[
        str | None,
        typer.Option(
            envvar="IOTLINKER_INGEST_MQTT", help="The broker: mqtt://host[:port] or mqtts://…"
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Certificates that the broker's is checked by, in PEM.")
    ] = None,
    certificate_file: Annotated[
        Path | None, typer.Option(help="Client certificate, in PEM.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Key of the client certificate.")] = None,
    username: Annotated[
        str | None,
        typer.Option(help="Who signs in; the password is IOTLINKER_INGEST_PASSWORD."),
    ] = None,
) -> None:
    """Ingest from another MQTT broker in this process; any number side by side."""
    from workers.cli.processes import ingest as run

    given = {
        "mqtt": mqtt,
        "ca_file": ca_file,
        "certificate_file": certificate_file,
        "key_file": key_file,
        "username": username,
    }
    run(home, {name: value for name, value in given.items() if value is not None})


@app.command()
def worker(
    queues: Annotated[
        list[TaskQueue] | None, typer.Argument(help="Task queues; all when none is named.")
    ] = None,
    home: Home = None,
) -> None:
    """Run a Temporal worker in this process."""
    from workers.cli.processes import worker as run

    run(home, queues or list(TaskQueue))


@user.command("create")
def user_create(
    email: Annotated[str, typer.Argument(help="Whom to create.")],
    tenant: Annotated[str, typer.Option(help="Its tenant, made if it is new.")] = "Default tenant",
    subdomain: Annotated[
        str, typer.Option(help="The tenant's short name, which identifies it.")
    ] = "default",
    organization: Annotated[
        str, typer.Option(help="Owner of a new tenant.")
    ] = "Default organization",
    home: Home = None,
) -> None:
    """Create an administrator of a tenant and print the password once."""
    from workers.cli.users import create as run

    run(home, email, organization=organization, tenant=tenant, subdomain=subdomain)


@user.command("list")
def user_list(home: Home = None) -> None:
    """List the users of all tenants."""
    from workers.cli.users import list_users as run

    run(home)


@user.command("reset-password")
def user_reset_password(
    email: Annotated[str, typer.Argument(help="Whose password.")], home: Home = None
) -> None:
    """Give a user a new password, print it once, and end their sessions."""
    from workers.cli.users import reset as run

    run(home, email)


@migrate.command("up")
def migrate_up(
    revision: Annotated[str, typer.Argument(help="Where to.")] = "head", home: Home = None
) -> None:
    """Create missing roles and bring the schema up."""
    from workers.cli.schema import up as run

    run(home, revision)


@migrate.command("down")
def migrate_down(
    revision: Annotated[str, typer.Argument(help="Where to; `base` removes every table.")],
    home: Home = None,
    yes: Yes = False,
) -> None:
    """Take the schema down; the data of removed tables is gone."""
    from workers.cli.schema import down as run

    run(home, revision, yes=yes)
