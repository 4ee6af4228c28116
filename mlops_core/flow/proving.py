"""The stages that prove and register: seal, evaluate, gate."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlops_core.contracts import (
    Check,
    Column,
    Dataset,
    Evaluation,
    Model,
    ModelVersion,
    Profile,
    Signature,
    plain,
    restore,
)
from mlops_core.flow import signing
from mlops_core.flow.context import Context, flatten, key_of
from mlops_core.flow.objective import with_params
from mlops_core.ledger import Outcome, whoami
from mlops_core.workspace import STATE

SAMPLES = 16  # rows of the smoke set that a version answers before its first request
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class Seal:
    """Turns the model folder into a sealed bundle: signature, lineage, reference profile, smoke set, card."""

    name, home, spare = "seal", "bundles", False

    def declared(self, context: Context) -> bool:
        return True

    def own(self, context: Context) -> dict[str, Any]:
        monitor = context.declaration.monitor
        found: dict[str, Any] = {"monitor": "none"}
        modules, own = ["mlops_core.bundle"], []
        if monitor is not None:
            offer = context.offer("monitor", monitor)
            found = context.options("monitor", monitor)
            modules.append(offer.cls.__module__)
            own.append(offer.package)
        return found | context.code(modules, own)

    def inputs(self, context: Context) -> dict[str, Any]:
        return {
            "input.data": context.results["data"].digest,
            "input.model": context.results["train"]["artifact"].sha256,
            "input.training": context.results["train"]["key"],  # options and scores go into the lineage
        }

    def perform(self, context: Context, work: Path, key: str) -> tuple[Mapping[str, Any], Path | None]:
        from mlops_core.bundle import load_model, seal

        d, dataset, trained = context.declaration, context.results["data"], context.results["train"]
        trainer, out = with_params(d.trainer, trained["params"]), work / "bundle"
        shutil.rmtree(out, ignore_errors=True)
        predict = load_model(trained["path"], trainer, context.workspace.plugins, d.trust)
        signature = Signature(
            inputs=dataset.having("feature"), task=dataset.task, target=dataset.target, classes=dataset.classes
        )
        lineage = {
            "name": d.name,
            "data": {"digest": dataset.digest, "rows": plain(dataset.rows), "source": plain(dataset.source)},
            "params": trained["params"],
            "scores": trained["scores"],
            "seed": d.seed,
        }
        if "schedule" in trained:  # the model is what all of its legs made of it
            lineage["schedule"] = trained["schedule"]
        seal(
            trained["path"],
            out,
            signature=signature,
            trainer=trainer,
            lineage=lineage,
            profile=self._profile(context, predict),
            samples=_samples(dataset, predict),
        )
        return {
            "trainer": plain(trainer),
            "dataset": dataset.digest,
            "params": trained["params"],
            "scores": trained["scores"],
        }, out

    def _profile(self, context: Context, predict: Any) -> Profile | None:
        import polars as pl

        from mlops_core.features import to_columns
        from mlops_core.windows import answered

        monitor, dataset = context.declaration.monitor, context.results["data"]
        if monitor is None:
            return None
        inputs = dataset.having("feature")
        # Quantiles and levels are values: what must not be logged is not watched either.
        names = tuple(c.name for c in inputs if "pii" not in c.roles)
        # Rows that the model did not train on: a profile of training rows flatters the model.
        every = [c.name for c in inputs]
        frame = pl.concat([pl.read_parquet(dataset.split(s), columns=every) for s in ("validation", "test")])
        reference = answered(frame, predict(to_columns(frame, inputs)), dataset.classes).select(
            *names, pl.col("^(prediction|probability)$")
        )
        profile: Profile = context.build("monitor", monitor).profile(reference, names)
        return profile

    def result(self, context: Context, outcome: Outcome, path: Path | None) -> Model:
        return restore(Model, {**outcome.record, "artifact": plain(outcome.artifacts[0]), "path": str(path)})


class Evaluate:
    """Scores the sealed bundle, as it will serve, on the test split: intervals and slices."""

    name, home, spare = "evaluate", "", False

    def declared(self, context: Context) -> bool:
        return True

    def own(self, context: Context) -> dict[str, Any]:
        return {
            "metric": context.declaration.metric,
            "seed": context.declaration.seed,
            **flatten("slices", list(context.declaration.slices)),
            **context.code(["mlops_core.promotion"], []),
        }

    def inputs(self, context: Context) -> dict[str, Any]:
        return {
            "input.data": context.results["data"].digest,
            "input.bundle": context.results["seal"].digest,
            "input.training": context.results["train"]["key"],  # a trainer's `load` may change, the bytes the same
        }

    def perform(self, context: Context, work: Path, key: str) -> tuple[Mapping[str, Any], Path | None]:
        return plain(_evaluate(context, context.results["seal"])), None

    def result(self, context: Context, outcome: Outcome, path: Path | None) -> Evaluation:
        return restore(Evaluation, outcome.record)


class Gate:
    """Registers the model as a version with its lineage. Where every rule is met, signs it as declared and makes it
    champion; or challenger, where a rollout is to find out."""

    name, home, spare = "gate", "", False

    def declared(self, context: Context) -> bool:
        return True

    def own(self, context: Context) -> dict[str, Any]:
        rules: dict[str, Any] = {}
        for i, rule in enumerate(context.declaration.gate):
            rules |= {k: v for k, v in flatten(f"gate.{i}", plain(rule)).items() if v not in (None, "")}
        return rules

    def inputs(self, context: Context) -> dict[str, Any]:
        return {
            "input.bundle": context.results["seal"].digest,
            "input.data": context.results["data"].digest,
            "input.evaluation": key_of({"evaluation": context.results["evaluate"]}),
        }

    def perform(self, context: Context, work: Path, key: str) -> tuple[Mapping[str, Any], Path | None]:
        d, ledger = context.declaration, context.workspace.ledger
        evaluation: Evaluation = context.results["evaluate"]
        champion = ledger.aliases(d.name).get(CHAMPION)
        checks = _judged(context, evaluation)
        passed = all(c.passed for c in checks)
        # The verdict on a version stands. Rejected once and now better than a weaker champion: another version.
        known = ledger.version_of(d.name, key)
        identity = f"{key}:accepted" if passed and known and known.status == "rejected" else key

        def make(number: int) -> ModelVersion:
            return ModelVersion(
                name=d.name,
                number=number,
                model=context.results["seal"],
                status="accepted" if passed else "rejected",
                reasons=tuple(c.reason for c in checks),
                evaluation=evaluation,
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                code=revision(context.workspace.root),
                config={"text": d.text},
                run=context.run.id if context.run else "",
            )

        version = ledger.add_version(d.name, identity, make)
        if passed:
            if d.signing.get("key") and not version.signature:
                version = signing.sign(context, version, "passed its gate")
            signing.verify(context, version)  # before an alias moves: what may not answer is no champion
        if passed and champion != version.number:
            reason = "; ".join(c.reason for c in checks) or "no gate is declared"
            moves = {CHAMPION: version.number}
            if champion is not None and ledger.version(d.name, champion).model.digest != version.model.digest:
                # A rollback must lead to another model, and so must a rollout.
                moves = {CHALLENGER: version.number} if gradual(context) else {**moves, PREVIOUS: champion}
            ledger.set_aliases(d.name, moves, actor=whoami(), reason=f"passed its gate: {reason}")
        return {"number": version.number, "passed": passed, "checks": plain(checks)}, None

    def result(self, context: Context, outcome: Outcome, path: Path | None) -> Mapping[str, Any]:
        return outcome.record


def gradual(context: Context) -> bool:
    """Whether a new version gets its traffic by a rollout: one is declared, and an endpoint serves a champion."""
    d, ledger = context.declaration, context.workspace.ledger
    if d.deployer is None or d.rollout.get("strategy", "all_at_once") == "all_at_once":
        return False
    return CHAMPION in ledger.aliases(d.name) and ledger.desired(d.name) is not None


def refusal(gate: Mapping[str, Any]) -> str:
    """Why the version in the gate's record was rejected, in words."""
    failed = "; ".join(c["reason"] for c in gate["checks"] if not c["passed"])
    return f"version {gate['number']} did not pass its gate: {failed}"


def _judged(context: Context, evaluation: Evaluation) -> tuple[Check, ...]:
    from mlops_core.promotion import judge

    d, ledger = context.declaration, context.workspace.ledger

    @cache
    def other(alias: str) -> Evaluation | str | None:
        number = ledger.aliases(d.name).get(alias)
        if number is None:
            return None
        model = ledger.version(d.name, number).model
        return evaluation if model.digest == context.results["seal"].digest else _rival(context, number, model)

    return judge(d.gate, evaluation, other)


def _rival(context: Context, number: int, model: Model) -> Evaluation | str:
    """An earlier version on today's test split, or in words why it cannot be scored there."""
    from mlops_core.promotion import unfit

    bundle = _opened(context, model)
    why = unfit(bundle.signature, context.results["data"])
    return f"version {number} cannot be scored on this data: {why}" if why else _evaluate(context, model)


def _evaluate(context: Context, model: Model) -> Evaluation:
    from mlops_core.promotion import evaluate

    d, bundle = context.declaration, _opened(context, model)
    return evaluate(
        bundle.predict,
        context.results["data"],
        d.slices,
        metric=d.metric,
        seed=d.seed,
        inputs=bundle.signature.inputs,
    )


def _opened(context: Context, model: Model) -> Any:
    from mlops_core.bundle import open_bundle

    found = context.workspace.recover("bundles", model.artifact)
    path = found[0] if found else model.path
    return open_bundle(path, plugins=context.workspace.plugins, sha256=model.digest, trust=context.declaration.trust)


def _samples(dataset: Dataset, predict: Any) -> Any:
    import polars as pl

    from mlops_core.features import to_columns

    frame = pl.scan_parquet(dataset.split("validation")).head(SAMPLES).collect()
    inputs = dataset.having("feature")
    columns = dict(to_columns(frame, inputs))
    columns |= {c.name: _blank(c, columns[c.name]) for c in inputs if "pii" in c.roles}
    return {**columns, **predict(columns)}


def _blank(column: Column, values: Any) -> Any:
    """Nobody's values, in place of somebody's, of a size that the model knows: one digit of a mean, a year."""
    import numpy as np

    if values.dtype.kind == "M":
        known = values[~np.isnat(values)]
        year = np.datetime64("NaT") if not len(known) else np.sort(known)[len(known) // 2].astype("datetime64[Y]")
        return np.full_like(values, year)
    if values.dtype.kind == "O":
        return np.full_like(values, "")
    known = values[np.isfinite(values)]
    mean = float(f"{known.mean():.1g}") if len(known) else np.nan
    whole = column.kind == "boolean" or column.dtype.startswith(("int", "uint"))
    return np.full_like(values, round(mean) if whole and len(known) else mean)


def revision(root: Path) -> dict[str, Any]:
    """The project's git revision, and whether it had uncommitted changes; empty outside git.

    Where the project was sent to, git is not there: MLOPS_REVISION says what it was at home.
    """
    if os.environ.get("MLOPS_REVISION"):
        return dict(json.loads(os.environ["MLOPS_REVISION"]))

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    found = git("rev-parse", "HEAD")
    return {} if not found else {"git": found, "dirty": git("status", "--porcelain", "--", ".", f":!{STATE}") != ""}
