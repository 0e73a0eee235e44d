"""Handles travel by reference: through our messages, and through everybody else's pickles."""

import copy
import functools
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent import interpreters
from concurrent.futures import InterpreterPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import syncyte
from syncyte import _core


class Holder:
    def __init__(self, content: Any) -> None:
        self.content = content


def read(message: Any) -> Any:
    return message.get()


def resident() -> int:
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_equal_when_they_refer_to_the_same() -> None:
    message = _core.Message("content")
    back = pickle.loads(pickle.dumps(message))
    assert back == message
    assert hash(back) == hash(message)
    assert message != _core.Message("content")
    assert message != "content"
    assert {message: 1}[back] == 1


def test_copies_are_the_same_object() -> None:
    message = _core.Message(1)
    assert copy.copy(message) is message
    assert copy.deepcopy([message])[0] is message
    assert _core._pinned_handles() == 0


def test_weak_references() -> None:
    message = _core.Message(1)
    reference = weakref.ref(message)
    assert reference() is message
    del message
    assert reference() is None


def test_inside_messages_and_inside_pickles_in_messages() -> None:
    message = _core.Message("content")
    outer = _core.Message(
        {"plain": message, "held": Holder([message]), "call": functools.partial(read, message)}
    )
    assert _core._pinned_handles() == 0
    del message
    for _ in range(2):
        back = outer.get()
        assert back["plain"].get() == "content"
        assert back["held"].content[0] == back["plain"]
        assert back["call"]() == "content"


def test_a_failed_pickle_keeps_no_handle() -> None:
    message = _core.Message("content")
    with pytest.raises(TypeError):
        _core.Message([Holder(message), Holder(threading.Lock())])
    data = pickle.dumps(message)
    assert _core._pinned_handles() == 1
    pickle.loads(data)
    assert _core._pinned_handles() == 0


def test_the_sender_may_let_go_before_the_pickle_is_loaded() -> None:
    data = pickle.dumps(_core.Message("content"))
    gc.collect()
    back = pickle.loads(data)
    assert back.get() == "content"
    del back
    with pytest.raises(syncyte.ClosedError, match="is gone"):
        pickle.loads(data)


def test_through_prepare_main_call_and_the_stdlib_queue() -> None:
    interpreter = interpreters.create()
    try:
        message = _core.Message(["content"])
        interpreter.prepare_main(message=message)
        interpreter.exec("assert message.get() == ['content']")
        assert interpreter.call(read, _core.Message(5)) == 5
        queue = interpreters.create_queue()
        queue.put(message)
        assert queue.get(timeout=10) == message
    finally:
        interpreter.close()
    assert message.get() == ["content"]


def test_as_arguments_of_an_interpreter_pool_executor() -> None:
    with InterpreterPoolExecutor(2) as pool:
        messages = [_core.Message(i) for i in range(10)]
        assert list(pool.map(read, messages)) == list(range(10))
        assert pool.submit(functools.partial(copy.copy, messages[3])).result() == messages[3]


def test_another_process_is_told_that_it_cannot() -> None:
    data = pickle.dumps(_core.Message(1))
    load = f"pickle.loads({data!r})"
    code = f"import pickle, sys, syncyte\ntry: {load}\nexcept syncyte.Error as e: sys.exit(str(e))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "cannot travel to another process" in done.stderr
    pickle.loads(data)


def test_an_interpreter_can_close_while_its_handles_are_in_flight() -> None:
    interpreter = interpreters.create()
    queue = interpreters.create_queue()
    interpreter.prepare_main(queue=queue)
    interpreter.exec("from syncyte import _core; queue.put(_core.Message({'from': 'there'}))")
    interpreter.exec("kept = [_core.Message(i) for i in range(1000)]")
    outer = _core.Message([queue.get(timeout=10)])
    interpreter.exec("queue.put(_core.Message(1))")
    interpreter.close()
    assert outer.get()[0].get() == {"from": "there"}
    assert not isinstance(queue.get(timeout=10), _core.Message), (
        "the stdlib drops what a closed interpreter sent"
    )


def test_bad_pickles_get_an_exception() -> None:
    for arguments in ((), (1,), ("a", "b", "c"), (1, 2, 3), (2**70, 1, "x"), (1, 2, "x", 4)):
        with pytest.raises((TypeError, OverflowError, syncyte.Error)):
            _core._restore_handle(*arguments)
    with pytest.raises(TypeError, match="cannot create"):
        _core.Handle()
    for wrong in (int, 5, _core.Handle):
        with pytest.raises(TypeError, match="not a subclass"):
            _core._adopt_handle_type(wrong)


@pytest.mark.slow
@pytest.mark.memory
def test_a_million_handles_passed_and_dropped() -> None:
    def pass_by_message(count: int) -> None:
        for i in range(count):
            _core.Message([_core.Message(i)]).get()

    def pass_by_pickle(count: int) -> None:
        for i in range(count):
            pickle.loads(pickle.dumps(_core.Message(i)))

    def pickle_only(count: int) -> None:
        for i in range(count):
            pickle.dumps(_core.Message(i))

    for way in (pass_by_message, pass_by_pickle, pickle_only):
        way(20_000)
        before = resident()
        way(1_000_000 if way is pass_by_message else 200_000)
        assert resident() - before < 4_000_000, way
    assert _core._pinned_handles() <= 1024
