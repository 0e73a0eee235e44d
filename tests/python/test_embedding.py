"""Model.embed and Model.rerank, against the same models computed with numpy."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING, Any, cast

import gguf
import numpy as np
import pytest
from tiny_bert import CLS, SEP, WORDS, bert_score, bert_vectors, llama_vectors, tensors_of, write_tiny_bert
from tiny_gguf import write_tiny_gguf

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

TEXTS = ["the bank of the river", "money", "a tree grows", "the river flows in to the water", "loan of money"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedding")


@pytest.fixture(scope="module")
def bert_path(folder: Path) -> Path:
    return write_tiny_bert(folder / "bert.gguf", pooling=gguf.PoolingType.CLS)


@pytest.fixture
def bert(bert_path: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(bert_path, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def ranker_path(folder: Path) -> Path:
    return write_tiny_bert(folder / "ranker.gguf", pooling=gguf.PoolingType.RANK)


@pytest.fixture
def llama(tiny_model: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(tiny_model, threads=1) as opened:
        yield opened


def array_of(buffer: syncyte.SharedBuffer) -> NDArray[np.float32]:
    assert buffer.dtype == "float32"
    return np.array(cast("Any", memoryview(buffer)), dtype=np.float32).reshape(buffer.shape)


def pooled(vectors: NDArray[np.float32], pooling: str) -> NDArray[np.float32]:
    result = {"mean": vectors.mean(axis=0), "cls": vectors[0], "last": vectors[-1]}[pooling]
    return cast("NDArray[np.float32]", result)


def normalised(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", vector / np.linalg.norm(vector))


def random_text(generator: random.Random, words: int) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(words))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_bert_gives_what_numpy_gives(bert: syncyte.Model, bert_path: Path, pooling: Any) -> None:
    weights = tensors_of(bert_path)
    generator = random.Random(4)
    texts = [*TEXTS, *(random_text(generator, generator.randint(1, 60)) for _ in range(80))]
    given = array_of(bert.embed(texts, normalize=False, pooling=pooling))
    assert given.shape == (len(texts), 32)
    for text, vector in zip(texts, given, strict=True):
        wanted = pooled(bert_vectors(weights, bert.tokenize(text)), pooling)
        np.testing.assert_allclose(vector, wanted, atol=0.02)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_generative_model_gives_what_numpy_gives(
    tiny_model: Path, llama: syncyte.Model, pooling: Any
) -> None:
    weights = tensors_of(tiny_model)
    # The last two are computed in several steps.
    texts = ["the", "one of the other words", "word by word " * 30, "some would make time " * 20]
    given = array_of(llama.embed(texts, pooling=pooling))
    for text, vector in zip(texts, given, strict=True):
        wanted = normalised(pooled(llama_vectors(weights, llama.tokenize(text), heads=4), pooling))
        assert float(vector @ wanted) > 0.999


def test_what_the_file_says_is_the_default(bert: syncyte.Model, llama: syncyte.Model) -> None:
    assert bert.info.pooling == "cls"
    assert not bert.info.generates
    assert bert.embed(TEXTS).tobytes() == bert.embed(TEXTS, pooling="cls").tobytes()
    assert llama.info.pooling == "none"
    assert llama.info.generates
    assert llama.embed(TEXTS).tobytes() == llama.embed(TEXTS, pooling="mean").tobytes()


def test_alone_or_together_in_any_order(bert: syncyte.Model, llama: syncyte.Model) -> None:
    generator = random.Random(9)
    texts = [random_text(generator, generator.randint(1, 40)) for _ in range(150)]
    for model in (bert, llama):
        together = array_of(model.embed(texts))
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        backwards = array_of(model.embed(texts[::-1]))[::-1]
        np.testing.assert_allclose(together, backwards, atol=0.01)
        for index in range(0, len(texts), 15):
            np.testing.assert_allclose(together[index], array_of(model.embed([texts[index]]))[0], atol=0.01)
        same = array_of(model.embed(["the river", "money", "the river"]))
        np.testing.assert_allclose(same[0], same[2], atol=0.01)
        assert not np.allclose(same[0], same[1], atol=0.05)


def test_the_length_is_left_on_request(bert: syncyte.Model) -> None:
    raw = array_of(bert.embed(TEXTS, normalize=False))
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1, atol=0.1)
    for vector, unit in zip(raw, array_of(bert.embed(TEXTS)), strict=True):
        np.testing.assert_allclose(normalised(vector), unit, atol=1e-4)


def test_no_texts(bert: syncyte.Model, llama: syncyte.Model) -> None:
    assert bert.embed([]).shape == (0, 32)
    assert llama.embed(()).shape == (0, 64)
    assert bert.rerank("money", []) == []


def test_generating_goes_on_meanwhile(llama: syncyte.Model) -> None:
    asked: dict[str, Any] = {"max_tokens": 200, "temperature": 0, "ignore_eos": True}
    alone = llama.generate("hello", **asked).tokens
    stream = llama.stream("hello", **asked)
    next(stream)
    vectors = array_of(llama.embed(["word by word " * 25] * 20))
    for _ in stream:
        pass
    assert stream.completion.tokens == alone
    np.testing.assert_allclose(vectors, np.tile(vectors[0], (20, 1)), atol=0.01)


def test_many_threads_and_a_closed_model(bert_path: Path) -> None:
    model = syncyte.Model(bert_path, threads=1)
    wanted = array_of(model.embed(TEXTS))
    found: list[NDArray[np.float32]] = []

    def ask() -> None:
        for _ in range(10):
            found.append(array_of(model.embed(TEXTS)))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 60
    for one in found:
        np.testing.assert_allclose(one, wanted, atol=0.01)
    model.close()
    with pytest.raises(syncyte.ClosedError):
        model.embed(TEXTS)


def test_a_ranking_model_gives_what_numpy_gives(ranker_path: Path) -> None:
    weights = tensors_of(ranker_path)
    query = "the bank of the river"
    generator = random.Random(2)
    documents = [*TEXTS, *(random_text(generator, generator.randint(1, 30)) for _ in range(40))]
    with syncyte.Model(ranker_path, threads=1) as model:
        assert model.info.pooling == "rank"
        ranking = model.rerank(query, documents)
        assert sorted(index for index, _ in ranking) == list(range(len(documents)))
        scores = [score for _, score in ranking]
        assert scores == sorted(scores, reverse=True)
        for index, score in ranking:
            words = [model.tokenize(text, add_special=False) for text in (query, documents[index])]
            tokens = [CLS, *words[0], SEP, *words[1], SEP]
            assert score == pytest.approx(bert_score(weights, tokens), abs=0.02)
        with pytest.raises(ValueError, match=r"use rerank"):
            model.embed(TEXTS)
        assert model.embed(TEXTS, pooling="cls").shape == (5, 32)


def test_an_embedding_model_ranks_by_cosine(bert: syncyte.Model, llama: syncyte.Model) -> None:
    query = "the bank of the river"
    ranking = bert.rerank(query, TEXTS)
    assert ranking[0] == (0, pytest.approx(1, abs=1e-3))
    vectors = array_of(bert.embed([query, *TEXTS]))
    cosines = vectors[1:] @ vectors[0]
    for index, score in ranking:
        assert score == pytest.approx(float(cosines[index]), abs=0.01)
    assert [score for _, score in ranking] == sorted((s for _, s in ranking), reverse=True)
    assert [index for index, _ in bert.rerank("money", ["tree"] * 4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="generates them"):
        llama.rerank("money", TEXTS)


def test_async_twins(bert: syncyte.Model, ranker_path: Path) -> None:
    async def main() -> None:
        both = await asyncio.gather(*(bert.aembed(TEXTS) for _ in range(5)))
        for one in both:
            np.testing.assert_allclose(array_of(one), array_of(bert.embed(TEXTS)), atol=0.01)
        assert (await bert.aembed([])).shape == (0, 32)
        with syncyte.Model(ranker_path, threads=1) as ranker:
            wanted = ranker.rerank("money", TEXTS)
            assert [i for i, _ in await ranker.arerank("money", TEXTS)] == [i for i, _ in wanted]
        task = asyncio.create_task(bert.aembed(TEXTS * 2000))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_is_refused(bert: syncyte.Model, llama: syncyte.Model) -> None:
    model: Any = bert
    with pytest.raises(TypeError, match="texts must be a list of str, not str"):
        model.embed("money")
    with pytest.raises(TypeError, match=r"texts\[1\] must be str, not int"):
        model.embed(["money", 5])
    with pytest.raises(ValueError, match="lone surrogate"):
        model.embed(["money", "\udc80"])
    with pytest.raises(ValueError, match='pooling must be "mean"'):
        model.embed(["money"], pooling="rank")
    with pytest.raises(TypeError, match="normalize must be bool"):
        model.embed(["money"], normalize=1)
    too_long = "river " * 70
    with pytest.raises(ValueError, match=r"text 1 has 72 tokens, and the model takes 64"):
        model.embed(["money", too_long])
    with pytest.raises(ValueError, match="and the model takes 64"):
        model.rerank("money", [too_long])
    with pytest.raises(TypeError, match="query must be str"):
        model.rerank(3, ["money"])
    with pytest.raises(TypeError, match=r"documents must be a list"):
        model.rerank("money", "money")
    with pytest.raises(ValueError, match="generates no text"):
        model.generate("money")
    with pytest.raises(ValueError, match=r"text 0 has \d+ tokens, and the model takes 512"):
        llama.embed(["word " * 600])
    assert bert.embed([""]).shape == (1, 32)  # its marks are tokens
    assert bert.stats().running == 0


def test_the_marks_of_a_vocabulary_are_plain_in_a_text(bert: syncyte.Model) -> None:
    texts = array_of(bert.embed(["money [SEP] money", "money money"]))
    assert not np.allclose(texts[0], texts[1], atol=0.01)
    assert SEP not in bert.tokenize("money [SEP] money", add_special=False)


def test_a_context_longer_than_the_places_of_the_model(folder: Path) -> None:
    path = write_tiny_bert(folder / "short.gguf", context_length=32)
    with syncyte.Model(path, threads=1, context_length=4000) as model:
        assert model.info.context_length == 32
        with pytest.raises(ValueError, match="takes 32"):
            model.embed(["river " * 40])


def test_long_texts_get_room_when_they_come(folder: Path) -> None:
    path = write_tiny_gguf(folder / "long.gguf", context_length=2048)
    with syncyte.Model(path, threads=1) as model:
        short = array_of(model.embed(["the river"]))
        sizes = [10, 400, 100, 650, 3]
        mixed = array_of(model.embed(["word " * size for size in sizes] + ["the river"]))
        np.testing.assert_allclose(mixed[-1], short[0], atol=0.01)
        for index, size in enumerate(sizes):
            np.testing.assert_allclose(array_of(model.embed(["word " * size]))[0], mixed[index], atol=0.02)
