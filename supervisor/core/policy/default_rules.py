"""The rules that are in force after installation, each number with its reason.

Covers: the set itself. Does not cover: replacing or switching off one of them
(config.py), what a rule does (policy.py).

The reasons stand in `about`, because `--print-config` and `policy show` print them.
The order is the order of importance: of two rules that are short at once the first one acts first.
"""

from __future__ import annotations

from typing import Final

from supervisor.core.policy.rules import Condition, Rule

__all__ = ["DEFAULT_RULES"]

DEFAULT_RULES: Final = (
    Rule(
        name="host-memory",
        about="Host memory is short. Saving takes seconds and the kernel kills at nothing left, so room is "
        "made early. Twice as much has to be free before a job comes back: a program that starts takes some.",
        when=(Condition(metric="memory_available_pct", below=8.0, clear_above=16.0),),
        pause_after_s=5.0,
        resume_after_s=120.0,
        depth="exit",
    ),
    Rule(
        name="host-memory-pressure",
        about="Work stands still for want of memory, which a share of free memory shows too late. With the "
        "second condition one small container that thrashes within its own limit moves nobody.",
        when=(
            Condition(metric="psi_memory_full_pct", above=10.0, clear_below=1.0),
            Condition(metric="memory_available_pct", below=20.0, clear_above=25.0),
        ),
        pause_after_s=5.0,
        resume_after_s=120.0,
        depth="exit",
    ),
    Rule(
        name="gpu-foreign-memory",
        about="Somebody else uses the GPU. A desktop draws with less than 1 GiB; a notebook that holds "
        "more counts, busy or not. Who is still there after ten minutes gets the rest of the memory as well.",
        when=(Condition(metric="gpu_foreign_memory_gib", above=1.0, clear_below=0.75),),
        pause_after_s=10.0,
        resume_after_s=180.0,
        depth="auto",
        escalate_after_s=600.0,
    ),
    Rule(
        name="gpu-foreign-process",
        about="Somebody else computes on the GPU, however little memory that takes, or where the driver does "
        "not tell. Ten seconds let a program pass that only looks which GPUs there are.",
        when=(Condition(metric="gpu_foreign_processes", above=0.9, clear_below=0.1),),
        pause_after_s=10.0,
        resume_after_s=180.0,
        depth="auto",
        escalate_after_s=600.0,
    ),
    Rule(
        name="gpu-hot",
        about="The GPU is too hot: makers slow theirs down at 83 to 95 C. Half a minute lets a peak pass.",
        when=(Condition(metric="gpu_temperature_c", above=88.0, clear_below=75.0),),
        pause_after_s=30.0,
        resume_after_s=180.0,
        depth="hold",
    ),
    Rule(
        name="disk-full",
        about="The disk under the checkpoints is nearly full. Who holds writes no more. Pausing writes "
        "one last checkpoint, so it happens while there is room for it.",
        when=(Condition(metric="disk_free_gib", below=5.0, clear_above=8.0),),
        pause_after_s=10.0,
        resume_after_s=60.0,
        depth="hold",
    ),
    Rule(
        name="cpu-foreign",
        about="Others use more than half of the CPUs. 45 s let pages that load and small builds pass. They "
        "come first until they have used less than 40 % for a minute: a job that holds comes back within a "
        "step, so a wrong guess is cheap, and each one doubles the minute. One that has come back in the "
        "last ten minutes stays through five of load, or it would be moved to and fro.",
        when=(Condition(metric="cpu_foreign_pct", above=50.0, clear_below=40.0),),
        pause_after_s=45.0,
        pause_again_after_s=300.0,
        resume_after_s=60.0,
        depth="hold",
    ),
)
