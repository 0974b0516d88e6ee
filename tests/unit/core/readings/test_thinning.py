"""What stands for many readings when they grow old."""

from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Missing, Pressure, Sample
from supervisor.core.readings.thinning import fold, thinned

GONE = Missing("it does not answer")


def sample(second, **readings):
    return Sample(at=second, wall=1_700_000_000.0 + second, **readings)


def test_a_span_begins_with_its_first_reading():
    """
    Ten seconds of the wall clock are one sample, whenever the recording began.
    """
    found = thinned([sample(second) for second in range(25)], 10.0)

    assert [0, 10, 20] == [one.at for one in found]


def test_the_mean_stands_for_a_level_and_the_worst_for_a_danger():
    """
    A minute of work is its mean; memory that was nearly gone must show.
    """
    busy = [
        sample(
            second,
            cpu_foreign_pct=value,
            memory_available_bytes=1000.0 - value,
            pressure=Pressure(memory_full_pct=value, cpu_some_pct=value),
            is_urgent=value > 80,
        )
        for second, value in enumerate((10.0, 20.0, 90.0))
    ]
    one = fold(busy)

    assert (40.0, 910.0) == (one.cpu_foreign_pct, one.memory_available_bytes)
    assert (90.0, 40.0, True) == (one.pressure.memory_full_pct, one.pressure.cpu_some_pct, one.is_urgent)


def test_what_was_missing_half_of_the_time_stays_missing():
    """
    One reading in four says nothing about the other three.
    """
    mostly = fold([sample(0, temperature_c=50.0), *[sample(1, temperature_c=GONE)] * 3])
    hardly = fold([*[sample(0, temperature_c=50.0)] * 3, sample(1, temperature_c=GONE)])

    assert (GONE, 50.0) == (mostly.temperature_c, hardly.temperature_c)
    assert GONE == fold([sample(0, gpus=GONE), sample(1, gpus=GONE), sample(2, gpus=())]).gpus


def test_jobs_gpus_programs_and_processes_are_kept_by_name():
    """
    What was there once in the span was there; each is folded with itself.
    """
    first = sample(
        0,
        jobs={"night": JobUse(cpu_pct=100.0, disk=DiskReading(free_bytes=9.0))},
        gpus=(Gpu(uuid="GPU-a", utilization_pct=0.0, processes=(GpuProcess(1),)),),
        programs=("steam",),
    )
    second = sample(
        1,
        jobs={"night": JobUse(cpu_pct=200.0, disk=DiskReading(free_bytes=5.0)), "day": JobUse(cpu_pct=7.0)},
        gpus=(Gpu(uuid="GPU-a", utilization_pct=50.0, processes=(GpuProcess(1), GpuProcess(2))),),
        programs=(),
    )
    one = fold([first, second])

    assert (150.0, 5.0, 7.0) == (
        one.jobs["night"].cpu_pct,
        one.jobs["night"].disk.free_bytes,
        one.jobs["day"].cpu_pct,
    )
    assert ("GPU-a", 25.0, (1, 2)) == (
        one.gpus[0].uuid,
        one.gpus[0].utilization_pct,
        tuple(process.pid for process in one.gpus[0].processes),
    )
    assert ("steam",) == one.programs
