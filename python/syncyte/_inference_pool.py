"""InferencePool: warm interpreters that answer prompts with one shared model."""

import os
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import Any, Self

from syncyte import _inference_worker, _travel
from syncyte._completion import Completion
from syncyte._core import Receiver, create_channel
from syncyte._model import Model
from syncyte._pool import InterpreterPool, PoolFuture, Submitter

__all__ = ["InferencePool", "run_parallel"]


class InferencePool:
    """Interpreters that are warm from the start and answer prompts, each with a GIL of its own.

    size: how many interpreters, and so how many prompts at once; the model batches what they ask.
    model: path of a GGUF file, or a syncyte.Model. None: the small model that comes with syncyte.
    agent: `agent(prompt, model)`, called in an idle interpreter for each prompt; what it returns is the
        answer. None: the model alone answers, with a Completion: a prompt is what a user says (or a list of
        messages, as Model.chat takes them) where the model has a chat template, else text to be continued.
    setup: called once in each interpreter, before its first prompt; for imports and set-up.
    raw: without an agent, prompts are text to be continued, whatever the model.

    Opening the pool waits until every interpreter is ready, and raises what the set-up raised there.
    Functions travel as InterpreterPool's do. Options of execute() and its like go to Model.generate, or as
    keyword arguments to the agent. Of those, `priority` also orders the prompts that wait for an interpreter
    (map() takes them in order), and `deadline` counts from the call: the agent gets the seconds left.
    """

    def __init__(
        self,
        size: int = 4,
        model: str | os.PathLike[str] | Model | None = None,
        agent: Callable[..., Any] | None = None,
        setup: Callable[[], object] | None = None,
        *,
        raw: bool = False,
        warmup: str | Callable[[], object] | None = None,
        thread_name_prefix: str = "",
    ) -> None:
        if agent is not None and not callable(agent):
            raise TypeError(f"agent must be a function agent(prompt, model), not {type(agent).__name__!r}")
        self._owned = None if isinstance(model, Model) else Model(model)
        self.model = model if isinstance(model, Model) else self._owned
        try:
            self._pool = InterpreterPool(
                size,
                thread_name_prefix or f"InferencePool-{next(_counter)}",
                _inference_worker.prepare,
                (
                    self.model,
                    None if agent is None else _travel.dump(agent).data,
                    None if setup is None else _travel.dump(setup).data,
                    raw,
                ),
                warmup=warmup,
            )
            try:
                self._pool.wait_ready()
            except BaseException as error:
                self._pool.shutdown(wait=True, cancel_futures=True)
                raise (error.__cause__ if isinstance(error.__cause__, Exception) else error) from None
        except BaseException:
            self._close_model()
            raise

    def execute(self, prompt: Any, **options: Any) -> Any:
        """Answer one prompt in an idle interpreter; a Completion, or what the agent returned."""
        return self.submit(prompt, **options).result()

    def submit(self, prompt: Any, **options: Any) -> PoolFuture:
        """As execute(), but returns a future, which also says `worker` and `interpreter_id`."""
        return self._queue(options).submit(_inference_worker.answer, prompt, _portable(options))

    def map(self, prompts: Iterable[Any], *, timeout: float | None = None, **options: Any) -> Iterator[Any]:
        """Answer all prompts, as many at a time as there are interpreters; answers come in order."""
        return self._pool.map(
            _inference_worker.answer,
            *_columns(prompts, _portable(options)),
            timeout=timeout,
            chunksize=1,
        )

    def stream(self, prompt: Any, **options: Any) -> Iterator[str]:
        """Answer one prompt, and yield the pieces of its text as they come out of the worker.

        An agent streams by returning an iterator of str. Closing the iterator ends the work.
        """
        receiver, sender = create_channel(256)
        future = self._queue(options).submit(_inference_worker.stream, sender, prompt, _portable(options))
        # The worker's end is the only one now: the channel closes with it, whatever happens there.
        sender.close()
        return _pieces(receiver, future)

    def _queue(self, options: dict[str, Any]) -> InterpreterPool | Submitter:
        priority = options.get("priority", 0)
        return self._pool.options(priority=priority) if isinstance(priority, int) and priority else self._pool

    def stats(self) -> list[dict[str, Any]]:
        """As InterpreterPool.stats: one entry per worker."""
        return self._pool.stats()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As concurrent.futures.Executor.shutdown; the model goes when nobody else uses it."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)
        self._close_model()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._pool.__exit__(kind, error, trace)
        finally:
            self._close_model()

    def _close_model(self) -> None:
        if self._owned is not None:
            self._owned.close()
            self._owned = None


_counter = iter(range(1 << 62))


def _portable(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a schema in place of a class that stands for one, and a time in place of seconds."""
    if options.get("deadline") is not None:
        from syncyte._options import seconds

        options = {**options, "deadline": monotonic() + seconds("deadline", options["deadline"])}
    if options.get("json_schema") is None:
        return options
    from syncyte._structured.resolve import plain_schema

    return {**options, "json_schema": plain_schema(options["json_schema"])}


def _columns(prompts: Iterable[Any], options: dict[str, Any]) -> tuple[list[Any], list[dict[str, Any]]]:
    listed = list(prompts)
    return listed, [options] * len(listed)


def _pieces(receiver: Receiver[str], future: PoolFuture) -> Iterator[str]:
    with receiver:
        try:
            yield from receiver
            future.result()
        finally:
            future.cancel()


def run_parallel(
    prompts: Iterable[Any],
    *,
    model: str | os.PathLike[str] | Model | None = None,
    workers: int = 4,
    raw: bool = False,
    **options: Any,
) -> list[Completion]:
    """Answer all prompts with one shared model, `workers` at a time, and return the Completions in order.

    Prompts, model and raw are those of InferencePool; options those of Model.generate.
    """
    listed = list(prompts)
    with InferencePool(max(1, min(workers, len(listed))), model, raw=raw) as pool:
        return list(pool.map(listed, **options))
