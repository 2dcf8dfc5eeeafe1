"""One allowance of an endpoint for all processes that use a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dspy
import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from ..lms.allowance import Allowance
from ..lms.remote_engine import RemoteEngine
from ..store.database import Store
from ..store.schema import limits

__all__ = ["SharedLedger", "share_limits"]

_STATE = TypeAdapter(Allowance)
# On the path of every request, where building a statement would cost more than running it.
_TAKE = sa.text("UPDATE limits SET endpoint = endpoint WHERE endpoint = :name")  # locks the row, or the file
_READ = sa.text("SELECT state FROM limits WHERE endpoint = :name")
_GIVE = sa.text("UPDATE limits SET state = :state WHERE endpoint = :name")


def share_limits(lm: dspy.BaseLM, store: Store) -> None:
    """Has an LM at an endpoint ask no more than its limits together with all others that use the store.

    How many requests are under way stays each process's own to learn. An LM elsewhere is left as it is.
    """
    engine = getattr(lm, "_engine_spec", None)
    if isinstance(engine, RemoteEngine) and store.where != ":memory:":
        engine.share(SharedLedger(store.url, f"{engine.connection.base_url} {lm.model}"))


@dataclass
class SharedLedger:
    """Keeps an allowance in a table, ``limits``, of a store's database.

    Where the database cannot be written, the process goes on with what it last knew: an answer that is paid for is not
    lost for the sake of a limit.

    Attributes:
        url: Of the database.
        name: Of the endpoint and model that the limits are of.
    """

    url: str = field(repr=False)  # it may hold a password
    name: str
    _last: Allowance = field(default_factory=Allowance, compare=False)

    @cached_property
    def _engine(self) -> sa.Engine:
        local = self.url.startswith("sqlite")
        settings: dict[str, Any] = {"connect_args": {"timeout": 10, "check_same_thread": False}} if local else {}
        engine = sa.create_engine(self.url, **settings)
        if local:

            @sa.event.listens_for(engine, "connect")
            def _pragma(connection: Any, _: object) -> None:
                connection.execute("PRAGMA synchronous=OFF")  # what is lost with a machine, the next answer tells again

        with suppress(sa.exc.IntegrityError), engine.begin() as connection:  # another process was first
            connection.execute(limits.insert().values(endpoint=self.name, state=None))
        return engine

    @contextmanager
    def open(self) -> Iterator[Allowance]:
        """Gives the allowance; until it is given back no other process has it."""
        with ExitStack() as transaction:
            try:
                connection = transaction.enter_context(self._engine.connect())
                connection.execute(_TAKE, {"name": self.name})
                state = connection.execute(_READ, {"name": self.name}).scalar_one()
            except SQLAlchemyError:
                connection, state = None, None
            if state:
                with suppress(ValidationError):  # of another release
                    self._last = _STATE.validate_json(state)
            yield self._last
            written = _STATE.dump_json(self._last).decode()
            if connection is not None and written != state:
                with suppress(SQLAlchemyError):
                    connection.execute(_GIVE, {"name": self.name, "state": written})
                    connection.commit()
