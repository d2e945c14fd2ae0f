"""The embedded MLflow server: tracking and registry on PostgreSQL, artifacts on disk."""

import sys

from core.settings import Settings
from workers.stack.service import Port, Service, http_probe


def mlflow(settings: Settings) -> Service:
    """Describe the embedded MLflow server."""
    # SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3; named, so that it never depends on it.
    store = settings.database_url("mlflow").replace("postgresql://", "postgresql+psycopg://", 1)
    artifacts = settings.artifacts / "mlflow"

    return Service(
        name="mlflow",
        command=(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host=127.0.0.1",
            f"--port={settings.mlflow.port}",
            "--workers=1",
            f"--artifacts-destination={artifacts}",
        ),
        # The address holds a password, so it goes by the environment.
        environment={
            "MLFLOW_BACKEND_STORE_URI": store,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        },
        ports=(Port(settings.mlflow.port, "IOTLINKER_MLFLOW_PORT"),),
        prepare=lambda: artifacts.mkdir(parents=True, exist_ok=True),
        probe=http_probe(f"{settings.mlflow_url}/health"),
        needs=("roles",),
        awaited=False,
        niceness=10,  # its imports take seconds of processor time that the start needs more
    )
