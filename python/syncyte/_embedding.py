"""Embeddings and rankings: what Model.embed() and Model.rerank() do."""

from typing import TYPE_CHECKING

from syncyte import _core

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    type Pooling = Literal["mean", "cls", "last"]


def request(
    model: _core.Model, texts: Sequence[str], normalize: bool, pooling: Pooling | None
) -> _core.Request:
    """The request for the vectors of ``texts``; checks everything that can be checked before."""
    listed = _texts("texts", texts)
    if not isinstance(normalize, bool):
        raise TypeError(f"normalize must be bool, not {type(normalize).__name__}")
    own = model._info()["pooling"]
    if pooling is None:
        if own == "rank":
            raise ValueError('this model ranks texts: use rerank(), or name a pooling ("cls")')
        pooling = "mean" if own == "none" else own  # type: ignore[assignment]
    elif pooling not in ("mean", "cls", "last"):
        raise ValueError(f'pooling must be "mean", "cls", "last" or None, not {pooling!r}')
    return model._embed(listed, str(pooling), normalize)


def buffer_of(request: _core.Request) -> _core.SharedBuffer:
    """Waits for the vectors: float32, one row of each text."""
    request.finish()
    vectors, length = request.vectors()
    rows = len(vectors) // (4 * length)
    return _core.SharedBuffer.from_buffer(vectors).view((rows, length), "f")


class Ranking:
    """A ranking that is being computed: after ``request`` has finished, result() has it."""

    def __init__(self, model: _core.Model, query: str, documents: Sequence[str]) -> None:
        if not isinstance(query, str):
            raise TypeError(f"query must be str, not {type(query).__name__}")
        listed = _texts("documents", documents)
        info = model._info()
        self._ranks = info["pooling"] == "rank"
        if self._ranks:
            template = str(info["rerank_template"])
            pairs = [_pair(model, template, query, document) for document in listed]
            self.request = model._embed(pairs, "rank", False)
        elif info["pooling"] == "none" and info["generates"]:
            raise ValueError("rerank() needs a model that ranks or embeds texts; this one generates them")
        else:
            pooling = "mean" if info["pooling"] == "none" else str(info["pooling"])
            self.request = model._embed([query, *listed] if listed else [], pooling, True)

    def result(self) -> list[tuple[int, float]]:
        """(index, score) of each document, the best first."""
        from array import array

        data, length = self.request.vectors()
        numbers = array("f", data)
        rows = [numbers[start : start + length] for start in range(0, len(numbers), length)]
        if self._ranks:
            scores = [row[0] for row in rows]
        else:
            import math

            scores = [math.sumprod(rows[0], row) for row in rows[1:]]
        return sorted(enumerate(scores), key=lambda pair: -pair[1])


def _texts(name: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"{name} must be a list of str, not {type(texts).__name__}")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{index}] must be str, not {type(text).__name__}")
    return listed


def _pair(model: _core.Model, template: str, query: str, document: str) -> list[int]:
    """Tokens of both, as the model wants them. Control tokens come from the template only."""
    if not template:
        return model._pair(query, document)
    import re

    from syncyte import _chat

    messages, marker = _chat.break_control_texts(model, [{"query": query, "document": document}], template)
    told = {"{query}": messages[0]["query"], "{document}": messages[0]["document"]}
    text = re.sub(r"\{query\}|\{document\}", lambda found: told[found[0]], template)
    tokens: list[int] = []
    for index, piece in enumerate(text.split(marker) if marker else [text]):
        tokens += model._tokenize(piece, index == 0, True)
    return tokens
