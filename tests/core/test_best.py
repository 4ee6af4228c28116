"""The models that are kept of a search, whatever order its trials end in."""

from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_core.contracts import Trial
from mlops_core.flow.best import keep, kept, kept_front, wanted
from mlops_core.pareto import dominates

Costs = st.one_of(*(st.lists(st.tuples(*[st.integers(0, 3).map(float)] * n), max_size=8) for n in (1, 2, 3)))


def trial(number: int, cost: float) -> Trial:
    return Trial(number=number, params={"x": number}, scores={"loss": cost}, state="done", seconds=0)


@settings(deadline=None, max_examples=40)
@given(Costs)
def test_what_no_other_dominates_is_kept_and_nothing_else(costs: list[tuple[float, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        models, left = Path(folder) / "models", Path(folder) / "left"
        for number, its in enumerate(costs):
            (left / str(number)).mkdir(parents=True)
            (left / str(number) / "model.json").write_text(str(number))
            due = wanted(models, {"x": number}, its)
            keep(models, {"x": number}, left / str(number), its[0], its)
            assert due == (kept(models, {"x": number}, {"loss": its[0]}, "loss") is not None)
        front = [n for n, its in enumerate(costs) if not any(dominates(other, its) for other in costs)]
        found = {n: kept(models, {"x": n}, {"loss": its[0]}, "loss") for n, its in enumerate(costs)}
        assert [n for n, path in found.items() if path] == front
        home = kept_front(models, [trial(n, its[0]) for n, its in enumerate(costs)], "loss")
        assert home or not costs
        names = {p.name: (p / "model.json").read_text() for p in home.iterdir()} if home else {}
        assert names == {f"{n:04d}": str(n) for n in front}


def test_a_trial_made_again_takes_its_own_place_and_a_model_of_other_scores_is_not_its(tmp_path: Path) -> None:
    for text, costs in (("first", (1.0, 2.0)), ("second", (3.0, 2.0))):
        (tmp_path / text).mkdir()
        (tmp_path / text / "model.json").write_text(text)
        keep(tmp_path / "models", {"x": 0}, tmp_path / text, costs[0], costs)
    found = kept(tmp_path / "models", {"x": 0}, {"loss": 3.0}, "loss")
    assert found and (found / "model.json").read_text() == "second"
    assert kept(tmp_path / "models", {"x": 0}, {"loss": 1.0}, "loss") is None
    assert kept_front(tmp_path / "models", [trial(0, 1.0)], "loss") is None


def test_what_another_left_behind_is_no_rival(tmp_path: Path) -> None:
    """A trial that was made again was better at first; the second best is the best on record."""
    models = tmp_path / "models"
    for x, cost in ((1, 1.0), (1, 3.0), (2, 2.0)):
        (tmp_path / f"{x}-{cost}").mkdir()
        keep(models, {"x": x}, tmp_path / f"{x}-{cost}", cost, (cost,))
    assert kept(models, {"x": 2}, {"loss": 2.0}, "loss")
    (models / "fresh").mkdir()  # by a kill
    (models / "fresh" / "trial.json").write_text('{"costs": [0.0], "score": 0.0}')
    assert wanted(models, {"x": 3}, (1.5,))


def test_the_model_of_a_leg_is_not_that_of_another_with_its_parameters(tmp_path: Path) -> None:
    """Both as good; of a trial that is no leg the folder is named as ever."""
    models = tmp_path / "models"
    for text, after in (("own", None), ("leg", 3)):
        (tmp_path / text).mkdir()
        (tmp_path / text / "model.json").write_text(text)
        keep(models, {"x": 0}, tmp_path / text, 1.0, (1.0,), after)
    found = [kept(models, {"x": 0}, {"loss": 1.0}, "loss", after) for after in (None, 3, 4)]
    assert [path and (path / "model.json").read_text() for path in found] == ["own", "leg", None]
    assert (models / sha256(b'{"x": 0}').hexdigest()[:16] / "model").exists()
