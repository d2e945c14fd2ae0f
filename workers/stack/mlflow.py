"""The embedded MLflow server: tracking and registry on PostgreSQL, artifacts on disk."""

import sys

import httpx

from core.settings import Settings
from workers.stack.service import Service


def mlflow(settings: Settings) -> Service:
    """Describe the embedded MLflow server."""
    # SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3; named, so that it never depends on it.
    store = settings.database_url("mlflow").replace("postgresql://", "postgresql+psycopg://", 1)
    artifacts = settings.artifacts / "mlflow"

    async def probe() -> None:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            (await client.get(f"{settings.mlflow_url}/health")).raise_for_status()

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
        port=settings.mlflow.port,
        setting="IOTLINKER_MLFLOW_PORT",
        prepare=lambda: artifacts.mkdir(parents=True, exist_ok=True),
        probe=probe,
        needs=("postgres",),
    )
