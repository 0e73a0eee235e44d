"""InferencePool and run_parallel: warm interpreters answer prompts with one shared model."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

import pool_tasks
import syncyte
from syncyte import _core

OPTIONS = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True}


@pytest.fixture(scope="module", autouse=True)
def one_thread(tiny_model: Path) -> Iterator[None]:
    """Hold the model open with one thread: a tiny model needs no more, and a busy machine has no more."""
    with syncyte.Model(tiny_model, threads=1):
        yield


@pytest.fixture(scope="module")
def pool(tiny_model: Path) -> Iterator[syncyte.InferencePool]:
    with syncyte.InferencePool(3, tiny_model) as pool:
        yield pool


def test_execute_submit_and_map(pool: syncyte.InferencePool, tiny_model: Path) -> None:
    with syncyte.Model(tiny_model) as model:
        expected = model.chat([{"role": "user", "content": "hello"}], **OPTIONS)  # type: ignore[arg-type]
    answer = pool.execute("hello", **OPTIONS)
    assert isinstance(answer, syncyte.Completion)
    assert answer.tokens == expected.tokens
    future = pool.submit("hello", **OPTIONS)
    assert future.result(60).tokens == expected.tokens
    assert future.worker in (0, 1, 2)
    assert future.interpreter_id in {entry["interpreter_id"] for entry in pool.stats()}
    prompts = [f"prompt {n}" for n in range(12)]
    # Which prompts share a batch may change a random model's text in the last bits: count tokens instead.
    answers = list(pool.map(prompts, **OPTIONS))
    assert [len(answer.tokens) for answer in answers] == [6] * 12


def test_interpreters_are_ready_from_the_start(tiny_model: Path) -> None:
    with syncyte.InferencePool(2, tiny_model) as pool:
        stats = pool.stats()
        assert [entry["state"] for entry in stats] == ["idle", "idle"]
        assert len({entry["interpreter_id"] for entry in stats}) == 2


def test_agent_and_setup(tiny_model: Path) -> None:
    def agent(prompt: str, model: syncyte.Model, *, suffix: str = "") -> str:
        return f"{pool_tasks.get_status()} {prompt} {model.info.architecture}{suffix}"

    with syncyte.InferencePool(
        2, syncyte.Model(tiny_model), agent, lambda: pool_tasks.set_status("ready")
    ) as pool:
        assert list(pool.map(["a", "b"])) == ["ready a llama", "ready b llama"]
        assert pool.execute("c", suffix="!") == "ready c llama!"


def test_stream(pool: syncyte.InferencePool, tiny_model: Path) -> None:
    whole = pool.execute("hello", max_tokens=40, seed=3, ignore_eos=True).text
    pieces = list(pool.stream("hello", max_tokens=40, seed=3, ignore_eos=True))
    assert pieces  # as many as the model makes of it: what waits is joined
    assert "".join(pieces) == whole
    endless = pool.stream("hello", max_tokens=400, ignore_eos=True)
    assert next(endless)
    endless.close()  # type: ignore[attr-defined]
    assert pool.execute("x", **OPTIONS).tokens
    with pytest.raises(TypeError, match="no_such_option"):
        list(pool.stream("x", no_such_option=1))
    with syncyte.InferencePool(1, tiny_model, lambda prompt, _: iter(prompt)) as letters:
        assert list(letters.stream("abc")) == ["a", "b", "c"]


def test_an_error_ends_one_prompt_only(pool: syncyte.InferencePool) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        pool.execute("x", no_such_option=1)
    with pytest.raises(ValueError, match="max_tokens"):
        pool.execute("x", max_tokens=0)
    assert pool.execute("x", **OPTIONS).usage.completion_tokens == 6


def test_run_parallel(tiny_model: Path) -> None:
    found = syncyte.run_parallel(["a", "a b c d e f", "a b c"], model=tiny_model, workers=4, **OPTIONS)
    sizes = [answer.usage.prompt_tokens for answer in found]
    assert sizes[0] < sizes[2] < sizes[1]  # in the prompts' order
    assert {len(answer.tokens) for answer in found} == {6}
    assert syncyte.run_parallel([], model=tiny_model) == []


def test_raw_prompts_are_continued(tiny_model: Path) -> None:
    with syncyte.Model(tiny_model) as model, syncyte.InferencePool(1, tiny_model, raw=True) as raw:
        expected = model.generate("hello", **OPTIONS)  # type: ignore[arg-type]
        assert raw.execute("hello", **OPTIONS).tokens == expected.tokens
        assert "".join(raw.stream("hello", **OPTIONS)) == expected.text


def test_messages_are_answered_by_the_embedded_model() -> None:
    with syncyte.InferencePool(1) as pool:
        asked = [{"role": "user", "content": "Tell me a joke"}]
        answers = [
            pool.execute(prompt, max_tokens=80, temperature=0).text for prompt in (asked, "Tell me a joke")
        ]
        streamed = "".join(pool.stream("Tell me a joke", max_tokens=80, temperature=0))
    assert answers[0] == answers[1] == streamed
    assert len(streamed) > 20


def test_bad_input(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        syncyte.InferencePool(2, tmp_path / "missing.gguf")
    with pytest.raises(TypeError, match=r"agent must be a function.*'str'"):
        syncyte.InferencePool(2, tiny_model, "agent.py")  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="no luck"):
        syncyte.InferencePool(2, tiny_model, setup=lambda: pool_tasks.fail("no luck"))


def test_the_model_goes_with_the_pool(tmp_path: Path, tiny_model: Path) -> None:
    own = tmp_path / "own.gguf"  # another file than the one this module's tests hold open
    own.write_bytes(tiny_model.read_bytes())
    gc.collect()  # a failed stream's traceback may hold what another test had open
    assert wait_until(lambda: _core._open_models() == 1)  # those of other tests are gone
    for _ in range(20):  # a worker may see the pool's end before the pool does
        with syncyte.InferencePool(2, own) as pool:
            pool.execute("hello", **OPTIONS)
            assert _core._open_models() == 2
        assert wait_until(lambda: _core._open_models() == 1, 30), _core._open_models()
