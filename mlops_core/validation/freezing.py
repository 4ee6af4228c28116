"""A table becomes a data set: validated, divided, and written as three Parquet files of the same bytes each time."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import SPLITS, Column, Declaration, Split, Table, Task, field, plain, record
from mlops_core.errors import DataError, did_you_mean
from mlops_core.privacy import Pseudonyms
from mlops_core.validation.columns import columns_of, laid_out
from mlops_core.validation.contract import Contract
from mlops_core.validation.intake import intake
from mlops_core.validation.keys import keys_of
from mlops_core.validation.meaning import in_words, senseless
from mlops_core.validation.quarantine import write_quarantine
from mlops_core.validation.reading import read_contract
from mlops_core.validation.split import Cuts, cut
from mlops_core.validation.staging import KEY, Staged, passed
from mlops_core.validation.tables import opened, schema_of
from mlops_core.validation.tally import counted
from mlops_core.validation.target import labels_of, task_of
from mlops_core.validation.whole import Checked, Circumstances, check_rows, check_whole

if TYPE_CHECKING:
    import polars as pl

ROW_GROUP = 65_536


@record
class Frozen:
    """What `freeze` found: the records of a Dataset, and `report` (plain data) on how each check came out."""

    columns: tuple[Column, ...]
    rows: Mapping[str, int]
    task: Task
    target: str
    classes: tuple[str, ...]
    rejected: int
    report: Mapping[str, Any] = field(default_factory=dict)


def freeze(
    table: Table, declaration: Declaration, out: Path, quarantine: Path, *,
    previous: int | None = None, now: dt.datetime | None = None, pseudonyms: Pseudonyms | None = None,
) -> Frozen:  # fmt: skip
    """Leaves train.parquet, validation.parquet and test.parquet in `out`, and rejected rows in `quarantine`.

    Streams: memory does not grow with the table. The same rows in the same order give the same bytes.
    `previous` is the row count of the data set before, for `rows.change`; `pseudonyms` keep the pii columns of
    rejected rows as keyed hashes, without them they are left out there. Raises DataError with everything
    that is wrong; the quarantine file is there even then.
    """
    target, split = declaration.target, declaration.split
    staging = out / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        table = opened(table)
        contract = load_contract(declaration.contract, target)
        staged = _stage(table, contract, target, split, staging)
        around = Circumstances(now=now or dt.datetime.now(dt.UTC), previous=previous)
        checks = [*check_whole(staged.scan(), staged.tally, contract, staged.reject, around)]
        checks = [*check_rows(staged.tally, contract, staged.taken), *checks]
        write_quarantine(staged, quarantine, pseudonyms)
        _refuse(staged, contract, checks, quarantine, target)
        return _divide(staged, contract, declaration, out, checks)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_contract(data: Mapping[str, Any], target: str = "", schema: Mapping[str, str] | None = None) -> Contract:
    """The contract, or a DataError with everything wrong with it."""
    contract, problems = read_contract(data)
    problems = problems or [*senseless(contract, schema, target or _declared_target(contract))]
    if problems:
        raise DataError(in_words(problems))
    return contract


def _declared_target(contract: Contract) -> str:
    return next((c.name for c in contract.columns.values() if "target" in c.roles), "")


def _stage(table: Table, contract: Contract, target: str, split: Split, folder: Path) -> Staged:
    schema = schema_of(table)
    if target not in schema:
        raise DataError(f"the target {target!r} is no column of the data; {did_you_mean(target, schema)}")
    needed = (split.column,) if split.strategy in ("time", "group") else ()
    if needed and split.column not in schema:
        hint = did_you_mean(split.column, schema) if split.column else "name it in data.split.column"
        raise DataError(f"a split by {split.strategy} needs a column of the data, and {split.column!r} is none; {hint}")
    taken = intake(contract, schema, target, needed)
    unlabelled = f"{target}: target missing"
    wanted = {name: f"{name}: missing, and the split needs it" for name in needed} | {target: unlabelled}
    wanted |= {n: f"{n}: missing" for n, d in taken.schema.items() if d.is_nested()}
    return passed(table, contract, taken, wanted, unlabelled, keys_of(split, taken.schema), folder)


def _refuse(staged: Staged, contract: Contract, checks: Iterable[Checked], quarantine: Path, target: str) -> None:
    tally, problems = staged.tally, [f"{c.check}: {c.note}" for c in checks if c.failed and c.action == "fail"]
    if not tally.rows:
        raise DataError("the data has columns and no rows")
    invalid = tally.rejected - (tally.unlabelled if contract.rule(target).nullable else 0)
    reasons = "".join(f"\n  {count:,} x {reason}" for reason, count in counted(tally.reasons))
    share = invalid / tally.rows
    if invalid and contract.on_invalid == "fail":
        problems.append(
            f"{invalid:,} of {tally.rows:,} rows break the contract, which allows none (on_invalid: fail); "
            f"they are in {quarantine}{reasons}"
        )
    elif share > contract.max_rejected:
        problems.append(
            f"{invalid:,} of {tally.rows:,} rows ({share:.1%}) break the contract, more than max_rejected "
            f"({contract.max_rejected:.1%}); they are in {quarantine}{reasons}"
        )
    if problems:
        raise DataError("the data breaks its contract\n" + "\n".join(problems))
    if tally.rejected == tally.rows:
        raise DataError(f"no row is left: all {tally.rows:,} were rejected; they are in {quarantine}{reasons}")


def _divide(staged: Staged, contract: Contract, declaration: Declaration, out: Path, checks: list[Checked]) -> Frozen:
    target, split = declaration.target, declaration.split
    clean = staged.clean()
    task, values = task_of(clean, target, declaration.task)
    stratum = target if split.strategy == "stratified" and task != "regression" else ""
    frame = laid_out(clean, staged, target, values)
    cuts = cut(frame, KEY, stratum, split.validation, split.test)
    rows = _write(frame, cuts, out)
    _no_empty(rows, split, staged.tally.rows - staged.tally.rejected)
    counts = _class_counts(out, target, values)
    columns = columns_of(out / "train.parquet", contract, target, split)
    report = {
        "rows": staged.tally.rows,
        "rejected": staged.tally.rejected,
        "reasons": dict(counted(staged.tally.reasons, 1000)),
        "checks": [plain(c) for c in checks],
        "dropped": list(staged.taken.dropped),
        "classes": counts,
        "split": "random" if split.strategy == "stratified" and not stratum else split.strategy,
    }
    classes = labels_of(values, contract.rule(target).positive, target) if values else ()
    return Frozen(
        columns=columns,
        rows=rows,
        task=task,
        target=target,
        classes=classes,
        rejected=staged.tally.rejected,
        report=report,
    )


def _write(frame: pl.LazyFrame, cuts: Cuts, out: Path) -> dict[str, int]:
    import polars as pl

    part = cuts.part(KEY)
    columns = [c for c in frame.collect_schema().names() if not c.startswith("__mlops_")]
    sinks = [
        frame.filter(part == number).select(columns).sink_parquet(
            out / f"{name}.parquet", compression="zstd", row_group_size=ROW_GROUP, statistics=True, lazy=True
        )
        for number, name in enumerate(SPLITS)
    ]  # fmt: skip
    for sink in sinks:
        sink.collect(engine="streaming")
    return {name: pl.scan_parquet(out / f"{name}.parquet").select(pl.len()).collect().item() for name in SPLITS}


def _no_empty(rows: Mapping[str, int], split: Split, clean: int) -> None:
    empty = [name for name, count in rows.items() if not count]
    if empty:
        shares = ", ".join(f"{name} {count:,}" for name, count in rows.items())
        hint = {
            "time": f"too few different times in {split.column!r}",
            "group": f"too few groups in {split.column!r}",
        }.get(split.strategy, "there are too few rows, or a share is too small")
        raise DataError(
            f"the split leaves no row for {' and '.join(empty)} ({shares} of {clean:,} rows): {hint}; change data.split"
        )


def _class_counts(out: Path, target: str, values: tuple[Any, ...]) -> dict[str, dict[str, int]]:
    import polars as pl

    if not values:
        return {}
    counts: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        found = (
            pl.scan_parquet(out / f"{name}.parquet")
            .group_by(value=pl.col(target).cast(pl.String))
            .len()
            .collect(engine="streaming")
        )
        counts[name] = dict(sorted(found.rows()))
    absent = [str(v) for v in pl.Series(values).cast(pl.String) if v not in counts["train"]]
    if absent:
        raise DataError(
            f"class {', '.join(map(repr, absent))} of {target!r} does not occur in the train split; "
            "split by 'stratified', collect more rows of it, or leave it out with a rule in the contract"
        )
    return counts
