"""Askers that go away in the middle of an answer: what they held is free by the engine's next step.

SYNCYTE_STRESS_ENDS: how many go of each sort (default 6; a full run takes 150).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from concurrent import interpreters
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import syncyte

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDS = int(os.environ.get("SYNCYTE_STRESS_ENDS", "6"))
LENGTH = 100_000  # tokens: none ends by itself
STREAMS = 3


class Engine:
    """A model whose engine has something to do all the time: a stream that nobody reads."""

    def __init__(self, path: Path) -> None:
        self.model = syncyte.Model(path, threads=1, max_sequences=STREAMS + 1, context_length=LENGTH)
        self.path = path
        self.pulse: syncyte.Stream | None = None

    def beat(self) -> None:
        """Goes on with the pulse, or starts another before it is long."""
        if self.pulse is not None and self.model.stats().used_cells < LENGTH // 10:
            return
        if self.pulse is not None:
            self.pulse.close()
        self.pulse = self.model.stream("the", max_tokens=LENGTH - 10, ignore_eos=True)
        next(self.pulse)

    def streams(self) -> list[syncyte.Stream]:
        """As many as have room, begun."""
        made = [self.model.stream("word", max_tokens=LENGTH - 10, ignore_eos=True) for _ in range(STREAMS)]
        for stream in made:
            next(stream)
        return made

    def check_gone(self) -> None:
        """All but the pulse have left by the step after the one that runs now."""
        first = self.model.stats()
        end = time.monotonic() + 60
        while (stats := self.model.stats()).steps < first.steps + 2 and time.monotonic() < end:
            time.sleep(0.0005)
        assert stats.steps >= first.steps + 2
        assert (stats.running, stats.waiting, stats.paused) == (1, 0, 0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(write_tiny_gguf(tmp_path / "tiny.gguf", embedding=16, layers=1, heads=2, feed_forward=16))
    yield made
    made.model.close()


def closed(engine: Engine) -> None:
    for stream in engine.streams():
        stream.close()


def dropped(engine: Engine) -> None:
    streams = engine.streams()
    del streams
    gc.collect()


def generator_dropped(engine: Engine) -> None:
    def pieces() -> Iterator[str]:
        yield from engine.streams()[0]

    generator = pieces()
    next(generator)
    del generator
    gc.collect()


def raised(engine: Engine) -> None:
    def read() -> None:
        for _ in engine.streams()[0]:
            raise LookupError

    with pytest.raises(LookupError):
        read()
    gc.collect()


def interrupted(engine: Engine) -> None:
    """Ctrl-C while the main thread waits for a whole answer."""
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        end = time.monotonic() + 60
        while engine.model.stats().running < 2 and time.monotonic() < end:
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    presser = threading.Thread(target=press)

    def be_pressed() -> None:
        presser.start()
        engine.model.generate("word", max_tokens=LENGTH - 10, ignore_eos=True)

    with pytest.raises(KeyboardInterrupt):
        be_pressed()
    presser.join()


def task_cancelled(engine: Engine) -> None:
    async def ask() -> None:
        task = asyncio.create_task(engine.model.agenerate("word", max_tokens=LENGTH - 10, ignore_eos=True))
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(ask())


def interpreter_closed(engine: Engine) -> None:
    interpreter = interpreters.create()
    interpreter.exec(
        f"""if True:
        import syncyte
        model = syncyte.Model({str(engine.path)!r})
        streams = [
            model.stream("word", max_tokens={LENGTH - 10}, ignore_eos=True) for _ in range({STREAMS})
        ]
        for stream in streams:
            next(stream)"""
    )
    interpreter.close()


def interpreter_fails(engine: Engine) -> None:
    """An interpreter in whose middle of an answer something is raised; it is closed later."""
    interpreter = interpreters.create()
    with pytest.raises(interpreters.ExecutionFailed):
        interpreter.exec(
            f"""if True:
            import syncyte
            def read():
                model = syncyte.Model({str(engine.path)!r})
                for piece in model.stream("word", max_tokens={LENGTH - 10}, ignore_eos=True):
                    raise LookupError
            read()"""
        )
    interpreter.close()


def session_closed(engine: Engine) -> None:
    with engine.model.session(max_tokens=LENGTH - 200, ignore_eos=True).stream("word") as stream:
        next(stream)


WAYS = [
    closed,
    dropped,
    generator_dropped,
    raised,
    interrupted,
    task_cancelled,
    interpreter_closed,
    interpreter_fails,
    session_closed,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_was_held_is_free(engine: Engine, way: Callable[[Engine], None]) -> None:
    for _ in range(ENDS):
        engine.beat()
        way(engine)
        engine.check_gone()
    assert engine.model._stats()["reserved_cells"] < LENGTH
