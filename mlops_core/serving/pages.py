"""Two small HTML pages, whole in themselves: what this endpoint is, and how to call it."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

from mlops_core.contracts import Column
from mlops_core.serving.models import Table
from mlops_core.serving.protocol_v2 import datatype

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}"
    "pre{background:#f4f4f4;padding:1rem;overflow:auto}code{background:#f4f4f4}"
)
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# What a browser may do with these pages: show them in our own style; no script, no frame, no form, nothing fetched.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
EXAMPLES: dict[str, Any] = {"number": 1.5, "boolean": True, "time": "2026-01-31T12:00:00Z", "text": "text"}
CALLS = (
    ("POST /predict", 'rows as JSON: {"rows": [{...}]}, {"columns": {...}} or one row {...}'),
    ("POST /v2/models/NAME[/versions/N]/infer", "Open Inference Protocol v2, JSON tensors, one per column"),
    ("POST /v2/models/NAME/feedback", 'what came true: {"labels": [{"id": "...", "label": ...}]}, by prediction id'),
    ("GET /v2/models/NAME[/versions/N]", "the model's inputs and outputs"),
    ("GET /v2/models/NAME[/versions/N]/ready, /v2/health/live, /v2/health/ready", "protocol health"),
    ("GET /healthz, /readyz", "the process is alive; it takes requests"),
    ("GET /status, /metrics", "versions, traffic, counts, prediction log; the same for Prometheus"),
    ("GET /openapi.json", "this page for programs"),
)


def home(table: Table, status: dict[str, Any]) -> bytes:
    """The endpoint at a glance."""
    serving = table.serving
    rows = [[str(r.version), r.role, f"{r.weight:g} %", r.sha256[:12]] for r in serving.routes]
    counts = [[name, str(status[name])] for name in ("requests", "rows", "refused", "failed", "unseen")]
    body = [
        f"<p>Predicts <code>{escape(table.first.bundle.signature.target)}</code>. <a href='docs'>How to call it</a>, ",
        "<a href='openapi.json'>OpenAPI</a>, <a href='status'>status</a>.</p>",
        _table(["version", "role", "traffic", "bundle"], rows),
        "<h2>Since the start</h2>",
        _table(["count", ""], counts),
    ]
    return _page(serving.name, body)


def docs(table: Table) -> bytes:
    """The inputs, and requests that can be pasted into a terminal."""
    name, inputs = table.serving.name, table.first.bundle.signature.inputs
    keyed = table.serving.auth == "keys"
    tensors = [
        {"name": c.name, "datatype": datatype(c), "shape": [1, *c.shape], "data": _flat(example(c))} for c in inputs
    ]
    columns = [
        [c.name, c.kind, c.dtype, datatype(c), "yes" if c.nullable else "no", ", ".join(c.categories[:12])]
        for c in inputs
    ]
    body = [
        "<h2>Calls</h2>",
        _table(["call", ""], [[c.replace("NAME", name), what] for c, what in CALLS]),
        "<h2>Columns</h2>",
        _table(["column", "kind", "type", "protocol type", "may be missing", "values"], columns),
        "<h2>One row</h2>",
        _curl("predict", {"rows": [example_row(inputs)]}, keyed),
        "<h2>The same, Open Inference Protocol</h2>",
        _curl(f"v2/models/{name}/infer", {"inputs": tensors}, keyed),
        "<p>Send a header <code>x-request-id</code> to name a request yourself. Row <i>i</i> of request <i>id</i> is "
        "prediction <code>id-i</code>. A request that cannot be answered gets problem+json with every fault.</p>",
    ]
    return _page(f"{name}: how to call it", body)


def example(column: Column) -> Any:
    """A value that this column takes."""
    if column.kind == "array":
        value: Any = 0.5
        for size in reversed(column.shape):
            value = [value] * size
        return value
    if column.categories:
        return column.categories[0]
    if column.kind == "category" and column.dtype == "boolean":
        return "true"
    if column.kind == "number" and column.dtype.startswith(("int", "uint")):
        return 1
    return EXAMPLES.get(column.kind, "text")


def example_row(inputs: tuple[Column, ...]) -> dict[str, Any]:
    return {c.name: example(c) for c in inputs}


def _flat(value: Any) -> list[Any]:
    return [v for inner in value for v in _flat(inner)] if isinstance(value, list) else [value]


def _curl(path: str, body: dict[str, Any], keyed: bool) -> str:
    text = json.dumps(body).replace("'", "'\\''")
    key = "-H 'authorization: Bearer KEY' " if keyed else ""
    return f"<pre>curl {key}-H 'content-type: application/json' URL/{escape(path)} -d '{escape(text)}'</pre>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(h)}</th>" for h in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row) + "</tr>" for row in rows]
    return "<table>" + "".join(lines) + "</table>"


def _page(title: str, body: list[str]) -> bytes:
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style>"
    page = (
        f"<!doctype html><html lang='en'><head>{head}</head><body><h1>{escape(title)}</h1>{''.join(body)}</body></html>"
    )
    return page.encode()
