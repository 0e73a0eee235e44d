"""Writes the trained model as a GGUF with Q8_0 weights, loadable by libllama like any other.

/usr/bin/python3 models/export.py [--from build/model] [--to build/model/syncyte-demo.gguf]
"""

import argparse
import hashlib
from pathlib import Path

import gguf
import numpy as np
import torch

from network import Shape
from tokenizer import SPECIAL, Tokenizer

NAME = "syncyte-demo-q8_0.gguf"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_header(writer: gguf.GGUFWriter, shape: Shape, parameters: int) -> None:
    writer.add_name("syncyte demonstration model")
    writer.add_description(
        f"A tiny chat model of {parameters / 1e6:.1f} M weights, trained by the syncyte project."
    )
    writer.add_organization("syncyte")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)


def write_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * (len(SPECIAL) - 1)
    kinds += [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * (len(tokenizer) - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_scores(tokenizer.scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(tokenizer.bos)
    writer.add_eos_token_id(tokenizer.end)
    writer.add_eot_token_id(tokenizer.end)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def named_tensors(weights: dict[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
    """The weights under libllama's names; stacked projections are taken apart."""
    tensors = {"token_embd.weight": weights["embedding.weight"], "output_norm.weight": weights["norm.weight"]}
    for i in range(shape.layers):
        ours, theirs = f"layers.{i}.", f"blk.{i}."
        tensors[theirs + "attn_norm.weight"] = weights[ours + "attention_norm.weight"]
        query, key, value = weights[ours + "query_key_value.weight"].chunk(3)
        tensors |= {
            theirs + "attn_q.weight": query,
            theirs + "attn_k.weight": key,
            theirs + "attn_v.weight": value,
        }
        tensors[theirs + "attn_output.weight"] = weights[ours + "output.weight"]
        tensors[theirs + "ffn_norm.weight"] = weights[ours + "forward_norm.weight"]
        gate, up = weights[ours + "gate_up.weight"].chunk(2)
        tensors |= {theirs + "ffn_gate.weight": gate, theirs + "ffn_up.weight": up}
        tensors[theirs + "ffn_down.weight"] = weights[ours + "down.weight"]
    return tensors


def export(source: Path, target: Path) -> None:
    """Writes the GGUF of a training run. OSError or KeyError when the run is incomplete."""
    stored = torch.load(source / "weights.pt", weights_only=True)
    shape = Shape(**stored["shape"])
    tokenizer = Tokenizer.load(source / "vocabulary.json")
    tensors = named_tensors(stored["weights"], shape)
    writer = gguf.GGUFWriter(target, "llama")
    write_header(writer, shape, sum(t.numel() for t in tensors.values()))
    write_vocabulary(writer, tokenizer)
    for name, tensor in tensors.items():
        data = tensor.float().numpy().astype(np.float32)
        if data.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", type=Path, default=Path("build/model"))
    parser.add_argument("--to", dest="target", type=Path, default=Path("build/model") / NAME)
    options = parser.parse_args()
    export(options.source, options.target)
    data = options.target.read_bytes()
    print(f"{options.target}: {len(data) / 1e6:.2f} MB, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
