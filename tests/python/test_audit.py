"""Audits of small extension modules made for it, one for each way to be fit or unfit, and of real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from syncyte._audit import targets
from syncyte._audit.audit import audit
from syncyte._audit.report import Extension, Package, Verdict, as_json
from syncyte.cli import _audit as command

_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
# Long enough for a busy machine; the one module that hangs is given less.
_TIMEOUT = 60.0


@pytest.fixture(scope="module")
def reports(built: Path) -> dict[str, Extension]:
    """One audit of all of them but the one that hangs."""
    files = [str(file) for file in sorted(built.iterdir()) if not file.name.startswith("hangs")]
    found = audit(*files, timeout=_TIMEOUT)
    return {report.name: report for report in found if isinstance(report, Extension)}


@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("safe", Verdict.SAFE, "well"),
        ("single_phase", Verdict.REFUSES, "single-phase"),
        ("no_slot", Verdict.REFUSES, "without the Py_mod_multiple_interpreters slot"),
        ("crashes", Verdict.CRASHES, "SIGSEGV (Segmentation fault) when imported in a second interpreter"),
        (
            "crashes_on_closing",
            Verdict.CRASHES,
            "SIGABRT (Aborted) when interpreters that hold it are closed",
        ),
        ("quits", Verdict.CRASHES, "ends the process when imported in a second interpreter"),
        ("leaks_memory", Verdict.LEAKS, "each interpreter that closes leaves"),
        ("leaks_objects", Verdict.LEAKS, "each interpreter that closes leaves"),
        ("shared_static", Verdict.UNKNOWN, "globals they all share: imports_so_far"),
        ("main_only", Verdict.MAIN_ONLY, "one interpreter per process, please"),
        ("broken", Verdict.UNKNOWN, "cannot be imported at all here: RuntimeError: never works"),
        ("no_module", Verdict.UNKNOWN, "no extension module"),
    ],
)
def test_verdicts(reports: dict[str, Extension], name: str, verdict: Verdict, reason: str) -> None:
    assert (reports[name].verdict, reason in reports[name].reason) == (verdict, True), reports[name]


def test_a_module_that_hangs_is_given_up(built: Path) -> None:
    (report,) = audit(str(built / f"hangs{_SUFFIX}"), timeout=5)
    assert report.verdict is Verdict.CRASHES
    assert "hangs when imported in a second interpreter" in report.reason


def test_declarations_are_read(reports: dict[str, Extension]) -> None:
    read = {
        name: as_json(reports[name])["declaration"] for name in ("safe", "single_phase", "no_slot", "broken")
    }
    assert read == {
        "safe": {"init": "multi", "interpreters": "own GIL", "gil": "not used"},
        "single_phase": {"init": "single", "interpreters": None, "gil": None},
        "no_slot": {"init": "multi", "interpreters": None, "gil": None},
        "broken": {"init": "multi", "interpreters": "own GIL", "gil": None},
    }


def test_a_leak_is_measured(reports: dict[str, Extension]) -> None:
    leaked = reports["leaks_memory"].leaked_kb
    assert leaked is not None
    # The module loses 256 kB each time; a page more for what malloc puts around it.
    assert 240 <= leaked <= 512
    assert reports["safe"].leaked_kb is not None
    assert reports["safe"].leaked_kb <= 16


def test_shared_globals_are_told_from_untouched_ones(reports: dict[str, Extension]) -> None:
    pytest.importorskip("elftools")
    assert reports["shared_static"].shared_globals == ("imports_so_far",)
    assert "imports_so_far" in reports["shared_static"].writable_globals
    assert reports["safe"].shared_globals == ()
    # Tables that CPython reads are writable too: that is why this is a hint and no verdict.
    assert "definition" in reports["safe"].writable_globals


def test_standard_library_modules() -> None:
    verdicts = {
        report.name: report.verdict for report in audit("_json", "readline", "_curses", timeout=_TIMEOUT)
    }
    assert verdicts == {"_json": Verdict.SAFE, "readline": Verdict.REFUSES, "_curses": Verdict.REFUSES}


def test_numpy_refuses() -> None:
    (report,) = audit("numpy", timeout=_TIMEOUT)
    assert isinstance(report, Package)
    assert report.verdict is Verdict.REFUSES
    assert report.version is not None
    assert "_multiarray_umath" in report.reason


def _package(root: Path, name: str, source: str) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "__init__.py").write_text(source)
    return folder


@pytest.fixture
def site(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path where packages can import the modules made for the tests."""
    monkeypatch.syspath_prepend(str(built))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_pure_python_is_judged_by_what_it_imports(site: Path) -> None:
    _package(site, "needs_refusing", "import no_slot")
    _package(site, "needs_crashing", "import crashes")
    _package(site, "needs_safe", "import safe")
    found = {report.name: report for report in audit("needs_refusing", "needs_crashing", "needs_safe")}
    assert found["needs_refusing"].verdict is Verdict.REFUSES
    assert "imports no_slot" in found["needs_refusing"].reason
    assert found["needs_crashing"].verdict is Verdict.CRASHES
    safe = found["needs_safe"]
    assert isinstance(safe, Package)
    assert safe.verdict is Verdict.SAFE
    assert [module.name for module in safe.uses] == ["safe"]


def test_a_package_that_can_do_without_is_safe_and_says_so(site: Path) -> None:
    _package(site, "optional", "try:\n    import no_slot\nexcept ImportError:\n    pass\n")
    (report,) = audit("optional")
    assert report.verdict is Verdict.SAFE
    assert "works there without no_slot" in report.reason


def test_modules_that_the_import_does_not_load_count(site: Path, built: Path) -> None:
    folder = _package(site, "lazy", "")
    (folder / f"no_slot{_SUFFIX}").write_bytes((built / f"no_slot{_SUFFIX}").read_bytes())
    (report,) = audit("lazy")
    assert report.verdict is Verdict.REFUSES
    assert report.reason.startswith("lazy.no_slot: multi-phase init without")
    (by_path,) = audit(str(folder / f"no_slot{_SUFFIX}"))
    assert by_path.name == "lazy.no_slot"


def test_side_effects_stay_in_the_children(site: Path, tmp_path: Path) -> None:
    here = Path.cwd()
    lines = [
        "import sys, os",
        "print('noise')",
        "sys.stdin.read()",
        "open('left-behind', 'w').close()",
        "os.environ['X_AUDIT'] = '1'",
    ]
    _package(site, "noisy", "\n".join(lines))
    (report,) = audit("noisy")
    assert report.verdict is Verdict.SAFE
    assert not (here / "left-behind").exists()
    assert not (tmp_path / "left-behind").exists()
    assert "X_AUDIT" not in os.environ


def test_an_audit_inside_an_audited_module_is_refused(site: Path) -> None:
    _package(site, "recursive", "from syncyte._audit.audit import audit\naudit('_json')")
    (report,) = audit("recursive")
    assert report.verdict is Verdict.UNKNOWN
    assert "an audited module starts an audit" in report.reason


def test_names_of_distributions_are_understood(site: Path) -> None:
    _package(site, "some_import_name", "")
    info = site / "Some.Thing-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Some.Thing\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("some_import_name\n")
    targets._distributions.cache_clear()
    try:
        (target,) = targets.resolve("some-thing")
    finally:
        targets._distributions.cache_clear()
    assert (target.name, target.distribution, target.version) == ("some_import_name", "Some.Thing", "1.2")


def test_the_environment_holds_the_installed_and_not_the_working_directory(site: Path) -> None:
    _package(site, "beside_the_script", "raise SystemExit")
    names = {target.name for target in targets.environment()}
    assert {"_json", "readline", "numpy"} <= names
    assert "beside_the_script" not in names
    assert "_testcapi" not in names


@pytest.mark.parametrize("wrong", ["no_such_package_here", "./nothing.so", __file__])
def test_what_is_not_there_is_named(wrong: str) -> None:
    with pytest.raises(LookupError, match=Path(wrong).name):
        audit(wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("jsom", "did you mean 'json'"),
        ("Numpy", "did you mean 'numpy'"),
        ("numpy==2.0", "did you mean 'numpy'"),
        (".", "'.' is a folder: name a package as it is imported"),
        ("", "'' is a folder"),
        ("/", "'/' is a folder"),
    ],
)
def test_what_may_have_been_meant_is_said(wrong: str, words: str) -> None:
    with pytest.raises(LookupError, match=re.escape(words)):
        audit(wrong)


def test_a_folder_is_told_from_a_missing_file(site: Path, built: Path) -> None:
    folder = _package(site, "in_a_folder", "")
    with pytest.raises(LookupError, match=f"with PYTHONPATH={site} this one is imported as in_a_folder"):
        audit(str(folder))
    with pytest.raises(LookupError, match=rf"an extension file, such as {built}/broken"):
        audit(str(built))


def test_parts_of_every_interpreter_are_safe() -> None:
    verdicts = {(report.verdict, report.reason) for report in audit("sys", "builtins")}
    assert verdicts == {(Verdict.SAFE, "a part of every interpreter")}


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1}, {"jobs": 0}])
def test_bad_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        audit("_json", **wrong)  # type: ignore[arg-type]


# --- the command ----------------------------------------------------------------------------------------


def test_command_reports_and_exits_zero_when_all_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["_json"]) == 0
    said = capsys.readouterr()
    assert "_json" in said.out
    assert "safe" in said.out
    assert said.err == ""


def test_command_exits_one_and_gives_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["_json", "readline"]) == 1
    said = capsys.readouterr().out
    assert "refuses" in said
    assert "syncyte.on_main()" in said


def test_command_prints_json(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--json", str(built / f"no_slot{_SUFFIX}")]) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert report["kind"] == "extension"
    assert report["verdict"] == "refuses"
    assert report["declaration"] == {"init": "multi", "interpreters": None, "gil": None}
    assert "on_main" in report["advice"]


@pytest.mark.parametrize(
    "wrong",
    [[], ["--nonsense"], ["no_such_package_here"], ["--timeout", "0", "_json"], ["--jobs", "0", "_json"]],
)
def test_command_exits_two_when_misused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(wrong) == 2
    assert "audit" in capsys.readouterr().err


def test_command_stops_at_ctrl_c(built: Path) -> None:
    import signal
    import time

    words = [sys.executable, "-m", "syncyte.cli._audit", str(built / f"hangs{_SUFFIX}")]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    assert running.returncode != 0
