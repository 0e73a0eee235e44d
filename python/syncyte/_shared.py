"""The Python half of shared objects: loaded by the core when the first one appears in an interpreter."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from typing import TYPE_CHECKING, Any

from syncyte import _core

if TYPE_CHECKING:
    from syncyte._core import SharedDict

_KEYS, _VALUES, _ITEMS = 1, 2, 3


class _Keys(KeysView[Any]):
    __slots__ = ()
    _mapping: SharedDict

    def __iter__(self) -> Iterator[Any]:
        return _core._iterate(self._mapping, _KEYS)


class _Values(ValuesView[Any]):
    __slots__ = ()
    _mapping: SharedDict

    def __iter__(self) -> Iterator[Any]:
        return _core._iterate(self._mapping, _VALUES)


class _Items(ItemsView[Any, Any]):
    __slots__ = ()
    _mapping: SharedDict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return _core._iterate(self._mapping, _ITEMS)


Sequence.register(_core.SharedList)
Sequence.register(_core.SharedTuple)
Sequence.register(_core.SharedNamedTuple)
Mapping.register(_core.SharedDict)
Set.register(_core.SharedSet)

# What keys(), values() and items() of a shared dict make.
views = (_Keys, _Values, _Items)
