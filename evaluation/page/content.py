"""What the report page shows, as data: the page itself only draws it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..findings import Measured, ProposerReport, Verdict

__all__ = ["CandidateView", "CellsView", "EdgeCase", "ExampleView", "PageContent", "RungView", "Step"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Frozen):
    """A candidate's mean score after so many calls of the search, on so many examples."""

    calls: int
    score: float
    n: int


class CandidateView(_Frozen):
    """A candidate as the page shows it.

    Attributes:
        number: In the order of proposals.
        choice: What it is, in a few words.
        proposer: Who proposed it.
        rung: On which rung it joined.
        score: Its mean on the dev examples that it was run on; None before there is one.
        n: How many these were.
        tokens: In and out, an example.
        seconds: An example, while others ran beside it.
        dropped: Why the race gave it up, if it did and did not take it back.
        dropped_after: Calls of the search by then.
        steps: How its score went.
        prompts: By predictor, with a mark where an input goes; None where they are not known.
        front: Whether it is on the search's Pareto front.
    """

    number: int
    choice: str
    proposer: str
    rung: str
    score: float | None = None
    n: int = 0
    tokens: float | None = None
    seconds: float | None = None
    dropped: str | None = None
    dropped_after: int | None = None
    steps: tuple[Step, ...] = ()
    prompts: dict[str, str] | None = None
    front: bool = False


class RungView(_Frozen):
    """A step of the ladder.

    Attributes:
        name: Of the rung.
        choice: Its best.
        best: The best one's number; None where the search was not written down.
        kept: Whether it beat the rung below; None while it is climbed.
        reason: Why, or why not.
        stopped: Why it ended.
        candidates: How many ran on it.
        dev: Of its best.
        test: Of its best, on the sealed test, as the final report read it.
        gain: Over the program as declared, on the sealed test.
        fresh: Against the rung below, on examples that no race looked at.
        calls: That it asked.
        bought: Calls among them that the LM answered now.
        input_tokens: Of its calls.
        output_tokens: Of its calls.
        seconds: On the clock.
        usd: That it cost.
        proposers: Who proposed, and what came of it.
        begun_after: Calls of the search when it began.
    """

    name: str
    choice: str = ""
    best: int | None = None
    kept: bool | None = None
    reason: str = ""
    stopped: str | None = None
    candidates: int = 0
    dev: Measured | None = None
    test: Measured | None = None
    gain: Verdict | None = None
    fresh: Verdict | None = None
    calls: int = 0
    bought: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    proposers: tuple[ProposerReport, ...] = ()
    begun_after: int = 0


class ExampleView(_Frozen):
    """A dev example; texts that are long are cut."""

    inputs: dict[str, str]
    labels: dict[str, str]
    fresh: bool = False


class CellsView(_Frozen):
    """A candidate's row of the matrix; all lists run over the examples.

    Attributes:
        scores: None where there is no score.
        outputs: Indices of texts; −1 where there is none.
        remarks: The same of the metric's feedback, or of the error.
    """

    scores: list[float | None]
    outputs: list[int]
    remarks: list[int]


class EdgeCase(_Frozen):
    """An example on which good candidates fail or disagree.

    Attributes:
        example: Its place.
        kind: ``fail``: none of the good ones is right; ``disagree``: some are.
        score: Their mean.
        n: How many of them ran on it.
    """

    example: int
    kind: Literal["fail", "disagree"]
    score: float
    n: int


class PageContent(_Frozen):
    """All that the page shows.

    Attributes:
        task: Its name.
        lm: Its model.
        seed: Of the search.
        state: ``running``, ``finished``, or ``file``: an artifact without the store that it came from.
        updated: When the search was heard of last, in seconds since 1970.
        calls: Asked so far.
        seconds: Since the search began.
        usd: Paid so far.
        budget: Its limits.
        lines: What a person should take from it, in sentences.
        rungs: From the baseline up.
        winner: Its number.
        candidates: In the order of proposals.
        examples: Of dev, in the race's order; the sealed test is shown nowhere.
        cells: By candidate number, as text.
        texts: That cells name by their index.
        cut: Whether texts of cells were left out to keep the page small.
        edge_cases: The worst first.
        test_calls: For the sealed test.
        test_seconds: For it.
        test_usd: Paid for it.
        provenance: What a person needs to have the same again, by name.
    """

    task: str
    lm: str
    seed: int
    state: Literal["running", "finished", "file"]
    updated: float = 0.0
    calls: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    budget: dict[str, float | None] = Field(default_factory=dict)
    lines: tuple[str, ...] = ()
    rungs: tuple[RungView, ...] = ()
    winner: int | None = None
    candidates: tuple[CandidateView, ...] = ()
    examples: tuple[ExampleView, ...] = ()
    cells: dict[str, CellsView] = Field(default_factory=dict)
    texts: list[str] = Field(default_factory=list)
    cut: bool = False
    edge_cases: tuple[EdgeCase, ...] = ()
    test_calls: int = 0
    test_seconds: float = 0.0
    test_usd: float = 0.0
    provenance: dict[str, str] = Field(default_factory=dict)
