"""The line under hard conditions, in one process: cut off between any two writes, rejected, rolled back, moved."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_core import api
from mlops_core.config import declare as declare_project
from mlops_core.errors import MlopsError, Rejected, ServingError, StoreError, TrainingError, UsageError
from mlops_core.flow import Context
from mlops_core.flow.learning import Data
from mlops_core.flow.objective import TrainerObjective
from mlops_core.ledger import Ledger
from mlops_core.workspace import Workspace

ALL = ("data", "train", "seal", "evaluate", "gate")
BAD = "trainer.shift=1.5"  # about 0.75 accuracy; without it about 0.93
WRITES = ("add_version", "set_alias", "set_aliases", "put_outcome", "reuse", "desire")
BETTER = "  - {metric: accuracy, versus: champion, at_least: 0.05}\n"
ODD = """

@hookimpl
def mlops_data():
    from toyplug.odd import Odd

    return {"odd": Odd}


@hookimpl
def mlops_tuner():
    from toyplug.odd import Lost, Shown

    return {"lost": Lost, "shown": Shown}


@hookimpl
def mlops_observer():
    from toyplug.odd import Diary

    return {"diary": Diary}
"""
SOURCES = '''\
from dataclasses import dataclass
from pathlib import Path

from mlops_core import hookimpl


@dataclass(frozen=True)
class Odd:
    """A source with a bug in its fingerprint."""

    path: Path

    def schema(self):
        return {"a": "float64", "b": "float64", "label": "string"}

    def fingerprint(self):
        return {}["train"]


@dataclass(frozen=True)
class Lost:
    """Leaves the space."""

    def search(self, objective, space, goal, out, report):
        from mlops_core.contracts import Tuned

        return Tuned(params={"trainer.nowhere": 1}, scores={})


@dataclass(frozen=True)
class Shown:
    """Leaves a page, which says how many trials of an earlier search it was given."""

    def search(self, objective, space, goal, out, report):
        from mlops_core.contracts import Trial, Tuned

        (out / "page.html").write_text(f"{len(goal.earlier)} earlier")
        one = {"params": {"trainer.shift": 0.0}, "scores": {"accuracy": 1.0}}
        trial = Trial(number=0, state="done", seconds=1, **one)
        return Tuned(trials=(trial,), report=out / "page.html", **one)


@dataclass(frozen=True)
class Diary:
    """Writes down what it is told; raises when it is told of progress.

    path: the diary
    """

    path: Path

    def write(self, line):
        with open(self.path, "a") as diary:
            diary.write(line + "\\n")

    @hookimpl
    def mlops_finished(self, stage, skipped):
        self.write(f"finished {stage}")

    @hookimpl
    def mlops_progress(self, stage):
        raise OSError("no ink")

    @hookimpl
    def mlops_rollout(self, rollout):
        self.write(f"rollout {rollout.stable} -> {rollout.candidate}")
'''


class Killed(BaseException):
    """Stands for SIGKILL right after a write."""


@pytest.fixture
def here(here: Any) -> Any:
    """The toy project, whose plugin also has a source with a bug and an observer."""
    init = here.plugin / "toyplug" / "__init__.py"
    init.write_text(init.read_text() + ODD)
    (here.plugin / "toyplug" / "odd.py").write_text(SOURCES)
    return here


def declare(project: Any, old: str, new: str) -> None:
    path = project.root / "conf" / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def state(plan: api.Plan) -> dict[str, str]:
    return {s.stage: s.state for s in plan.steps}


def keys(plan: api.Plan, stage: str) -> list[str]:
    return [c.key for s in plan.steps if s.stage == stage for c in s.causes]


def killed_after_next_write(monkeypatch: pytest.MonkeyPatch, run: Any) -> Any:
    """What `run` gives, or None where it was cut off right after its first write."""

    def cut(write: Any) -> Any:
        def cutting(ledger: Ledger, *args: Any, **kwargs: Any) -> Any:
            there = write.__name__ == "add_version" and ledger.version_of(*args[:2])
            write(ledger, *args, **kwargs)
            if there:
                return there
            raise Killed

        return cutting

    with monkeypatch.context() as patch:
        for name in WRITES:
            if hasattr(Ledger, name):
                patch.setattr(Ledger, name, cut(getattr(Ledger, name)))
        try:
            return run()
        except Killed:
            return None


def test_cut_off_after_each_write_the_next_run_heals(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(here, "  - {metric: accuracy, at_least: 0.6}\n", "  - {metric: accuracy, at_least: 0.6}\n" + BETTER)
    api.run(here.root, [BAD])
    cuts = 0
    while killed_after_next_write(monkeypatch, lambda: api.run(here.root)) is None:
        cuts += 1
        assert cuts < 12
    versions, aliases = api.versions(here.root)
    assert [(v.number, v.status) for v in versions] == [(1, "accepted"), (2, "accepted")]
    assert aliases == {"champion": 2, "previous": 1}
    assert cuts >= len(ALL)
    assert api.audit(here.root)[1] == ""
    again = api.run(here.root)
    assert again.performed == () and again.version == 2
    assert not list((here.root / ".mlops" / "work").iterdir()), "work folders are left behind"


def test_a_changed_rule_does_not_make_the_champion_its_own_rival(here: Any) -> None:
    """The same model under a new rule is a new version; a rollback goes to the last other model."""
    api.run(here.root, [BAD])
    api.run(here.root)
    declare(here, "  - {metric: accuracy, at_least: 0.6}\n", BETTER)
    done = api.run(here.root)
    version = api.version(here.root, done.version)
    assert (version.number, version.status) == (3, "accepted")
    assert version.reasons[0].endswith("it is the champion itself")
    assert api.versions(here.root)[1] == {"champion": 3, "previous": 1}


def test_a_search_feeds_the_fit(here: Any) -> None:
    declare(here, "  - trainer: toy\n", "  - trainer: toy\n  - tuner: grid\n")
    declare(here, "metric: accuracy\n", "tuner:\n  space:\n    trainer.shift: [0.0, 1.5]\nmetric: accuracy\n")
    assert api.run(here.root).performed == ("data", "tune", *ALL[1:])
    assert api.version(here.root, 1).model.params == {"trainer.shift": 0.0}
    assert not api.plan(here.root).due
    wider = ["tuner.space={trainer.shift: [0.0, 1.5, 1.6]}"]
    plan = api.plan(here.root, wider)
    assert state(plan)["tune"] == "due" and keys(plan, "train") == ["waits for tune"]
    assert api.run(here.root, wider).performed == ("tune",), "the best point is the same"


def test_the_model_of_the_best_trial_is_the_model(here: Any) -> None:
    """One fit a trial and none after them, unless it is asked for; what is kept of the search may be lost."""
    fits, kept = here.root / "fits", here.root / ".mlops"
    steps = f"def scale():\n    with open({str(fits)!r}, 'a') as fits:\n        fits.write('x')\n    return 1.0\n"
    (here.root / "steps.py").write_text(steps)
    declare(here, "  - trainer: toy\n", "  - trainer: toy\n  - tuner: grid\n")
    declare(here, "metric: accuracy\n", "tuner:\n  space:\n    trainer.shift: [1.5, 0.0, 3.0]\nmetric: accuracy\n")
    told = here.mlops("run").stdout
    assert "the model of trial 1: accuracy" in told
    assert fits.read_text() == "xxx"
    assert len(list((kept / "models").iterdir())) == 1, "of three models the best is kept"
    one = api.version(here.root, 1)

    again = ["tuner.retrain_best=true"]
    assert keys(api.plan(here.root, again), "train") == ["tuner.retrain_best"]
    api.run(here.root, again)
    assert fits.read_text() == "xxxx"
    assert api.version(here.root, api.versions(here.root)[0][-1].number).model.scores == one.model.scores

    shutil.rmtree(kept / "models")
    shutil.rmtree(kept / "objects")
    assert state(api.plan(here.root))["tune"] == "unchanged"
    api.run(here.root)
    assert fits.read_text() == "xxxxx", "the model was fitted again, the search was not"

    equal = "tuner.space={trainer.shift: [1.5, 1e-9, 0.0]}"  # which of two as good as each other is the tuner's choice
    assert api.run(here.root, [equal]).performed[:2] == ("tune", "train")
    assert fits.read_text() == "xxxxxxxx"


def test_the_page_of_a_search_is_kept_and_its_trials_are_there_for_the_next(here: Any) -> None:
    declare(here, "  - trainer: toy\n", "  - trainer: toy\n  - tuner: shown\n")
    declare(here, "metric: accuracy\n", "tuner:\n  space:\n    trainer.shift: [0.0, 1.5]\nmetric: accuracy\n")
    told = here.mlops("run", "--until", "tune").stdout
    page = here.root / told.partition("in pictures: ")[2].split()[0]
    assert page.read_text() == "0 earlier"
    assert "unchanged 1 trials" in here.mlops("run", "--until", "tune").stdout
    api.run(here.root, ["tuner.space={trainer.shift: [0.0, 1.6]}"], until="tune")
    assert {p.read_text() for p in page.parent.iterdir()} == {"0 earlier", "1 earlier"}


@pytest.mark.parametrize("searched", [True, False])
def test_scores_of_any_kind_of_number_will_do(here: Any, searched: bool) -> None:
    """A stranger's trainer gives what its library gives, one of them perhaps undefined."""
    trainer = here.plugin / "toyplug" / "trainer.py"
    odd = '        found = {k: np.float32(v) for k, v in found.items()} | {"auprc": float("nan")}\n'
    trainer.write_text(
        trainer.read_text().replace("        job.report(1, found)\n", odd + "        job.report(1, found)\n")
    )
    if searched:
        declare(here, "  - trainer: toy\n", "  - trainer: toy\n  - tuner: grid\n")
        declare(here, "metric: accuracy\n", "tuner:\n  space:\n    trainer.shift: [1.5, 0.0]\nmetric: accuracy\n")
    told = here.mlops("run").stdout
    assert ("the model of trial 1: accuracy 0." in told) == searched
    assert api.version(here.root, 1).model.scores["accuracy"] > 0.8


def test_a_trial_on_another_machine_fetches_its_data(here: Any, tmp_path: Path) -> None:
    """That machine has the project, and can reach the object store."""
    api.run(here.root, until="data")
    declared = declare_project(here.root)
    workspace = Workspace(here.root, declared)
    outcome = workspace.ledger.latest("toy", "data")
    assert outcome
    there = tmp_path / "another" / ".mlops" / "data" / "frozen"
    dataset = Data().result(Context(workspace, declared), outcome, there)
    objective = TrainerObjective(
        trainer=declared.trainer, dataset=dataset, project=here.root, seed=1, metric="accuracy", mode="max",
        objects=workspace.objects.url,
    )  # fmt: skip
    workspace.close()
    for trial in ("one", "two"):
        (tmp_path / trial).mkdir()
        assert objective({"trainer.shift": 0.0}, tmp_path / trial, lambda step, scores: None)["accuracy"] > 0.8
    assert sorted(p.name for p in there.iterdir()) == ["test.parquet", "train.parquet", "validation.parquet"]
    with pytest.raises(StoreError, match="cannot be read from"):
        replace(objective, dataset=replace(dataset, path=there.parent / "other"), objects=str(tmp_path / "empty"))(
            {"trainer.shift": 0.0}, tmp_path / "one", lambda step, scores: None
        )


def test_a_tuner_that_leaves_the_space_is_told(here: Any) -> None:
    declare(here, "  - trainer: toy\n", "  - trainer: toy\n  - tuner: lost\n")
    declare(here, "metric: accuracy\n", "tuner:\n  space:\n    trainer.shift: [0.0, 1.5]\nmetric: accuracy\n")
    with pytest.raises(
        TrainingError, match=r"tuner 'lost' gave parameter 'trainer\.nowhere', which is not in the space"
    ):
        api.run(here.root)


def test_cut_off_while_promoting_by_hand_is_whole(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    api.run(here.root)
    api.run(here.root, ["trainer.shift=0.01"])
    api.run(here.root, ["trainer.shift=0.02"])
    killed_after_next_write(monkeypatch, lambda: api.promote(here.root, 1, reason="the old one was better"))
    assert api.versions(here.root)[1] in ({"champion": 3, "previous": 2}, {"champion": 1, "previous": 3})


def test_a_version_whose_bundle_is_lost_does_not_become_champion(here: Any) -> None:
    api.run(here.root)
    api.run(here.root, ["trainer.shift=0.01"])
    before = api.versions(here.root)[1]
    shutil.rmtree(api.version(here.root, 1).model.path)
    shutil.rmtree(here.root / ".mlops" / "objects")
    for move in (lambda: api.promote(here.root, 1, reason="x"), lambda: api.rollback(here.root, reason="x")):
        with pytest.raises(ServingError, match="the bundle of version 1 is lost"):
            move()
    assert api.versions(here.root)[1] == before


def test_rejected_is_said_by_every_run_and_by_the_plan(here: Any) -> None:
    api.run(here.root)
    for _ in range(2):
        with pytest.raises(Rejected, match=r"version 2 did not pass its gate: accuracy 0\.\d+ .*at least 0\.6"):
            api.run(here.root, ["trainer.shift=4"])
    versions, aliases = api.versions(here.root)
    assert [v.status for v in versions] == ["accepted", "rejected"] and aliases == {"champion": 1}
    plan = api.plan(here.root, ["trainer.shift=4"])
    assert not plan.due and plan.rejected.startswith("version 2 did not pass its gate: accuracy")
    told = here.mlops("plan", "trainer.shift=4", code=4).stdout
    assert "nothing to do" not in told and "version 2 did not pass its gate" in told
    with pytest.raises(UsageError, match="version 2 was rejected by its gate"):
        api.promote(here.root, 2, reason="because")


def test_a_choice_by_hand_outlives_runs_of_the_same_declaration(here: Any) -> None:
    api.run(here.root)
    api.run(here.root, ["trainer.shift=0.01"])
    assert api.rollback(here.root, reason="callers complain")[0] == 1
    assert not api.plan(here.root, ["trainer.shift=0.01"]).due
    assert api.run(here.root, ["trainer.shift=0.01"]).performed == ()
    assert api.versions(here.root)[1] == {"champion": 1, "previous": 2}
    told = here.mlops("plan", "trainer.shift=0.01").stdout
    assert "version 2 is declared, version 1 is champion by choice" in told


def test_rejected_then_better_than_a_later_champion_is_a_new_version(here: Any) -> None:
    """The verdict on a version stands; judged again against a weaker champion, the same model is another version."""
    api.run(here.root, [BAD])
    declare(here, "  - {metric: accuracy, at_least: 0.6}\n", BETTER)
    api.run(here.root)
    with pytest.raises(Rejected):
        api.run(here.root, ["trainer.shift=0.001"])
    api.rollback(here.root, reason="back to the first")
    with pytest.raises(Rejected):
        api.run(here.root, ["trainer.shift=0.001"])  # unchanged: the verdict stands
    api.run(here.root, [BAD, "gate=[{metric: accuracy, at_least: 0.6}]"])
    done = api.run(here.root, ["trainer.shift=0.001"])
    version = api.version(here.root, api.versions(here.root)[1]["champion"])
    assert done.version == version.number and version.status == "accepted"


def test_a_query_is_read_each_time_and_nothing_else_runs(here: Any) -> None:
    database = sqlite3.connect(here.root / "rows.db")
    database.execute("CREATE TABLE rows (a REAL, b REAL, label TEXT)")
    lines = (here.root / "data.csv").read_text().splitlines()[1:]
    database.executemany("INSERT INTO rows VALUES (?, ?, ?)", [line.split(",") for line in [*lines, "-99,0,no"]])
    database.commit()
    database.close()
    declare(here, "data: csv", "data: sql")
    declare(here, "target: label\n", "target: label\n  contract: {columns: {a: {range: [-50, 50]}}}\n")
    declare(here, "path: data.csv", f"url: sqlite:///{here.root / 'rows.db'}\n  table: rows")
    assert api.run(here.root).performed == ALL
    for _ in range(2):
        plan = api.plan(here.root)
        assert state(plan)["data"] == "due"
        assert [str(c) for c in plan.steps[0].causes] == ["source can only be told by reading it"]
        assert api.run(here.root).performed == ("data",)
    assert len(api.versions(here.root)[0]) == 1
    assert len(list((here.root / ".mlops" / "quarantine").iterdir())) == 1, "one file, however often it is read"


def test_until_stops_there_and_the_rest_follows(here: Any) -> None:
    assert api.run(here.root, until="data").performed == ("data",)
    assert api.run(here.root, until="tune").performed == (), "no tuner is declared"
    done = api.run(here.root, until="seal")
    assert done.performed == ("train", "seal") and done.version == 0
    with pytest.raises(UsageError, match="unknown stage 'sell'; did you mean 'seal'"):
        api.run(here.root, until="sell")
    assert api.run(here.root).performed == ("evaluate", "gate")


def test_a_moved_project_goes_on(here: Any) -> None:
    api.run(here.root)
    moved = here.root.rename(here.root.with_name("moved"))
    assert not api.plan(moved).due
    assert api.run(moved).performed == ()
    assert Path(api.version(moved, 1).model.path).exists()


def test_two_projects_share_a_ledger(here: Any, tmp_path: Path) -> None:
    declare(here, "metric: accuracy\n", f"metric: accuracy\nstore:\n  ledger: sqlite:///{tmp_path / 'both.db'}\n")
    other = tmp_path / "other"
    shutil.copytree(here.root, other)
    api.run(here.root)
    assert api.run(other, ["name=second"]).performed == ALL
    api.run(other, ["name=second", "trainer.shift=0.01"])
    assert api.versions(here.root)[1] == {"champion": 1}
    assert api.versions(other, ["name=second"])[1] == {"champion": 2, "previous": 1}
    assert api.run(here.root).performed == ()


def test_observers_watch_and_cannot_stop_the_work(here: Any) -> None:
    declare(here, "metric: accuracy\n", "metric: accuracy\nobservers:\n  diary:\n    path: diary.txt\n")
    done = api.run(here.root)
    assert done.performed == ALL
    assert done.complaints == ("observer Diary: OSError: no ink",)
    assert (here.root / "diary.txt").read_text().splitlines() == [f"finished {s}" for s in ALL]


def test_a_bug_in_a_source_is_told_as_such(here: Any) -> None:
    api.run(here.root)
    declare(here, "data: csv", "data: odd")
    for call in (api.plan, api.run):
        with pytest.raises(MlopsError, match=r"data failed: KeyError: 'train'; the whole story is in \.mlops/failures"):
            call(here.root)
    assert "KeyError" in here.mlops("plan", code=1).stderr


@pytest.mark.parametrize("wrong", ["None", "{'loss': 1.0}", "{'accuracy': float('nan')}"])
def test_a_trainer_without_the_metric_is_told(here: Any, wrong: str) -> None:
    path = here.plugin / "toyplug" / "trainer.py"
    path.write_text(path.read_text().replace("return found", f"return {wrong}"))
    with pytest.raises(TrainingError, match=r"trainer 'toy' .*'accuracy'"):
        api.run(here.root)


def test_edited_loading_is_evaluated_anew(here: Any) -> None:
    """The model's bytes stay the same, what they answer does not."""
    first = here.run()
    path = here.plugin / "toyplug" / "trainer.py"
    path.write_text(path.read_text().replace("near = np.exp(-(", "near = np.exp(-0.5 * ("))
    again = here.run()
    assert "evaluate" in again["performed"] and again["version"] == first["version"] + 1
    one, two = (api.version(here.root, n).evaluation.metrics["log_loss"] for n in (1, 2))
    assert one != two


def test_new_slices_come_into_the_card(here: Any) -> None:
    api.run(here.root)
    (here.root / "data.csv").write_text(with_group(here.root / "data.csv"))
    contract = "{columns: {group: {role: protected}}}"
    api.run(here.root, [f"+data.contract={contract}"])
    done = api.run(here.root, [f"+data.contract={contract}", "slices=[group]"])
    assert done.performed == ("evaluate", "gate")
    assert set(api.version(here.root, done.version).evaluation.slices) == {"group=yes", "group=no"}


def test_json_is_strict(here: Any) -> None:
    """One class in a slice has no AUROC: null, not NaN. What a fit prints does not get between the lines."""
    (here.root / "data.csv").write_text(with_group(here.root / "data.csv"))
    path = here.plugin / "toyplug" / "trainer.py"
    noise = "print('noise'); import os; os.system('echo noise')\n        time.sleep"
    path.write_text(path.read_text().replace("time.sleep", noise))
    words = ["+data.contract={columns: {group: {role: protected}}}", "slices=[group]"]
    done = here.mlops("run", "--json", *words)
    events = [strict(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "done" and "noise" in done.stderr
    strict(here.mlops("plan", "--json", *words).stdout)
    told = strict(here.mlops("versions", "show", "1", "--json").stdout)
    assert told["evaluation"]["slices"]["group=yes"]["auroc"]["value"] is None
    strict(here.mlops("status", "--json").stdout)
    refused = [
        strict(line) for line in here.mlops("run", "--json", *words, "trainer.shift=4", code=4).stdout.splitlines()
    ]
    assert refused[-1]["event"] == "ended" and refused[-1]["exit_code"] == 4
    assert refused[-1]["error"].startswith("version 2 did not pass its gate")


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def with_group(path: Path) -> str:
    head, *lines = path.read_text().splitlines()
    return "\n".join([f"{head},group", *(f"{line},{line.rpartition(',')[2]}" for line in lines * 2)]) + "\n"


def test_a_champion_that_the_new_data_cannot_feed_is_told(here: Any) -> None:
    declare(here, "  - {metric: accuracy, at_least: 0.6}\n", "  - {metric: accuracy, versus: champion, at_least: -1}\n")
    api.run(here.root)
    lines = [line.split(",") for line in (here.root / "data.csv").read_text().splitlines()]
    (here.root / "data.csv").write_text("\n".join(f"{a},{label}" for a, _, label in lines) + "\n")
    with pytest.raises(Rejected, match=r"champion.* cannot be scored on this data: it has no column 'b'"):
        api.run(here.root)
    assert api.versions(here.root)[1] == {"champion": 1}


def test_a_secret_never_reaches_the_ledger(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_SCALE", "steps.scale")
    declare(here, "scale: steps.scale", "scale: ${oc.env:TOY_SCALE}")
    api.run(here.root)
    for path in (here.root / ".mlops").glob("ledger.db*"):
        assert b'"trainer.scale":"steps.scale"' not in path.read_bytes()


def test_quarantine_of_the_data_in_use_is_kept(here: Any) -> None:
    data, contract = (
        here.root / "data.csv",
        "+data.contract={columns: {a: {range: [-50, 50]}}, on_invalid: quarantine, max_rejected: 0.5}",
    )
    whole = data.read_text()
    data.write_text(whole + "-99,0,no\n")
    api.run(here.root, [contract])
    kept = here.root / latest(here, "data").record["quarantine"]
    assert kept.is_file()
    data.write_text(whole)
    api.run(here.root, [contract])
    data.write_text(whole + "-99,0,no\n")
    api.run(here.root, [contract])
    assert here.root / latest(here, "data").record["quarantine"] == kept and kept.is_file()


def latest(project: Any, stage: str) -> Any:
    ledger = Ledger(f"sqlite:///{project.root / '.mlops' / 'ledger.db'}")
    try:
        return ledger.latest("toy", stage)
    finally:
        ledger.close()


def test_rows_that_vanish_between_two_runs_are_refused(toy: Any) -> None:
    config = toy.root / "conf" / "config.yaml"
    config.write_text(config.read_text().replace("  target: label\n", "  target: label\n  contract: rows.yaml\n"))
    (toy.root / "rows.yaml").write_text("rows: {change: 0.5}\n")
    toy.run()
    data = toy.root / "data.csv"
    whole = data.read_text()
    data.write_text("\n".join(whole.splitlines()[:61]) + "\n")
    told = toy.mlops("run", code=1)
    assert "60" in told.stderr and "200" in told.stderr and "rows.change" in told.stderr, told.stderr
    data.write_text(whole)
    assert toy.performed() == []


def test_the_line_on_a_postgresql_ledger(toy: Any, postgres_database: str) -> None:
    toy.env |= {"LEDGER": postgres_database, "XDG_STATE_HOME": str(toy.root / "state")}
    words = ["store.ledger=${oc.env:LEDGER}"]
    assert toy.run(*words)["version"] == 1
    assert toy.performed(*words) == []
    assert not (toy.root / ".mlops" / "ledger.db").exists()
    assert "chain is whole" in toy.mlops("versions", "audit", *words).stdout
