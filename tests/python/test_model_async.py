"""Generations in asyncio: together, in pieces, cancelled."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest
from waiting import wait_until

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def model(tiny_model: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(tiny_model, threads=1, max_sequences=8, context_length=16_384) as opened:
        yield opened


def test_many_at_once_and_the_loop_goes_on(model: syncyte.Model) -> None:
    expected = model.generate("the", max_tokens=30, temperature=0, ignore_eos=True).text
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async def main() -> list[syncyte.Completion]:
        ticking = asyncio.create_task(tick())
        threads = threading.active_count()
        asked = [model.agenerate("the", max_tokens=30, temperature=0, ignore_eos=True) for _ in range(20)]
        made = await asyncio.gather(*asked)
        assert threading.active_count() == threads
        ticking.cancel()
        return made

    made = asyncio.run(main())
    assert {one.text for one in made} == {expected}
    assert ticks > 20


def test_pieces_come_one_by_one(model: syncyte.Model) -> None:
    whole = model.generate("hello", max_tokens=60, seed=3, ignore_eos=True)

    async def main() -> tuple[list[str], syncyte.Completion]:
        stream = model.astream("hello", max_tokens=60, seed=3, ignore_eos=True)
        with pytest.raises(ValueError, match="has not ended"):
            _ = stream.completion
        pieces = [piece async for piece in stream]
        assert [piece async for piece in stream] == []
        return pieces, stream.completion

    pieces, made = asyncio.run(main())
    assert all(pieces)
    assert "".join(pieces) == whole.text == made.text
    assert made.tokens == whole.tokens


def test_chats(model: syncyte.Model) -> None:
    whole = model.chat(HELLO, max_tokens=20, seed=3)
    tool = {"type": "function", "function": {"name": "f"}}

    async def main() -> None:
        assert (await model.achat(HELLO, max_tokens=20, seed=3)).text == whole.text
        stream = model.astream_chat(HELLO, max_tokens=20, seed=3)
        assert "".join([piece async for piece in stream]) == whole.text
        made = await model.achat(
            HELLO, tools=[tool], tool_choice="required", max_tokens=200, parallel_tool_calls=False
        )
        assert [call.name for call in made.tool_calls] == ["f"]

    asyncio.run(main())


def test_cancelling_a_task_frees_its_sequence(model: syncyte.Model) -> None:
    async def read(stream: syncyte.AsyncStream) -> None:
        async for _ in stream:
            pass

    async def main() -> None:
        tasks = [
            asyncio.create_task(model.agenerate("the", max_tokens=12_000, ignore_eos=True)) for _ in range(3)
        ]
        stream = model.astream("the", max_tokens=12_000, ignore_eos=True)
        await anext(stream)
        tasks.append(asyncio.create_task(read(stream)))
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in found)
        with pytest.raises(ValueError, match="was closed"):
            _ = stream.completion
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.agenerate("the", max_tokens=12_000, ignore_eos=True), 0.005)
        closed = model.astream("the", max_tokens=12_000, ignore_eos=True)
        async with closed:
            await anext(closed)
        assert [piece async for piece in closed] == []
        model.astream("the", max_tokens=12_000, ignore_eos=True)  # dropped at once
        # The same loop goes on.
        assert (await model.agenerate("the", max_tokens=3, ignore_eos=True)).finish_reason == "length"

    asyncio.run(main())
    assert wait_until(lambda: model._stats()["running"] == 0)


def test_errors_are_raised_where_they_are_awaited(model: syncyte.Model) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="max_tokens"):
            await model.agenerate("the", max_tokens=0)
        with pytest.raises(TypeError, match=r"astream\(\) got an unexpected"):
            model.astream("the", max_token=1)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="never ends"):
            await model.agenerate("the", grammar='root ::= "a" root')

    asyncio.run(main())


def test_loops_come_and_go_without_leaving_descriptors(model: syncyte.Model) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    async def main() -> None:
        await model.agenerate("the", max_tokens=2)

    asyncio.run(main())
    before = descriptors()
    for _ in range(20):
        asyncio.run(main())
    assert descriptors() <= before + 1


def test_two_loops_in_two_threads(model: syncyte.Model) -> None:
    texts: list[str] = []

    async def main() -> None:
        made = await asyncio.gather(*(model.agenerate("the", max_tokens=20, temperature=0) for _ in range(5)))
        texts.extend(one.text for one in made)

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 10
    assert len(set(texts)) == 1
