"""Interpolations that cannot even be read: found before Hydra composes, for it would stop at the first."""

from __future__ import annotations

from typing import Any

from mlops_core.config.documents import Document


def readable(text: Any) -> bool:
    """Whether OmegaConf can read the interpolations in `text` at all; it would not even compose others."""
    from omegaconf import OmegaConf
    from omegaconf.errors import GrammarParseError

    try:
        OmegaConf.create({"value": text})
    except GrammarParseError:
        return False
    return True


def unreadable(document: Document) -> None:
    """Tells interpolations that cannot be read, and mends them away."""
    for path, node in document.scalars():
        if "${" in node.value and not readable(node.value):
            message = f"the interpolation {node.value!r} cannot be read, expected ${{KEY}}"
            document.fault(document.at(node), message, ".".join(path))
            document.void.add(path)
            node.value, node.tag, node.style = "null", "tag:yaml.org,2002:null", None
