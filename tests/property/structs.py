"""Any value of a msgspec type, bounds kept, drawn from its annotations: new fields are covered unasked."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

__all__ = ["values"]

_MAX_ITEMS = 3


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a type."""
    return _draw(inspect.type_info(kind))


def _draw(info: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0912  # one branch a kind of type
    match info:
        case inspect.Metadata():
            return _draw(info.type)
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            low = -(2**63) if info.ge is None else info.ge
            high = 2**63 - 1 if info.le is None else info.le
            return st.integers(low, high if info.lt is None else info.lt - 1)
        case inspect.FloatType():
            low = info.ge if info.gt is None else info.gt
            open_end = info.gt is not None
            return st.floats(
                low, info.le, exclude_min=open_end, allow_nan=False, allow_infinity=info.le is None
            )
        case inspect.StrType() if info.pattern is not None:
            # Patterns of the wire end in \Z; a search from ^ alone would add what it likes before.
            return st.from_regex(info.pattern.replace("^", r"\A"))
        case inspect.StrType():
            return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 20, 20))
        case inspect.BytesType():
            return st.binary(max_size=20)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.UnionType():
            return st.one_of([_draw(one) for one in info.types])
        case inspect.VarTupleType():
            return st.lists(_draw(info.item_type), min_size=info.min_length or 0, max_size=_MAX_ITEMS).map(
                tuple
            )
        case inspect.DictType():
            return st.dictionaries(_draw(info.key_type), _draw(info.value_type), max_size=_MAX_ITEMS)
        case inspect.StructType():
            return _struct(info)
        case _:
            raise NotImplementedError(info)


def _struct(info: inspect.StructType) -> st.SearchStrategy[Any]:
    required, optional = {}, {}
    for field in info.fields:
        # Fields with a default are left out half of the time.
        (required if field.required else optional)[field.name] = st.deferred(
            lambda field=field: _draw(field.type)
        )
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: info.cls(**fields))
