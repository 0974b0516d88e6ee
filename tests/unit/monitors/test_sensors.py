"""Temperature, mains and battery of made-up machines.

Covers: laptops, desktops, servers, sensors and batteries that make no sense.
Does not cover: hardware.
"""

import pytest

from supervisor.core.readings.sample import Missing
from supervisor.monitors.sensors import read_sensors
from tests.fakes.machine import FakeMachine


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)


def supply(machine, name, **values):
    for key, value in values.items():
        machine.write(f"sys/class/power_supply/{name}/{key}", f"{value}\n")


def chip(machine, number, name, *millidegrees):
    machine.write(f"sys/class/hwmon/hwmon{number}/name", f"{name}\n")
    for index, value in enumerate(millidegrees):
        machine.write(f"sys/class/hwmon/hwmon{number}/temp{index}_input", f"{value}\n")


def test_a_machine_without_a_battery_is_on_mains(machine):
    """
    That is known; the charge of a battery is not there to be told.
    """
    reading = read_sensors(machine.sys)

    assert 0.0 == reading.on_battery
    assert Missing("there is no battery") == reading.battery_pct
    assert Missing("no sensor of the CPU is shown") == reading.temperature_c


@pytest.mark.parametrize(
    ("online", "status", "on_battery"),
    [
        (1, "Charging", 0.0),
        (1, "Full", 0.0),
        (1, "Discharging", 0.0),
        (0, "Discharging", 1.0),
        (0, "Full", 0.0),
    ],
)
def test_a_laptop_tells_where_its_power_comes_from(machine, online, status, on_battery):
    """
    A battery that loses charge while plugged in is not what it runs on.
    """
    supply(machine, "AC", type="Mains", online=online)
    supply(machine, "BAT0", type="Battery", status=status, capacity=83)
    reading = read_sensors(machine.sys)

    assert (on_battery, 83.0) == (reading.on_battery, reading.battery_pct)


def test_the_emptiest_of_two_batteries_counts(machine):
    """
    One of them in use is enough.
    """
    supply(machine, "BAT0", type="Battery", status="Full", capacity=100)
    supply(machine, "BAT1", type="Battery", status="Discharging", capacity=12)
    reading = read_sensors(machine.sys)

    assert (1.0, 12.0) == (reading.on_battery, reading.battery_pct)


def test_the_battery_of_a_mouse_is_none(machine):
    """
    The kernel shows it beside the others.
    """
    supply(machine, "hidpp_0", type="Battery", scope="Device", status="Discharging", capacity=5)

    assert 0.0 == read_sensors(machine.sys).on_battery


@pytest.mark.parametrize("capacity", ["", "x", "nan", "101", "-3"])
def test_a_charge_that_makes_no_sense_is_missing(machine, capacity):
    """
    Whether it is in use is known all the same.
    """
    supply(machine, "BAT0", type="Battery", status="Discharging", capacity=capacity)
    reading = read_sensors(machine.sys)

    assert 1.0 == reading.on_battery
    assert Missing("the battery does not tell its charge") == reading.battery_pct


def test_a_battery_that_says_nothing_is_missing(machine):
    """
    Neither on mains nor on battery.
    """
    supply(machine, "BAT0", type="Battery")

    assert Missing("the battery does not tell whether it is in use") == read_sensors(machine.sys).on_battery


def test_the_hottest_sensor_of_the_cpu_counts(machine):
    """
    Boards show inputs to which nothing is connected as 127 degrees; disks have limits of their own.
    """
    chip(machine, 0, "nct6775", 127000)
    chip(machine, 1, "coretemp", 61000, 64500, 59000)
    chip(machine, 2, "nvme", 71000)

    assert 64.5 == read_sensors(machine.sys).temperature_c


def test_a_board_without_such_a_chip_has_zones(machine):
    """
    Small computers show their CPU there.
    """
    machine.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    machine.write("sys/class/thermal/thermal_zone0/temp", "48300\n")
    machine.write("sys/class/thermal/thermal_zone1/type", "acpitz\n")
    machine.write("sys/class/thermal/thermal_zone1/temp", "99000\n")

    assert 48.3 == read_sensors(machine.sys).temperature_c


@pytest.mark.parametrize("text", ["", "hot", "-273000", "255000", "nan", "inf"])
def test_a_temperature_that_makes_no_sense_does_not_count(machine, text):
    """
    The other sensors do.
    """
    chip(machine, 0, "k10temp", text, 55000)

    assert 55.0 == read_sensors(machine.sys).temperature_c
