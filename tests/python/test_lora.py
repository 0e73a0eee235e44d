"""LoRA adapters: what they change, what they share, what is refused, and that they go."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
from concurrent import interpreters
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ties import same_but_for_ties
from tiny_gguf import write_tiny_gguf
from tiny_lora import write_tiny_lora
from waiting import wait_until

import syncyte
from syncyte import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PROMPT = "the a an and or of to in is it that was for on are as with his they at be this have from"


@pytest.fixture
def model(tiny_model: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(tiny_model, threads=1, max_sequences=8) as opened:
        yield opened


@pytest.fixture(scope="session")
def loras(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters that each make another text of everything."""
    folder = tmp_path_factory.mktemp("loras")
    return [write_tiny_lora(folder / f"{seed}.gguf", seed=seed) for seed in (1, 2, 3)]


def greedy(model: syncyte.Model, lora: syncyte.Lora | None, prompt: str = PROMPT) -> str:
    """Sixteen tokens, the likeliest ones."""
    return model.generate(prompt, max_tokens=16, temperature=0, ignore_eos=True, lora=lora).text


def test_each_adapter_makes_its_own_text(model: syncyte.Model, loras: list[Path]) -> None:
    base = greedy(model, None)
    adapters = [model.lora(path) for path in loras]
    texts = [greedy(model, adapter) for adapter in adapters]
    assert len({base, *texts}) == 4
    assert greedy(model, model.lora(loras[0], 0.3)) not in {base, texts[0]}
    assert greedy(model, model.lora(loras[0], 0.0)) == base
    assert greedy(model, model.lora(loras[0], scale=-1)) not in {base, texts[0]}
    assert greedy(model, None) == base
    assert [greedy(model, adapter) for adapter in adapters] == texts


def test_the_text_is_that_of_the_merged_model(tmp_path: Path) -> None:
    """What is computed is W + scale * B A, for every matrix: checked on a model with those weights."""
    import gguf

    plain = write_tiny_gguf(tmp_path / "plain.gguf")
    lora = write_tiny_lora(tmp_path / "lora.gguf", seed=4, strength=0.7, alpha=8.0)
    read = {one.name: np.array(one.data, dtype=np.float64) for one in gguf.GGUFReader(lora).tensors}
    data = bytearray(plain.read_bytes())
    changed = 0
    for tensor in gguf.GGUFReader(plain).tensors:
        if tensor.name + ".lora_a" not in read:
            continue
        product = read[tensor.name + ".lora_b"] @ read[tensor.name + ".lora_a"]
        merged = tensor.data.astype(np.float64) + 0.5 * 8.0 / 4 * product
        data[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = merged.astype(np.float32).tobytes()
        changed += 1
    assert changed == 14
    (tmp_path / "merged.gguf").write_bytes(data)
    with (
        syncyte.Model(plain, threads=1) as model,
        syncyte.Model(tmp_path / "merged.gguf", threads=1) as other,
    ):
        one = model.generate(PROMPT, max_tokens=1, temperature=0, logprobs=5, lora=model.lora(lora, 0.5))
        two = other.generate(PROMPT, max_tokens=1, temperature=0, logprobs=5)
        plainly = model.generate(PROMPT, max_tokens=1, temperature=0, logprobs=5)
    assert [top.token for top in one.logprobs[0].top] == [top.token for top in two.logprobs[0].top]
    for ours, theirs in zip(one.logprobs[0].top, two.logprobs[0].top, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)
    assert plainly.logprobs[0].logprob != pytest.approx(one.logprobs[0].logprob, abs=1e-2)


def test_all_at_once_give_what_each_gives_alone(model: syncyte.Model, loras: list[Path]) -> None:
    adapters = [None, *(model.lora(path) for path in loras)]
    asked = [(adapter, f"{PROMPT} word {number}") for adapter in adapters for number in range(4)]

    def answer(one: tuple[syncyte.Lora | None, str]) -> syncyte.Completion:
        lora, prompt = one
        return model.generate(prompt, max_tokens=16, temperature=0, ignore_eos=True, logprobs=2, lora=lora)

    alone = [answer(one) for one in asked]
    with ThreadPoolExecutor(16) as threads:
        for _ in range(3):
            for one, other in zip(alone, threads.map(answer, asked), strict=True):
                same_but_for_ties(one, other)


def test_nothing_is_reused_across_adapters(model: syncyte.Model, loras: list[Path]) -> None:
    def reused(lora: syncyte.Lora | None) -> int:
        made = model.generate(PROMPT, max_tokens=2, seed=1, lora=lora, cache_salt="reuse")
        return made.usage.reused_tokens

    one, again, other = model.lora(loras[0]), model.lora(loras[0]), model.lora(loras[1])
    half = model.lora(loras[0], 0.5)
    assert reused(None) == reused(one) == reused(other) == reused(half) == 0
    assert reused(one) == reused(again) == reused(half) == reused(None) > 16
    assert reused(model.lora(loras[2], 0)) > 16  # that is the model alone
    with model.prefix(PROMPT + " would make", lora=one, cache_salt="reuse") as prefix:
        assert prefix.tokens > prefix.reused_tokens > 16
        longer = model.generate(PROMPT + " would make like", max_tokens=1, lora=one, cache_salt="reuse")
        assert longer.usage.reused_tokens >= prefix.tokens - 1


def test_every_way_to_ask(model: syncyte.Model, loras: list[Path]) -> None:
    lora = model.lora(loras[0])
    options = {"max_tokens": 10, "temperature": 0, "ignore_eos": True}
    say = [{"role": "user", "content": "hello"}]
    text = model.generate(PROMPT, **options, lora=lora).text  # type: ignore[arg-type]
    chat = model.chat(say, **options, lora=lora).text  # type: ignore[arg-type]
    assert chat != model.chat(say, **options).text  # type: ignore[arg-type]
    assert "".join(model.stream(PROMPT, **options, lora=lora)) == text  # type: ignore[arg-type]
    assert "".join(model.stream_chat(say, **options, lora=lora)) == chat  # type: ignore[arg-type]
    answers = model.generate_n(PROMPT, 2, **options, lora=lora)  # type: ignore[arg-type]
    assert [one.text for one in answers] == [text, text]
    assert model.session(lora=lora, **options).send("hello").text == chat  # type: ignore[arg-type]
    assert model.session(**options).send("hello", lora=lora).text == chat  # type: ignore[arg-type]

    async def all_of_them() -> None:
        assert (await model.agenerate(PROMPT, **options, lora=lora)).text == text  # type: ignore[arg-type]
        pieces = [piece async for piece in model.astream_chat(say, **options, lora=lora)]  # type: ignore[arg-type]
        assert "".join(pieces) == chat

    asyncio.run(all_of_them())


def test_it_travels(model: syncyte.Model, loras: list[Path]) -> None:
    lora = model.lora(loras[0], 0.8)
    text = greedy(model, lora)
    channel: syncyte.Queue[Any] = syncyte.Queue()
    interpreter = interpreters.create()
    try:
        interpreter.prepare_main(channel=channel)
        channel.put((model, lora, PROMPT))
        interpreter.exec(
            "model, lora, prompt = channel.get()\n"
            "text = model.generate(prompt, max_tokens=16, temperature=0, ignore_eos=True, lora=lora).text\n"
            "channel.put((text, lora, repr(lora)))"
        )
        there, back, told = channel.get()
    finally:
        interpreter.close()
    assert (there, back, told) == (text, lora, repr(lora))
    assert "scale=0.8" in told.replace("0.800000011920929", "0.8")
    with syncyte.InferencePool(2, model, raw=True) as pool:
        options = {"max_tokens": 16, "temperature": 0, "ignore_eos": True}
        assert pool.execute(PROMPT, **options, lora=lora).text == text
        assert {one.text for one in pool.map([PROMPT] * 4, **options, lora=lora)} == {text}


def test_it_goes_with_its_last_user(model: syncyte.Model, loras: list[Path]) -> None:
    assert _core._open_adapters() == 0
    one, two = model.lora(loras[0]), model.lora(loras[0], 2.0)
    assert _core._open_adapters() == 1
    greedy(model, one)
    stream = model.stream(PROMPT, max_tokens=300, ignore_eos=True, lora=one)
    next(stream)
    one.close()
    assert one.closed
    assert repr(one) == "<syncyte.Lora, closed>"
    with pytest.raises(syncyte.ClosedError, match="adapter is closed"):
        greedy(model, one)
    assert _core._open_adapters() == 1
    del two
    assert all(stream)  # as many pieces as the reader's pace makes of it
    assert len(stream.completion.tokens) == 300
    del stream
    gc.collect()
    assert wait_until(lambda: _core._open_adapters() == 0)


def test_it_keeps_its_model_open(tiny_model: Path, loras: list[Path]) -> None:
    before = _core._open_models()
    model = syncyte.Model(tiny_model, threads=1)
    with model.lora(loras[0]) as lora:
        text = greedy(model, lora)
        model.close()
        with syncyte.Model(tiny_model) as again:
            assert greedy(again, lora) == text
        assert _core._open_models() == before + 1
    assert wait_until(lambda: _core._open_models() == before and _core._open_adapters() == 0)


def test_memory_stays_flat_over_many_of_them(model: syncyte.Model, tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    large = write_tiny_lora(tmp_path / "large.gguf", rank=256)  # 1.8 MB
    small = write_tiny_lora(tmp_path / "small.gguf", rank=1)
    sizes = []
    for round_ in range(150):
        for path in (large, small):
            with model.lora(path) as lora:
                model.generate(PROMPT, max_tokens=2, seed=1, lora=lora)
        if round_ in (50, 149):
            sizes.append(resident())
    assert wait_until(lambda: _core._open_adapters() == 0)
    assert sizes[1] - sizes[0] < 20e6  # of 180e6 that were loaded meanwhile


def test_loading_and_dropping_beside_running_requests(model: syncyte.Model, loras: list[Path]) -> None:
    expected = [greedy(model, model.lora(path)) for path in loras]

    def agent(number: int) -> None:
        for turn in range(12):
            which = (number + turn) % 3
            with model.lora(loras[which]) as lora:
                assert greedy(model, lora) == expected[which]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(agent, range(8)))
    assert wait_until(lambda: _core._open_adapters() == 0)


def test_wrong_options(model: syncyte.Model, loras: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"lora must be what Model.lora\(\) gives, or None, not str"):
        model.generate("a", lora=str(loras[0]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"lora must be what Model.lora\(\) gives"):
        model.prefix("a", lora=model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scale must be a number"):
        model.lora(loras[0], "1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale must be from -100 to 100"):
        model.lora(loras[0], float("nan"))
    with pytest.raises(TypeError):
        syncyte.Lora()
    other_path = write_tiny_gguf(tmp_path / "other.gguf", seed=8)
    with (
        syncyte.Model(other_path, threads=1) as other,
        model.lora(loras[0]) as lora,
        pytest.raises(ValueError, match="loaded for another model"),
    ):
        greedy(other, lora)
    model.close()
    with pytest.raises(syncyte.ClosedError):
        model.lora(loras[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "model"}, 'not a LoRA adapter but of the type "model"'),
        ({"adapter_type": "control"}, 'an adapter of the type "control"'),
        ({"architecture": "qwen2"}, 'for the architecture "qwen2"; the model\'s is "llama"'),
        ({"alpha": float("nan")}, "alpha is not a number"),
        ({"invocation": (1, 2)}, "activated LoRA"),
        ({"leave_out": "attn_q.weight.lora_b"}, r"'blk.0.attn_q.weight.lora_a' has no partner.lora_b"),
        ({"rename": (".lora_", ".lora_x")}, "neither .lora_a nor .lora_b"),
        ({"rename": ("attn_q", "attn_x")}, "does not exist in base model"),
        ({"embedding": 32}, "incorrect shape"),
        ({"feed_forward": 64}, "incorrect shape"),
        ({"layers": 3}, r"'blk.2.* does not exist in base model"),
        ({"transposed": True}, "do not have the same rank"),
        ({"dtype": np.int32}, "of a type that holds no weights"),
        ({"strength": float("inf")}, "computes no numbers"),
    ],
)
def test_what_does_not_fit(
    model: syncyte.Model, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = write_tiny_lora(tmp_path / "odd.gguf", **change)  # type: ignore[arg-type]
    with pytest.raises(syncyte.ModelError, match=message) as raised:
        model.lora(path)
    assert str(path) in str(raised.value)
    assert _core._open_adapters() == 0
    assert greedy(model, None)


def test_what_is_no_adapter(model: syncyte.Model, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        model.lora(tmp_path / "none.gguf")
    with pytest.raises(syncyte.ModelError, match="is a directory"):
        model.lora(tmp_path)
    with pytest.raises(syncyte.ModelError, match=r"not a LoRA adapter: it has no general\.type"):
        model.lora(tiny_model)
    (tmp_path / "text.gguf").write_text("Hello, this is nothing of the kind")
    with pytest.raises(syncyte.ModelError, match="not a GGUF"):
        model.lora(tmp_path / "text.gguf")
    data = write_tiny_lora(tmp_path / "whole.gguf").read_bytes()
    for size in (10, 100, 1000, 3000, len(data) - 40):
        (tmp_path / "cut.gguf").write_bytes(data[:size])
        with pytest.raises(syncyte.ModelError, match="truncated"):
            model.lora(tmp_path / "cut.gguf")


def test_hundreds_of_mutations_and_the_process_lives(
    tiny_model: Path, loras: list[Path], tmp_path: Path
) -> None:
    count = 500
    script = str(HERE / "gguf_mutations.py")
    command = [sys.executable, script, str(loras[0]), str(tmp_path), "0", str(count), str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"died at {done.stdout[-300:]}\n{done.stderr[-2000:]}"
    assert done.stdout.endswith("all done\n")
    outcomes = re.findall(r"^  (.*)$", done.stdout, re.MULTILINE)
    assert len(outcomes) == count
    assert 0 < sum(outcome == "works" for outcome in outcomes) < count / 2
    assert not done.stderr
