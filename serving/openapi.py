"""The OpenAPI document of a served program."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from .interface import Interface

__all__ = ["PROBLEM", "document"]

PROBLEM = "application/problem+json"
_ERRORS = {
    400: "The body is not JSON.",
    401: "The bearer key is missing or wrong.",
    408: "The body did not come in time.",
    413: "The body is too long.",
    415: "The body is not application/json.",
    422: "The inputs are not of their types, or longer than the LM's context.",
    429: "Too many calls are running.",
    500: "The program failed.",
    502: "The LM gave no answer, or none that can be read.",
    503: "The server takes no calls.",
    504: "No answer in time.",
}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def document(interface: Interface, name: str, description: str, *, keyed: bool) -> dict[str, Any]:
    """Makes the document.

    Args:
        interface: Of the program.
        name: The title.
        description: What the program does.
        keyed: Whether calls need a bearer key.
    """
    modes, definitions = TypeAdapter.json_schemas(
        [("Inputs", "validation", interface.inputs), ("Outputs", "serialization", interface.outputs)],
        ref_template="#/components/schemas/{model}",
    )
    schemas = {key: schema for (key, _), schema in modes.items()} | definitions.get("$defs", {})
    alive = {"200": _json("It does.", {"type": "object", "required": ["status"]})}
    security: dict[str, Any] = {"security": [{"key": []}]} if keyed else {}
    predict: dict[str, Any] = {
        "operationId": "predict",
        "summary": "Runs the program.",
        "description": description,
        "requestBody": _json(None, schemas["Inputs"]) | {"required": True},
        "responses": {"200": _json("The outputs.", schemas["Outputs"])}
        | {str(status): _problem(status) for status in _ERRORS if keyed or status != 401},
        **security,
    }
    own: dict[str, Any] = {
        "operationId": "openapi",
        "summary": "This document.",
        "responses": {"200": _json("It.", {"type": "object"})} | ({"401": _problem(401)} if keyed else {}),
        **security,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "paths": {
            "/predict": {"post": predict},
            "/health": {"get": {"operationId": "health", "summary": "Does the process live?", "responses": alive}},
            "/ready": {
                "get": {
                    "operationId": "ready",
                    "summary": "Are calls taken?",
                    "responses": alive | {"503": _problem(503)},
                }
            },
            "/openapi.json": {"get": own},
        },
        "components": {"schemas": schemas | {"Problem": _PROBLEM_SCHEMA}}
        | ({"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if keyed else {}),
    }


def _json(description: str | None, schema: Any, media_type: str = "application/json") -> dict[str, Any]:
    told = {} if description is None else {"description": description}
    return {**told, "content": {media_type: {"schema": schema}}}


def _problem(status: int) -> dict[str, Any]:
    told = _json(_ERRORS[status], {"$ref": "#/components/schemas/Problem"}, PROBLEM)
    return told | ({"headers": _RETRY} if status in (429, 503) else {})
