"""Units of measurement and the linear conversions between them.

Names follow UCUM's print symbols where people use them, else the usual ones (`degC`, `psi`). The
factors are exact by definition (SI brochure, 9th edition; international yard and pound agreement
of 1959), or from NIST SP 811, Appendix B, where there is no exact one.
"""

import math
from collections.abc import Mapping
from typing import Final

Conversion = tuple[float, float]
"""Factor and offset: converted = factor * value + offset."""

_POUND: Final = 0.45359237  # kg
_GRAVITY: Final = 9.80665  # m/s²
_PSI: Final = _POUND * _GRAVITY / 0.0254**2  # Pa
_GALLON: Final = 0.003785411784  # m³, US liquid

# Per kind of quantity: unit → factor and offset to the first unit of the kind.
_KINDS: Final[tuple[Mapping[str, Conversion], ...]] = (
    {"K": (1, 0), "degC": (1, 273.15), "degF": (5 / 9, 459.67 * 5 / 9), "degR": (5 / 9, 0)},
    {
        "Pa": (1, 0),
        "hPa": (1e2, 0),
        "kPa": (1e3, 0),
        "MPa": (1e6, 0),
        "mbar": (1e2, 0),
        "bar": (1e5, 0),
        "atm": (101_325, 0),
        "psi": (_PSI, 0),
        "mmHg": (133.322387415, 0),
        "inHg": (3386.388640341, 0),
    },
    {
        "m": (1, 0),
        "um": (1e-6, 0),
        "mm": (1e-3, 0),
        "cm": (1e-2, 0),
        "km": (1e3, 0),
        "in": (0.0254, 0),
        "ft": (0.3048, 0),
        "yd": (0.9144, 0),
        "mi": (1609.344, 0),
    },
    {
        "kg": (1, 0),
        "mg": (1e-6, 0),
        "g": (1e-3, 0),
        "t": (1e3, 0),
        "lb": (_POUND, 0),
        "oz": (_POUND / 16, 0),
    },
    {
        "m/s": (1, 0),
        "mm/s": (1e-3, 0),
        "km/h": (1 / 3.6, 0),
        "mph": (0.44704, 0),
        "kn": (1852 / 3600, 0),
        "ft/s": (0.3048, 0),
        "in/s": (0.0254, 0),
    },
    {"m/s2": (1, 0), "mm/s2": (1e-3, 0), "gn": (_GRAVITY, 0), "ft/s2": (0.3048, 0)},
    {
        "Hz": (1, 0),
        "kHz": (1e3, 0),
        "MHz": (1e6, 0),
        "rpm": (1 / 60, 0),
        "rad/s": (1 / math.tau, 0),
    },
    {"rad": (1, 0), "deg": (math.pi / 180, 0)},
    {
        "s": (1, 0),
        "us": (1e-6, 0),
        "ms": (1e-3, 0),
        "min": (60, 0),
        "h": (3600, 0),
        "d": (86_400, 0),
    },
    {
        "J": (1, 0),
        "kJ": (1e3, 0),
        "MJ": (1e6, 0),
        "Wh": (3600, 0),
        "kWh": (3.6e6, 0),
        "MWh": (3.6e9, 0),
        "cal": (4.184, 0),
        "kcal": (4184, 0),
        "BTU": (1055.05585262, 0),
    },
    {
        "W": (1, 0),
        "mW": (1e-3, 0),
        "kW": (1e3, 0),
        "MW": (1e6, 0),
        "hp": (550 * 0.3048 * _POUND * _GRAVITY, 0),
    },
    {"m3": (1, 0), "L": (1e-3, 0), "mL": (1e-6, 0), "gal": (_GALLON, 0), "ft3": (0.3048**3, 0)},
    {
        "m3/s": (1, 0),
        "m3/h": (1 / 3600, 0),
        "L/s": (1e-3, 0),
        "L/min": (1e-3 / 60, 0),
        "L/h": (1e-3 / 3600, 0),
        "gpm": (_GALLON / 60, 0),
        "cfm": (0.3048**3 / 60, 0),
    },
    {"V": (1, 0), "uV": (1e-6, 0), "mV": (1e-3, 0), "kV": (1e3, 0)},
    {"A": (1, 0), "uA": (1e-6, 0), "mA": (1e-3, 0), "kA": (1e3, 0)},
    {"Ohm": (1, 0), "mOhm": (1e-3, 0), "kOhm": (1e3, 0), "MOhm": (1e6, 0)},
    {"N": (1, 0), "kN": (1e3, 0), "lbf": (_POUND * _GRAVITY, 0)},
    {"N.m": (1, 0), "kN.m": (1e3, 0), "lbf.ft": (_POUND * _GRAVITY * 0.3048, 0)},
    {"1": (1, 0), "%": (1e-2, 0), "ppm": (1e-6, 0), "ppb": (1e-9, 0)},
    {"lx": (1, 0), "fc": (1 / 0.3048**2, 0)},
)

UNITS: Final = frozenset(unit for kind in _KINDS for unit in kind)
"""Units that can be converted; a metric's `unit` may be any other text as well."""


def conversion(source: str, target: str) -> Conversion:
    """Return how values in `source` become values in `target`.

    Raises:
        ValueError: A unit is not known, or the two measure different things.
    """
    for kind in _KINDS:
        if source in kind and target in kind:
            (factor, offset), (to_factor, to_offset) = kind[source], kind[target]
            return factor / to_factor, (offset - to_offset) / to_factor
    for unit in (source, target):
        if unit not in UNITS:
            raise ValueError(f"the unit `{unit}` is not known")
    raise ValueError(f"`{source}` and `{target}` do not measure the same")
