"""The options of a generation, as type checkers and editors see them."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from syncyte._core import Lora


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
    frequency_penalty: float
    """Lowers what was among the last 64 tokens for each time it was there, from -2 to 2 (default 0)."""
    presence_penalty: float
    """Lowers what was among the last 64 tokens once, from -2 to 2 (default 0)."""
    dry_multiplier: float
    """Above 0 makes it less likely to go on with a sequence of tokens that was there before, anywhere in
    prompt and answer: by ``dry_multiplier * dry_base ** (length - dry_allowed_length)`` (default 0: off)."""
    dry_base: float
    """How much each further token of a repetition adds (default 1.75)."""
    dry_allowed_length: int
    """Repetitions shorter than this are free (default 2)."""
    dry_breakers: str | Sequence[str]
    """A repetition does not reach over tokens with these texts (default newline, colon, quote, asterisk)."""
    typical_p: float
    """Choose among the tokens about as surprising as is to be expected that together have this probability;
    1: all (default 1)."""
    mirostat: int
    """1 or 2: choose such that the text is as surprising as ``mirostat_tau`` says, by that version of
    Mirostat, instead of by top_k, top_p, min_p and typical_p (default 0: not)."""
    mirostat_tau: float
    """Surprise per token that mirostat aims at, in bits (default 5)."""
    mirostat_eta: float
    """How fast mirostat follows its aim, from 0 to 1 (default 0.1)."""
    logit_bias: Mapping[int, float]
    """Makes tokens more or less likely, from -100 (never) to 100 (always)."""
    stop_tokens: Sequence[int]
    """Tokens that end the text as the model's own end does; never part of it."""
    logprobs: int | None
    """Report with each token its log probability, and so many of the likeliest instead, 0 to 100, as
    ``Completion.logprobs`` (default None: not). They are the model's own, before all of the above."""
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
    (at most 1,024 bytes; default "")."""
    speculate: bool | int | None
    """Guess tokens ahead from where the text's end was seen before, in the prompt, the answer or the cache,
    or else by the draft model, and compute them along with the next one; those that come indeed cost no step.
    The answer is chosen as without. True: as many as pay by measured time and hits; False: none; an int up to
    64: at most so many, wherever there is a guess; None: none (default None)."""
    lora: Lora | None
    """An adapter of the model, made by Model.lora(), to compute this with (default None: the model alone)."""
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
