"""The child process of an audit. Stands alone: started by path, told its task by one JSON argument.

Reports one JSON object per line on what was its standard output, each as soon as it is known: whoever
reads the lines of a child that crashed still learns how far it came. What the audited module prints
goes nowhere.
"""

import json
import os
import sys
from concurrent import interpreters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import cast
else:

    def cast(_: str, value: object) -> object:
        """Not typing's: that import would be there before the module that is looked at."""
        return value


_ROUNDS_AT_ONCE = 3
_INTERPRETERS_AT_ONCE = 4
_WARM_CYCLES = 2
_CYCLES = 5
_CYCLES_WHEN_IN_DOUBT = 12
# A leak is the same each time; what the allocator takes until it has found its places dies away.
_DOUBTS_LARGE_KB = 256
_MOST_DOUBTS = 4
# A median growth per interpreter above this asks for the longer run. Far below the smallest arena that one
# lost object keeps alive, and above the page or two that fragmentation takes.
_DOUBT_KB = 12

type _Task = dict[str, object]


def _report_to(descriptor: int) -> None:
    global _report_descriptor
    _report_descriptor = descriptor


_report_descriptor = 1


def _say(**facts: object) -> None:
    os.write(_report_descriptor, json.dumps(facts).encode() + b"\n")


def _load_code(task: _Task) -> str:
    """Source that imports the subject in whichever interpreter runs it."""
    lines = ["import sys, gc, importlib.util", f"sys.path[:] = {task['sys_path']!r}"]
    name = task["name"]
    if task["file"] is None:
        lines.append(f"importlib.import_module({name!r})")
    elif task["file"] != "":
        lines += [
            f"spec = importlib.util.spec_from_file_location({name!r}, {task['file']!r})",
            "module = importlib.util.module_from_spec(spec)",
            f"sys.modules[{name!r}] = module",
            "spec.loader.exec_module(module)",
        ]
    return "\n".join([*lines, "gc.collect()"])


def _private_kb() -> int:
    with open("/proc/self/smaps_rollup", "rb") as lines:  # noqa: PTH123 - pathlib would count as the module's
        return sum(int(line.split()[1]) for line in lines if line.startswith(b"Private_"))


# --- how it declares itself, and whether it works at all -----------------------------------------------


def _inspect(task: _Task) -> None:
    from syncyte import _core

    library = task["library"]
    assert isinstance(task["name"], str)
    assert library is None or isinstance(library, str)
    try:
        _say(declaration=_core._inspect_extension(task["name"], library))
    except LookupError as error:
        _say(not_a_module=str(error))
    except BaseException as error:
        _say(error=f"{type(error).__name__}: {error}")


def _main(task: _Task) -> None:
    """Imports in the main interpreter alone; reports the extension modules that came along."""
    before = set(sys.modules)
    try:
        exec(_load_code(task), {})
    except BaseException as error:
        _say(error=f"{type(error).__name__}: {error}")
        return
    found = []
    for name, module in list(sys.modules.items()):
        if name in before:
            continue
        spec = getattr(module, "__spec__", None)
        if spec is not None and type(getattr(spec, "loader", None)).__name__ == "ExtensionFileLoader":
            found.append([spec.name, spec.origin])
    _say(imported=found)


# --- the trial: one, a second, a third, closing, again, four at once ------------------------------------


class _Globals:
    """The writable sections of the module's library: which of its globals do other interpreters change?"""

    def __init__(self, task: _Task) -> None:
        self._library = task["library"]
        self._sections = cast("list[tuple[int, int]]", task["sections"])
        self._first_address = cast("int", task["first_address"])
        self._seen: list[bytes] = []
        self._changed: set[int] = set()

    def _base(self) -> int | None:
        with open("/proc/self/maps") as lines:  # noqa: PTH123
            for line in lines:
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[2] == "00000000" and fields[5].rstrip("\n") == self._library:
                    return int(fields[0].partition("-")[0], 16) - self._first_address
        return None

    def look(self) -> None:
        if not self._sections or (base := self._base()) is None:
            return
        now = []
        with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123
            for address, size in self._sections:
                memory.seek(base + address)
                now.append(memory.read(size))
        for (address, _), old, new in zip(self._sections, self._seen, now, strict=False):
            self._compare(address, old, new)
        self._seen = now

    def _compare(self, address: int, old: bytes, new: bytes) -> None:
        page = 4096
        for start in range(0, len(new), page):
            if old[start : start + page] == new[start : start + page]:
                continue
            for word in range(start, min(start + page, len(new)), 8):
                if old[word : word + 8] != new[word : word + 8]:
                    self._changed.add(address + word)

    def changed(self) -> list[int]:
        return sorted(self._changed)


class _FailedError(Exception):
    pass


def _try(step: str, interpreter: interpreters.Interpreter, code: str) -> None:
    try:
        interpreter.exec(code)
    except interpreters.ExecutionFailed as error:
        excinfo = error.excinfo
        _say(step=step, error=f"{excinfo.type.__name__}: {excinfo.msg}")
        raise _FailedError from None


def _trial(task: _Task) -> None:
    code = _load_code(task)
    seen = _Globals(task)
    alive = []
    for step in ("first", "second", "third"):
        _say(begin=step)
        interpreter = interpreters.create()
        alive.append(interpreter)
        _try(step, interpreter, code)
        seen.look()
    _say(begin="closing")
    for closed in (0, 1, 0):
        alive.pop(closed).close()
        for interpreter in alive:
            _try("closing", interpreter, "gc.collect()")
    _say(begin="again")
    again = interpreters.create()
    _try("again", again, code)
    again.close()
    seen.look()
    _say(changed=seen.changed()[:256])
    _say(begin="at once")
    for _ in range(_ROUNDS_AT_ONCE):
        _at_once(code)
    _say(begin="exit")


def _brief(task: _Task) -> None:
    code = _load_code(task)
    for step in ("first", "second"):
        _say(begin=step)
        _try(step, interpreters.create(), code)
    _say(done=True)
    os._exit(0)


def _at_once(code: str) -> None:
    import threading

    barrier = threading.Barrier(_INTERPRETERS_AT_ONCE)
    failed = []

    def work() -> None:
        interpreter = interpreters.create()
        try:
            barrier.wait()
            _try("at once", interpreter, code)
            barrier.wait()
        except _FailedError:
            failed.append(True)
            barrier.abort()
        except threading.BrokenBarrierError:
            pass
        interpreter.close()

    threads = [threading.Thread(target=work) for _ in range(_INTERPRETERS_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise _FailedError


# --- memory ---------------------------------------------------------------------------------------------


def _cycles(code: str, count: int) -> tuple[list[int], list[int]]:
    """Private kB that each interpreter took, and that each left behind when it was closed."""
    took, left = [], []
    for _ in range(count):
        before = _private_kb()
        interpreter = interpreters.create()
        interpreter.exec(code)
        took.append(_private_kb() - before)
        interpreter.close()
        left.append(_private_kb() - before)
    return took, left


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


def _memory(task: _Task) -> None:
    bare, code = _load_code({**task, "file": ""}), _load_code(task)
    _cycles(bare, _WARM_CYCLES)
    bare_took, bare_left = _cycles(bare, _CYCLES)
    _cycles(code, _WARM_CYCLES)
    took, left = _cycles(code, _CYCLES)
    lost = _median(left) - max(0, _median(bare_left))
    for attempt in range(_MOST_DOUBTS):
        if lost <= _DOUBT_KB or (attempt > 0 and lost > _DOUBTS_LARGE_KB):
            break
        _, left = _cycles(code, _CYCLES_WHEN_IN_DOUBT)
        lost = _median(left) - max(0, _median(bare_left))
    _say(took_kb=max(0, _median(took) - _median(bare_took)), left_kb=max(0, lost))


def main() -> None:
    """Runs the task named by the first argument."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _report_to(os.dup(1))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    task: _Task = json.loads(sys.argv[1])
    signal.alarm(int(str(task["alarm"])))
    sys.argv[1:] = []
    sys.path[:] = cast("list[str]", task["sys_path"])
    try:
        kinds = {"inspect": _inspect, "main": _main, "trial": _trial, "brief": _brief, "memory": _memory}
        kinds[str(task["kind"])](task)
    except _FailedError:
        # What the module left behind is not looked at any more.
        os._exit(0)
    if task["kind"] in ("inspect", "main"):
        os._exit(0)
    _say(done=True)


if __name__ == "__main__":
    main()
