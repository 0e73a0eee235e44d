"""What `import syncyte` gives, and what it costs an interpreter."""

import concurrent.interpreters

import pytest

import syncyte


def test_every_public_name_resolves() -> None:
    for name in syncyte.__all__:
        assert getattr(syncyte, name) is not None
    assert set(syncyte.__all__) <= set(dir(syncyte))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        syncyte.no_such_name  # noqa: B018


def test_imports_in_an_interpreter_with_its_own_gil() -> None:
    interpreter = concurrent.interpreters.create()
    try:
        interpreter.exec("import syncyte; assert syncyte.ModelError.__module__ == 'syncyte'")
    finally:
        interpreter.close()


def test_import_brings_no_module_but_its_own() -> None:
    interpreter = concurrent.interpreters.create()
    try:
        interpreter.exec(
            "import sys; before = set(sys.modules); import syncyte\n"
            "brought = set(sys.modules) - before\n"
            "assert brought == {'syncyte', 'syncyte._core'}, brought"
        )
    finally:
        interpreter.close()
