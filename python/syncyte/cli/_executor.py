"""Answers inputs in a pool of warm interpreters."""

import contextlib
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import syncyte
from syncyte.cli import _models, _worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from syncyte._pool import PoolFuture
    from syncyte.cli._inputs import Input
    from syncyte.cli._loop import Event
    from syncyte.cli._worker import Outcome


# What syncyte.Model computes together unless told otherwise, and at most.
_DEFAULT_SEQUENCES = 16
_MOST_SEQUENCES = 256


class PoolExecutor:
    """Keeps `workers` interpreters, each set up by `_worker.prepare`.

    With `live`, workers tell what they do while they do it; otherwise only results come.
    """

    def __init__(
        self,
        workers: int,
        *,
        agent_path: str | None,
        model_path: str,
        model_options: dict[str, Any],
        sampling: dict[str, Any],
        system: str | None,
        raw: bool,
        timeout: float | None,
        live: bool,
    ) -> None:
        if workers > _DEFAULT_SEQUENCES:
            model_options = {"max_sequences": min(workers, _MOST_SEQUENCES), **model_options}
        self._model = _models.load(model_path, model_options)
        agent_file = None if agent_path is None else (agent_path, str(Path(agent_path).absolute()))
        self._told: syncyte.Queue[Event] | None = syncyte.Queue() if live else None
        self._pool = syncyte.InterpreterPool(
            workers,
            initializer=_worker.prepare,
            initargs=(agent_file, self._model, sampling, system, raw, self._told),
        )
        self._limited = self._pool.options(timeout=timeout)
        self._futures: set[PoolFuture] = set()
        self._overran = False  # some agent went past its time and may be busy still

    def start(self, post: Callable[[Event], None]) -> None:
        self._post = post
        if self._told is not None:
            threading.Thread(target=self._pass_on, name="syncyte-events", daemon=True).start()

    def submit(self, one: Input) -> None:
        future = self._limited.submit(_worker.answer, one.index, one.prompt, one.options)
        self._futures.add(future)
        index = one.index

        def done(_: Future[Outcome]) -> None:
            self._futures.discard(future)
            self._overran = self._overran or _timed_out(future)
            self._post(("finished", index, _outcome(future)))

        future.add_done_callback(done)

    def stop(self) -> None:
        for future in list(self._futures):
            future.cancel()

    def close(self, seconds: float) -> bool:
        """Shuts the pool down; False when workers are still busy after `seconds`, or may be."""
        closer = threading.Thread(target=self._close, name="syncyte-close", daemon=True)
        closer.start()
        closer.join(seconds)
        return not closer.is_alive() and not self._overran

    def _close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._told is not None:
            self._told.shutdown()

    def _pass_on(self) -> None:
        """Hands the workers' events to the run, in a thread of its own."""
        assert self._told is not None
        with contextlib.suppress(queue.ShutDown):
            while True:
                self._post(self._told.get())


def _timed_out(future: PoolFuture) -> bool:
    return not future.cancelled() and isinstance(future.exception(), TimeoutError)


def _outcome(future: PoolFuture) -> Outcome:
    if future.cancelled():
        return {"error": {"type": "CancelledError", "message": "the run was stopped"}}
    error = future.exception()
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    failed: Outcome = {"error": {"type": type(error).__name__, "message": str(error)}}
    if future.interpreter_id is not None:
        failed["interpreter_id"] = future.interpreter_id
    return failed
