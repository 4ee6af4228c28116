"""Five trivial stages, cold, against plain Python, Kedro and Hamilton; an extra stage; a 100 MB array passed on.

Goals: at most 0.7 CPU s cold with lineage and audit written, 10 ms an extra stage, and 1.5x plain memory.
Kedro and Hamilton run in memory; ours writes every outcome, its lineage and its digest to disk.
"""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from pathlib import Path

from measure import compare, cpu

PLAIN = """
def step(x): return x + 1
x = 0
for _ in range(5): x = step(x)
"""
KEDRO = """
import logging; logging.disable(logging.CRITICAL)
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner
def step(x): return x + 1
line = pipeline([node(step, f"x{i}", f"x{i + 1}", name=f"s{i}") for i in range(5)])
SequentialRunner().run(line, DataCatalog({"x0": MemoryDataset(0)}))
"""
HAMILTON = """
import types
from hamilton import ad_hoc_utils, driver
found = {}
source = "\\n".join(f"def x{i + 1}(x{i}: int) -> int:\\n    return x{i} + 1" for i in range(5))
exec(source, found)
steps = [f for name, f in found.items() if name.startswith("x")]
module = ad_hoc_utils.create_temporary_module(*steps, module_name="steps")
driver.Builder().with_modules(module).build().execute(["x5"], inputs={"x0": 0})
"""
OURS = """
import sys
from pathlib import Path
from dataclasses import replace
from mlops_core.contracts import Choice, Declaration, Split
from mlops_core.flow.context import Context
from mlops_core.flow.line import Tally, advance
from mlops_core.workspace import Workspace

class Step:
    home = ""
    def __init__(self, number): self.number, self.name = number, f"step{number}"
    def declared(self, context): return True
    def own(self, context): return {"number": self.number, **context.code(["json"], [])}
    def inputs(self, context): return {"input": context.results.get(f"step{self.number - 1}", 0)}
    def perform(self, context, work, key): return {"x": self.inputs(context)["input"] + 1}, None
    def result(self, context, outcome, path): return outcome.record["x"]

class Array(Step):
    home = "arrays"
    def inputs(self, context): return {"input": str(context.results.get(f"step{self.number - 1}", ""))}
    def perform(self, context, work, key):
        import numpy as np
        before = context.results.get(f"step{self.number - 1}")
        x = np.zeros(13_107_200) if before is None else np.load(before / "x.npy", mmap_mode="c")
        x += 1
        (work / "out").mkdir(exist_ok=True)
        np.save(work / "out" / "x.npy", x)
        return {}, work / "out"
    def result(self, context, outcome, path): return path

nothing = Choice(plugin="none")
declaration = Declaration(name="bench", seed=0, data=nothing, target="y", task="auto", contract={}, split=Split(),
                          trainer=nothing, metric="accuracy")
context = Context(Workspace(Path(sys.argv[1]), declaration), declaration)
ledger = context.workspace.ledger
with ledger.lock("bench"):
    context.run = ledger.begin_run("bench", "manual")
    make = Array if sys.argv[3:] == ["array"] else Step
    for number in range(int(sys.argv[2])): advance(context, make(number), Tally())
    ledger.append_audit(actor="bench", action="run", subject="bench", reason="measured", facts={})
    ledger.end_run(context.run, "done")
context.workspace.close()
"""
PLAIN_ARRAY = """
import numpy as np
x = np.zeros(13_107_200)
for _ in range(5): x = x + 1
"""


def main() -> None:
    quiet = {"HAMILTON_TELEMETRY_ENABLED": "false", "KEDRO_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    env = {**os.environ, **quiet, "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        scripts = {"plain": PLAIN, "kedro": KEDRO, "hamilton": HAMILTON, "ours": OURS, "plain_array": PLAIN_ARRAY}
        for name, text in scripts.items():
            (here / f"bench_{name}.py").write_text(textwrap.dedent(text))
        fresh = iter(range(1_000_000))

        def script(name: str, *words: str) -> tuple[float, float]:
            return cpu([sys.executable, str(here / f"bench_{name}.py"), *words], here, env)

        def ours(count: int, *words: str) -> tuple[float, float]:
            state = here / f"state{next(fresh)}"
            state.mkdir()
            return script("ours", str(state), str(count), *words)

        print("five trivial stages, cold")
        found = compare(
            {
                "plain Python": lambda: script("plain"),
                "Hamilton": lambda: script("hamilton"),
                "Kedro": lambda: script("kedro"),
                "mlops_core": lambda: ours(5),
                "mlops_core, 105 stages": lambda: ours(105),
            },
            repeats=7,
            base="Kedro",
        )
        extra = (found["mlops_core, 105 stages"][0] - found["mlops_core"][0]) / 100
        cold = found["mlops_core"][0]
        print(f"  an extra stage costs {1000 * extra:.1f} ms CPU (goal 10); cold {cold:.2f} CPU s (goal 0.7)")
        print("a 100 MB array through five stages")
        found = compare(
            {"plain Python": lambda: script("plain_array"), "mlops_core": lambda: ours(5, "array")},
            repeats=3,
            base="plain Python",
        )
        print(f"  memory {found['mlops_core'][1] / found['plain Python'][1]:.2f}x plain (goal 1.5)")


if __name__ == "__main__":
    main()
