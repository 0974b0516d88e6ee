"""How a number is read: places that are gone, shares of nothing, what the driver hides."""

from __future__ import annotations

from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Missing, Sample

SAMPLE = Sample(at=0.0, gpus=(Gpu(uuid="G"),), jobs={"a": JobUse()})


def test_a_place_that_is_gone_says_so():
    """
    A GPU that fell off the bus, a driver that hangs, a job that ended.
    """
    hangs = Sample(at=0.0, gpus=Missing("the driver hangs"))

    assert Missing("the GPU is gone: the driver lists it no more") == METRICS["gpu_power_w"].read(SAMPLE, "H")
    assert Missing("the driver hangs") == METRICS["gpu_power_w"].read(hangs, "G")
    assert Missing("there is no such job") == METRICS["job_memory_gib"].read(SAMPLE, "b")


def test_of_nothing_there_is_no_share():
    """
    A machine without swap does not swap, and is not said to.
    """
    none = Sample(at=0.0, swap_used_bytes=0.0, swap_total_bytes=0.0)
    half = Sample(at=0.0, memory_available_bytes=5.0, memory_total_bytes=Missing("no file"))

    assert Missing("there is none of it") == METRICS["swap_used_pct"].read(none, "")
    assert Missing("no file") == METRICS["memory_available_pct"].read(half, "")


def test_a_foreign_process_whose_memory_the_driver_hides_makes_the_sum_unknown():
    """
    What can be counted is still counted; our own need not be known for it.
    """
    known = GpuProcess(2, 1 << 30)

    def others(*processes):
        sample = Sample(at=0.0, gpus=(Gpu(uuid="G", processes=processes),))
        return tuple(METRICS[f"gpu_foreign_{what}"].read(sample, "G") for what in ("memory_gib", "processes"))

    hidden, num = others(GpuProcess(1, None), known)

    assert isinstance(hidden, Missing)
    assert 2.0 == num
    assert (1.0, 1.0) == others(GpuProcess(1, None, "a"), known)
    assert (0.0, 0.0) == others()
