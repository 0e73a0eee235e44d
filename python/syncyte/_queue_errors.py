"""Exceptions of queues whose bases live in the standard library's queue module."""

import queue

from syncyte._core import ClosedError, Error


class QueueFull(Error, queue.Full):  # noqa: N818 - named as its base is
    """The queue had no room, or none in time. After put_many(), `count` says how many items were put."""

    count: int = 0


class QueueShutDown(ClosedError, queue.ShutDown):  # noqa: N818
    """The queue was shut down; for get(): and is empty. After put_many(), `count` says how many were put."""

    count: int = 0


QueueFull.__module__ = QueueShutDown.__module__ = "syncyte"
