"""What a pool's worker needs of Python, inside its interpreter. Kept lean: every interpreter imports it."""

import os
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# sys.path, path and name of the script, warm-up, initializer and its arguments, whether it will be recycled.
_Setup = tuple[list[str], str | None, str | None, str | bytes | None, bytes | None, tuple[object, ...], bool]


class TaskInterrupted(BaseException):
    """Raised inside a task that was cancelled, or whose time is up; `except Exception` does not catch it.

    Its finally clauses and context managers run. What a task does after catching it is dropped.
    """


# What tasks change in sys, as it is in a new interpreter.
_SYSTEM = (
    "stdin",
    "stdout",
    "stderr",
    "excepthook",
    "displayhook",
    "unraisablehook",
    "breakpointhook",
)
_LISTS = ("meta_path", "path_hooks", "argv", "warnoptions")
_system = {name: getattr(sys, name) for name in _SYSTEM}
_lists = {name: list(getattr(sys, name)) for name in _LISTS}
_recursion_limit = sys.getrecursionlimit()

# The names a bare __main__ has, and what was last shipped into each namespace: (module, name) -> bytes.
_bare_main = frozenset(sys.modules["__main__"].__dict__)
_shipped: dict[tuple[str, str], bytes] = {}
_namespaces: dict[str, dict[str, object]] = {}
# Modules that are stood in for: of what is being loaded under a fallback, and of each shipped thing.
standing_in: list[AbsentModule] | None = None
_lacking: dict[tuple[str, str], list[AbsentModule]] = {}
# Called when the pool that runs here ends.
at_leave: list[Callable[[], object]] = []
_main_path: str | None = None
_main_name: str | None = None
_main_state = "unloaded"


def load(data: bytes) -> object:
    """Return the callable that `syncyte._travel.dump` wrote."""
    kind, body = data[:1], data[1:]
    if kind in (b"F", b"S"):
        from syncyte import _fallback_worker

        return _fallback_worker.guarded(kind, body)
    if kind == b"N":
        module, _, qualname = body.decode().partition(":")
        target = _import(module)
        for part in qualname.split("."):
            target = getattr(target, part)
        return target
    import pickle

    if kind == b"P":
        return pickle.loads(body)
    entries, payload = pickle.loads(body)
    for key, value in entries:
        if _shipped.get(key) != value:
            already = len(standing_in or ())
            namespace(key[0])[key[1]] = pickle.loads(value)
            _shipped[key] = value
            if standing_in is not None:
                _lacking[key] = standing_in[already:]
        elif standing_in is not None:
            standing_in.extend(_lacking.get(key, ()))
    return pickle.loads(payload)


def _import(name: str) -> object:
    module = sys.modules.get(name)
    if module is None:
        __import__(name)
        module = sys.modules[name]
    return module


# Around the reason in an AbsentModule's error.
ABSENT = " cannot be imported in this interpreter: "
ADVICE = ". syncyte.on_main() calls functions in the main interpreter."


class AbsentModule(types.ModuleType):
    """Stands in for a module that cannot be imported here, until something of it is used.

    A function that only hands another one to on_main() may mention numpy.
    """

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(f"{self.__name__}{ABSENT}{self.__doc__}{ADVICE}", name=self.__name__)


def first_cause(error: BaseException) -> str:
    """Return what an error began with, in a line: libraries wrap the refusal of a module in long advice."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {str(error).strip().partition('\n')[0]}"


def import_or_stand_in(name: str) -> object:
    """Return a module that a travelling function refers to."""
    try:
        return _import(name)
    except ImportError as error:
        absent = AbsentModule(name, first_cause(error))
        if standing_in is not None:
            standing_in.append(absent)
        return absent


def namespace(module: str) -> dict[str, object]:
    """Return the globals that functions shipped from `module` share here."""
    if module == "__main__":
        return sys.modules["__main__"].__dict__
    found = _namespaces.get(module)
    if found is None:
        import builtins

        found = _namespaces[module] = {"__name__": module, "__builtins__": builtins}
    return found


def load_code(data: bytes) -> object:
    """Return a code object."""
    import marshal

    return marshal.loads(data)


def make_function(
    code: types.CodeType, module: str, name: str, qualname: str, doc: str | None
) -> types.FunctionType:
    """Return a function whose globals are what all functions shipped from `module` share."""
    cells = tuple(types.CellType() for _ in code.co_freevars) or None
    fn = types.FunctionType(code, namespace(module), name, None, cells)
    fn.__module__, fn.__qualname__, fn.__doc__ = module, qualname, doc
    return fn


def set_function_state(fn: types.FunctionType, state: tuple[Any, ...]) -> None:
    """Fill in what may refer back to the function itself."""
    contents, defaults, kwdefaults, attributes = state
    for cell, content in zip(fn.__closure__ or (), contents or (), strict=True):
        if content:
            cell.cell_contents = content[0]
    fn.__defaults__, fn.__kwdefaults__ = defaults, kwdefaults
    if attributes:
        fn.__dict__.update(attributes)


def describe(error: BaseException) -> tuple[str, str, str, str, str, str]:
    """Return an exception's module, qualified name, name, message, one-line form and full traceback."""
    described: tuple[str, str, str, str, str, str] | None = getattr(error, "described", None)
    if described is not None and type(error).__module__ == "syncyte._fallback_worker":
        return described
    kind = type(error)
    try:
        message = str(error)
    except BaseException:
        message = "<exception str() failed>"
    line = f"{kind.__name__}: {message}" if message else kind.__name__
    try:
        import traceback

        shown = "".join(traceback.format_exception(error)).rstrip()
    except BaseException:
        shown = line
    parts = (kind.__module__, kind.__qualname__, kind.__name__, message, line, shown)
    return tuple(part.encode("utf-8", "backslashreplace").decode() for part in parts)  # type: ignore[return-value]


def enter(setup: _Setup) -> None:
    """Prepare this interpreter for a pool; called in each worker before its first task."""
    path, _, _, warmup, _, _, recycles = setup
    sys.path[:] = path
    os.reload_environ()
    if sys.stdin is not None and sys.stdin is sys.__stdin__:
        # What is typed is for the program: tasks find an input that is at its end, as in a process pool.
        sys.stdin = open(os.open(os.devnull, os.O_RDONLY), closefd=False)  # noqa: SIM115
        _system["stdin"] = sys.stdin
    # Lines of several workers do not mix, and none waits for an exit to appear.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)
    if isinstance(warmup, str):
        exec(compile(warmup, "<warmup>", "exec"), {"__name__": "<warmup>"})
    elif warmup is not None:
        load(warmup)()  # type: ignore[operator]
    if recycles:
        from syncyte import _recycle

        _recycle.remember()
    _begin(setup)


def _begin(setup: _Setup) -> None:
    global _main_path, _main_name, _main_state
    _, _main_path, _main_name, _, initializer, initargs, _ = setup
    _main_state = "unloaded"
    sys.modules["__main__"].__dict__["__getattr__"] = _main_attribute
    if initializer is not None:
        load(initializer)(*initargs)  # type: ignore[operator]


def recycle(setup: _Setup) -> None:
    """Return this interpreter to what it was after the warm-up, and begin again."""
    from syncyte import _recycle

    _forget()
    sys.path[:] = setup[0]
    _recycle.restore()
    os.reload_environ()
    _begin(setup)


def leave() -> None:
    """Forget what the pool's tasks brought along; imported libraries stay warm."""
    changed = _forget()
    for name in [name for name, module in sys.modules.items() if is_of_program(name, module)]:
        del sys.modules[name]
        changed = True
    recycling = sys.modules.get("syncyte._recycle")
    if recycling is not None:
        recycling.thaw()
    if changed:
        import gc

        gc.collect()
    if "threading" in sys.modules:
        from syncyte import _recycle

        _recycle.end_threads()


def _forget() -> bool:
    """Empty what tasks have filled; whether there was anything."""
    while at_leave:
        at_leave.pop()()
    for name, value in _system.items():
        setattr(sys, name, value)
    for name, values in _lists.items():
        setattr(sys, name, values[:])
    sys.setrecursionlimit(_recursion_limit)
    sys.settrace(None)
    sys.setprofile(None)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    main = sys.modules["__main__"].__dict__
    changed = len(main) > len(_bare_main) + 1 or bool(_namespaces)
    for name in [name for name in main if name not in _bare_main]:
        del main[name]
    _shipped.clear()
    _lacking.clear()
    _namespaces.clear()
    return changed


def is_of_program(name: str, module: object) -> bool:
    """Whether a module is the program's own: neither the standard library's nor an installed package's."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("__main__", "syncyte"):
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return top == "__mp_main__"
    return not ("site-packages" in file or "dist-packages" in file or file.endswith(".so"))


def _main_attribute(name: str) -> object:
    """`__main__.__getattr__`: classes of the creator's script are looked for here by pickle.

    The script is run once, as `__mp_main__`, as multiprocessing's spawn does; functions need no script.
    """
    if not name.startswith("__") and _main_state == "unloaded" and (_main_path or _main_name):
        _load_main()
        main = sys.modules["__main__"].__dict__
        if name in main:
            return main[name]
    raise AttributeError(f"module '__main__' has no attribute {name!r}")


def _load_main() -> None:
    global _main_state
    import runpy

    _main_state = "loading"
    try:
        if _main_name is not None:
            content = runpy.run_module(_main_name, run_name="__mp_main__", alter_sys=True)
        else:
            assert _main_path is not None
            content = runpy.run_path(_main_path, run_name="__mp_main__")
    except BaseException:
        _main_state = "unloaded"
        raise
    _main_state = "loaded"
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(content)
    sys.modules["__mp_main__"] = module
    main = sys.modules["__main__"].__dict__
    for name, value in content.items():
        main.setdefault(name, value)


def is_loading_main() -> bool:
    """Whether the creator's script is being run here for its classes."""
    return _main_state == "loading"


def main_script() -> tuple[str | None, str | None]:
    """Return the path and module name of the script whose classes nested pools need."""
    return _main_path, _main_name
