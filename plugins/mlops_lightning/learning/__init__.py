"""Everything that needs torch. Imported by the trainer's verbs only, so that naming the plugin costs nothing."""

import os
import sys

# Threads that wait by spinning make a small network five times slower where other work shares the processor.
# OpenMP reads this once, when torch loads it.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    import torch as torch

    del os.environ["OMP_WAIT_POLICY"]
