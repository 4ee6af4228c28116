"""Every command as one typed call. The CLI is a skin over this; notebooks and services use it alike.

Each takes the project's folder and Hydra overrides (`["trainer.lr=0.01"]`), raises `MlopsError` for what a
person can mend, and leaves nothing open.
"""

from __future__ import annotations

from mlops_core.api.callers import create_key as create_key
from mlops_core.api.callers import feedback as feedback
from mlops_core.api.callers import forget as forget
from mlops_core.api.callers import keys as keys
from mlops_core.api.callers import revoke_key as revoke_key
from mlops_core.api.endpoints import Status as Status
from mlops_core.api.endpoints import deploy as deploy
from mlops_core.api.endpoints import predict as predict
from mlops_core.api.endpoints import status as status
from mlops_core.api.endpoints import stop as stop
from mlops_core.api.jobs import launcher as launcher
from mlops_core.api.jobs import submit as submit
from mlops_core.api.line import plan as plan
from mlops_core.api.line import run as run
from mlops_core.api.projects import check as check
from mlops_core.api.projects import config as config
from mlops_core.api.projects import init as init
from mlops_core.api.projects import origins as origins
from mlops_core.api.projects import plugins as plugins
from mlops_core.api.projects import recipes as recipes
from mlops_core.api.registry import audit as audit
from mlops_core.api.registry import sign as sign
from mlops_core.api.registry import signed as signed
from mlops_core.api.registry import version as version
from mlops_core.api.registry import versions as versions
from mlops_core.api.rollouts import Rolling as Rolling
from mlops_core.api.rollouts import promote as promote
from mlops_core.api.rollouts import rollback as rollback
from mlops_core.api.rollouts import rollout as rollout
from mlops_core.api.rollouts import steer as steer
