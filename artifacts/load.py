"""``ps.load``: an artifact as a module again, in an app."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dspy

from ..errors import ArtifactError, ProgramError, ProgspaceError
from ..evaluation.findings import Findings
from ..lms.factory import lm as make_lm
from ..lms.identity import lm_identity, without_login, without_secrets
from ..programs.program import Origin, Program
from ..programs.structure import restore
from .artifact import Artifact, read_hashed
from .weights import sought_beside

__all__ = ["load", "program_of"]

_SETTINGS = frozenset({
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "min_p", "n",
    "presence_penalty", "reasoning", "reasoning_effort", "repetition_penalty", "response_format", "seed",
    "service_tier", "stop", "temperature", "thinking", "timeout", "top_k", "top_logprobs", "top_p", "verbosity",
})  # fmt: skip
"""Settings of an LM that say how it answers; what says where, or who asks, is for the app to say."""


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
        lms: Other LMs that its predictors run on, by the names that the space gave them, or, of those that predictors
            had of their own, by their model's; made from their names like ``lm`` where they are not given, nor the
            program's.
        program: An instance of the module that was compiled, where that is a class of the app's own; not needed for
            ``dspy.Predict`` and ``dspy.ChainOfThought``, or where the app has imported the class and its constructor
            gives without arguments the instance that was compiled. Enums and pydantic models of a signature are the
            app's own classes where it has imported them; others are made alike.

    Raises:
        ArtifactError: The file is damaged, foreign, newer or edited, its module is not at hand as it was measured, or
            trained weights do not stand beside it as they were saved; it says which.
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
    others = {
        name: (lms or {}).get(name) or _own(module, artifact.lms[name]) or _made(artifact.lms[name], path, name)
        for name in used
    }
    own = lm or _made(artifact.lm, path)
    try:
        made = artifact.candidate.apply(module, own, others)
    except ProgramError as error:
        raise ArtifactError(
            f"the module is not as it was compiled: {error}; give the instance as it was compiled, with what was "
            f"frozen in it: ps.load(path, program={type(module).__name__}(…))"
        ) from error
    made.origin = Origin(artifact.task, digest, _declared(artifact.report))
    return made


def _declared(report: Findings) -> float | None:
    """The least that its held-out score lets one expect; dev's is a little lucky, and promises nothing."""
    kept = [rung for rung in report.rungs if rung.kept]
    held_out = (kept[-1].test or kept[-1].confirmed) if kept else None
    return held_out.low if held_out is not None and 0 <= held_out.low <= 1 else None


def _own(module: dspy.Module, identity: dict[str, Any]) -> dspy.BaseLM | None:
    """Finds an LM among those that the app's own class gives its predictors; where prompts go, the app has said."""
    own = [predictor.lm for predictor in module.predictors() if predictor.lm is not None]
    return next((lm for lm in own if _anywhere(lm_identity(lm)) == _anywhere(identity)), None)


def _anywhere(identity: dict[str, Any]) -> str:
    settings = identity.get("settings")
    if isinstance(settings, dict):
        # Files of older releases hold some of their LMs' secrets.
        told = without_secrets(settings)
        settings = {name: value for name, value in told.items() if name not in ("api_base", "base_url")}
    return json.dumps({**identity, "settings": settings or {}}, sort_keys=True, default=repr)


def _made(identity: dict[str, Any], path: Path | None, name: str = "") -> dspy.BaseLM:
    """Makes an LM of what an artifact tells of it: the program's own, or the one of that name in its space."""

    def give(lm: str = "your_lm") -> str:
        return f"ps.load(path, lms={{{name!r}: {lm}}})" if name else f"ps.load(path, lm={lm})"

    model, engine = identity.get("model"), identity.get("engine")
    settings = identity.get("settings") or {}
    if not isinstance(model, str) or not isinstance(settings, dict):
        raise ArtifactError(f"the LM that the program was compiled for is damaged: {identity!r:.200}")
    settings = {name: value for name, value in settings.items() if value is not None}
    # An address in a file decides where prompts and a key from the environment go: that is for the app to say.
    if address := settings.pop("api_base", None):
        base_url = without_login(str(address))
        raise ArtifactError(
            f"the program was compiled for {model} at {base_url}; say that this is where prompts may go: "
            + give(f"ps.lm({model!r}, base_url={base_url!r})")
        )
    if kind := identity.get("model_type"):
        raise ArtifactError(
            f"the program was compiled for {model} with model_type={kind!r}, which no file may choose: "
            + give(f"dspy.LM({model!r}, model_type={kind!r})")
        )
    if unknown := set(settings) - _SETTINGS:
        raise ArtifactError(
            f"the program was compiled for {model} with settings that no file may choose "
            f"({', '.join(sorted(unknown))}): {give()}"
        )
    try:
        if model.startswith("local/") and isinstance(engine, dict):
            return _local(engine, settings, path, give)
        if engine is None and "/" in model and "://" not in model:
            return make_lm(model, **settings)
    except ProgspaceError:
        raise
    except Exception as error:  # of settings that DSPy, or the LM's kind, does not take
        raise ArtifactError(f"the LM {model!r} cannot be made as it was ({error}): {give()}") from error
    raise ArtifactError(
        f"the program was compiled for the LM {model!r}, which cannot be made from its name: "
        + give()
        + ("" if name else ", or --lm (and --base-url) of a command")
    )


def _local(
    engine: dict[str, Any], settings: dict[str, Any], path: Path | None, give: Callable[[str], str]
) -> dspy.BaseLM:
    from ..lms.models import MODELS

    # A path in a file would have this process read, and convert, what lies there.
    if (name := engine.get("model")) not in MODELS:
        raise ArtifactError(
            f"the program was compiled for the model at {name}; say that it may be read: "
            + give(f"ps.lm({f'local:{name}'!r})")
        )
    if engine.get("adapter"):
        settings = {**settings, "adapter": sought_beside(path or Path("artifact"), engine)}
    return make_lm(f"local:{name}", precision=engine.get("precision", "f32"), **settings)
