"""Models for measuring: the llama architecture in real shapes, random weights and a complete vocabulary.

What such a model says is noise; how fast it says it is what a trained model of the same shape and
quantisation would take. By hand: `python benchmarks/models.py 0.3b q4_0` prints the path of the file, which
is kept for the next time.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

if not __package__:  # run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.prompts import CONSONANTS, VOWELS

Report = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, from 0 to 1."""

UNK, BOS, EOS = 0, 1, 2
FORMAT = 2
"""Part of the cached file's name: to be raised whenever the contents change."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a llama model."""

    embedding: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int = 32_000
    context: int = 8192
    heard: int | None = None
    """Layers after so many whisper: a model of these layers alone then says nearly the same."""
    sharp: float = 1.0
    """What the logits are multiplied by: random weights alone make all tokens about as likely."""

    @property
    def parameters(self) -> int:
        return sum(rows * columns for _, rows, columns in self.matrices())

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Name, rows and columns of every matrix, in the order in which the file has them."""
        wide, narrow = self.embedding, self.embedding // self.heads * self.kv_heads
        yield "token_embd.weight", self.vocabulary, wide
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield f"{block}attn_q.weight", wide, wide
            yield f"{block}attn_k.weight", narrow, wide
            yield f"{block}attn_v.weight", narrow, wide
            yield f"{block}attn_output.weight", wide, wide
            yield f"{block}ffn_gate.weight", self.feed_forward, wide
            yield f"{block}ffn_up.weight", self.feed_forward, wide
            yield f"{block}ffn_down.weight", wide, self.feed_forward
        yield "output.weight", self.vocabulary, wide

    def norms(self) -> list[str]:
        layers = range(self.layers)
        return [f"blk.{layer}.{name}_norm.weight" for layer in layers for name in ("attn", "ffn")] + [
            "output_norm.weight"
        ]


SHAPES = {
    "tiny": Shape(64, 2, 256, 4, 2, vocabulary=2000, context=2048),
    "0.1b": Shape(768, 10, 2048, 12, 4),
    "0.3b": Shape(1024, 16, 4096, 16, 4),
    "1b": Shape(2048, 16, 8192, 32, 8),
    # A model and its draft model: the same embeddings, the same first layers.
    "1b-echo": Shape(2048, 16, 8192, 32, 8, heard=2, sharp=6.0),
    "1b-echo-draft": Shape(2048, 2, 8192, 32, 8, sharp=6.0),
}
WHISPER = 0.02
"""What a layer that whispers adds, beside one that does not."""


def vocabulary(size: int) -> tuple[list[str], list[float], list[int]]:
    """Texts, scores and types of a SentencePiece vocabulary: specials, bytes, ASCII, syllables, words.

    Every word is reached by merging pairs that are tokens too, so that text of such words tokenises to whole
    words: see prompts.py.
    """
    kinds = gguf.TokenType
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256]
    syllables = [first + second for first in CONSONANTS for second in VOWELS]
    characters = ["▁", *(chr(code) for code in range(33, 127))]
    pairs = [first + second for first, second in itertools.product(syllables, repeat=2)]
    pieces = itertools.chain(
        characters,
        (space + piece for group in (syllables, pairs) for piece in group for space in ("", "▁")),
        (first + second for first, second in itertools.product(pairs, syllables)),
    )
    if size < len(texts) + len(characters):
        raise ValueError(f"a vocabulary needs at least {len(texts) + len(characters)} tokens, not {size}")
    merged = list(itertools.islice(pieces, size - len(texts)))
    scores = [0.0] * len(texts) + [-float(rank) for rank in range(len(merged))]
    return texts + merged, scores, [int(kind) for kind in types] + [int(kinds.NORMAL)] * len(merged)


def write_f16(path: Path, shape: Shape, report: Report, seed: int = 1) -> None:
    """Writes the model in half precision; one matrix at a time is in memory."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_metadata(writer, shape)
    for name in shape.norms():
        writer.add_tensor_info(name, [shape.embedding], np.dtype(np.float32), shape.embedding * 4)
    for name, rows, columns in shape.matrices():
        writer.add_tensor_info(name, [rows, columns], np.dtype(np.float16), rows * columns * 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in shape.norms():
        writer.write_tensor_data(np.ones(shape.embedding, dtype=np.float32))
    written = 0
    for name, rows, columns in shape.matrices():
        # By its name: models that differ in layers have the others in common.
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        matrix = random.standard_normal((rows, columns), dtype=np.float32)
        matrix *= np.float32(_scale(shape, name, columns))
        writer.write_tensor_data(matrix.astype(np.float16))
        written += rows * columns
        report("random weights", written / shape.parameters)
    writer.close()


def _scale(shape: Shape, name: str, columns: int) -> float:
    """Rows of unit length on average keep activations in a trained model's range."""
    if name == "token_embd.weight":
        return 1.0
    scale: float = columns**-0.5
    if name == "output.weight":
        return scale * shape.sharp
    adds = name.endswith(("attn_output.weight", "ffn_down.weight"))
    whispers = shape.heard is not None and int(name.split(".")[1]) >= shape.heard
    return scale * WHISPER if adds and whispers else scale


def _add_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    texts, scores, types = vocabulary(shape.vocabulary)
    writer.add_name(f"random weights, {shape.parameters / 1e9:.2f} B")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNK)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def quantise(source: Path, target: Path, kind: str, report: Report) -> None:
    """Quantises with llama-quantize, as published models are; RuntimeError with its words on failure."""
    command = ["llama-quantize", str(source), str(target), kind.upper()]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if match := re.match(r"\[\s*(\d+)/\s*(\d+)\]", line):
                report(f"quantising to {kind}", int(match[1]) / int(match[2]))
    if process.returncode != 0:
        raise RuntimeError(f"llama-quantize ended with {process.returncode}:\n{''.join(lines[-5:])}")


def cache_folder() -> Path:
    """$SYNCYTE_BENCH_MODELS, or build/models of the source tree."""
    chosen = os.environ.get("SYNCYTE_BENCH_MODELS")
    return Path(chosen) if chosen else Path(__file__).resolve().parent.parent / "build" / "models"


def model(size: str, kind: str = "q4_0", *, folder: Path | None = None, report: Report | None = None) -> Path:
    """The path of the model of this size ("0.3b") and kind ("q4_0", "f16", ...), made when missing."""
    if size not in SHAPES:
        raise ValueError(f"no shape named {size!r}; there are {', '.join(SHAPES)}")
    report = report or (lambda _what, _share: None)
    folder = folder or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    kind = kind.lower()
    path = folder / f"random-{size}-{kind}-{FORMAT}.gguf"
    if path.exists():
        return path
    source, partial = (folder / f".{os.getpid()}-{path.stem}.{part}" for part in ("f16", "partial"))
    try:
        write_f16(source, SHAPES[size], report)
        if kind == "f16":
            return source.replace(path)
        quantise(source, partial, kind, report)
        return partial.replace(path)
    finally:
        source.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def model_with_progress(size: str, kind: str = "q4_0") -> Path:
    """model(), with a progress bar on standard error while it is made."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0, visible=False)

        def report(what: str, share: float) -> None:
            progress.update(task, description=f"{size} {kind}: {what}", completed=share, visible=True)

        return model(size, kind, report=report)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("size", choices=list(SHAPES))
    parser.add_argument("kind", nargs="?", default="q4_0", help="q4_0 (default), q8_0, q4_k_m, f16, ...")
    options = parser.parse_args()
    print(model_with_progress(options.size, options.kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
