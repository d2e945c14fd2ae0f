"""The last line of every benchmark."""

import json
import os
import platform
from pathlib import Path


def machine() -> str:
    """Describe this machine in a line."""
    model = "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {model}, {platform.system()}, Python {platform.python_version()}"


def report(
    name: str, value: float, unit: str, baseline: float, ratio: float, **more: float | str
) -> None:
    """Print the result; nothing may be printed after it.

    Args:
        name: The benchmark's.
        value: Its figure.
        unit: Of the value and the baseline.
        baseline: Measured in the same run.
        ratio: Value to baseline; the median of pairs where there are some.
        more: Further figures, each by a name that tells its unit.
    """
    result: dict[str, float | str] = {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "baseline": round(baseline, 3),
        "ratio": round(ratio, 4),
        "machine": machine(),
    }
    for key, figure in more.items():
        result[key] = round(figure, 3) if isinstance(figure, float) else figure
    print(json.dumps(result), flush=True)
