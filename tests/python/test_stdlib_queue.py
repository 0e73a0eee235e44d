"""CPython's own tests of queue.Queue and of the interpreters' queue, with ours in their place.

What does not apply is skipped with the reason, by name: a test that CPython adds runs by itself.
"""

import queue
import sys
import types
import unittest
from typing import Any

import pytest

import syncyte
from syncyte import _core

test_queue = pytest.importorskip("test.test_queue", reason="needs libpython3.14-testsuite")
test_queues = pytest.importorskip("test.test_interpreters.test_queues")
support = pytest.importorskip("test.support")


def not_ours(base: type, reasons: dict[str, str]) -> dict[str, Any]:
    """The tests of base that `reasons` names, skipped with the reason."""
    for name in reasons:
        assert hasattr(base, name), f"CPython has no {name} any more"
    return {name: unittest.skip(reason)(getattr(base, name)) for name, reason in reasons.items()}


class QueueQueue(test_queue.BaseQueueTestMixin):
    """All of the tests of queue.Queue but those of its hooks for subclasses (FailingQueueTest)."""

    queue = queue
    type2test = syncyte.Queue


TestQueueQueue = type(
    "TestQueueQueue",
    (QueueQueue, unittest.TestCase),
    not_ours(QueueQueue, {"test_shrinking_queue": "maxsize is read-only, as concurrent.interpreters has it"}),
)


class SimpleQueueBase(test_queue.BaseSimpleQueueTest):
    queue = queue
    type2test = syncyte.Queue

    def setUp(self) -> None:
        # Some ask for 5 GB, for the stacks of fifty threads, of which they touch next to nothing.
        patch = pytest.MonkeyPatch()
        patch.setattr(support, "real_max_memuse", 8 << 30)
        self.addCleanup(patch.undo)
        super().setUp()


TestSimpleQueue = type(
    "TestSimpleQueue",
    (SimpleQueueBase, unittest.TestCase),
    not_ours(SimpleQueueBase, {"test_references": "the queue holds copies, not the objects put"}),
)


def identity_of_process() -> int:
    return int(syncyte.Queue().__reduce__()[1][0])


def queues_in_disguise() -> types.SimpleNamespace:
    """What the tests use of concurrent.interpreters._queues, made of ours."""
    created: list[Any] = []
    process = identity_of_process()

    def create(maxsize: int = 0) -> Any:
        created.append(syncyte.Queue(maxsize))
        return created[-1]

    def find(id: int) -> Any:
        return _core._restore_handle(process, id, "Queue")

    return types.SimpleNamespace(
        create=create,
        Queue=find,
        list_all=lambda: created,
        QueueEmpty=syncyte.QueueEmpty,
        QueueFull=syncyte.QueueFull,
        QueueNotFoundError=syncyte.ClosedError,
    )


DISGUISE_THERE = f"""if True:
    import sys
    sys.path[:] = {sys.path!r}
    import types, syncyte
    import concurrent.interpreters
    concurrent.interpreters._queues = types.SimpleNamespace(
        create=syncyte.Queue,
        Queue=lambda id: syncyte._core._restore_handle(syncyte.Queue().__reduce__()[1][0], id, "Queue"),
    )
"""


class InDisguise:
    """Puts ours in the place of concurrent.interpreters' queues, here and in a test's interpreters."""

    def setUp(self) -> None:
        real = test_queues.interpreters

        def create() -> Any:
            interpreter = real.create()
            interpreter.exec(DISGUISE_THERE)
            return interpreter

        # The original closes every interpreter of the process, a pool's idle ones too.
        others = {interpreter.id for interpreter in real.list_all()}

        def close_own() -> None:
            for interpreter in real.list_all():
                if interpreter.id not in others:
                    interpreter.close()

        patch = pytest.MonkeyPatch()
        patch.setattr("test.test_interpreters.utils.clean_up_interpreters", close_own)
        patch.setattr(test_queues, "queues", queues_in_disguise())
        patch.setattr(test_queues, "interpreters", types.SimpleNamespace(create=create))
        self.addCleanup(patch.undo)
        super().setUp()

    # The original destroys what is left of the real queues, of which there are none.
    def tearDown(self) -> None:
        test_queues._TestBase.tearDown(self)


# LowLevelTests are about the C module behind concurrent.interpreters' queues.
TestInterpreterQueue = type(
    "TestInterpreterQueue",
    (InDisguise, test_queues.QueueTests),
    not_ours(
        test_queues.QueueTests,
        {
            "test_shareable": "handles of one queue are equal, not one object; see the next class",
            "test_hashable": "handles hash alike, but not as their id does",
        },
    ),
)

OUTLIVE = "items are copies that outlive the interpreter that put them"

TestInterpreterQueueOps = type(
    "TestInterpreterQueueOps",
    (InDisguise, test_queues.TestQueueOps),
    not_ours(
        test_queues.TestQueueOps,
        {
            "test_timeout_uses_monotonic_clock": "looks into the Python module for its clock; ours is in C++",
            "test_put_cleared_with_subinterpreter": OUTLIVE,
            "test_put_cleared_with_subinterpreter_mixed": OUTLIVE,
            "test_put_cleared_with_subinterpreter_multiple": OUTLIVE,
        },
    ),
)


class TestShareable(InDisguise, test_queues.TestBase):
    """QueueTests.test_shareable, with equality where it asks for identity."""

    def test_shareable(self) -> None:
        outer, inner = test_queues.queues.create(), test_queues.queues.create()
        outer.put(inner)
        assert outer.get() == inner
        interpreter = test_queues.interpreters.create()
        interpreter.exec(f"""if True:
            from concurrent.interpreters import _queues as queues
            outer = queues.Queue({outer.id})
            """)
        outer.put(inner)
        out = test_queues._run_output(interpreter, "print(outer.get().id)")
        assert int(out) == inner.id
        out = test_queues._run_output(interpreter, "new = queues.create(); outer.put(new); print(new.id)")
        assert outer.get().id == int(out)
