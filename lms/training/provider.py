"""Training as DSPy asks for it: a ``dspy`` provider, so that ``dspy.BootstrapFinetune`` works as it ships."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import dspy
from dspy.clients.provider import Provider, TrainingJob
from dspy.clients.utils_finetune import TrainDataFormat, TrainingStatus

from ...errors import DataError, FineTuningError
from ..keys import Keys
from .cost import Cost, about_tokens, estimate
from .endpoint import Endpoint
from .examples import TrainingExample
from .jobs import Event
from .remote import RemoteSettings, RemoteTraining

__all__ = [
    "ProviderJob",
    "Trained",
    "Trainer",
    "TrainingProvider",
    "read_settings",
    "remote_provider",
    "training_examples",
]

_S = TypeVar("_S")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a trainer leaves.

    Attributes:
        model: The trained model, as ``dspy.LM`` names it.
        engine: Of DSPy's engine contract, where the trained model needs another than the LM had; an LM that names its
            model to a server does not.
        async_engine: Its counterpart for tasks.
        seconds: That the training took on this machine, before a kill as well; None where it ran elsewhere.
    """

    model: str
    engine: Any = None
    async_engine: Any = None
    seconds: float | None = None


class Trainer(Protocol):
    """Trains a model, and returns when that is done."""

    def __call__(
        self,
        model: str,
        examples: Sequence[TrainingExample],
        *,
        settings: Mapping[str, Any],
        progress: Callable[[Event], None],
        stop: threading.Event,
    ) -> Trained:
        """Trains.

        Args:
            model: As ``dspy.LM`` names it.
            examples: To train on.
            settings: What the user gave as ``train_kwargs``.
            progress: Is told what happens.
            stop: Set, the training is given up with a `FineTuningError`.

        Raises:
            DataError: The examples cannot be trained on.
            FineTuningError: The training cannot start, or failed.
        """


class Estimator(Protocol):
    """Tells what a training will take; nothing is sent or trained."""

    def __call__(self, model: str, examples: Sequence[TrainingExample], *, settings: Mapping[str, Any]) -> Cost:
        """Estimates; takes what a `Trainer` takes."""


class Fits(Protocol):
    """Tells which examples a model can be trained on: those that are not longer than it reads."""

    def __call__(self, model: str, examples: Sequence[TrainingExample]) -> Sequence[bool]:
        """Tells it of each."""


class ProviderJob(TrainingJob):
    """A training that runs in a thread of DSPy's; its result is an LM, or the error that ended it.

    Attributes:
        stop: Set when it is cancelled.
        trained: What the trainer left, when it is done.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stop = threading.Event()
        self.trained: Trained | None = None

    def cancel(self) -> bool:
        """Gives the training up; an endpoint is told so. False where it has ended already."""
        if not self.done():
            super().cancel()  # of DSPy's own, which does not say how it went
            self.stop.set()
        return bool(self.cancelled())

    def status(self) -> TrainingStatus:
        """Tells how it stands."""
        if self.cancelled():
            return TrainingStatus.cancelled
        if not self.done():
            return TrainingStatus.running
        return TrainingStatus.failed if isinstance(self.result(), Exception) else TrainingStatus.succeeded

    def set_result(self, result: Any) -> None:
        """Takes the LM that DSPy copied from the untrained one, and gives it the trained engine, where there is one.

        DSPy's copy has the new name and the old engine: without this it would go on to answer as the untrained model.
        """
        if self.cancelled():
            return  # nobody waits any more, and a future that was cancelled takes no result
        if isinstance(result, dspy.LM) and self.trained is not None and self.trained.engine is not None:
            result = result.copy(engine=self.trained.engine, async_engine=self.trained.async_engine)
        super().set_result(result)


class TrainingProvider(Provider):
    """Trains an LM of DSPy's through a trainer.

    Args:
        trainer: Does it: at an endpoint, on this machine, ….
        progress: Is told what happens, by the thread that trains; ``train_kwargs={"progress": function}`` names
            another one for one training.
        estimator: Tells what a training will take.
        ready: Raises a `FineTuningError` where no training can begin: a library is missing, say.
        fits: Tells which examples are not too long.

    >>> def trainer(model, examples, *, settings, progress, stop):
    ...     return Trained(f"{model}-trained-on-{len(examples)}")
    >>> lm = dspy.LM("openai/gpt-4.1-nano", provider=TrainingProvider(trainer))
    >>> row = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    >>> lm.finetune([row], "chat").result().model
    'openai/gpt-4.1-nano-trained-on-1'
    """

    def __init__(
        self,
        trainer: Trainer,
        progress: Callable[[Event], None] | None = None,
        estimator: Estimator | None = None,
        ready: Callable[[], None] | None = None,
        fits: Fits | None = None,
    ) -> None:
        super().__init__()
        self.finetunable = True
        self.TrainingJob = ProviderJob
        self._trainer, self._progress, self._estimator = trainer, progress, estimator
        self._fits = fits
        self.ready: Callable[[], None] = ready or _always_ready

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainingProvider:
        return self  # DSPy copies programs with their LMs; who trains stays the same

    def finetune(
        self,
        job: ProviderJob,
        model: str,
        train_data: list[dict[str, Any]],
        train_data_format: TrainDataFormat | str | None,
        train_kwargs: dict[str, Any] | None = None,
    ) -> str:
        """Trains, and gives the trained model's name; called by DSPy, in a thread of its own.

        Raises:
            DataError: The data cannot be trained on; with its row.
            FineTuningError: The training cannot start, or failed.
        """
        examples = training_examples(train_data, train_data_format)
        settings = dict(train_kwargs or {})
        tell = settings.pop("progress", None) or self._progress or _untold
        job.trained = self._trainer(model, examples, settings=settings, progress=tell, stop=job.stop)
        return job.trained.model

    def fitting(
        self, model: str, train_data: Sequence[dict[str, Any]], train_data_format: TrainDataFormat | str | None
    ) -> list[dict[str, Any]]:
        """Leaves out what is longer than the model reads; all stays where nobody can say."""
        if self._fits is None or not train_data:
            return list(train_data)
        fit = self._fits(model, training_examples(train_data, train_data_format))
        return [row for row, is_fit in zip(train_data, fit, strict=True) if is_fit]

    def estimate(
        self,
        model: str,
        train_data: Sequence[Mapping[str, Any]],
        train_data_format: TrainDataFormat | str | None,
        train_kwargs: Mapping[str, Any] | None = None,
    ) -> Cost | None:
        """Tells what `finetune` would take, given the same; None where nobody can say. Nothing is spent.

        Raises:
            DataError: The data cannot be trained on; with its row.
            FineTuningError: The settings are not those of the trainer.
        """
        if self._estimator is None:
            return None
        examples = training_examples(train_data, train_data_format)
        settings = {name: value for name, value in (train_kwargs or {}).items() if name != "progress"}
        return self._estimator(model, examples, settings=settings)


def _always_ready() -> None:
    """Of a trainer that needs nothing."""


def _untold(event: Event) -> None:
    """Is where nobody listens."""


def training_examples(
    data: Sequence[Mapping[str, Any]], data_format: TrainDataFormat | str | None
) -> tuple[TrainingExample, ...]:
    """Reads what DSPy gives to train on.

    Args:
        data: Rows with ``messages``, or with ``prompt`` and ``completion``.
        data_format: ``chat`` or ``completion``.

    Raises:
        DataError: A row is not as it must be, or there is none.
        FineTuningError: The format is another one.

    >>> training_examples([{"prompt": "2 + 2 =", "completion": " 4"}], "completion")
    (TrainingExample(messages=(('user', '2 + 2 ='), ('assistant', ' 4')), templated=False),)
    """
    wanted = getattr(data_format, "value", data_format)
    if wanted not in ("chat", "completion"):
        raise FineTuningError(f"the format {wanted!r} cannot be trained on: give chat or completion")
    if not data:
        raise DataError("there is nothing to train on: no run of the program passed the metric")
    return tuple(_example(row, number, wanted == "chat") for number, row in enumerate(data, start=1))


def _example(row: Mapping[str, Any], number: int, chat: bool) -> TrainingExample:
    try:
        if not chat:
            return TrainingExample((("user", row["prompt"]), ("assistant", row["completion"])), templated=False)
        for place, message in enumerate(row["messages"]):
            if not isinstance(message["content"], str):
                raise DataError("is no text: texts alone can be trained on", field=f"messages.{place}.content")
        return TrainingExample(tuple((message["role"], message["content"]) for message in row["messages"]))
    except KeyError as error:
        raise DataError("is missing", row=number, field=str(error.args[0])) from None
    except DataError as error:
        message = str(error).removeprefix(f"field {error.field!r}: ")
        raise DataError(message, row=number, field=error.field) from None


def remote_provider(
    *,
    base_url: str | None = None,
    api_key: str | Callable[[], str] | Keys | None = None,
    confirm: Callable[[Cost], bool] | None = None,
    count_tokens: Callable[[str], int] = about_tokens,
    usd_per_million: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[Event], None] | None = None,
    endpoint: Endpoint | None = None,
) -> TrainingProvider:
    """Makes a provider that trains at an OpenAI-compatible endpoint.

    What ``train_kwargs`` may hold: the fields of `RemoteSettings` (``n_epochs`` is taken for ``epochs``), and
    ``confirm``.

    Args:
        base_url: Of the endpoint; None for ``OPENAI_BASE_URL``, or OpenAI itself.
        api_key: The key, or what gives it; None for the environment's ``OPENAI_API_KEY``.
        confirm: Is told the cost before anything is sent; without it nothing is.
        count_tokens: Gives the number of tokens of a text, for the estimate.
        usd_per_million: The price of a million trained tokens, where it is known.
        folder: Each training keeps its state there, so that it goes on where it was when it is asked for again.
        progress: Is told the endpoint's events.
        endpoint: In the place of ``base_url`` and ``api_key``.

    >>> lm = dspy.LM("openai/gpt-4.1-nano", provider=remote_provider(confirm=lambda cost: cost.trained_tokens < 1e6))
    """
    trainer = _RemoteTrainer(base_url, api_key, confirm, count_tokens, usd_per_million, folder, endpoint)
    return TrainingProvider(trainer, progress, trainer.estimate)


@dataclass(frozen=True, slots=True)
class _RemoteTrainer:
    """A `Trainer` at an endpoint; it is connected to when something is to be trained."""

    base_url: str | None
    api_key: str | Callable[[], str] | Keys | None
    confirm: Callable[[Cost], bool] | None
    count_tokens: Callable[[str], int]
    usd_per_million: float | None
    folder: str | os.PathLike[str] | None
    endpoint: Endpoint | None

    def estimate(self, model: str, examples: Sequence[TrainingExample], *, settings: Mapping[str, Any]) -> Cost:  # noqa: ARG002
        wanted = {name: value for name, value in settings.items() if name != "confirm"}
        return estimate(
            examples, self.count_tokens, epochs=_settings(wanted).epochs, usd_per_million=self.usd_per_million
        )

    def __call__(
        self,
        model: str,
        examples: Sequence[TrainingExample],
        *,
        settings: Mapping[str, Any],
        progress: Callable[[Event], None],
        stop: threading.Event,
    ) -> Trained:
        at = self.endpoint or Endpoint(base_url=self.base_url, api_key=self.api_key)
        training = RemoteTraining(at, count_tokens=self.count_tokens, usd_per_million=self.usd_per_million)
        wanted = dict(settings)
        confirm: Callable[[Cost], bool] = wanted.pop("confirm", self.confirm) or _unconfirmed(at.base_url)
        remote = _settings(wanted)
        prefix, name = ("openai/", model.removeprefix("openai/")) if model.startswith("openai/") else ("", model)
        file = None
        if self.folder is not None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            file = Path(self.folder, f"{training.identity(name, examples, settings=remote)}.json")
        job = training.train(name, examples, confirm=confirm, settings=remote, file=file, progress=progress, stop=stop)
        return Trained(f"{prefix}{job.model}")


def _unconfirmed(base_url: str) -> Callable[[Cost], bool]:
    def refuse(cost: Cost) -> bool:
        raise FineTuningError(
            f"training at {base_url} sends the examples there and may cost money ({cost}), and nobody confirmed it: "
            "give train_kwargs={'confirm': function}, which is told the cost and returns True"
        )

    return refuse


def _settings(given: Mapping[str, Any]) -> RemoteSettings:
    return read_settings(RemoteSettings, given, "the endpoint's training", "confirm")


def read_settings(kind: type[_S], given: Mapping[str, Any], whose: str, *others: str) -> _S:
    """Reads ``train_kwargs``; ``n_epochs``, as some providers of DSPy call it, is taken for ``epochs``.

    Args:
        kind: A dataclass of settings.
        given: By the user.
        whose: Settings they are, for the error.
        others: Names that may be given besides, for the error.

    Raises:
        FineTuningError: There is a setting that is not known.
    """
    wanted = dict(given)
    if "n_epochs" in wanted:
        wanted["epochs"] = wanted.pop("n_epochs")
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(wanted) - set(known)):
        raise FineTuningError(f"{whose} knows no {', '.join(unknown)}; there is {', '.join([*known, *others])}")
    return kind(**wanted)
