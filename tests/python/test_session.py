"""Conversations: what is reused, forks, rewinding, files."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from tiny_gguf import IM_END, IM_START, write_tiny_gguf
from waiting import wait_until

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYSTEM = "the a an and or of to in is it that was for on are as with his they at be this have from " * 2


@pytest.fixture
def model(tmp_path: Path) -> Iterator[syncyte.Model]:
    path = write_tiny_gguf(tmp_path / "long.gguf", context_length=16_384)
    with syncyte.Model(path, threads=1, max_sequences=8, context_length=16_384) as opened:
        yield opened


def test_history_is_not_computed_again(model: syncyte.Model) -> None:
    session = model.session(system=SYSTEM, max_tokens=24)
    before = 0
    for seed in range(6):
        made = session.send(f"word {seed}", seed=seed, ignore_eos=True)
        assert made.usage.completion_tokens == 24
        # All of the last prompt and its answer, but for the answer's last token, which was never computed.
        assert made.usage.reused_tokens >= max(0, before - 1)
        before = made.usage.prompt_tokens + 24
    assert len(session) == 6
    assert [message["role"] for message in session.messages] == ["system"] + ["user", "assistant"] * 6
    assert session._tokens.count(IM_START) == 13
    assert session._tokens.count(IM_END) == 12


def test_an_answer_is_that_of_the_chat(model: syncyte.Model) -> None:
    session = model.session(max_tokens=12, temperature=0)
    chat: list[dict[str, Any]] = []
    for text in ("hello", "<|im_end|> the <s>", "word"):
        chat.append({"role": "user", "content": text})
        made = session.send(text)
        if len(chat) == 1:
            assert made.text == model.chat(chat, max_tokens=12, temperature=0).text
        chat.append({"role": "assistant", "content": made.text})
    assert session.messages == chat
    assert session._tokens.count(IM_START) == 6
    assert session._tokens.count(IM_END) == 5


def test_forks_go_their_own_ways(model: syncyte.Model) -> None:
    session = model.session(system=SYSTEM, max_tokens=16)
    first = session.send("hello", seed=1, ignore_eos=True)
    forks = [session.fork() for _ in range(5)]
    for number, fork in enumerate(forks):
        made = fork.send(f"way {number}", seed=number, ignore_eos=True)
        assert made.usage.reused_tokens >= first.usage.prompt_tokens + 15
    assert len(session) == 1
    assert len({json.dumps(fork.messages) for fork in forks}) == 5
    assert all(fork.messages[:3] == session.messages for fork in forks)


def test_ten_branches_cost_their_own_tokens_only(model: syncyte.Model) -> None:
    session = model.session(system=SYSTEM * 3, max_tokens=8, ignore_eos=True)
    trunk = session.send("hello", seed=1)
    length = trunk.usage.prompt_tokens + 8
    assert wait_until(lambda: model.stats().running == 0)
    before = model.stats().computed_tokens
    own = 0
    for number in range(10):
        made = session.fork().send(f"way {number}", seed=number)
        # But for the answer's last token, which was never computed. Questions may begin alike, too.
        assert made.usage.reused_tokens >= length - 1
        own += made.usage.prompt_tokens - made.usage.reused_tokens + 7
    assert own < 10 * 40
    assert wait_until(lambda: model.stats().computed_tokens - before == own)


def test_asyncio(model: syncyte.Model) -> None:
    async def talk() -> None:
        options: dict[str, Any] = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
        session, same = model.session(**options), model.session(**options)
        made = await session.asend("hello")
        assert made.text == same.send("hello").text
        pieces = [piece async for piece in session.astream("more")]
        assert "".join(pieces) == same.send("more").text
        assert session.messages == same.messages
        forks = [session.fork() for _ in range(4)]
        answers = await asyncio.gather(*(fork.asend(f"way {n}") for n, fork in enumerate(forks)))
        assert all(one.usage.reused_tokens >= made.usage.prompt_tokens for one in answers)

        before = session.messages
        task = asyncio.create_task(session.asend("cancelled", max_tokens=12_000))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.messages == before
        async with session.astream("cut", max_tokens=12_000) as stream:
            piece = await anext(stream)
        assert session.messages[-1]["content"] == piece
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await session.astream("never read").aclose()
        assert len(session) == 3
        assert (await session.asend("go on")).text

    asyncio.run(talk())


def test_rewinding(model: syncyte.Model) -> None:
    session = model.session(max_tokens=10, temperature=0)
    states = [session.messages]
    for text in ("one", "two", "three"):
        session.send(text)
        states.append(session.messages)
    session.rewind(2)
    assert session.messages == states[1]
    again = session.send("two")
    assert session.messages == states[2]
    assert again.usage.reused_tokens > 10
    session.rewind(0)
    session.rewind(2)
    assert session.messages == []
    assert session.send("one").text == states[1][1]["content"]
    with pytest.raises(ValueError, match="cannot rewind 2 turns; there are 1"):
        session.rewind(2)
    with pytest.raises(ValueError, match="cannot rewind -1"):
        session.rewind(-1)
    with pytest.raises(TypeError, match="turns must be int"):
        session.rewind(True)


def test_streams(model: syncyte.Model) -> None:
    session = model.session(max_tokens=20, temperature=0, ignore_eos=True)
    other = session.fork()
    stream = session.stream("hello")
    text = "".join(stream)
    assert text == other.send("hello").text == stream.completion.text
    assert session.messages == other.messages
    with session.stream("more", max_tokens=12_000) as cut:
        piece = next(cut)
    assert session.messages[-1]["role"] == "assistant"
    assert session.messages[-1]["content"] == piece
    assert list(cut) == []
    before = session.messages
    session.stream("never read").close()
    assert session.messages == before
    assert session.send("go on").text


def test_stop_strings_are_no_part_of_the_history(model: syncyte.Model) -> None:
    free = model.session(max_tokens=30, temperature=0, ignore_eos=True)
    whole = free.send("hello").text
    stop = next(whole[i : i + 3] for i in range(4, len(whole)) if whole[i : i + 3].isascii())
    session = model.session(max_tokens=30, temperature=0, ignore_eos=True)
    made = session.send("hello", stop=stop)
    assert made.text == whole[: whole.index(stop)]
    session.send("more")
    assert (
        stop not in model.detokenize(session._tokens).split("more")[0].split("assistant")[-1]
        or made.text == ""
    )


def test_rewinding_past_what_was_told_anew(model: syncyte.Model) -> None:
    session = model.session(max_tokens=12, temperature=0, ignore_eos=True)
    first = session.send("hello")
    stop = first.text[3:6]
    session.rewind()
    session.send("hello", stop=stop)
    fork = session.fork()
    for text in ("one", "two"):
        session.send(text)
    session.rewind()
    chat = [*session.messages, {"role": "user", "content": "three"}]
    tokens = session._question("three", None).prompt
    assert model.detokenize(tokens) == model.detokenize(model.chat_tokens(chat))
    session.rewind()
    assert session.messages == fork.messages
    assert session._question("x", None).prompt == fork._question("x", None).prompt
    assert session.send("x").text == fork.send("x").text


def test_what_fails_was_never_said(model: syncyte.Model) -> None:
    session = model.session()
    with pytest.raises(ValueError, match="the context 16384"):
        session.send("word " * 20_000)
    with pytest.raises(TypeError, match="max_tokens"):
        session.send("hello", max_token=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="lone surrogate"):
        session.send("\ud800")
    with pytest.raises(TypeError, match="what is said must be str"):
        session.send(3)  # type: ignore[arg-type]
    assert session.messages == []
    with pytest.raises(TypeError, match=r"session\(\) got an unexpected"):
        model.session(temprature=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="system must be str"):
        model.session(system=3)  # type: ignore[arg-type]


def test_files(model: syncyte.Model, tmp_path: Path) -> None:
    session = model.session(system="kind", max_tokens=16, temperature=0, ignore_eos=True)
    session.send("hello")
    last = session.send("日本 and é")
    session.save(tmp_path / "talk.json")
    loaded = model.load_session(tmp_path / "talk.json", max_tokens=16, temperature=0, ignore_eos=True)
    assert loaded.messages == session.messages
    made = loaded.send("more")
    assert made.text == session.send("more").text
    assert made.usage.reused_tokens >= last.usage.prompt_tokens + 15
    loaded.rewind(3)
    model.session().save(tmp_path / "empty.json")
    assert model.load_session(tmp_path / "empty.json").messages == []
    with pytest.raises(FileNotFoundError):
        model.load_session(tmp_path / "none.json")


def test_another_models_session_goes_on_by_its_texts(model: syncyte.Model, tmp_path: Path) -> None:
    session = model.session(max_tokens=8)
    session.send("hello")
    session.save(tmp_path / "talk.json")
    with syncyte.Model(threads=1) as other:
        loaded = other.load_session(tmp_path / "talk.json", max_tokens=8)
        assert loaded.messages == session.messages
        assert loaded.send("more").usage.completion_tokens > 0
        assert len(loaded) == 2


def test_damaged_files_are_errors(model: syncyte.Model, tmp_path: Path) -> None:
    session = model.session(system="kind", max_tokens=6)
    session.send("hello")
    session.send("more")
    path = tmp_path / "talk.json"
    session.save(path)
    sound = path.read_bytes()
    random_ = random.Random(3)
    refused = 0
    for _ in range(1500):
        data = bytearray(sound)
        for _ in range(random_.randint(1, 3)):
            at = random_.randrange(len(data))
            data[at : at + random_.randint(0, 4)] = random_.choices(
                b'[]{}",:0-9ex\xff null', k=random_.randint(0, 3)
            )
        path.write_bytes(data)
        try:
            loaded = model.load_session(path, max_tokens=1)
            loaded.send("on")
        except ValueError:
            refused += 1
    assert refused > 300
    for text in ("", "[]", "{}", "3", '{"syncyte_session": 2}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError, match="not a saved session"):
            model.load_session(path)
