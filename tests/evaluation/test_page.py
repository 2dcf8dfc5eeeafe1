"""The report page in a real Chromium: every chart is drawn, every control works, and data stays data."""

from __future__ import annotations

import json
import os
import resource
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

import progspace as ps
from progspace.benchmarks.page import record_search
from progspace.evaluation.page.content import PageContent
from progspace.evaluation.page.html import html_page, write_page
from progspace.evaluation.page.live import Watch, find_search
from progspace.evaluation.page.reading import content_of, read_content
from progspace.store.database import open_store
from progspace.store.searches import Event, Search, add_events
from progspace.tests.tabs import HOSTILE, tab_of

CANDIDATES, EXAMPLES = 9, 24


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with open_store(folder / "store.db") as store:
        content = read_content(store, record_search(store, CANDIDATES, EXAMPLES, text=HOSTILE))
    path = folder / "page.html"
    path.write_text(html_page(content), encoding="utf-8")
    return path


def opened(browser: Any, url: str, *, width: int = 1280, scheme: Any = "light") -> Any:
    return tab_of(browser, url, "#matrix canvas", width=width, scheme=scheme)


def test_all_is_drawn_from_the_matrix_and_hostile_text_stays_text(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file.as_uri())
    assert tab.locator(".ladder tbody svg .disc").count() == 2
    assert tab.locator("#race polyline").count() == CANDIDATES
    assert tab.locator("#race .chart .test").count() == 2
    assert tab.locator("#race .chart path.cross").count() == CANDIDATES // 3
    assert tab.locator("#front .point").count() == CANDIDATES
    painted = tab.evaluate(
        "(() => { const c = document.querySelector('#matrix canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return d.filter((v, i) => i % 4 === 3 && v > 0).length / (c.width * c.height); })()"
    )
    assert painted > 0.5
    told = tab.inner_text("body")
    assert HOSTILE.split("\u2028")[0].strip()[:40] in told
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.locator("img").count() == 0
    assert tab.complaints == []


def test_every_control_works_by_pointer_and_by_keyboard(browser: Any, page_file: Path) -> None:
    tab = opened(browser, page_file.as_uri())
    detail = tab.locator("#detail")

    tab.get_by_text("All that the report says").click()
    assert tab.locator("#head details li").first.is_visible()
    tab.get_by_text(f"All {CANDIDATES} candidates as a table").click()
    first = tab.locator("#race tbody tr").first
    best = first.inner_text()
    tab.get_by_role("button", name="candidate", exact=True).click()
    assert first.inner_text() != best
    assert first.inner_text().startswith("c0")
    first.get_by_role("button").click()
    assert "Prompt of self" in detail.inner_text()
    tab.keyboard.press("Escape")
    assert not detail.is_visible()

    tab.get_by_role("button", name="seconds", exact=True).click()
    tab.get_by_text("seconds an example →").wait_for()
    point = tab.locator("#front .point[tabindex='0']")
    point.focus()
    assert "Classify it." in tab.inner_text("#tip")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert detail.is_visible()
    detail.get_by_role("button", name="Close").click()

    tab.locator(".heat").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowRight")
    where = tab.inner_text(".where")
    assert "on example 2" in where
    tab.keyboard.press("Enter")
    shown = detail.inner_text()
    assert "on example 2" in shown
    for part in ("Inputs", "Expected", "Output", "Prompt of self"):
        assert part in shown
    assert "⟦text⟧" not in shown  # the prompt is this example's
    tab.keyboard.press("Escape")
    tab.get_by_role("button", name="hardest first").click()
    tab.wait_for_selector("#matrix canvas")
    tab.locator("#matrix canvas").click(position={"x": 5, "y": 5})
    assert detail.is_visible()
    tab.keyboard.press("Escape")

    tab.locator("#edge-cases .link").first.click()
    assert f"What {CANDIDATES} candidates made of it" in detail.inner_text()
    tab.keyboard.press("Escape")
    assert tab.locator("#prompts del").all_inner_texts() == ["0"]
    assert tab.locator("#prompts ins").all_inner_texts() == [str(CANDIDATES - 1)]
    tab.select_option("#right", "3")
    assert tab.locator("#prompts ins").all_inner_texts() == ["3"]
    assert tab.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing_and_nothing_sticks_out(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    tab = opened(browser, page_file.as_uri(), width=width, scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    tab.get_by_text(f"All {CANDIDATES} candidates as a table").click()
    found = Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    tab.locator("#edge-cases .link").first.click()
    found = Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()


def test_a_search_is_watched_while_it_runs(browser: Any, tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db") as store:
        search: Search = record_search(store, 4, EXAMPLES, finished=False)
        watch = Watch(store)
        thread = threading.Thread(target=watch.serve, daemon=True)
        thread.start()
        try:
            tab = opened(browser, watch.url)
            assert tab.inner_text("#head .chip") == "running"
            assert tab.locator("#race polyline").count() == 4
            joined = {"candidate": 4, "origin": "one more", "proposer": "rules", "rung": "prompts", "prompts": {}}
            step = {"candidate": 4, "program": "program 3", "examples": 10, "fresh": False}
            spent = {"calls": 999, "seconds": 1.0, "usd": 0.0}
            add_events(
                store,
                search.id,
                [Event("joined", {**joined, **spent}), Event("bought", {"steps": [step], **spent})],
                first=1000,
            )
            tab.locator("#race polyline").nth(4).wait_for(state="attached")
            assert "999" in tab.inner_text("#head")
            assert tab.complaints == []
            # A page of another site that made its name lead here is refused.
            request = urllib.request.Request(watch.url, headers={"Host": "evil.example:80"})  # noqa: S310 — our own
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(request)  # noqa: S310 — our own
        finally:
            watch.close()


def test_findings_alone_make_a_page_that_says_what_it_lacks(browser: Any, tmp_path: Path) -> None:
    from progspace.benchmarks.page import _findings

    findings = _findings(HOSTILE, {0: 0.5, 1: 0.9}, 1, 100, {"train": 1, "dev": 1, "test": 1})
    path = tmp_path / "page.html"
    path.write_text(html_page(content_of(findings)), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())
    assert "Only the store in which the search ran holds this" in tab.inner_text("#matrix")
    assert tab.locator(".ladder tbody tr").count() == 2
    assert Axe().run(tab).violations_count == 0
    assert tab.evaluate("typeof hacked") == "undefined"


def test_the_file_needs_nothing_else_and_runs_nothing_else(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img" not in text
    assert "default-src &#x27;none&#x27;" in text
    assert "unsafe" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_half_a_character_ends_no_page(tmp_path: Path) -> None:
    """An LM that was cut off within one ended the report, with everything paid."""
    half = "cut \ud83d off"
    with open_store(tmp_path / "store.db") as store:
        search = record_search(store, 4, EXAMPLES)
        joined = {"candidate": 4, "origin": half, "proposer": "writer", "rung": "prompts", "prompts": {"self": half}}
        add_events(
            store, search.id, [Event("joined", {**joined, "calls": 999, "seconds": 1.0, "usd": 0.0})], first=1000
        )
        content = read_content(store, find_search(store, None))
        watch = Watch(store)
        threading.Thread(target=watch.serve, daemon=True).start()
        try:
            with urllib.request.urlopen(f"{watch.url}content.json") as answer:  # noqa: S310 — our own
                served = PageContent.model_validate(json.load(answer))
        finally:
            watch.close()
    assert content.candidates[-1].choice == half
    assert served == content
    told = content.model_copy(update={"task": half, "lines": (half,)})
    write_page(html_page(told), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "cut ? off" in text  # where no script runs
    data = text.partition('id="content">')[2].partition("</script>")[0]
    assert PageContent.model_validate(json.loads(data)) == told


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path, soft = tmp_path / "new" / "page.html", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_page("before", path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, soft[1]))  # as a full disk
    try:
        with pytest.raises(ps.DataError, match=r"page\.html: .*cannot be written"):
            write_page("x" * 1001, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert [each.read_text(encoding="utf-8") for each in path.parent.iterdir()] == ["before"]
    with pytest.raises(ps.DataError, match="cannot be written"):
        write_page("x", path / "page.html")
    # What is no file is written into, not put out of its place: `--html /dev/stdout`.
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_page("through", pipe)
    assert os.read(reader, 100) == b"through"
    os.close(reader)
