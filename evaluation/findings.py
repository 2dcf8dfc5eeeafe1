"""What a compile found, what it cost, and how sure it is: data only."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "BREAKS_A_LIMIT",
    "TOO_LONG",
    "Findings",
    "Measured",
    "Point",
    "ProposerReport",
    "RungReport",
    "TrainingReport",
    "Tried",
    "Verdict",
]

TOO_LONG, BREAKS_A_LIMIT = "its prompts are too long", "it breaks the limit of"
"""How reasons begin for which a rung is not kept though its best may have done better."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Frozen):
    """A score on one split.

    Attributes:
        score: The mean.
        low: Lower end of its interval.
        high: Upper end of its interval.
        level: Of the interval.
        method: Of the interval.
        n: Examples.
        failed: Examples without an answer of the LM.
        errors: Examples on which the program failed; they score 0.
        calls: LM calls an example.
        tokens: Tokens in and out, an example.
        input_tokens: An example.
        seconds: From an example's inputs to its outputs, while others ran beside it.
    """

    score: float
    low: float
    high: float
    level: float
    method: str
    n: int
    failed: int
    errors: int
    calls: float
    tokens: float
    input_tokens: float = 0.0
    seconds: float = 0.0


class Verdict(_Frozen):
    """A paired comparison with the baseline, or of fresh examples with the rung below, on the same examples.

    Attributes:
        difference: Of the mean scores.
        low: Lower end of its interval.
        high: Upper end of its interval.
        p_value: Two-sided, of no difference.
        wins: Examples on which the program scored higher.
        losses: Examples on which the baseline did.
        method: Of the test.
        n: Examples that both answered; None in reports that did not tell yet.
        score: The program's mean on these.
        baseline: The other program's mean on these.
    """

    difference: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int
    method: str
    n: int | None = None
    score: float | None = None
    baseline: float | None = None


class Tried(_Frozen):
    """A candidate of a rung.

    Attributes:
        choice: What it is.
        proposer: Who proposed it.
        score: Its mean on the dev examples that it was run on.
        n: How many these were.
        tokens: Tokens in and out, an example.
        dropped: Why the race gave it up; None where it did not.
    """

    choice: str
    proposer: str
    score: float
    n: int
    tokens: float
    dropped: str | None = None


class ProposerReport(_Frozen):
    """What a proposer cost and brought on a rung.

    Attributes:
        name: Of the proposer.
        candidates: How many it proposed.
        calls: Its own, and those of its candidates in the race.
        promise: How many of its candidates beat the incumbent, in expectation.
    """

    name: str
    candidates: int
    calls: int
    promise: float


class TrainingReport(_Frozen):
    """Weights that a rung has trained, and when they have paid for themselves.

    Attributes:
        lm: The trained LM's name.
        source: What was taught.
        examples: How many, those that told when to stop not counted.
        tokens: Trained on, in all epochs.
        seconds: That it took on this machine; None where it ran elsewhere.
        usd: That it cost; None where the price is not known.
        before: The best program without these weights, on the same examples as ``after``.
        after: The rung's best.
        pace: Seconds an example with ``before`` and with ``after``, many side by side: of the clock on the sealed test,
            by the number of examples; None where answers were known already, and nobody can say.
        payback: Examples after which what is saved on each has made up for the training: in money where it cost some,
            else in time; None where nothing is saved, or nobody knows.
    """

    lm: str
    source: str
    examples: int
    tokens: int
    seconds: float | None
    usd: float | None
    before: Measured
    after: Measured
    pace: tuple[float, float] | None
    payback: int | None


class RungReport(_Frozen):
    """A step of the ladder: what was searched, what it found and what it cost.

    Attributes:
        name: Of the rung.
        choice: What was best on it.
        kept: Whether it beat the rung below on dev.
        candidates: How many were tried.
        dev: Score of the choice on the whole dev split; it was chosen there, so it is a little lucky.
        shrunken: The dev score after shrinking: what the choice was made by.
        confirmed: Its score on the part of dev that no race looked at: few examples, but no luck of selection.
        test: Score on the sealed test split.
        versus_baseline: On the sealed test split.
        calls: LM calls that the rung asked for.
        bought: Calls among them that the LM answered now; the others were known before, or failed.
        failed: Calls among them that were not answered.
        input_tokens: Of the rung's calls.
        output_tokens: Of the rung's calls.
        seconds: On the clock.
        usd: Paid now, as far as the prices of the LMs are known.
        stopped: Why the rung ended where it did.
        reason: Why it was kept or not.
        fresh: The comparison with the rung below on the part of dev that no race looked at.
        proposers: Who proposed, and what came of it.
        tried: All that was measured, those on more examples first.
        training: The weights that its best runs on, where it trained them.
    """

    name: str
    choice: str
    kept: bool
    candidates: int
    dev: Measured
    shrunken: float
    confirmed: Measured | None = None
    test: Measured | None = None
    versus_baseline: Verdict | None = None
    calls: int
    bought: int
    failed: int = 0
    input_tokens: int
    output_tokens: int
    seconds: float
    usd: float = 0.0
    stopped: str | None = None
    reason: str = ""
    fresh: Verdict | None = None
    proposers: tuple[ProposerReport, ...] = ()
    tried: tuple[Tried, ...] = ()
    training: TrainingReport | None = None


class Point(_Frozen):
    """A program on the Pareto front of dev score and tokens."""

    choice: str
    score: float
    tokens: float


class Findings(_Frozen):
    """The ladder, and all that is needed to believe it.

    Attributes:
        task: Its name.
        lm: The LM's model.
        seed: Of splits, draws and intervals.
        sizes: Examples of train, dev and test.
        notes: What the split had to say.
        rungs: From the baseline up.
        front: Programs that no other beats in both dev score and tokens.
        test_calls: LM calls for the sealed test; they are not part of the search's budget.
        test_seconds: On the clock.
        test_usd: Paid for it now, as far as the prices of the LMs are known.
        test_reads: How often the sealed test has been read by this task object, this time included.
        seconds: Of the whole compile, on the clock.
    """

    task: str
    lm: str
    seed: int
    sizes: dict[Literal["train", "dev", "test"], int]
    notes: tuple[str, ...] = ()
    rungs: tuple[RungReport, ...]
    front: tuple[Point, ...] = ()
    test_calls: int = 0
    test_seconds: float = 0.0
    test_usd: float = 0.0
    test_reads: int = 0
    seconds: float = 0.0

    @property
    def baseline(self) -> RungReport:
        """The program as declared."""
        return self.rungs[0]

    @property
    def winner(self) -> RungReport:
        """The highest rung that was kept."""
        return next(rung for rung in reversed(self.rungs) if rung.kept)

    @property
    def curve(self) -> list[tuple[int, float]]:
        """The held-out score that so many calls had bought: a point for each rung that was climbed."""
        points, calls, score = [], 0, 0.0
        for rung in self.rungs:
            calls += rung.calls
            if rung.kept and rung.test is not None:
                score = rung.test.score
            points.append((calls, score))
        return points

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return self.model_dump(mode="json")
