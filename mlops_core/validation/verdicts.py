"""Pandera's verdict on a batch, as reasons per row.

Calling pandera costs some milliseconds a check, whatever the size of the batch, and most rows are right. So a batch
goes through a sieve first: a pandera schema of every column's dtype and one check, which is all conditions of the
contract in one expression. Only rows that it holds back are asked which of the checks they fail. That both find the
same rows is held by a property test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import record
from mlops_core.errors import DataError
from mlops_core.validation.checks import condition, to_pandera
from mlops_core.validation.contract import Contract
from mlops_core.validation.dtypes import ARRAYS, dtype_name
from mlops_core.validation.intake import FLAG, Intake

if TYPE_CHECKING:
    import polars as pl


@record
class Judge:
    """`sieve` and `full` are pandera schemas; `wanted` renames the reason of a missing value by column."""

    sieve: Any
    full: Any
    wanted: Mapping[str, str]

    def reasons(self, batch: pl.DataFrame) -> pl.Series | None:
        """The reasons (a list of text) of each row that is refused, null for the others; None where all pass."""
        import polars as pl

        held = _failures(self.sieve, batch)
        if not held:
            return None
        passes = held[0][1]
        rows = passes.not_().arg_true()
        marks = [
            pl.when(~output).then(pl.lit(self._reason(error))).alias(str(i))
            for i, (error, output) in enumerate(_failures(self.full, batch.filter(~passes)))
        ]
        if not marks:
            raise DataError(f"row {rows[0]} of a batch breaks the contract, and no check says why")
        listed = pl.select(*marks).select(why=pl.concat_list(pl.all()).list.drop_nulls())["why"]
        spread = pl.DataFrame({"row": rows, "why": listed})
        return pl.select(row=pl.int_range(batch.height, dtype=pl.UInt32)).join(
            spread, on="row", how="left", maintain_order="left"
        )["why"]

    def _reason(self, error: Any) -> str:
        if error.check == "not_nullable":
            return self.wanted.get(error.column_name, f"{error.column_name}: missing")
        return str(error.check.error)


def judge(contract: Contract, taken: Intake, wanted: Mapping[str, str]) -> Judge:
    """The judge of batches that `taken` brought into shape. `wanted`: columns that may not be missing, and why."""
    import pandera.polars as pa

    rules = {n: contract.rule(n) for n in taken.schema}
    flags = {
        FLAG + n: pa.Column(bool, pa.Check.eq(False, error=f"{n}: not {rules[n].dtype}", n_failure_cases=1))
        for n in taken.coerced
    }
    full = to_pandera(contract, taken.schema, whole=False).add_columns(flags)
    strict = {n: {"nullable": False} for n in wanted}
    return Judge(sieve=_sieve(contract, taken, wanted), full=full.update_columns(strict), wanted=wanted)


def _sieve(contract: Contract, taken: Intake, wanted: Mapping[str, str]) -> Any:
    import pandera.polars as pa
    import polars as pl

    names = {n: dtype_name(d) for n, d in taken.schema.items()}
    found = [condition(contract.rule(n), dtype) for n, dtype in names.items()]
    parts = [part for part in found if part is not None]
    parts += [pl.col(n).is_not_null() for n in wanted]
    parts += [~pl.col(FLAG + n) for n in taken.coerced]
    parts += [pl.sql_expr(r.sql).fill_null(True) for r in contract.rules if r.action == "reject"]
    columns = {n: pa.Column(None if names[n] in ARRAYS else d, nullable=True) for n, d in taken.schema.items()}
    check = pa.Check(lambda data: data.lazyframe.select(pl.all_horizontal(parts)), n_failure_cases=1)
    return pa.DataFrameSchema(columns, checks=[check] if parts else [], strict=False)


def _failures(schema: Any, batch: pl.DataFrame) -> list[tuple[Any, pl.Series]]:
    """Each error with its boolean per row. What is no error of rows (a dtype, a check that raises) is a DataError."""
    from pandera.config import ValidationDepth, config_context
    from pandera.constants import CHECK_OUTPUT_KEY
    from pandera.errors import SchemaErrors

    try:
        # Set here, since environment variables of pandera can switch validation off, or down to the schema.
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(batch, lazy=True)
        return []
    except SchemaErrors as errors:
        found = errors.schema_errors
    for error in found:
        if error.check_output is None:
            raise DataError(f"column {error.column_name!r}: {error}")
    return [(error, error.check_output[CHECK_OUTPUT_KEY]) for error in found]
