"""A small least-recently-used cache. Not safe against threads: its owner holds a lock."""

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LRU(Generic[Value]):
    """Keeps the ``capacity`` values that were used last."""

    def __init__(self, capacity: int) -> None:
        assert capacity >= 1, capacity
        self.capacity = capacity
        self._values: OrderedDict[str, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def values(self) -> list[Value]:
        """All of them, the one not used for longest first."""
        return list(self._values.values())

    def drop(self) -> None:
        """Forget the one not used for longest."""
        self._values.popitem(last=False)

    def get(self, key: str) -> Value | None:
        """The value, which counts as used now, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: str, value: Value) -> None:
        """Keep a value; the one not used for longest goes where there is no room."""
        self._values[key] = value
        self._values.move_to_end(key)
        while len(self._values) > self.capacity:
            self.drop()
