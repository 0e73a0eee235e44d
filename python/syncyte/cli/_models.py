"""The options that choose and set up a model, shared by the commands."""

import argparse
from typing import TYPE_CHECKING, Any, cast

from syncyte.cli._arguments import CommandError, usage_error, whole_number

if TYPE_CHECKING:
    import syncyte

_SETTINGS = (
    "context_length",
    "max_sequences",
    "cache_tokens",
    "threads",
    "kv_type",
    "flash_attention",
    "kv_unified",
    "draft_model",
    "gpu_layers",
)


def add_to(group: argparse._ArgumentGroup) -> None:
    """Adds --model and its settings."""
    number = cast("Any", whole_number(1))
    group.add_argument(
        "--model",
        metavar="M.gguf",
        help="GGUF file; without it the small demonstration model that comes along",
    )
    group.add_argument(
        "--context-length", metavar="N", type=number, help="tokens a prompt and its answer may take together"
    )
    group.add_argument(
        "--max-sequences", metavar="N", type=number, help="how many answers one step may advance"
    )
    group.add_argument(
        "--cache-tokens", metavar="N", type=number, help="tokens the KV cache holds, of all texts together"
    )
    group.add_argument("--threads", metavar="N", type=number, help="threads that compute for the model")
    group.add_argument(
        "--kv-type",
        metavar="TYPE",
        help="what the KV cache holds: f16 (default), f32, q8_0, q4_0, or two for keys and values: q8_0,f16",
    )
    group.add_argument(
        "--flash-attention",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="have flash attention, or not; otherwise libllama decides",
    )
    group.add_argument(
        "--kv-unified",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="one KV cache that all answers share (default), or one of --context-length for each",
    )
    group.add_argument(
        "--draft-model",
        metavar="D.gguf",
        help="small model of the same vocabulary that guesses ahead, where --speculate asks for guesses",
    )
    group.add_argument(
        "--gpu-layers",
        metavar="N",
        type=cast("Any", whole_number(0)),
        help="layers that leave the CPU (default: all, where there is an accelerator)",
    )


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments for syncyte.Model that the command line gave."""
    return {name: value for name in _SETTINGS if (value := getattr(arguments, name)) is not None}


def path_of(arguments: argparse.Namespace) -> str:
    """The model file to use: the one given, else the one that comes with the package."""
    if arguments.model is not None:
        return str(arguments.model)
    import syncyte

    embedded = getattr(syncyte, "embedded_model_path", None)
    if embedded is None:
        raise usage_error("no model: name a GGUF file with --model")
    try:
        return str(embedded())
    except FileNotFoundError as error:
        raise usage_error(f"no model: name a GGUF file with --model ({error})") from None


def load(path: str, options: dict[str, Any]) -> syncyte.Model:
    """The model, loaded; what is wrong with the file becomes the command's message."""
    import syncyte

    try:
        return syncyte.Model(path, **options)
    except (syncyte.ModelError, OSError, ValueError) as error:
        raise CommandError(str(error)) from None
