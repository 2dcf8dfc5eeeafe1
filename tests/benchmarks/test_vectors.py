"""The benchmark of vectors measures what it says: on few points, all engines find the exact neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from progspace.benchmarks import vectors


@pytest.mark.parametrize("engine", vectors.ENGINES)
def test_each_engine_is_asked_for_the_same(engine: str, tmp_path: Path) -> None:
    rows, queries = vectors.vectors(200, 8)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "queries.npy", queries)
    told = vectors.run(engine, 200, tmp_path)
    assert told["recall_at_10"] == 1
    assert (told["engine"], told["vectors"], told["queries"]) == (engine, 200, 8)
    assert ("same_request_p50_ms" in told) == (engine == "progspace")


def test_the_vectors_are_the_same_each_time_and_lie_in_clusters() -> None:
    rows, queries = vectors.vectors(500, 5)
    again, _ = vectors.vectors(500, 5)
    assert np.array_equal(rows, again)
    products = np.sort(queries @ rows.T, axis=1)
    assert (products[:, -10:].mean() - products.mean()) > 0.3
