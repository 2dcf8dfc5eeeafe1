"""The tables of the store, as the last step of `progspace.store.migrations` leaves them; they change there alone."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "answers", "batches", "cells", "claims", "feedback", "limits", "metadata", "search_events", "searches", "traces",
]  # fmt: skip

metadata = sa.MetaData()

cells = sa.Table(
    "cells",
    metadata,
    sa.Column("program", sa.String, primary_key=True),
    sa.Column("metric", sa.String, primary_key=True),
    sa.Column("example", sa.String, primary_key=True),
    sa.Column("repeat", sa.Integer, primary_key=True),
    sa.Column("score", sa.Float),
    sa.Column("feedback", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("calls", sa.Integer, nullable=False),
    sa.Column("asked", sa.Text, nullable=False),
    sa.Column("input_tokens", sa.Integer, nullable=False),
    sa.Column("output_tokens", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
"""What one program did on one example; ``output`` and ``asked`` are JSON."""

answers = sa.Table(
    "answers",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("input_tokens", sa.Integer, nullable=False),
    sa.Column("output_tokens", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Index("answers_created", "created"),
)
"""What LMs answered; ``value`` is JSON."""

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
"""Which answers are being asked for, by whom, and until when nobody else does."""

limits = sa.Table("limits", metadata, sa.Column("endpoint", sa.String, primary_key=True), sa.Column("state", sa.Text))
"""What endpoints grant, as all that share the store have learnt it; ``state`` is JSON."""

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("input_file", sa.String, primary_key=True),
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("id", sa.String),
    sa.Column("requests", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
"""Batches that were sent, and the keys of the requests whose answers they hold; ``requests`` is JSON."""

traces = sa.Table(
    "traces",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("calls", sa.Integer, nullable=False),
    sa.Column("input_tokens", sa.Integer, nullable=False),
    sa.Column("output_tokens", sa.Integer, nullable=False),
    sa.Column("unreadable", sa.Integer, nullable=False),
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("fallbacks", sa.Integer, nullable=False),
    sa.Column("abstained", sa.Integer, nullable=False),
    sa.Column("confidence", sa.Float),
    sa.Column("signals", sa.Text, nullable=False),
    sa.Column("declared", sa.Float),
    sa.Column("inputs", sa.Text),
    sa.Column("outputs", sa.Text),
    sa.Column("whole", sa.Integer, nullable=False, server_default="0"),
    sa.Column("outputs_whole", sa.Integer, nullable=False, server_default="0"),
    sa.Index("traces_name_created", "name", "created"),
)
"""What a watched program did on one call; ``signals``, ``inputs`` and ``outputs`` are JSON."""

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("trace", sa.String, primary_key=True),
    sa.Column("score", sa.Float),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
"""What was said of a trace later; ``labels`` is JSON."""

searches = sa.Table(
    "searches",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("task_hash", sa.String, nullable=False),
    sa.Column("lm", sa.String, nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("began", sa.Float, nullable=False),
)
"""Searches that have run or are running."""

search_events = sa.Table(
    "search_events",
    metadata,
    sa.Column("search", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
"""How each search ran, in order; ``value`` is JSON."""
