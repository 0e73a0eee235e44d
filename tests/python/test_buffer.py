"""SharedBuffer: the same bytes everywhere, views without copies, freed with the last of them."""

import array
import ctypes
import gc
import mmap
import os
import pickle
from concurrent import interpreters
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import syncyte
from syncyte import SharedBuffer, _core


def resident() -> int:
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def address(buffer: SharedBuffer) -> int:
    return int(np.asarray(buffer).__array_interface__["data"][0])


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4096, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_zeroed_aligned_and_of_the_size_asked_for(size: int) -> None:
    buffer = SharedBuffer(size)
    assert buffer.nbytes == len(buffer) == size
    assert buffer.shape == (size,)
    assert buffer.dtype == "uint8"
    assert bytes(buffer) == bytes(size)
    if size:
        assert address(buffer) % 64 == 0
        buffer[-1] = 7
        assert buffer[size - 1] == 7


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="negative"):
        SharedBuffer(-1)
    with pytest.raises(OverflowError):
        SharedBuffer(1 << 64)
    with pytest.raises(MemoryError):
        SharedBuffer((1 << 63) - 1)
    with pytest.raises(TypeError):
        SharedBuffer("x")  # type: ignore[arg-type]


def test_elements_and_slices_share_the_memory() -> None:
    buffer = SharedBuffer(10)
    buffer[2:5] = b"abc"
    part = buffer[2:5]
    assert bytes(part) == b"abc"
    part[0] = ord("x")
    assert buffer[2] == ord("x")
    assert bytes(buffer[3:][:2]) == b"bc"
    assert buffer[8:2].nbytes == 0
    assert buffer[-3:].nbytes == 3
    with pytest.raises(ValueError, match="step 1"):
        buffer[::2]
    with pytest.raises(IndexError):
        buffer[10]
    with pytest.raises(TypeError, match="deleted"):
        del buffer[0]  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        buffer[0] = 256


def test_shapes_and_dtypes() -> None:
    buffer = SharedBuffer(48)
    grid = buffer.view((3, -1), "float32")
    assert grid.shape == (3, 4)
    assert grid.strides == (16, 4)
    assert grid.ndim == 2
    assert grid.itemsize == 4
    assert len(grid) == 3
    grid[1, 2] = 2.5
    row = grid[1]
    assert row.shape == (4,)
    assert row.tolist() == [0, 0, 2.5, 0]
    assert grid[-1].shape == (4,)
    assert grid[1:].shape == (2, 4)
    assert grid.cast("uint8").shape == (48,)
    assert buffer.view(dtype=np.dtype("int16")).dtype == "int16"
    assert buffer.view(6, "d").shape == (6,)
    assert buffer[:4].view((), "int32").shape == ()
    assert buffer.view((0, 5)[:1] and (2, 24)).shape == (2, 24)
    assert SharedBuffer(0).view((0, 5)).shape == (0, 5)


def test_shapes_that_do_not_fit() -> None:
    buffer = SharedBuffer(48)
    wrong: list[tuple[Any, Any, str]] = [
        (5, None, "needs 5 bytes"),
        ((-1, -1), None, "at most once"),
        (-2, None, "at most once"),
        ((-1, 0), None, "do not divide"),
        ((-1, 7), None, "do not divide"),
        ((1 << 62, 1 << 62), None, "too large"),
        ((1,) * 9, None, "at most 8 dimensions"),
        (None, "float128", "unknown dtype"),
    ]
    for shape, dtype, message in wrong:
        with pytest.raises(ValueError, match=message):
            buffer.view(shape, dtype)
    with pytest.raises(ValueError, match="multiple of 4"):
        buffer[1:5].cast("float32")
    with pytest.raises(TypeError):
        buffer.view("ab")
    with pytest.raises(IndexError, match="3 rows"):
        buffer.view((3, 16))[3]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.sampled_from(["uint8", "int16", "float64"]))
@settings(deadline=None)
def test_any_shape_is_what_numpy_sees(shape: list[int], dtype: str) -> None:
    original = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    buffer = SharedBuffer.from_buffer(original)
    assert buffer.shape == original.shape
    assert buffer.dtype == dtype
    if original.size:
        assert np.array_equal(np.asarray(buffer), original)
        assert np.array_equal(np.from_dlpack(buffer), original)
    assert buffer.tolist() == original.tolist()


def test_from_anything_with_the_buffer_protocol() -> None:
    assert SharedBuffer.from_buffer(b"abc").tobytes() == b"abc"
    assert SharedBuffer.from_buffer(array.array("d", [1, 2])).tolist() == [1, 2]
    transposed = np.arange(6, dtype="int32").reshape(2, 3).T
    assert SharedBuffer.from_buffer(transposed).tolist() == transposed.tolist()
    with pytest.raises(TypeError):
        SharedBuffer.from_buffer("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="format"):
        SharedBuffer.from_buffer(np.zeros(3, "c16"))


def test_freeze_waits_for_no_writer() -> None:
    buffer = SharedBuffer(8)
    view = memoryview(buffer)
    assert not view.readonly
    with pytest.raises(BufferError, match="cannot freeze"):
        buffer.freeze()
    view.release()
    array_of_it = np.from_dlpack(buffer)
    with pytest.raises(BufferError, match="cannot freeze"):
        buffer[1:].freeze()
    del array_of_it
    gc.collect()
    part = buffer[2:4]
    assert buffer.freeze() is buffer
    buffer.freeze()
    assert buffer.readonly
    assert part.readonly
    assert memoryview(part).readonly
    with pytest.raises(TypeError, match="read-only"):
        part[0] = 1
    with pytest.raises(BufferError, match="max_version"):
        buffer.__dlpack__()
    frozen = np.from_dlpack(buffer)
    assert not frozen.flags.writeable


def test_read_only_views_leave_others_writable() -> None:
    buffer = SharedBuffer(8)
    view = buffer.toreadonly()
    assert view.readonly
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    assert memoryview(view[1:].view((7, 1))).readonly
    buffer[0] = 3
    assert view[0] == 3


def test_dlpack_says_no_clearly() -> None:
    buffer = SharedBuffer(8)
    assert buffer.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="CPU"):
        buffer.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match="without a copy"):
        buffer.__dlpack__(copy=True)
    unused = buffer.__dlpack__(max_version=(1, 0))
    del unused
    buffer.freeze()


def test_open_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"contents" * 1000)
    for spelled in (path, str(path), bytes(path)):
        buffer = SharedBuffer.open(spelled)
        assert buffer.tobytes() == path.read_bytes()
        assert buffer.readonly
        with pytest.raises(TypeError):
            buffer[0] = 1
    (tmp_path / "empty").touch()
    assert SharedBuffer.open(tmp_path / "empty").nbytes == 0
    with pytest.raises(FileNotFoundError, match="missing"):
        SharedBuffer.open(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        SharedBuffer.open(tmp_path)
    with pytest.raises(OSError):
        SharedBuffer.open("/dev/null")
    with pytest.raises(ValueError, match="null"):
        SharedBuffer.open("a\0b")


def test_attach_shared_memory() -> None:
    segment = shared_memory.SharedMemory(create=True, size=4096)
    try:
        buffer = SharedBuffer.attach(segment.name)
        assert segment.buf is not None
        segment.buf[3] = 9
        assert buffer[3] == 9
        buffer[4] = 8
        assert segment.buf[4] == 8
        readonly = SharedBuffer.attach(segment.name, readonly=True)
        assert readonly.readonly
        assert readonly[3] == 9
    finally:
        segment.close()
        segment.unlink()
    assert buffer[4] == 8, "unlinking takes the name, not the memory"
    with pytest.raises(FileNotFoundError):
        SharedBuffer.attach("no such segment")
    with pytest.raises(ValueError, match="null"):
        SharedBuffer.attach("a\0b")


def test_the_same_bytes_in_every_interpreter() -> None:
    buffer = SharedBuffer(64)
    grid = buffer.view((4, 2), "float64")
    interpreter = interpreters.create()
    try:
        interpreter.prepare_main(grid=grid)
        interpreter.exec(
            "grid[1, 1] = 1.5; assert grid.shape == (4, 2); part = grid[1]; view = memoryview(part)"
        )
        assert grid[1, 1] == 1.5
        with pytest.raises(BufferError):
            buffer.freeze()
        interpreter.exec("view.release()")
        buffer.freeze()
        interpreter.exec("assert part.readonly and memoryview(part).readonly")
    finally:
        interpreter.close()
    assert grid[1, 1] == 1.5


def test_equal_and_hashable_by_memory_shape_and_type() -> None:
    buffer = SharedBuffer(16)
    assert buffer[4:8] == buffer[4:8]
    assert hash(buffer[4:8]) == hash(buffer[4:8])
    assert buffer[4:8] != buffer[4:9]
    assert buffer != SharedBuffer(16)
    assert buffer.view((4, 4)) != buffer
    assert pickle.loads(pickle.dumps(buffer)) == buffer
    assert _core.Message([buffer]).get()[0] == buffer


def test_memory_is_freed_with_the_last_view() -> None:
    before = resident()
    for _ in range(20):
        buffer = SharedBuffer(50_000_000)
        np.asarray(buffer)[:] = 1
        keep = buffer[1000:1010]
        del buffer
        assert keep[0] == 1
        message = _core.Message(keep)
        del keep
        assert message.get()[0] == 1
        del message
    gc.collect()
    assert resident() - before < 60_000_000


def test_handing_over_a_large_buffer_copies_nothing() -> None:
    buffer = SharedBuffer(1 << 30)
    assert _core.Message(buffer).nbytes < 64
    with pytest.raises(syncyte.Error):
        _core._restore_handle(1, 1, "x")


@pytest.mark.parametrize("argument", [5, [1, 0], (1,), ("1", "0"), (1, 0, 0)])
def test_dlpack_names_a_wrong_argument(argument: Any) -> None:
    for name in ("max_version", "dl_device"):
        with pytest.raises(TypeError, match=name):
            SharedBuffer(8).__dlpack__(**{name: argument})


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    name = f"syncyte-test-{os.getpid()}"
    fifo = Path("/dev/shm", name)
    os.mkfifo(fifo)
    try:
        for read_only in (True, False):
            with pytest.raises(OSError, match="cannot be mapped"):
                SharedBuffer.attach(name, readonly=read_only)
        with pytest.raises(OSError, match="cannot be mapped"):
            SharedBuffer.open(fifo)
    finally:
        fifo.unlink()
    with pytest.raises(OSError, match="cannot be mapped"):
        SharedBuffer.open("/proc/self/maps")
    (tmp_path / "empty").touch()
    assert SharedBuffer.open(tmp_path / "empty").nbytes == 0


@pytest.mark.parametrize("kind", [ctypes.c_ubyte, ctypes.c_int, ctypes.c_long, ctypes.c_float])
def test_arrays_of_ctypes_are_copied(kind: Any) -> None:
    assert SharedBuffer.from_buffer((kind * 3)(1, 2, 3)).tolist() == [1, 2, 3]
