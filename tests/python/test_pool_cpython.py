"""CPython's own executor tests, run with InterpreterPool in the executor's place."""

import asyncio
import functools
from typing import Any

import pytest

import pool_tasks
import syncyte

pytest.importorskip("test.test_concurrent_futures", reason="the standard library's tests are not installed")

from test.support import script_helper
from test.test_concurrent_futures import (
    test_as_completed,
    test_init,
    test_interpreter_pool,
    test_shutdown,
    test_wait,
    util,
)

# What does not apply, and why.
_NOT_APPLICABLE = {
    "test_free_reference": "weak references do not cross interpreters; skipped by the stdlib too",
    "test_no_stale_references": "weak references do not cross interpreters; skipped by the stdlib too",
    "test_init_script": "scripts as tasks; expected to fail in the stdlib too",
    "test_init_script_args": "scripts as tasks; expected to fail in the stdlib too",
    "test_init_exception_in_script": "scripts as tasks; expected to fail in the stdlib too",
    "test_submit_script": "scripts as tasks; expected to fail in the stdlib too",
    "test_submit_exception_in_script": "scripts as tasks; expected to fail in the stdlib too",
    "test_init_closure": "wants closures refused: ours travel",
    "test_submit_closure": "wants closures refused: ours travel",
    "test_init_instance_method": "wants an error on stderr: ours is raised by the constructor",
    "test_pickle_errors_propagate": "wants NotShareableError: ours is what unpickling raised",
    "test_init_exception_in_func": "wants the log on stderr under its own lock-step; see test_pool.py",
    "test_idle_thread_reuse": "wants workers made one by one: ours start together",
    "test_saturation": "counts threads.Thread objects: our workers are none",
    "test_default_executor": "asyncio takes no executor but ThreadPoolExecutor for its default",
    "test_import_interpreter_pool_executor": "about the stdlib's own import",
    "test_thread_name_prefix": "wants the stdlib's class name",
    "test_thread_name_prefix_with_thread_get_name": "wants the stdlib's class name",
}


class Mixin(util.ExecutorMixin):
    executor_type = syncyte.InterpreterPool

    def setUp(self) -> None:
        reason = _NOT_APPLICABLE.get(self._testMethodName)  # type: ignore[attr-defined]
        if reason is not None:
            self.skipTest(reason)  # type: ignore[attr-defined]
        super().setUp()

    def create_event(self) -> pool_tasks.Event:
        return pool_tasks.Event()


class WaitTest(Mixin, test_wait.WaitTests, util.BaseTestCase):
    pass


class AsCompletedTest(Mixin, test_as_completed.AsCompletedTests, util.BaseTestCase):
    pass


class InitializerTest(Mixin, test_init.InitializerMixin, util.BaseTestCase):
    pass


class FailingInitializerTest(Mixin, test_init.FailingInitializerMixin, util.BaseTestCase):
    pass


class ShutdownTest(Mixin, test_shutdown.ExecutorShutdownTest, util.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.executor.wait_ready(60)  # test_cancel_futures wants that some tasks run
        original = test_shutdown.assert_python_ok
        self.addCleanup(setattr, test_shutdown, "assert_python_ok", original)
        test_shutdown.assert_python_ok = functools.partial(_with_ours, original)


def _with_ours(run: Any, option: str, script: str) -> Any:
    ours = "from concurrent.futures import InterpreterPool", "from syncyte import InterpreterPool"
    assert ours[0] in script
    return run(option, script.replace(*ours))


class InterpreterPoolTest(Mixin, test_interpreter_pool.InterpreterPoolExecutorTest):
    def test_init_with___main___global(self) -> None:
        original = script_helper.make_script
        self.addCleanup(setattr, script_helper, "make_script", original)

        def make_script(folder: str, name: str, text: str) -> Any:
            text = text.replace("from concurrent.futures import InterpreterPoolExecutor", "import syncyte")
            return original(folder, name, text.replace("InterpreterPoolExecutor", "syncyte.InterpreterPool"))

        script_helper.make_script = make_script
        super().test_init_with___main___global()


class AsyncioTest(Mixin, test_interpreter_pool.AsyncioTest):
    @classmethod
    def setUpClass(cls) -> None:
        asyncio.events._set_event_loop_policy(None)  # other tests have used asyncio.run
        super().setUpClass()
