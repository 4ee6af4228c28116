"""A search as one HTML page, whole in itself: nothing is fetched, so that it can be kept and sent as a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from mlops_core import front_of, lineage, objectives_of, offers_of
from mlops_core.contracts import Distribution, Goal, Mode, Space, Trial

SHOWN = 500  # trials, the best first: a browser must still be quick
WIDE, HIGH = 760, 260
LEFT, RIGHT, TOP, LOW = 64, 16, 12, 34
WORSE, BEST = (138, 152, 172), (224, 86, 27)  # seen on white and on black, and by eyes that mix up red and green
ON, OFF = 'class="front" r="5"', 'r="3.5"'
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
STYLE = """
:root{color-scheme:light dark;--ink:#222;--faint:#888;--line:#ccc;--ground:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--faint:#999;--line:#444;--ground:#161616}}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--ground)}
table{border-collapse:collapse;font-size:14px}td,th{border:1px solid var(--line);padding:.2rem .6rem;text-align:left}
td.number{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}svg{display:block}svg text{font:12px system-ui,sans-serif;fill:var(--faint);
paint-order:stroke;stroke:var(--ground);stroke-width:3px}
svg .axis{stroke:var(--line);fill:none}svg .curve{fill:none;stroke-width:1.5;opacity:.7}svg .name{fill:var(--ink)}
svg .best{fill:none;stroke:var(--ink);stroke-width:2}svg .front{stroke:var(--ink);stroke-width:2}
.on{stroke:var(--ink)!important;stroke-width:3!important;opacity:1!important}tr.on{background:#e0561b33}
"""
SCRIPT = """
function light(event, on) {
  const at = event.target.closest('[data-n]')
  if (at) document.querySelectorAll('[data-n="' + at.dataset.n + '"]').forEach(e => e.classList.toggle('on', on))
}
document.addEventListener('mouseover', event => light(event, true))
document.addEventListener('mouseout', event => light(event, false))
"""


def page(space: Space, goal: Goal, trials: Sequence[Trial], curves: Mapping[int, Sequence[tuple[int, float]]]) -> str:
    """The page: what was found, of several objectives the front, the best so far, parallel coordinates, learning
    curves, and every trial."""
    scored = sorted((t for t in trials if _finite(t, goal)), key=lambda t: _cost(t, goal))
    front = front_of(trials, goal) if goal.objectives else ()
    first = {t.number for t in front}
    ordered = [*front, *(t for t in scored if t.number not in first)]
    shown = (ordered + [t for t in trials if not _finite(t, goal)])[:SHOWN]
    colours = {t.number: _colour(1 - i / max(1, len(scored) - 1)) for i, t in enumerate(scored)}
    kept = {t.number for t in shown}
    drawn = {t.number: curves[t.number] for t in shown if t.number in colours and len(curves.get(t.number, ())) > 1}
    wanted = " and ".join(objectives_of(goal))
    body = [f"<h1>Search for the best {escape(wanted)}</h1>", _told(goal, trials, scored)]
    if front:
        body += ["<h2>Front</h2>", _scatter(goal, shown, front, colours), _offers(goal, trials)]
    if scored:
        body += ["<h2>Best so far</h2>", _progress(goal, trials, colours, kept)]
        body += ["<h2>Parameters</h2>", _parallel(space, goal, shown, colours)]
    if drawn:
        body += ["<h2>Learning curves</h2>", _curves(goal, drawn, colours)]
    body += ["<h2>Trials</h2>", _table(space, goal, shown)]
    if len(shown) < len(trials):
        body.append(f"<p>The best {len(shown)} of {len(trials)} trials.</p>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/><title>Search: {escape(goal.metric)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
        f'<meta name="viewport" content="width=device-width"/><style>{STYLE}</style></head><body>'
        + "\n".join(body)
        + f"<script>{SCRIPT}</script></body></html>\n"
    )


def _told(goal: Goal, trials: Sequence[Trial], scored: Sequence[Trial]) -> str:
    counts = [f"{sum(t.state == s for t in trials)} {s}" for s in ("done", "pruned", "failed")]
    words = f"{len(trials)} trials: {', '.join(counts)}; {sum(t.seconds for t in trials):,.0f} s in all."
    best = next((t for t in scored if t.state == "done"), scored[0] if scored else None)
    if best:
        score = _short(best.scores[goal.metric])
        words += f" The best is trial {best.number} with {goal.metric} {score}: {_values(best)}."
        words += _history(trials, best)
    hint = "Orange is better, grey is worse; point at a trial to find it everywhere."
    return f"<p>{escape(words)}</p><p>{hint}</p>"


def _history(trials: Sequence[Trial], best: Trial) -> str:
    """Of a population, the legs whose fit the best one ends."""
    legs = lineage(trials, best)
    told = [f"to step {t.steps} (trial {t.number}) with {_values(t)}" for t in legs]
    return f" Its fit went {'; '.join(told)}." if len(legs) > 1 else ""


def _values(trial: Trial) -> str:
    return ", ".join(f"{k} {_short(v)}" for k, v in trial.params.items())


def _scatter(goal: Goal, shown: Sequence[Trial], front: Sequence[Trial], colours: Mapping[int, str]) -> str:
    """The metric over the first further objective; of two objectives with the edge of what was reached."""
    name, mode = next(iter(goal.objectives.items()))
    trials = [t for t in shown if t.number in colours and math.isfinite(t.scores.get(name, math.nan))]
    frame = _Frame(goal, (0, 1), [t.scores[goal.metric] for t in trials])
    frame.span = _span([t.scores[goal.metric] for t in trials], goal.mode, [t.scores[goal.metric] for t in front])
    frame.steps = _span([t.scores[name] for t in trials], mode, [t.scores[name] for t in front])
    on = {t.number for t in front}
    edge: list[tuple[float, float]] = []
    for t in front if len(goal.objectives) == 1 else ():
        at, value = t.scores[name], t.scores[goal.metric]
        edge += [(edge[-1][0], value), (at, value)] if edge else [(at, value)]
    line = [f'<path class="best" d="{frame.path(edge)}"/>'] if edge else []
    dots = [
        f'<circle data-n="{t.number}" cx="{frame.x(t.scores[name]):.1f}" cy="{frame.y(t.scores[goal.metric]):.1f}" '
        f'fill="{colours[t.number]}" {ON if t.number in on else OFF}>{_title(t, goal)}</circle>'
        for t in reversed(trials)
    ]
    return frame.drawn([*line, *dots], name, goal.metric, whole=False)


def _offers(goal: Goal, trials: Sequence[Trial]) -> str:
    """Whose model is taken from which tolerance on."""
    names = list(objectives_of(goal))
    rows = []
    for least, t in offers_of(trials, goal):
        cells = [f"{least:.4g}", str(t.number), *(_short(t.scores[n]) for n in names)]
        found = "".join(f'<td class="number">{escape(v)}</td>' for v in cells)
        rows.append(f'<tr data-n="{t.number}">{found}</tr>')
    head = "".join(f"<th>{escape(h)}</th>" for h in ["tuner.tolerance from", "takes trial", *names])
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _progress(goal: Goal, trials: Sequence[Trial], colours: Mapping[int, str], kept: set[int]) -> str:
    values = [(i, t) for i, t in enumerate(trials, 1) if t.number in colours]
    frame = _Frame(goal, (1, max(len(trials), 2)), [t.scores[goal.metric] for _, t in values])
    steps: list[tuple[float, float]] = []
    for i, t in values:
        value = t.scores[goal.metric]
        before = steps[-1][1] if steps else value
        better = max(before, value) if goal.mode == "max" else min(before, value)
        steps += [(i, before), (i, better)]
    steps.append((len(trials), steps[-1][1]))
    dots = [
        f'<circle data-n="{t.number}" cx="{frame.x(i):.1f}" cy="{frame.y(t.scores[goal.metric]):.1f}" r="3.5" '
        f'fill="{colours[t.number]}">{_title(t, goal)}</circle>'
        for i, t in values
        if t.number in kept
    ]
    return frame.drawn([f'<path class="best" d="{frame.path(steps)}"/>', *dots], "trials finished", goal.metric)


def _curves(goal: Goal, curves: Mapping[int, Sequence[tuple[int, float]]], colours: Mapping[int, str]) -> str:
    every = [point for points in curves.values() for point in points]
    frame = _Frame(goal, (min(s for s, _ in every), max(s for s, _ in every)), [v for _, v in every])
    lines = [
        f'<path class="curve" data-n="{n}" d="{frame.path(points)}" stroke="{colours[n]}">'
        f"<title>trial {n}</title></path>"
        for n, points in reversed(list(curves.items()))
    ]
    return frame.drawn(lines, "step", goal.metric)


def _parallel(space: Space, goal: Goal, shown: Sequence[Trial], colours: Mapping[int, str]) -> str:
    """One vertical line a dimension and one for the score; a trial is a line across them."""
    names, trials = list(space), [t for t in shown if t.number in colours]
    gap = max(110, (WIDE - 120) // len(names))
    absent = any(d.when for d in space.values())
    floor = HIGH - LOW - (22 if absent else 0)
    score = _Frame(goal, (0, 1), [t.scores[goal.metric] for t in trials], floor)
    parts, texts = [], []
    for i, name in enumerate([*names, goal.metric]):
        x = 60 + i * gap
        parts.append(f'<path class="axis" d="M{x} {TOP + 16}V{floor}"/>')
        last = i == len(names)
        texts.append(f'<text class="name" x="{x}" y="{TOP}" text-anchor="middle">{escape(_brief(name, gap))}</text>')
        marks = [(score.y(v), _short(v)) for v in score.span] if last else _marks(space[name], floor)
        texts += [f'<text x="{x + 5}" y="{y + 4:.1f}">{escape(_cut(text, 14))}</text>' for y, text in marks]
    if absent:
        texts.append(f'<text x="4" y="{HIGH - LOW + 4}">absent</text>')
    for t in reversed(trials):
        ys = [_height(space[n], t.params[n], floor) if n in t.params else float(HIGH - LOW) for n in names]
        ys.append(score.y(t.scores[goal.metric]))
        d = "M" + "L".join(f"{60 + i * gap} {y:.1f}" for i, y in enumerate(ys))
        parts.append(
            f'<path class="curve" data-n="{t.number}" d="{d}" stroke="{colours[t.number]}">{_title(t, goal)}</path>'
        )
    return _svg([*parts, *texts], 60 + len(names) * gap + 80)


def _marks(d: Distribution, floor: float) -> list[tuple[float, str]]:
    values = list(d.args[0]) if d.kind in ("choice", "grid") else list(_ends(d))
    values = values if len(values) <= 12 else [values[0], values[-1]]
    return [(_height(d, v, floor), _short(v)) for v in values]


def _ends(d: Distribution) -> tuple[float, float]:
    return d.args[0], d.args[1] - (d.kind == "randint")


def _height(d: Distribution, value: Any, floor: float) -> float:
    if d.kind in ("choice", "grid"):
        values = list(d.args[0])
        part = (values.index(value) if value in values else 0) / max(1, len(values) - 1)
    else:
        low, high, at = (math.log(v) if d.kind == "loguniform" else v for v in (*_ends(d), value))
        part = (at - low) / ((high - low) or 1)
    return floor - min(1.0, max(0.0, part)) * (floor - TOP - 20)


class _Frame:
    """A plane of steps and scores. The worst tenth of the scores lies on its edge: one outlier hides nothing."""

    def __init__(
        self, goal: Goal, steps: tuple[float, float], scores: Iterable[float], floor: float = HIGH - LOW
    ) -> None:
        self.steps, self.span, self.floor = steps, _span(scores, goal.mode), floor

    def x(self, step: float) -> float:
        first, last = self.steps
        return LEFT + min(1.0, max(0.0, (step - first) / ((last - first) or 1))) * (WIDE - LEFT - RIGHT)

    def y(self, score: float) -> float:
        low, high = self.span
        return self.floor - min(1.0, max(0.0, (score - low) / (high - low))) * (self.floor - TOP - 16)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.x(s):.1f} {self.y(v):.1f}" for s, v in points)

    def drawn(self, inside: list[str], below: str, beside: str, *, whole: bool = True) -> str:
        """The picture; `whole` where the steps are counted."""
        low, high = self.span
        parts = [f'<path class="axis" d="M{LEFT} {TOP}V{self.floor}H{WIDE - RIGHT}"/>']
        for i in range(5):
            value = low + i / 4 * (high - low)
            parts.append(f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{_short(value)}</text>')
        first, last = self.steps
        marks: Iterable[float] = [first + i / 6 * (last - first) for i in range(7)]
        if whole:
            marks = range(round(first), round(last) + 1, max(1, math.ceil((round(last) - round(first)) / 6)))
        parts += [f'<text x="{self.x(m):.1f}" y="{self.floor + 16}" text-anchor="middle">{m:.4g}</text>' for m in marks]
        parts.append(f'<text class="name" x="{WIDE - RIGHT}" y="{HIGH - 4}" text-anchor="end">{escape(below)}</text>')
        parts.append(f'<text class="name" x="4" y="{TOP}">{escape(beside)}</text>')
        return _svg([*parts, *inside], WIDE)


def _span(scores: Iterable[float], mode: Mode, whole: Iterable[float] = ()) -> tuple[float, float]:
    """From where to where an axis goes: nine tenths of the scores, the best among them, and all that is in `whole`."""
    ordered = sorted(scores, reverse=mode == "max")
    best, edge = ordered[0], ordered[min(len(ordered) - 1, math.ceil(0.9 * (len(ordered) - 1)))]
    low, high = min(best, edge, *whole), max(best, edge, *whole)
    spare = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - spare, high + spare


def _table(space: Space, goal: Goal, shown: Sequence[Trial]) -> str:
    names, legs = list(objectives_of(goal)), ["after"] if any(t.steps for t in shown) else []
    head = ["trial", *legs, "state", *names, "seconds", *space, "error"]
    rows = []
    for t in shown:
        scores = [_short(t.scores[n]) if _finite(t, goal) and n in t.scores else "" for n in names]
        after = "" if t.after is None else str(t.after)
        numbers = [str(t.number), *([after] if legs else []), t.state, *scores, f"{t.seconds:.1f}"]
        params = [_short(t.params[n]) if n in t.params else "" for n in space]
        cells = "".join(f'<td class="number">{escape(v)}</td>' for v in [*numbers, *params])
        rows.append(f'<tr data-n="{t.number}">{cells}<td>{escape(_cut(t.error, 200))}</td></tr>')
    titles = "".join(f"<th>{escape(h)}</th>" for h in head)
    return f'<div class="wide"><table><tr>{titles}</tr>{"".join(rows)}</table></div>'


def _svg(parts: Iterable[str], wide: int) -> str:
    size = f'width="{wide}" height="{HIGH}" viewBox="0 0 {wide} {HIGH}"'
    return f'<div class="wide"><svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg></div>'


def _title(trial: Trial, goal: Goal) -> str:
    scores = ", ".join(f"{n} {_short(trial.scores[n])}" for n in objectives_of(goal) if n in trial.scores)
    words = f"trial {trial.number} ({trial.state}): {scores}; {_values(trial)}"
    return f"<title>{escape(words)}</title>"


def _colour(part: float) -> str:
    return "#" + "".join(f"{round(w + part * (b - w)):02x}" for w, b in zip(WORSE, BEST, strict=True))


def _finite(trial: Trial, goal: Goal) -> bool:
    return trial.state != "failed" and math.isfinite(trial.scores.get(goal.metric, math.nan))


def _cost(trial: Trial, goal: Goal) -> float:
    value = trial.scores[goal.metric]
    return -value if goal.mode == "max" else value


def _brief(name: str, gap: int) -> str:
    return _cut(name.removeprefix("trainer."), gap // 7)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
