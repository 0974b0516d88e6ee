"""GPUs through the real binding and a driver that tests rewrite.

Covers: what is read, what cannot be, who holds what, drivers that come, hang and go.
Does not cover: a real GPU.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Gpu, GpuProcess, Missing, Sample
from tests.harness import until
from tests.nvml import GIB, Card, FakeDriver, Holder

ROOT = Path(__file__).parents[2]
#: Numbers of processes that live as long as the test.
ME, PARENT = os.getpid(), os.getppid()


class Reader:
    """A process with this driver, or with none."""

    def __init__(self, env):
        self.now = 0.0
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._child = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/gpu_reader.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**inherited, "PYTHONPATH": str(ROOT), **env},
        )

    def read(self, *, aside=False, owners=None):
        order = {"now": self.now, "how": "aside" if aside else "at once", "owners": owners or {}}
        self._child.stdin.write(msgspec.json.encode(order) + b"\n")
        self._child.stdin.flush()
        return msgspec.json.decode(self._child.stdout.readline(), type=tuple[Gpu, ...] | Missing)

    def close(self):
        self._child.stdin.close()
        assert 0 == self._child.wait(timeout=30)
        self._child.stdout.close()


@pytest.fixture
def reader(nvml):
    one = Reader(nvml.env)
    yield one
    one.close()


def the_only(gpus):
    assert not isinstance(gpus, Missing), gpus.why
    (gpu,) = gpus
    return gpu


def test_a_gpu_is_read(nvml, reader):
    """
    Under its UUID, in bytes, degrees and watts. What the driver keeps for itself is not used memory.
    """
    nvml.show(
        Card(
            "GPU-a",
            name="Fast",
            total=24 * GIB,
            used=3 * GIB,
            reserved=GIB // 2,
            busy=13,
            celsius=61,
            milliwatts=212500,
            processes=[Holder(ME, 2 * GIB)],
        )
    )

    assert (
        Gpu(
            uuid="GPU-a",
            name="Fast",
            utilization_pct=13.0,
            memory_used_bytes=3.0 * GIB,
            memory_total_bytes=24.0 * GIB,
            temperature_c=61.0,
            power_w=212.5,
            processes=(GpuProcess(ME, 2 * GIB),),
        ),
    ) == reader.read()


def test_every_gpu_is_read(nvml, reader):
    """
    In the driver's order, each with its own processes.
    """
    nvml.show(Card("GPU-a"), Card("GPU-b", processes=[Holder(ME)]))

    found = [(gpu.index, gpu.uuid, len(gpu.processes)) for gpu in reader.read()]
    assert [(0, "GPU-a", 0), (1, "GPU-b", 1)] == found


def test_a_machine_without_a_driver_says_so():
    """
    That is no error and no empty list: nothing is known of GPUs.
    """
    reader = Reader({})
    missing = reader.read()
    reader.close()

    assert Missing("there is no NVIDIA driver: libnvidia-ml.so.1 is not found") == missing


def test_a_driver_that_is_loaded_later_is_found(nvml, reader):
    """
    It is tried again every minute, not more often.
    """
    nvml.show(init_error=9)
    first = reader.read()
    nvml.show(Card("GPU-a"))
    reader.now = 59.0
    second = reader.read()
    reader.now = 61.0

    assert Missing("the NVIDIA driver does not start: Driver Not Loaded") == first == second
    assert "GPU-a" == the_only(reader.read()).uuid


def test_a_lost_gpu_keeps_its_name_and_the_others_their_readings(nvml, reader):
    """
    All that it would tell is missing, with the reason.
    """
    nvml.show(Card("GPU-a"), Card("GPU-b", used=GIB))
    reader.read()
    nvml.show(Card("GPU-a", lost=True), Card("GPU-b", used=GIB))
    lost, other = reader.read()

    why = Missing("the GPU is lost: it does not answer its driver")
    assert ("GPU-a", why, why, why, why) == (
        lost.uuid,
        lost.utilization_pct,
        lost.memory_used_bytes,
        lost.temperature_c,
        lost.processes,
    )
    assert 1.0 * GIB == other.memory_used_bytes


def test_a_gpu_that_came_back_is_read_again(nvml, reader):
    """
    After a minute the driver is started anew; until then the GPU is not forgotten.
    """
    nvml.show(Card("GPU-a"))
    reader.read()
    nvml.show(Card("GPU-a", lost=True))
    reader.read()
    reader.now = 61.0
    still_lost = the_only(reader.read())
    nvml.show(Card("GPU-a", used=GIB))
    reader.now = 200.0

    assert "GPU-a" == still_lost.uuid
    assert isinstance(still_lost.memory_used_bytes, Missing)
    # The first reading at that time starts the driver again, or has it from the reading before.
    assert 1.0 * GIB == the_only(until(lambda: opened(reader.read()), "it is opened")).memory_used_bytes


def opened(gpus):
    return gpus if not isinstance(gpus[0].memory_used_bytes, Missing) else None


def test_a_gpu_that_was_pulled_out_is_gone_after_a_while(nvml, reader):
    """
    At first it is lost; the driver's next start does not show it.
    """
    nvml.show(Card("GPU-a"), Card("GPU-b"))
    reader.read()
    nvml.show(Card("GPU-a"))
    first = reader.read()
    reader.now = 61.0
    second = reader.read()

    assert isinstance(first[1].memory_used_bytes, Missing)
    assert ["GPU-a"] == [gpu.uuid for gpu in second]


def test_a_process_that_computes_and_draws_is_one(nvml, reader):
    """
    It stands in both lists; the higher figure counts.
    """
    holders = [Holder(ME, 2 * GIB), Holder(ME, 3 * GIB, "g"), Holder(PARENT, None), Holder(PARENT, GIB, "g")]
    nvml.show(Card("GPU-a", processes=holders))

    expected = tuple(sorted([GpuProcess(ME, 3 * GIB), GpuProcess(PARENT, GIB)], key=lambda one: one.pid))
    assert expected == the_only(reader.read()).processes


def test_a_desktop_draws_and_does_not_compute(nvml, reader):
    """
    A rule against others that compute leaves it alone; the memory that it holds counts.
    """
    nvml.show(Card("GPU-a", processes=[Holder(ME, GIB, "g")]))
    gpus = reader.read()
    sample = Sample(at=0.0, gpus=gpus)

    assert (GpuProcess(ME, GIB, computes=False),) == the_only(gpus).processes
    assert 0.0 == METRICS["gpu_foreign_processes"].read(sample, "GPU-a")
    assert 1.0 == METRICS["gpu_foreign_memory_gib"].read(sample, "GPU-a")


def test_memory_of_a_process_that_is_not_told_is_unknown(nvml, reader):
    """
    Not zero: the process may hold everything.
    """
    nvml.show(Card("GPU-a", processes=[Holder(ME, None)]))

    assert (GpuProcess(ME, None),) == the_only(reader.read()).processes


def test_a_card_without_a_screen_has_no_list_of_those_that_draw(nvml, reader):
    """
    The other list is enough.
    """
    nvml.show(Card("GPU-a", drawing=-1, processes=[Holder(ME)]))

    assert (GpuProcess(ME, GIB),) == the_only(reader.read()).processes


@pytest.mark.parametrize(
    ("card", "field", "why"),
    [
        (Card("GPU-a", secret=True), "processes", "this GPU does not tell it"),
        (Card("GPU-a", busy=-1), "utilization_pct", "this GPU does not tell it"),
        (Card("GPU-a", old=True), "power_w", "this GPU does not tell it"),
        (
            Card("GPU-a", mig=True, processes=[Holder(ME)]),
            "processes",
            "it is divided (MIG): who uses which slice is not looked at",
        ),
    ],
)
def test_what_a_gpu_does_not_tell_is_missing(nvml, reader, card, field, why):
    """
    Only that; the rest is read.
    """
    nvml.show(card)
    gpu = the_only(reader.read())

    assert Missing(why) == getattr(gpu, field)
    assert 40.0 == gpu.temperature_c


def test_an_old_driver_tells_memory_by_its_old_call(nvml, reader):
    """
    There, what the driver keeps for itself counts as used.
    """
    nvml.show(Card("GPU-a", old=True, used=2 * GIB, reserved=GIB))

    assert 3.0 * GIB == the_only(reader.read()).memory_used_bytes


def test_in_a_container_nobody_knows_who_holds_a_gpu(nvml, tmp_path):
    """
    The driver's numbers are those outside: one may by chance be that of a job here.
    """
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[4026532777]")
    nvml.show(Card("GPU-a", used=GIB, processes=[Holder(ME)]))
    reader = Reader({**nvml.env, "PROC": str(tmp_path)})
    gpu = the_only(reader.read())
    reader.close()

    assert "outside of this container" in gpu.processes.why
    assert 1.0 * GIB == gpu.memory_used_bytes


@pytest.mark.parametrize(("state", "sleeps"), [("suspended", True), ("active", False)])
def test_a_gpu_that_sleeps_is_not_woken(nvml, tmp_path, state, sleeps):
    """
    In a laptop every look at it would cost hours of battery; nobody uses it.
    """
    folder = tmp_path / "bus/pci/devices/0000:01:00.0/power"
    folder.mkdir(parents=True)
    (folder / "runtime_status").write_text(f"{state}\n")
    nvml.show(Card("GPU-a", bus="00000000:01:00.0", busy=7))
    reader = Reader({**nvml.env, "SYS": str(tmp_path)})
    gpu = the_only(reader.read())
    reader.close()

    assert ((), 0.0 if sleeps else 7.0) == (gpu.processes, gpu.utilization_pct)
    assert sleeps == isinstance(gpu.temperature_c, Missing)


def test_processes_of_jobs_are_told_from_the_others(nvml, reader):
    """
    By their number; one that is over holds nothing, whatever the driver still says.
    """
    gone = subprocess.Popen(["true"])
    gone.wait()
    nvml.show(Card("GPU-a", processes=[Holder(ME), Holder(PARENT), Holder(gone.pid)]))
    reader.read(aside=True)
    gpus = until(lambda: answered(reader, {ME: "a"}), "the driver has answered")

    expected = sorted([GpuProcess(ME, GIB, "a"), GpuProcess(PARENT, GIB)], key=lambda one: one.pid)
    assert tuple(expected) == the_only(gpus).processes


def answered(reader, owners):
    gpus = reader.read(aside=True, owners=owners)
    return None if isinstance(gpus, Missing) else gpus


def test_a_driver_that_hangs_stops_nobody(nvml, reader):
    """
    All GPUs are missing, with the time that it has hung; when it answers, all is as before.
    """
    nvml.show(Card("GPU-a", hang_s=60))
    started = reader.read(aside=True)
    hanging = until(lambda: hangs(reader), "the call is under way")
    nvml.show(Card("GPU-a", used=GIB))
    back = until(lambda: answered(reader, {}), "the driver has answered")

    assert isinstance(started, Missing)
    assert re.fullmatch(r"the NVIDIA driver has not answered for \d+ s", hanging.why)
    assert "GPU-a" == the_only(back).uuid


def hangs(reader):
    # The call begins when its thread gets to it, by this clock.
    reader.now += 1.0
    answer = reader.read(aside=True)
    return answer if isinstance(answer, Missing) and "has not answered" in answer.why else None


def test_an_end_does_not_wait_for_a_driver_that_hangs(nvml):
    """
    The process ends at once, with its thread still in the call.
    """
    nvml.show(hang_s=60)
    reader = Reader(nvml.env)
    reader.read(aside=True)

    reader.close()


def test_the_doctor_names_driver_and_gpus(nvml):
    """
    What else can be sensed here is said beside it.
    """
    nvml.show(Card("GPU-a", name="Fast"))
    env = {**os.environ, **nvml.env, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "supervisor.cli.main", "doctor"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)

    assert "NVIDIA driver 580.00 with Fast" in done.stdout
    assert "pressure" in done.stdout
    assert "control group" in done.stdout


def test_the_fake_driver_is_one_file_away(nvml):
    """
    Other tests give its environment to the processes that they start.
    """
    assert isinstance(nvml, FakeDriver)
    assert {"LD_LIBRARY_PATH", "TESTS_NVML"} == set(nvml.env)
