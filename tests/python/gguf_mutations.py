"""Opens damaged copies of a GGUF file, one after the other, in this process: run as a program by its test.

usage: gguf_mutations.py FILE FOLDER SEED COUNT [MODEL]

The file is a model, or with MODEL a LoRA adapter for that one.

Prints one line per copy before it is opened and one after, so that a death names its cause.
"""

from __future__ import annotations

import random
import re
import struct
import sys
from pathlib import Path

import syncyte

KEY = re.compile(rb"(?:general|llama|bert|tokenizer|adapter)\.[a-z_.]+")
TENSOR = re.compile(rb"[a-z0-9_.]+\.(?:bias|weight(?:\.lora_[ab])?)")
ODD = [0, 1, 2, 3, 7, 31, 63, 65, 255, 637, 638, 639, 4096, 2**31 - 1, 2**31, 2**32 - 1]


def header_of(data: bytes) -> int:
    """Bytes of metadata, vocabulary and tensor directory."""
    return max(found.end() for found in TENSOR.finditer(data)) + 32


def mutate(data: bytes, header: int, draw: random.Random) -> tuple[bytes, str]:
    """A damaged copy, and what was done to it."""
    kind = draw.choice(
        [
            "flip",
            "number",
            "text",
            "cut",
            "swap",
            "erase",
            "repeat",
            "body",
            "value",
            "value",
            "tensor",
            "tensor",
        ]
    )
    copy = bytearray(data)
    at = draw.randrange(header)
    if kind == "flip":
        for _ in range(draw.randint(1, 4)):
            copy[draw.randrange(header)] ^= 1 << draw.randrange(8)
    elif kind == "number":
        width, form = draw.choice([(4, "<I"), (8, "<Q")])
        value = draw.choice([*ODD, draw.randrange(2**32)])
        copy[at : at + width] = struct.pack(form, value)
    elif kind == "value":
        # The value of a key, the structure left as it is. Of arrays: the type, the count or an element.
        key = draw.choice(list(KEY.finditer(data[:header])))
        at = (
            key.end()
            + 4
            + (draw.choice([0, 4, 12, 12 + 4 * draw.randrange(600)]) if key[0][:1] == b"t" else 0)
        )
        copy[at : at + 4] = struct.pack("<I", draw.choice([*ODD, draw.randrange(2**32)]))
    elif kind == "tensor":
        # A tensor's number of dimensions, a dimension, its type or its place.
        name = draw.choice(list(TENSOR.finditer(data[:header])))
        at = name.end() + draw.choice([0, 4, 12, 20, 24])
        copy[at : at + 4] = struct.pack("<I", draw.choice(ODD))
    elif kind == "text":
        copy[at] = draw.randrange(256)
    elif kind == "cut":
        del copy[draw.randrange(len(copy)) :]
    elif kind == "swap":
        other, size = draw.randrange(header), draw.randint(1, 32)
        copy[at : at + size], copy[other : other + size] = copy[other : other + size], copy[at : at + size]
    elif kind == "erase":
        del copy[at : at + draw.randint(1, 64)]
    elif kind == "repeat":
        copy[at:at] = copy[at : at + draw.randint(1, 64)]
    else:
        at = draw.randrange(header, len(copy) - 64)
        copy[at : at + 64] = draw.randbytes(64)
    return bytes(copy), f"{kind} at {at}"


def use(model: syncyte.Model) -> None:
    """Has it do what its file says it is for."""
    model.detokenize(model.tokenize("the other word"))
    if model.info.generates:
        model.generate("the other", max_tokens=3, seed=1)
    else:
        model.rerank("the bank", ["the river", "money", "the river grows in to the water"])
    model.embed(["the river flows", "money"], pooling="mean" if model.info.pooling == "rank" else None)
    model.embed(["a house", ""], pooling="last", normalize=False)


def try_to_use(path: Path) -> str:
    """Opens the file and, where that works, generates with it, or embeds and ranks."""
    try:
        with syncyte.Model(path, threads=1, context_length=64, max_sequences=2) as model:
            use(model)
            return "works"
    except (syncyte.ModelError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def try_to_adapt(model: syncyte.Model, path: Path) -> str:
    """Loads the file as an adapter of the model and, where that works, generates with it."""
    try:
        with model.lora(path) as lora:
            model.generate("the other", max_tokens=3, seed=1, lora=lora)
            return "works"
    except (syncyte.ModelError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Runs the mutations named on the command line."""
    model = syncyte.Model(sys.argv[5], threads=1, max_sequences=2) if len(sys.argv) > 5 else None
    data, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
    seed, count = int(sys.argv[3]), int(sys.argv[4])
    header = header_of(data)
    for number in range(seed, seed + count):
        copy, what = mutate(data, header, random.Random(number))
        path = folder / f"{number}.gguf"
        path.write_bytes(copy)
        print(f"{number}: {what}", flush=True)
        print(f"  {try_to_adapt(model, path) if model else try_to_use(path)}", flush=True)
        path.unlink()
    print("all done", flush=True)


if __name__ == "__main__":
    main()
