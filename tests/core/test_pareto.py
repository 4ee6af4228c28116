"""The front of a search, against the definition read aloud; and what a tolerance takes from it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.contracts import Goal, Mode, Scores, Trial
from mlops_core.pareto import LEEWAY, advances, costs_of, dominates, front_of, offers_of, taken
from mlops_core.trials import NoMetric, judged

GOAL = Goal(metric="auroc", mode="max", seed=0, objectives={"brier": "min", "size": "min"})
ODD = (math.nan, math.inf, -math.inf)


def trial(number: int, scores: Scores, state: str = "done") -> Trial:
    return Trial(number=number, params={"x": number}, scores=scores, state=state, seconds=0)  # type: ignore[arg-type]


def scores() -> st.SearchStrategy[dict[str, float]]:
    """Few values, so that many are equal; some are missing or no numbers."""
    value = st.one_of(st.integers(-3, 3).map(float), st.sampled_from(ODD))
    return st.dictionaries(st.sampled_from(["auroc", "brier", "size"]), value, min_size=2)


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[Trial], Goal]:
    names = draw(st.permutations(["auroc", "brier", "size"]))[: draw(st.integers(1, 3))]
    modes: list[Mode] = [draw(st.sampled_from(["max", "min"])) for _ in names]
    goal = Goal(metric=names[0], mode=modes[0], seed=0, objectives=dict(zip(names[1:], modes[1:], strict=True)))
    states = st.sampled_from(["done", "done", "done", "pruned", "failed"])
    found = draw(st.lists(st.tuples(scores(), states), max_size=20))
    return [trial(i, s, state) for i, (s, state) in enumerate(found)], goal


def better(one: Trial, other: Trial, name: str, goal: Goal) -> bool:
    mode = {goal.metric: goal.mode, **goal.objectives}[name]
    a, b = one.scores[name], other.scores[name]
    return a > b if mode == "max" else a < b


def by_hand(trials: list[Trial], goal: Goal) -> set[int]:
    names = [goal.metric, *goal.objectives]
    whole = [t for t in trials if t.state == "done" and all(math.isfinite(t.scores.get(n, math.nan)) for n in names)]

    def beaten(t: Trial) -> bool:
        return any(
            any(better(o, t, n, goal) for n in names) and not any(better(t, o, n, goal) for n in names) for o in whole
        )

    return {t.number for t in whole if not beaten(t)}


@given(searches())
def test_the_front_is_what_none_beats(found: tuple[list[Trial], Goal]) -> None:
    trials, goal = found
    front = front_of(trials, goal)
    assert {t.number for t in front} == by_hand(trials, goal)
    assert {t.number for t in front_of(front, goal)} == {t.number for t in front}
    assert front_of(reversed(trials), goal) == front


@given(searches(), st.floats(0, 4))
def test_what_is_taken_is_the_best_second_score_within_the_tolerance(
    found: tuple[list[Trial], Goal], tolerance: float
) -> None:
    trials, goal = found
    chosen, front = taken(trials, goal, tolerance), by_hand(trials, goal)
    assert (chosen is None) == (not front)
    if chosen is None:
        return
    assert chosen.number in front
    costs = {t.number: costs_of(t.scores, goal) or () for t in trials if t.number in front}
    best = min(c[0] for c in costs.values())
    within = {n: c for n, c in costs.items() if c[0] - best <= tolerance * LEEWAY}
    assert costs[chosen.number][1:] == min(c[1:] for c in within.values())
    offers = offers_of(trials, goal)
    assert offers[0][0] == 0 and [least for least, _ in offers] == sorted({least for least, _ in offers})


def test_one_objective_has_its_best_as_front_and_equals_are_all_there() -> None:
    goal = Goal(metric="loss", mode="min", seed=0)
    trials = [trial(0, {"loss": 2.0}), trial(1, {"loss": 1.0}), trial(2, {"loss": 1.0})]
    assert [t.number for t in front_of(trials, goal)] == [1, 2]
    assert taken(trials, goal, 5.0) == trials[1]


def test_a_tolerance_reaches_what_is_written() -> None:
    goal = Goal(metric="auroc", mode="max", seed=0, objectives={"brier": "min"})
    trials = [trial(0, {"auroc": 0.93, "brier": 0.2}), trial(1, {"auroc": 0.92, "brier": 0.1})]
    assert 0.93 - 0.92 > 0.01
    found = taken(trials, goal, 0.01)
    assert found and found.number == 1
    found = taken(trials, goal, 0.0099)
    assert found and found.number == 0


def test_dominance_and_what_advances() -> None:
    assert dominates((1, 2), (1, 3)) and not dominates((1, 2), (1, 2)) and not dominates((1, 3), (2, 1))
    assert advances([(1, 2)], (0, 9)) and advances([], (1, 1))
    assert not advances([(1, 2)], (1, 2)) and not advances([(1, 2)], (2, 2)) and not advances([], None)


def test_a_further_objective_that_a_trial_ends_without_is_told() -> None:
    assert judged({"auroc": 1}, GOAL) == {"auroc": 1.0}
    with pytest.raises(NoMetric, match=r"objective 'brier' is not among the scores .* auroc, brierr; did you mean"):
        judged({"auroc": 1, "brierr": 0.1}, GOAL, ended=True)
