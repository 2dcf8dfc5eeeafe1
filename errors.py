"""The tree of errors that progspace raises.

```
ProgspaceError
├── DataError          an example, a file, a split          (file, row, field)
├── ProgramError       a module that cannot be searched or run
│   └── SandboxMissing nowhere to run code that an LM wrote
├── MetricError        a metric that failed                 (example)
├── LMError            a language model that did not answer (retryable or not)
│   ├── ModelNotFound  an embedded model that is not provisioned
│   └── CallTimeout    a guarded call that took too long
├── FineTuningError    training that cannot start, or failed (retryable or not)
├── BudgetExceeded     nothing left to spend                (best: the best so far)
├── ArtifactError      a file that cannot be loaded
├── RetrievalError     a collection or its server that cannot be used (retryable or not)
└── StoreError         a store that cannot be used
```
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ArtifactError",
    "BudgetExceeded",
    "CallTimeout",
    "DataError",
    "FineTuningError",
    "LMError",
    "MetricError",
    "ModelNotFound",
    "ProgramError",
    "ProgspaceError",
    "RetrievalError",
    "SandboxMissing",
    "StoreError",
]


class ProgspaceError(Exception):
    """Base of every error that progspace raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is, whatever its constructor wants: workers of other processes give theirs back.
        return type(self).__new__, (type(self), *self.args), self.__dict__


class DataError(ProgspaceError):
    """An example, a file or a split is not as it must be.

    Attributes:
        file: The file that holds the fault, where there is one.
        row: Its row, counted from 1.
        field: The name of the field.

    >>> str(DataError("the label is empty", file="reviews.jsonl", row=3, field="label"))
    "reviews.jsonl, row 3, field 'label': the label is empty"
    """

    def __init__(
        self, message: str, *, file: str | None = None, row: int | None = None, field: str | None = None
    ) -> None:
        self.file, self.row, self.field = file, row, field
        where = [
            *([file] if file is not None else []),
            *([f"row {row}"] if row is not None else []),
            *([f"field {field!r}"] if field is not None else []),
        ]
        super().__init__(f"{', '.join(where)}: {message}" if where else message)


class ProgramError(ProgspaceError):
    """A module cannot be searched, or fails on every example."""


class SandboxMissing(ProgramError):  # noqa: N818 — named as the state it tells of
    """There is no sandbox here, or it does not work: no code was run, and the message says how to mend it."""


class MetricError(ProgspaceError):
    """A metric raised, or returned what is no score, or one below 0.

    Attributes:
        example: The inputs and labels of the example on which it happened.
    """

    def __init__(self, message: str, *, example: dict[str, Any]) -> None:
        self.example = example
        super().__init__(message)


class LMError(ProgspaceError):
    """A language model did not answer.

    Attributes:
        retryable: Whether the same call may go through later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(message)


class ModelNotFound(LMError):  # noqa: N818 — named as the state it tells of
    """An embedded model is missing, damaged or not provisioned; the message holds the command that mends it."""


class CallTimeout(LMError):  # noqa: N818 — named as the state it tells of
    """A guarded program did not answer within its time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class FineTuningError(ProgspaceError):
    """Training cannot start, or failed.

    Attributes:
        retryable: Whether the same training may go through later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(message)


class BudgetExceeded(ProgspaceError):  # noqa: N818 — the name is part of the public face
    """Nothing is left to spend.

    Attributes:
        best: The best result so far, or None where nothing was finished.
    """

    def __init__(self, message: str, *, best: Any = None) -> None:
        self.best = best
        super().__init__(message)


class ArtifactError(ProgspaceError):
    """An artifact is damaged, foreign, too new or edited, or needs what the app does not have."""


class RetrievalError(ProgspaceError):
    """A collection of passages, its server or its embedder cannot be used.

    Attributes:
        retryable: Whether the same call may go through later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(message)


class StoreError(ProgspaceError):
    """A store cannot be opened, read or written."""
