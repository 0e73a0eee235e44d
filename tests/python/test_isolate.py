"""isolate: where calls run, why, and that their results stay what they were."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import isolate_tasks as tasks
import pytest

import syncyte
from syncyte import _core, _isolate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A call of burn(SIZE) takes milliseconds: above the tests' threshold however fast the machine is.
_SIZE = 100_000
_THRESHOLD = 0.0005


@pytest.fixture(scope="module")
def pool() -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(2, warmup=None) as opened:
        opened.wait_ready(30)
        yield opened


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has it see idle cores, however busy the machine is with other things."""
    monkeypatch.setattr(_core, "_idle_cores", lambda: 4)
    # CPU time shares are those of an idle machine too.
    monkeypatch.setattr(_isolate, "_BUSY_SHARE", 0.02)


def _isolated(
    fn: Callable[..., Any], pool: syncyte.InterpreterPool, **options: Any
) -> _isolate.Isolated[..., Any]:
    return syncyte.isolate(pool=pool, threshold=_THRESHOLD, **options)(fn)


@pytest.mark.usefixtures("idle")
def test_a_dear_function_moves_and_gives_the_same_results(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.uses_constants, pool)
    expected = tasks.uses_constants(_SIZE)
    assert [fn(_SIZE) for _ in range(10)] == [expected] * 10
    stats = fn.stats()
    assert stats["in_place"] + stats["moved"] == 10
    # Two are measured, a third one for its CPU time.
    assert stats["moved"] == 7
    assert stats["where"] == "interpreter"
    assert stats["cost"] > _THRESHOLD
    assert "ms a call" in stats["reason"]


@pytest.mark.usefixtures("idle")
def test_it_really_runs_in_another_interpreter(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.interpreter, pool)
    ids = [fn(_SIZE) for _ in range(6)]
    assert ids[:3] == [0, 0, 0]
    assert 0 not in ids[3:]


@pytest.mark.usefixtures("idle")
def test_cheap_functions_stay(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.burn, pool)
    for _ in range(50):
        fn(1)
    assert fn.stats()["moved"] == 0
    assert fn.stats()["where"] == "in place"
    assert fn.stats()["reason"] == "cheap"


def test_nothing_moves_while_no_core_is_idle(
    pool: syncyte.InterpreterPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "_idle_cores", lambda: 0)
    monkeypatch.setattr(_isolate, "_BUSY_SHARE", 0.02)
    fn = _isolated(tasks.burn, pool)
    for _ in range(6):
        fn(_SIZE)
    assert fn.stats()["moved"] == 0
    assert fn.stats()["reason"] == "no core was idle"


@pytest.mark.usefixtures("idle")
def test_a_function_that_becomes_cheap_comes_back(pool: syncyte.InterpreterPool) -> None:
    fn = syncyte.isolate(pool=pool, threshold=0.02)(tasks.burn)
    end = time.monotonic() + 60
    while fn.stats()["moved"] == 0 and time.monotonic() < end:
        fn(2_000_000)
    assert fn.stats()["moved"] > 0
    # On a busy machine its way there and back may be dear for a while.
    while fn.stats()["where"] == "interpreter" and time.monotonic() < end:
        fn(1)
    assert fn.stats()["where"] == "in place"


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (tasks.fills_a_cache, "uses the global 'cache', a dict"),
        (tasks.through_another, "fills_a_cache uses the global 'cache'"),
        (tasks.assigns_a_global, "assigns the global 'counter'"),
        (tasks.draws, "the global 'random': a module with a state"),
        (tasks.default_cache, "a list as default"),
    ],
)
def test_functions_that_would_change_something_stay(
    pool: syncyte.InterpreterPool, fn: Callable[[int], Any], reason: str
) -> None:
    isolated = _isolated(fn, pool)
    for _ in range(5):
        isolated(_SIZE)
    assert isolated.stats()["moved"] == 0
    assert isolated.stats()["where"] == "in place"
    assert reason in isolated.stats()["reason"]


@pytest.mark.usefixtures("idle")
def test_closures_that_assign_stay_and_others_move(pool: syncyte.InterpreterPool) -> None:
    total = 0
    offset = 5

    def adds(size: int) -> int:
        nonlocal total
        total += tasks.burn(size)
        return total

    def reads(size: int) -> int:
        own = 0

        def inner() -> None:
            nonlocal own
            own += 1

        inner()
        return tasks.burn(size) + offset + own

    adding, reading = _isolated(adds, pool), _isolated(reads, pool)
    once = tasks.burn(_SIZE)
    assert [adding(_SIZE) for _ in range(5)] == [once * times for times in range(1, 6)]
    assert "assigns 'total' of the function around it" in adding.stats()["reason"]
    assert [reading(_SIZE) for _ in range(6)] == [once + 6] * 6
    assert reading.stats()["moved"] > 0


@pytest.mark.usefixtures("idle")
def test_mutable_arguments_stay_unless_copies_will_do(pool: syncyte.InterpreterPool) -> None:
    careful, trusting = _isolated(tasks.sorts, pool), _isolated(tasks.sorts, pool, copy_arguments=True)
    for fn in (careful, trusting):
        assert [fn([3, 1, 2]) for _ in range(6)] == [[1, 2, 3]] * 6
    assert careful.stats()["moved"] == 0
    assert "argument 0 is a list" in careful.stats()["reason"]
    assert trusting.stats()["moved"] > 0


@pytest.mark.usefixtures("idle")
def test_exceptions_are_the_same(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.fails, pool)
    for _ in range(6):
        with pytest.raises(LookupError, match=str(_SIZE)):
            fn(_SIZE)
    assert fn.stats()["moved"] > 0


@pytest.mark.usefixtures("idle")
def test_the_functions_own_type_errors_are_no_obstacle(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.burn, pool)
    for _ in range(5):
        fn(_SIZE)
    with pytest.raises(TypeError, match="NoneType"):
        fn(None)
    assert fn.stats()["where"] == "interpreter"


@pytest.mark.usefixtures("idle")
def test_results_that_cannot_travel_bring_the_function_home(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.gives_a_lock, pool)
    locks = [fn(_SIZE) for _ in range(6)]
    assert all(hasattr(lock, "acquire") for lock in locks)
    assert fn.stats()["moved"] == 0
    assert "lock" in fn.stats()["reason"]


def test_waiting_is_no_reason_to_move(pool: syncyte.InterpreterPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "_idle_cores", lambda: 4)
    fn = _isolated(tasks.sleeps, pool)
    for _ in range(5):
        fn(0.005)
    assert fn.stats()["moved"] == 0
    assert fn.stats()["reason"] == "waits more than it computes"


@pytest.mark.usefixtures("idle")
def test_generators_and_coroutines_stay(pool: syncyte.InterpreterPool) -> None:
    generating = _isolated(tasks.generates, pool)
    assert next(generating(1)) == 0
    assert (
        _isolate.obstacle_of(tasks.generates)
        == "generates is a generator function: its body runs where it is consumed"
    )
    awaiting = _isolated(tasks.awaits, pool)
    assert asyncio.run(awaiting(1)) == 0
    assert "coroutine function" in str(_isolate.obstacle_of(tasks.awaits))


@pytest.mark.usefixtures("idle")
def test_a_type_error_of_its_own_is_no_reason_to_run_again(
    pool: syncyte.InterpreterPool, tmp_path: Path
) -> None:
    written = tmp_path / "written"
    fn = _isolated(tasks.writes_and_fails, pool)
    for _ in range(8):
        with pytest.raises(TypeError, match="its own"):
            fn(str(written), _SIZE)
    with pytest.raises(TypeError, match="its own"):
        asyncio.run(fn.run(str(written), _SIZE))
    assert written.read_text() == "x" * 9
    assert fn.stats()["moved"] == 6


@pytest.mark.usefixtures("idle")
def test_what_needs_a_refused_module_stays(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(built))
    import no_slot  # type: ignore[import-not-found]

    with syncyte.InterpreterPool(1, warmup=None) as own:
        own.wait_ready(30)
        space: dict[str, Any] = {"__name__": "__main__", "no_slot": no_slot, "burn": tasks.burn}
        exec("def task(size):\n    return burn(size) + no_slot.answer\n", space)
        fn = _isolated(space["task"], own)
        assert {fn(_SIZE) for _ in range(8)} == {tasks.burn(_SIZE) + 42}
        assert fn.stats()["moved"] == 0
        assert "no_slot cannot be in interpreters" in fn.stats()["reason"]
        # One that finds out in its midst is run again, that one time.
        written = tmp_path / "written"
        late = _isolated(tasks.imports_refused, own)
        assert {late(str(written), _SIZE) for _ in range(8)} == {tasks.burn(_SIZE) + 42}
        assert written.read_text() == "x" * 9
        assert late.stats()["moved"] == 0


@pytest.mark.usefixtures("idle")
def test_methods_change_their_instance_and_stay(pool: syncyte.InterpreterPool) -> None:
    class Account(tasks.Account):
        add = _isolated(tasks.Account.add, pool)  # type: ignore[assignment]

    account = Account()
    for _ in range(5):
        account.add(_SIZE)
    assert account.total == 5 * tasks.burn(_SIZE)
    assert "argument 0 is a Account" in Account.add.stats()["reason"]  # type: ignore[attr-defined]


def test_run_keeps_the_loop_responsive(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.burn, pool)
    size = 2_000_000
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.002)
            beats += 1

    async def main() -> list[int]:
        beating = asyncio.create_task(beat())
        results = await asyncio.gather(fn.run(size), fn.run(size))
        beating.cancel()
        return results

    expected = tasks.burn(size)
    assert asyncio.run(main()) == [expected, expected]
    assert fn.stats()["moved"] == 2
    # In place there would be next to none.
    assert beats >= 5


def test_run_uses_a_thread_for_what_cannot_move(pool: syncyte.InterpreterPool) -> None:
    tasks.cache.clear()
    fn = _isolated(tasks.fills_a_cache, pool)
    assert asyncio.run(fn.run(_SIZE)) == 1
    assert tasks.cache == {_SIZE: tasks.burn(_SIZE)}
    assert fn.stats()["moved"] == 0


def test_run_makes_known_cheap_calls_in_place(pool: syncyte.InterpreterPool) -> None:
    fn = _isolated(tasks.burn, pool)
    for _ in range(5):
        fn(1)
    assert asyncio.run(fn.run(1)) == 0
    assert fn.stats()["in_place"] == 6


def test_inside_interpreters_it_runs_in_place(pool: syncyte.InterpreterPool) -> None:
    inner = syncyte.isolate(tasks.burn)

    def outer(size: int) -> tuple[int, dict[str, Any]]:
        return inner(size), inner.stats()

    result, stats = pool.submit(outer, 10).result()
    assert result == tasks.burn(10)
    assert stats["in_place"] == 1
    assert stats["reason"] == "is not in the main interpreter"


def test_the_shared_pool_serves_functions_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "_idle_cores", lambda: 4)
    monkeypatch.setattr(_isolate, "_BUSY_SHARE", 0.02)
    fn = syncyte.isolate(tasks.burn)
    end = time.monotonic() + 30
    while fn.stats()["moved"] == 0 and time.monotonic() < end:
        assert fn(1_000_000) == fn.__wrapped__(1_000_000)  # type: ignore[attr-defined]
    assert fn.stats()["moved"] > 0


def test_a_pool_that_was_shut_down_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "_idle_cores", lambda: 4)
    monkeypatch.setattr(_isolate, "_BUSY_SHARE", 0.02)
    with syncyte.InterpreterPool(1, warmup=None) as gone:
        fn = _isolated(tasks.burn, gone)
    expected = tasks.burn(_SIZE)
    assert [fn(_SIZE) for _ in range(5)] == [expected] * 5
    assert asyncio.run(fn.run(_SIZE)) == expected
    assert fn.stats()["moved"] == 0


def test_it_looks_like_the_function() -> None:
    fn = syncyte.isolate(tasks.burn)
    assert fn.__name__ == "burn"  # type: ignore[attr-defined]
    assert fn.__wrapped__ is tasks.burn  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_bad_thresholds_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="threshold must be"):
        syncyte.isolate(threshold=wrong)


def test_only_callables_are_isolated() -> None:
    with pytest.raises(TypeError, match="needs a function, not 'int'"):
        syncyte.isolate(42)  # type: ignore[call-overload]
