from __future__ import annotations

import asyncio
import datetime
import enum
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import numpy
import pytest

import progspace as ps
from progspace.monitoring.redaction import personal
from progspace.programs.formats import Format
from progspace.retrievers import Passage, Passages
from progspace.store.database import Store, open_store
from progspace.store.traces import Trace, put_feedback, put_traces, read_traces

Echo = Callable[..., dspy.Predict]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Watches a program, in a store of the test."""
    made = list[Any]()

    def watch(program: dspy.Module, **settings: Any) -> Any:
        made.append(ps.watch(program, **{"store": tmp_path / "t.db", **settings}))
        return made[-1]

    yield watch
    for each in made:
        each.close()


def traces(watched: Any, folder: Path) -> list[Trace]:
    assert watched.flush()
    with open_store(folder / "t.db") as store:
        return read_traces(store)


def test_each_call_leaves_a_trace_without_its_content(echo: Echo, watched: Any, tmp_path: Path) -> None:
    program = watched(echo(), name="mood", version="v1")
    with dspy.track_usage() as usage:
        first = program(text="a secret")
    second = asyncio.run(program.acall(text="another"))
    assert (first.label, second.label) == ("glad", "glad")
    assert usage.get_total_tokens()["rule/one"]["completion_tokens"] == 1  # who counts outside still does
    found = traces(program, tmp_path)
    assert [trace.id for trace in found] == [program.trace_id(first), program.trace_id(second)]
    for trace in found:
        assert (trace.name, trace.version, trace.calls, trace.output_tokens) == ("mood", "v1", 1, 1)
        assert trace.input_tokens > 20
        assert trace.seconds > 0
        assert (trace.error, trace.inputs, trace.outputs, trace.abstained) == (None, None, None, False)
    assert b"secret" not in (tmp_path / "t.db").read_bytes() + (tmp_path / "t.db-wal").read_bytes()
    assert program.lost.total() == 0


def test_content_is_kept_on_demand_and_redacted_first(echo: Echo, watched: Any, tmp_path: Path) -> None:
    def broken(field: str, value: Any) -> Any:
        if value == "break":
            raise ValueError("a hook's own fault")
        return value

    program = watched(echo(lambda prompt: "ask ann@example.org"), content=True, redact=[personal, broken])
    program(text="key sk-abcdefghijklmnop1234 of +47 555 01 234, on 3 May")
    program(text="break")
    kept, dropped = traces(program, tmp_path)
    assert kept.inputs == {"text": "key [key] of [number], on 3 May"}
    assert kept.outputs == {"label": "ask [e-mail]"}
    assert (dropped.inputs, dropped.outputs, dropped.calls) == (None, None, 1)
    plain = watched(echo(), content=True, redact=[personal])
    plain(text="nothing in it")
    plain(text="x" * 20_001)
    assert [trace.whole for trace in traces(plain, tmp_path)] == [False, False, True, False]
    assert program.lost == {"content": 1}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("cards 4111111111111111,5500005555555559", "cards [number],[number]"),
        ("tel.55501234567", "tel.[number]"),
        ("Konto 61109010140000071219812874 bitte", "Konto [number] bitte"),
        ("id=01234567890123456789", "id=[number]"),
        ("to DE89370400440532013000.", "to [number]."),
        ("to GB29 NWBK 6016 1331 9268 19", "to [number]"),
        ("SR22 INSURANCE POLICY OF 2024", "SR22 INSURANCE POLICY OF 2024"),
        ("passage 0305e82c33015512", "passage 0305e82c33015512"),
        ("12345678-2002-5123-9011-8c1bbd0fd5a4", "12345678-2002-5123-9011-8c1bbd0fd5a4"),  # a passage's id
        ("my key is 6f1c8e1a-2b7d-4c53-9a51-8c1bbd0fd5a4", "my key is [key]"),
        (4111111111111111, "[number]"),
        (-55501234, "[number]"),
        (2024, 2024),
        (True, True),
    ],
)
def test_long_numbers_of_any_kind_are_personal(value: Any, kept: Any) -> None:
    assert personal("field", value) == kept


def test_what_went_wrong_inside_is_told(watched: Any, tmp_path: Path, rule_engine: Any) -> None:
    broken = dspy.Predict("text -> label")
    broken.lm = rule_engine(lambda prompt: "no fields at all").lm()
    abstaining = watched(ps.guarded(broken, retries=1, fallbacks=[{"label": None}]), content=True)
    abstaining(text="a")
    failing = watched(broken)
    with pytest.raises(dspy.AdapterParseError):
        failing(text="a")
    repaired = dspy.Predict("text -> label")  # the chat format fails, and DSPy asks anew for JSON
    repaired.lm = rule_engine(lambda prompt: '{"label": "glad"}').lm()
    mending = watched(repaired)
    assert mending(text="a").label == "glad"
    for each in (abstaining, failing):
        assert each.flush()
    first, second, third = traces(mending, tmp_path)
    assert (first.error, first.retries, first.fallbacks, first.abstained) == (None, 1, 0, True)
    assert (first.unreadable, first.calls, first.outputs) == (4, 4, {"label": None})
    assert (second.error, second.unreadable, second.abstained) == ("AdapterParseError", 2, False)
    assert (third.error, third.unreadable, third.calls) == (None, 1, 2)


class Uncopied:
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("it holds a lock")


@pytest.mark.parametrize("way", ["parallel", "batch"])
def test_calls_in_threads_of_dspys_are_told(echo: Echo, watched: Any, tmp_path: Path, way: str) -> None:
    """DSPy copies what listens to usage for each thread: tokens were lost, and so was a call that cannot be copied."""

    class InThreads(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.predict = echo()

        def forward(self, text: str, given: Any) -> dspy.Prediction:
            examples = [dspy.Example(text=f"{text} {number}").with_inputs("text") for number in range(4)]
            if way == "batch":
                return self.predict.batch(examples, num_threads=2, disable_progress_bar=True)[0]
            pairs = [(self.predict, each) for each in examples]
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]

    program = watched(InThreads())
    with dspy.track_usage() as usage:
        assert program(text="a", given=Uncopied()).label == "glad"
    (trace,) = traces(program, tmp_path)
    assert (trace.calls, trace.output_tokens) == (4, 4)
    assert trace.input_tokens > 80
    assert usage.get_total_tokens()["rule/one"]["completion_tokens"] == 4


def test_an_artifacts_version_promise_and_confidence(
    mood: Any, make_artifact: Any, rule_engine: Any, watched: Any, tmp_path: Path
) -> None:
    path = make_artifact(
        tmp_path / "m.progspace.json",
        dspy.Predict(mood),
        format=Format(kind="compact", decoding="calibrated", biases=(("glad", -1.0), ("sad", 0.0))),
    )
    lm = rule_engine(lambda prompt: "", logprobs=lambda prompt, choice: -0.5 if "sad" in choice else -1.0).lm()
    loaded = ps.load(path, lm=lm)
    program = watched(ps.guarded(loaded))
    assert program(text="sun").mood == "glad"  # after the bias is taken off: 0 against -0.5
    (trace,) = traces(program, tmp_path)
    assert trace.name == "mood"
    assert trace.version == loaded.origin.hash
    assert len(trace.version) == 64
    assert trace.declared is None  # it has no held-out score
    assert trace.confidence == pytest.approx(0.622, abs=0.001)


def test_signals_need_no_label_and_may_fail(
    echo: Echo, watched: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(example: Any, prediction: Any) -> float:
        raise KeyError(f"a signal's own fault, at {example.text}")

    signals = {"length": lambda example, prediction: len(example.text), "faulty": faulty}
    program = watched(echo(), signals=signals, sample=1.0)
    program(text="four")
    assert traces(program, tmp_path)[0].signals == {"length": 4.0}
    assert program.lost == {"signal 'faulty'": 1}
    assert "signal 'faulty' lost (KeyError)" in caplog.text
    assert "four" not in caplog.text  # the message may hold what was asked


def test_only_a_share_is_stored_and_what_is_too_much_goes(echo: Echo, watched: Any, tmp_path: Path) -> None:
    program = watched(echo(), sample=1e-12)
    program(text="a")
    assert traces(program, tmp_path) == []
    program = watched(echo())
    for number in range(8):
        program(text=str(number))
    before = traces(program, tmp_path)
    program = watched(echo(), keep_rows=3)
    program(text="a")
    after = traces(program, tmp_path)
    assert after[:-1] == before[-2:]
    another = watched(echo(), name="another", keep_rows=1, keep_days=1e-9)
    another(text="a")
    assert traces(another, tmp_path) == after  # its own went at once; those of others are no concern of its


def test_what_is_said_of_a_call_that_is_not_stored_or_stored_in_memory(echo: Echo, watched: Any) -> None:
    program = watched(echo(), sample=1e-12)
    answer = program(text="a")
    assert program.feedback(answer, score=1.0) is None
    assert program.feedback(program.trace_id(answer), score=1.0) is None
    for where in (":memory:", "sqlite:///:memory:"):
        program = watched(echo(), store=where)
        assert program.feedback(program(text="a"), score=1.0).score == 1.0


def test_a_trace_of_before_is_found_where_fewer_are_stored_now(echo: Echo, watched: Any) -> None:
    answer = (program := watched(echo()))(text="a")
    assert program.flush()
    assert watched(echo(), sample=1e-12).feedback(program.trace_id(answer), score=1.0).score == 1.0


def test_a_store_that_fails_costs_traces_and_no_call(
    echo: Echo, watched: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = watched(echo())
    program(text="a")
    assert program.flush()
    full = program._writer._store
    pages = full.read(__import__("sqlalchemy").text("PRAGMA page_count"))[0][0]
    full.run(f"PRAGMA max_page_count = {pages}")  # SQLite then says that the disk is full
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            for _ in range(60):
                assert program(text="a").label == "glad"
            assert program.flush()
    assert 0 < program.lost["store"] <= 60  # it is opened anew then, and the disk has room again
    assert len([record for record in caplog.records if "store lost" in record.message]) == 1
    before = len(traces(program, tmp_path))
    for path in tmp_path.glob("t.db*"):
        path.unlink()
    program(text="a")
    assert len(traces(program, tmp_path)) == 1 < before


def test_what_comes_too_fast_is_counted(tmp_path: Path) -> None:
    import threading

    from progspace.monitoring.recording import Call
    from progspace.monitoring.writing import Writer

    held, writer = threading.Event(), Writer(tmp_path / "t.db", queued=5)

    class Slow:
        def trace(self, call: Call) -> Trace:
            held.wait(10)
            return Trace(call.id, "slow", "", 0.0, 0.0)

    for number in range(20):
        writer.put(Call(str(number), {}, 0), Slow(), stored=True)
    held.set()
    assert writer.flush()
    writer.close()
    with open_store(tmp_path / "t.db") as store:
        assert len(read_traces(store)) + writer.lost["queue"] == 20
    assert writer.lost["queue"] >= 10


def test_what_comes_after_the_end_is_counted(echo: Echo, watched: Any) -> None:
    program = watched(echo())
    answer = program(text="a")
    program.close()
    assert [program(text="late").label for _ in range(3)] == ["glad"] * 3
    assert program.lost == {"closed": 3}
    assert program.flush()
    assert program.feedback(answer, score=1.0).score == 1.0


class Sky(enum.Enum):
    CLEAR = "clear"


class Fixed(dspy.Module):
    """Answers with outputs of many types."""

    def forward(self, text: str) -> dspy.Prediction:
        return dspy.Prediction(
            sky=Sky.CLEAR, day=datetime.date(2024, 5, 3), tags=["a", "b"], urgent=True, stars=5.0, count=-1, said=text
        )


@pytest.mark.parametrize(
    ("labels", "score"),
    [
        ({"sky": Sky.CLEAR, "day": datetime.date(2024, 5, 3), "tags": ("a", "b")}, 1),
        ({"day": datetime.date(2024, 5, 4)}, 0),
        # As the command line tells them:
        ({"urgent": "true", "stars": "5", "tags": '["a", "b"]', "count": "-1"}, 1),
        ({"urgent": "True", "said": "5.0"}, 1),
        ({"urgent": "false"}, 0),
        ({"tags": '["a"]'}, 0),
        ({"tags": "a, b"}, 0),
        ({"said": "5"}, 0),
    ],
)
def test_a_label_is_held_against_the_output(watched: Any, labels: Any, score: float) -> None:
    program = watched(Fixed(), content=True)
    assert program.feedback(program(text="5.0"), labels=labels).score == score


def test_what_was_redacted_of_inputs_is_no_matter(echo: Echo, watched: Any, tmp_path: Path) -> None:
    program = watched(echo(), content=True, redact=[personal])
    assert program.feedback(program(text="+47 555 01 234"), labels={"label": "sad"}).score == 0
    (trace,) = traces(program, tmp_path)
    assert (trace.whole, trace.outputs_whole) == (False, True)


@pytest.mark.parametrize(
    ("given", "kept", "whole"),
    [
        (numpy.arange(3), "[0 1 2]", False),
        ({"curves": [numpy.arange(3)]}, {"curves": ["[0 1 2]"]}, False),
        (dspy.Example(a=1), "Example({'a': 1}) (input_keys=None)", False),
        (numpy.int64(3), 3, True),
        ({"days": {datetime.date(2024, 5, 3)}, "sky": Sky.CLEAR}, {"days": ["2024-05-03"], "sky": "clear"}, True),
    ],
)
def test_the_text_of_an_object_is_not_what_the_program_read(
    watched: Any, tmp_path: Path, given: Any, kept: Any, whole: bool
) -> None:
    """Rows were learnt from that had "[6 7 1 ... 1 6 7]" in place of an array."""

    class Reading(dspy.Module):
        def forward(self, given: Any) -> dspy.Prediction:
            return dspy.Prediction(label="glad", given=given)

    program = watched(Reading(), content=True)
    assert program.feedback(program(given=given), labels={"label": "glad"}).score == 1
    (trace,) = traces(program, tmp_path)
    assert (trace.inputs, trace.whole, trace.outputs_whole) == ({"given": kept}, whole, True)


SECRET = Passage.of("The chief earns a secret sum.", source="pay.md", groups=["board"])


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (Passages([SECRET]), [SECRET.id]),
        ([SECRET], [SECRET.id]),
        (SECRET, SECRET.id),
        ({"hops": [Passages([SECRET]), Passages()]}, {"hops": [[SECRET.id], []]}),
        ({SECRET: (0.5, SECRET)}, {SECRET.id: [0.5, SECRET.id]}),
        ({"read": dspy.Prediction(passages=[SECRET], n=1)}, {"read": {"passages": [SECRET.id], "n": 1}}),
    ],
)
def test_of_passages_only_ids_are_kept(watched: Any, tmp_path: Path, found: Any, kept: Any) -> None:
    class Finding(dspy.Module):
        def forward(self, **inputs: Any) -> dspy.Prediction:
            return dspy.Prediction(label="glad", found=found)

    class Bare(dspy.Module):
        def forward(self, text: str) -> Any:
            return found

    program = watched(Finding(), content=True, redact=[personal])
    assert program.feedback(program(text="a"), labels={"label": "glad"}).score == 1  # nothing was redacted
    program(context=found)
    bare = watched(Bare(), content=True)
    bare(text="a")
    assert bare.flush()
    first, second, third = traces(program, tmp_path)
    assert (first.inputs, first.outputs, first.whole) == ({"text": "a"}, {"label": "glad", "found": kept}, True)
    assert (second.inputs, second.whole, second.outputs_whole) == ({"context": kept}, False, True)
    assert "secret" not in str(third.outputs)


def test_a_label_is_not_held_against_what_was_redacted(watched: Any) -> None:
    program = watched(Fixed(), content=True, redact=[personal])
    answer = program(text="+47 555 01 234")
    told = program.feedback(answer, labels={"said": "+47 555 01 234"})
    assert (told.score, told.labels) == (None, {"said": "+47 555 01 234"})
    assert program.feedback(answer, score=1.0).labels == {"said": "+47 555 01 234"}  # there was none to differ from


def test_bad_input_is_told(echo: Echo, watched: Any) -> None:
    with pytest.raises(ps.DataError, match="at most 1, not 2"):
        watched(echo(), sample=2)
    with pytest.raises(ps.StoreError):
        watched(echo(), store="redis://localhost")
    program = watched(echo(), content=True)
    with pytest.raises(ps.DataError, match="no prediction of a watched program"):
        program.feedback(dspy.Prediction(label="a"), score=1.0)
    answer = program(text="a")
    with pytest.raises(ps.DataError, match="field 'labl': the program's outputs are label"):
        program.feedback(answer, labels={"labl": "glad"})
    with pytest.raises(ps.DataError, match="give a score or a label"):
        program.feedback(answer)
    with pytest.raises(ps.DataError, match="there is no trace '0f'"):
        program.feedback("0f", score=1.0)
    with pytest.raises(ps.DataError, match="a label is no JSON value"):
        program.feedback(answer, labels={"label": 10**5_000})
    assert program.feedback(answer, labels={"label": "sad"}).score == 0.0
    assert program.feedback(answer, score=0.0).labels == {"label": "sad"}
    assert program.feedback(answer, score=1.0).labels == {}  # "sad" it was not, then


def test_spans_and_metrics_go_out_by_otlp(
    collector: Any, echo: Echo, watched: Any, rule_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    program = watched(echo(), name="mood", version="v1")
    answer = program(text="a secret")
    assert program.flush()
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"invoke_workflow mood", "chat one"}
    outer, inner = spans["invoke_workflow mood"], spans["chat one"]
    assert inner.parent_span_id == outer.span_id
    assert outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano
    told = {each.key: each.value for each in outer.attributes}
    assert told["gen_ai.operation.name"].string_value == "invoke_workflow"
    assert told["progspace.trace.id"].string_value == program.trace_id(answer)
    told = {each.key: each.value for each in inner.attributes}
    assert told["gen_ai.provider.name"].string_value == "rule"
    assert told["gen_ai.request.model"].string_value == "one"
    assert told["gen_ai.usage.output_tokens"].int_value == 1
    assert "secret" not in str(collector.spans)
    plain = echo()
    plain.lm = rule_engine(lambda prompt: "[[ ## label ## ]]\nglad").lm("one")  # whose name tells no provider
    program = watched(plain)
    program(text="a")
    assert program.flush()
    told = {each.key: each.value.string_value for each in collector.spans[-2].attributes}
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == ("unknown", "one")
    assert set(collector.metrics) == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert collector.metrics["gen_ai.client.token.usage"].unit == "{token}"
    collector.close()
    program = watched(echo())
    assert program(text="a").label == "glad"
    assert program.flush()
    assert program.lost["telemetry"] > 0


# The store's part, on SQLite and on PostgreSQL.


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_traces_and_feedback_in_both_databases(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    where = str(tmp_path / "s.db") if kind == "sqlite" else request.getfixturevalue("postgres")()
    with open_store(where) as store:
        given = [
            Trace(
                f"t{n}",
                "p",
                "v",
                1.0 + n,
                0.1,
                "Fault: \0",
                outputs={"label": "ä\0"},
                signals={"s": 0.5},
                outputs_whole=True,
            )
            for n in range(5)
        ]
        put_traces(store, given)
        put_traces(store, given)  # again: nothing twice
        assert [trace.id for trace in read_traces(store, last=2)] == ["t3", "t4"]
        assert put_feedback(store, "t4", labels={"label": "other"}).score == 0.0
        assert put_feedback(store, "t4", score=0.0, labels={}).labels == {"label": "other"}
        assert put_feedback(store, "t4", score=1.0, labels={}).labels == {}
        (trace,) = read_traces(store, ids=["t4"])
        assert (trace.score, trace.outputs, trace.error) == (1.0, {"label": "ä\0"}, "Fault: �")
        _old_ones_go(store)


def _old_ones_go(store: Store) -> None:
    from progspace.store.traces import thin_out
    from progspace.store.upkeep import collect

    assert thin_out(store, name="another", rows=2, older_than=60.0) == 0
    assert thin_out(store, name="p", rows=4) == 1
    assert thin_out(store, rows=2) == 2
    assert [trace.id for trace in read_traces(store)] == ["t3", "t4"]
    before, after = collect(store, older_than=60.0)
    assert (before.traces, after.traces) == (2, 0)
    assert store.count("feedback") == 0
