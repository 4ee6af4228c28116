"""Evidence keeps its word: at every look together, on a thousand rollouts, with batches that depend on the past.

Most tests simulate many rollouts at once, with the functions that `Evidence` and `Contest` are made of; each rollout is
looked at after every batch. The figures (candidate requests until a call) are printed: pytest -s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_core.errors import UsageError
from mlops_core.evidence import Contest, Evidence, Finding, Guard, bets, quantiles
from mlops_core.evidence.bets import Sums
from mlops_core.evidence.guards import ALLOWANCE, KEPT
from mlops_core.evidence.means import exceeds
from mlops_core.evidence.quantiles import Product, Quantiles, longer
from mlops_core.evidence.shapes import apart, shares, together
from mlops_core.records import plain

Array = Any
ALPHA, ROLLOUTS = 0.05, 1000
NEED = -math.log(ALPHA)
AT_MOST = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / ROLLOUTS)  # 3 sigma of a thousand throws


def sizes(rng: Any, worse: Array, batch: int, share: float) -> tuple[Array, Array]:
    """Requests of one batch, per rollout: (stable, candidate). Where the candidate looks worse, one looks sooner."""
    size = np.where(worse, batch // 4, batch)
    candidate = rng.binomial(size, share)
    return size - candidate, candidate


def rates(stable: float, candidate: float, looks: int, batch: int, share: float, rollouts: int) -> Iterator[Any]:
    """Failures as they come in: the counts (stable, candidate) after every batch."""
    rng = np.random.default_rng(7)
    count, total = np.zeros((2, rollouts)), np.zeros((2, rollouts))
    for _ in range(looks):
        worse = total[1] * count[0] > total[0] * count[1]
        for arm, (size, rate) in enumerate(zip(sizes(rng, worse, batch, share), (stable, candidate), strict=True)):
            count[arm] += size
            total[arm] += rng.binomial(size, rate)
        yield tuple(Sums(count[a].copy(), total[a].copy(), None, k) for a, k in enumerate(KEPT.values()))


def losses(stable: float, candidate: float, looks: int, batch: int, share: float, rollouts: int) -> Iterator[Any]:
    """Losses as labels come in: Beta-distributed with these means (a Brier score looks so)."""
    rng = np.random.default_rng(11)
    sums = np.zeros((2, 3, rollouts))
    rows = np.arange(rollouts)
    for _ in range(looks):
        worse = sums[1, 1] * sums[0, 0] > sums[0, 1] * sums[1, 0]
        for arm, (size, mean) in enumerate(zip(sizes(rng, worse, batch, share), (stable, candidate), strict=True)):
            values, of = rng.beta(3 * mean, 3 * (1 - mean), size.sum()), np.repeat(rows, size)
            sums[arm] += size, np.bincount(of, values, rollouts), np.bincount(of, values**2, rollouts)
        yield tuple(Sums(*sums[a].copy(), k) for a, k in enumerate(KEPT.values()))


def cells(stable: Array, candidate: Array, looks: int, batch: int, share: float, rollouts: int) -> Iterator[Any]:
    """Values that fall into cells with these probabilities: the counts per cell after every batch."""
    rng = np.random.default_rng(13)
    seen = np.zeros((2, rollouts, len(stable)), np.int64)
    for look in range(looks):
        drawn = sizes(rng, np.full(rollouts, look % 3 == 0), batch, share)
        for arm, (size, p) in enumerate(zip(drawn, (stable, candidate), strict=True)):
            seen[arm] += rng.multinomial(size, p)
        yield seen[0], seen[1]


def until(stream: Iterator[Any], wealth: Callable[[Any, Any], Array], requests: Callable[[Any], Array]) -> Array:
    """The candidate's requests when each rollout was first called, looked at after every batch; inf where never."""
    found: Array | None = None
    for stable, candidate in stream:
        seen = requests(candidate)
        found = np.full(seen.shape, np.inf) if found is None else found
        found = np.where(np.isinf(found) & (wealth(stable, candidate) >= NEED), seen, found)
    assert found is not None
    return found


def wrong(found: Array) -> float:
    return float(np.isfinite(found).mean())


def told(what: str, found: Array, least: float = 0.95) -> None:
    """Prints the median number of requests; all but a few must have been called."""
    print(f"{what:<58} median {np.median(found):>7,.0f} candidate requests, caught {wrong(found):.1%}")
    assert wrong(found) >= least, what


def counted(sums: Sums) -> Array:
    return sums.count


# -- the declared error rate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stable,candidate,tolerance", [(0.02, 0.02, 0.01), (0.02, 0.03, 0.01), (0.05, 0.05, 0.0)])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_null_rollouts_are_rolled_back_no_more_often_than_declared(
    stable: float, candidate: float, tolerance: float, share: float
) -> None:
    found = until(rates(stable, candidate, 60, 2000, share, ROLLOUTS), lambda s, c: exceeds(c, s, tolerance), counted)
    print(f"errors {stable} -> {candidate}, tolerance {tolerance}, {share:.0%}: rolled back {wrong(found):.1%}")
    assert wrong(found) <= AT_MOST


def test_a_z_test_looked_at_after_every_batch_breaks_its_word() -> None:
    def z(stable: Sums, candidate: Sums) -> Array:
        pooled = (stable.total + candidate.total) / (stable.count + candidate.count)
        error = np.sqrt(pooled * (1 - pooled) * (1 / stable.count + 1 / np.maximum(candidate.count, 1)))
        return np.where((candidate.mean - stable.mean) > 1.645 * error, NEED, 0.0)  # one-sided, 5 %

    fixed = until(rates(0.05, 0.05, 60, 2000, 0.05, ROLLOUTS), z, counted)
    ours = until(rates(0.05, 0.05, 60, 2000, 0.05, ROLLOUTS), lambda s, c: exceeds(c, s, 0.0), counted)
    print(f"null rollouts rolled back: z-test at every look {wrong(fixed):.1%}, evidence {wrong(ours):.1%}")
    assert wrong(fixed) > 3 * ALPHA > AT_MOST >= wrong(ours)


@pytest.mark.parametrize("candidate", [0.15, 0.17])
def test_null_losses_are_called_worse_no_more_often_than_declared(candidate: float) -> None:
    found = until(losses(0.15, candidate, 25, 1000, 0.1, ROLLOUTS), lambda s, c: exceeds(c, s, 0.02), counted)
    print(f"loss 0.15 -> {candidate}, tolerance 0.02: rolled back {wrong(found):.1%}")
    assert wrong(found) <= AT_MOST


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Quantiles:
    """The latency guard (p95, 1.5 times) on the part of its grid where the simulated latencies lie."""
    monkeypatch.setattr(quantiles, "FASTEST", 0.004)
    monkeypatch.setattr(quantiles, "SLOWEST", 0.25)
    return Quantiles(1.5, 0.95)


def lognormal(clock: Quantiles, factor: float, candidate: bool = True) -> Array:
    """Probabilities of the grid's cells for latencies around 20 ms times `factor`; the candidate's allowance is off."""
    scale = clock.edges + ALLOWANCE * candidate if candidate else clock.edges
    z = np.log(scale / (0.02 * factor)) / 0.4
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
    return np.diff(np.r_[0.0, below, 1.0])


def at_the_tolerance(clock: Quantiles) -> Array:
    """The candidate takes exactly 1.5 times as long, and 5 ms more."""
    return lognormal(clock, 1.5, candidate=False)


def slower(clock: Quantiles) -> Callable[[Array, Array], Array]:
    return lambda s, c: Product(longer(s, "stable"), longer(c, "candidate"), clock.tail)(clock.tolerated[0])


def within(clock: Quantiles) -> Callable[[Array, Array], Array]:
    return lambda s, c: Product(longer(c, "candidate"), longer(s, "stable"), clock.tail)(-clock.tolerated[1])


def summed(counts: Array) -> Array:
    return counts.sum(axis=-1)


@pytest.mark.parametrize("null", ["the same", "at the tolerance"])
def test_null_latencies_are_called_slower_no_more_often_than_declared(clock: Quantiles, null: str) -> None:
    stable = lognormal(clock, 1.0, candidate=False)
    candidate = lognormal(clock, 1.0) if null == "the same" else at_the_tolerance(clock)
    found = until(cells(stable, candidate, 15, 2000, 0.05, ROLLOUTS), slower(clock), summed)
    print(f"latency, {null}: rolled back {wrong(found):.1%}")
    assert wrong(found) <= AT_MOST


EVEN = np.full(10, 0.1)
TILTED = np.r_[np.full(5, 0.12), np.full(5, 0.08)]  # Kolmogorov-Smirnov distance 0.1, share distance 0.02


def test_a_fall_of_an_answer_that_is_always_the_same_is_seen() -> None:
    evidence = Evidence([Guard(kind="predictions", tolerance=0.5)], ALPHA)
    evidence.answered("stable", [0.01] * 400, [0.999] * 400)
    evidence.answered("candidate", [0.01] * 200, [0.001] * 200)
    assert evidence.findings()[0].state == "harm"


@pytest.mark.parametrize(
    "values,weights", [([0.999], [1.0]), ([0.0, 1.0], [0.7, 0.3]), ([0.1, 0.2, 0.3, 0.9], [0.4, 0.3, 0.2, 0.1])]
)
def test_predictions_of_few_values_are_called_safe(values: list[float], weights: list[float]) -> None:
    """What one value holds is no distance between two cuts: the share just under it and at it are both known."""
    rng, evidence = np.random.default_rng(23), Evidence([Guard(kind="predictions", tolerance=0.1)], ALPHA)
    for _ in range(30):
        for arm, size in (("stable", 400), ("candidate", 100)):
            evidence.answered(arm, [], rng.choice(values, size, p=weights))  # type: ignore[arg-type]
    (found,) = evidence.findings()
    assert found.state == "safe" and found.high <= 0.1, found.words


@pytest.mark.parametrize("tolerance", [0.05, 0.1])
def test_a_small_tolerance_can_be_shown_of_numbers_that_never_come_twice(tolerance: float) -> None:
    """What lies between two cuts is conceded, so it has to be less than the tolerance."""
    for seed in range(5):
        rng, evidence = np.random.default_rng(seed), Evidence([Guard(kind="predictions", tolerance=tolerance)], ALPHA)
        for arm in ("stable", "candidate"):
            evidence.answered(arm, [], rng.random(100_000))  # type: ignore[arg-type]
        (found,) = evidence.findings()
        assert found.state == "safe", found.words


def test_an_answer_that_moves_by_the_least_is_never_safe() -> None:
    for moved in (np.nextafter(0.5, 0.0), np.nextafter(0.5, 1.0)):
        evidence = Evidence([Guard(kind="predictions", tolerance=0.5)], ALPHA)
        evidence.answered("stable", [], [0.5] * 2000)
        evidence.answered("candidate", [], [moved] * 2000)
        assert evidence.findings()[0].state == "harm"


def test_null_predictions_are_called_shifted_no_more_often_than_declared() -> None:
    for name, candidate in (("the same", EVEN), ("at the tolerance", TILTED)):
        found = until(
            cells(EVEN, candidate, 12, 2000, 0.1, ROLLOUTS),
            lambda s, c: apart(shares(s, "stable", True), shares(c, "candidate", True), 0.1),
            summed,
        )
        print(f"predictions, {name}: rolled back {wrong(found):.1%}")
        assert wrong(found) <= AT_MOST


# -- 'safe' when it is not --------------------------------------------------------------------------------------------


def test_safe_is_said_of_harm_no_more_often_than_declared(clock: Quantiles) -> None:
    called = {
        "errors at the tolerance": until(
            rates(0.02, 0.03, 60, 2000, 0.05, ROLLOUTS), lambda s, c: exceeds(s, c, -0.01), counted
        ),
        "errors +2 points": until(
            rates(0.02, 0.04, 40, 2000, 0.25, ROLLOUTS), lambda s, c: exceeds(s, c, -0.01), counted
        ),
        "loss at the tolerance": until(
            losses(0.15, 0.17, 12, 1000, 0.2, ROLLOUTS), lambda s, c: exceeds(s, c, -0.02), counted
        ),
        "latency at the tolerance": until(
            cells(lognormal(clock, 1.0, candidate=False), at_the_tolerance(clock), 10, 2000, 0.05, ROLLOUTS),
            within(clock),
            summed,
        ),
        "predictions at the tolerance": until(
            cells(EVEN, TILTED, 8, 4000, 0.25, ROLLOUTS),
            lambda s, c: together(shares(s, "stable", True), shares(c, "candidate", True), 0.1, True),
            summed,
        ),
        "predictions of two values at the tolerance": until(  # cuts just under 0, at 0, just under 1 and at 1
            cells(np.array([0, 0.7, 0, 0.3, 0]), np.array([0, 0.6, 0, 0.4, 0]), 20, 2000, 0.25, ROLLOUTS),
            lambda s, c: together(
                shares(s, "stable", True), shares(c, "candidate", True), 0.1, True, touching=np.array([1, 3])
            ),
            summed,
        ),
    }
    for what, found in called.items():
        print(f"{what}: said to be safe {wrong(found):.1%}")
        assert wrong(found) <= AT_MOST, what


# -- power -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points,batch", [(0.02, 16000), (0.05, 1600), (0.20, 160)])
def test_errors_are_caught(points: float, batch: int) -> None:
    found = until(rates(0.01, 0.01 + points, 60, batch, 0.05, 200), lambda s, c: exceeds(c, s, 0.01), counted)
    told(f"errors 1 % + {points * 100:.0f} points, tolerance 1 point, 5 % canary", found)


def test_harm_is_caught_and_health_is_seen(clock: Quantiles) -> None:
    stable = lognormal(clock, 1.0, candidate=False)
    told(
        "p95 latency x 2, tolerance x 1.5 + 5 ms, 5 % canary",
        until(cells(stable, lognormal(clock, 2.0), 60, 800, 0.05, 200), slower(clock), summed),
    )
    told(
        "p95 latency x 4, tolerance x 1.5 + 5 ms, 5 % canary",
        until(cells(stable, lognormal(clock, 4.0), 60, 100, 0.05, 200), slower(clock), summed),
    )
    for distance, batch in ((0.25, 2000), (0.5, 400)):
        shifted = np.r_[np.full(5, 0.1 + distance / 5), np.full(5, 0.1 - distance / 5)]
        told(
            f"predictions shifted by {distance}, tolerance 0.1, 5 % canary",
            until(
                cells(EVEN, shifted, 40, batch, 0.05, 100),
                lambda s, c: apart(shares(s, "stable", True), shares(c, "candidate", True), 0.1),
                summed,
            ),
        )
    for worse, batch in ((0.06, 4000), (0.15, 800)):
        told(
            f"loss 0.15 + {worse}, tolerance 0.02, 5 % canary",
            until(losses(0.15, 0.15 + worse, 40, batch, 0.05, 100), lambda s, c: exceeds(c, s, 0.02), counted),
        )
    told(
        "safe: errors 1 % = 1 %, tolerance 1 point, 5 % canary",
        until(rates(0.01, 0.01, 60, 8000, 0.05, 100), lambda s, c: exceeds(s, c, -0.01), counted),
    )
    told(
        "safe: the same latency, tolerance x 1.5 + 5 ms, 5 % canary",
        until(cells(stable, lognormal(clock, 1.0), 60, 400, 0.05, 100), within(clock), summed),
    )
    told(
        "safe: the same predictions, tolerance 0.1, 5 % canary",
        until(
            cells(np.full(40, 1 / 40), np.full(40, 1 / 40), 40, 8000, 0.05, 30),
            lambda s, c: together(shares(s, "stable", True), shares(c, "candidate", True), 0.1, True),
            summed,
        ),
    )
    told(
        "safe: the same loss, tolerance 0.02, 5 % canary",
        until(losses(0.15, 0.15, 40, 8000, 0.05, 50), lambda s, c: exceeds(s, c, -0.02), counted),
    )


# -- the whole: Evidence ----------------------------------------------------------------------------------------------

GUARDS = (
    Guard(kind="errors", tolerance=0.02),
    Guard(kind="latency", tolerance=1.5),
    Guard(kind="predictions", tolerance=0.15),
    Guard(kind="metric", tolerance=0.05),
)


def rollout(evidence: Evidence, looks: int, seed: int, **harm: float) -> tuple[dict[str, Finding], int]:
    """Feeds batches of 400 requests (a tenth for the candidate) until some guard says harm, or for `looks` batches."""
    rng = np.random.default_rng(seed)
    look = 0
    while look < looks:
        look += 1
        for arm, size in (("stable", 360), ("candidate", 40)):
            worse = harm if arm == "candidate" else {}
            failed = int(rng.binomial(size, 0.01 + worse.get("errors", 0.0)))
            seconds = rng.lognormal(-4, 0.4, size - failed) * worse.get("latency", 1.0)
            evidence.failed(arm, failed)  # type: ignore[arg-type]
            evidence.answered(arm, seconds, rng.beta(2, 5 - worse.get("predictions", 0.0), size - failed))  # type: ignore[arg-type]
            evidence.scored(arm, rng.random(size // 4) < 0.1 + worse.get("metric", 0.0))  # type: ignore[arg-type]
        found = {f.guard.kind: f for f in evidence.findings()}
        if any(f.state == "harm" for f in found.values()):
            break
    return found, look


@pytest.mark.parametrize("kind,size", [("errors", 0.2), ("latency", 2.5), ("predictions", 3.0), ("metric", 0.5)])
def test_each_guard_names_its_own_harm(kind: str, size: float) -> None:
    found, look = rollout(Evidence(GUARDS, ALPHA), 40, 3, **{kind: size})
    print(f"{kind}: {found[kind].words} (batch {look})")
    assert {k for k, f in found.items() if f.state == "harm"} == {kind}
    assert found[kind].low >= found[kind].guard.tolerance and found[kind].error <= ALPHA
    assert "worse than tolerated" in found[kind].words


def test_a_healthy_candidate_is_called_safe_by_every_guard() -> None:
    found, _ = rollout(Evidence(GUARDS, ALPHA), 100, 5)
    for finding in found.values():
        print(finding.words)
    assert {f.state for f in found.values()} == {"safe"}
    assert all(f.low <= f.high <= f.guard.tolerance for f in found.values())


def test_classes_are_compared_by_their_shares() -> None:
    evidence = Evidence([Guard(kind="predictions", tolerance=0.1)], ALPHA)
    rng = np.random.default_rng(1)
    for _ in range(20):
        evidence.answered("stable", [0.01] * 200, rng.choice(["yes", "no", "maybe"], 200, p=[0.6, 0.3, 0.1]).tolist())
        evidence.answered("candidate", [0.01] * 50, rng.choice(["yes", "no", "never"], 50, p=[0.3, 0.3, 0.4]).tolist())
    (found,) = evidence.findings()
    assert found.state == "harm" and 0.1 < found.low < 0.35 < found.high
    with pytest.raises(UsageError, match=r"expected classes as before, not numbers"):
        evidence.answered("stable", [0.01], [0.5])


def test_of_many_classes_the_rare_ones_count_as_one() -> None:
    evidence = Evidence([Guard(kind="predictions", tolerance=0.05)], ALPHA)
    rng = np.random.default_rng(2)
    for _ in range(5):
        for arm in ("stable", "candidate"):
            evidence.answered(arm, [], [f"item {n}" for n in rng.integers(0, 300, 400)])  # type: ignore[arg-type]
    (found,) = evidence.findings()
    assert found.requests == 2000 and found.state != "harm"
    evidence.answered("candidate", [], ["another"] * 30_000)
    assert evidence.findings()[0].state == "harm"


def test_a_great_many_requests_are_judged_in_numbers_that_json_knows() -> None:
    import json

    evidence = Evidence([Guard(kind="errors", tolerance=0.0), Guard(kind="latency", tolerance=1.0)], ALPHA)
    for _ in range(3):
        for arm, failed in (("stable", 10_000_000), ("candidate", 12_000_000)):
            evidence.failed(arm, failed)  # type: ignore[arg-type]
            evidence.answered(arm, np.full(1_000_000, 1e-7 if arm == "stable" else 1e5), [])  # type: ignore[arg-type]
    json.dumps(plain(evidence.findings()), allow_nan=False)


def test_before_anything_was_seen_all_is_open() -> None:
    for finding in Evidence(GUARDS, ALPHA).findings():
        assert finding.state == "open" and finding.requests == 0 and finding.error == 1.0
        assert finding.words.endswith("nothing seen of the candidate yet")


# -- A/B ---------------------------------------------------------------------------------------------------------------


def test_equal_arms_have_no_winner_more_often_than_declared() -> None:
    rng = np.random.default_rng(17)
    arms = np.zeros((3, 2, ROLLOUTS))
    called = np.zeros(ROLLOUTS, bool)
    for _ in range(25):
        for arm, batch in enumerate((300, 60, 30)):
            size = np.where(arms[arm, 1] > 0.2 * arms[arm, 0], batch, batch // 2)
            arms[arm] += size, rng.binomial(size, 0.2)
        sums = [Sums(count.copy(), total, total) for count, total in arms]
        for mine in sums:
            ahead = np.min([exceeds(other, mine, 0.0, 48) for other in sums if other is not mine], axis=0)
            called |= ahead >= math.log(len(sums) / ALPHA)
    print(f"three equal arms: a winner in {called.mean():.1%}")
    assert called.mean() <= AT_MOST


def test_a_winner_is_called_when_it_is_earned() -> None:
    rng, seen = np.random.default_rng(19), []
    for _ in range(10):
        contest = Contest(["red", "green", "blue"], ALPHA)
        while contest.winner() is None:
            for arm, loss in (("red", 0.3), ("green", 0.2), ("blue", 0.3)):
                contest.scored(arm, rng.random(100) < loss)  # type: ignore[arg-type]
        assert contest.winner() == "green"
        seen.append(contest.report()[1].rows)
    print(f"A/B/C, loss 0.3, 0.2, 0.3: a winner after {np.median(seen):,.0f} rows per arm (median)")
    assert np.median(seen) < 2500
    for standing in contest.report():
        assert standing.low < standing.loss < standing.high
        assert (standing.error <= ALPHA) == (standing.arm == "green")


def test_a_contest_refuses_what_it_cannot_judge() -> None:
    with pytest.raises(UsageError, match="two or more different arms"):
        Contest(["red", "red"], ALPHA)
    with pytest.raises(UsageError, match="did you mean 'green'"):
        Contest(["red", "green"], ALPHA).scored("gren", [0.1])
    assert Contest(["red", "green"], ALPHA).winner() is None


# -- properties --------------------------------------------------------------------------------------------------------

LOSSES = st.lists(st.floats(0, 1), max_size=30)
SECONDS = st.lists(st.floats(0, 100), max_size=30)
BATCHES = st.lists(st.tuples(st.sampled_from(["stable", "candidate"]), SECONDS, st.integers(0, 5), LOSSES), max_size=8)
COUNTED = (GUARDS[0], GUARDS[1], GUARDS[3])


def judged(batches: list[Any]) -> list[Any]:
    evidence = Evidence(COUNTED, ALPHA)
    for arm, seconds, failed, scored in batches:
        evidence.answered(arm, seconds, [])
        evidence.failed(arm, failed)
        evidence.scored(arm, scored)
    found = evidence.findings()
    return [(f.state, f.requests) for f in found] + [pytest.approx(f.low, abs=1e-3) for f in found]


@settings(max_examples=25)
@given(BATCHES, st.randoms(use_true_random=False))
def test_the_order_and_the_cut_of_batches_do_not_matter(batches: list[Any], random: Any) -> None:
    shuffled = list(batches)
    random.shuffle(shuffled)
    singles = [(arm, [s], 0, []) for arm, seconds, _, _ in shuffled for s in seconds]
    singles += [(arm, [], failed, scored) for arm, _, failed, scored in shuffled]
    assert judged(batches) == judged(shuffled)
    assert judged(batches) == judged(singles)


@settings(max_examples=25)
@given(BATCHES)
def test_empty_batches_change_nothing(batches: list[Any]) -> None:
    empty: list[Any] = [("stable", [], 0, []), ("candidate", [], 0, [])]
    assert judged(batches) == judged(empty + batches + empty)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_wealth_is_monotone_in_the_bound(count: int, total: int, one: float, other: float) -> None:
    total, low, high = min(count, total), min(one, other), max(one, other)
    for squares in (None, total * 0.7):
        sums = Sums(count, total, squares)
        assert bets.over(sums, low) >= bets.over(sums, high) - 1e-6
        assert bets.under(sums, low) <= bets.under(sums, high) + 1e-6


@pytest.mark.parametrize(
    "feed,words",
    [
        (
            lambda e: e.answered("candidate", [0.1, math.nan], []),
            r"seconds of the candidate version: number 2 of 2 is nan",
        ),
        (lambda e: e.answered("candidate", [-1.0], []), "no negative number"),
        (lambda e: e.answered("stable", [0.1], [math.nan]), "predictions of the stable version: number 1 of 1 is nan"),
        (lambda e: e.answered("stable", [0.1], ["a", 1.0]), "all numbers or all classes"),
        (lambda e: e.scored("candidate", [0.5, 1.5]), "number 2 of 2 is 1.5; expected 0 to 1"),
        (lambda e: e.scored("candidate", [math.nan]), "losses of the candidate version: number 1 of 1 is nan"),
        (lambda e: e.failed("stable", -1), "expected 0 or more"),
        (lambda e: e.failed("canary", 1), "arm 'canary': expected 'stable' or 'candidate'"),
        (lambda e: Guard(kind="latency", tolerance=0.0), "tolerance of latency"),
        (lambda e: Guard(kind="errors", tolerance=math.nan), "tolerance of errors"),
        (lambda e: Guard(kind="latency", tolerance=1.5, quantile=1.0), "quantile of latency"),
        (lambda e: Evidence(GUARDS, 1.0), "alpha: expected a number between 0 and 1"),
    ],
)
def test_nonsense_is_refused_with_words(feed: Callable[[Evidence], Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        feed(Evidence(GUARDS, ALPHA))


def test_counting_costs_microseconds() -> None:
    import time

    evidence, rng = Evidence(GUARDS, ALPHA), np.random.default_rng(0)
    seconds, predictions = rng.lognormal(-4, 0.4, 100), rng.random(100)
    start = time.process_time()
    for _ in range(1000):
        evidence.answered("stable", seconds, predictions)
        evidence.scored("stable", predictions)
    each = (time.process_time() - start) / 100_000
    start = time.process_time()
    for _ in range(5):
        evidence.findings()
    look = (time.process_time() - start) / 5
    print(f"{each * 1e6:.2f} us per request in batches of 100, {look * 1e3:.0f} ms per look at four guards")
    assert each < 20e-6
