"""A contract is read strictly, and everything wrong with it is told at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_core.validation import contract_problems
from mlops_core.validation.reading import COLUMN, TOP

SCHEMA = {
    "age": "Int64",
    "income": "Float64",
    "expenses": "Float64",
    "status": "String",
    "seen": "Datetime(time_unit='us', time_zone=None)",
    "pixels": "Array(Float32, shape=(64,))",
}
FULL: dict[str, Any] = {
    "description": "people who asked for credit",
    "columns": {
        "age": {
            "dtype": "int64",
            "kind": "number",
            "nullable": True,
            "range": [18, 100],
            "role": ["feature", "protected"],
        },
        "income": {"dtype": "float64", "outliers": {"method": "iqr"}, "missing": {"at_most": 0.1}, "finite": True},
        "status": {"in": ["good", "bad"], "positive": "bad", "role": "target", "description": "paid back or not"},
        "seen": {"range": ["2020-01-01", None]},
        "pixels": {"length": [64, 64]},
    },
    "rules": [{"name": "covers", "sql": "income >= expenses", "action": "warn"}],
    "rows": {"at_least": 10, "change": 0.5},
    "freshness": {"column": "seen", "within": "7d"},
    "extra_columns": "refuse",
    "on_invalid": "fail",
    "max_rejected": 0.1,
}


def told(contract: dict[str, Any], schema: dict[str, str] | None = SCHEMA, target: str = "status") -> list[str]:
    found = contract_problems(contract, schema, target)
    return [f"{p.key}: {p.message}" + (f"; {p.suggestion}" if p.suggestion else "") for p in found]


def test_a_full_contract_and_an_empty_one_are_right() -> None:
    assert told(FULL) == [] and told({}) == [] and told(FULL, schema=None) == []


def test_every_problem_is_told_at_once_with_its_key() -> None:
    wrong = {
        "column": {},
        "columns": {"age": {"rnge": [1, 2], "dtype": "integer"}, "statis": {}},
        "rules": [{"sql": "income >"}],
        "rows": {"atleast": 3},
        "on_invalid": "drop",
    }
    assert told(wrong) == [
        "column: unknown key; did you mean 'columns'?",
        "rows.atleast: unknown key; did you mean 'at_least'?",
        "columns.age.rnge: unknown key; did you mean 'range'?",
        "columns.age.dtype: unknown value 'integer'; did you mean 'int64'?",
        "rules.0.name: missing mandatory value",
        "on_invalid: unknown value 'drop'; expected one of: fail, quarantine",
        "columns.statis: the data has no such column; did you mean 'status'?",
        "rules.0.sql: 'income >' is no SQL expression: unable to parse 'income >' as Expr",
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"age": {"dtype": "string"}}, "columns.age.dtype: the data has int64, not string; say so, or 'coerce: true'"),
        ({"age": {"range": [100, 18]}}, "columns.age.range: the lowest value 100 is above the highest 18"),
        ({"age": {"range": [18]}}, "columns.age.range: expected [lowest, highest] with null for an open end, got [18]"),
        ({"age": {"range": ["a", 3]}}, "columns.age.range: 'a' and 3 cannot be compared"),
        ({"age": {"range": ["a", None]}}, "columns.age.range: 'a' is no int64"),
        ({"status": {"range": [1, 2]}}, "columns.status.range: does not apply to a string column"),
        ({"age": {"regex": "a"}}, "columns.age.regex: does not apply to an int64 column"),
        (
            {"status": {"regex": "("}},
            "columns.status.regex: '(' is no regular expression of Rust's regex: unclosed group",
        ),
        (
            {"status": {"regex": "(?=a)"}},
            "columns.status.regex: '(?=a)' is no regular expression of Rust's regex: look-",
        ),
        ({"status": {"in": []}}, "columns.status.in: an empty list allows no value"),
        ({"status": {"in": "good"}}, "columns.status.in: expected a list, got 'good'"),
        ({"status": {"in": [True]}}, "columns.status.in: True is no text (quote it)"),
        ({"status": {"positive": "bda", "in": ["good", "bad"]}}, "columns.status.positive: 'bda' is not among the val"),
        ({"age": {"positive": "1"}}, "columns.age.positive: only the target 'status' has a positive class"),
        ({"age": {"role": "featur"}}, "columns.age.role: unknown role 'featur'; did you mean 'feature'?"),
        ({"age": {"role": "target"}}, "columns.age.role: the target of the declaration is 'status', not 'age'"),
        ({"status": {"role": "feature"}}, "columns.status.role: the target has role target only, got feature"),
        ({"age": {"role": ["feature", "id"]}}, "columns.age.role: a feature cannot also be id"),
        ({"age": {"kind": "time"}}, "columns.age.kind: an int64 column cannot be of kind time"),
        ({"age": {"kind": "numbr"}}, "columns.age.kind: unknown value 'numbr'; did you mean 'number'?"),
        ({"age": {"nullable": "yes"}}, "columns.age.nullable: expected true or false, got 'yes'"),
        ({"age": {"missing": {"at_most": 2}}}, "columns.age.missing.at_most: expected a number from 0 to 1, got 2"),
        ({"age": {"missing": 0.5}}, "columns.age.missing: expected a mapping of at_most, got 0.5"),
        ({"age": {"nullable": False, "missing": {"at_most": 0.5}}}, "columns.age.missing: has no meaning beside"),
        (
            {"age": {"outliers": {"method": "z"}}},
            "columns.age.outliers.method: unknown value 'z'; expected one of: iqr",
        ),
        ({"status": {"outliers": {}}}, "columns.status.outliers: does not apply to a string column"),
        ({"age": {"length": [1, 2]}}, "columns.age.length: does not apply to an int64 column"),
        ({"status": {"length": [-1, 2]}}, "columns.status.length: expected whole numbers of at least 0, got -1"),
        ({"age": {"coerce": True}}, "columns.age.coerce: needs 'dtype', to which it converts"),
        ({"seen": {"range": ["yesterday", None]}}, "columns.seen.range: 'yesterday' is no time (ISO 8601)"),
        ({"pixels": {"unique": True}}, "columns.pixels.unique: does not apply to an array column"),
        ({"age": {"role": "weight", "nullable": True}}, "columns.age.nullable: a weight may not be missing; leave"),
        ({"income": {"role": "weight", "finite": False}}, "columns.income.finite: a weight may not be infinite; leave"),
        ({"age": {"role": "weight", "range": [-1, None]}}, "columns.age.range: a weight is at least 0, got -1"),
        ({"seen": {"role": "weight"}}, "columns.seen.role: a weight is a number, and this is a datetime column"),
        (
            {"age": {"role": "weight"}, "income": {"role": "weight"}},
            "columns.income.role: one column has role weight, and 'age' has it already",
        ),
        ({"age": 3}, "columns.age: expected a mapping of dtype, kind, role"),
    ],
)
def test_a_column_that_makes_no_sense(column: dict[str, Any], message: str) -> None:
    found = told({"columns": column})
    assert len(found) == 1 and found[0].startswith(message), found


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (
            {"rules": [{"name": "r", "sql": "incme > 1"}]},
            "rules.0.sql: the data has no column 'incme'; did you mean 'inc",
        ),
        ({"rules": [{"name": "r", "sql": "income + 1"}]}, "rules.0.sql: 'income + 1' gives float64, not true or false"),
        (
            {"rules": [{"name": "r", "sql": "nosuch(age)"}]},
            "rules.0.sql: 'nosuch(age)' is no SQL expression: unsupported",
        ),
        ({"rules": [{"name": "r", "sql": "age > 1", "action": "drop"}]}, "rules.0.action: unknown value 'drop'"),
        (
            {"rules": [{"name": "r", "sql": "age>1"}, {"name": "r", "sql": "age>2"}]},
            "rules.1.name: two rules are named",
        ),
        ({"rules": {"name": "r"}}, "rules: expected a list, got a mapping"),
        ({"rows": {"at_least": -1}}, "rows.at_least: expected a whole number of at least 0, got -1"),
        ({"rows": {"change": "half"}}, "rows.change: expected a number of at least 0, got 'half'"),
        ({"freshness": {"column": "seen"}}, "freshness.within: missing mandatory value"),
        (
            {"freshness": {"column": "sen", "within": "7d"}},
            "freshness.column: the data has no column 'sen'; did you mean",
        ),
        ({"freshness": {"column": "age", "within": "7d"}}, "freshness.column: 'age' is an int64 column, not a date"),
        ({"freshness": {"column": "seen", "within": "week"}}, "freshness.within: expected a duration such as 30m"),
        ({"max_rejected": 5}, "max_rejected: expected a number from 0 to 1, got 5"),
        ({"columns": ["age"]}, "columns: expected a mapping of column names, got ['age']"),
    ],
)
def test_a_contract_that_makes_no_sense(contract: dict[str, Any], message: str) -> None:
    found = told(contract)
    assert len(found) == 1 and found[0].startswith(message), found


def test_a_check_of_form_imports_no_table_library() -> None:
    code = (
        "import sys; from mlops_core.validation import contract_problems as c;"
        "assert not c({'columns': {'a': {'dtype': 'int64', 'range': [0, 1]}}}, {'a': 'Int64'}, 'a');"
        "assert not {'polars', 'pandera', 'pandas', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_reference_documents_every_key_and_its_example_is_right() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "contract.md").read_text()
    example = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.S)[0])
    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert documented == {*COLUMN, *TOP} - {"columns"}
    assert set(example) == set(TOP) and contract_problems(example, None, "status") == []
    assert {key for rule in example["columns"].values() for key in rule} >= {*COLUMN} - {
        "kind",
        "finite",
        "description",
    }
