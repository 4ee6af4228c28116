"""The command `mlops`: a thin skin over `mlops_core.api`."""
