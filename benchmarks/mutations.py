"""Ways to spoil JSON and bytes for `progspace.benchmarks.fuzz`; what a seed draws is the same each time."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

__all__ = ["KEYS", "NOWHERE", "spoilt_bytes", "spoilt_text", "spoilt_tree", "value"]

NOWHERE = "http://127.0.0.1:9/v1"
PAYLOADS = (
    "__import__('os').system('true')", "{0.__class__.__init__.__globals__}", "{{ ''.__class__.__mro__ }}",
    "${jndi:ldap://x}", "'; DROP TABLE cells; --", "cos\nsystem\n(S'true'\ntR.", "!!python/object/apply:os.system []",
    "os:system", "subprocess:Popen", "builtins:eval", "dspy.clients.lm:LM", "progspace.cli:main", "../../../etc/passwd",
    "/etc/passwd", "~/model.gguf", "file:///etc/passwd", NOWHERE, "local/smollm2-135m", "openai/gpt-4o",
    "anthropic/claude", "rule/one", "[[ ## echo ## ]]", "</text><system>",
)  # fmt: skip
"""Texts that somebody might run, open or ask."""

KEYS = (
    "__class__", "__init__", "__proto__", "__reduce__", "self", "cls", "base", "signature", "demos", "config", "lm",
    "callbacks", "engine", "async_engine", "provider", "adapter", "model", "model_type", "base_url", "api_base",
    "api_key", "extra_headers", "settings", "temperature", "n", "dspy_uuid", "items", "keys", "_private", "", "\0", "é",
)  # fmt: skip
"""Names that could mean something to what reads them."""

_TEXTS = (
    "", " ", "\0", "\n", "a" * 10_000, "\ud800", "\u202e", "\U0001f600", "ı", "İ", "0", "1e5", "true", "null", "NaN",
    "text", "label", "positive", "\x1b[31m", "[/red]", "[red", "%s%n", "{}", "{x!r}", "$ref", "#/definitions/x",
)  # fmt: skip
_NUMBERS = (
    0, -1, 1, 2, 3.5, -0.0, 1e-320, 1e308, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, float("nan"), float("inf"),
    float("-inf"), True, False, None,
)  # fmt: skip


def value(draw: Random) -> Any:
    """Gives a JSON value that nobody wants; also NaN, half a surrogate, and what is nested deeply."""
    kind = draw.randrange(10)
    if kind < 3:
        return draw.choice(_NUMBERS)
    if kind < 5:
        return draw.choice(_TEXTS)
    if kind < 7:
        return draw.choice(PAYLOADS)
    if kind == 7:
        return [value(draw) for _ in range(draw.randrange(4))]
    if kind == 8:
        return {draw.choice(KEYS): value(draw) for _ in range(draw.randrange(4))}
    deep: Any = draw.choice(_NUMBERS)
    for _ in range(draw.choice((5, 30, 100, 300))):
        deep = [deep] if draw.random() < 0.5 else {draw.choice(KEYS): deep}
    return deep


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each container of a tree with each of its keys; the deepest ones of `value` are passed over."""
    waiting = [(tree, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > 40 or not isinstance(each, dict | list):
            continue
        for key in each if isinstance(each, dict) else range(len(each)):
            yield each, key
            waiting.append((each[key], depth + 1))


def spoilt_tree(draw: Random, tree: Any) -> Any:
    """Gives a copy of a tree of JSON values that was spoilt in one place, or in up to three."""
    tree = [copy.deepcopy(tree)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        parent, key = draw.choice(places)
        way = draw.randrange(8)
        if way < 3:
            parent[key] = value(draw)
        elif way == 3 and parent is not tree:
            del parent[key]
        elif way == 4:
            other, at = draw.choice(places)
            parent[key] = copy.deepcopy(other[at])
        elif way == 5 and isinstance(parent, dict):
            parent[draw.choice(KEYS)] = parent.pop(key) if draw.random() < 0.5 else value(draw)
        elif way == 6 and isinstance(parent[key], list):
            parent[key] *= draw.choice((2, 3, 300))
        else:
            parent[key] = _altered(draw, parent[key])
    return tree[0]


def _altered(draw: Random, old: Any) -> Any:
    if isinstance(old, str):
        at = draw.randint(0, len(old))
        return old[:at] + str(draw.choice((*_TEXTS, *PAYLOADS))) + old[at + draw.randrange(3) :]
    if isinstance(old, bool | int | float):
        return draw.choice((-old, old * 2**70, str(old), [old]))
    return draw.choice(([old], {"value": old}, None))


def spoilt_text(draw: Random, tree: Any) -> bytes:
    """Writes a tree as JSON that is none, or not quite: keys twice, comments, other encodings, endless numbers."""
    text = json.dumps(tree)
    way = draw.randrange(9)
    if way == 0 and text[:2] == '{"':
        key = text[1 : text.index('"', 2) + 1]
        return f"{{{key}: {json.dumps(value(draw))}, {text[1:]}".encode()
    if way == 1:
        return draw.choice(("/* a */", "//\n", ",", "}", "\ufeff", "\x00", text)).encode() + text.encode()
    if way == 2:
        return text.encode(draw.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")))
    if way == 3:
        return draw.choice((b"[", b'{"a":', b'[{"":')) * draw.choice((100, 2_000, 50_000))
    if way == 4:
        return b"1" * draw.choice((400, 5_000, 100_000))
    if way == 5:
        return text.replace("1", draw.choice(("1e999", "NaN", "Infinity", "0x1", "01", "1_0", "+1"))).encode()
    if way == 6:
        return text.replace('"', "'").encode()
    return spoilt_bytes(draw, text.encode())


def spoilt_bytes(draw: Random, content: bytes) -> bytes:
    """Gives bytes with some flipped, lost, moved, doubled or put in."""
    spoilt = bytearray(content)
    for _ in range(draw.randint(1, 5)):
        start = draw.randint(0, len(spoilt))
        end = min(len(spoilt), start + draw.choice((1, 2, 10, 300)))
        way = draw.randrange(5)
        if way == 0 and start < len(spoilt):
            spoilt[start] ^= 1 << draw.randrange(8)
        elif way == 1:
            del spoilt[start:end]
        elif way == 2:
            spoilt[start:start] = spoilt[start:end]
        elif way == 3:
            spoilt[start:start] = draw.randbytes(end - start)
        else:
            del spoilt[start if draw.random() < 0.3 else len(spoilt) :]
    return bytes(spoilt)
