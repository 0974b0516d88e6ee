"""A pass over something that has torch DataLoaders inside: a `zip`, a generator, an object of the script's.

Covers: which loaders it iterates, from where on, and how far; taking it up in a fresh process.
Does not cover: loaders that are handed over as they are (loader_strategies.py), who begins what (births.py),
how a stream is known again (streams.py).

Nobody can set a generator or a `zip` to its middle. But what they give is made by loaders, and those can be
set: the present turn of a loader begins with the generators that it began with, and is read again. For what
it gave in turns before, as in an endless stream, one batch stands in as often as there were batches: the
code in between counts as it did, and no data is read. That is exact if it gives one item for each of its
loader's, which is counted, and noted where it does not.
"""

from __future__ import annotations

import functools
import itertools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainer_shim import rng
from trainer_shim.births import Birth, Births, is_plain, plain_iter
from trainer_shim.iterators import Look, has_more, inside, is_of_loader, outermost
from trainer_shim.loader_workers import swapped

__all__ = ["Weaving"]


class Strand:
    """One loader in the weave: its turns that are over, and the present one."""

    def __init__(self) -> None:
        self.loader: Callable[[], Any] = _nothing
        self.num_over = 0
        #: Batches that came of the turns that are over.
        self.num_before = 0
        self.turn: Birth | None = None
        #: What a fresh process has to do yet: the lengths of turns to leave out, and the beginning of the
        #: turn to take up.
        self.to_leave_out: list[int] = []
        self.to_take_up: Mapping[str, Any] | None = None
        self.substitute: Any = None

    @property
    def num_turns(self) -> int:
        """Turns that were begun."""
        return self.num_over + (self.turn is not None)

    def served(self) -> int:
        """Batches of the present turn."""
        return 0 if self.turn is None else self.turn.served()

    def begin(self, birth: Birth) -> None:
        """A new turn."""
        if self.turn is not None:
            self.num_over += 1
            self.num_before += self.turn.served()
        self.turn = birth
        birth.is_woven = True

    @property
    def has_order(self) -> bool:
        """Whether it is over a map-style dataset, whose batches do not depend on each other."""
        data = sys.modules["torch.utils.data"]
        loader = self.loader()
        return loader is not None and not isinstance(loader.dataset, data.IterableDataset)

    def know(self, loader: Any) -> None:
        """This is the loader."""
        self.loader = weakref.ref(loader)

    def save(self) -> dict[str, Any]:
        """The strand as plain values."""
        return {
            "num_over": self.num_over,
            "num_before": self.num_before,
            "served": self.served(),
            "start": None if self.turn is None else self.turn.start,
        }


class Weaving:
    """What one stream of batches is made of, through all passes that are made over it.

    Used by the thread that trains. Its turns are those that begin while it fetches, and those of the
    iterators that were handed over with it.
    """

    def __init__(self, births: Births) -> None:
        self._births = births
        self.strands: list[Strand] = []
        self.notes: list[str] = []
        #: What the stream has given, in all passes and in the present one.
        self.num_given = self.num_in_pass = 0
        #: The generators before it gave anything.
        self.start: Mapping[str, Any] | None = None
        #: The iterators of which the present pass is made, or the last one was.
        self.inside: list[Look] = []
        #: Items that were read again to take it up, and the last of them.
        self.num_read = 0
        self.last: Any = None
        self._is_loading = False

    # --- while it goes ------------------------------------------------------------------------

    def open(self, iterable: Any) -> Iterator[Any]:
        """`iter(iterable)`; what begins with it, and what others began for it, belongs to the weave."""
        self.num_in_pass = 0
        if is_plain(iterable):  # It was handed over as it is.
            plain: Iterator[Any] = plain_iter(iterable)
            return plain
        with self._making():
            iterator: Iterator[Any] = iter(iterable)
        for one in inside(iterator):
            if is_of_loader(one):
                self._adopt(one)
        return iterator

    def fetch(self, iterator: Iterator[Any]) -> Any:
        """The next item of an iterator that `open` returned."""
        with self._making():
            item = next(iterator)
        self.num_given += 1
        self.num_in_pass += 1
        return item

    def is_beginning(self) -> bool:
        """Whether a loader is about to give its first batch of a turn, for which it draws its order."""
        return not self.strands or any(strand.served() == 0 for strand in self.strands)

    @property
    def num_turns(self) -> int:
        """Turns of all loaders that were begun."""
        return sum(strand.num_turns for strand in self.strands)

    def hands_on(self) -> bool:
        """Whether it gives one item for each batch of each of its loaders, all of which know their order."""
        return bool(self.strands) and all(
            strand.num_before + strand.served() == self.num_given and strand.has_order
            for strand in self.strands
        )

    def check(self) -> None:
        """Note what will keep the stream from being taken up."""
        given = [strand.num_before + strand.served() for strand in self.strands if strand.num_turns > 1]
        if any(num != self.num_given for num in given):
            self._note("it does not give one item for each of its loader's, and the loader begins anew in it")

    def save(self) -> dict[str, Any]:
        """The weave as plain values."""
        strands = [strand.save() for strand in self.strands]
        return {"strands": strands, "num_given": self.num_given, "start": self.start}

    def goes_on(self) -> list[int]:
        """Where in the last pass lay what the script still holds and may go on with."""
        self.let_go()
        living = {}
        for place, look in enumerate(self.inside):
            if look.is_held() and has_more(look.iterator()):
                living[place] = look.iterator()
        return outermost(living)

    def let_go(self) -> None:
        """Keep no iterator that nobody else has."""
        for look in self.inside:
            look.let_go()

    @contextmanager
    def _making(self) -> Iterator[None]:
        maker, self._births.maker = self._births.maker, self._turn_of
        try:
            yield
        finally:
            self._births.maker = maker

    def _note(self, reason: str) -> None:
        if reason not in self.notes:
            self.notes.append(reason)

    def _adopt(self, iterator: Any) -> None:
        if hasattr(iterator, "shim_goes_to") and self._births.of(iterator) is None:
            return  # What was left out.
        birth = self._births.of(iterator)
        loader = None if birth is None else birth.loader()
        if birth is None or loader is None:
            self._note("it has the iterator of a data loader inside that was made before attach()")
        elif not any(strand.turn is birth for strand in self.strands):
            self._begin(self._strand(loader), birth)

    def _begin(self, strand: Strand, birth: Birth) -> None:
        strand.begin(birth)
        if birth.is_again:
            self._note(_WORKERS)

    def _strand(self, loader: Any) -> Strand:
        for known in self.strands:
            if known.loader() is loader:
                return known
        # In a fresh process the first that begins is the first that began.
        strand = next((one for one in self.strands if one.loader is _nothing), None)
        if strand is None:
            self.strands.append(strand := Strand())
        strand.know(loader)
        return strand

    def _turn_of(self, loader: Any) -> Iterator[Any]:
        """Begin a turn of a loader, or leave it out."""
        strand = self._strand(loader)
        if strand.to_leave_out:
            if strand.substitute is None:
                strand.substitute = _one_batch(loader)
            batches = itertools.repeat(strand.substitute, strand.to_leave_out.pop())
            strand.substitute = strand.substitute if strand.to_leave_out else None
            return batches
        if strand.to_take_up is not None:
            return self._taken_up(loader, strand)
        iterator, birth = self._births.made(loader, self._births.freeze(loader))
        self._begin(strand, birth)
        return iterator

    # --- in a fresh process -------------------------------------------------------------------

    def load(
        self,
        saved: Mapping[str, Any],
        iterable: Any,
        *,
        start: Mapping[str, Any],
        num_in_pass: int,
        places: list[int],
    ) -> Iterator[Any]:
        """Take up a stream that is read again from `start`, and had given so many items in its pass.

        `places` tell where inside lies what went on from pass to pass. The generators are left anywhere.
        """
        self.start = saved["start"]
        self.strands = [_loaded(strand) for strand in saved["strands"]]
        self._is_loading = True
        for one in inside(iterable):
            if is_of_loader(one):
                self._set_anew(one)
        # Each of them left the generators where it began; what comes next began elsewhere.
        rng.restore(start["rng"])
        iterator = self.open(iterable)
        # In a list, because what lies inside is another once it moves.
        for place, source in list(enumerate(inside(iterable))):
            if place in places:
                self._read(source, saved["num_given"] - num_in_pass)
        self._read(iterator, num_in_pass)
        self._is_loading = False
        self.num_given, self.num_in_pass = saved["num_given"], num_in_pass
        return iterator

    def _read(self, iterator: Iterator[Any], count: int) -> None:
        for _ in range(count):
            try:
                self.last = self.fetch(iterator)
                self.num_read += 1
            except StopIteration:
                self._note("it has fewer items than before")
                return

    def _set_anew(self, iterator: Any) -> None:
        """Set an iterator that the script began, with the generators of now, to what it was."""
        birth = self._births.of(iterator)
        loader = None if birth is None else birth.loader()
        if birth is None or loader is None:
            return
        strand = self._strand(loader)
        if strand.to_leave_out or strand.to_take_up is not None:
            to = self._turn_of(loader)
            _redirect(iterator, to)
            self._births.stand_in(iterator, to)

    def _taken_up(self, loader: Any, strand: Strand) -> Iterator[Any]:
        start, strand.to_take_up = strand.to_take_up, None
        assert start is not None
        # A turn that has given nothing yet is begun when the loop goes on; it draws its order there.
        now = None if self._is_loading else self._births.freeze(loader)
        for reason in self._births.thaw(loader, start):
            self._note(reason)
        if loader.persistent_workers:
            loader._iterator = None  # noqa: SLF001  # Its workers would be younger than the turn.
        iterator, birth = self._births.made(loader, start)
        strand.turn, birth.is_woven = birth, True
        if now is not None:
            self._births.thaw(loader, now)
        return iterator


def _loaded(saved: Mapping[str, Any]) -> Strand:
    strand = Strand()
    strand.num_over, strand.num_before = saved["num_over"], saved["num_before"]
    strand.to_take_up = saved["start"]
    if strand.num_over:
        # How long each was is not kept; that they were equally long is near enough for what counts them.
        each, rest = divmod(strand.num_before, strand.num_over)
        strand.to_leave_out = [each + rest, *[each] * (strand.num_over - 1)]
    return strand


def _one_batch(loader: Any) -> Any:
    """Any batch of a loader, to stand in for others."""
    with swapped(loader, num_workers=0, persistent_workers=False, prefetch_factor=None, timeout=0):
        return next(iter(plain_iter(loader)), None)


def _redirect(iterator: Any, to: Iterator[Any]) -> None:
    """Let an iterator that others hold give what another one gives."""
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()  # noqa: SLF001
    kind: Any = type(iterator)
    iterator.__class__ = _redirected(kind)
    iterator.shim_goes_to = to


@functools.cache
def _redirected(kind: Any) -> type:
    def go(self: Any) -> Any:
        return next(self.shim_goes_to)

    return type(kind.__name__, (kind,), {"__next__": go, "next": go})


def _nothing() -> None:
    pass


_WORKERS = "persistent workers inside it had served before, and their random numbers cannot be put back"
