"""Writes a tiny but complete llama-architecture GGUF: random weights, a byte-fallback SPM vocabulary.

It exercises every path a real model does (chat markers, end-of-generation tokens, pieces that split a
character) and loads in a few milliseconds. What it says is noise, but the same noise for the same seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

BOS, EOS, UNK, IM_START, IM_END = 1, 2, 0, 3, 4
FIRST_BYTE = 5

WORDS = (
    " the a an and or of to in is it that was for on are as with his they at be this have from one had by "
    " word but not what all were we when your can said there use each which she do how their if will up "
    "other about out many then them these so some her would make like him into time has look two more"
).split()

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Token texts, scores and types: specials, chat markers, the 256 bytes, characters, words."""
    control, unknown, byte, normal = (
        gguf.TokenType.CONTROL,
        gguf.TokenType.UNKNOWN,
        gguf.TokenType.BYTE,
        gguf.TokenType.NORMAL,
    )
    tokens = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    types = [unknown, control, control, control, control]
    tokens += [f"<0x{value:02X}>" for value in range(256)]
    types += [byte] * 256
    characters = ["▁", *(chr(code) for code in range(33, 127)), "é", "ü", "€", "日", "🙂"]
    words = list(dict.fromkeys(prefix + word for word in WORDS for prefix in ("▁", "") if len(word) > 1))
    # SentencePiece merges pairwise: every prefix of a word has to be a token for the word to be reached.
    steps = dict.fromkeys(word[:end] for word in words for end in range(2, len(word) + 1))
    pieces = [*characters, *(step for step in steps if step not in characters)]
    tokens += pieces
    types += [normal] * len(pieces)
    scores = [0.0] * FIRST_BYTE + [0.0] * 256 + [-float(rank) for rank in range(len(pieces))]
    return tokens, scores, [int(kind) for kind in types]


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 7,
    context_length: int = 512,
    embedding: int = 64,
    layers: int = 2,
    heads: int = 4,
    feed_forward: int = 128,
    chat_template: str | None = CHAT_TEMPLATE,
    architecture: str = "llama",
    with_tensors: bool = True,
) -> Path:
    """Writes the model to `path` and returns it. Same arguments, same bytes."""
    tokens, scores, types = vocabulary()
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(context_length)
    writer.add_embedding_length(embedding)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(embedding // heads)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNK)
    writer.add_eot_token_id(IM_END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    def add(name: str, *shape: int, scale: float = 1.0) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * scale).astype(np.float32))

    def add_norm(name: str) -> None:
        writer.add_tensor(name, np.ones(embedding, dtype=np.float32))

    if with_tensors:
        add("token_embd.weight", len(tokens), embedding)
        add("output.weight", len(tokens), embedding, scale=embedding**-0.5)
        add_norm("output_norm.weight")
        for layer in range(layers):
            block, scale = f"blk.{layer}.", embedding**-0.5
            add_norm(block + "attn_norm.weight")
            add_norm(block + "ffn_norm.weight")
            add(block + "attn_q.weight", embedding, embedding, scale=scale)
            add(block + "attn_k.weight", embedding // 2, embedding, scale=scale)
            add(block + "attn_v.weight", embedding // 2, embedding, scale=scale)
            add(block + "attn_output.weight", embedding, embedding, scale=scale)
            add(block + "ffn_gate.weight", feed_forward, embedding, scale=scale)
            add(block + "ffn_up.weight", feed_forward, embedding, scale=scale)
            add(block + "ffn_down.weight", embedding, feed_forward, scale=feed_forward**-0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
