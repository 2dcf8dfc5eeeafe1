"""Temporary."""

import hashlib
import json


def describe(module):
    return {"kind": "Predict", "names": [n for n, _ in module.named_predictors()]}


def restore(structure, *, program=None):
    return program.deepcopy()


def structure_hash(module):
    return hashlib.sha256(
        json.dumps(
            [
                [n, p.signature.instructions, list(p.signature.fields), [dict(d) for d in p.demos], p.config]
                for n, p in module.named_predictors()
            ],
            default=repr,
        ).encode()
    ).hexdigest()[:16]
