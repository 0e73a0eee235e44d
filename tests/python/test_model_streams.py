"""Streams and what ends them: two consumers, a close from elsewhere, a closed model, a fork, Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from waiting import wait_until

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def model(tiny_model: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(tiny_model, threads=1, max_sequences=8, context_length=16_384) as opened:
        yield opened


def test_two_threads_share_no_stream(model: syncyte.Model) -> None:
    stream = model.stream("hello", max_tokens=3000, ignore_eos=True)
    start = threading.Barrier(2)
    ended = []

    def consume() -> None:
        start.wait(30)
        while True:
            try:
                for _ in stream:
                    pass
            except ValueError as refused:
                assert "one can at a time" in str(refused)  # noqa: PT017
            else:
                ended.append(True)
                return

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(consume) for _ in range(2)]:
            done.result(60)
    assert ended == [True, True]
    assert len(stream.completion.tokens) == 3000


def test_two_tasks_share_no_stream(model: syncyte.Model) -> None:
    async def main() -> None:
        stream = model.astream("hello", max_tokens=300, ignore_eos=True)
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        try:
            await anext(stream)
        except ValueError as refused:
            assert "one can at a time" in str(refused)  # noqa: PT017
        await first
        async for _ in stream:
            pass
        assert stream.completion.finish_reason == "length"

    asyncio.run(main())


def test_sessions_survive_a_second_consumer(model: syncyte.Model) -> None:
    session = model.session(max_tokens=2000, ignore_eos=True)
    stream = session.stream("hello")
    pieces = [next(stream)]
    refused = []

    def intrude() -> None:
        while not refused and len(pieces) < 1000:
            try:
                pieces.append(next(stream))
            except (ValueError, StopIteration) as error:
                refused.append(error)

    intruder = threading.Thread(target=intrude)
    intruder.start()
    while True:
        try:
            pieces.append(next(stream))
        except ValueError:
            continue
        except StopIteration:
            break
    intruder.join(60)
    assert len(session) == 1


def test_close_from_another_thread_ends_the_iteration(model: syncyte.Model) -> None:
    for _ in range(20):
        stream = model.stream("hello", max_tokens=10_000, ignore_eos=True)
        next(stream)
        closer = threading.Timer(0.005, stream.close)
        closer.start()
        for _ in stream:
            pass
        closer.join()
        with pytest.raises(ValueError, match="was closed"):
            _ = stream.completion
    assert wait_until(lambda: model.stats().running == 0)


def test_what_runs_goes_on_when_the_model_is_closed(tiny_model: Path) -> None:
    for options in ({}, {"logprobs": 2}):
        with syncyte.Model(tiny_model, threads=1) as model:
            stream = model.stream("hello", max_tokens=100, ignore_eos=True, **options)
            next(stream)
        for _ in stream:
            pass
        assert len(stream.completion.tokens) == 100
        assert len(stream.completion.logprobs) == (100 if options else 0)
    with syncyte.Model(tiny_model, threads=1) as model:
        session = model.session(max_tokens=50, ignore_eos=True)
        said = session.stream("hello")
        next(said)
    for _ in said:
        pass
    assert len(session) == 1
    assert session.messages[-1]["content"] == said.completion.text


def test_a_child_made_by_fork_is_told(tiny_model: Path) -> None:
    source = """
import os, sys, syncyte, warnings
warnings.simplefilter("ignore", DeprecationWarning)
stream = syncyte.Model(sys.argv[1], threads=1).stream("hello", max_tokens=100_000, ignore_eos=True)
next(stream)
if (child := os.fork()) == 0:
    try:
        next(stream)
    except syncyte.ModelError as error:
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-c", source, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "7\n"


def test_an_interrupted_generate_n_leaves_nothing_running(model: syncyte.Model) -> None:
    interrupt = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt) as held:
        model.generate_n("hello", 4, max_tokens=16_000, ignore_eos=True)
    assert wait_until(lambda: model.stats().running + model.stats().waiting == 0)
    assert held.value is not None


def test_the_engine_never_computes_longer_than_it_is_busy(model: syncyte.Model) -> None:
    for _ in range(200):
        model.generate("hello", max_tokens=2)
        stats = model.stats()
        assert stats.computing_microseconds <= stats.busy_microseconds
