"""The command line as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from progspace.artifacts.artifact import read_artifact
from progspace.benchmarks.fault_server import KEY, echo, serving
from progspace.benchmarks.kills import Rule
from progspace.cli.arguments import show
from progspace.evaluation.rendering import report_view
from progspace.store.database import open_store
from progspace.tests.command_line import progspace

TASK = """
import dspy, progspace as ps
rows = [{"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(60)]
class Mood(dspy.Signature):
    "Tell the mood of a text."
    text: str = dspy.InputField()
    mood: __import__("typing").Literal["glad", "sad"] = dspy.OutputField()
def task():
    return ps.Task(dspy.Predict(Mood, max_tokens=16), rows, metric=ps.metrics.choice("mood"), name="mood")
other = 3
def prints():
    print("loud")
    def reward(inputs, outputs):
        print("loud")
        return 1.0
    best = dspy.BestOfN(dspy.Predict(Mood), N=2, reward_fn=reward, threshold=1.0)
    return ps.Task(best, rows, inputs=["text"], metric=ps.metrics.choice("mood"), name="mood")
def broken():
    return 1 / 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "moods.py").write_text(TASK)
    (tmp_path / "importing.py").write_text("import no_such_thing")
    (tmp_path / "unreadable.py").write_text("def task(:")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(1)")
    return tmp_path


def test_help_teaches(folder: Path) -> None:
    told = progspace("--help", folder=folder)
    assert told.returncode == 0
    for command in ("compile", "evaluate", "compare", "inspect", "run", "models"):
        assert command in told.stdout
        assert "Usage" in progspace(command, "--help", folder=folder).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["compile", "nothing"], "names no task"),
        (["compile", "none.py:task"], "none.py: no such file"),
        (["compile", "no_module:task"], "no such module"),
        (["compile", "moods.py:other"], "is not a progspace Task"),
        (["compile", "moods.py:broken"], "moods.py: broken(): ZeroDivisionError: division by zero"),
        (["compile", "unreadable.py:task"], "unreadable.py: SyntaxError"),
        # A traceback would end with 1, and that is *worse*.
        (["compare", "baseline", "baseline", "importing.py:task"], "importing.py: ModuleNotFoundError"),
        (["compare", "baseline", "baseline", "importing:task"], "importing: ModuleNotFoundError"),
        (["compare", "baseline", "baseline", "leaving.py:task"], "leaving.py: SystemExit: 1"),
        (["compare", "baseline", "a[/x]/[v2].py:task", "[/x].py:task"], "[/x].py: no such file"),
        (["compile", "moods.py:task", "--lm", "x/y", "--out", "moods.py/x"], "moods.py/x: cannot be written"),
        (["compile", "moods.py:task", "--lm", "x/y", "--html", "moods.py/x"], "moods.py/x: cannot be written"),
        (["transfer", "a", "moods.py:task", "--to", "x/y", "--out", "moods.py/x"], "moods.py/x: cannot be written"),
        (["compile", "moods.py:task", "--lm", "x/y", "--out", "."], ".: a directory; name a file in it"),
        (["compile", "moods.py:task", "--lm", "x/y", "--html", "."], ".: a directory; name a file in it"),
        (["compile", "moods.py:task", "--lm", "openai/x", "--base-url", "127.0.0.1:1/v1"], "begins with http://"),
        (["compile", "moods.py:task", "--lm", "local:/no/model"], "progspace models install smollm2-135m"),
        (["compile", "moods.py:task", "--calls", "0"], "--calls"),
        (["compile", "moods.py:task", "--lm", "x/y", "--race", "fast"], "there is no race 'fast'; there is"),
        (
            ["compile", "moods.py:task", "--lm", "x/y", "--space", '{"lms": {"large": "openai/x"}}'],
            "'openai/x' is no LM: in Python, ps.lm('openai/x') makes one",
        ),
        (["compile", "moods.py:task", "--lm", "x/y", "--limit", "tokens=-5"], "a limit of tokens below 0"),
        (["compile", "moods.py:task", "--usd", "0", "--dry-run"], "'--usd': Input should be greater than 0"),
        (["compile", "moods.py:task", "--usd", "0", "--calls", "60"], "'--usd': Input should be greater than 0"),
        (["compile", "moods.py:task", "--minutes", "0"], "'--minutes': Input should be greater than 0"),
        (["compile", "moods.py:task", "--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
        (["compare", "a", "b", "moods.py:task", "--seed", "-1"], "'--seed'"),
        (["transfer", "a", "moods.py:task", "--to", "openai/x", "--seed", "-1"], "'--seed'"),
        (["compile", "moods.py:task", "--minutes", "-1"], "'--minutes': Input should be greater than 0"),
        (
            ["compile", "moods.py:task", "--lm", "x/y", "--minutes", "inf", "--dry-run"],
            "'--minutes': Input should be a finite number",
        ),
        (
            ["compile", "moods.py:task", "--lm", "x/y", "--usd", "inf", "--dry-run"],
            "'--usd': Input should be a finite number",
        ),
        (["compile", "moods.py:task", "--lm", "x/y", "--limit", "tokens=nan"], "a limit of tokens has to be a finite"),
        (
            ["compile", "moods.py:task", "--lm", "x/y", "--space", '{"votes": [0]}', "--dry-run"],
            "--space: votes.0: Input should be greater than or equal to 1",
        ),
        (["run", "none.progspace.json"], "cannot be read"),
        (["inspect", "none.progspace.json"], "cannot be read"),
        (["models", "install", "gpt-9"], "no embedded model is called"),
        (["fly"], "fly"),
    ],
)
def test_bad_input_is_told_in_a_sentence(folder: Path, arguments: list[str], told: str) -> None:
    done = progspace(*arguments, folder=folder)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_what_stands_in_brackets_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = progspace("serve", "x.progspace.json", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "progspace: serving needs uvicorn: pip install 'progspace[serve]'\n"


@pytest.mark.parametrize(("fault", "status"), [(RuntimeError("of ours"), 2), (KeyboardInterrupt(), 130)])
def test_what_was_not_foreseen_is_not_worse(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, status: int
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr("progspace.inspection.task_view", fail)
    done = progspace("inspect", "moods.py:task", folder=folder)
    assert done.returncode == status
    assert ("Traceback" in done.stderr, "of ours" in done.stderr) == (status == 2, status == 2)
    assert ("progspace: interrupted" in done.stderr) is (status == 130)


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_where_nobody_reads_on_it_leaves_quietly(folder: Path, how: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "progspace.cli", "inspect", "moods.py:task", *how],
        cwd=folder, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("command", "status"),
    [("gate x y 2>&-", 2), ("gate x y 2>/dev/full", 2), ("models list >&-", 0), ("models list >&- 2>&-", 0)],
)
def test_closed_and_full_streams_change_no_verdict(folder: Path, command: str, status: int) -> None:
    done = subprocess.run(f"{sys.executable} -m progspace.cli {command}", cwd=folder, shell=True, check=False)  # noqa: S602
    assert done.returncode == status


def test_a_group_without_a_command_tells_its_own(folder: Path) -> None:
    done = progspace("models", folder=folder)
    assert "list" in done.stdout + done.stderr
    assert "progspace: \n" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_whatever_the_encoding_of_standard_output(folder: Path, encoding: str) -> None:
    (folder / "moods.py").write_text(TASK.replace("Tell the mood", "Tell the mōöd −"), encoding="utf-8")
    shown = progspace("inspect", "moods.py:task", folder=folder, encoding=encoding)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Tell the m\\u014d" in shown.stdout
    told = progspace("inspect", "moods.py:task", "--json", folder=folder, encoding=encoding)
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)["predictors"]["self"]["instruction"] == "Tell the mōöd − of a text."


def test_a_narrow_terminal_cuts_nothing_off(
    folder: Path, make_artifact: Callable[..., Path], mood: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "20")
    artifact = read_artifact(make_artifact(folder / "x.progspace.json", dspy.Predict(mood)))
    show({}, report_view(artifact.report), as_json=False)
    assert "baseline 50.0 % 30 40 1" in " ".join(capsys.readouterr().out.split())


def test_from_a_task_to_answers(local_lm: dspy.LM, folder: Path) -> None:
    few = ("--calls", "60", "--test-rows", "4", "--space", json.dumps({"formats": ["compact"], "votes": [1]}))
    done = progspace("compile", "moods.py:task", *few, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["artifact"] == "mood.progspace.json"
    assert document["report"]["rungs"][0]["name"] == "baseline"
    assert "baseline" in done.stderr

    run = progspace("run", "mood.progspace.json", "text=sun again", folder=folder)
    assert run.stdout.strip() in ("mood: glad", "mood: sad")
    piped = progspace("run", "mood.progspace.json", folder=folder, stdin='{"text": "sun"}\n{"text": "rain"}\n')
    assert [set(json.loads(line)) for line in piped.stdout.splitlines()] == [{"mood"}, {"mood"}]
    broken = progspace("run", "mood.progspace.json", folder=folder, stdin='{"text": "sun"}\nsun\n')
    assert (broken.returncode, "row 2" in broken.stderr) == (2, True)

    inspected = progspace("inspect", "mood.progspace.json", folder=folder)
    assert "predictor self" in inspected.stdout
    assert all(len(line) <= 80 for line in inspected.stdout.splitlines())
    assert json.loads(progspace("inspect", "moods.py:task", "--json", folder=folder).stdout)["name"] == "mood"

    same = progspace(
        "compare",
        "mood.progspace.json",
        "mood.progspace.json",
        "moods.py:task",
        "--fail-if-worse",
        "--json",
        folder=folder,
    )
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["difference"] == 0.0
    assert json.loads(same.stdout)["gate"]["why"] == "both are one program"
    evaluated = progspace("evaluate", "mood.progspace.json", "moods.py:task", "--json", folder=folder)
    assert json.loads(evaluated.stdout)["n"] == len(json.loads(evaluated.stdout)["rows"])


def test_an_artifact_of_an_endpoint_runs_where_it_is_told(
    folder: Path, make_artifact: Callable[..., Path], mood: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made_for = {"model": "openai/rule", "settings": {}, "engine": {"class": "RemoteEngine"}}
    make_artifact(folder / "x.progspace.json", dspy.Predict(mood), made_for=made_for)
    command = ("run", "x.progspace.json", "text=sun again")
    for more, told in (
        ((), "which cannot be made from its name: ps.load(path, lm=your_lm), or --lm (and --base-url)"),
        (("--base-url", "http://127.0.0.1:1/v1"), "--base-url says where the LM of --lm is: give both"),
    ):
        refused = progspace(*command, *more, folder=folder)
        assert refused.returncode == 2
        assert told in " ".join(refused.stderr.split())
    with serving(answer=lambda _: "[[ ## mood ## ]]\nglad\n\n[[ ## completed ## ]]") as server:
        done = progspace(*command, "--lm", "openai/rule", "--base-url", server.url, folder=folder)
        rows = '{"text": "sun"}\n{"txt": "rain"}\n'
        mistyped = progspace(*command[:2], "--lm", "openai/rule", "--base-url", server.url, folder=folder, stdin=rows)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mood: glad\n"
    assert (mistyped.returncode, mistyped.stdout) == (2, '{"mood": "glad"}\n')
    told = " ".join(mistyped.stderr.split())
    assert "row 2, field 'txt': the program has no such input; its inputs are text" in told
    with serving(answer=lambda _: "nonsense") as server:
        unreadable = progspace(*command, "--lm", "openai/rule", "--base-url", server.url, folder=folder)
    assert (unreadable.returncode, unreadable.stdout) == (2, "")
    assert "no answer: AdapterParseError" in unreadable.stderr
    assert "Traceback" not in unreadable.stderr


def _mood(prompt: str) -> str:
    return "glad" if "sun" in prompt.rsplit("## text ##", 1)[-1] else "who knows?"


def test_what_a_program_prints_is_no_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(answer=lambda body: f"[[ ## mood ## ]]\n{_mood(echo(body))}") as server:
        lm = ("--lm", "openai/rule", "--base-url", server.url, "--json")
        done = progspace("evaluate", "baseline", "moods.py:prints", *lm, folder=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] > 0
    assert "loud" in done.stderr
    assert "BestOfN: Attempt 1 failed" in done.stderr  # DSPy's own print
    shown = progspace("inspect", "moods.py:prints", folder=folder)
    assert ("loud" in shown.stdout, "loud" in shown.stderr) == (False, True)


def test_a_page_that_cannot_be_written_takes_no_report_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a name in brackets is one, wherever it stands."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def full(*_: Any) -> None:
        raise OSError("no room")

    with serving(answer=lambda _: "[[ ## mood ## ]]\nglad\n\n[[ ## completed ## ]]") as server:
        lm = ("--lm", "openai/rule", "--base-url", server.url)
        few = ("--calls", "30", "--test-rows", "4", "--space", json.dumps({"formats": ["compact"], "votes": [1]}))
        out = ("--out", "runs[v2]/[/x].progspace.json", "--html", "pages[v2]/[/x].html")
        monkeypatch.setattr("progspace.evaluation.page.html.replace_text", full)
        done = progspace("compile", "moods.py:task", *lm, *few, *out, folder=folder)
        monkeypatch.undo()
    assert done.returncode == 2, done.stderr
    assert "baseline" in done.stdout
    assert "saved: runs[v2]/[/x].progspace.json\nprogspace: pages[v2]/[/x].html: cannot be written" in done.stderr
    page = progspace("report", out[1], "--html", out[3], folder=folder)
    assert (page.returncode, page.stderr) == (0, f"page: {out[3]}\n")


def test_interrupted_it_tells_the_best_so_far_and_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(answer=Rule(), seconds=0.02) as server:
        few = ("--calls", "150", "--test-rows", "5")
        command = ["compile", "sentiment", "--lm", "openai/rule", "--base-url", server.url, *few]
        running = subprocess.Popen(
            [sys.executable, "-m", "progspace.cli", *command],
            cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            # A shell starts what runs in the background with SIGINT ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        while len(server.bodies) < 60:
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        told = running.communicate(timeout=120)[1]
        assert running.returncode == 130
        assert "run the same command again" in " ".join(told.split())
        with open_store(folder / ".progspace" / "store.db") as store:
            bought = store.count("answers")
        assert bought > 0
        again = progspace(*command, folder=folder)
        assert again.returncode == 0, again.stderr
        assert "answered before, and free" in " ".join(again.stdout.split())
        with open_store(folder / ".progspace" / "store.db") as store:
            assert store.count("answers") > bought
