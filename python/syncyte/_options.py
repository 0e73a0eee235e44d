"""Checks the options of a generation, in one place; GenerateOptions says what they mean."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOST = 2**31 - 1

# Options that say what the answer has to be: one of them, None is none.
shapes = ("grammar", "choices", "json_object", "json_schema")


def checked(caller: str, options: Mapping[str, object]) -> dict[str, object]:
    """The options as the engine takes them; what is left out is the engine's default.

    TypeError for an unknown name or a value of the wrong type, ValueError for one out of range. ``caller`` is
    the method that the user called.
    """
    given: dict[str, object] = {}
    for name, value in options.items():
        check = _checks.get(name)
        if check is not None:
            given[name] = check(name, value)
        elif name not in shapes:
            raise _unknown(caller, name)
        elif value is not None:
            _add_grammar(given, name, value, options)
    if given.get("dry_multiplier"):
        given.setdefault("dry_breakers", ("\n", ":", '"', "*"))
    given.setdefault("speculate", 0)
    if given.get("seed") is None:
        import os

        given["seed"] = int.from_bytes(os.urandom(8))
    return given


def _add_grammar(given: dict[str, object], name: str, value: object, options: Mapping[str, object]) -> None:
    others = [other for other in shapes if other != name and options.get(other) not in (None, False)]
    if others and value is not False:
        raise ValueError(f"{name} and {others[0]} say both what the answer has to be; only one of them can")
    from syncyte._structured.resolve import grammar_of

    grammar = grammar_of(name, value)
    if grammar is not None:
        given["grammar"] = grammar


def _unknown(caller: str, name: str) -> TypeError:
    import difflib

    near = difflib.get_close_matches(name, [*_checks, *shapes], n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    return TypeError(f"{caller}() got an unexpected keyword argument {name!r}{hint}")


def _whole(least: int, most: int = _MOST) -> Callable[[str, object], object]:
    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be int, not {type(value).__name__}")
        if not least <= value <= most:
            limits = f"{least} or more" if most == _MOST and value < least else f"from {least} to {most}"
            raise ValueError(f"{name} must be {limits}, not {value}")
        return value

    return check


def _number(least: float, most: float) -> Callable[[str, object], float]:
    def check(name: str, value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}")
        if not least <= value <= most:  # NaN is not
            raise ValueError(f"{name} must be from {least:g} to {most:g}, not {value!r}")
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} is larger than any float") from None

    return check


def _seed(name: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int or None, not {type(value).__name__}")
    return value % 2**64


def _stops(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        stops: tuple[object, ...] = (value,)
    else:
        try:
            stops = tuple(value)  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(f"{name} must be str or a list of str, not {type(value).__name__}") from None
    texts = tuple(text for text in stops if isinstance(text, str))
    if len(texts) < len(stops):
        odd = next(text for text in stops if not isinstance(text, str))
        raise TypeError(f"{name} must be str or a list of str, not of {type(odd).__name__}")
    if "" in texts:
        what = "a stop string" if name == "stop" else f"a text of {name}"
        raise ValueError(f"{what} cannot be empty")
    return texts


seconds = _number(0.0, float("inf"))


def _deadline(name: str, value: object) -> object:
    return float("inf") if value is None else seconds(name, value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    return value


def _flag(_: str, value: object) -> bool:
    return bool(value)


def _tokens(name: str, value: object) -> tuple[int, ...]:
    try:
        tokens: tuple[object, ...] = tuple(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a list of tokens, not {type(value).__name__}") from None
    check = _whole(0)
    return tuple(check(f"a token of {name}", token) for token in tokens)  # type: ignore[misc]


def _biases(name: str, value: object) -> tuple[tuple[int, float], ...]:
    try:
        pairs = tuple(value.items())  # type: ignore[attr-defined]
    except AttributeError:
        raise TypeError(f"{name} must be a dict of tokens and biases, not {type(value).__name__}") from None
    token, bias = _whole(0), _number(-100.0, 100.0)
    return tuple((token(f"a token of {name}", t), bias(f"a bias of {name}", b)) for t, b in pairs)  # type: ignore[misc]


def _logprobs(name: str, value: object) -> object:
    return -1 if value is None else _whole(0, 100)(name, value)


def _speculate(name: str, value: object) -> object:
    if value is True:
        return -1
    return 0 if value is None or value is False else _whole(0, 64)(name, value)


def _lora(name: str, value: object) -> object:
    from syncyte._core import Lora

    if value is not None and not isinstance(value, Lora):
        raise TypeError(f"{name} must be what Model.lora() gives, or None, not {type(value).__name__}")
    return value


adapter_scale = _number(-100.0, 100.0)

_checks: dict[str, Callable[[str, object], object]] = {
    "max_tokens": _whole(1),
    "temperature": _number(0.0, 1e6),
    "top_k": _whole(0),
    "top_p": _number(0.0, 1.0),
    "min_p": _number(0.0, 1.0),
    "repeat_penalty": _number(1e-3, 1e3),
    "dry_multiplier": _number(0.0, 100.0),
    "dry_base": _number(1.0, 100.0),
    "dry_allowed_length": _whole(1, 1000),
    "dry_breakers": _stops,
    "frequency_penalty": _number(-2.0, 2.0),
    "presence_penalty": _number(-2.0, 2.0),
    "typical_p": _number(0.0, 1.0),
    "mirostat": _whole(0, 2),
    "mirostat_tau": _number(0.0, 100.0),
    "mirostat_eta": _number(0.0, 1.0),
    "logit_bias": _biases,
    "logprobs": _logprobs,
    "stop_tokens": _tokens,
    "seed": _seed,
    "stop": _stops,
    "ignore_eos": _flag,
    "priority": _whole(-100, 100),
    "deadline": _deadline,
    "cache_salt": _text,
    "speculate": _speculate,
    "lora": _lora,
}
