"""``ps.load``: an artifact as a module again, in an app."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

from ..errors import ArtifactError
from ..evaluation.findings import Findings
from ..lms.factory import lm as make_lm
from ..programs.program import Origin, Program
from ..programs.structure import restore
from .artifact import Artifact, read_hashed
from .weights import sought_beside

__all__ = ["load", "program_of"]


def load(
    path: str | Path,
    *,
    lm: dspy.BaseLM | None = None,
    lms: Mapping[str, dspy.BaseLM] | None = None,
    program: dspy.Module | None = None,
) -> Program:
    """Loads a compiled program: a ``dspy.Module`` in its own manner, whatever ``dspy.settings`` says.

    Args:
        path: The file that ``compiled.save`` wrote. Nothing of it is executed.
        lm: The LM to run it on. By default the one it was compiled for, where that can be made from its name: the
            embedded LM, or an endpoint whose key stands in the environment.
        lms: Other LMs that its predictors run on, by the names that the space gave them; made from their names like
            ``lm`` where they are not given.
        program: An instance of the module that was compiled, where that is a class of the app's own; not needed for
            ``dspy.Predict`` and ``dspy.ChainOfThought``, or where the app has imported the class and it takes no
            arguments.

    Raises:
        ArtifactError: The file is damaged, foreign, newer or edited, its module is not at hand, or trained weights do
            not stand beside it as they were saved; it says which.
        ModelNotFound: It wants an embedded model that this machine lacks.
    """
    digest, artifact = read_hashed(Path(path))
    return program_of(artifact, lm=lm, lms=lms, program=program, path=Path(path), digest=digest)


def program_of(
    artifact: Artifact,
    *,
    lm: dspy.BaseLM | None = None,
    lms: Mapping[str, dspy.BaseLM] | None = None,
    program: dspy.Module | None = None,
    path: Path | None = None,
    digest: str = "",
) -> Program:
    """Makes the program of an artifact; as `load`, for one that has been read already.

    Args:
        artifact: What was read.
        lm: As in `load`.
        lms: As in `load`.
        program: As in `load`.
        path: Where it was read: trained weights are sought beside it.
        digest: The hash of its content.
    """
    module = restore(artifact.structure, program=program)
    used = artifact.candidate.lms
    if unknown := used - set(artifact.lms) - set(lms or {}):
        raise ArtifactError(f"the program runs on LMs that it does not tell of: {', '.join(sorted(unknown))}")
    others = {name: (lms or {}).get(name) or _made(artifact.lms[name], path) for name in used}
    made = artifact.candidate.apply(module, lm or _made(artifact.lm, path), others)
    made.origin = Origin(artifact.task, digest, _declared(artifact.report))
    return made


def _declared(report: Findings) -> float | None:
    """The least that its held-out score lets one expect; dev's is a little lucky, and promises nothing."""
    kept = [rung for rung in report.rungs if rung.kept]
    held_out = (kept[-1].test or kept[-1].confirmed) if kept else None
    return held_out.low if held_out is not None and 0 <= held_out.low <= 1 else None


def _made(identity: dict[str, Any], path: Path | None) -> dspy.BaseLM:
    model, settings = str(identity.get("model", "")), dict(identity.get("settings") or {})
    engine = identity.get("engine")
    if model.startswith("local/") and isinstance(engine, dict):
        if engine.get("adapter"):
            settings["adapter"] = sought_beside(path or Path("artifact"), engine)
        return make_lm(f"local:{engine.get('model')}", precision=engine.get("precision", "f32"), **settings)
    if engine is not None or "/" not in model:
        raise ArtifactError(
            f"the program was compiled for the LM {model!r}, which cannot be made from its name: "
            "ps.load(path, lm=your_lm)"
        )
    # An address in a file decides where prompts and a key from the environment go: that is for the app to say.
    if base_url := settings.pop("api_base", None):
        raise ArtifactError(
            f"the program was compiled for {model} at {base_url}; say that this is where prompts may go: "
            f"ps.load(path, lm=ps.lm({model!r}, base_url={base_url!r}))"
        )
    return make_lm(model, **settings)
