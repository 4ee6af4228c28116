"""Bad YAML, mended in memory line by line, so that what stands beside a fault is checked as well.

Each mend is a fault that is told; a mended file never becomes a declaration.
"""

from __future__ import annotations

import re
from typing import Any

from mlops_core.contracts import field, record

MENDS = 25
NODES = 200_000
_LOOSE = re.compile(r"([:\[,{]\s*)(\$\{[^{}]*\})(?=\s*[,}\]])")


@record
class Mended:
    """A file's node tree (None where nothing could be saved) and its faults: line, column (from 0), message.

    `lost` tells that lines could not be read at all. A line of -1 means the file as a whole.
    """

    node: Any
    faults: list[tuple[int, int, str]] = field(default_factory=list)
    lost: bool = False


def mend(given: list[str]) -> Mended:
    """Reads lines of YAML; what is wrong with their syntax is told and taken out of the way."""
    import yaml

    lines, told = list(given), set[int]()
    faults: list[tuple[int, int, str]] = []
    for _ in range(MENDS):
        try:
            node = yaml.compose("\n".join(lines) + "\n", yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            if not _move(error, lines, told, faults):
                break
        except (yaml.YAMLError, RecursionError) as error:
            faults.append(_whole(error, lines))
            break
        else:
            if _small(node):
                return Mended(node=node, faults=faults, lost=any(not lines[n] for n in told))
            faults.append((-1, 0, f"holds more than {NODES:,} values; aliases (*name) multiply what they stand for"))
            break
    return Mended(node=None, faults=faults, lost=True)


def _move(error: Any, lines: list[str], told: set[int], faults: list[tuple[int, int, str]]) -> bool:
    """Notes the fault and takes its line out of the way; False where that does not help."""
    context, where = error.context_mark, error.problem_mark or error.context_mark
    opened = context if "flow" in str(error.context) or "quoted" in str(error.context) else None
    mark = opened or where
    line: int = min(mark.line, len(lines) - 1)
    if "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
        message = "a tab indents this line; YAML indents with blanks"
        lines[line] = _untabbed(lines, line)
    elif line not in told and _LOOSE.search(lines[line]):
        message = "inside brackets an interpolation needs quotes"
        lines[line] = _LOOSE.sub(r'\1"\2"', lines[line])
    elif line in told or not lines[line].strip():
        return False
    else:
        message, lines[line] = _words(error), ""
    told.add(line)
    faults.append((line, mark.column, message))
    return True


def _whole(error: Exception, lines: list[str]) -> tuple[int, int, str]:
    if isinstance(error, RecursionError):
        return -1, 0, "is nested too deeply"
    before = "\n".join(lines)[: getattr(error, "position", 0)]
    found = getattr(error, "character", 0)
    code = found if isinstance(found, int) else ord(found)
    return before.count("\n"), len(before.rpartition("\n")[2]), f"the character U+{code:04X} cannot stand in YAML"


def _small(node: Any) -> bool:
    """Whether walking the tree ends soon: aliases may multiply, and may hold themselves."""
    waiting, count = [node], 0
    while waiting and count <= NODES:
        found = waiting.pop()
        count += 1
        if isinstance(getattr(found, "value", None), list):
            waiting += [n for item in found.value for n in (item if isinstance(item, tuple) else (item,))]
    return count <= NODES


def _untabbed(lines: list[str], line: int) -> str:
    """The line indented as the one above asks: two deeper where that opens a block, else alike."""
    above = next((text for text in reversed(lines[:line]) if text.strip()), "")
    indent = len(above) - len(above.lstrip()) + 2 * above.rstrip().endswith(":")
    return " " * indent + lines[line].strip()


def _words(error: Any) -> str:
    """PyYAML's finding in words that say what to do."""
    problem, context = str(error.problem), str(error.context or "")
    if "mapping values are not allowed" in problem:
        return "a key cannot stand here: check the indentation, and quote a value that holds ': '"
    if "flow sequence" in context or "flow mapping" in context:
        return f"this bracket is not closed: {problem}"
    if "quoted scalar" in context:
        return "this quote is not closed"
    if "block mapping" in context or "block collection" in context or "document start" in problem:
        return "the indentation fits no line above"
    if "expected the node content" in problem:
        return "a value is missing here, or needs quotes"
    if "could not find expected ':'" in problem:
        return "expected KEY: VALUE"
    found = re.match(r"found character '(.)' that cannot start any token", problem)
    return f"a value cannot start with {found[1]!r}; quote it" if found else problem
