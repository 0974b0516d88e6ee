"""Whose turn it is among users: who has had least for his weight goes on first, and gives way last. Pure.

Covers: what each user has, how much priority counts against jobs of others, one order of the jobs of all.
Does not cover: the order of one user's jobs (admission.py, victims.py), the accounts (usage.py).

Within one user priority decides. Between users it counts as far as an admin gave it; at the same level the
shares decide: what a user had, as the mean of his slots, and what he has now, by his weight. Waiting raises a
job to the next level that somebody in the line was given, when it has waited for that, and never above all of
them: nobody waits for ever, and many old jobs of one user do not come before the first one of another.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.names import user_of
from supervisor.core.policy.explanation import Share
from supervisor.core.policy.rules import SharesConfig
from supervisor.core.policy.scene import Scene
from supervisor.core.policy.usage import mean_slots

__all__ = ["OWN_USER", "Turns", "aged", "gives_way", "granted", "merged", "share_states", "weighs"]

#: In the settings the daemon's own user has his name; one that serves all users is root's.
OWN_USER = "root"

T = TypeVar("T")


def granted(job: Job, shares: SharesConfig) -> int:
    """Return what its priority counts against jobs of other users."""
    if not user_of(job.name):
        return job.spec.priority
    bound = shares.max_priority if job.spec.granted is None else job.spec.granted
    return min(job.spec.priority, bound)


def aged(since: float, scene: Scene) -> float:
    """Return the points of priority that a job has got by waiting since then."""
    ageing_s = scene.settings.queue.ageing_s
    return max(0.0, scene.now - since) / ageing_s if ageing_s else 0.0


def weighs(job: Job, other: Job, shares: SharesConfig) -> tuple[int, int]:
    """Return what the priority of a job counts against another one; of one user's what he says of them, too.

    What was granted comes first in both cases: else three jobs of two users could each come before the next.
    """
    is_own = user_of(job.name) == user_of(other.name)
    return granted(job, shares), job.spec.priority if is_own else 0


def _weight_of(user: str, shares: SharesConfig) -> float:
    """Return a user's weight."""
    return shares.weights.get(user or OWN_USER, 1.0)


def _load(user: str, scene: Scene, *, more_slots: float = 0.0) -> float:
    """Return what a user has and had, for his weight; with slots that he is about to get."""
    shares = scene.settings.shares
    slots = mean_slots(scene.had.get(user, 0.0), shares) + scene.slots_now.get(user, 0.0) + more_slots
    return slots / _weight_of(user, shares)


def gives_way(job: Job, scene: Scene) -> tuple[float, float, float]:
    """Return where it stands among the first ones of each user who could make room; the least is asked."""
    return granted(job, scene.settings.shares), -_load(user_of(job.name), scene), -job.since


class Turns:
    """One look at the line: who of the users is next. `took()` tells of each job that goes on."""

    def __init__(self, scene: Scene, since: Mapping[str, float]) -> None:
        """Take since when each job waits, by name."""
        self._scene, self._since = scene, since
        self._ahead: defaultdict[str, float] = defaultdict(float)
        given = {name: granted(scene.jobs[name], scene.settings.shares) for name in since}
        steps = sorted(set(given.values()))
        self._levels = {
            name: steps[bisect_right(steps, given[name] + aged(at, scene)) - 1] for name, at in since.items()
        }

    def took(self, job: Job) -> None:
        """Count what it is about to have: the next turn is another user's."""
        self._ahead[user_of(job.name)] += self._scene.slots_of(job)

    def key(self, job: Job) -> tuple[float, float, float]:
        """Return where it stands among the first ones of each user, at this moment; the least is next."""
        user = user_of(job.name)
        load = _load(user, self._scene, more_slots=self._ahead[user])
        return -self._levels[job.name], load, self._since[job.name]


def merged(found: Iterable[T], job_of: Callable[[T], Job], key: Callable[[T], Any]) -> Iterator[T]:
    """Yield all of them: those of one user in the order that they have, the first ones of all by the key.

    The key of one is asked when the one before it, of the same user, has been taken; where keys are the same
    all stay in their order.
    """
    queues: dict[str, deque[tuple[int, T]]] = {}
    for number, one in enumerate(found):
        queues.setdefault(user_of(job_of(one).name), deque()).append((number, one))
    firsts = [(key(queue[0][1]), queue[0][0], queue) for queue in queues.values()] if len(queues) > 1 else []
    heapify(firsts)
    while firsts:
        *_, queue = heappop(firsts)
        yield queue.popleft()[1]
        if queue:
            heappush(firsts, (key(queue[0][1]), queue[0][0], queue))
    for queue in queues.values():
        yield from (one for _, one in queue)


def share_states(scene: Scene, waiting: Sequence[Job], first: Job | None) -> tuple[Share, ...]:
    """Return what each user has and had, by his weight; nothing where the daemon's own one is alone.

    `first` is the job that is to go on next.
    """
    users = {*scene.had, *(user_of(job.name) for job in (*scene.present, *waiting))}
    if users <= {""}:
        return ()
    num_waiting = Counter(user_of(job.name) for job in waiting)
    return tuple(
        Share(
            user=user,
            weight=_weight_of(user, scene.settings.shares),
            slot_h=scene.had.get(user, 0.0) / 3600,
            num_slots=scene.slots_now.get(user, 0.0),
            num_waiting=num_waiting[user],
            is_next=first is not None and user_of(first.name) == user,
        )
        for user in sorted(users, key=lambda user: (_load(user, scene), user))
    )
