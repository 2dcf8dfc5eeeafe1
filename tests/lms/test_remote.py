"""`ps.lm("openai/…")` over real HTTP: what is sent, what comes back, what is borne."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import logging
import multiprocessing
import pickle
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import dspy
import pytest
from dspy.lm15 import Config, Message, Request

import progspace as ps
from progspace.benchmarks.fault_server import FAULTS, KEY, Limits, Server, serving, sometimes, text_of
from progspace.evaluation.matrix import Matrix, StoreAnswers
from progspace.evaluation.runner import Scoring, Work, run_cells
from progspace.lms.budget import Meter
from progspace.lms.identity import lm_identity
from progspace.lms.journal import JournaledLM
from progspace.lms.remote_engine import RemoteEngine
from progspace.programs.formats import Format
from progspace.programs.program import Manner, Program
from progspace.store.database import Store


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def lm_at(server: Server, **settings: Any) -> dspy.LM:
    return ps.lm("openai/tiny", **{"base_url": server.url, "api_key": KEY, **settings})


def engine_of(lm: dspy.LM) -> RemoteEngine:
    assert isinstance(lm.engine, RemoteEngine)
    return lm.engine


def test_several_answers_are_one_request_in_threads_and_tasks(server: Server) -> None:
    lm = lm_at(server, temperature=1.0)
    assert lm("one", n=3, seed=7) == ["one #7.0", "one #7.1", "one #7.2"]
    assert asyncio.run(lm.acall("two", n=2, seed=7)) == ["two #7.0", "two #7.1"]
    assert lm("three") == ["three"]
    assert [body.get("n", 1) for body in server.bodies] == [3, 2, 1]


def test_the_prompt_of_several_answers_is_paid_for_once(server: Server) -> None:
    meter = Meter()
    JournaledLM(lm_at(server), meter)("two words", n=3)
    assert (meter.spent.calls, meter.spent.input_tokens, meter.spent.output_tokens) == (1, 2, 6)


def test_a_server_that_knows_no_n_is_asked_again_with_another_seed() -> None:
    with serving(multiple=False) as server:
        answers = lm_at(server, temperature=1.0)("one", n=3, seed=7)
    assert answers == ["one #7.0", "one #8.0", "one #9.0"]


def test_log_probabilities_schemas_and_tools(server: Server) -> None:
    lm = lm_at(server)
    (answer,) = lm("sun", logprobs=True, top_logprobs=2)
    assert [top.token for top in answer["logprobs"].content[0].top_logprobs] == ["sun", "else"]
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        assert dspy.Predict("text -> answer")(text="sun").answer
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"

    def look(text: str) -> str:
        """Looks."""
        return text

    function = {"name": "look", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}
    (answer,) = lm("sun", tools=[{"type": "function", "function": function}], tool_choice="required")
    assert (answer["tool_calls"][0].function.name, server.bodies[-1]["tool_choice"]) == ("look", "required")
    assert answer["tool_calls"][0].function.arguments == '{"text": "sun"}'


def test_what_an_endpoint_alone_knows_is_sent_and_part_of_the_identity(server: Server) -> None:
    lm = lm_at(server, max_tokens=5, extra_body={"guided_choice": ["a"]})
    lm("x")
    assert server.bodies[-1] == {
        "model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "guided_choice": ["a"],
    }  # fmt: skip
    identity = lm_identity(lm)
    assert identity["engine"] == {
        "class": "RemoteEngine", "base_url": server.url, "extra_body": {"guided_choice": ["a"]},
    }  # fmt: skip
    assert identity["settings"] == {"max_tokens": 5}
    assert lm_identity(lm_at(server, api_key="another", hedge=2.0, concurrency=3)) == lm_identity(lm_at(server))
    assert lm_identity(ps.lm("openai/tiny", base_url="http://127.0.0.1:1/v1")) != lm_identity(lm_at(server))


def test_azures_deployments_are_asked_by_azures_address_and_header(server: Server) -> None:
    base = server.url.removesuffix("/v1")
    lm = ps.lm("openai/my-deployment", base_url=base, api_key=KEY, api_version="2024-10-21")
    assert lm("hello") == ["hello"]
    assert asyncio.run(lm.acall("hello")) == ["hello"]
    with pytest.raises(dspy.utils.exceptions.LMAuthError, match="refused the API key"):
        ps.lm("openai/my-deployment", base_url=base, api_key="wrong", api_version="2024-10-21")("hello")


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_is_an_answer(fault: str) -> None:
    with serving(fault=lambda number: fault if number < 2 else None) as server:
        lm = lm_at(server, timeout=3.0)
        assert lm("two words") == ["two words"]
        asked = len(server.bodies)
        assert asyncio.run(lm.acall("again")) == ["again"]
    assert asked == (1 if fault in ("straggler", "slow drip") else 3)


@pytest.mark.parametrize("fault", ["500", "malformed", "empty choices", "content filter", "reset"])
def test_what_stays_broken_is_a_failed_cell_and_no_score(fault: str, store: Store, mood: Any, mood_rows: Any) -> None:
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:2]]
    with serving(fault=lambda _: fault) as server:
        lm = lm_at(server, num_retries=1)
        cells = Matrix(store, ps.metrics.exact_match("mood"), lm, Meter()).fill(dspy.Predict(mood), rows)
    assert [cell.score for cell in cells] == [None, None]
    assert all("asked 2 times" in str(cell.error) for cell in cells)


@pytest.mark.parametrize(
    ("prompt", "settings", "error"),
    [
        ("x" * 200_000, {}, dspy.utils.exceptions.ContextWindowExceededError),
        ("x", {"api_key": "wrong"}, dspy.utils.exceptions.LMAuthError),
        ("x", {"base_url": "http://127.0.0.1:9/v1", "num_retries": 0}, dspy.utils.exceptions.LMTransportError),
    ],
)
def test_what_does_not_pass_is_told_at_once(server: Server, prompt: str, settings: Any, error: Any) -> None:
    with pytest.raises(error):
        lm_at(server, **settings)(prompt)
    assert len(server.bodies) <= 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model_type": "responses"}, "dspy.LM"),
        ({"hedge": 0.5}, "hedge"),
        ({"base_url": "http://me:word@127.0.0.1/v1"}, "give the key by api_key"),
        ({"base_url": "127.0.0.1:8000/v1"}, "begins with http://"),
    ],
)
def test_a_wrong_setting_is_told_with_what_mends_it(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ps.lm("openai/tiny", **settings)


def test_without_a_key_the_error_says_how_to_give_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    lm = ps.lm("openai/tiny", base_url=server.url)
    with pytest.raises(dspy.utils.exceptions.LMNotConfiguredError, match="set OPENAI_API_KEY"):
        lm("x")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert lm("x") == ["x"]


def test_an_expired_key_is_asked_for_anew_in_the_middle_of_an_evaluation(
    store: Store, mood: Any, mood_rows: Any
) -> None:
    given = itertools.count()
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows]

    def answer(body: Any) -> str:
        if len(server.bodies) == 30:
            server.keys = {"key-1"}
        return "[[ ## mood ## ]]\nglad"

    with serving(answer=answer, keys={"key-0"}) as server:
        lm = lm_at(server, api_key=lambda: f"key-{next(given)}")
        cells = Matrix(store, ps.metrics.exact_match("mood"), lm, Meter()).fill(dspy.Predict(mood), rows)
    assert sum(cell.score or 0.0 for cell in cells) == 50
    assert not [cell for cell in cells if cell.error]
    assert next(given) == 2  # asked twice, by whichever thread came first


def test_the_key_stands_nowhere(
    server: Server, store: Store, caplog: pytest.LogCaptureFixture, mood: Any, mood_rows: Any, tmp_path: Any
) -> None:
    secret = "hidden-5c0ffee-key"  # noqa: S105 — of no form that one would know as a key's
    caplog.set_level(logging.DEBUG)
    with pytest.raises(dspy.utils.exceptions.LMAuthError) as caught:  # the server's answer repeats the key
        lm_at(server, api_key=secret)("x")
    server.keys = {secret}
    lm = lm_at(server, api_key=secret)
    program = dspy.Predict(mood)
    program.set_lm(lm)
    meter = Meter()
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:3]]
    Matrix(store, ps.metrics.exact_match("mood"), lm, meter).fill(program, rows)
    lm("x")
    chain, seen = caught.value, [caplog.text, repr(lm), repr(vars(lm)), repr(vars(engine_of(lm))), str(lm.dump_state())]
    seen += [str(lm.history), str(lm_identity(lm)), "".join(traceback.format_exception(chain))]
    assert not [text for text in seen if secret in text]
    assert not [path for path in tmp_path.iterdir() if secret.encode() in path.read_bytes()]
    assert "POST" in caplog.text  # something was logged
    assert len(server.bodies) > 3


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_pickle_holds_no_key_and_asks_the_same_endpoint(
    server: Server, monkeypatch: pytest.MonkeyPatch, mood: Any, pickler: Any
) -> None:
    secret = "hidden-5c0ffee-key"  # noqa: S105 — of no form that one would know as a key's
    server.keys = {secret}
    extra = {"top_k": 1, "api_key": secret}
    for given in (secret, lambda: secret):
        lm = lm_at(server, api_key=given, extra_body=extra, concurrency=3, timeout=9.0, hedge=2.0, temperature=0.5)
        lm("x")
        program = Program(dspy.Predict(mood), {"self": Manner(format=Format(kind="compact"))}, lm)
        copies = [copy.copy(engine_of(lm)), copy.deepcopy(engine_of(lm)), engine_of(copy.deepcopy(lm))]
        assert copies == [engine_of(lm)] * 3
        assert copy.deepcopy(program).own_lm.engine.connection.keys.current() == secret
        written = pickler.dumps(program)
        assert secret.encode() not in written
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        again = pickle.loads(written)  # noqa: S301 — our own
        assert (again.manners, lm_identity(again.own_lm)) == (program.manners, lm_identity(lm))
        assert engine_of(again.own_lm).settings()[0] == engine_of(lm).settings()[0]
        assert engine_of(again.own_lm)._most == 3
        with pytest.raises(dspy.LMError, match="there is no API key"):
            again.own_lm("x")
        monkeypatch.setenv("OPENAI_API_KEY", secret)
        again = pickle.loads(written)  # noqa: S301
        assert again.own_lm("x") == lm("x")
        assert asyncio.run(again.own_lm.acall("x")) == lm("x")


def test_dspys_own_save_takes_a_program_at_an_endpoint(server: Server, tmp_path: Any) -> None:
    program = Program(dspy.Predict("text -> mood"), {}, lm_at(server))
    program.save(tmp_path / "saved", save_program=True)
    assert KEY.encode() not in (tmp_path / "saved" / "program.pkl").read_bytes()
    assert lm_identity(dspy.load(tmp_path / "saved", allow_pickle=True).own_lm) == lm_identity(lm_at(server))


def test_events_come_as_they_are_written(server: Server) -> None:
    engine = engine_of(lm_at(server))
    request = Request("openai/tiny", (Message.user("one two three"),), config=Config())
    events = list(engine.stream(request))
    assert [event.type for event in events] == ["start", "delta", "delta", "delta", "end"]
    assert "".join(event.delta.text for event in events[1:-1]) == "one two three"
    assert (events[-1].finish_reason, events[-1].usage.input_tokens) == ("stop", 3)


async def test_dspys_own_streaming_works(server: Server) -> None:
    server.answer = lambda body: "[[ ## answer ## ]]\nfive small words of text\n\n[[ ## completed ## ]]"
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )
    texts: list[str] = []
    with dspy.context(lm=lm_at(server)):
        async for piece in program(question="?"):
            if isinstance(piece, dspy.streaming.StreamResponse):
                texts.append(piece.chunk)
            elif isinstance(piece, dspy.Prediction):
                final = piece.answer
    assert "".join(texts).strip() == final == "five small words of text"
    assert len(texts) > 1


@pytest.mark.parametrize("fault", ["half a body", "reset"])
def test_a_stream_that_breaks_off_is_an_error_and_not_a_short_answer(fault: str) -> None:
    with serving(fault=lambda _: fault) as server:
        events = engine_of(lm_at(server)).stream(Request("openai/tiny", (Message.user("one two three four"),)))
        with pytest.raises(dspy.lm15.LM15Error, match=r"broke off|connection lost"):
            list(events)
    assert len(server.bodies) == 1  # what was shown cannot be taken back


def test_a_straggler_is_overtaken_where_that_was_asked_for() -> None:
    with serving(fault=lambda number: "timeout" if number == 20 else None, seconds=0.01) as server:
        lm = lm_at(server, hedge=5.0)
        for number in range(20):
            lm(f"{number}")
        assert lm("slow") == ["slow"]
        assert [body["messages"][0]["content"] for body in server.bodies].count("slow") == 2
        assert lm("next") == ["next"]
        assert len(server.bodies) == 23


def test_no_more_run_than_may(server: Server) -> None:
    server.seconds = 0.02
    lm = lm_at(server, concurrency=3)
    with ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(lambda number: lm(f"{number}"), range(40)))) == 40
    assert server.most_under_way == 3


def test_evaluation_grows_with_what_is_granted(store: Store, mood: Any) -> None:
    rows = [dspy.Example(text=f"sun {i}", mood="glad").with_inputs("text") for i in range(600)]
    with serving(answer=lambda _: "[[ ## mood ## ]]\nglad", seconds=0.2) as server:
        lm = lm_at(server)
        began = engine_of(lm).concurrency
        Matrix(store, ps.metrics.exact_match("mood"), lm, Meter()).fill(dspy.Predict(mood), rows)
        assert began == 16
        assert server.most_under_way > 16


def test_threads_and_tasks_share_one_limit() -> None:
    with serving(seconds=0.02) as server:
        lm = lm_at(server, concurrency=4)

        async def tasks() -> list[Any]:
            return await asyncio.gather(*(lm.acall(f"task {number}") for number in range(20)))

        with ThreadPoolExecutor(10) as pool:
            others = [pool.submit(lm, f"thread {number}") for number in range(20)]
            assert len(asyncio.run(tasks())) == 20
            assert all(other.result() for other in others)
    assert server.most_under_way == 4


def _ask_in_a_fork(lm: dspy.LM, told: Any) -> None:
    told.put(lm("from a fork"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_connects_anew(server: Server) -> None:
    lm = lm_at(server)
    assert lm("before") == ["before"]
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    child = context.Process(target=_ask_in_a_fork, args=(lm, told))
    child.start()
    assert told.get(timeout=60) == ["from a fork"]
    child.join()


def test_a_budget_of_money_is_kept_by_the_given_price_and_cached_tokens(store: Store) -> None:
    with serving(answer=lambda _: "yes") as server:
        lm = lm_at(server, price=ps.Price(1_000_000, 0.0, cached=100_000))
        meter = Meter(ps.Budget(usd=1e9))
        journaled = JournaledLM(lm, meter, StoreAnswers(store))
        system = {"role": "system", "content": "be kind and short"}
        for number in range(2):
            journaled(messages=[system, {"role": "user", "content": f"{number}"}])
        first, cached = 5.0, len(f'[{{"role": "system", "content": "{system["content"]}"}}]'.split())
        assert meter.spent.usd == pytest.approx(first + first - 0.9 * cached)
        with pytest.raises(ps.BudgetExceeded, match="price is not known"):
            JournaledLM(lm_at(server), Meter(ps.Budget(usd=1.0)))("x")


def test_limits_are_kept_without_a_refusal_where_the_headers_tell_them() -> None:
    with serving(limits=Limits(requests=20, tokens=100_000, window=1.0), seconds=0.01) as server:
        lm = lm_at(server)
        lm("the first answer tells the limits")
        with ThreadPoolExecutor(30) as pool:
            assert len(list(pool.map(lambda number: lm(f"{number}"), range(60)))) == 60
        statuses = [status for _, status, _ in server.log]
    assert statuses.count(200) == 61
    assert statuses.count(429) < 20  # a client that does not read them has 40 refused at once


@pytest.mark.parametrize("told", [True, False])
def test_a_stopped_evaluation_waits_for_no_limit(mood: Any, told: bool) -> None:
    rows = [dspy.Example(text=f"sun {i}", mood="glad").with_inputs("text") for i in range(40)]
    limits = Limits(requests=5, tokens=100_000, window=1200.0, told=told)
    with serving(answer=lambda _: "[[ ## mood ## ]]\nglad", limits=limits) as server:
        work = Work(dspy.Predict(mood), Scoring.of(ps.metrics.choice("mood")), "p", lm_at(server))
        runs = run_cells(work.run, rows, lambda: 8)
        assert next(runs)
        stopping = threading.Thread(target=runs.close, daemon=True)
        stopping.start()
        stopping.join(60)
        assert not stopping.is_alive()
        assert len([status for _, status, _ in server.log if status == 200]) <= 5


def test_a_pause_ends_with_the_minutes_and_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with serving(limits=Limits(requests=1, window=20.0, told=False)) as server:
        lm = lm_at(server, patience=30.0)
        lm("the only one that is let through")
        meter = Meter(ps.Budget(minutes=1.0), clock=lambda: 60.0 * (len(server.bodies) > 1))
        with pytest.raises(ps.BudgetExceeded, match=r"1 minutes is spent, .* not answered in it .*too many requests"):
            JournaledLM(lm, meter)("x")
        assert len(server.bodies) == 2
    (told,) = caplog.messages
    assert f"{server.url}: too many requests: " in told
    assert "asked again after a pause of 20 s, and given up after about 30 s" in told


def test_what_stands_in_line_when_the_minutes_are_over_is_not_sent() -> None:
    """Behind an endpoint that hangs, each would hang in its turn."""
    over = threading.Event()

    def clock() -> float:
        if len(meter._asked) == 4 and server.bodies:
            over.set()
        return 60.0 * over.is_set()

    with serving(fault=lambda _: "timeout") as server:
        meter = Meter(ps.Budget(minutes=1.0), clock=lambda: 0.0)
        meter._clock = clock
        lm = JournaledLM(lm_at(server, concurrency=1, timeout=1.5), meter)
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(lm, f"{number}") for number in range(4)]
            assert all(isinstance(each.exception(), ps.BudgetExceeded) for each in asked)
        assert len(server.bodies) == 1


def test_patience_ends_where_each_refusal_makes_the_line_slower() -> None:
    with serving(fault=lambda _: "429") as server:
        with pytest.raises(dspy.utils.exceptions.LMRateLimitError, match="too many requests"):
            lm_at(server, patience=3.0)("x")
        assert len(server.bodies) < 4  # as many as there are pauses of a second in it


def test_an_interrupted_thread_leaves_no_request_behind(server: Server) -> None:
    server.fault = lambda number: "timeout" if number == 0 else None
    engine = engine_of(lm := lm_at(server, concurrency=1, timeout=60.0))
    pending = engine._asked(Request("openai/tiny", (Message.user("x"),)), None)
    while not server.under_way:
        threading.Event().wait(0.01)
    pending.cancel()
    assert lm("next") == ["next"]  # the only place is free again


def terse(body: Any) -> str:
    """Tells the mood by the weather, but not in DSPy's chat format."""
    text = text_of(body["messages"][-1])
    return "[[ ## mood ## ]]\nglad" if "[[ ##" in text else "glad" if text.rfind("sun") > text.rfind("rain") else "sad"


def test_a_search_finds_the_same_through_faults(mood: Any, mood_rows: Any, tmp_path: Any) -> None:
    """Stragglers and timeouts are left to `benchmarks/faults.py`, for they take their time."""
    quick = ("500", "reset", "half a body", "malformed", "html", "empty choices", "wrong schema", "content filter")
    reports = []
    for name, share in (("well", 0.0), ("badly", 0.2)):
        task = ps.Task(
            program=dspy.Predict(mood), examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"),
            name="mood",
        )  # fmt: skip
        with serving(answer=terse, fault=sometimes(share, quick)) as server:
            budget = ps.Budget(calls=150, usd=1.0)
            lm = lm_at(server, price=ps.Price(1.0, 1.0))
            compiled = ps.compile(task, lm=lm, budget=budget, store=tmp_path / f"{name}.db", test_rows=20)
        assert bool([fault for _, _, fault in server.log if fault]) == (share > 0)
        saved = compiled.save(tmp_path / f"{name}.json").read_text()
        assert KEY not in saved
        reports.append(compiled.report.to_dict())
    well, badly = reports
    told = [
        [(rung["choice"], rung["kept"], rung["test"]["score"], rung["calls"]) for rung in each["rungs"]]
        for each in (well, badly)
    ]
    assert told[0] == told[1]
    assert told[0][-1][2] > told[0][0][2]


def test_an_lm_that_is_gone_leaves_no_thread_and_no_connection(server: Server) -> None:
    def ends() -> int:
        return sum(thread.name == "progspace-endpoint" for thread in threading.enumerate())

    gc.collect()
    before = ends()
    lm = lm_at(server)
    lm("x")
    assert ends() == before + 1
    del lm
    gc.collect()
    for _ in range(500):
        if ends() == before:
            return
        threading.Event().wait(0.01)
    pytest.fail("the thread goes on")
