"""The benchmark harness: its arithmetic, its order, its files; no timing is judged here."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import harness, machine, plot, results, summary


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
