"""An adapter in the embedded engine answers as it does in torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dspy.lm15 import Config, Message, Request

import progspace as ps
from progspace.lms.adapters import read_adapter, write_adapter
from progspace.lms.embedded import EmbeddedEngine, engine_for
from progspace.lms.identity import lm_identity
from progspace.lms.local import LocalEngine

pytestmark = pytest.mark.usefixtures("models_apart")

CASES = json.loads((Path(__file__).parents[1] / "reference.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="session")
def engine(models_apart: None, adapted: tuple[Any, Any], trainable: str) -> EmbeddedEngine:
    return engine_for(trainable, "f32", adapted[1])


def greedy(model: Any, tokens: list[int], count: int) -> list[int]:
    import torch

    past, ids, given = None, tokens, []
    with torch.no_grad():
        for _ in range(count):
            out = model(torch.tensor([ids]), past_key_values=past, use_cache=True)
            past, ids = out.past_key_values, [int(out.logits[0, -1].argmax())]
            given += ids
    return given


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"][:20])
def test_log_probabilities_are_those_of_torch(
    engine: EmbeddedEngine, adapted: tuple[Any, Any], case: dict[str, Any]
) -> None:
    import torch

    continuations, first = [each["tokens"] for each in case["continuations"]], len(case["tokens"]) - 1
    width = max(map(len, continuations))
    rows = torch.tensor([case["tokens"] + tokens + [0] * (width - len(tokens)) for tokens in continuations])
    with torch.no_grad():
        given = adapted[0](rows).logits.log_softmax(-1)
    expected = [
        sum(float(given[row, first + i, token]) for i, token in enumerate(tokens))
        for row, tokens in enumerate(continuations)
    ]
    own = engine.score([], case["tokens"], continuations).result()
    assert own == pytest.approx(expected, abs=0.05)
    base = [each["logprob"] for each in case["continuations"]]
    assert max(abs(one - other) for one, other in zip(expected, base, strict=True)) > 0.2  # the adapter is not idle


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"][:20])
def test_greedy_tokens_are_those_of_torch(
    engine: EmbeddedEngine, adapted: tuple[Any, Any], trainable: str, case: dict[str, Any]
) -> None:
    lm = ps.lm("local", adapter=adapted[1].path)
    config = Config(max_tokens=12, extensions={"apply_chat_template": False})
    answered = lm(Request(lm.model, (Message.user(case["prompt"]),), config=config))
    expected = greedy(adapted[0], case["tokens"], 12)
    assert "".join(part.text for part in answered.message.parts) == engine.tokenizer.decode(expected)
    assert expected != case["greedy"]


def test_the_identity_tells_of_the_adapter_and_not_of_its_place(
    engine: EmbeddedEngine, adapted: tuple[Any, Any], tmp_path: Path
) -> None:
    _, adapter = adapted
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(adapter.path.read_bytes())
    here, there, base = ps.lm("local", adapter=adapter), ps.lm("local", adapter=moved), ps.lm("local")
    assert lm_identity(here) == lm_identity(there) != lm_identity(base)
    assert lm_identity(here)["engine"]["adapter"] == adapter.sha256
    assert "adapter" not in lm_identity(base)["engine"]
    assert there._engine_spec.engine is here._engine_spec.engine is not base._engine_spec.engine


def test_a_saved_state_finds_the_adapter_again_or_says_that_it_is_another(
    engine: EmbeddedEngine, adapted: tuple[Any, Any], tmp_path: Path
) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(adapted[1].path.read_bytes())
    state = LocalEngine(adapter=file).dump_state()
    assert LocalEngine.load_state(state).engine is engine
    tensors = {"base_model.model.x.lora_A.weight": np.zeros((1, 1), np.float32)}
    write_adapter(file, tensors, base="smollm2-135m", rank=1, alpha=1, weights={})
    with pytest.raises(ps.LMError, match="not the one that was meant"):
        LocalEngine.load_state(state)
    file.unlink()
    with pytest.raises(ps.LMError, match="moved or deleted"):
        LocalEngine.load_state(state)


@pytest.mark.parametrize("place", ["tensor", "alpha", "end"])
def test_altered_weights_are_an_error(adapted: tuple[Any, Any], tmp_path: Path, place: str) -> None:
    content = bytearray(adapted[1].path.read_bytes())
    if place == "tensor":
        content[-5] ^= 1
    elif place == "alpha":
        at = content.index(b"alpha") + len(b'alpha\\":')
        content[at : at + 1] = b"9"
    else:
        del content[-100:]
    file = tmp_path / "altered.safetensors"
    file.write_bytes(content)
    with pytest.raises(ps.LMError, match=r"altered|damaged"):
        ps.lm("local", adapter=file)


def test_an_adapter_of_other_weights_is_refused(adapted: tuple[Any, Any], trainable: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    others = dict.fromkeys(adapted[1].weights, "0" * 32)
    file = tmp_path / "other.safetensors"
    write_adapter(file, load_file(adapted[1].path), base="other", rank=8, alpha=16, weights=others)
    with pytest.raises(ps.LMError, match="trained on another model"):
        ps.lm("local", adapter=file)


def test_a_written_adapter_is_read_as_it_was(adapted: tuple[Any, Any]) -> None:
    assert read_adapter(adapted[1].path, adapted[1].sha256) == adapted[1]
