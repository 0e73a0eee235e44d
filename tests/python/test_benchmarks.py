"""The benchmark harness: its arithmetic, its order, its files; no timing is judged here."""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    decoding,
    footprint,
    harness,
    machine,
    models,
    plot,
    prompts,
    results,
    summary,
)


def test_quantiles_interpolate_between_neighbours() -> None:
    assert summary.median([3.0, 1.0, 2.0]) == 2.0
    assert summary.median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert summary.quantile([0.0, 10.0], 0.99) == pytest.approx(9.9)
    with pytest.raises(ValueError, match="no samples"):
        summary.median([])


def test_p99_is_the_bad_end_whichever_way_the_unit_improves() -> None:
    samples = [[float(value) for value in range(101)]]
    assert summary.summarise(samples, "lower").p99 == 99.0
    assert summary.summarise(samples, "higher").p99 == 1.0
    assert summary.summarise(samples, "higher").best == 100.0


def test_contestants_take_turns_and_warm_up_is_thrown_away() -> None:
    taken: list[str] = []
    values = {"a": iter([100.0, 1.0, 2.0, 3.0]), "b": iter([100.0, 2.0, 4.0, 6.0])}

    def contestant(name: str) -> harness.Contestant:
        def sample() -> float:
            taken.append(name)
            return next(values[name])

        return harness.Contestant(name, sample, ours=name == "a")

    bench = harness.Bench("test")
    result = bench.compare(
        "turns",
        [contestant("a"), contestant("b")],
        title="turns",
        unit="us",
        better="lower",
        rounds=3,
        goals=[
            harness.Goal("a", at_most=2.0),
            harness.Goal("a", at_least=2.0, better_than="b"),
            harness.Goal("a", at_least=0.6, of="b"),
        ],
    )
    assert taken == ["a", "b", "b", "a"] * 2
    assert result.contestants["a"].rounds == [1.0, 2.0, 3.0]
    assert result.reference == "b"
    assert result.ratios == {"a": 2.0, "b": 1.0}
    assert [goal.met for goal in result.goals] == [True, True, False]
    assert result.goals[2].value == 0.5


def test_a_goal_has_exactly_one_bound() -> None:
    with pytest.raises(ValueError, match="one bound"):
        harness.Goal("a")
    with pytest.raises(ValueError, match="one bound"):
        harness.Goal("a", at_least=1, at_most=2)


def test_a_reference_must_take_part() -> None:
    with pytest.raises(ValueError, match="reference"):
        harness.Bench("test").compare(
            "x", [harness.Contestant("a", lambda: 1.0)], title="x", unit="s", better="lower", reference="b"
        )


def test_resources_close_when_the_run_ends() -> None:
    from contextlib import contextmanager

    closed = []

    @contextmanager
    def resource(name: str):
        yield name
        closed.append(name)

    with harness.Bench("test") as bench:
        assert bench.enter(resource("first")) == "first"
        bench.enter(resource("second"))
        assert closed == []
    assert closed == ["second", "first"]


def test_result_files_and_pictures_are_written_whole(tmp_path: Path) -> None:
    bench = harness.Bench("test", quick=True)
    for name, far in (("linear", 2.0), ("log", 5000.0)):
        bench.compare(
            name,
            [
                harness.Contestant("here", lambda: [1.0, 1.0], ours=True),
                harness.Contestant("there", lambda far=far: far),
            ],
            title=f"a {name} scale",
            unit="µs",
            better="lower",
        )
    data = results.as_data(bench, "a test", {"before": 0.0, "after": 0.0}, 1.0)
    path = results.save(data, tmp_path)
    stored = results.load("test", tmp_path)
    assert stored is not None
    assert stored == json.loads(path.read_text())
    assert stored["machine"]["python"].startswith("3.")
    log = results.comparison_of(stored, "log")
    assert log is not None
    assert log["ratios"]["here"] == 5000.0
    assert results.load("missing", tmp_path) is None

    picture = tmp_path / "test.svg"
    plot.draw([plot.panel_of(item) for item in stored["comparisons"]], picture, heading="test", footer="foot")
    text = picture.read_text()
    ElementTree.fromstring(text)
    assert plot.INK not in text
    assert "prefers-color-scheme" in text
    assert not list(tmp_path.glob("*.partial"))


def test_load_of_others_is_measured() -> None:
    cores, names = machine.others(0.1)
    assert cores >= 0.0
    assert len(names) <= 3


def test_joint_rate_counts_only_while_all_run() -> None:
    # Two sequences at 10 tokens/s each; the second starts a second later and runs on alone for another.
    early = [(when / 10, when + 1) for when in range(31)]
    late = [(1.0 + when / 10, when + 1) for when in range(31)]
    assert decoding.joint_rate([early, late]) == pytest.approx(20.0)
    with pytest.raises(ValueError, match="never ran together"):
        decoding.joint_rate([[(0.0, 1), (1.0, 2)], [(2.0, 1), (3.0, 2)]])


def test_streams_run_together_and_failures_surface() -> None:
    assert [[tokens for _, tokens in notes] for notes in decoding.together([lambda: range(3)] * 2)] == [
        [0, 1, 2],
        [0, 1, 2],
    ]

    def fail() -> list[int]:
        raise RuntimeError("no tokens today")

    with pytest.raises(RuntimeError, match="no tokens today"):
        decoding.together([lambda: range(3), fail])


def test_shapes_have_the_sizes_that_their_names_say() -> None:
    for name, shape in models.SHAPES.items():
        if re.fullmatch(r"[0-9.]+b", name):
            assert shape.parameters / 1e9 == pytest.approx(float(name.removesuffix("b")), rel=0.15)


def test_vocabulary_is_complete_and_words_are_whole_tokens() -> None:
    texts, scores, types = models.vocabulary(32_000)
    assert len(texts) == len(set(texts)) == len(scores) == len(types) == 32_000
    assert set(prompts.words(50).split()) <= set(texts)
    assert prompts.words(50) != prompts.words(50, seed=1)
    assert {"▁" + word for word in prompts.words(50).split()} <= set(models.vocabulary(2000)[0])
    with pytest.raises(ValueError, match="at least"):
        models.vocabulary(100)


def test_model_is_made_once_and_reads_back(tmp_path: Path) -> None:
    import gguf

    told: list[float] = []
    path = models.model("tiny", "f16", folder=tmp_path, report=lambda _what, share: told.append(share))
    assert told[-1] == 1.0
    assert list(tmp_path.iterdir()) == [path]
    reader = gguf.GGUFReader(path)
    shapes = {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    assert shapes["blk.0.ffn_up.weight"] == [64, 256]
    assert len(shapes) == 2 * 9 + 3
    stamp = path.stat().st_mtime_ns
    assert models.model("tiny", "f16", folder=tmp_path).stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="no shape named"):
        models.model("huge", folder=tmp_path)


@pytest.mark.skipif(shutil.which("llama-quantize") is None, reason="llama-quantize is not installed")
def test_quantising_leaves_no_partial_files(tmp_path: Path) -> None:
    path = models.model("tiny", "q4_0", folder=tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert 0 < path.stat().st_size < models.SHAPES["tiny"].parameters * 2
    with pytest.raises(RuntimeError, match="llama-quantize ended with"):
        models.model("tiny", "q99", folder=tmp_path)
    assert list(tmp_path.iterdir()) == [path]


beside_llama = pytest.mark.skipif(
    shutil.which("llama-server") is None or shutil.which("llama-quantize") is None,
    reason="llama.cpp's programs, the peers, are not installed",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("cache_types", marks=beside_llama),
        "channels",
        pytest.param("constraints", marks=beside_llama),
        pytest.param("engine", marks=beside_llama),
        pytest.param("latency", marks=beside_llama),
        pytest.param("memory", marks=beside_llama),
        pytest.param("parallel", marks=beside_llama),
        "pool",
        pytest.param("serving", marks=beside_llama),
        pytest.param("sharing", marks=beside_llama),
        pytest.param("speculation", marks=beside_llama),
        pytest.param("turns", marks=beside_llama),
    ],
)
def test_workload_runs_through(name: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    data = results.load(name, tmp_path)
    assert data is not None
    assert data["quick"]
    for comparison in data["comparisons"]:
        for contestant in comparison["contestants"].values():
            assert contestant["median"] > 0
    assert (tmp_path / f"{name}.svg").exists()


def test_footprint_of_this_process() -> None:
    here = footprint.of_process(os.getpid())
    assert 0 < here.private <= here.proportional + 0.01
    assert os.getpid() in footprint.tree(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in footprint.tree(os.getpid())
        child.communicate(b"\n")


def test_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.__main__ import main

    assert main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().out
