"""Interpreters as the standard library makes them, each waiting in a thread of its own."""

import threading
from concurrent import interpreters


class Bare:
    """`count` interpreters that have run `code`; they stay until close()."""

    def __init__(self, count: int, code: str) -> None:
        self._code = code
        self._ready = threading.Barrier(count + 1, timeout=60)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._live) for _ in range(count)]
        for thread in self._threads:
            thread.start()
        self._ready.wait()

    def _live(self) -> None:
        made = interpreters.create()
        made.exec(self._code)
        self._ready.wait()
        self._over.wait()
        made.close()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
