"""Temperature of the CPU, mains and battery.

Covers: what the kernel shows below /sys/class. Some of it asks slow hardware, so
it is read aside.
Does not cover: GPUs (gpu.py), disks, boards. A board's chip shows inputs to which
nothing is connected as 127 degrees and the like, so only sensors of the CPU count.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from supervisor.core.readings.sample import Missing, Reading
from supervisor.monitors.files import attempt, read_text

__all__ = ["SensorReading", "read_sensors"]

#: Kernel drivers of sensors inside a CPU, and types of thermal zones that show it.
_CPU_DRIVERS: Final = frozenset({"coretemp", "cpu_thermal", "fam15h_power", "k10temp", "k8temp", "zenpower"})
_CPU_ZONES: Final = ("x86_pkg_temp", "cpu")
_PLAUSIBLE_C: Final = (-40.0, 125.0)


class SensorReading(msgspec.Struct, frozen=True):
    """What Sample says of them."""

    temperature_c: Reading
    on_battery: Reading
    battery_pct: Reading


def read_sensors(sys: Path = Path("/sys")) -> SensorReading:
    """Return all sensors now; may take a while."""
    on_battery, battery_pct = _power(sys / "class/power_supply")
    return SensorReading(_temperature(sys), on_battery, battery_pct)


def _temperature(sys: Path) -> Reading:
    found = [degrees for degrees in _temperatures(sys) if _PLAUSIBLE_C[0] < degrees < _PLAUSIBLE_C[1]]
    return max(found) if found else Missing("no sensor of the CPU is shown")


def _temperatures(sys: Path) -> Iterator[float]:
    for chip in sys.glob("class/hwmon/hwmon*"):
        if _word(chip / "name") in _CPU_DRIVERS:
            yield from (value / 1000 for value in map(_number, chip.glob("temp*_input")) if value is not None)
    for zone in sys.glob("class/thermal/thermal_zone*"):
        value = _number(zone / "temp")
        if _word(zone / "type").startswith(_CPU_ZONES) and value is not None:
            yield value / 1000


def _power(folder: Path) -> tuple[Reading, Reading]:
    """Return whether it runs on battery, and the charge of the battery that is emptiest."""
    try:
        supplies = sorted(folder.iterdir())
    except OSError:
        # A kernel without this class has no battery to tell of.
        supplies = []
    is_online = False
    charges = []
    states = []
    for supply in supplies:
        kind = _word(supply / "type")
        # The battery of a mouse, says the kernel, belongs to a device.
        if _word(supply / "scope") == "Device":
            continue
        if kind in ("Battery", "UPS"):
            states.append(_word(supply / "status"))
            charges.append(_number(supply / "capacity"))
        else:
            is_online |= _number(supply / "online") == 1
    if not states:
        return 0.0, Missing("there is no battery")
    known = [charge for charge in charges if charge is not None and 0 <= charge <= 100]
    charge: Reading = min(known) if known else Missing("the battery does not tell its charge")
    if is_online:
        return 0.0, charge
    if not any(states):
        return Missing("the battery does not tell whether it is in use"), charge
    return float("Discharging" in states), charge


def _word(path: Path) -> str:
    text = attempt(str(path), lambda: read_text(str(path)).strip())
    return "" if isinstance(text, Missing) else text


def _number(path: Path) -> float | None:
    number = attempt(str(path), lambda: float(read_text(str(path))))
    return None if isinstance(number, Missing) else number
