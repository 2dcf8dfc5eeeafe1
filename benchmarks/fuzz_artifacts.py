"""Artifacts that were spoilt, loaded under an audit hook: a program or a `ProgspaceError`, and nothing is run.

An audit hook (`PEP 578 <https://peps.python.org/pep-0578/>`_) is told of what an interpreter does. While an artifact is
read and loaded it must not hear of code that is run (that of a text, too), of a module that is imported, of a file that
is opened for writing, of another process, of the network, of a pickle. It cannot be taken out again: `fuzz_artifacts`
wants a process of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, Literal

import dspy
from pydantic import BaseModel

import progspace as ps

from ..artifacts.artifact import Artifact, Provenance, _hash, read_artifact, write_artifact
from ..evaluation.findings import Findings, Measured, RungReport
from ..lms.identity import lm_identity
from ..programs.answering import Answering
from ..programs.candidate import Candidate
from ..programs.formats import Format
from ..programs.nearest import Nearest
from ..programs.structure import describe
from .mutations import NOWHERE, spoilt_bytes, spoilt_text, spoilt_tree
from .serving import AsyncInstant, Instant

__all__ = ["Audit", "Judge", "artifacts", "fuzz_artifacts", "instant"]


# An artifact tells these two whole; a description would be a part of their schema.
class Place(BaseModel):
    city: str
    visits: int = 1


class Tone(Enum):
    WARM = "warm"
    COLD = "cold"


class Judge(dspy.Signature):
    """Judge a text."""

    text: str = dspy.InputField(desc="what is judged")
    stars: int = dspy.InputField()
    weight: float = dspy.InputField()
    tags: list[str] = dspy.InputField()
    kind: Literal["review", "letter"] = dspy.InputField()
    tone: Tone = dspy.InputField()
    places: dict[str, Place] | None = dspy.InputField()
    sentiment: Literal["negative", "positive"] = dspy.OutputField()


class Own(dspy.Module):
    """A class that the app has imported, which an artifact may name."""

    def __init__(self) -> None:
        super().__init__()
        self.step = dspy.Predict("text -> sentiment")

    def forward(self, text: str) -> Any:
        """Answers."""
        return self.step(text=text)


def instant() -> dspy.LM:
    """An LM that answers at once."""
    return dspy.LM("instant/one", engine=Instant(), async_engine=AsyncInstant(), cache=False)


def artifacts(folder: Path) -> list[Path]:
    """Writes valid artifacts, together of all that one may hold."""
    shown = ({"text": "A joy.", "sentiment": "positive"}, {"text": "Dull.", "sentiment": "negative"})
    compact = Format(kind="compact", decoding="calibrated", biases=(("negative", -1.0), ("positive", 0.5)))
    predict, chain, own = dspy.Predict(Judge), dspy.ChainOfThought("text -> sentiment: str"), Own()
    given: list[tuple[dspy.Module, Candidate, dict[str, Any]]] = [
        (predict, Candidate.declared(predict).with_choice(format=compact), {"model": "instant/one"}),
        (
            dspy.Predict("text -> sentiment"),
            Candidate.declared(predict).with_choice(instruction="?", demonstrations=shown, format=Format(kind="json")),
            {"model": "openai/gpt-4o-mini", "settings": {"temperature": 0.0, "max_tokens": 100, "stop": ["\n"]}},
        ),
        (
            chain,
            Candidate.declared(chain).with_choice(nearest=Nearest(pool=shown, count=1), answering=Answering(votes=3)),
            {"model": "anthropic/claude", "settings": {"temperature": 1.0, "top_p": 0.5}},
        ),
        (
            own,
            Candidate.declared(own).with_choice(lm="large"),
            {"model": "local/smollm2-135m", "engine": {"model": "smollm2-135m", "precision": "f32"}},
        ),
    ]  # fmt: skip
    measured = Measured(
        score=0.8, low=0.7, high=0.9, level=0.95, method="none", n=40, failed=0, errors=0, calls=1, tokens=30
    )
    rung = RungReport(
        name="baseline", choice="as declared", kept=True, candidates=1, dev=measured, test=measured, shrunken=0.8,
        calls=40, bought=40, input_tokens=0, output_tokens=0, seconds=1,
    )  # fmt: skip
    written = []
    for number, (module, candidate, lm) in enumerate(given):
        made = Artifact(
            task="judge", structure=describe(module), candidate=candidate, lm=lm,
            lms={"large": {"model": "openai/gpt-4o", "settings": {"seed": 1}}},
            provenance=Provenance(task_hash="t", created="2026-01-01T00:00:00+00:00", versions={"dspy": "3"}),
            report=Findings(
                task="judge", lm="instant/one", seed=0, sizes={"train": 30, "dev": 40, "test": 30}, rungs=(rung,)
            ),
        )  # fmt: skip
        written.append(write_artifact(made, folder / f"valid{number}.progspace.json"))
    return written


_RUNS = frozenset({
    "exec", "import", "pickle.find_class", "marshal.load", "marshal.loads", "code.__new__",
    "function.__new__", "ctypes.dlopen", "os.system", "os.exec", "os.posix_spawn", "os.spawn",
    "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn", "os.remove", "os.rename", "os.mkdir", "os.rmdir",
    "os.link", "os.symlink", "os.chmod", "os.kill", "os.putenv", "os.startfile", "webbrowser.open",
})  # fmt: skip
_FAMILIES = ("socket.", "shutil.", "tempfile.", "urllib.", "http.client.", "sqlite3.", "ftplib.", "smtplib.")
_WRITING = 0b11  # O_WRONLY or O_RDWR among a file's flags


@dataclass
class Audit:
    """What the interpreter did while somebody listened.

    Attributes:
        heard: Each event that must not be, in words.
    """

    heard: list[str] = field(default_factory=list)
    _listening: bool = False

    def __post_init__(self) -> None:
        sys.addaudithook(self._hear)

    def _hear(self, event: str, told: tuple[Any, ...]) -> None:
        if not self._listening:
            return
        writes = event == "open" and (
            any(each in str(told[1] or "") for each in "wax+") or int(told[2] or 0) & _WRITING
        )
        if event in _RUNS or event.startswith(_FAMILIES) or writes:
            self._listening = False  # telling of it may itself be heard
            self.heard.append(f"{event} {told!r}"[:300])
            self._listening = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to what is done inside."""
        self._listening = True
        try:
            yield
        finally:
            self._listening = False


def _outcome(path: Path, lm: dspy.BaseLM | None, audit: Audit) -> str:
    try:
        with audit.listening():
            read_artifact(path)
            program = ps.load(path, lm=lm)
    except ps.ProgspaceError as error:
        return type(error).__name__
    if lm is None and program.own_lm is not None and NOWHERE in json.dumps(lm_identity(program.own_lm)):
        raise RuntimeError("it would ask at an address of the file's choice")
    return "a program"


def _spoilt(draw: Random, valid: Mapping[str, Any]) -> bytes:
    """One artifact: mostly with a hash that fits, as an attacker would have it."""
    way = draw.random()
    if way < 0.75:
        content = spoilt_tree(draw, valid["content"])
        document = {**valid, "content": content}
        with suppress(ValueError, RecursionError):  # of what no JSON can hold
            document["hash"] = _hash(content)
        return json.dumps(document).encode()
    if way < 0.8:
        return json.dumps(spoilt_tree(draw, valid)).encode()
    return spoilt_text(draw, valid) if way < 0.9 else spoilt_bytes(draw, json.dumps(valid).encode())


def fuzz_artifacts(cases: range, seed: int) -> Counter[str]:
    """Loads so many spoilt artifacts, each with an LM at hand and by the one that it names; counts what came of it.

    Raises:
        RuntimeError: One crashed, or something ran; with the number of the case.
    """
    outcomes = Counter[str]()
    lm, audit = instant(), Audit()
    with tempfile.TemporaryDirectory() as folder:
        valid = artifacts(Path(folder))
        for path in valid:  # what a program uses is imported at its first load
            for given in (lm, None):
                ps.load(path, lm=given, lms={"large": lm})
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in valid]
        path = Path(folder, "spoilt.progspace.json")
        for case in cases:
            draw = Random(f"{seed}:{case}")  # noqa: S311 — reproducible, not secret
            path.write_bytes(_spoilt(draw, draw.choice(documents)))
            for given in (lm, None):
                try:
                    outcomes[_outcome(path, given, audit)] += 1
                except Exception as error:
                    raise RuntimeError(f"case {case} of seed {seed} crashed: {error!r}") from error
            if audit.heard:
                raise RuntimeError(f"case {case} of seed {seed} did: {audit.heard[0]}")
    return outcomes
