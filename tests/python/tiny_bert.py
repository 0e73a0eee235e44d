"""Writes a tiny BERT as GGUF, to embed or to rank, and computes with numpy what it should give.

Random weights, a WordPiece vocabulary. The reference reads the tensors back from the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    type Array = NDArray[np.float32]
    type Tensors = dict[str, Array]

PAD, UNK, CLS, SEP, MASK = range(5)
HEADS = 4
EPSILON = 1e-12
WORDS = "the a of river bank money tree water boat loan house runs grows holds flows to in".split()


def write_tiny_bert(
    path: Path,
    *,
    pooling: gguf.PoolingType = gguf.PoolingType.CLS,
    embedding: int = 32,
    layers: int = 2,
    context_length: int = 64,
    seed: int = 3,
) -> Path:
    """Writes the model to `path` and returns it. With PoolingType.RANK it has a ranking head."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [word for word in WORDS if len(word) > 1]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *("▁" + w for w in [*letters, *words]), *letters]
    random = np.random.default_rng(seed)
    feed_forward = 2 * embedding
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny bert")
    writer.add_context_length(context_length)
    writer.add_embedding_length(embedding)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(2)
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5)
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_pad_token_id(PAD)
    writer.add_unk_token_id(UNK)
    writer.add_mask_token_id(MASK)

    def add(name: str, *shape: int, around: float = 0.0, scale: float = 0.25) -> None:
        values = around + random.standard_normal(shape) * scale
        writer.add_tensor(name, values.astype(np.float32))

    def norm(name: str) -> None:
        add(f"{name}.weight", embedding, around=1.0, scale=0.1)
        add(f"{name}.bias", embedding)

    def dense(name: str, rows: int, columns: int) -> None:
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows)

    add("token_embd.weight", len(tokens), embedding, scale=1.0)
    add("token_types.weight", 2, embedding)
    add("position_embd.weight", context_length, embedding)
    norm("token_embd_norm")
    for layer in range(layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            dense(f"blk.{layer}.{part}", embedding, embedding)
        dense(f"blk.{layer}.ffn_up", feed_forward, embedding)
        dense(f"blk.{layer}.ffn_down", embedding, feed_forward)
        norm(f"blk.{layer}.attn_output_norm")
        norm(f"blk.{layer}.layer_output_norm")
    if pooling == gguf.PoolingType.RANK:
        dense("cls", embedding, embedding)
        dense("cls.output", 1, embedding)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors_of(path: Path) -> Tensors:
    """All tensors of a file of 32-bit floats, by name."""
    reader = gguf.GGUFReader(path)
    return {t.name: np.array(t.data, dtype=np.float32).reshape(tuple(t.shape[::-1])) for t in reader.tensors}


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def bert_vectors(weights: Tensors, tokens: list[int]) -> Array:
    """What the last layer gives for each token."""

    def dense(x: Array, name: str) -> Array:
        result: Array = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return result

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        result: Array = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    count = len(tokens)
    x = weights["token_embd.weight"][tokens] + weights["token_types.weight"][0]
    x = norm(x + weights["position_embd.weight"][:count], "token_embd_norm")
    layer = 0
    while (block := f"blk.{layer}") + ".attn_q.weight" in weights:
        q, k, v = (
            dense(x, f"{block}.{part}").reshape(count, HEADS, -1).swapaxes(0, 1)
            for part in ("attn_q", "attn_k", "attn_v")
        )
        seen = softmax(q @ k.swapaxes(1, 2) / np.sqrt(np.float32(q.shape[-1]))) @ v
        told = dense(seen.swapaxes(0, 1).reshape(count, -1), f"{block}.attn_output")
        x = norm(x + told, f"{block}.attn_output_norm")
        up = dense(x, f"{block}.ffn_up")
        bent = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        x = norm(x + dense(bent, f"{block}.ffn_down"), f"{block}.layer_output_norm")
        layer += 1
    return x


def bert_score(weights: Tensors, tokens: list[int]) -> float:
    """What the ranking head says of a text."""
    first = bert_vectors(weights, tokens)[0]
    inner = np.tanh(weights["cls.weight"] @ first + weights["cls.bias"])
    return float((weights["cls.output.weight"] @ inner + weights["cls.output.bias"])[0])


def llama_vectors(weights: Tensors, tokens: list[int], heads: int) -> Array:
    """The same for the models of tiny_gguf: the vectors that its output layer would read."""

    def norm(x: Array, name: str) -> Array:
        result: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"]
        return result

    count = len(tokens)
    x = weights["token_embd.weight"][tokens]
    width = x.shape[-1] // heads
    angles = np.arange(count)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)

    def turned(vectors: Array) -> Array:
        even, odd = vectors[..., 0::2], vectors[..., 1::2]
        pairs = (even * np.cos(angles) - odd * np.sin(angles), even * np.sin(angles) + odd * np.cos(angles))
        result: Array = np.stack(pairs, axis=-1).reshape(vectors.shape)
        return result

    future = np.triu(np.full((count, count), -np.inf), 1)
    layer = 0
    while (block := f"blk.{layer}") + ".attn_q.weight" in weights:
        normed = norm(x, f"{block}.attn_norm")
        q, k, v = (
            (normed @ weights[f"{block}.{part}.weight"].T).reshape(count, -1, width).swapaxes(0, 1)
            for part in ("attn_q", "attn_k", "attn_v")
        )
        k, v = (np.repeat(part, heads // part.shape[0], axis=0) for part in (k, v))
        seen = softmax(turned(q) @ turned(k).swapaxes(1, 2) / np.sqrt(width) + future) @ v
        x = x + seen.swapaxes(0, 1).reshape(count, -1) @ weights[f"{block}.attn_output.weight"].T
        normed = norm(x, f"{block}.ffn_norm")
        gate = normed @ weights[f"{block}.ffn_gate.weight"].T
        up = normed @ weights[f"{block}.ffn_up.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{block}.ffn_down.weight"].T
        layer += 1
    return norm(x, "output_norm")
