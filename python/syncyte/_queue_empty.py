"""The exception of an empty queue; apart from the others because its base costs nothing to import."""

from _queue import Empty

from syncyte._core import Error


class QueueEmpty(Error, Empty):  # noqa: N818 - named as its base is
    """Nothing was in the queue, or nothing came in time."""


QueueEmpty.__module__ = "syncyte"
