"""A project sent to run on another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Submission

if TYPE_CHECKING:
    from mlops_core.stages import Launcher


def submit(
    project: Path,
    words: Sequence[str],
    *,
    given: Mapping[str, Any] | None = None,
    notice: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Sends the project, with a command such as `["run", "trainer.lr=0.01"]`, to the machine of the declared launcher.

    `given` stands in place of keys of `launcher:` (`{"address": "http://head:8265", "env": ["LEDGER_URL"]}`); its `env`
    is sent beside the declared one.
    Returns once it is there; `launcher().follow` gives its output. Raises before anything is sent where state would
    be lost, a declared file does not travel, or the machine does not answer.
    """
    from mlops_core import sending
    from mlops_core.config import declare, find_root
    from mlops_core.plugins import Plugins

    root, plugins = find_root(Path(project)), Plugins()
    declaration = declare(root, sending.overrides_of(words), data=False)
    return sending.submit(root, declaration, plugins, words, given or {}, notice)


def launcher(project: Path, given: Mapping[str, Any] | None = None) -> Launcher:
    """The declared launcher: `follow`, `status`, `stop` a submission, or list `all`.

    With an address `given`, no project is asked."""
    from mlops_core import sending
    from mlops_core.config import declare, find_root
    from mlops_core.plugins import Plugins

    given = given or {}
    choice = None if given.get("address") else declare(find_root(Path(project)), data=False).launcher
    return sending.launcher(Plugins(), choice, given)
