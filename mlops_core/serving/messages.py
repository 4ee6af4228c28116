"""The messages of `inference.proto`, made when they are first asked for: there is no generated code to keep.

They live in a pool of their own, because a process may also hold a client's messages of the same names.
Needs protobuf (the extra `grpc`). Understood of the language is what the protocol uses: messages in messages,
repeated fields, maps with text keys, one oneof a message.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("inference.proto")
PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
WORD = re.compile(r"//[^\n]*|[A-Za-z_]\w*|\"[^\"]*\"|\d+|\S")


@functools.cache
def messages() -> Mapping[str, Any]:
    """The message classes by name: `messages()["ModelInferRequest"]`."""
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.Add(described())
    file = pool.FindFileByName(FILE.name)
    return {name: message_factory.GetMessageClass(found) for name, found in file.message_types_by_name.items()}


def described() -> Any:
    """`inference.proto` as a FileDescriptorProto."""
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(name=FILE.name, package=PACKAGE, syntax="proto3")
    words = (w for w in WORD.findall(FILE.read_text()) if not w.startswith("//"))
    for word in words:
        if word == "message":
            _message(file.message_type.add(name=next(words)), words, f".{PACKAGE}")
        elif word == "service":
            _service(file.service.add(name=next(words)), words)
    return file


def _service(service: Any, words: Iterator[str]) -> None:
    for word in words:
        if word == "rpc":
            found = [next(words) for _ in range(10)]  # NAME ( REQUEST ) returns ( ANSWER ) { }
            names = {"input_type": f".{PACKAGE}.{found[2]}", "output_type": f".{PACKAGE}.{found[6]}"}
            service.method.add(name=found[0], **names)
        elif word == "}":
            return


def _message(message: Any, words: Iterator[str], outside: str) -> None:
    """Reads `{ ... }`. A name that this message does not hold itself is one of the package."""
    within, choice = f"{outside}.{message.name}", False
    next(words)
    for word in words:
        if word == "message":
            _message(message.nested_type.add(name=next(words)), words, within)
        elif word == "oneof":
            message.oneof_decl.add(name=next(words))
            choice = next(words) == "{"
        elif word == "}" and choice:
            choice = False
        elif word == "}":
            return
        elif word == "map":
            _, _, _, kind, _, name = (next(words) for _ in range(6))
            entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
            entry.options.map_entry = True
            _field(entry, "string", "key", 1, within)
            _field(entry, kind, "value", 2, within)
            _field(message, entry.name, name, _number(words), within, repeated=True)
        else:
            kind = next(words) if word == "repeated" else word
            field = _field(message, kind, next(words), _number(words), within, repeated=word == "repeated")
            if choice:
                field.oneof_index = 0


def _field(message: Any, kind: str, name: str, number: int, within: str, repeated: bool = False) -> Any:
    field = message.field.add(name=name, number=number, json_name=_camel(name))
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    plain = getattr(field, f"TYPE_{kind.upper()}", None)
    if plain is not None:
        field.type = plain
    else:
        own = kind in {m.name for m in message.nested_type}
        field.type, field.type_name = field.TYPE_MESSAGE, f"{within if own else '.' + PACKAGE}.{kind}"
    return field


def _number(words: Iterator[str]) -> int:
    """`= NUMBER ;`"""
    _, number, _ = (next(words) for _ in range(3))
    return int(number)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(w.capitalize() for w in others)
