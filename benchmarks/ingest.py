"""What ingest and retriever cost beside a bare loop over the same embedder and the same engine.

    python -m progspace.benchmarks.ingest --data FOLDER

FOLDER holds ``passages.jsonl``. Two corpora: these passages, again and again under titles of their own until there
are ``--passages``, and made-up Markdown. The bare loop is given the passages that the ingest made, and embeds and
stores them in batches of the same size, dense vectors only: it reads no file, splits nothing, makes no BM25 vector,
compares nothing, remembers nothing. Loop and ingest take turns. A query is timed with and without its embedding.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lms.embedder import Embedder, embedder_for
from ..retrievers.chunking import Chunker, embedded_text
from ..retrievers.ingesting import ingest
from ..retrievers.passage import Passage
from ..retrievers.retriever import Retriever
from ..retrievers.sources import Sources
from .results import write_results

_BATCH = 256
_QUERIES = 200


def varied_rows(passages: Path, count: int, folder: Path) -> Path:
    """Writes so many rows, each with a title that no other one has, so that none is remembered of another."""
    rows = [json.loads(line) for line in passages.read_text(encoding="utf-8").splitlines()]
    path = folder / "passages.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = rows[number % len(rows)]
            told = {"id": number, "title": f"{row['title']}, entry {number}", "text": row["text"]}
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
    return folder


def made_up_markdown(passages: Path, files: int, folder: Path) -> Path:
    """Writes Markdown with headings on two levels, paragraphs and lists, of sentences of the passages."""
    draw = random.Random(0)  # noqa: S311
    texts = [json.loads(line)["text"] for line in passages.read_text(encoding="utf-8").splitlines()]
    sentences = [sentence for text in texts for sentence in text.split(". ")]
    for number in range(files):
        lines = [f"# Guide {number}", ""]
        for section in range(6):
            lines += [f"## Section {number}.{section}", ""]
            for _ in range(draw.randint(1, 4)):
                lines += [". ".join(draw.sample(sentences, 4)) + ".", ""]
            lines += [*(f"- {each}" for each in draw.sample(sentences, 3)), ""]
        (folder / f"guide-{number}.md").write_text("\n".join(lines), encoding="utf-8")
    return folder


def passages_of(folder: Path, embedder: Embedder) -> list[Passage]:
    """The passages that an ingest makes of a folder."""
    chunker = Chunker(embedder, 256)
    return [passage for _, read in Sources(folder) for passage in chunker.split(read)]  # type: ignore[arg-type]


def bare_loop(passages: list[Passage], embedder: Embedder, folder: Path) -> Any:
    """Embeds and stores, and nothing else."""
    from qdrant_edge import Distance, EdgeConfig, EdgeShard, EdgeVectorParams, Point, UpdateOperation

    folder.mkdir()
    config = EdgeConfig(vectors={"dense": EdgeVectorParams(384, Distance.Cosine)})
    shard = EdgeShard.create(str(folder), config)
    for start in range(0, len(passages), _BATCH):
        batch = passages[start : start + _BATCH]
        vectors = embedder.embed([embedded_text(passage) for passage in batch])
        points = [
            Point(passage.id, {"dense": vector.tolist()}, {"text": passage.text, "source": passage.source})
            for passage, vector in zip(batch, vectors, strict=True)
        ]
        shard.update(UpdateOperation.upsert_points(points))
        shard.flush()
    shard.optimize()
    return shard


def medians(calls: dict[str, Callable[[int], Any]], count: int) -> dict[str, float]:
    """The median milliseconds of each call, all of them in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(count):
        for name, call in calls.items():
            start = time.perf_counter()
            call(number)
            times[name].append(time.perf_counter() - start)
    return {name: round(1000 * statistics.median(each), 3) for name, each in times.items()}


def queries(retriever: Retriever, shard: Any, embedder: Embedder, passages: list[Passage]) -> dict[str, float]:
    """Times queries, each a few words of a passage, with and without their embedding."""
    from qdrant_edge import Query, QueryRequest

    draw = random.Random(1)  # noqa: S311
    texts = [" ".join(draw.choice(passages).text.split()[2:12]) for _ in range(_QUERIES)]
    vectors = embedder.embed(texts)
    dense = retriever.with_search(mode="dense", k=5)

    def bare(vector: Any) -> Any:
        request = QueryRequest(limit=5, query=Query.Nearest(vector.tolist(), using="dense"), with_payload=True)
        return shard.query(request)

    collection = dense.collection
    return medians(
        {
            "bare_query_ms": lambda n: bare(embedder.embed([texts[n]])[0]),
            "dense_query_ms": lambda n: dense(texts[n]),
            "hybrid_query_ms": lambda n: retriever(texts[n]),
            "bare_search_ms": lambda n: bare(vectors[n]),
            "dense_search_ms": lambda n: collection.search_vectors(vectors[n : n + 1], dense.search),
            "hybrid_search_ms": lambda n: collection.search_vectors(
                vectors[n : n + 1], retriever.search, queries=[texts[n]]
            ),
        },
        _QUERIES,
    )


def _clocks() -> NDArray[np.float64]:
    """Seconds on the clock, and of the process on all cores: on a busy machine, the latter tell more."""
    return np.array([time.perf_counter(), time.process_time()])


def measure(name: str, folder: Path, scratch: Path, passes: int) -> dict[str, Any]:
    """Runs loop and ingest in turns, then queries, then an ingest that has nothing to do."""
    embedder = embedder_for()
    embedder.embed(["loaded before anything is timed"])
    passages = passages_of(folder, embedder)
    loops, ingests = [], []
    for number in range(passes):
        start = _clocks()
        shard = bare_loop(passages, embedder, scratch / f"{name}-bare-{number}")
        loops.append(_clocks() - start)
        start = _clocks()
        retriever = ingest(folder, collection=name, path=scratch / f"{name}-{number}", embedder=embedder)
        ingests.append(_clocks() - start)
        report = retriever.ingested
        if report is None or report.embedded != len(passages):
            raise RuntimeError(f"{report} is not of {len(passages)} passages")
    timed = queries(retriever, shard, embedder, passages)
    retriever.collection.close()
    start = _clocks()
    ingest(folder, collection=name, path=scratch / f"{name}-{passes - 1}", embedder=embedder)
    again = _clocks() - start
    loop, whole = np.median(loops, axis=0), np.median(ingests, axis=0)
    return {
        "corpus": name,
        "passages": len(passages),
        "mean_characters": round(float(np.mean([len(passage.text) for passage in passages]))),
        "passes": passes,
        "bare_passages_per_second": round(len(passages) / float(loop[0]), 1),
        "ingest_passages_per_second": round(len(passages) / float(whole[0]), 1),
        "overhead": round(float(whole[0] / loop[0]) - 1, 3),
        "bare_cpu_seconds": round(float(loop[1]), 2),
        "ingest_cpu_seconds": round(float(whole[1]), 2),
        "cpu_overhead": round(float(whole[1] / loop[1]) - 1, 3),
        "second_ingest_seconds": round(float(again[0]), 2),
        **timed,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with passages.jsonl")
    parser.add_argument("--passages", type=int, default=2000)
    parser.add_argument("--files", type=int, default=150, help="of made-up Markdown")
    parser.add_argument("--passes", type=int, default=3)
    told = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        for name, make, count in (("rows", varied_rows, told.passages), ("markdown", made_up_markdown, told.files)):
            (scratch / name).mkdir()
            folder = make(told.data / "passages.jsonl", count, scratch / name)
            runs.append(measure(name, folder, scratch, told.passes))
            print(json.dumps(runs[-1], indent=2))
    print(f"written: {write_results('ingest', runs)}")


if __name__ == "__main__":
    main()
