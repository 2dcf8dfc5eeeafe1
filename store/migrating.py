"""Brings a database to the tables of this release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from ..errors import StoreError

__all__ = ["HEAD", "migrate"]

HEAD = "0007"
_VERSIONS = "progspace_schema"  # the last step; "alembic_version" is Optuna's, whose studies stand there as well
_UNVERSIONED = "0001"  # of stores that were made before there were migrations
_LOCK = 7_046_029  # of PostgreSQL's advisory locks: any number that others do not take


def migrate(engine: sa.Engine, where: str) -> None:
    """Takes the steps that a database lacks, all of them or none; of several that try at a time, one does.

    Args:
        engine: Of the database.
        where: It is, for errors.

    Raises:
        StoreError: It was made by a newer release.
        sqlalchemy.exc.DatabaseError: It is no database, or damaged.
    """
    sqlite = engine.dialect.name == "sqlite"
    # PostgreSQL's connections commit each statement by itself otherwise.
    changing = engine if sqlite else engine.execution_options(isolation_level="READ COMMITTED")
    with changing.connect() as connection:
        if _revision(connection) == HEAD:
            return
        connection.rollback()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else f"SELECT pg_advisory_xact_lock({_LOCK})")
        found = _revision(connection)
        config = Config()
        config.set_main_option("script_location", "progspace.store:migrations")
        config.attributes.update(connection=connection, version_table=_VERSIONS)
        try:
            if found is None and sa.inspect(connection).has_table("cells"):
                command.stamp(config, _UNVERSIONED)
            elif found is not None:
                ScriptDirectory.from_config(config).get_revision(found)
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(
                f"{where}: a store of schema {found}, and this release knows {HEAD}; use the release that made it, or "
                "name another one with --store"
            ) from error
        connection.commit()


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSIONS):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSIONS}").scalar()  # noqa: S608 — our own name
    return None if found is None else str(found)
