"""OpenVINO or ONNX Runtime: which embeds faster here, passages in batches and one query at a time.

    python -m progspace.benchmarks.embedding --data FOLDER

FOLDER holds ``passages.jsonl``. Both run the embedded embedder's own weights in 32 bits on as many threads as there
are processors (ONNX Runtime in two ways), on the same tokens in the same batches, in turns; their vectors are compared.
``onnx`` and ``onnxruntime`` are no dependencies of progspace, and the graph for them is written here op by op.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lms.embedder import EmbeddedEmbedder, _batches, _padded, _processors, embedder_for
from ..lms.embedder_graph import EMBEDDER_GRAPH
from .results import write_results

_LAYERS, _HEADS, _HIDDEN, _EPSILON = 6, 12, 384, 1e-12  # of all-MiniLM-L6-v2
_Embed = Callable[[list[str]], NDArray[np.float32]]


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


class _Graph:
    """Collects the nodes of an ONNX graph."""

    def __init__(self, weights: dict[str, NDArray[Any]]) -> None:
        onnx = importlib.import_module("onnx")
        self.helper, self.numpy = onnx.helper, onnx.numpy_helper
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Adds a node; gives the name of its output."""
        names = [self.constant(each) if isinstance(each, np.ndarray) else each for each in inputs]
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, names, [name], **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Adds a constant."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = self.numpy.from_array(np.array(value, order="C"), name)
        return name

    def dense(self, state: str, name: str) -> str:
        """A layer of weights and biases."""
        product = self.op("MatMul", state, self.weights[f"{name}.weight"].T)
        return self.op("Add", product, self.weights[f"{name}.bias"])

    def norm(self, state: str, name: str) -> str:
        """A layer norm."""
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self.op("LayerNormalization", state, scale.ravel(), shift.ravel(), axis=-1, epsilon=_EPSILON)


def onnx_model(weights: dict[str, NDArray[Any]]) -> bytes:
    """The same graph as `progspace.lms.embedder_graph` makes: from tokens to vectors of length 1."""
    onnx = importlib.import_module("onnx")
    graph = _Graph(weights)
    op = graph.op
    seen = op("Cast", "attention_mask", to=onnx.TensorProto.FLOAT)
    away = op("Sub", _floats(1), op("Unsqueeze", seen, _ints(1, 2)))
    away = op("Mul", away, _floats(np.finfo(np.float32).min))
    length = op("Gather", op("Shape", "input_ids"), np.array(1, np.int64), axis=0)
    places = op("Range", np.array(0, np.int64), length, np.array(1, np.int64))
    state = op("Gather", weights["embeddings.word_embeddings.weight"], "input_ids")
    state = op("Add", state, op("Gather", weights["embeddings.position_embeddings.weight"], places))
    state = op("Add", state, weights["embeddings.token_type_embeddings.weight"].ravel()[:_HIDDEN])
    state = graph.norm(state, "embeddings.LayerNorm")
    for layer in range(_LAYERS):
        name, shape = f"encoder.layer.{layer}", _ints(0, 0, _HEADS, _HIDDEN // _HEADS)
        query, key, value = (
            op("Reshape", graph.dense(state, f"{name}.attention.self.{part}"), shape)
            for part in ("query", "key", "value")
        )
        scores = op(
            "MatMul", op("Transpose", query, perm=[0, 2, 1, 3]), op("Transpose", key, perm=[0, 2, 3, 1])
        )  # fmt: skip
        scores = op("Add", op("Mul", scores, _floats(1 / math.sqrt(_HIDDEN // _HEADS))), away)
        mixed = op("MatMul", op("Softmax", scores, axis=-1), op("Transpose", value, perm=[0, 2, 1, 3]))
        joined = op("Reshape", op("Transpose", mixed, perm=[0, 2, 1, 3]), _ints(0, 0, _HIDDEN))
        state = op("Add", state, graph.dense(joined, f"{name}.attention.output.dense"))
        state = graph.norm(state, f"{name}.attention.output.LayerNorm")
        wide = op("Gelu", graph.dense(state, f"{name}.intermediate.dense"))
        state = op("Add", state, graph.dense(wide, f"{name}.output.dense"))
        state = graph.norm(state, f"{name}.output.LayerNorm")
    weight = op("Unsqueeze", seen, _ints(2))
    mean = op("ReduceSum", op("Mul", state, weight), _ints(1), keepdims=0)
    op("LpNormalization", mean, axis=1, p=2)
    helper, kind = graph.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info(each, kind.INT64, ["n", "t"]) for each in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info(graph.nodes[-1].output[0], kind.FLOAT, ["n", _HIDDEN])]
    made = helper.make_graph(graph.nodes, "embedder", inputs, outputs, list(graph.constants.values()))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def onnx_embedder(embedder: EmbeddedEmbedder, threads: int) -> _Embed:
    """The same embedder on ONNX Runtime: so many threads a batch, and as many batches at a time as that leaves."""
    import openvino as ov

    onnxruntime = importlib.import_module("onnxruntime")
    nodes = ov.Core().read_model(embedder.folder / EMBEDDER_GRAPH).get_ops()
    weights = {
        node.get_friendly_name(): node.data.astype(np.float32) for node in nodes if node.get_type_name() == "Constant"
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx_model(weights), options, providers=["CPUExecutionProvider"])
    tokenizer = embedder._tokenizer
    pool = ThreadPoolExecutor(max(1, _processors() // threads))

    def embed(texts: list[str]) -> NDArray[np.float32]:
        tokens = [tokenizer.encode(text).ids for text in texts]
        vectors = np.empty((len(texts), _HIDDEN), np.float32)

        def run(batch: list[int]) -> None:
            vectors[batch] = session.run(None, _padded([tokens[each] for each in batch]))[0]

        batches = _batches(tokens)
        if len(batches) == 1:
            run(batches[0])
        else:
            list(pool.map(run, batches))
        return vectors

    return embed


def seconds(call: Callable[[], Any]) -> NDArray[np.float64]:
    """Seconds on the clock, and of the process on all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with passages.jsonl")
    parser.add_argument("--passes", type=int, default=5)
    told = parser.parse_args()
    lines = (told.data / "passages.jsonl").read_text(encoding="utf-8").splitlines()
    passages = [json.loads(line)["text"] for line in lines]
    queries = [" ".join(passage.split()[:10]) for passage in passages[:100]]
    embedder = embedder_for()
    if not isinstance(embedder, EmbeddedEmbedder):
        raise TypeError("the embedded embedder is measured")
    engines: dict[str, _Embed] = {"openvino": embedder.embed, "onnxruntime": onnx_embedder(embedder, _processors())}
    engines["onnxruntime, 1 thread a batch"] = onnx_embedder(embedder, 1)
    vectors = {name: embed(passages) for name, embed in engines.items()}
    batched: dict[str, list[NDArray[np.float64]]] = {name: [] for name in engines}
    single: dict[str, list[NDArray[np.float64]]] = {name: [] for name in engines}
    for number in range(told.passes):
        for name, embed in engines.items():
            batched[name].append(seconds(lambda embed=embed: embed(passages)))  # type: ignore[misc]
        for name, embed in engines.items():
            embed(queries[:1])  # the threads of the engine before it go on spinning for a while
            time.sleep(0.2)
            for query in queries[number :: told.passes]:
                single[name].append(seconds(lambda embed=embed, query=query: embed([query])))  # type: ignore[misc]
    runs = [
        {
            "engine": name,
            "version": importlib.metadata.version(name.split(",")[0]),
            "passages": len(passages),
            "passages_per_second": round(
                len(passages) / statistics.median(float(each[0]) for each in batched[name]), 1
            ),
            "cpu_ms_a_passage": round(
                1000 * statistics.median(float(each[1]) for each in batched[name]) / len(passages), 2
            ),
            "query_p50_ms": round(1000 * statistics.median(float(each[0]) for each in single[name]), 2),
            "query_cpu_ms": round(1000 * statistics.median(float(each[1]) for each in single[name]), 2),
            "largest_difference": float(np.abs(vectors["openvino"] - vectors[name]).max()),
        }
        for name in engines
    ]
    print(json.dumps(runs, indent=2))
    print(f"written: {write_results('embedding', runs)}")


if __name__ == "__main__":
    main()
