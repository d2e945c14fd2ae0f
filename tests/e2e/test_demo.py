"""`iotlinker demo --exit`, whose own verdict is the test: everything sent is stored, and so on."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.platform import environment
from tests.support.servers import free_port
from workers.stack.state import StateFile, leftovers

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


async def test_the_demo_holds_and_leaves_no_process(tmp_path: Path) -> None:
    variables = environment(tmp_path) | {"IOTLINKER_MLFLOW_PORT": str(free_port())}
    del variables["IOTLINKER_MLFLOW_URL"]
    demo = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "workers.cli", "demo", "--exit", "--rate", "1500"),
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await demo.communicate()
    finally:
        if demo.returncode is None:
            demo.terminate()
            await demo.wait()
    text = output.decode()
    assert demo.returncode == 0, text[-5000:]
    assert "sent 13,096 = acknowledged 13,096 = stored 13,096 messages (275,016 values)" in text
    state = StateFile(tmp_path).read()
    assert state is not None
    assert leftovers(state) == []
