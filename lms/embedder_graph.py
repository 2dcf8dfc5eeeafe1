"""Makes an OpenVINO graph of a BERT that embeds sentences, once, from its published weights.

The graph is the model's whole way from tokens to a vector of length 1: embeddings, encoder layers, the mean over the
tokens, the division by its length. It is written out here op by op, because what else reads such weights (PyTorch and
its exporters) is a hundred times as large as they are.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LMError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EMBEDDER_GRAPH", "EMBEDDER_TOKENIZER", "provision_embedder", "read_safetensors"]

EMBEDDER_GRAPH = "openvino_embedder.xml"
EMBEDDER_TOKENIZER = "tokenizer.json"
_KIND = "embeddings.token_type_embeddings.weight"
_DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def read_safetensors(file: Path) -> dict[str, NDArray[Any]]:
    """Reads the tensors of a safetensors file by their names.

    Raises:
        LMError: The file is none, or holds numbers of a kind that is not read here.
    """
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:end])
        return {
            name: np.frombuffer(
                data[end + told["data_offsets"][0] : end + told["data_offsets"][1]], _DTYPES[told["dtype"]]
            ).reshape(told["shape"])
            for name, told in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError) as error:
        raise LMError(f"{file}: no safetensors file of 32- or 16-bit floats ({error!r})") from error


class _Bert:
    """Builds a BERT encoder of its config and weights."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> None:
        from openvino import opset13

        self.ops: Any = opset13
        self.config, self.weights = config, weights

    def model(self) -> Any:
        """The whole graph: ``input_ids`` and ``attention_mask``, (texts, tokens), to unit vectors, (texts, hidden)."""
        import openvino as ov

        ops = self.ops
        ids = ops.parameter([-1, -1], np.int64, name="input_ids")
        mask = ops.parameter([-1, -1], np.int64, name="attention_mask")
        for parameter in (ids, mask):
            parameter.output(0).set_names({parameter.get_friendly_name()})
        seen = ops.convert(mask, "f32")
        # Of shape (texts, 1, 1, tokens): what is padding is not attended to.
        hidden_away = ops.multiply(
            ops.unsqueeze(ops.subtract(seen, self._number(1.0)), ops.constant([1, 2])),
            self._number(float(np.finfo(np.float32).max)),
        )
        state = self._embeddings(ids)
        for layer in range(self.config["num_hidden_layers"]):
            state = self._layer(state, hidden_away, f"encoder.layer.{layer}")
        weight = ops.unsqueeze(seen, ops.constant([2]))
        total = ops.reduce_sum(ops.multiply(state, weight), ops.constant([1]))
        mean = ops.divide(total, ops.reduce_sum(weight, ops.constant([1])))
        unit = ops.normalize_l2(mean, ops.constant([1]), 1e-12, "max")
        return ov.Model([ops.result(unit)], [ids, mask], "embedder")

    def _number(self, value: float) -> Any:
        return self.ops.constant(np.float32(value))

    def _weight(self, name: str) -> Any:
        return self.ops.constant(self.weights[name].astype(np.float32), name=name)

    def _embeddings(self, ids: Any) -> Any:
        ops = self.ops
        axis = ops.constant(0)
        words = ops.gather(self._weight("embeddings.word_embeddings.weight"), ids, axis)
        length = ops.gather(ops.shape_of(ids), ops.constant(1), axis)
        positions = ops.range(ops.constant(0, np.int64), length, ops.constant(1, np.int64), "i64")
        places = ops.gather(self._weight("embeddings.position_embeddings.weight"), positions, axis)
        # Every text is the first of its kind: there are no pairs.
        kind = ops.constant(self.weights[_KIND][0].astype(np.float32), name=_KIND)
        return self._norm(ops.add(ops.add(words, places), kind), "embeddings.LayerNorm")

    def _layer(self, state: Any, hidden_away: Any, name: str) -> Any:
        ops = self.ops
        heads = self.config["num_attention_heads"]
        width = self.config["hidden_size"] // heads
        query, key, value = (
            ops.transpose(
                ops.reshape(
                    self._dense(state, f"{name}.attention.self.{part}"), ops.constant([0, 0, heads, width]), True
                ),
                ops.constant([0, 2, 1, 3]),
            )
            for part in ("query", "key", "value")
        )
        scores = ops.multiply(ops.matmul(query, key, False, True), self._number(1 / math.sqrt(width)))
        attended = ops.matmul(ops.softmax(ops.add(scores, hidden_away), 3), value, False, False)
        joined = ops.reshape(
            ops.transpose(attended, ops.constant([0, 2, 1, 3])), ops.constant([0, 0, heads * width]), True
        )
        state = self._norm(
            ops.add(state, self._dense(joined, f"{name}.attention.output.dense")), f"{name}.attention.output.LayerNorm"
        )
        wide = ops.gelu(self._dense(state, f"{name}.intermediate.dense"), "erf")
        return self._norm(ops.add(state, self._dense(wide, f"{name}.output.dense")), f"{name}.output.LayerNorm")

    def _dense(self, state: Any, name: str) -> Any:
        product = self.ops.matmul(state, self._weight(f"{name}.weight"), False, True)
        return self.ops.add(product, self._weight(f"{name}.bias"))

    def _norm(self, state: Any, name: str) -> Any:
        normal = self.ops.mvn(state, self.ops.constant([2]), True, self.config["layer_norm_eps"], "inside_sqrt")
        return self.ops.add(self.ops.multiply(normal, self._weight(f"{name}.weight")), self._weight(f"{name}.bias"))


def provision_embedder(files: Path, folder: Path) -> Path:
    """Writes a folder with graph and tokenizer of the model whose ``config.json`` and weights are given.

    The folder appears whole or not at all.

    Args:
        files: Holds ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
        folder: What is written.

    Raises:
        LMError: It is no BERT with GELU and absolute positions, or a weight of it is missing.
    """
    import openvino as ov

    config = json.loads((files / "config.json").read_text(encoding="utf-8"))
    kind = (config.get("model_type"), config.get("hidden_act"), config.get("position_embedding_type", "absolute"))
    if kind != ("bert", "gelu", "absolute"):
        raise LMError(f"{files / 'config.json'}: a BERT with GELU and absolute positions is wanted, not {kind}")
    try:
        model = _Bert(config, read_safetensors(files / "model.safetensors")).model()
    except KeyError as error:
        raise LMError(f"{files}: the weights or the config lack {error}") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        ov.save_model(model, str(made / EMBEDDER_GRAPH), compress_to_fp16=False)
        shutil.copy(files / EMBEDDER_TOKENIZER, made)
        try:
            made.rename(folder)
        except OSError:  # another process was first
            if not (folder / EMBEDDER_GRAPH).exists():
                raise
    return folder
