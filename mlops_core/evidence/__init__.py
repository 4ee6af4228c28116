"""Evidence while it comes in: is the candidate worse than the stable version, safe, or too early to say?

Every statement is anytime-valid: the declared error rate holds although somebody looks after every batch and stops
when the picture pleases. All is a function of counts, so that the order and the cut of batches do not matter, and
a driver that was killed counts again and comes to the same judgement.
"""

from __future__ import annotations

from mlops_core.evidence.contest import Contest as Contest
from mlops_core.evidence.contest import Standing as Standing
from mlops_core.evidence.guards import Finding as Finding
from mlops_core.evidence.guards import Guard as Guard
from mlops_core.evidence.rollout import Evidence as Evidence
