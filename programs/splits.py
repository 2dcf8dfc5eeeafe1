"""Temporary."""

import hashlib
from dataclasses import dataclass

from .examples import inputs_hash


@dataclass(frozen=True)
class Splits:
    train: tuple
    dev: tuple
    test: tuple
    notes: tuple = ()


def split(examples, *, seed, fractions=(0.3, 0.4, 0.3), test=None):
    if test is not None:
        fractions = (0.4, 0.6, 0)

    def u(e):
        return int(hashlib.sha256(f"{seed}:{inputs_hash(e)}".encode()).hexdigest()[:12], 16) / 16**12

    s = sorted(examples, key=u)
    a, b = fractions[0], fractions[0] + fractions[1]
    return Splits(
        tuple(e for e in s if u(e) < a),
        tuple(e for e in s if a <= u(e) < b),
        tuple(test) if test is not None else tuple(e for e in s if u(e) >= b),
    )


def stratified(examples, key):
    groups = {}
    for e in examples:
        groups.setdefault(key(e), []).append(e)
    out = [((i + 0.5) / len(g), k, e) for k, g in groups.items() for i, e in enumerate(g)]
    return [e for _, _, e in sorted(out, key=lambda x: (x[0], str(x[1])))]
