"""How a model is loaded: what its KV cache holds, flash attention, devices, servers."""

from __future__ import annotations

import ast
import contextlib
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_gguf import write_tiny_gguf

import syncyte
from syncyte import _core

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its heads are 32 wide: as many numbers as a quantised block of the KV cache has."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "wide.gguf", embedding=128, heads=4)


PROMPT = "the other word that they have had"


def greedy(model: syncyte.Model, prompt: str = PROMPT) -> list[int]:
    return model.generate(prompt, max_tokens=24, temperature=0, ignore_eos=True).tokens


@pytest.mark.parametrize("kv_type", ["f16", "f32", "q8_0", "q4_0", "q8_0,f16", "f16,q8_0"])
def test_kv_types(path: Path, kv_type: str) -> None:
    with syncyte.Model(path, threads=1, kv_type=kv_type) as model:
        assert model.info.kv_type == kv_type
        assert model.info.flash_attention is None
        assert len(greedy(model)) == 24
        # Together, past a gathering of cells and with forks, as alone.
        prompts = [f"the {word} that" for word in ("one", "two", "other", "out", "all", "her")]
        streams = [model.stream(p, max_tokens=40, temperature=0, ignore_eos=True) for p in prompts]
        for stream in streams:
            assert len("".join(stream)) > 0
            assert len(stream.completion.tokens) == 40


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("sequences", [1, 63, 128, 255, 256])
def test_any_number_of_sequences(path: Path, sequences: int, unified: bool) -> None:
    with syncyte.Model(path, threads=1, max_sequences=sequences, kv_unified=unified) as model:
        texts = [f"the {number} word" for number in range(80)]
        streams = [model.stream(text, max_tokens=4, temperature=0, ignore_eos=True) for text in texts]
        for stream in streams:
            assert len("".join(stream)) > 0
            assert len(stream.completion.tokens) == 4


def test_wider_numbers_change_little(path: Path) -> None:
    with (
        syncyte.Model(path, threads=1) as plain,
        syncyte.Model(path, threads=1, kv_type="f32") as wide,
        syncyte.Model(path, threads=1, kv_type="q4_0") as narrow,
    ):
        prompt = "the other word that they have had"
        values = [
            m.generate(prompt, max_tokens=1, temperature=0, logprobs=1).logprobs[0].logprob
            for m in (plain, wide, narrow)
        ]
        assert values[0] == pytest.approx(values[1], abs=0.02)
        assert values[2] != values[1]  # four bits do show


@pytest.mark.parametrize("flash", [True, False])
def test_flash_attention(path: Path, flash: bool) -> None:
    with syncyte.Model(path, threads=1, flash_attention=flash) as model:
        assert model.info.flash_attention is flash
        assert len(greedy(model)) == 24


def test_separate_caches(path: Path) -> None:
    """Each sequence has a cache of its own: the same texts, whoever comes and goes beside it."""
    with (
        syncyte.Model(path, threads=1, max_sequences=4) as together,
        syncyte.Model(path, threads=2, max_sequences=4, kv_unified=False) as apart,
    ):
        assert together.info.kv_unified is True
        assert apart.info.kv_unified is False
        assert apart.info.cache_tokens == 4 * apart.info.context_length
        assert greedy(apart) == greedy(together)
        asked = [(f"the {word} that", 5 + 11 * place % 40) for place, word in enumerate("abcdefghijklm")]
        streams = [apart.stream(p, max_tokens=n, temperature=0, ignore_eos=True) for p, n in asked]
        for stream, (prompt, count) in zip(streams, asked, strict=True):
            alone = together.generate(prompt, max_tokens=count, temperature=0, ignore_eos=True)
            assert "".join(stream) == alone.text
        assert apart.stats().reused_tokens == 0
        with pytest.raises(ValueError, match="kv_unified=False"):
            apart.prefix("the other word that they have had, and more of it than that")
        long = "the " * (apart.info.context_length + 1)
        with pytest.raises(ValueError, match="tokens"):
            apart.generate(long)
        assert len(greedy(apart)) == 24


def test_separate_caches_keep_conversations(path: Path) -> None:
    """Turns, branches and histories of more agents than there is room for, as in one cache for all."""
    prompts = [f"{name}: " + "the other word that they have had and " * 4 for name in ("one", "two", "all")]

    def talk(model: syncyte.Model) -> tuple[list[str], int]:
        texts = list(prompts)
        for turn in range(3):
            streams = [model.stream(t, max_tokens=9, temperature=0, ignore_eos=True) for t in texts]
            texts = [f"{t}{''.join(s)} and then {turn}" for t, s in zip(texts, streams, strict=True)]
        session = model.session(system="You are kind. " * 5, max_tokens=9, temperature=0, ignore_eos=True)
        texts.append(session.send("the word").text)
        branch = session.fork()
        texts += [session.send("there").text, branch.send("about").text]
        return texts, model.stats().reused_tokens

    with syncyte.Model(path, threads=1, max_sequences=3) as together:
        texts, shared = talk(together)
    for sequences in (3, 2):
        with syncyte.Model(path, threads=1, max_sequences=sequences, kv_unified=False) as apart:
            found, copied = talk(apart)
            assert found == texts
            assert copied > 0.8 * shared > 300


def test_cache_tokens(path: Path) -> None:
    """Room for texts that would make each other leave the usual cache."""
    texts = [f"{word} " + "the other word " * 60 for word in ("one", "two", "all", "they")]
    for room, evicts in ((1000, True), (12_000, False)):
        with syncyte.Model(path, threads=1, context_length=500, cache_tokens=room) as model:
            assert model.info.cache_tokens == model.stats().cells == room
            streams = [model.stream(text, max_tokens=200, ignore_eos=True) for text in texts]
            assert all(len("".join(stream)) > 0 for stream in streams)
            stats = model.stats()
            assert (stats.evictions + stats.pauses > 0) is evicts
            with pytest.raises(ValueError, match=f"cache_tokens={room}, not 11000"):
                syncyte.Model(path, cache_tokens=11_000)
            with syncyte.Model(path, cache_tokens=room) as joined:
                assert joined.info == model.info
    with syncyte.Model(path, threads=1, cache_tokens=100) as small:
        assert small.info.context_length == small.info.cache_tokens == 100
        assert len(greedy(small)) == 24


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cache_tokens": 1}, "cache_tokens must be 2 to 16777216, not 1$"),
        (
            {"cache_tokens": 63, "context_length": 64},
            "64 to .*, not 63: one text takes context_length",
        ),
        ({"cache_tokens": 4096, "kv_unified": False}, "leave cache_tokens out"),
    ],
)
def test_cache_tokens_that_cannot_be(path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        syncyte.Model(path, **options)


def test_separate_caches_of_more_than_there_can_be(path: Path) -> None:
    with pytest.raises(ValueError, match=r"context_length × max_sequences = 268435456"):
        syncyte.Model(path, kv_unified=False, context_length=1 << 20, max_sequences=256)


def test_quantised_values_need_flash_attention(path: Path) -> None:
    for kv_type in ("q8_0", "q4_0", "f16,q8_0"):
        with pytest.raises(ValueError, match="needs flash attention"):
            syncyte.Model(path, kv_type=kv_type, flash_attention=False)
    with syncyte.Model(path, threads=1, kv_type="q8_0,f16", flash_attention=False) as model:
        assert len(greedy(model)) == 24


def test_a_cache_type_that_does_not_fit_the_model(tiny_model: Path) -> None:
    # Heads of 16 numbers, blocks of 32.
    with pytest.raises(syncyte.ModelError, match=r"no context.*block size"):
        syncyte.Model(tiny_model, threads=1, kv_type="q8_0")
    with syncyte.Model(tiny_model, threads=1) as model:
        assert model.info.kv_type == "f16"


def test_another_cache_is_another_engine_on_the_same_weights(path: Path) -> None:
    engines = _core._open_models()
    with syncyte.Model(path, threads=1) as plain:
        assert _core._open_models() == engines + 1
        with syncyte.Model(path, threads=1, kv_type="f16") as same, syncyte.Model(path) as left_out:
            assert _core._open_models() == engines + 1
            assert same.info == left_out.info == plain.info
        with syncyte.Model(path, threads=1, kv_type="q8_0", max_sequences=3) as other:
            assert _core._open_models() == engines + 2
            with syncyte.Model(path, kv_type="q8_0") as joined:
                assert joined.info.max_sequences == 3
            with pytest.raises(ValueError, match="max_sequences=3, not 4"):
                syncyte.Model(path, kv_type="q8_0", max_sequences=4)
            assert other.info.kv_type == "q8_0"
            assert greedy(plain) == greedy(plain)
            plain.close()
            assert len(greedy(other)) == 24  # the weights stay as long as anybody has them


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kv_type": "q5"}, ValueError, "kv_type must be"),
        ({"kv_type": ""}, ValueError, "kv_type must be"),
        ({"kv_type": "\udc80"}, ValueError, "lone surrogate"),
        ({"kv_type": 8}, TypeError, "kv_type must be str"),
        ({"kv_unified": 1}, TypeError, "kv_unified must be bool or None"),
        ({"flash_attention": 1}, TypeError, "flash_attention must be bool or None"),
        ({"gpu_layers": "all"}, TypeError, "gpu_layers must be int"),
        ({"gpu_layers": -2}, ValueError, "gpu_layers must be -1 to"),
        ({"devices": "CUDA0"}, TypeError, "devices must be a list"),
        ({"devices": [1]}, TypeError, "devices must be str"),
        ({"devices": ["no such device"]}, ValueError, 'no device "no such device"'),
        ({"rpc": "localhost:1"}, TypeError, "rpc must be a list"),
        ({"rpc": ["localhost"]}, ValueError, '"host:port"'),
        ({"rpc": ["localhost:99999"]}, ValueError, '"host:port"'),
    ],
)
def test_what_is_refused(path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        syncyte.Model(path, **options)


def test_the_cpu_alone(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    with syncyte.Model(path, threads=1, gpu_layers=0, devices=[]) as model:
        assert len(greedy(model)) == 24
        with syncyte.Model(path) as joined:
            assert joined.info == model.info
        with pytest.raises(ValueError, match="other gpu_layers"):
            syncyte.Model(path, gpu_layers=3)
        with pytest.raises(ValueError, match="other rpc"):
            syncyte.Model(path, rpc=["127.0.0.1:1"])


def test_servers_that_are_not_there(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    with socket.socket() as bound:  # its port is nobody else's, and nobody listens
        bound.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{bound.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(syncyte.ModelError, match=r"RPC"):
            syncyte.Model(path, rpc=[endpoint])
        assert time.monotonic() - start < 20


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        start = time.monotonic()
        with pytest.raises(syncyte.ModelError, match=r"RPC"):
            syncyte.Model(path, rpc=[f"127.0.0.1:{mute.getsockname()[1]}"])
        assert time.monotonic() - start < 30


RPC_SERVERS = ["ggml-rpc-server", *map(str, Path("/usr/libexec").glob("*/llama/bin/ggml-rpc-server"))]


@pytest.fixture
def rpc_endpoint() -> Iterator[str]:
    """A server of ggml's RPC backend on loopback; ended with the test."""
    program = next((found for found in map(shutil.which, RPC_SERVERS) if found), None)
    if program is None:
        pytest.skip("ggml-rpc-server is not installed (Debian: llama.cpp-tools-extra)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port), "-t", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            end = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert server.poll() is None, "ggml-rpc-server ended (Debian: libggml0-backend-rpc)"
                assert time.monotonic() < end, "ggml-rpc-server does not answer"
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()


def test_a_model_computed_by_a_server(tmp_path: Path, rpc_endpoint: str) -> None:
    """In a process of its own: what lies on a server stays registered with ggml until the process ends."""
    path = write_tiny_gguf(tmp_path / "m.gguf")
    with syncyte.Model(path, threads=1) as model:
        expected = greedy(model)
    code = f"""
import syncyte
with syncyte.Model({str(path)!r}, threads=1, rpc=[{rpc_endpoint!r}], gpu_layers=-1) as model:
    answer = model.generate({PROMPT!r}, max_tokens=24, temperature=0, ignore_eos=True)
    print(answer.tokens)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert ast.literal_eval(run.stdout) == expected
