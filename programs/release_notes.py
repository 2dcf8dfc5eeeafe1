"""A ready-made task: release notes in a house style, written from what colleagues say.

A line of the notes is ``KIND · Component: what (#ticket).``: one of four kinds, ``!`` after it where users must do
something, the component by its own name whatever it was called, what it is about without who and when, and the ticket's
number. Messages are made of phrases that progspace's authors wrote: many, but put together by rule, so that a program
that knows the rule can be right on all of them.
"""

from __future__ import annotations

import random
import re
from typing import Any

import dspy

from . import metrics
from .score import Score
from .task import Task

__all__ = ["STYLE", "ReleaseNote", "examples", "house_style", "task"]

STYLE = re.compile(r"(Added|Changed|Fixed|Removed)(!?) · ([A-Z][a-z]+): ([^\s].{2,78}?) \(#(\d{4})\)\.")
"""The whole of a line: kind, breaking or not, component, what, ticket."""

_COMPONENTS = {
    "Editor": ("the editor", "the text editor", "the editing window"),
    "Search": ("search", "the search box", "full-text search"),
    "Export": ("export", "the export dialog", "exporting"),
    "Login": ("login", "the sign-in page", "signing in"),
    "Sync": ("sync", "the sync service", "syncing"),
    "Reports": ("reports", "the report builder", "the reporting module"),
    "Billing": ("billing", "the invoice part", "the billing pages"),
    "Printing": ("printing", "the print preview", "the printer dialog"),
    "Calendar": ("the calendar", "the calendar view", "the schedule"),
    "Mail": ("mail", "the mail client", "the inbox"),
}
_WHAT = {
    "Added": (
        "a dark theme", "keyboard shortcuts", "an undo for bulk changes", "support for right-to-left text",
        "a progress bar for long jobs", "filters by date", "a compact view", "drag and drop of files",
        "a warning before data is lost", "autosave every minute", "templates for teams", "a link to share a view",
        "two-factor codes", "a preview of attachments", "sorting by several columns", "an offline mode",
    ),
    "Changed": (
        "the default font size", "the order of the menu", "the names of the status colours", "the limit on file size",
        "the time before a session ends", "how dates are written", "the layout on small screens",
        "the wording of error messages", "the address of the help page", "the number of rows a page",
        "how duplicates are merged", "the sound of notifications", "the format of log files",
        "the way totals are rounded", "the first day of the week", "the size of thumbnails",
    ),
    "Fixed": (
        "a crash on empty files", "a freeze after waking from sleep", "wrong totals in the last row",
        "a memory leak in long sessions", "missing accents in file names", "a flicker when scrolling",
        "lost settings after an update", "a wrong time zone in summer", "double entries after a retry",
        "an endless loop on bad input", "a blank page on old tablets", "a typo in the welcome text",
        "broken links in the footer", "slow loading of large tables", "a lock that was never released",
        "an error when two people save at once",
    ),
    "Removed": (
        "the old import wizard", "support for the XP installer", "the weekly tip", "the beta badge",
        "the unused plug-in folder", "the second confirmation", "the legacy colour picker", "fax numbers",
        "the hidden debug menu", "the trial banner", "the survey link", "the classic toolbar",
        "automatic restarts", "the guest account", "the tracking pixel", "the page counter",
    ),
}  # fmt: skip
_SAID = {
    "Added": (
        "{name} put in {what} for {where}, ticket {ticket}",
        "we now have {what} in {where} ({ticket})",
        "new in {where}: {what}. That closes {ticket}, thanks {name}!",
        "finally, {what}! It is in {where}, see {ticket}",
        "{ticket}: people asked for {what} in {where} and {name} built it {day}",
    ),
    "Changed": (
        "{name} reworked {what} in {where}, ticket {ticket}",
        "from now on {what} is different in {where} ({ticket})",
        "we touched {what} in {where} again, {name} did it {day}, that is {ticket}",
        "{ticket} is about {what}: it is not what it was, look at {where}",
        "after long talks {what} was altered in {where}, see {ticket}",
    ),
    "Fixed": (
        "{name} got rid of {what} in {where}, ticket {ticket}",
        "no more {what} in {where} ({ticket})",
        "{where} had {what} since {day}, that is solved now, {ticket}",
        "{ticket} can be closed: {what} in {where} was found and mended by {name}",
        "customers complained about {what} in {where}; {name} sorted it out, see {ticket}",
    ),
    "Removed": (
        "{name} took {what} out of {where}, ticket {ticket}",
        "nobody used {what}, so it is gone from {where} ({ticket})",
        "we dropped {what} from {where} {day}, that was {ticket}",
        "say goodbye to {what} in {where}, {name} deleted it, see {ticket}",
        "{ticket}: {what} no longer exists in {where}",
    ),
}
_BREAKING = (
    "Everybody has to set it up anew.", "Old configs will not work any more!", "Admins must act before they upgrade.",
    "This one breaks existing scripts.",
)  # fmt: skip
_HARMLESS = ("Nobody has to do anything.", "Tested on all platforms.", "No action needed.", "Docs are up to date.")
_NAMES = ("Dana", "Femi", "Jo", "Kaito", "Lena", "Mateo", "Priya", "Sven", "Tove", "Yusuf")
_DAYS = ("yesterday", "on Monday", "last week", "this morning", "before the holidays", "on the 3rd")
_TICKETS = ("#{}", "TK-{}", "number {}", "no. {}")


class ReleaseNote(dspy.Signature):
    """Write what the message says as a line of the release notes, in the house style."""

    message: str = dspy.InputField()
    line: str = dspy.OutputField()


def examples(count: int = 400, *, seed: int = 0) -> list[dspy.Example]:
    """Makes messages and their lines, no two alike.

    Args:
        count: How many.
        seed: Another one gives others.

    >>> print(examples(1)[0].line)
    Removed · Billing: support for the XP installer (#5242).
    """
    generator = random.Random(seed)  # noqa: S311 — reproducible, not secret
    made: dict[str, dspy.Example] = {}
    while len(made) < count:
        kind = generator.choice(list(_SAID))
        component = generator.choice(list(_COMPONENTS))
        what, number = generator.choice(_WHAT[kind]), generator.randint(1000, 9999)
        breaking = generator.random() < 0.3
        message = generator.choice(_SAID[kind]).format(
            name=generator.choice(_NAMES),
            what=what,
            where=generator.choice(_COMPONENTS[component]),
            ticket=generator.choice(_TICKETS).format(number),
            day=generator.choice(_DAYS),
        )
        after = generator.choice(_BREAKING if breaking else _HARMLESS) if breaking or generator.random() < 0.5 else ""
        stop = " " if message.endswith("!") else ". "
        message = f"{message[0].upper()}{message[1:]}" + (f"{stop}{after}" if after else "")
        line = f"{kind}{'!' if breaking else ''} · {component}: {what} (#{number})."
        made[message] = dspy.Example(message=message, line=line).with_inputs("message")
    return list(made.values())


def house_style(example: dspy.Example, prediction: Any, trace: Any = None) -> dspy.Prediction:  # noqa: ARG001
    """Scores a line: 0 where it is not in the house style, else the mean of five rules, each told where it is broken.

    The rules: the kind, whether users must act, the component, the ticket, and what it is about (F1 of its words).

    >>> example = dspy.Example(line="Fixed · Mail: a flicker when scrolling (#2041).")
    >>> house_style(example, dspy.Prediction(line="Fixed · Mail: a flicker (#2041).")).score
    0.9
    >>> house_style(example, dspy.Prediction(line="Femi fixed the flicker.")).score
    0.0
    """
    wanted, given = STYLE.fullmatch(example.line), STYLE.fullmatch(str(prediction.line).strip())
    if wanted is None:
        raise ValueError(f"the expected line is not in the house style: {example.line}")
    if given is None:
        return Score(score=0.0, feedback=f"not in the house style; right would be: {example.line}")
    rules = {
        name: float(given[group] == wanted[group])
        for group, name in enumerate(("kind", "breaking", "component"), start=1)
    }
    rules["ticket"] = float(given[5] == wanted[5])
    rules["what"] = metrics.f1("what")(dspy.Example(what=wanted[4]), dspy.Prediction(what=given[4]))
    broken = [name for name, score in rules.items() if score < 1]
    feedback = f"wrong: {', '.join(broken)}; right would be: {example.line}" if broken else "right"
    return Score(score=round(sum(rules.values()) / len(rules), 2), feedback=feedback)


def task(*, count: int = 400, seed: int = 0, **settings: Any) -> Task:
    """Makes the task.

    Args:
        count: Examples.
        seed: Of the examples and their split.
        settings: What else a `Task` may be told.

    >>> task(count=50, fractions=(0.6, 0.2, 0.2)).inputs
    ('message',)
    """
    return Task(
        program=dspy.Predict(ReleaseNote),
        examples=examples(count, seed=seed),
        inputs=["message"],
        metric=house_style,
        name="release-notes",
        seed=seed,
        **settings,
    )
