"""create_channel(), its two ends, and select()."""

import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from concurrent import interpreters

import pytest

import syncyte

SOON = 30.0


@pytest.fixture
def interpreter() -> Iterator[interpreters.Interpreter]:
    made = interpreters.create()
    yield made
    with contextlib.suppress(interpreters.InterpreterNotFoundError):  # a test may have closed it
        made.close()


def test_sends_in_order():
    recv, send = syncyte.create_channel()
    for number in range(10):
        send.send(number)
    assert [recv.recv() for _ in range(10)] == list(range(10))


def test_last_sender_gone_ends_receiving():
    recv, send = syncyte.create_channel()
    send.send("last words")
    del send
    gc.collect()
    assert recv.recv() == "last words"
    with pytest.raises(syncyte.ChannelClosed, match="no sender is left"):
        recv.recv(timeout=SOON)
    with pytest.raises(EOFError):
        recv.recv_nowait()
    assert list(recv) == []


def test_no_receiver_left_ends_sending():
    recv, send = syncyte.create_channel(1)
    send.send(1)
    waited: list[BaseException] = []

    def wait() -> None:
        try:
            send.send(2)
        except BaseException as error:
            waited.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    recv.close()
    thread.join(SOON)
    assert isinstance(waited[0], syncyte.ChannelClosed)
    with pytest.raises(syncyte.ClosedError, match="no receiver is left"):
        send.send(3)


def test_close_counts_objects_not_names():
    recv, send = syncyte.create_channel()
    carrier = syncyte.Queue()
    carrier.put(send)
    other = carrier.get()
    assert other == send
    assert hash(other) == hash(send)
    send.close()
    send.close()
    assert send.closed
    assert other == send
    with pytest.raises(syncyte.ChannelClosed, match="this end"):
        send.send(1)
    other.send(2)
    assert recv.recv() == 2
    with pytest.raises(TimeoutError):
        recv.recv(timeout=0.01)
    other.close()
    with pytest.raises(syncyte.ChannelClosed):
        recv.recv(timeout=SOON)


def test_a_sender_under_way_counts():
    recv, send = syncyte.create_channel()
    carrier = syncyte.Queue()
    carrier.put(send)
    del send
    with pytest.raises(TimeoutError):
        recv.recv(timeout=0.01)
    with carrier.get() as send:
        send.send("arrived")
    assert recv.recv() == "arrived"
    with pytest.raises(syncyte.ChannelClosed):
        recv.recv(timeout=SOON)


def test_bounds_and_nowait():
    recv, send = syncyte.create_channel(1)
    with pytest.raises(syncyte.QueueEmpty):
        recv.recv_nowait()
    send.send_nowait(1)
    with pytest.raises(syncyte.QueueFull):
        send.send_nowait(2)
    with pytest.raises(TimeoutError):
        send.send(2, timeout=0.01)
    assert recv.recv() == 1


def test_ends_cannot_be_made_alone():
    for end in (syncyte.Sender, syncyte.Receiver):
        with pytest.raises(TypeError):
            end()


def test_an_interpreter_that_ends_counts_as_gone(interpreter):
    recv, send = syncyte.create_channel()
    interpreter.prepare_main(send=send)
    del send
    interpreter.exec("send.send('from there')")
    assert recv.recv(timeout=SOON) == "from there"
    with pytest.raises(TimeoutError):
        recv.recv(timeout=0.01)
    # Kept there for as long as anything is.
    interpreter.exec("import sys; sys.kept = [send]; sys.kept.append(sys.kept)")
    interpreter.close()
    with pytest.raises(syncyte.ChannelClosed):
        recv.recv(timeout=SOON)


def test_an_interpreter_that_fails_lets_go_when_closed():
    recv, send = syncyte.create_channel()
    made = interpreters.create()
    made.prepare_main(send=send)
    del send
    with pytest.raises(interpreters.ExecutionFailed):
        made.exec("send.send(1); 1 / 0")
    made.close()
    assert recv.recv(timeout=SOON) == 1
    with pytest.raises(syncyte.ChannelClosed):
        recv.recv(timeout=SOON)


def test_select_takes_from_whichever_has_something():
    recv, send = syncyte.create_channel()
    q = syncyte.Queue()
    q.put("queued")
    assert syncyte.select([recv, q]) == (q, "queued")
    send.send("sent")
    source, item = syncyte.select([recv, q])
    assert source is recv
    assert item == "sent"
    with pytest.raises(TimeoutError):
        syncyte.select([recv, q], timeout=0.01)
    q.put(1)
    assert q.get() == 1  # the select that timed out took nothing


def test_select_waits(interpreter):
    recv, send = syncyte.create_channel()
    q = syncyte.Queue()
    interpreter.prepare_main(send=send)
    thread = threading.Thread(target=interpreter.exec, args=("import time; time.sleep(0.05); send.send(7)",))
    thread.start()
    assert syncyte.select([q, recv], timeout=SOON) == (recv, 7)
    thread.join(SOON)


def test_select_passes_over_what_is_closed():
    recv, send = syncyte.create_channel()
    q = syncyte.Queue()
    q.put(1)
    send.close()
    assert syncyte.select([recv, q]) == (q, 1)
    q.shutdown()
    with pytest.raises(syncyte.ChannelClosed, match="every source"):
        syncyte.select([recv, q])


def test_select_refuses_what_it_cannot_wait_for():
    recv, send = syncyte.create_channel()
    with pytest.raises(TypeError, match="queues and receivers"):
        syncyte.select([recv, send])
    with pytest.raises(TypeError):
        syncyte.select(3)
    with pytest.raises(ValueError, match="at least one"):
        syncyte.select([])


def test_select_loses_nothing():
    queues = [syncyte.Queue() for _ in range(4)]
    each = 2000

    def feed(q: syncyte.Queue) -> None:
        for number in range(each):
            q.put(number)
        q.shutdown()

    threads = [threading.Thread(target=feed, args=(q,)) for q in queues]
    for thread in threads:
        thread.start()
    got: dict[int, list[int]] = {q.id: [] for q in queues}
    while True:
        try:
            source, item = syncyte.select(queues, timeout=SOON)
        except syncyte.ChannelClosed:
            break
        got[source.id].append(item)
    for thread in threads:
        thread.join(SOON)
    assert all(numbers == list(range(each)) for numbers in got.values())
