"""Finds the command, runs it, and tells what went wrong in one place.

Only the module of the command that was asked for is imported, so that `mlops --help` stays instant.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from mlops_core.errors import MlopsError, nearest

# The order is the order of a project's life; the words are each command's own SUMMARY, held equal by a test.
COMMANDS = {
    "init": "make a project folder from a shipped recipe",
    "check": "validate the declaration: every error at once, with file and line",
    "plan": "what run would do and why, key by key; changes nothing",
    "run": "make reality equal to the declaration; skips what is unchanged",
    "status": "versions, endpoint, rollout, health, drift, last runs",
    "predict": "ask the running endpoint",
    "rollout": "the rollout under way: status, pause, resume, promote, abort",
    "versions": "list versions; show, promote, roll back or sign one; audit",
    "feedback": "give labels to logged predictions, from a file",
    "forget": "erase a subject from everything that was logged of it",
    "keys": "make, list and revoke the keys of callers",
    "submit": "run a command on a Ray cluster: follow it, stop it, list what was sent",
    "deploy": "make the endpoint as declared, without a stage before it; stop it",
    "stop": "stop the endpoint",
    "config": "the composed declaration, and where each value came from",
    "plugins": "what is installed, its options and manual; scaffold a new one",
}
EXIT_CODES = """exit codes: 0 done, 1 the work failed, 2 work is due (plan), 3 the declaration or the command is wrong,
4 the model did not pass its gate, 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        print(_version())
        return 0
    if words[0] not in COMMANDS:
        near = nearest(words[0], COMMANDS)
        return _fail(
            f"unknown command {words[0]!r}; " + (f"did you mean {near!r}?" if near else "see 'mlops --help'"), 3
        )
    try:
        return _run(words[0], words[1:])
    except MlopsError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; what is done is kept: run again to go on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _fail(_unforeseen(words[0], error), 1)


def parser_of(command: str) -> argparse.ArgumentParser:
    """The argument parser of one command."""
    module = importlib.import_module(f"mlops_core.cli.{command}")
    parser = _Parser(
        prog=f"mlops {command}",
        description=module.__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in our own way, with the nearest flag and our own exit code."""

    def error(self, message: str) -> None:  # type: ignore[override]
        flags = [f for a in self._actions for f in a.option_strings]
        unknown = message.rpartition(": ")[2].split(" ")[0] if "unrecognized" in message else ""
        near = nearest(unknown, flags) if unknown else ""
        hint = f"; did you mean {near!r}?" if near else ""
        raise SystemExit(_fail(f"{self.prog.removeprefix('mlops ')}: {message}{hint}; see '{self.prog} --help'", 3))


def _run(command: str, words: Sequence[str]) -> int:
    module = importlib.import_module(f"mlops_core.cli.{command}")
    rest: Sequence[str] = ()
    if getattr(module, "SENDS", False) and "--" in words:  # what follows is another command's
        words, rest = words[: words.index("--")], words[words.index("--") + 1 :]
    args = parsed(command, words)
    args.rest = list(rest)
    code: int = module.run(args)
    return code


def parsed(command: str, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command; tells what is wrong with them, and exits."""
    parser = parser_of(command)
    try:
        return parser.parse_intermixed_args(words)
    except TypeError:  # sub-commands of a command cannot be intermixed
        return parser.parse_args(words)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mlops COMMAND [KEY=VALUE ...] [--project DIR]",
            "",
            "Declare the whole life of a model in YAML; plan, run and watch keep reality equal to it.",
            "",
            *lines,
            "",
            "KEY=VALUE overrides the declaration in Hydra's grammar: trainer.lr=0.01, trainer=sklearn, ~tuner",
            "'mlops COMMAND --help' tells more",
            EXIT_CODES,
        ]
    )


def _version() -> str:
    from importlib.metadata import version

    return f"mlops_core {version('mlops-core-framework')}"


def _unforeseen(command: str, error: Exception) -> str:
    """What nobody foresaw in a line, and its traceback in a file."""
    import tempfile
    import traceback

    text = f"{command}: {type(error).__name__}: {error}; "
    try:
        with tempfile.NamedTemporaryFile("w", prefix="mlops-", suffix=".txt", delete=False) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return text + "this was not foreseen"
    return text + f"this was not foreseen: please report it with {file.name}"


def _fail(message: str, code: int) -> int:
    print(f"mlops: {message}", file=sys.stderr)
    return code
