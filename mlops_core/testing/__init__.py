"""Contract kits: what each kind of plugin promises, checked against the real thing, in three lines:

    from mlops_core.testing import check_trainer

    def test_contract(tmp_path): check_trainer(MyTrainer(), tmp_path)

Each kit raises BrokenPromise, an AssertionError that says in words which promise is broken. Our own plugins
pass these kits, and so does what the core relies on.
"""

from __future__ import annotations

from mlops_core.testing.data import check_data
from mlops_core.testing.deployer import check_deployer
from mlops_core.testing.launcher import check_launcher
from mlops_core.testing.monitor import check_monitor
from mlops_core.testing.observer import check_observer
from mlops_core.testing.promises import BrokenPromise, check_options
from mlops_core.testing.samples import make_bundle, make_dataset
from mlops_core.testing.trainer import check_trainer
from mlops_core.testing.tuner import check_tuner

__all__ = [
    "BrokenPromise",
    "check_data",
    "check_deployer",
    "check_launcher",
    "check_monitor",
    "check_observer",
    "check_options",
    "check_trainer",
    "check_tuner",
    "make_bundle",
    "make_dataset",
]
