"""Training at an OpenAI-compatible endpoint: upload, job, events, cancel, and going on after a restart.

The API is OpenAI's: https://platform.openai.com/docs/api-reference/fine-tuning
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ...errors import DataError, FineTuningError
from .cost import Cost, about_tokens, estimate
from .endpoint import Endpoint
from .examples import TrainingExample, as_jsonl, content_hash
from .jobs import Event, Job, keep, started, succeeded

if TYPE_CHECKING:
    import openai

__all__ = ["MIN_EXAMPLES", "RemoteSettings", "RemoteTraining"]

MIN_EXAMPLES = 10
"""OpenAI refuses fewer."""
_RECENT_JOBS = 100
_EVENTS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """How an endpoint shall train.

    Attributes:
        epochs: How often each example is seen; it is what the cost was told for.
        batch_size: Examples a step; None leaves it to the endpoint.
        learning_rate_multiplier: Of the endpoint's own rate; None leaves it to the endpoint.
        suffix: A word in the trained model's name.
        seed: None leaves it to the endpoint.
    """

    epochs: int = 3
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    suffix: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"RemoteSettings(epochs={self.epochs}): must be at least 1")


class RemoteTraining:
    """Trains at an OpenAI-compatible endpoint.

    Args:
        endpoint: Where.
        count_tokens: Gives the number of tokens of a text, for the estimate.
        usd_per_million: The price of a million trained tokens, where it is known.
        pauses: Seconds between two looks at a job: at first, and at most. They grow while nothing happens.

    >>> training = RemoteTraining(Endpoint(api_key=lambda: "…"), usd_per_million=1.5)
    >>> rows = [TrainingExample((("user", str(i)), ("assistant", "yes"))) for i in range(20)]
    >>> print(training.estimate(rows, RemoteSettings(epochs=2)))
    20 examples × 2 epochs = 440 tokens, about 0.00 USD
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        count_tokens: Callable[[str], int] = about_tokens,
        usd_per_million: float | None = None,
        pauses: tuple[float, float] = (2.0, 60.0),
    ) -> None:
        self.endpoint = endpoint
        self._count_tokens, self._usd_per_million = count_tokens, usd_per_million
        self._pauses = pauses

    def estimate(self, examples: Sequence[TrainingExample], settings: RemoteSettings | None = None) -> Cost:
        """Tells what a training would take, about; nothing is sent."""
        epochs = (settings or RemoteSettings()).epochs
        return estimate(examples, self._count_tokens, epochs=epochs, usd_per_million=self._usd_per_million)

    def identity(
        self,
        model: str,
        examples: Sequence[TrainingExample],
        validation: Sequence[TrainingExample] = (),
        settings: RemoteSettings | None = None,
    ) -> str:
        """Names a training by what it is of: data, model, settings and endpoint; 16 hexadecimal digits."""
        asked = asdict(settings or RemoteSettings())
        parts = [self.endpoint.base_url, model, content_hash(examples), content_hash(validation), asked]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def train(
        self,
        model: str,
        examples: Sequence[TrainingExample],
        *,
        confirm: Callable[[Cost], bool],
        settings: RemoteSettings | None = None,
        validation: Sequence[TrainingExample] = (),
        file: str | os.PathLike[str] | None = None,
        progress: Callable[[Event], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Job:
        """Trains, and waits for the end.

        Args:
            model: What is trained, as the endpoint names it.
            examples: At least `MIN_EXAMPLES`, with the model's own chat template around them.
            confirm: Is told the cost before anything is sent; False ends it.
            settings: How.
            validation: Examples on which the endpoint measures while it trains.
            file: The state is kept there; with the same file the same training goes on, in another process too, and
                nothing is uploaded, asked or paid for twice. After a failure, it begins anew.
            progress: Is told of the endpoint's events, and of each wait for it.
            stop: Set, the job is cancelled.

        Returns:
            The job, succeeded; its ``model`` is the trained one.

        Raises:
            DataError: The examples are too few, or not of a kind that the endpoint takes.
            FineTuningError: Not confirmed, refused, failed or cancelled; or the endpoint did not answer for long.
        """
        job = self.start(
            model, examples, confirm=confirm, settings=settings, validation=validation, file=file, progress=progress
        )
        return self.follow(job, file=file, progress=progress, stop=stop)

    def start(
        self,
        model: str,
        examples: Sequence[TrainingExample],
        *,
        confirm: Callable[[Cost], bool],
        settings: RemoteSettings | None = None,
        validation: Sequence[TrainingExample] = (),
        file: str | os.PathLike[str] | None = None,
        progress: Callable[[Event], None] | None = None,
    ) -> Job:
        """Starts a training as `train` does, and does not wait for it; the file may hold one that was started."""
        settings = settings or RemoteSettings()
        _check(examples, validation)
        training = self.identity(model, examples, validation, settings)
        job = started(file, training)
        if job is None or (job.finished and job.status != "succeeded"):
            cost = self.estimate(examples, settings)
            if not confirm(cost):
                raise FineTuningError(f"the training was not confirmed, so nothing was sent: {cost}")
            job = Job(
                base_model=model,
                training=training,
                training_file=self._upload(examples, progress),
                validation_file=self._upload(validation, progress) if validation else None,
            )
            keep(job, file)
            fresh = True
        else:
            fresh = False
        if job.id is None:
            job = self._create(job, settings, fresh=fresh, progress=progress)
            keep(job, file)
        return job

    def follow(
        self,
        job: Job,
        *,
        file: str | os.PathLike[str] | None = None,
        progress: Callable[[Event], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Job:
        """Waits for the end of a job that was started, here or by another process: `Job.load` gives it.

        Args:
            job: With an id.
            file: The state is kept there.
            progress: Is told of the endpoint's events that this job has not told of yet.
            stop: Set, the job is cancelled.

        Raises:
            FineTuningError: It failed or was cancelled; or the endpoint did not answer for long.
        """
        stop = stop or threading.Event()
        pause = self._pauses[0]
        while True:
            if stop.is_set() and not job.finished:
                job = self.cancel(job, progress=progress)
            # The state first: so no event of a finished job comes after the last look at its events.
            looked = self.look(job, progress=progress)
            looked = self._tell(looked, progress)
            pause = self._pauses[0] if looked != job else min(1.5 * pause, self._pauses[1])
            if looked != job:
                keep(looked, file)
            job = looked
            if job.finished:
                return succeeded(job)
            self.endpoint.wait(stop, pause)

    def look(self, job: Job, *, progress: Callable[[Event], None] | None = None) -> Job:
        """Gives a job as it is now.

        Raises:
            FineTuningError: The endpoint does not know it, or does not answer.
        """
        given = _id(job)
        answer = self.endpoint.ask(
            f"the state of the training {given}",
            lambda client: client.fine_tuning.jobs.retrieve(given),
            progress=progress,
        )
        return self._as_answered(job, answer)

    def cancel(self, job: Job, *, progress: Callable[[Event], None] | None = None) -> Job:
        """Cancels a job; one that has ended in the meantime stays as it ended.

        Raises:
            FineTuningError: The endpoint refused.
        """
        given = _id(job)
        try:
            answer = self.endpoint.ask(
                f"the cancelling of the training {given}",
                lambda client: client.fine_tuning.jobs.cancel(given),
                progress=progress,
            )
        except FineTuningError:
            ended = self.look(job, progress=progress)
            if ended.finished:
                return ended
            raise
        return self._as_answered(job, answer)

    def _upload(self, examples: Sequence[TrainingExample], progress: Callable[[Event], None] | None) -> str:
        name, content = f"progspace-{content_hash(examples)}.jsonl", as_jsonl(examples).encode()
        # Asked again it may be stored twice, which costs nothing; a job is what must not be created twice.
        answer = self.endpoint.ask(
            f"the upload of {len(examples):,} examples",
            lambda client: client.files.create(file=(name, content), purpose="fine-tune"),
            progress=progress,
        )
        return self._text(answer, "id")

    def _create(
        self, job: Job, settings: RemoteSettings, *, fresh: bool, progress: Callable[[Event], None] | None
    ) -> Job:
        hyperparameters: dict[str, Any] = {"n_epochs": settings.epochs}
        if settings.batch_size is not None:
            hyperparameters["batch_size"] = settings.batch_size
        if settings.learning_rate_multiplier is not None:
            hyperparameters["learning_rate_multiplier"] = settings.learning_rate_multiplier
        optional = {"validation_file": job.validation_file, "suffix": settings.suffix, "seed": settings.seed}
        created = not fresh

        def create(client: openai.OpenAI) -> Any:
            # A request whose answer was lost may have created it: the files are ours alone, so they tell.
            nonlocal created
            if created:
                for other in itertools.islice(client.fine_tuning.jobs.list(limit=_EVENTS_A_PAGE), _RECENT_JOBS):
                    if other.training_file == job.training_file:
                        return other
            created = True
            return client.fine_tuning.jobs.create(
                model=job.base_model,
                training_file=job.training_file,
                # `method` holds them in newer releases of the API; this is what every endpoint takes.
                hyperparameters=hyperparameters,  # type: ignore[arg-type]
                **{name: value for name, value in optional.items() if value is not None},  # type: ignore[arg-type]
            )

        answer = self.endpoint.ask(f"the training of {job.base_model}", create, progress=progress)
        return self._as_answered(job, answer)

    def _tell(self, job: Job, progress: Callable[[Event], None] | None) -> Job:
        """Tells the events that are new, oldest first; the endpoint gives the newest first, by pages."""
        given = _id(job)

        def new(client: openai.OpenAI) -> list[Any]:
            pages = client.fine_tuning.jobs.list_events(given, limit=_EVENTS_A_PAGE)
            return list(itertools.takewhile(lambda event: event.id != job.last_event, pages))

        events = self.endpoint.ask(f"the events of the training {given}", new, progress=progress)
        if progress is not None:
            for event in reversed(events):
                data = event.data if isinstance(event.data, dict) else {}
                message = self.endpoint.scrubbed(event.message)
                progress(Event(message, event.level, event.created_at, data, event.id))
        return replace(job, last_event=events[0].id) if events else job

    def _as_answered(self, job: Job, answer: Any) -> Job:
        given, status = self._text(answer, "id"), self._text(answer, "status")
        error = answer.error if getattr(answer.error, "message", None) else None
        return replace(
            job,
            id=given,
            status=status,
            model=answer.fine_tuned_model,
            trained_tokens=answer.trained_tokens,
            error=self.endpoint.scrubbed(error.message) if error else None,
            error_code=error.code if error else None,
        )

    def _text(self, answer: Any, name: str) -> str:
        value = getattr(answer, name, None)
        if not isinstance(value, str) or not value:
            raise FineTuningError(
                f"{self.endpoint.base_url} answered without {name!r}: is it an endpoint of OpenAI's fine-tuning API?",
                retryable=True,
            )
        return value


def _id(job: Job) -> str:
    if job.id is None:
        raise FineTuningError("the training's files are uploaded, and no job was created yet: start it again")
    return job.id


def _check(examples: Sequence[TrainingExample], validation: Sequence[TrainingExample]) -> None:
    if len(examples) < MIN_EXAMPLES:
        raise DataError(
            f"{len(examples)} examples are too few: the fine-tuning API takes no fewer than {MIN_EXAMPLES}; give more "
            "training examples, or a metric that more of them pass"
        )
    for row, example in enumerate((*examples, *validation), start=1):
        if not example.templated:
            raise DataError(
                "is a completion-like prompt (templated=False), and the fine-tuning API lays the model's chat template "
                "around every example; train on the chat format, or on this machine",
                row=row,
            )
