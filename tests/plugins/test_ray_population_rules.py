"""Scheduler `pbt` of tuner `ray`: which leg comes next. Pure: no Ray, no fit."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlops_ray.legs import Legs
from mlops_ray.page import page
from mlops_ray.population import Leg, Population, near
from mlops_ray.tuner import RayTuner

from mlops_core import Trials, key_of, lineage, multiples
from mlops_core.contracts import Distribution, Goal, Trial

SPACE = {
    "rate": Distribution(kind="loguniform", args=(1e-4, 1.0)),
    "size": Distribution(kind="randint", args=(1, 9)),
    "shape": Distribution(kind="choice", args=(["flat", "steep"],)),
}
GOAL = Goal(metric="score", mode="max", seed=1, changes=("rate", "size"))


class Told:
    """A population that is told what its legs score."""

    def __init__(self, scores: list[float], *, goal: Goal = GOAL, space: Any = SPACE) -> None:
        self.population = Population(space, goal, goal.changes, interval=2)
        self.space, self.legs = space, dict[int, Trial]()
        for number, score in enumerate(scores):
            params = {"rate": 0.1, "size": 4, "shape": "flat" if number % 2 else "steep"}
            self.made(Leg(number, -1, {n: params[n] for n in space} | {"rate": 0.01 * (number + 1)}), score, first=True)

    def made(self, leg: Leg, score: float, *, first: bool = False, **told: Any) -> Trial:
        number, after = len(self.legs), None if first else leg.after
        self.population.begun(number, leg.member, after, leg.params)
        steps = 2 + (self.legs[after].steps if after is not None else 0)
        left = told.pop("left", True)
        told = {"state": "done", "steps": steps, "seconds": 1.0, "after": after} | told
        scores = {} if told["state"] == "failed" else {"score": score}
        self.legs[number] = trial = Trial(number=number, params=leg.params, scores=scores, **told)
        self.population.ended(trial, left=left)
        return trial


@pytest.mark.parametrize(("members", "size"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3), (16, 4)])
def test_the_worst_quarter_goes_on_from_the_best(members: int, size: int) -> None:
    told = Told([float(i) for i in range(members)])
    for number in range(members):
        leg = told.population.next()
        assert leg is not None and leg.member == number, "in turn"
        assert (leg.after != number) == (number < size)
        if number < size:
            assert leg.after >= members - size
            assert leg.params["shape"] == told.legs[leg.after].params["shape"], "what may not change comes with it"
            assert leg.params["rate"] != told.legs[leg.after].params["rate"]
        else:
            assert leg.params == told.legs[number].params
        told.population.begun(100 + number, leg.member, leg.after, leg.params)
    assert told.population.next() is None and told.population.busy


def test_less_may_be_better() -> None:
    told = Told([0.0, 1.0], goal=Goal(metric="score", mode="min", seed=1, changes=("rate",)))
    leg = told.population.next()
    assert leg is not None and (leg.member, leg.after) == (0, 0)
    told.population.begun(2, leg.member, leg.after, leg.params)
    leg = told.population.next()
    assert leg is not None and (leg.member, leg.after) == (1, 0)


def test_the_latest_leg_of_each_is_what_counts_however_deep() -> None:
    """As in the paper: who was once the best is not, when its next leg is worse."""
    told = Told([3.0, 2.0])
    own = told.population.next()
    assert own == Leg(0, 0, told.legs[0].params)
    told.made(own, 1.0)
    leg = told.population.next()
    assert leg == Leg(1, 1, told.legs[1].params)
    told.population.begun(9, leg.member, leg.after, leg.params)
    leg = told.population.next()
    assert leg is not None and (leg.member, leg.after) == (0, 1)


def test_who_is_over_is_neither_held_against_nor_copied() -> None:
    for how in ({"left": False}, {"steps": 3}, {"state": "pruned"}):
        told = Told([9.0, 1.0, 2.0])
        leg = told.population.next()
        assert leg is not None
        told.made(leg, 10.0, **how)  # type: ignore[arg-type]
        leg = told.population.next()
        assert leg is not None and (leg.member, leg.after) == (1, 2)
        assert told.population.needed == {1, 2}


def test_a_failed_leg_is_followed_by_one_of_the_best_or_by_none() -> None:
    told = Told([3.0, 2.0, 1.0, 4.0])
    leg = told.population.next()
    assert leg == Leg(0, 0, told.legs[0].params)
    told.made(leg, 0.0, state="failed", error="no")
    for number in (1, 2, 3):
        told.population.begun(90 + number, number, None, {})
    leg = told.population.next()
    assert leg is not None and (leg.member, leg.after) == (0, 3)
    lone = Told([])
    lone.made(Leg(0, -1, {"rate": 0.1}), 0.0, first=True, state="failed", error="no")
    assert lone.population.next() is None and not lone.population.busy


def test_who_fails_three_times_in_a_row_is_over() -> None:
    """Or sooner, where nothing near the best is left to try."""
    told, count = Told([1.0, 2.0]), 0
    while leg := told.population.next():
        told.made(leg, 0.0, state="failed", error="no")
        count += 1
    assert count == 5 and told.population.members[0].over


def test_a_score_that_is_no_number_is_the_worst() -> None:
    told = Told([math.nan, 1.0])
    leg = told.population.next()
    assert leg is not None and (leg.member, leg.after) == (0, 1)


def test_nothing_is_made_twice() -> None:
    """Of a choice of two there is one other; who finds it taken goes on by itself."""
    space = {"rate": Distribution(kind="choice", args=([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08],))}
    told = Told([float(i) for i in range(8)], space=space)
    seen = set()
    for _ in range(30):
        leg = told.population.next()
        assert leg is not None
        key = key_of(leg.params, leg.after)
        assert key not in seen
        seen.add(key)
        told.made(leg, leg.member / 10)


def test_what_is_needed_is_the_latest_of_each_and_where_somebody_is_on_the_way_from() -> None:
    told = Told([1.0, 2.0])
    leg = told.population.next()
    assert leg is not None and leg.after == 1
    told.population.begun(2, leg.member, leg.after, leg.params)
    assert told.population.needed == {0, 1}
    leg = told.population.next()
    assert leg is not None
    told.population.begun(3, leg.member, leg.after, leg.params)
    told.population.ended(
        Trial(number=3, params=leg.params, scores={"score": 3.0}, state="done", seconds=1, after=1, steps=4), left=True
    )
    assert told.population.needed == {0, 1, 3}, "1 is still where 2 goes on from"


def made(kind: Any, *args: Any) -> Any:
    return Distribution(kind=kind, args=args)


KINDS = st.one_of(
    st.builds(lambda low, wide: made("uniform", low, low + wide), st.floats(-9, 9), st.floats(0.1, 9)),
    st.builds(lambda low, times: made("loguniform", low, low * times), st.floats(1e-5, 1), st.floats(2, 1e4)),
    st.builds(lambda low, wide: made("randint", low, low + wide), st.integers(-20, 20), st.integers(2, 50)),
    st.builds(
        lambda low, wide, step: made("quniform", low * step, (low + wide) * step, step),
        st.integers(-20, 20), st.integers(1, 50), st.sampled_from([0.1, 0.25, 2, 16]),
    ),
    st.builds(lambda n: made("choice", [f"v{i}" for i in range(n)]), st.integers(2, 6)),
)  # fmt: skip


def drawn(d: Distribution, rng: random.Random) -> Any:
    if d.kind == "choice":
        return rng.choice(d.args[0])
    if d.kind == "randint":
        return rng.randrange(*d.args)
    if d.kind == "quniform":
        return rng.choice(multiples(d)) * d.args[2]
    return rng.choice([d.args[0], d.args[1], rng.uniform(*d.args)])


@settings(max_examples=300, deadline=None)
@given(d=KINDS, seed=st.integers(0, 1000))
def test_what_is_near_is_another_value_of_the_space(d: Distribution, seed: int) -> None:
    rng = random.Random(seed)
    value = drawn(d, rng)
    found = near(d, value, rng)
    if d.kind == "choice":
        assert found in d.args[0]
        return
    assert found != value
    assert d.args[0] - 1e-9 <= found <= d.args[1] + 1e-9
    if d.kind == "randint":
        assert isinstance(found, int) and found < d.args[1]
    if d.kind == "quniform":
        assert found / d.args[2] == pytest.approx(round(found / d.args[2]))
    if d.kind == "loguniform" and found not in d.args:
        assert found / value in (pytest.approx(0.8), pytest.approx(1.2))


def test_of_a_choice_most_go_to_a_neighbour() -> None:
    d = Distribution(kind="choice", args=(list(range(9)),))
    found = [near(d, 4, random.Random(seed)) for seed in range(2000)]
    assert {3, 5} < set(found) == set(range(9))
    assert 0.75 < sum(v in (3, 5) for v in found) / 2000 < 0.87


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 30))
def test_a_search_that_was_cut_off_goes_on_as_it_would_have(tmp_path_factory: Any, seed: int, cut: int) -> None:
    """Legs that end in any order, from the folder alone after `cut` of them."""
    rng = random.Random(seed)
    out = tmp_path_factory.mktemp("search")
    tuner, goal = RayTuner(scheduler="pbt", trials=4, interval=2), Goal(metric="score", mode="max", seed=seed,
                                                                       changes=("rate", "size"))  # fmt: skip
    points, under_way = Legs(tuner, SPACE, goal, out, Trials(out)), list[Any]()
    made, resumed = 0, False
    while True:
        if made == cut and not resumed:  # what is under way is begun again, first
            before, again = points.population, Legs(tuner, SPACE, goal, out, Trials(out))
            assert [p.number for p in again.queue] == sorted(p.number for p in under_way)
            assert again.population.members == before.members and again.population.needed == before.needed
            assert again.population.next() == before.next()
            points, under_way, resumed = again, [], True
        point = points.next() if len(under_way) < 3 else None
        if point:
            under_way.append(point)
            continue
        if not under_way:
            break
        point, made = under_way.pop(rng.randrange(len(under_way))), made + 1
        depth = 0 if point.after is None else next(t.steps for t in points.known if t.number == point.after)
        scratch = out / "trials" / f"{point.number:04d}" / "scratch"
        scratch.mkdir(parents=True)
        failed = bool(len(points.known)) and rng.random() < 0.15
        if depth < 6 and not failed:
            (scratch / "checkpoint").touch()
        trial = Trial(
            number=point.number, params=point.params, scores={} if failed else {"score": rng.random()},
            state="failed" if failed else "done", seconds=1, after=point.after, steps=depth + 2,
        )  # fmt: skip
        points.known.add(trial)
        points.tell(trial)
        for number in points.spare(trial):
            for file in (out / "trials" / f"{number:04d}" / "scratch").iterdir():
                file.unlink()
    assert not points.left
    trials = {t.number: t for t in points.known}
    assert [t.after for t in trials.values()].count(None) == 4
    assert all(t.steps <= 8 and len(lineage(trials.values(), t)) == t.steps // 2 for t in trials.values())
    for trial in trials.values():
        assert trial.after is None or trial.params["shape"] == trials[trial.after].params["shape"]


def test_the_page_tells_the_schedule_of_the_best() -> None:
    told = Told([1.0, 2.0])
    leg = told.population.next()
    assert leg is not None
    best = told.made(leg, 3.0)
    text = page(SPACE, GOAL, list(told.legs.values()), {})
    first, last = (f"rate {t.params['rate']:.4g}, size {t.params['size']}" for t in (told.legs[1], best))
    assert f"Its fit went to step 2 (trial 1) with {first}" in text
    assert f"to step 4 (trial 2) with {last}" in text
    assert "<th>trial</th><th>after</th><th>state</th>" in text
    assert "after" not in page(SPACE, GOAL, [replace(told.legs[0], steps=0)], {})


def test_the_toy_problem_of_the_paper() -> None:
    """Figure 2: of two members each makes one half of what counts small; what is best is found by neither alone."""

    def fitted(theta: tuple[float, float], leg: Leg, steps: int = 10) -> tuple[float, float]:
        for _ in range(steps):
            theta = (theta[0] * (1 - 0.02 * leg.params["left"]), theta[1] * (1 - 0.02 * leg.params["right"]))
        return theta

    def score(theta: tuple[float, float]) -> float:
        return 1.2 - theta[0] ** 2 - theta[1] ** 2

    first = [Leg(number, -1, {"left": 1.0 - number, "right": float(number)}) for number in (0, 1)]
    alone = [score(fitted((0.9, 0.9), leg, steps=400)) for leg in first]
    together = []
    for seed in range(10):
        goal = Goal(metric="score", mode="max", seed=seed, changes=("left", "right"))
        space = {name: Distribution(kind="uniform", args=(0.0, 1.0)) for name in goal.changes}
        told, thetas = Told([], goal=goal, space=space), list[tuple[float, float]]()
        for number in range(80):
            leg = first[number] if number < 2 else told.population.next()
            assert leg is not None
            thetas.append(fitted((0.9, 0.9) if number < 2 else thetas[leg.after], leg))
            told.made(leg, score(thetas[-1]), first=number < 2)
        together.append(max(map(score, thetas)))
    assert max(alone) < 0.4 < min(together)
    assert sum(found > 1.15 for found in together) >= 8
