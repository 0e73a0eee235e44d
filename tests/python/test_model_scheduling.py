"""What the engine does with many requests: room, refusals, prefixes, giving up, its share of the cores."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent import interpreters
from typing import TYPE_CHECKING

import pytest
from tiny_gguf import write_tiny_gguf
from waiting import wait_until

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = "the a an and or of to in is it that was for on are as with his they at be this have from " * 3
ENDLESS = 150_000


@pytest.fixture
def model(tmp_path: Path) -> Iterator[syncyte.Model]:
    # A file of its own: nobody else's requests.
    path = write_tiny_gguf(tmp_path / "own.gguf")
    with syncyte.Model(path, threads=1, max_sequences=4, context_length=200_000, max_waiting=2) as opened:
        yield opened


def endless(model: syncyte.Model) -> syncyte.Stream:
    """One that runs. Statistics are published at the end of a step, a moment after its tokens."""
    stream = model.stream("the", max_tokens=ENDLESS, ignore_eos=True)
    next(stream)
    assert wait_until(lambda: model.stats().running >= 1)
    return stream


def rests(model: syncyte.Model) -> bool:
    """Whether the one who was given up is gone: at most the step that ran already was computed for it."""
    steps = model.stats().steps
    if not wait_until(lambda: model.stats().running == 0):
        return False
    return model.stats().steps - steps <= 1


def test_more_than_may_wait_are_refused(model: syncyte.Model) -> None:
    streams = [model.stream("the", max_tokens=ENDLESS, ignore_eos=True) for _ in range(6)]
    with pytest.raises(syncyte.OverloadedError, match="6 requests open"):
        model.generate("the", max_tokens=1)
    assert wait_until(lambda: (model.stats().running, model.stats().waiting) == (4, 2))
    streams.pop().close()
    assert wait_until(lambda: model.stats().waiting == 1)
    streams.append(model.stream("the", max_tokens=1))
    for stream in streams:
        stream.close()
    assert wait_until(lambda: model.stats().waiting + model.stats().running == 0)
    assert model.generate("the", max_tokens=1, ignore_eos=True).tokens


def test_max_waiting_is_checked(tiny_model: Path, model: syncyte.Model) -> None:
    with pytest.raises(ValueError, match="max_waiting must be 0"):
        syncyte.Model(tiny_model, max_waiting=-1)
    with pytest.raises(ValueError, match="max_waiting=2, not 3"):
        syncyte.Model(model.path, max_waiting=3)


def test_stats(model: syncyte.Model) -> None:
    before = model.stats()
    assert (before.running, before.waiting, before.paused, before.used_cells) == (0, 0, 0, 0)
    assert before.free_cells == before.cells == model.info.cache_tokens
    first = model.generate(LONG, max_tokens=8, ignore_eos=True)
    second = model.generate(LONG + "other " * 20, max_tokens=8, ignore_eos=True)
    assert wait_until(lambda: model.stats().running == 0)
    after = model.stats()
    assert after.reused_tokens == second.usage.reused_tokens > 50
    computed = first.usage.computed_tokens + second.usage.computed_tokens
    assert after.computed_tokens == computed + 7 + 7  # the last token of an answer is not computed
    assert after.used_cells + after.free_cells == after.cells
    assert after.kept_cells == after.used_cells
    assert after.shared_cells == 0  # the first text went on as the second
    assert 0 < after.steps <= after.computed_tokens
    assert 0 < after.computing_microseconds <= after.busy_microseconds
    assert after.threads == 1
    assert "kept_cells=" in repr(after)
    assert after == syncyte.ModelStats(*after.as_dict().values())
    branch = model.generate(LONG + "word " * 20, max_tokens=8, ignore_eos=True)
    assert wait_until(lambda: model.stats().running == 0)
    assert model.stats().shared_cells == branch.usage.reused_tokens > 50


def test_a_salt_is_short(model: syncyte.Model) -> None:
    assert model.generate("the", max_tokens=1, cache_salt="é" * 512).usage.completion_tokens <= 1
    with pytest.raises(ValueError, match="cache_salt has 1026 bytes, and 1024 is the limit"):
        model.generate("the", max_tokens=1, cache_salt="é" * 513)
    with pytest.raises(ValueError, match="cache_salt has"):
        model.prefix("the other", cache_salt="x" * 2000)


def test_a_prefix_is_computed_once_and_stays_while_it_is_pinned(model: syncyte.Model) -> None:
    with model.prefix(LONG) as prefix:
        assert prefix.pinned
        assert prefix.tokens == len(model.tokenize(LONG))
        assert wait_until(lambda: model.stats().pinned_cells == prefix.tokens)
        assert model.generate(LONG + "a", max_tokens=1).usage.reused_tokens > prefix.tokens - 3
        assert "pinned" in repr(prefix)
    assert wait_until(lambda: model.stats().pinned_cells == 0)
    assert not prefix.pinned
    prefix.close()
    again = model.prefix(LONG)
    assert again.reused_tokens == again.tokens - 1
    tokens = again.tokens
    assert wait_until(lambda: model.stats().pinned_cells == tokens)
    del again
    gc.collect()
    assert wait_until(lambda: model.stats().pinned_cells == 0)
    warm = model.prefix(LONG, pin=False)
    assert not warm.pinned
    assert model.stats().pinned_cells == 0


def test_a_pin_does_not_outlive_its_interpreter(model: syncyte.Model) -> None:
    interpreter = interpreters.create()
    interpreter.exec(
        f"import syncyte\nmodel = syncyte.Model({model.path!r})\nprefix = model.prefix({LONG!r})"
    )
    assert wait_until(lambda: model.stats().pinned_cells > 50)
    interpreter.close()
    assert wait_until(lambda: model.stats().pinned_cells == 0)


def test_tenants_share_no_prefix(model: syncyte.Model) -> None:
    with model.prefix(LONG, cache_salt="one"):
        assert model.prefix(LONG, pin=False, cache_salt="two").reused_tokens == 0
        assert model.prefix(LONG, pin=False).reused_tokens == 0
        assert model.prefix(LONG, pin=False, cache_salt="one").reused_tokens > 50
    with pytest.raises(TypeError, match="cache_salt must be str"):
        model.prefix(LONG, cache_salt=3)  # type: ignore[arg-type]


def test_pins_have_a_bound(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "small.gguf")
    with syncyte.Model(path, threads=1, context_length=256, max_sequences=1) as small:
        tokens = (small.tokenize(LONG) * 2)[:100]
        pins = [small.prefix(tokens)]
        with pytest.raises(syncyte.OverloadedError, match="pinned prefixes may hold 128 tokens"):
            small.prefix(tokens[::-1])
        with pytest.raises(syncyte.OverloadedError, match="100 are pinned"):
            small.generate(tokens[::-1] * 2, max_tokens=5)
        pins.clear()
        gc.collect()
        assert small.generate(tokens[::-1] * 2, max_tokens=5, ignore_eos=True).finish_reason == "length"


def test_more_than_the_cache_holds_pauses_and_ends_well(tmp_path: Path) -> None:
    with syncyte.Model(write_tiny_gguf(tmp_path / "full.gguf"), threads=1, max_sequences=12) as full:
        assert full.info.cache_tokens < 12 * 500
        results: list[syncyte.Completion] = []

        def ask(word: str) -> None:
            results.append(full.generate(word, max_tokens=500, seed=1, ignore_eos=True))

        threads = [threading.Thread(target=ask, args=(word,)) for word in "abcdefghijkl"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(result.tokens) for result in results] == [500] * 12
        stats = full.stats()
        assert stats.pauses > 0
        assert wait_until(lambda: full.stats().running == 0)
        assert full.stats().used_cells == full.stats().kept_cells


def test_a_closed_or_dropped_stream_frees_its_sequence_within_one_step(model: syncyte.Model) -> None:
    endless(model).close()
    assert rests(model)
    stream = endless(model)
    del stream
    gc.collect()
    assert rests(model)


def test_a_generator_closed_around_a_stream_frees_its_sequence(model: syncyte.Model) -> None:
    def pieces() -> Iterator[str]:
        yield from endless(model)

    generator = pieces()
    next(generator)
    assert wait_until(lambda: model.stats().running == 1)
    generator.close()
    gc.collect()
    assert rests(model)


def test_an_interpreter_that_goes_frees_its_sequences(model: syncyte.Model) -> None:
    interpreter = interpreters.create()
    interpreter.exec(
        f"import syncyte\nmodel = syncyte.Model({model.path!r})\n"
        f"stream = model.stream('the', max_tokens={ENDLESS}, ignore_eos=True)\nnext(stream)"
    )
    assert wait_until(lambda: model.stats().running == 1)
    interpreter.close()
    assert rests(model)


def test_a_cancelled_future_frees_its_sequence(model: syncyte.Model) -> None:
    with syncyte.InferencePool(1, model) as pool:
        future = pool.submit("the", max_tokens=ENDLESS, ignore_eos=True)
        assert wait_until(lambda: model.stats().running == 1)
        assert future.cancel()
        assert wait_until(lambda: model.stats().running == 0)
        stream = pool.stream("the", max_tokens=ENDLESS, ignore_eos=True)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert wait_until(lambda: model.stats().running == 0)


def test_ctrl_c_frees_the_sequence(tiny_model: Path) -> None:
    script = """
        import os, signal, sys, threading, time, syncyte
        model = syncyte.Model(sys.argv[1], threads=1, context_length=200_000, max_sequences=1)
        def press():
            while model.stats().running == 0:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=press).start()
        try:
            model.generate("the", max_tokens=150_000, ignore_eos=True)
        except KeyboardInterrupt:
            steps = model.stats().steps
            end = time.monotonic() + 20
            while model.stats().running and time.monotonic() < end:
                time.sleep(0.001)
            print(model.stats().running, model.stats().steps - steps <= 1)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "0 True\n"), done.stderr


@pytest.fixture
def core_budget() -> Iterator[None]:
    yield
    syncyte.set_core_budget()


@pytest.mark.usefixtures("core_budget")
def test_the_core_budget_can_be_fixed(tmp_path: Path) -> None:
    with syncyte.Model(write_tiny_gguf(tmp_path / "cores.gguf"), threads=4) as four:

        def threads() -> int:
            four.generate("the", max_tokens=3, ignore_eos=True)
            return four.stats().threads

        syncyte.set_core_budget(engine=2)
        assert threads() == min(2, len(os.sched_getaffinity(0)))
        syncyte.set_core_budget(engine=1)
        assert threads() == 1
        syncyte.set_core_budget(agents=512)
        assert threads() == 1
        syncyte.set_core_budget()
        assert 1 <= threads() <= 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": 0}, ValueError, "engine must be 1 to 512 cores or None, not 0"),
        ({"agents": -1}, ValueError, "agents must be 0 to 512 cores or None, not -1"),
        ({"engine": 1000}, ValueError, "engine must be 1 to 512"),
        ({"engine": 1.5}, TypeError, "engine must be int or None, not float"),
        ({"agents": "2"}, TypeError, "agents must be int or None, not str"),
    ],
)
def test_a_core_budget_that_makes_no_sense(options, error, message) -> None:
    with pytest.raises(error, match=message):
        syncyte.set_core_budget(**options)


def test_an_urgent_request_takes_the_place_of_another(model: syncyte.Model) -> None:
    streams = [endless(model) for _ in range(4)]
    urgent = model.generate("the", max_tokens=3, priority=1, ignore_eos=True)
    assert len(urgent.tokens) == 3
    assert wait_until(lambda: model.stats().pauses == 1)
    for stream in streams:
        assert next(stream)
        stream.close()


def test_a_paused_answer_is_the_same_as_one_that_was_not(model: syncyte.Model) -> None:
    alone = model.generate(LONG, max_tokens=40, temperature=0, ignore_eos=True)
    streams = [endless(model) for _ in range(3)]
    paused = model.stream(
        LONG, max_tokens=40, temperature=0, ignore_eos=True, cache_salt="again", priority=-1
    )
    assert next(paused)
    for _ in range(5):
        assert model.generate("the", max_tokens=2, priority=1, ignore_eos=True).tokens
    text = "".join(paused)
    for stream in streams:
        stream.close()
    assert len(paused.completion.tokens) == 40
    # The batch it shares may change a choice that is close, so not all of it need be the same.
    assert paused.completion.tokens[:2] == alone.tokens[:2]
    assert text in paused.completion.text


def test_an_answer_ends_at_its_deadline(model: syncyte.Model) -> None:
    for deadline in (0.2, 1, 5):  # on a busy machine some pass before the first token
        start = time.monotonic()
        answer = model.generate("the", max_tokens=ENDLESS, deadline=deadline, ignore_eos=True)
        assert answer.finish_reason == "deadline"
        assert time.monotonic() - start < deadline + 20
        if answer.tokens:
            break
    assert answer.tokens
    stream = model.stream_chat(
        [{"role": "user", "content": "the"}], max_tokens=ENDLESS, deadline=0.1, ignore_eos=True
    )
    assert "".join(stream) == stream.completion.text
    assert stream.completion.finish_reason == "deadline"
    late = model.chat([{"role": "user", "content": "the"}], deadline=0)
    assert (late.text, late.finish_reason, late.timings.first_token) == ("", "deadline", 0)
    assert model.generate("the", max_tokens=2, deadline=None, ignore_eos=True).finish_reason == "length"


def test_a_waiting_request_ends_at_its_deadline(model: syncyte.Model) -> None:
    streams = [model.stream("the", max_tokens=ENDLESS, priority=1, ignore_eos=True) for _ in range(4)]
    late = model.generate("the", max_tokens=3, deadline=0.1)
    assert (late.tokens, late.finish_reason) == ([], "deadline")
    for stream in streams:
        stream.close()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"priority": 101}, ValueError, "priority must be from -100 to 100, not 101"),
        ({"priority": 1.5}, TypeError, "priority must be int, not float"),
        ({"deadline": -1}, ValueError, "deadline must be from 0 to inf, not -1"),
        ({"deadline": float("nan")}, ValueError, "deadline must be from 0"),
        ({"deadline": "soon"}, TypeError, "deadline must be a number, not str"),
        ({"cache_salt": 7}, TypeError, "cache_salt must be str, not int"),
        ({"cache_salt": "\ud800"}, ValueError, "cache_salt holds a lone surrogate"),
    ],
)
def test_options_that_make_no_sense(model: syncyte.Model, options, error, message) -> None:
    with pytest.raises(error, match=message):
        model.generate("the", **options)
    with pytest.raises(error, match=message):
        model.stream("the", **options)


def test_tenants_share_nothing(model: syncyte.Model) -> None:
    reused = [
        model.generate(LONG, max_tokens=2, cache_salt=salt).usage.reused_tokens
        for salt in ("a", "b", "a", "")
    ]
    assert reused[0] == reused[1] == reused[3] == 0
    assert reused[2] > 50


def test_a_pools_deadline_counts_from_the_call(model: syncyte.Model) -> None:
    with syncyte.InferencePool(1, model) as pool:
        blocker = pool.submit("the", max_tokens=ENDLESS, deadline=0.5, ignore_eos=True)
        late = pool.submit("the", max_tokens=3, deadline=0.1, ignore_eos=True)
        assert blocker.result().finish_reason == "deadline"
        assert (late.result().tokens, late.result().finish_reason) == ([], "deadline")
        with pytest.raises(ValueError, match="deadline must be from 0"):
            pool.submit("the", deadline=-2)
        with pytest.raises(ValueError, match="priority must be from"):
            pool.execute("the", priority=1000)
        assert pool.execute("the", max_tokens=2, deadline=60, ignore_eos=True).finish_reason == "length"
        assert "".join(pool.stream("the", max_tokens=2, deadline=60, ignore_eos=True))


def test_a_pool_takes_the_most_urgent_first(model: syncyte.Model) -> None:
    with syncyte.InferencePool(1, model) as pool:
        blocker = pool.submit("the", max_tokens=ENDLESS, ignore_eos=True)
        assert wait_until(lambda: model.stats().running == 1)
        low = pool.submit("the", max_tokens=ENDLESS, ignore_eos=True)
        high = pool.submit("the", max_tokens=2, priority=3, ignore_eos=True)
        blocker.cancel()
        assert high.result(timeout=60).finish_reason == "length"
        low.cancel()


@pytest.mark.parametrize("ending", ["", "model.close()", "del model", "sys.exit()"])
def test_exit_with_a_pinned_prefix(tiny_model: Path, ending: str) -> None:
    script = f"""
        import sys, syncyte
        model = syncyte.Model(sys.argv[1], threads=1)
        prefix = model.prefix({LONG!r})
        {ending}
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_weights_go_when_the_last_pin_is_gone(tmp_path: Path) -> None:
    before = syncyte._core._open_models()
    model = syncyte.Model(write_tiny_gguf(tmp_path / "pinned.gguf"), threads=1)
    prefix = model.prefix(LONG)
    model.close()
    assert syncyte._core._open_models() == before + 1
    prefix.close()
    del prefix
    assert wait_until(lambda: syncyte._core._open_models() == before)


def test_long_prompts_come_back(tmp_path: Path) -> None:
    """What is too long to be kept unasked is saved outside the cache: the same text, without computing it."""
    path = write_tiny_gguf(tmp_path / "m.gguf", context_length=1024)
    with syncyte.Model(path, threads=1, max_sequences=3) as model:
        prompts = [[(7 * i + 13 * i * i + 5 * k) % 256 for i in range(400)] for k in range(4)]
        first = [model.generate(p, max_tokens=8, temperature=0, ignore_eos=True) for p in prompts]
        assert [c.usage.reused_tokens for c in first] == [0, 0, 0, 0]
        assert model.stats().parked_tokens > 1200
        for _ in range(2):
            again = [model.generate(p, max_tokens=8, temperature=0, ignore_eos=True) for p in prompts]
            assert [c.usage.reused_tokens for c in again] == [399] * 4
            assert [c.tokens for c in again] == [c.tokens for c in first]
        other = model.generate(prompts[0], max_tokens=8, temperature=0, ignore_eos=True, cache_salt="other")
        assert other.usage.reused_tokens == 0


def test_an_answer_is_the_same_when_others_leave_the_cache_beside_it(tiny_model: Path) -> None:
    # Its cells move to the front once the histories that rest have been in its way for long.
    def answer(model: syncyte.Model) -> list[int]:
        made = model.generate("lone and", max_tokens=300, temperature=0, ignore_eos=True)
        return list(made.tokens)

    options = {"threads": 1, "context_length": 2048, "max_sequences": 8}
    with syncyte.Model(tiny_model, **options) as model:
        alone = answer(model)
    with syncyte.Model(tiny_model, **options) as model:
        for name in ("one", "two", "three", "four"):
            history = f"history {name} " + "the quick brown fox jumps " * 12
            for _ in range(2):  # who was begun with once rests in the cache
                model.generate(history, max_tokens=3, temperature=0, ignore_eos=True)
        resting = model.stats()
        assert resting.kept_cells >= 256
        assert answer(model) == alone
        assert model.stats().parked_tokens >= resting.parked_tokens + resting.kept_cells


def test_histories_behind_one_system_prompt_leave_the_cache_without_it(tiny_model: Path) -> None:
    system = "you are one of several agents " * 8
    histories = [system + f"agent {name} " + "the quick brown fox jumps " * 12 for name in "abcd"]
    ask = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}
    with syncyte.Model(tiny_model, threads=1, context_length=4096, max_sequences=8) as model:
        for history in histories:
            first = [list(model.generate(history, **ask).tokens) for _ in range(2)]
            assert first[0] == first[1]
        answers = [list(model.generate(history, **ask).tokens) for history in histories]
        resting = model.stats()
        alone = model.generate(system + "lone and", max_tokens=200, temperature=0, ignore_eos=True)
        assert alone.usage.reused_tokens >= len(system) // 4
        left = model.stats()
        prompt = alone.usage.reused_tokens
        assert left.kept_cells < resting.kept_cells
        assert left.parked_tokens > resting.parked_tokens
        own = [len(model.tokenize(history)) - prompt for history in histories]
        assert left.parked_tokens <= sum(own) + 4 * 40  # answers, and what they share by chance
        for history, answer in zip(histories, answers, strict=True):
            again = model.generate(history, **ask)
            assert list(again.tokens) == answer
            assert again.usage.reused_tokens == again.usage.prompt_tokens - 1
