"""The frozen dataset gives back what was put in, and shows when it was changed."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from mlops.errors import ArtifactDamagedError, NotEnoughDataError
from mlops.features import BASELINE, FeatureSpec, History, compute
from mlops.training.lives import Life, Snapshot, SnapshotWriter
from mlops.training.matrix import build_matrix, load_matrix, save_matrix, varying_metrics
from tests.support.engines import METRICS, wearing, whole

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write(folder: Path, *lives: Life) -> Snapshot:
    folder.mkdir(exist_ok=True)
    writer = SnapshotWriter(folder)
    for life in lives:
        writer.add(life, NOW, NOW)
    return Snapshot(folder, writer.finish())


def life(device: int, history: History, number: int = 0) -> Life:
    return Life(UUID(int=device), number, history)


def test_lives_come_back_whole(tmp_path: Path) -> None:
    histories = [whole(wearing(seed)) for seed in range(3)]
    snapshot = write(
        tmp_path, life(1, histories[0]), life(1, histories[1], 1), life(2, histories[2])
    )
    back = list(snapshot.lives())
    assert [(one.device_id.int, one.number) for one in back] == [(1, 0), (1, 1), (2, 0)]
    for one, history in zip(back, histories, strict=True):
        np.testing.assert_array_equal(one.history.recent, history.recent)
        assert one.history.total == history.total


@pytest.mark.parametrize("start", [5, BASELINE, BASELINE + 1, 60])
def test_a_shortened_life_has_the_same_features(tmp_path: Path, start: int) -> None:
    cycles = wearing(1, 130)
    short = History(METRICS, cycles[:BASELINE], cycles[start:], 130)
    (back,) = write(tmp_path, life(1, short)).lives()
    spec = FeatureSpec(metrics=METRICS[:2])
    expected = compute(spec, whole(cycles))
    got = compute(spec, back.history)
    np.testing.assert_array_equal(got.matrix, expected.matrix[got.positions])
    assert back.remaining(got.positions)[-1] == 0


def test_devices_may_have_different_metrics(tmp_path: Path) -> None:
    snapshot = write(
        tmp_path,
        life(1, whole(wearing(1)[:, :1], ("heat",))),
        life(2, whole(wearing(2)[:, 1:2], ("speed",))),
    )
    first, second = snapshot.lives()
    assert first.history.metrics == second.history.metrics == ("heat", "speed")
    assert np.isnan(first.history.recent[:, 1]).all()
    assert np.isnan(second.history.recent[:, 0]).all()


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    writer = SnapshotWriter(folder)
    writer.add(life(1, whole(wearing(1))), NOW, NOW)
    sha256 = writer.finish()
    part = next(folder.glob("part-*.parquet"))
    part.write_bytes(part.read_bytes() + b"x")
    with pytest.raises(ArtifactDamagedError, match="changed"):
        Snapshot(folder, sha256)


def test_constant_metrics_are_found_in_training_devices_alone(tmp_path: Path) -> None:
    odd = wearing(2)
    odd[:, 2] = np.arange(len(odd))
    snapshot = write(tmp_path, life(1, whole(wearing(1))), life(2, whole(odd)))
    assert varying_metrics(snapshot, {UUID(int=1)}) == ("heat", "speed")
    assert varying_metrics(snapshot, {UUID(int=2)}) == METRICS


def test_metrics_that_never_change_teach_nothing(tmp_path: Path) -> None:
    snapshot = write(tmp_path, life(1, whole(np.ones((50, 3)))))
    with pytest.raises(NotEnoughDataError, match="ever changes"):
        varying_metrics(snapshot, {UUID(int=1)})


def test_targets_are_capped_and_the_last_cycles_survive_thinning(tmp_path: Path) -> None:
    snapshot = write(tmp_path / "d", life(1, whole(wearing(1, 120))))
    every = build_matrix(snapshot, {UUID(int=1)}, 50)
    assert every.y[0] == 50
    assert every.y[-1] == 0
    thinned = build_matrix(snapshot, {UUID(int=1)}, 50, max_rows=40)
    assert len(thinned.x) == 40
    np.testing.assert_array_equal(thinned.x[-1], every.x[-1])


def test_a_matrix_comes_back_from_disk(tmp_path: Path) -> None:
    snapshot = write(tmp_path / "d", life(1, whole(wearing(1, 120))))
    matrix = build_matrix(snapshot, {UUID(int=1)}, 50)
    folder = tmp_path / "m"
    folder.mkdir()
    back = load_matrix(folder, save_matrix(matrix, folder))
    assert back.spec == matrix.spec
    np.testing.assert_array_equal(back.x, matrix.x)
    np.testing.assert_array_equal(back.y, matrix.y)
