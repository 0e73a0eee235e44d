"""Random LoRA adapters for the tiny llama model of tiny_gguf.py, sound and unsound ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def write_tiny_lora(
    path: Path,
    *,
    seed: int = 1,
    rank: int = 4,
    strength: float = 1.0,
    embedding: int = 64,
    layers: int = 2,
    feed_forward: int = 128,
    key_rows: int | None = None,
    architecture: str = "llama",
    kind: str = "adapter",
    adapter_type: str = "lora",
    alpha: float | None = None,
    leave_out: str = "",
    rename: tuple[str, str] = ("", ""),
    transposed: bool = False,
    dtype: type = np.float32,
    invocation: tuple[int, ...] = (),
) -> Path:
    """Writes the adapter to `path` and returns it. Same arguments, same bytes.

    `strength` of 1 changes the matrices by about as much as they hold: the text becomes another one. A tensor
    whose name contains `leave_out` is missing; `rename` changes a part of the names.
    """
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_string("adapter.type", adapter_type)
    if alpha is None:
        alpha = float(rank)
    writer.add_float32("adapter.lora.alpha", alpha)
    if invocation:
        writer.add_array("adapter.alora.invocation_tokens", list(invocation))

    def add(name: str, rows: int, columns: int) -> None:
        # B A has elements of about the size of the model's own.
        size = strength * columns**-0.5 * rank**-0.25
        a = random.standard_normal((rank, columns)) * size**0.5
        b = random.standard_normal((rows, rank)) * size**0.5 * rank**-0.25
        for suffix, matrix in ((".lora_a", a), (".lora_b", b)):
            full = (name + suffix).replace(*rename) if rename[0] else name + suffix
            if leave_out and leave_out in full:
                continue
            writer.add_tensor(full, np.ascontiguousarray(matrix.T if transposed else matrix).astype(dtype))

    keys = embedding // 2 if key_rows is None else key_rows
    for layer in range(layers):
        block = f"blk.{layer}."
        add(block + "attn_q.weight", embedding, embedding)
        add(block + "attn_k.weight", keys, embedding)
        add(block + "attn_v.weight", keys, embedding)
        add(block + "attn_output.weight", embedding, embedding)
        add(block + "ffn_gate.weight", feed_forward, embedding)
        add(block + "ffn_up.weight", feed_forward, embedding)
        add(block + "ffn_down.weight", embedding, feed_forward)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
