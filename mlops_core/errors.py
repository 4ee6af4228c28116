"""What can go wrong, told to a person.

    MlopsError
    |-- UsageError            a command or call that cannot mean anything here
    |   `-- DeclarationError  the YAML: every problem at once, each with its place
    |-- PluginError           a plugin is unknown, broken, claimed twice, or misused
    |-- DataError             the data could not be read, or breaks its contract
    |-- TrainingError         a fit or a search failed
    |-- BundleError           a sealed model is incomplete, altered, or not to be trusted
    |-- StoreError            objects or ledger: not reachable, full, read-only, or damaged
    |-- ServingError          an endpoint could not be made so, or does not answer
    |-- LaunchError           another machine does not answer, or did not take what was sent
    `-- Rejected              a model did not pass its gate (work done, promotion refused)

Messages are lower case without a full stop, name the file, line, key or path, what was expected and what
there is instead. Each error carries one string, so that it crosses processes unharmed.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from dataclasses import dataclass


class MlopsError(Exception):
    """The root: catch this to catch everything that mlops_core raises on purpose."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class UsageError(MlopsError):
    exit_code = 3


class PluginError(MlopsError):
    exit_code = 3


class DataError(MlopsError):
    pass


class TrainingError(MlopsError):
    pass


class BundleError(MlopsError):
    pass


class StoreError(MlopsError):
    @classmethod
    def of(cls, doing: str, error: OSError) -> StoreError:
        """What the system refused, in words: `doing` says what was tried and names the path."""
        words = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EFBIG: "the file would grow over the allowed size",
            errno.EROFS: "the disk is read-only",
            errno.EACCES: "no permission",
            errno.EPERM: "no permission",
            errno.ENOENT: "no such file or folder",
        }
        return cls(f"{doing}: {words.get(error.errno or 0, error.strerror or str(error))}")


class ServingError(MlopsError):
    pass


class LaunchError(MlopsError):
    pass


class Rejected(MlopsError):
    exit_code = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a declaration: where it stands, what it is, and the nearest right thing.

    `place` is what a person can open: `conf/config.yaml:12:3`, or `command line, override 2`.
    """

    place: str
    key: str
    message: str
    suggestion: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        head = f"{self.place}: {self.key}: {self.message}" if self.key else f"{self.place}: {self.message}"
        hint = f"; {self.suggestion}" if self.suggestion else ""
        return head + hint + (f"\n{self.excerpt}" if self.excerpt else "")


class DeclarationError(UsageError):
    """Every problem of a declaration at once; `problems` holds them as records."""

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> DeclarationError:
        found = tuple(problems)
        count = f"{len(found)} problem{'s' * (len(found) != 1)} in the declaration"
        return cls("\n".join([count, *map(str, found)]), found)

    def __reduce__(self) -> tuple[type[DeclarationError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.message, self.problems)


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice that `name` most likely meant, or '' when none is near.

    >>> nearest("lightnig", ["lightning", "sklearn"])
    'lightning'
    """
    known = {str(c).lower(): str(c) for c in choices}
    tail = {k.rsplit(".", 1)[-1]: v for k, v in known.items()}
    for pool, word in ((known, name.lower()), (tail, name.lower().rsplit(".", 1)[-1])):
        found = difflib.get_close_matches(word, list(pool), n=1, cutoff=0.6)
        if found:
            return pool[found[0]]
    return ""


def did_you_mean(name: str, choices: Iterable[str], limit: int = 12) -> str:
    """A closing clause for an unknown name: the nearest choice, else the list of what there is."""
    pool = sorted({str(c) for c in choices})
    near = nearest(name, pool)
    if near:
        return f"did you mean {near!r}?"
    if not pool:
        return "there are none"
    more = f", ... ({len(pool)} in all)" if len(pool) > limit else ""
    return "expected one of: " + ", ".join(pool[:limit]) + more
