"""What the demo keeps between its starts."""

from pathlib import Path
from uuid import uuid4

from workers.demo.memory import Memory


def test_a_first_start_knows_nothing(tmp_path: Path) -> None:
    assert Memory.load(tmp_path) == Memory()


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    device = uuid4()
    memory = Memory(keys={device: "key"}, engines={1: device}, passes=2, last_ms=7)
    memory.save(tmp_path)
    assert Memory.load(tmp_path) == memory


def test_the_engines_keys_are_for_the_owner_only(tmp_path: Path) -> None:
    Memory(keys={uuid4(): "key"}).save(tmp_path)
    assert (tmp_path / "demo" / "memory.json").stat().st_mode & 0o077 == 0
