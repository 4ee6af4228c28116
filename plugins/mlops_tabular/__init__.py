"""Tables: data sources `csv`, `parquet` and `sql`, and trainer `sklearn`."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core import hookimpl


@hookimpl
def mlops_data() -> Mapping[str, type]:
    from mlops_tabular.columnar import Parquet
    from mlops_tabular.database import Sql
    from mlops_tabular.delimited import Csv

    return {"csv": Csv, "parquet": Parquet, "sql": Sql}


@hookimpl
def mlops_trainer() -> Mapping[str, type]:
    from mlops_tabular.estimator import Sklearn

    return {"sklearn": Sklearn}
