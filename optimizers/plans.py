"""Which rungs a space calls for, and who proposes on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dspy

from ..errors import ProgramError
from ..lms.training.jobs import Event
from ..lms.training.provider import TrainingProvider
from ..programs.answering import Answering
from ..programs.candidate import Candidate
from ..programs.retrieval import retrievers_of
from .proposers.answers import AnswerProposer, LMProposer
from .proposers.base import Proposer
from .proposers.combination import CombinationProposer
from .proposers.crossover import CrossoverProposer
from .proposers.demonstrations import (
    BootstrappedProposer,
    CoveringProposer,
    HardProposer,
    LabelledProposer,
    NearestProposer,
)
from .proposers.finetuning import FineTuningProposer, trainable
from .proposers.formats import FormatProposer
from .proposers.known import KnownProposer
from .proposers.retrieval import RetrievalProposer
from .proposers.rules import RuleProposer
from .proposers.shortening import ShorteningProposer
from .proposers.writer import WriterProposer
from .rung import RungPlan
from .space import Space

__all__ = ["default_plans"]

_PLACES = 12
_SURE = 0.9  # that trained weights are no worse than prompts: a model that is a file of its own is not kept by a hair
_RETRIEVALS = 6  # the best search with each k first: what changes little is tried on the best of them


def default_plans(
    space: Space,
    module: dspy.Module,
    lm: dspy.BaseLM,
    others: Sequence[Proposer] = (),
    on_training: Callable[[Event], None] | None = None,
    known: Candidate | None = None,
) -> tuple[RungPlan, ...]:
    """Plans the rungs above the baseline, cheapest first; a rung on which nothing can be chosen is left out.

    Args:
        space: What may be chosen.
        module: The program.
        lm: What it runs on.
        others: Proposers of the user's own, who join on the rung of prompts.
        on_training: Is told how a training goes on.
        known: A candidate from elsewhere, on a rung of its own before all others.

    Raises:
        ProgramError: Two proposers have one name, or the LM cannot be trained and shall be.
        FineTuningError: What trains it is not installed.
    """
    signatures = [predictor.signature for predictor in space.searched(module).values()]
    plans, trains = list[RungPlan](), space.finetuning is not None
    if known is not None:
        plans.append(RungPlan("known", (KnownProposer(known, known.origin),), share=0.5))
    if trains:
        _check_trainable(lm)
    if formats := len(space.formats_for(signatures, lm)):
        # Of a chain, those of all predictors at once first, bare and shown; one by one on the best of these.
        places = 2 * formats if len(signatures) > 1 else None
        plans.append(RungPlan("formats", (FormatProposer(),), share=0.3, places=places))
    if space.retrieval is not None and retrievers_of(module):
        plans.append(RungPlan("retrieval", (RetrievalProposer(), CombinationProposer()), share=0.4, places=_RETRIEVALS))
    if prompts := _prompts(space, others):
        plans.append(RungPlan("prompts", prompts, share=0.6 if trains else 0.85, places=_PLACES))
    chains: list[Proposer] = []
    if any(way != Answering() for way in space.answerings()):
        chains.append(AnswerProposer())
    if space.lms:
        chains.append(LMProposer())
    if chains:
        # One way of each at a time, the cheaper first: votes on reasoning ask ten times what the winner asks.
        share = 0.5 if trains else 1.0
        plans.append(RungPlan("chaining", tuple(chains), share=share, places=len(chains), proven=True))
    if trains:
        tuner = FineTuningProposer(on_training)
        plans.append(RungPlan("fine-tuning", (tuner,), share=1.0, rematch=False, sure=_SURE, proven=True))
    return tuple(plans)


def _prompts(space: Space, others: Sequence[Proposer]) -> tuple[Proposer, ...]:
    proposers: list[Proposer] = []
    if any(space.demonstrations):
        kinds: dict[str, Proposer] = {
            "nearest": NearestProposer(),
            "labelled": LabelledProposer(),
            "covering": CoveringProposer(),
            "bootstrapped": BootstrappedProposer(),
            "hard": HardProposer(),
        }
        proposers += [each for kind, each in kinds.items() if space.selects(kind)]
    if "rules" in space.instructions:
        proposers.append(RuleProposer())
    if "writer" in space.instructions:
        proposers.append(WriterProposer())
    if proposers:
        proposers += [CrossoverProposer(), CombinationProposer(), ShorteningProposer()]
    names = [each.name for each in (*others, *proposers)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ProgramError(
            f'two proposers are called {", ".join(twice)}: give one another name, FromDSPy(…, name="another")'
        )
    return (*others, *proposers)


def _check_trainable(lm: dspy.BaseLM) -> None:
    """Finds out what stands against a training before the rungs below it are paid for."""
    own = trainable(lm)
    if own is None:
        raise ProgramError(
            f"{lm.model} cannot be trained, and the space asks for fine-tuning: its provider offers none; "
            "leave out Space(finetuning=…), or take ps.lm('local') or an endpoint that trains"
        )
    if isinstance(own.provider, TrainingProvider):
        own.provider.ready()
