"""Accuracy of remaining useful life on NASA's FD001 test engines: `python -m benchmarks.rul`.

Trained on all 100 training engines; RMSE and NASA score at the last cycle of each of the 100 test
engines against the true remaining life, which is not capped. The baseline is XGBoost with the
same parameters on the bare measurements of that cycle, in the same run. Nothing is fitted on the
test engines. Treat a figure under 10 as a leak until proven otherwise.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np

from mlops.datasets.turbofan import SENSORS, Engine, engines_under_test, training_engines
from mlops.features import BASELINE, WINDOW, FeatureSpec, History, compute
from mlops.model import load_booster, predict
from mlops.training.boosting import PARAMETERS, THREADS, boost
from mlops.training.evaluation import nasa_score
from mlops.training.matrix import Matrix

CAP = 125
ROUNDS = 600
SEED = 7


def served_history(engine: Engine) -> History:
    """Return what serving would read: the first and the last cycles, nothing between."""
    x = engine.cycles
    return History(SENSORS, x[:BASELINE], x[-WINDOW:], len(x))


def training_matrix(engines: Sequence[Engine]) -> Matrix:
    """Return the features of every cycle; constant sensors are dropped."""
    everything = np.vstack([engine.cycles for engine in engines])
    spread = np.ptp(everything, axis=0) > 1e-7 * np.abs(everything).max(axis=0)
    spec = FeatureSpec(metrics=tuple(np.array(SENSORS)[spread].tolist()))
    features = [
        compute(spec, History(SENSORS, e.cycles[:BASELINE], e.cycles, len(e.cycles)))
        for e in engines
    ]
    return Matrix(spec, np.vstack([one.matrix for one in features]), capped_targets(engines, CAP))


def capped_targets(engines: Sequence[Engine], cap: int) -> np.ndarray:
    """Return min(remaining cycles, cap) for every cycle."""
    remaining = [np.arange(len(engine.cycles))[::-1] for engine in engines]
    return np.minimum(np.concatenate(remaining), cap).astype(np.float32)


def baseline(training: Sequence[Engine], test: Sequence[Engine]) -> np.ndarray:
    """Return predictions from bare measurements, without windows."""
    import xgboost as xgb

    x = np.vstack([engine.cycles for engine in training])
    data = xgb.QuantileDMatrix(x, capped_targets(training, CAP), nthread=THREADS)
    parameters = {**PARAMETERS, "seed": SEED, "nthread": THREADS}
    booster = xgb.train(parameters, data, num_boost_round=ROUNDS)
    return booster.predict(xgb.DMatrix(np.vstack([engine.cycles[-1] for engine in test])))


def main() -> None:
    """Run and print; the last line is one JSON object."""
    training, test = training_engines(), engines_under_test()
    truth = np.array([engine.remaining for engine in test], dtype=np.float64)

    started = time.perf_counter()
    matrix = training_matrix(training)
    with tempfile.TemporaryDirectory() as folder:
        trained = boost(
            matrix, rounds=ROUNDS, seed=SEED, folder=Path(folder), data_sha256=str(UUID(int=0))
        )
        booster = load_booster(trained.path.read_bytes())
    seconds = time.perf_counter() - started

    rows = np.vstack([compute(matrix.spec, served_history(engine)).matrix for engine in test])
    ours = predict(booster, rows) - truth
    bare = baseline(training, test) - truth
    rmse, bare_rmse = (float(np.sqrt(np.mean(d**2))) for d in (ours, bare))
    print(f"features and training: {seconds:.1f} s, {matrix.x.shape[1]} features")
    print(f"window features:   RMSE {rmse:.2f}, NASA score {nasa_score(ours):.0f}")
    print(f"bare measurements: RMSE {bare_rmse:.2f}, NASA score {nasa_score(bare):.0f}")
    print(
        json.dumps(
            {
                "name": "rul",
                "value": round(rmse, 3),
                "unit": "cycles RMSE at the last cycle of the FD001 test engines, uncapped truth",
                "baseline": round(bare_rmse, 3),
                "ratio": round(rmse / bare_rmse, 3),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            }
        )
    )


if __name__ == "__main__":
    main()
