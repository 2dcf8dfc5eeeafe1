"""Cells are bought once, failures are data, and a budget ends the buying with everything kept."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import dspy
import pytest
from dspy.lm15 import ServerError
from dspy.utils.callback import BaseCallback

import progspace as ps
from progspace.evaluation.evaluation import check_cells, compare_cells, evaluate_cells
from progspace.evaluation.identity import program_identity
from progspace.evaluation.matrix import Matrix
from progspace.evaluation.runner import Scoring, Work, run_cells
from progspace.lms.budget import Meter
from progspace.programs.answering import Answering
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.nearest import Nearest
from progspace.store.database import Store

METRIC = ps.metrics.choice("mood")


def rule(prompt: str) -> str:
    return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.split('Text')[-1].split('## text ##')[-1] else 'sad'}"


def faulty(prompt: str) -> str:
    """Fails on the fourth row, and does not answer the sixth."""
    if "day 3]" in prompt or "day 3\n" in prompt:
        raise ServerError("overloaded")
    return "I would rather not say." if "day 5\n" in prompt else rule(prompt)


def examples(rows: list[dict[str, str]]) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in rows]


def test_a_second_run_buys_nothing(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    engine, meter = rule_engine(rule), Meter()
    matrix = Matrix(store, METRIC, engine.lm(), meter)
    rows = examples(mood_rows)
    first = matrix.fill(dspy.Predict(mood), rows)
    assert [cell.score for cell in first] == [1.0] * 100
    assert [cell.calls for cell in first] == [1] * 100
    assert all(cell.input_tokens > 0 for cell in first)
    assert matrix.fill(dspy.Predict(mood), rows) == first
    assert matrix.fill(dspy.Predict(mood), rows[::-1]) == first[::-1]
    assert len(engine.prompts) == meter.spent.bought == 100
    evaluation = evaluate_cells(first, rows)
    assert (evaluation.score, evaluation.n, evaluation.errors) == (1.0, 100, 0)
    assert evaluation.to_dict()["rows"][0]["expected"] == {"mood": mood_rows[0]["mood"]}


def test_a_metric_that_counts_is_one_metric_while_it_runs(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    seen: list[str] = []

    def counting(example: Any, prediction: Any) -> bool:
        seen.append(prediction.mood)
        return bool(example.mood == prediction.mood)

    matrix = Matrix(store, counting, rule_engine(rule).lm(), Meter())
    rows = examples(mood_rows[:5])
    assert matrix.fill(dspy.Predict(mood), rows) == matrix.fill(dspy.Predict(mood), rows)
    assert len(seen) == 5


def test_another_state_format_or_lm_is_another_program(rule_engine: Any, mood: Any) -> None:
    lm = rule_engine(rule).lm()
    module = dspy.Predict(mood)
    shown = Candidate.declared(module).with_choice(demonstrations=({"text": "a", "mood": "sad"},))
    formatted = Candidate.declared(module).with_choice(format=Format(kind="compact"))
    variants = [
        program_identity(module, lm),
        program_identity(module, rule_engine(rule).lm("rule/two")),
        program_identity(module, rule_engine(rule).lm(temperature=1.0)),
        program_identity(shown.apply(module), lm),
        program_identity(formatted.apply(module), lm),
        program_identity(dspy.ChainOfThought(mood), lm),
    ]
    assert len(set(variants)) == len(variants)
    assert variants[0] == program_identity(dspy.Predict(mood), rule_engine(rule).lm())
    assert formatted.with_choice(origin="another name").hash == formatted.hash


class Around(dspy.Module):
    def __init__(self, *inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, text: str) -> Any:
        return self.inner[0](text=text)


def frozen(program: dspy.Module) -> dspy.Module:
    program._compiled = True  # as a teleprompter leaves it
    return Around(program)


def wrapped(program: dspy.Module) -> dspy.Module:
    app = Around(frozen(program))
    return Candidate.declared(app).apply(app)


@pytest.mark.parametrize(
    "wrap",
    [
        Around,
        frozen,
        wrapped,
        lambda program: Around({"mood": [program]}),
        lambda program: Around(lambda text: program(text=text)),
        lambda program: ps.guarded(program, timeout=9),
        lambda program: dspy.BestOfN(program, N=1, reward_fn=METRIC, threshold=0.5),
        lambda program: dspy.Ensemble().compile([program]),
    ],
)
def test_versions_of_a_program_inside_of_another_are_two(rule_engine: Any, mood: Any, wrap: Any) -> None:
    lm, module = rule_engine(rule).lm(), dspy.Predict(mood)
    declared = Candidate.declared(module)
    shown = ({"text": "a", "mood": "sad"}, {"text": "b", "mood": "glad"})
    candidates = [
        declared,
        declared.with_choice(format=Format(kind="compact")),
        declared.with_choice(format=Format(kind="json")),
        declared.with_choice(answering=Answering(reasoning=True)),
        declared.with_choice(nearest=Nearest(pool=shown, count=1)),
    ]

    def identities() -> list[str]:
        own = [rule_engine(rule).lm(f"rule/{name}") for name in "ab"]
        versions = [*(each.apply(module) for each in candidates), *(declared.apply(module, each) for each in own)]
        return [program_identity(wrap(each), lm) for each in versions]

    assert len(set(identities())) == len(candidates) + 2
    assert identities() == identities()


def test_a_manner_that_no_program_heeds_makes_no_other_program(rule_engine: Any, mood: Any) -> None:
    lm, module = rule_engine(rule).lm(), dspy.Predict(mood)
    program = Candidate.declared(module).with_choice(format=Format(kind="compact")).apply(module)
    assert program_identity(program.module, lm) == program_identity(module, lm)
    assert program_identity(Around(program.module), lm) == program_identity(Around(module), lm)


def test_what_the_program_gets_wrong_scores_nothing_and_what_the_lm_fails_is_no_score(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    rows = examples(mood_rows[:10])
    engine = rule_engine(faulty)
    matrix = Matrix(store, METRIC, engine.lm(), Meter())
    cells = matrix.fill(dspy.Predict(mood), rows)
    assert cells[3].score is None
    assert "overloaded" in str(cells[3].error)
    assert cells[5].score == 0.0
    assert str(cells[5].error).startswith("AdapterParseError")
    assert cells[5].calls == 2  # DSPy tries JSON after its chat format
    evaluation = evaluate_cells(cells, rows)
    assert (evaluation.n, evaluation.failed, evaluation.errors) == (9, 1, 1)
    assert evaluation.score == pytest.approx(8 / 9)
    asked = len(engine.prompts)
    engine.rule = rule
    healed = matrix.fill(dspy.Predict(mood), rows)
    assert healed[3].score == 1.0
    assert len(engine.prompts) == asked + 1  # only what had failed is bought again


class InThreads(dspy.Module):
    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.predict = dspy.Predict(mood)

    def forward(self, text: str) -> dspy.Prediction:
        both = examples([{"text": text}, {"text": "sun"}])
        first, _ = self.predict.batch(both, num_threads=2, disable_progress_bar=True)
        return dspy.Prediction(mood=first.mood)


def test_what_breaks_because_the_lm_failed_in_a_thread_of_dspys_is_no_score(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    engine = rule_engine(faulty)
    matrix = Matrix(store, METRIC, engine.lm(), Meter())
    cells = matrix.fill(InThreads(mood), examples(mood_rows[:10]))
    assert [cell.score for cell in cells] == [1.0] * 3 + [None, 1.0, 0.0] + [1.0] * 4
    assert "overloaded" in str(cells[3].error)
    assert "NoneType" in str(cells[5].error)
    engine.rule = rule
    assert matrix.fill(InThreads(mood), examples(mood_rows[:10]))[3].score == 1.0


class Broken(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("text -> mood")

    def forward(self, text: str) -> dspy.Prediction:
        raise KeyError(f"no such thing as {len(text) * 0}")


def test_an_adapter_of_the_apps_own_is_part_of_a_program(rule_engine: Any, mood: Any) -> None:
    class Own(dspy.ChatAdapter):
        def __init__(self, told: str) -> None:
            super().__init__()
            self.told = told

    def identity(adapter: dspy.Adapter | None, program: dspy.Module) -> str:
        with dspy.context(adapter=adapter):
            return program_identity(program, rule_engine(rule).lm())

    declared = Candidate.declared(dspy.Predict(mood))
    compact = declared.with_choice(format=Format(kind="compact")).apply(dspy.Predict(mood))
    for program in (dspy.Predict(mood), declared.apply(dspy.Predict(mood))):
        one, same, other = (identity(Own(told), program) for told in ("a", "a", "b"))
        assert one == same != other
        assert identity(None, program) not in (one, identity(dspy.XMLAdapter(), program))
    assert identity(Own("a"), compact) == identity(None, compact)


def test_a_program_or_lm_that_always_fails_is_an_error(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    rows = examples(mood_rows[:6])

    def cut(prompt: str) -> str:
        raise ServerError("down")

    with pytest.raises(ps.ProgramError, match="failed on each of 6 examples: KeyError"):
        check_cells(Matrix(store, METRIC, rule_engine(rule).lm(), Meter()).fill(Broken(), rows))
    with pytest.raises(ps.LMError, match="answered on none of 6"):
        check_cells(Matrix(store, METRIC, rule_engine(cut).lm(), Meter()).fill(dspy.Predict(mood), rows))


def test_a_metric_that_raises_is_told_and_what_was_paid_is_kept(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    def strict(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(example.stars)

    matrix = Matrix(store, strict, rule_engine(rule).lm(), Meter(), workers=2)
    with pytest.raises(ps.MetricError, match="stars"):
        matrix.fill(dspy.Predict(mood), examples(mood_rows[:4]))
    assert store.count("answers") >= 1


def test_the_budget_ends_it_and_what_was_bought_is_stored(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    engine, rows = rule_engine(rule), examples(mood_rows)
    with pytest.raises(ps.BudgetExceeded):
        Matrix(store, METRIC, engine.lm(), Meter(ps.Budget(calls=30)), workers=4).fill(dspy.Predict(mood), rows)
    assert len(engine.prompts) == 30
    assert store.count("answers") == 30
    Matrix(store, METRIC, engine.lm(), Meter()).fill(dspy.Predict(mood), rows)
    assert len(engine.prompts) == 100


def test_interrupted_while_threads_begin_none_is_left_waiting(
    rule_engine: Any, mood: Any, mood_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with a thread that waits for ever does not end."""
    start, begun = threading.Thread.start, list[threading.Thread]()

    def interrupted(thread: threading.Thread) -> None:
        if len(begun) == 3:
            raise KeyboardInterrupt
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    work = Work(dspy.Predict(mood), Scoring.of(METRIC), "p", rule_engine(rule).lm())
    with pytest.raises(KeyboardInterrupt):
        list(run_cells(work.run, examples(mood_rows), lambda: 8))
    assert not any(thread.is_alive() for thread in begun)


def test_at_most_so_many_run_and_no_more_than_twice_as_many_wait(rule_engine: Any, mood: Any) -> None:
    running, most, taken = 0, 0, 0
    lock = threading.Lock()
    gate = threading.Event()

    def slow(prompt: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(0.01)
        with lock:
            running -= 1
        return rule(prompt)

    class Rows(list[dspy.Example]):
        def __iter__(self) -> Any:
            nonlocal taken
            for row in super().__iter__():
                taken += 1
                yield row

    rows = Rows(examples([{"text": f"sun {i}", "mood": "glad"} for i in range(60)]))
    done = 0
    work = Work(dspy.Predict(mood), Scoring.of(METRIC), "p", rule_engine(slow).lm())
    for runs in run_cells(work.run, rows, lambda: 3):
        done += len(runs)
        assert taken - done <= 6
    assert (done, most) == (60, 3)


def test_settings_of_the_caller_hold_in_the_threads(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    engine = rule_engine(lambda prompt: '{"mood": "glad"}')
    with dspy.context(adapter=dspy.JSONAdapter()):
        cells = Matrix(store, METRIC, engine.lm(), Meter()).fill(dspy.Predict(mood), examples(mood_rows[:2]))
    assert [cell.calls for cell in cells] == [1, 1]
    assert all("JSON" in prompt for prompt in engine.prompts)


def test_a_comparison_is_paired(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    rows = examples(mood_rows)
    good = Matrix(store, METRIC, rule_engine(rule).lm("rule/good"), Meter()).fill(dspy.Predict(mood), rows)
    glad = rule_engine(lambda prompt: "[[ ## mood ## ]]\nglad").lm("rule/glad")
    always = Matrix(store, METRIC, glad, Meter()).fill(dspy.Predict(mood), rows)
    comparison = compare_cells(good, always, rows, names=("good", "glad"))
    assert comparison.difference == pytest.approx(0.5)
    assert comparison.p_value < 1e-6
    assert comparison.interval.low < 0.5 < comparison.interval.high
    assert (len(comparison.better), len(comparison.worse)) == (50, 0)


def test_a_programs_own_lms_are_metered_and_journaled_as_well(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    rows, engine, other = examples(mood_rows[:10]), rule_engine(rule), rule_engine(rule)
    compiled = Candidate.declared(dspy.Predict(mood)).apply(dspy.Predict(mood), engine.lm())
    predictor = dspy.Predict(mood)
    predictor.lm = other.lm("rule/own")
    for program, asked in ((compiled, engine), (predictor, other)):
        meter = Meter(ps.Budget(calls=10))
        matrix = Matrix(store, METRIC, engine.lm(), meter)
        cells = matrix.fill(program, rows)
        assert [cell.calls for cell in cells] == [1] * 10
        assert (meter.spent.bought, len(asked.prompts)) == (10, 10)
        assert matrix.fill(program, rows) == cells
        assert {run.trace[0][0] for run in matrix.traces(program, rows).values()} == {"self"}
        assert meter.spent.bought == 10
    assert compiled.own_lm is not None
    assert predictor.lm.model == "rule/own"
    assert Matrix(store, METRIC, engine.lm(), Meter()).fill(
        Candidate.declared(dspy.Predict(mood)).apply(predictor), rows
    )


@pytest.mark.parametrize("inside", [lambda each: each, lambda each: [each], lambda each: {"mood": each}])
def test_the_own_lm_of_a_program_inside_of_another_is_metered_and_journaled_as_well(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, inside: Any
) -> None:
    rows, engine, other = examples(mood_rows[:10]), rule_engine(rule), rule_engine(rule)
    version = Candidate.declared(dspy.Predict(mood)).apply(dspy.Predict(mood), other.lm("rule/own"))
    own = version.own_lm
    module = Around(version, inside(version))
    for metric in (METRIC, ps.metrics.exact_match("mood")):
        meter = Meter(ps.Budget(calls=10))
        cells = Matrix(store, metric, engine.lm(), meter).fill(module, rows)
        assert ([cell.calls for cell in cells], meter.spent.calls) == ([1] * 10, 10)
        assert (len(engine.prompts), len(other.prompts)) == (0, 10)
    assert version.own_lm is own


class Leaky(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tell = dspy.Predict("text, hint -> mood")

    def forward(self, text: str, hint: str = "none") -> Any:
        return self.tell(text=text, hint=hint)


def test_a_field_that_is_no_longer_given_gives_other_cells(rule_engine: Any, store: Store, mood_rows: Any) -> None:
    """Who had taken a field out that gave the label away got the scores of before."""
    engine = rule_engine(lambda prompt: f"[[ ## mood ## ]]\n{prompt.rpartition('[[ ## hint ## ]]')[2].split()[0]}")
    rows = [{**row, "hint": row["mood"]} for row in mood_rows]
    leaky, mended = (ps.Task(Leaky(), rows, inputs, metric=METRIC) for inputs in (["text", "hint"], ["text"]))
    matrices = [Matrix.of(task, store, engine.lm(), Meter()) for task in (leaky, mended)]
    for matrix, score in zip(matrices, (1.0, 0.0), strict=True):
        given = mended.inputs if score == 0.0 else leaky.inputs
        cells = matrix.fill(Leaky(), [example.with_inputs(*given) for example in leaky.dev])
        assert {cell.score for cell in cells} == {score}
        assert {cell.program for cell in cells} == {matrix.identity(Leaky())}
    assert matrices[0].identity(Leaky()) == program_identity(Leaky(), engine.lm())
    assert matrices[1].identity(Leaky()) != program_identity(Leaky(), engine.lm())


def test_how_an_adapter_asks_makes_another_program(rule_engine: Any) -> None:
    lm, program = rule_engine(rule).lm(), dspy.Predict("text -> mood")
    lms = [dspy.LM(f"openai/{name}", api_key="none") for name in "ab"]
    adapters = [
        dspy.ChatAdapter(),
        dspy.ChatAdapter(use_json_adapter_fallback=False),
        dspy.ChatAdapter(use_native_function_calling=True),
        dspy.JSONAdapter(),
        *(dspy.TwoStepAdapter(each) for each in lms),
    ]

    def identity(adapter: dspy.Adapter) -> str:
        with dspy.context(adapter=adapter):
            return program_identity(program, lm)

    assert len(set(map(identity, adapters))) == len(adapters)
    assert identity(dspy.TwoStepAdapter(lms[0].copy(api_key="another"))) == identity(adapters[4])
    assert identity(dspy.ChatAdapter(callbacks=[BaseCallback()])) == identity(dspy.ChatAdapter())
    # Cells in stores are kept by it: a change of the identity is a change that buys them anew.
    plain = program_identity(program, dspy.LM("openai/x"))
    with dspy.context(adapter=dspy.ChatAdapter()):
        told = program_identity(dspy.Predict("text -> label"), dspy.LM("openai/x"))
    assert (told, len(plain)) == ("6fe51e88674415b536e59f0e", 24)  # pragma: allowlist secret


class Found(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.retrieve, self.answer = dspy.Retrieve(k=1), dspy.Predict("text, passages -> mood")


class Documents(dspy.Retrieve):
    def __init__(self, passage: str) -> None:
        super().__init__(k=1)
        self.passage = passage


def test_what_a_retrieve_finds_makes_another_program_of_it_alone(rule_engine: Any) -> None:
    lm = rule_engine(rule).lm()

    def identities(rm: Any) -> tuple[str, str]:
        with dspy.context(rm=rm):
            return program_identity(Found(), lm), program_identity(dspy.Predict("text -> mood"), lm)

    rms = [None, Documents("a"), Documents("b"), dspy.ColBERTv2("http://a.example"), dspy.ColBERTv2("http://b.example")]
    found, others = zip(*map(identities, rms), strict=True)
    assert (len(set(found)), len(set(others))) == (5, 1)
    assert identities(Documents("a")) == identities(rms[1])


def test_lms_of_frozen_parts_count_and_are_counted(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    class Around(dspy.Module):
        def __init__(self, lm: dspy.BaseLM) -> None:
            super().__init__()
            self.inner = dspy.ChainOfThought(mood)
            self.inner.predict.lm, self.inner._compiled = lm, True

        def forward(self, text: str) -> dspy.Prediction:
            return self.inner(text=text)

    engines = [
        rule_engine(lambda _, said=said: f"[[ ## reasoning ## ]]\nSo.\n\n[[ ## mood ## ]]\n{said}")
        for said in ("glad", "sad")
    ]
    programs = [Around(engine.lm(name)) for engine, name in zip(engines, ("rule/a", "rule/b"), strict=True)]
    meter = Meter()
    matrix = Matrix(store, METRIC, rule_engine(rule).lm(), meter)
    assert matrix.identity(programs[0]) != matrix.identity(programs[1])
    rows = examples(mood_rows[:4])
    for program in programs:
        filled = matrix.fill(program, rows)
        assert [cell.calls for cell in filled] == [1] * 4
        assert matrix.fill(program, rows) == filled
    assert sum(len(engine.prompts) for engine in engines) == meter.spent.bought == 8


def test_known_cells_count_at_the_price_of_the_lm_that_answered(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    dear, cheap = rule_engine(rule), rule_engine(rule)
    dear.price, cheap.price = ps.Price(100.0, 100.0), ps.Price(0.01, 0.01)
    program = dspy.Predict(mood)
    program.lm = dear.lm("rule/dear")
    rows = examples(mood_rows[:20])

    def left(usd: float) -> tuple[float, int | None]:
        meter = Meter(ps.Budget(usd=usd))
        Matrix(store, METRIC, cheap.lm("rule/cheap"), meter).fill(program, rows)
        return meter.spent.usd, meter.calls_left

    paid, _ = left(1.0)
    assert 0.01 < paid < 1.0
    assert left(1.01 * paid) == (0.0, None)
    assert left(0.99 * paid) == (0.0, 0)


class Leaving(dspy.Module):
    """Ends the process, or its task, on some rows, as what is meant for a command line does."""

    def __init__(self, signature: Any, fault: BaseException) -> None:
        super().__init__()
        self.predict, self.fault = dspy.Predict(signature), fault

    def forward(self, text: str) -> dspy.Prediction:
        if text.endswith("3"):
            raise self.fault
        return self.predict(text=text)


@pytest.mark.parametrize("fault", [SystemExit("no such day"), asyncio.CancelledError("no such day")])
def test_a_module_that_would_end_the_process_ends_its_row(
    fault: BaseException, rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    cells = Matrix(store, METRIC, rule_engine(rule).lm(), Meter()).fill(Leaving(mood, fault), examples(mood_rows[:10]))
    assert [cell.score for cell in cells] == [0.0 if number == 3 else 1.0 for number in range(10)]
    assert cells[3].error == f"{type(fault).__name__}: no such day"


def test_an_interrupt_ends_them_all(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        Matrix(store, METRIC, rule_engine(rule).lm(), Meter()).fill(
            Leaving(mood, KeyboardInterrupt()), examples(mood_rows[:10])
        )


async def mood_of(text: str) -> str:
    """Tells a mood."""
    await asyncio.sleep(0)
    return "glad" if "sun" in text else "sad"


def steps(prompt: str) -> str:
    """Asks the tool of a ``dspy.ReAct``, and says what it said."""
    asked = prompt.rpartition("[[ ## text ## ]]")[2]
    if "[[ ## next_tool_name ## ]]" not in prompt:
        said = asked.partition("[[ ## observation_0 ## ]]\n")[2].partition("\n")[0]
        return f"[[ ## reasoning ## ]]\nSo.\n\n[[ ## mood ## ]]\n{said}"
    tool, told = ("finish", {}) if "observation_0" in asked else ("mood_of", {"text": asked.split("\n")[1]})
    return (
        f"[[ ## next_thought ## ]]\nSo.\n\n[[ ## next_tool_name ## ]]\n{tool}\n\n"
        f"[[ ## next_tool_args ## ]]\n{json.dumps(told)}"
    )


class Side(dspy.Module):
    """Runs an agent in DSPy's own threads."""

    def __init__(self, agent: dspy.Module) -> None:
        super().__init__()
        self.agent = agent

    def forward(self, text: str) -> dspy.Prediction:
        (answer,) = dspy.Parallel(num_threads=2, disable_progress_bar=True)([(self.agent, {"text": text})])
        return answer


@pytest.mark.filterwarnings("ignore:coroutine 'mood_of' was never awaited")
@pytest.mark.parametrize("around", [lambda agent: agent, Side])
async def test_an_async_tool_is_called_or_it_is_told_that_it_is_not(
    around: Any, rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    agent = around(dspy.ReAct(mood, tools=[mood_of], max_iters=3))
    matrix, rows = Matrix(store, METRIC, rule_engine(steps).lm(), Meter()), examples(mood_rows[:6])
    with pytest.raises(ps.ProgramError, match="calls an async tool"):
        matrix.fill(agent, rows)
    with dspy.context(allow_tool_async_sync_conversion=True):
        assert [cell.score for cell in matrix.fill(agent, rows)] == [1.0] * 6
        assert matrix.identity(dspy.Predict(mood)) == program_identity(dspy.Predict(mood), matrix.lm)
        called = matrix.identity(agent)
    # What older releases measured of it, with every call refused, is known under this one.
    assert matrix.identity(agent) != called
    assert matrix.identity(dspy.Predict(mood)) == program_identity(dspy.Predict(mood), matrix.lm)


class Interpreter(dspy.PythonInterpreter):
    pass


def test_an_interpreter_of_the_settings_makes_another_program_of_what_runs_code(rule_engine: Any, mood: Any) -> None:
    lm = rule_engine(rule).lm()
    running = [dspy.ProgramOfThought(mood), Side(dspy.RLM("text -> mood"))]

    def identities(factory: Any) -> list[str]:
        with dspy.context(interpreter_factory=factory):
            return [program_identity(each, lm) for each in (*running, dspy.Predict(mood))]

    plain, default, other = map(identities, (None, dspy.PythonInterpreter, Interpreter))
    assert plain == default
    assert [one == another for one, another in zip(plain, other, strict=True)] == [False, False, True]


def test_lms_of_what_cannot_be_copied_are_metered_in_a_copy_of_it(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    class Team(dspy.Module):
        def __init__(self, lm: dspy.BaseLM) -> None:
            super().__init__()
            self.members = [dspy.Predict(mood), threading.Lock()]
            self.members[0].lm = lm

        def forward(self, text: str) -> dspy.Prediction:
            return self.members[0](text=text)

    lm, meter = rule_engine(rule).lm("rule/own"), Meter()
    team = Team(lm)
    Matrix(store, METRIC, rule_engine(rule).lm(), meter).fill(team, examples(mood_rows[:4]))
    assert (meter.spent.bought, team.members[0].lm) == (4, lm)


def test_a_metric_may_read_what_an_output_took(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    def tokens(example: Any, prediction: Any) -> float:
        (used,) = prediction.get_lm_usage().values()
        return float(used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"] > 0)

    rows = examples(mood_rows[:4])
    with dspy.context(track_usage=True):
        cells = Matrix(store, tokens, rule_engine(rule).lm(), Meter()).fill(dspy.Predict(mood), rows)
    assert [cell.score for cell in cells] == [1.0] * 4
