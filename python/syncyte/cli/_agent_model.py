"""The model as an agent of `syncyte run` gets it: with the run's options as defaults, and watched."""

from time import monotonic
from typing import TYPE_CHECKING, Any

import syncyte
from syncyte._options import shapes
from syncyte.cli import _agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from syncyte.cli._worker import Outcome

# Pieces of an answer are shown together when they come faster than this (seconds).
_SHOW_EVERY = 0.03


class AgentModel:
    """All that syncyte.Model has; options that a call leaves out are those of the input line or of the run.

    Keeps account of the calls made for one input. Used by one worker alone.
    """

    def __init__(
        self, model: syncyte.Model, options: dict[str, Any], post: Callable[..., None] | None
    ) -> None:
        self.model = model
        self._run_options = options
        self._options = options
        self._post = post
        self._calls: list[syncyte.Completion] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __reduce__(self) -> Any:
        return self.model.__reduce__()

    def begin(self, line_options: dict[str, Any]) -> None:
        """Starts the account of a new input."""
        self._options = self._run_options
        self._options = self._with_defaults(line_options)
        self._calls = []

    def generate(self, prompt: Any, **options: Any) -> syncyte.Completion:
        """As Model.generate."""
        if self._post is None:
            completion = self.model.generate(prompt, **self._with_defaults(options))
            self._calls.append(completion)
            return completion
        return self._watched(self.stream(prompt, **options))

    def chat(self, messages: Sequence[Any], **options: Any) -> syncyte.Completion:
        """As Model.chat."""
        if self._post is None:
            completion = self.model.chat(messages, **self._with_defaults(options))
            self._calls.append(completion)
            return completion
        return self._watched(self.stream_chat(messages, **options))

    def stream(self, prompt: Any, **options: Any) -> _Stream:
        """As Model.stream."""
        return _Stream(self, self.model.stream(prompt, **self._with_defaults(options)))

    def stream_chat(self, messages: Sequence[Any], **options: Any) -> _Stream:
        """As Model.stream_chat."""
        return _Stream(self, self.model.stream_chat(messages, **self._with_defaults(options)))

    def outcome(self, value: object) -> Outcome:
        """What goes into the record for an agent that returned `value`. TypeError if nothing can."""
        found: Outcome = {}
        last = self._calls[-1] if self._calls else None
        if isinstance(value, syncyte.Completion):
            found["text"] = value.text
            last = value
            if not any(call is value for call in self._calls):
                self._calls.append(value)
        elif isinstance(value, str):
            found["text"] = _agent.plain(value)
        else:
            found["text"] = None
            found["result"] = _agent.plain(value)
        found["finish_reason"] = last.finish_reason if last is not None else None
        found["usage"] = _added(call.usage.as_dict() for call in self._calls)
        found["timings"] = self._timings()
        return found

    def _with_defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        if any(options.get(name) for name in shapes):
            # What the answer has to be is said once: here, and not by the run as well.
            return {**{name: value for name, value in self._options.items() if name not in shapes}, **options}
        return {**self._options, **options}

    def _watched(self, stream: _Stream) -> syncyte.Completion:
        for _ in stream:
            pass
        return self._calls[-1]

    def _timings(self) -> dict[str, Any] | None:
        """The seconds of all calls added up, and the speed over all of them."""
        times = _added(call.timings.as_dict() for call in self._calls)
        if times is not None:
            spent = times["total"] - times["first_token"]
            later = sum(max(0, call.usage.completion_tokens - 1) for call in self._calls)
            times["tokens_per_second"] = later / spent if spent > 0 else 0.0
        return times

    def _show(self, text: str, tokens: int) -> None:
        if self._post is not None:
            self._post("text", text, tokens)

    def _ended(self, completion: syncyte.Completion) -> None:
        self._calls.append(completion)


class _Stream:
    """The pieces of an answer, shown as they pass; `completion` is there when they have ended."""

    def __init__(self, owner: AgentModel, stream: Any) -> None:
        self._owner = owner
        self._stream = stream
        self._unseen: list[str] = []
        self._seen_tokens = 0
        self._shown_at = 0.0
        self._noted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            piece: str = next(self._stream)
        except StopIteration:
            self._show()
            if not self._noted:
                self._noted = True
                self._owner._ended(self._stream.completion)
            raise
        self._unseen.append(piece)
        now = monotonic()
        if now - self._shown_at >= _SHOW_EVERY:
            self._shown_at = now
            self._show()
        return piece

    def _show(self) -> None:
        if self._unseen:
            tokens = len(self._stream._tokens)
            self._owner._show("".join(self._unseen), tokens - self._seen_tokens)
            self._seen_tokens = tokens
            self._unseen.clear()


def _added(parts: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    sums: dict[str, Any] = {}
    for part in parts:
        for key, figure in part.items():
            sums[key] = sums.get(key, 0) + figure
    return sums or None


def just_answer(system: str | None, raw: bool) -> Callable[[str, AgentModel], syncyte.Completion]:
    """The built-in agent: asks the model in its chat format, or plainly where it has none."""
    before = [{"role": "system", "content": system}] if system is not None else []

    def agent(prompt: str, model: AgentModel) -> syncyte.Completion:
        if raw or not (before or model.info.has_chat_template):
            return model.generate(prompt)
        return model.chat([*before, {"role": "user", "content": prompt}])

    return agent
