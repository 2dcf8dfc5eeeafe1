from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from progspace.store import schema
from progspace.store.database import open_store
from progspace.store.migrating import HEAD
from progspace.store.records import Answer, Cell

# As the first stores were made, before there were migrations.
FIRST = """
CREATE TABLE meta (key VARCHAR NOT NULL PRIMARY KEY, value VARCHAR);
INSERT INTO meta VALUES ('schema', '1');
CREATE TABLE cells (
    program VARCHAR NOT NULL, metric VARCHAR NOT NULL, example VARCHAR NOT NULL, repeat INTEGER NOT NULL, score FLOAT,
    feedback TEXT, error TEXT, output JSON NOT NULL, calls INTEGER NOT NULL, asked JSON NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, seconds FLOAT NOT NULL, created FLOAT NOT NULL,
    PRIMARY KEY (program, metric, example, repeat));
CREATE TABLE answers (
    "key" VARCHAR NOT NULL PRIMARY KEY, value JSON NOT NULL, input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, seconds FLOAT NOT NULL, created FLOAT NOT NULL);
INSERT INTO cells VALUES ('p', 'm', 'e', 0, 0.5, 'fair', NULL, '{"label":"ä"}', 1, '[["k",30,4]]', 30, 4, 0.25, 1.5);
INSERT INTO answers VALUES ('k', '["positive"]', 30, 4, 0.25, 1.5);
"""


def test_a_store_of_before_the_migrations_is_brought_here_with_all_that_it_holds(tmp_path) -> None:
    path = tmp_path / "old.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for statement in FIRST.split(";"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    for _ in range(2):
        with open_store(path) as store:
            assert store.answer("k") == Answer("k", ["positive"], 30, 4, 0.25)
            cell = Cell("p", "e", "m", 0, 0.5, "fair", None, {"label": "ä"}, 1, (("k", 30, 4),), 30, 4, 0.25)
            assert store.cells("p", "m", ["e"]) == {"e": cell}
            assert store.claims.take("another")
            store.claims.give_back("another")


def test_the_steps_lead_to_the_tables_that_the_code_knows(where: str) -> None:
    with open_store(where) as store:
        engine = sa.create_engine(store.url)
        with engine.connect() as connection:
            settings = {
                "version_table": "progspace_schema",
                "include_object": lambda thing, name, kind, reflected, other: name != "progspace_schema",
            }
            context = MigrationContext.configure(connection, opts=settings)
            assert context.get_current_revision() == HEAD
            assert compare_metadata(context, schema.metadata) == []
        engine.dispose()
