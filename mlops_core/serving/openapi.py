"""The endpoint as OpenAPI 3.1, made from the model's signature."""

from __future__ import annotations

from typing import Any

from mlops_core.contracts import Column, Signature
from mlops_core.serving.cells import LARGEST, LARGEST_WHOLE
from mlops_core.serving.door import scope_of
from mlops_core.serving.models import Table
from mlops_core.serving.pages import example_row
from mlops_core.serving.problems import TITLES
from mlops_core.serving.tensors import DATATYPES

Json = dict[str, Any]


def describe(table: Table, operated: bool = True) -> Json:
    """The document behind `/openapi.json`. Answers are by the version with most traffic. What only operators may ask
    is told of where it is answered by the same port, `operated`."""
    serving, signature = table.serving, table.first.bundle.signature
    model = f"/v2/models/{serving.name}"
    versions = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"enum": [str(v) for v in table.versions]},
    }
    paths: Json = {
        "/predict": {"post": _post("predict", "Predict", "PredictRequest", "PredictAnswer")},
        f"{model}/infer": {"post": _infer("infer", "Predict, Open Inference Protocol v2")},
        model + "/versions/{version}/infer": {
            "parameters": [versions],
            "post": _infer("inferVersion", "Predict with one version"),
        },
        f"{model}/feedback": {"post": _feedback()},
        model + "/versions/{version}": {
            "parameters": [versions],
            "get": _get("modelVersion", "One version's inputs and outputs"),
        },
        model + "/versions/{version}/ready": {
            "parameters": [versions],
            "get": _get("versionReady", "One version is ready"),
        },
    }
    for path, id, summary in (
        (model, "model", "The model's inputs and outputs"),
        (f"{model}/ready", "modelReady", "The model is ready"),
        ("/v2", "server", "The server's name and extensions"),
        ("/v2/health/live", "live", "The server is alive"),
        ("/v2/health/ready", "ready", "The server takes requests"),
        ("/healthz", "healthz", "The process is alive"),
        ("/readyz", "readyz", "The endpoint takes requests"),
    ):
        paths[path] = {"get": _get(id, summary)}
    if operated:
        paths["/status"] = {"get": _get("status", "Versions, traffic, counts and the prediction log")}
        paths["/metrics"] = {"get": _get("metrics", "Counts and times for Prometheus", "text/plain", "string")}
    guarded = _guard(paths) if serving.auth == "keys" else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": serving.name,
            "version": str(table.first.version),
            "description": f"Predicts {signature.target}.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(signature)} | guarded,
    }


def _guard(paths: Json) -> Json:
    """Says of each operation by which key it is opened; the ways in which a key is sent."""
    for path, operations in paths.items():
        if wanted := scope_of(path):
            for method in operations.keys() & {"get", "post"}:
                operation = operations[method]
                operation["security"] = [{"bearer": []}, {"header": []}]
                operation["description"] = (
                    "Needs a key of scope admin." if wanted == "admin" else f"Needs a key of scope {wanted}, or admin."
                )
                operation["responses"] |= _problems(401, 403, 429)
    bearer = {"type": "http", "scheme": "bearer"}
    return {"securitySchemes": {"bearer": bearer, "header": {"type": "apiKey", "in": "header", "name": "x-api-key"}}}


def _schemas(signature: Signature) -> Json:
    row = {
        "type": "object",
        "additionalProperties": False,
        "properties": {c.name: _cell(c) for c in signature.inputs},
        "required": [c.name for c in signature.inputs if not c.nullable],
        "example": example_row(signature.inputs),
    }
    lists = {c.name: {"type": "array", "minItems": 1, "items": _cell(c)} for c in signature.inputs}
    columns = {**row, "minProperties": 1, "properties": lists}
    del columns["example"]
    prediction: Json = {"type": "object", "required": ["prediction"], "properties": {"prediction": {}}}
    if signature.classes:
        shares = {c: {"type": "number", "minimum": 0, "maximum": 1.000001} for c in signature.classes}
        prediction["properties"]["probability"] = {"type": "object", "properties": shares}
    tensor: Json = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": list(DATATYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array", "items": {}},
        },
    }
    tensors = {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Tensor"}}
    text = {"type": "string"}
    return {
        "Row": row,
        "PredictRequest": {
            "oneOf": [
                _object({"rows": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Row"}}}),
                _object({"columns": columns}),
                {"$ref": "#/components/schemas/Row"},
            ]
        },
        "PredictAnswer": _object(
            {"id": text, "version": {"type": "integer"}, "predictions": {"type": "array", "items": prediction}}
        ),
        "Tensor": tensor,
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {"id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}, "inputs": tensors},
        },
        "InferAnswer": _object({"model_name": text, "model_version": text, "id": text, "outputs": tensors}),
        "Label": _label(signature),
        "FeedbackRequest": {
            "oneOf": [
                _object({"labels": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Label"}}}),
                {"$ref": "#/components/schemas/Label"},
            ]
        },
        "FeedbackAnswer": _object({"accepted": {"type": "integer", "minimum": 1}}),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": text,
                "title": text,
                "status": {"type": "integer"},
                "detail": text,
                "error": text,
                "errors": {
                    "type": "array",
                    "items": _object({"row": {"type": ["integer", "null"]}, "column": text, "message": text}),
                },
            },
        },
    }


def _cell(column: Column) -> Json:
    if column.kind == "array":
        schema: Json = {"type": "number"}
        for size in reversed(column.shape):
            schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
        return schema
    whole = column.dtype.startswith(("int", "uint"))
    kinds = {"number": "integer" if whole else "number", "boolean": "boolean"}
    schema = {"type": [kinds.get(column.kind, "string")]}
    if column.kind == "number":
        largest = LARGEST_WHOLE if whole else LARGEST
        schema |= {"minimum": -largest, "maximum": largest}
    if column.kind == "time":
        schema["format"] = "date" if column.dtype == "date" else "date-time"
    if column.kind == "category" and column.dtype == "boolean":
        schema["type"] = ["boolean"]
    elif column.kind == "category" and whole:
        schema["type"] = ["string", "integer"]
    elif column.kind == "category" and column.dtype.startswith("float"):
        schema["type"] = ["string", "number"]
    if column.categories:
        schema["examples"] = list(column.categories[:12])
    if column.nullable:
        schema["type"] = [*schema["type"], "null"]
    return schema


def _object(properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _post(id: str, summary: str, request: str, answer: str) -> Json:
    header = {
        "name": "x-request-id",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    }
    return {
        "operationId": id,
        "summary": summary,
        "parameters": [header],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{request}"}}},
        },
        "responses": {
            "200": {
                "description": "the answer",
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}},
            }
        }
        | _problems(400, 404, 405, 413, 415, 422, 500),
    }


def _infer(id: str, summary: str) -> Json:
    """Tensors as JSON, or raw behind it: then a header tells how long the JSON is, of a request as of an answer."""
    described = _post(id, summary, "InferRequest", "InferAnswer")
    length = {"description": "bytes of JSON before the raw tensors", "schema": {"type": "integer", "minimum": 0}}
    raw = {"application/octet-stream": {"schema": {"description": "JSON, then the raw tensors in the same order"}}}
    described["parameters"].append({"name": "inference-header-content-length", "in": "header", **length})
    described["requestBody"]["content"] |= raw
    answer = described["responses"]["200"]
    answer["content"] |= raw
    answer["headers"] = {"inference-header-content-length": length}
    return described


def _feedback() -> Json:
    described = _post("feedback", "Tell what came true, by prediction id", "FeedbackRequest", "FeedbackAnswer")
    del described["parameters"]
    described["responses"] |= _problems(503)
    return described


def _label(signature: Signature) -> Json:
    truth: Json = {"type": "number"}
    if signature.task != "regression":
        truth = {"type": ["string", "number", "boolean"], "examples": list(signature.classes[:12])}
    properties = {
        "id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,140}$"},
        "label": truth,
        "time": {"type": ["string", "null"], "description": "when it was known, ISO 8601; now by default"},
    }
    return {"type": "object", "additionalProperties": False, "required": ["id", "label"], "properties": properties}


def _get(id: str, summary: str, kind: str = "application/json", schema: str = "object") -> Json:
    answer = {"description": "the answer", "content": {kind: {"schema": {"type": schema}}}}
    return {"operationId": id, "summary": summary, "responses": {"200": answer} | _problems(404, 405)}


def _problems(*codes: int) -> Json:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(code): {"description": TITLES[code], "content": content} for code in codes}
