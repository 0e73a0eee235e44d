"""The options of a generation, as type checkers and editors see them."""

from collections.abc import Sequence
from typing import TypedDict


class GenerateOptions(TypedDict, total=False):
    """Keyword arguments of Model.generate(), stream(), chat() and stream_chat(): all may be left out."""

    max_tokens: int
    """At most so many tokens (default 128)."""
    temperature: float
    """0 takes the likeliest token always; higher is more varied (default 0.8)."""
    top_k: int
    """Choose among so many of the likeliest tokens; 0: all (default 40)."""
    top_p: float
    """Choose among the likeliest tokens that together have this probability; 1: all (default 0.95)."""
    min_p: float
    """Leave out tokens less likely than this share of the likeliest; 0: none (default 0.05)."""
    repeat_penalty: float
    """Above 1 makes what was among the last 64 tokens, prompt included, less likely (default 1: off)."""
    seed: int | None
    """The same seed gives the same choices (default None: another one each time)."""
    stop: str | Sequence[str]
    """Strings that end the text; never part of it (default none)."""
    ignore_eos: bool
    """Go on where the model would end (default False)."""
    priority: int
    """From -100 to 100; the highest goes first, and takes the place of a lower one that runs, which pauses
    and goes on later. Ten seconds of waiting count as one level, so everybody's turn comes (default 0)."""
    deadline: float | None
    """Seconds from now. Within a priority the earliest goes first. When another token would come too late the
    answer ends with what there is, and ``finish_reason`` is "deadline" (default None: no deadline)."""
    cache_salt: str
    """Only requests with the same one share cached beginnings: tenants cannot tell what others asked
    (default "")."""
    grammar: str | None
    """What the answer has to be, in GBNF, llama.cpp's notation: the rule ``root`` is all of it."""
    choices: Sequence[str] | None
    """The answer is one of these texts."""
    json_object: bool
    """The answer is a JSON object."""
    json_schema: object
    """The answer is JSON that satisfies this: a JSON Schema as a dict, a class with
    ``model_json_schema()``, a dataclass, a TypedDict, or a type made of those. ValueError names a keyword
    that cannot be expressed. An answer that ends by "length" is not whole."""


GenerateOptions.__module__ = "syncyte"
