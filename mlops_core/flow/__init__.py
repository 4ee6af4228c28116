"""The one-way line from data to an endpoint, and what each stage leaves."""

from mlops_core.flow.context import Context as Context
from mlops_core.flow.line import STAGES as STAGES
from mlops_core.flow.line import Finished as Finished
from mlops_core.flow.line import run as run
