"""The records that pass from room to room: frozen, JSON-able, standard library only.

`plain(record)` gives a record as plain data (str, int, float, bool, None, list, dict) and
`restore(cls, data)` gives it back, so that a record can be stored, sent and compared as JSON.
"""

from __future__ import annotations

from mlops_core.contracts.data import Artifact as Artifact
from mlops_core.contracts.data import Choice as Choice
from mlops_core.contracts.data import Column as Column
from mlops_core.contracts.data import Dataset as Dataset
from mlops_core.contracts.data import Signature as Signature
from mlops_core.contracts.declaration import Declaration as Declaration
from mlops_core.contracts.declaration import Split as Split
from mlops_core.contracts.names import KINDS as KINDS
from mlops_core.contracts.names import ROLES as ROLES
from mlops_core.contracts.names import SPLITS as SPLITS
from mlops_core.contracts.names import ColumnKind as ColumnKind
from mlops_core.contracts.names import Columns as Columns
from mlops_core.contracts.names import Kind as Kind
from mlops_core.contracts.names import Mode as Mode
from mlops_core.contracts.names import Params as Params
from mlops_core.contracts.names import Predict as Predict
from mlops_core.contracts.names import Role as Role
from mlops_core.contracts.names import Scores as Scores
from mlops_core.contracts.names import SplitName as SplitName
from mlops_core.contracts.names import Table as Table
from mlops_core.contracts.names import Task as Task
from mlops_core.contracts.running import Parcel as Parcel
from mlops_core.contracts.running import Run as Run
from mlops_core.contracts.running import Submission as Submission
from mlops_core.contracts.serving import Alert as Alert
from mlops_core.contracts.serving import Endpoint as Endpoint
from mlops_core.contracts.serving import Profile as Profile
from mlops_core.contracts.serving import Rollout as Rollout
from mlops_core.contracts.serving import Route as Route
from mlops_core.contracts.serving import Serving as Serving
from mlops_core.contracts.serving import Verdict as Verdict
from mlops_core.contracts.serving import Window as Window
from mlops_core.contracts.training import Distribution as Distribution
from mlops_core.contracts.training import Gang as Gang
from mlops_core.contracts.training import Goal as Goal
from mlops_core.contracts.training import Job as Job
from mlops_core.contracts.training import Model as Model
from mlops_core.contracts.training import Pruned as Pruned
from mlops_core.contracts.training import Space as Space
from mlops_core.contracts.training import Start as Start
from mlops_core.contracts.training import Trial as Trial
from mlops_core.contracts.training import Tuned as Tuned
from mlops_core.contracts.versions import Check as Check
from mlops_core.contracts.versions import Evaluation as Evaluation
from mlops_core.contracts.versions import GateRule as GateRule
from mlops_core.contracts.versions import ModelVersion as ModelVersion
from mlops_core.contracts.versions import Score as Score
from mlops_core.records import Secret as Secret
from mlops_core.records import field as field
from mlops_core.records import plain as plain
from mlops_core.records import record as record
from mlops_core.records import restore as restore
