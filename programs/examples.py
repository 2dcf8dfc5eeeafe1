"""Temporary."""

import hashlib
import json


def example_hash(e):
    return hashlib.sha256(json.dumps(e.toDict(), sort_keys=True, default=str).encode()).hexdigest()[:16]


def inputs_hash(e):
    return hashlib.sha256(json.dumps(e.inputs().toDict(), sort_keys=True, default=str).encode()).hexdigest()[:16]
