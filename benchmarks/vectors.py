"""Search among vectors: a collection of ours, a bare loop over the same engine, and Qdrant's client in local mode.

    TMPDIR=/dev/shm python -m progspace.benchmarks.vectors

On a disk in memory, what is measured is the engines: local mode commits each point to SQLite, and a disk's own delay
would be all that is seen.

The vectors are made up: points around centres in a space of 64 dimensions, laid into one of 384, with noise. Sentence
embeddings are like that, clustered and of fewer dimensions than they have numbers; uniform noise, where all points are
about equally far from each other, is not, and no index of neighbours serves it. Queries are drawn as the vectors are,
and are none of them. Each engine and size has a process of its own, so that its peak memory is its own.

``progspace`` is `Collection.search_vectors`: rights filter, plan, passages. ``bare`` makes the same points and the same
request by hand, without a filter. ``same request`` sends, in turns with ``progspace``, on the same shard, the request
that it sends: the difference is what our code costs. ``local mode`` is asked without a filter and stores dense vectors
only; both favour it. Its search is exact, by numpy.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..retrievers import Collection, Passage, Search
from ..retrievers.edge import EdgeEngine
from ..retrievers.edge_request import request_of
from ..retrievers.engine import EF, EF_CONSTRUCT, M
from ..retrievers.passage import EVERYONE
from ..retrievers.plan import Condition, Nearest, Step
from .results import RESULTS, read_results, write_results

DIMENSION, LATENT, CLUSTER, K = 384, 64, 50, 10
SIZES = (1_000, 20_000, 100_000)
ENGINES = ("progspace", "bare", "local mode")
QUERIES = {"progspace": 1_000, "bare": 1_000, "local mode": 200}
BATCH = 500

Vectors = NDArray[np.float32]


class Given:
    """Stands for the embedder: the vectors are given."""

    name, dimension = "given", DIMENSION

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Is never asked."""
        raise NotImplementedError


def vectors(count: int, queries: int) -> tuple[Vectors, Vectors]:
    """Makes unit vectors around one centre for each 50 of them, and queries of the same kind."""
    draw = np.random.default_rng(0)
    plane = draw.normal(size=(LATENT, DIMENSION)).astype(np.float32) / np.sqrt(LATENT)
    centres = draw.normal(size=(count // CLUSTER, LATENT)).astype(np.float32)
    chosen = centres[draw.integers(len(centres), size=count + queries)]
    rows = (chosen + draw.normal(size=chosen.shape).astype(np.float32)) @ plane
    rows += 0.1 * draw.normal(size=rows.shape).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:count], rows[count:]


def nearest(rows: Vectors, queries: Vectors) -> list[set[int]]:
    """The exact answer: the ``K`` largest products."""
    return [set(np.argpartition(-(rows @ query), K)[:K].tolist()) for query in queries]


def text(number: int) -> str:
    """A passage's text, about as long as one is."""
    return f"passage {number} " + " ".join(f"word{(number * 31 + i * 7) % 5_000}" for i in range(60))


def ours(folder: Path, rows: Vectors, queries: Vectors) -> dict[str, Any]:
    """Through `Collection`; and its own request, sent by hand, in turns with it."""
    passages = [Passage.of(text(i), source=f"{i // 20}.md", position=i) for i in range(len(rows))]
    numbers = {passage.id: i for i, passage in enumerate(passages)}
    with Collection.open("vectors", path=folder, embedder=Given()) as collection:

        def make() -> None:
            collection.upsert(passages, rows)
            collection.flush()

        made = _timed(make)
        optimized = _timed(collection.optimize)
        search = Search(mode="dense", k=K)
        engine = collection._engine
        if not isinstance(engine, EdgeEngine) or engine._shard is None:
            raise RuntimeError("the collection is not embedded")
        shard = engine._shard

        def through(query: Vectors) -> list[str]:
            return [passage.id for passage in collection.search_vectors(query[None], search)[0]]

        def by_hand(query: Vectors) -> list[Any]:
            step = Step(Nearest(query), K, (Condition("groups", (EVERYONE,)),))
            return [(str(point.id), point.score, point.payload) for point in shard.query(request_of(step))]

        (found, times), (_, bare_times) = _in_turns([through, by_hand], queries)
    return {
        **_told(len(rows), made, optimized, times),
        "same_request_p50_ms": _percentile(bare_times, 50),
        "same_request_p99_ms": _percentile(bare_times, 99),
        "found": [[numbers[identifier] for identifier in ids] for ids in found],
    }


def bare(folder: Path, rows: Vectors, queries: Vectors) -> dict[str, Any]:
    """An `EdgeShard`, by hand: dense vectors, BM25's terms and payloads, no index but HNSW, no filter."""
    import qdrant_edge as edge

    bm25 = edge.Bm25()
    config = edge.EdgeConfig(
        vectors={"dense": edge.EdgeVectorParams(DIMENSION, edge.Distance.Cosine)},
        sparse_vectors={"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        hnsw_config=edge.HnswIndexConfig(m=M, ef_construct=EF_CONSTRUCT, full_scan_threshold=10_000),
    )
    shard = edge.EdgeShard.create(str(folder), config)
    texts = [text(i) for i in range(len(rows))]

    def make() -> None:
        for start in range(0, len(rows), BATCH):
            points = [
                edge.Point(
                    str(uuid.UUID(int=i)),
                    {"dense": rows[i].tolist(), "bm25": bm25.embed_document(texts[i])},
                    {"text": texts[i], "source": f"{i // 20}.md", "position": i},
                )
                for i in range(start, min(start + BATCH, len(rows)))
            ]
            shard.update(edge.UpdateOperation.upsert_points(points))
        shard.flush()

    def search(query: Vectors) -> list[Any]:
        nearest = edge.Query.Nearest(query.tolist(), using="dense")
        params = edge.SearchParams(hnsw_ef=EF)
        request = edge.QueryRequest(limit=K, query=nearest, with_payload=True, params=params)
        return [(point.id, point.score, point.payload) for point in shard.query(request)]

    made, optimized = _timed(make), _timed(shard.optimize)
    ((found, times),) = _in_turns([search], queries)
    shard.close()
    return {
        **_told(len(rows), made, optimized, times),
        "found": [[identifier.int for identifier, *_ in points] for points in found],
    }


def local_mode(folder: Path, rows: Vectors, queries: Vectors) -> dict[str, Any]:
    """``QdrantClient(path=…)``, whose engine is Python and numpy."""
    import warnings

    from qdrant_client import QdrantClient, models

    warnings.simplefilter("ignore")  # it tells that it is not made for so many points
    client = QdrantClient(path=str(folder))
    distance = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
    client.create_collection("vectors", vectors_config={"dense": distance})
    texts = [text(i) for i in range(len(rows))]

    def make() -> None:
        for start in range(0, len(rows), BATCH):
            points = [
                models.PointStruct(
                    id=i,
                    vector={"dense": rows[i].tolist()},
                    payload={"text": texts[i], "source": f"{i // 20}.md", "position": i},
                )
                for i in range(start, min(start + BATCH, len(rows)))
            ]
            client.upsert("vectors", points)

    def search(query: Vectors) -> list[int]:
        found = client.query_points("vectors", query=query.tolist(), using="dense", limit=K, with_payload=True)
        return [int(point.id) for point in found.points]

    made = _timed(make)
    ((found, times),) = _in_turns([search], queries)
    client.close()
    return {**_told(len(rows), made, 0.0, times), "found": found}


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _in_turns(ways: Sequence[Callable[[Vectors], Any]], queries: Vectors) -> list[tuple[list[Any], list[float]]]:
    """Answers and seconds of each way; one is asked after the other, and each first one half of the time."""
    for query in queries[:20]:
        for way in ways:
            way(query)  # warms it up
    results: list[tuple[list[Any], list[float]]] = [([], []) for _ in ways]
    for number, query in enumerate(queries):
        for turn in range(len(ways)):
            which = (turn + number) % len(ways)
            started = time.perf_counter()
            found = ways[which](query)
            results[which][1].append(time.perf_counter() - started)
            results[which][0].append(found)
    return results


def _percentile(times: Sequence[float], which: int) -> float:
    return round(1_000 * float(np.percentile(times, which)), 4)


def _told(count: int, made: float, optimized: float, times: Sequence[float]) -> dict[str, Any]:
    return {
        "ingest_per_second": round(count / made),
        "optimize_seconds": round(optimized, 2),
        "p50_ms": _percentile(times, 50),
        "p99_ms": _percentile(times, 99),
    }


def run(engine: str, size: int, folder: Path) -> dict[str, Any]:
    """One engine and size, in this process."""
    rows, queries = np.load(folder / "rows.npy"), np.load(folder / "queries.npy")[: QUERIES[engine]]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ways = {"progspace": ours, "bare": bare, "local mode": local_mode}
    store = folder / engine.replace(" ", "-")
    store.mkdir()
    result = ways[engine](store, rows, queries)
    truth = nearest(rows, queries)
    hits = sum(len(set(found) & exact) for found, exact in zip(result.pop("found"), truth, strict=True))
    return {
        "benchmark": "vectors",
        "engine": engine,
        "vectors": size,
        "dimension": DIMENSION,
        "queries": len(queries),
        **result,
        "recall_at_10": round(hits / (K * len(queries)), 4),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "peak_before_mb": round(before),
        "hnsw": None if engine == "local mode" else {"m": M, "ef_construct": EF_CONSTRUCT, "ef": EF},
    }


def _keep(runs: Sequence[dict[str, Any]]) -> None:
    """Writes runs in place of those of the same engine and size: a large one need not be run again with a small one."""
    earlier = read_results("vectors") if (RESULTS / "vectors.jsonl").exists() else []
    kept = {(each["vectors"], each["engine"]): each for each in [*earlier, *runs]}
    order = sorted(kept, key=lambda each: (each[0], ENGINES.index(each[1])))
    write_results("vectors", [kept[each] for each in order])


def main() -> None:
    """Runs all engines and sizes; prints a table and writes ``results/vectors.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(arguments.engines[0], arguments.sizes[0], arguments.one)))
        return
    runs = []
    print(f"{'engine':<12}{'vectors':>9}{'ingest/s':>10}{'index s':>9}{'p50 ms':>9}{'p99 ms':>9}{'recall':>8}{'MB':>7}")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows, queries = vectors(size, max(QUERIES.values()))
            np.save(Path(folder) / "rows.npy", rows)
            np.save(Path(folder) / "queries.npy", queries)
            for engine in arguments.engines:
                command = [sys.executable, "-m", "progspace.benchmarks.vectors", "--one", folder]
                command += ["--engines", engine, "--sizes", str(size)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
                runs.append(each := json.loads(done.stdout.splitlines()[-1]))
                print(
                    f"{engine:<12}{size:>9,}{each['ingest_per_second']:>10,}{each['optimize_seconds']:>9.1f}"
                    f"{each['p50_ms']:>9.3f}{each['p99_ms']:>9.3f}{each['recall_at_10']:>8.4f}{each['peak_mb']:>7}",
                    flush=True,
                )
        by_name = {each["engine"]: each for each in runs if each["vectors"] == size}
        if "progspace" in by_name:
            own = by_name["progspace"]
            over = 100 * (own["p50_ms"] / own["same_request_p50_ms"] - 1)
            print(f"  progspace over the same request by hand: {over:+.1f} % ({own['same_request_p50_ms']:.3f} ms)")
        if {"progspace", "local mode"} <= set(by_name):
            print(
                f"  local mode / progspace, p50: {by_name['local mode']['p50_ms'] / by_name['progspace']['p50_ms']:.0f}"
            )
        _keep(runs)


if __name__ == "__main__":
    main()
