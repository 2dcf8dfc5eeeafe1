"""Takes the README's pictures of the report page in Chromium.

    python -m progspace.benchmarks.screenshots                  # of a small compile on the embedded LM
    python -m progspace.benchmarks.screenshots --store runs.db  # of the search that was heard of last there
    python -m progspace.benchmarks.screenshots --simulated      # of one on an LM that errs by a rule, in a minute

The ready-made sentiment task is compiled with 500 calls. The pictures go to ``docs/images``, with 200 colours each, so
that they stay small.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TokenLogprob, TopLogprob, Usage

import progspace as ps

from ..evaluation.page.html import html_page
from ..evaluation.page.reading import read_content
from ..programs import sentiment
from ..store.database import Store, open_store
from ..store.searches import searches
from .chromium import chromium


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="in which a search is written down; none is run then")
    parser.add_argument("--simulated", action="store_true", help="in place of the embedded LM one that errs by a rule")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        with open_store(arguments.store or Path(folder, "store.db")) as store:
            if arguments.store is None:
                _compile(store, Simulated().lm() if arguments.simulated else ps.lm("local"))
            page.write_text(html_page(read_content(store, searches(store)[0])), encoding="utf-8")
        arguments.out.mkdir(parents=True, exist_ok=True)
        _take(page, arguments.out)


def _compile(store: Store, lm: dspy.BaseLM) -> None:
    ps.compile(sentiment.task(), lm=lm, budget=ps.Budget(calls=500), store=store)


def _take(page: Path, out: Path) -> None:
    with chromium() as browser:
        for name, width, height, scheme, part in (
            ("report", 1100, 1500, "light", None),
            ("report-matrix", 1100, 900, "dark", "#matrix"),
            ("report-phone", 360, 760, "light", None),
        ):
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            tab.goto(page.as_uri())
            tab.locator("#matrix canvas").wait_for()
            taken = tab.locator(part).screenshot() if part else tab.screenshot()
            path = out / f"{name}.png"
            path.write_bytes(_small(taken))
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _small(png: bytes) -> bytes:
    from PIL import Image

    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(200).save(small, "PNG", optimize=True)
    return small.getvalue()


class Simulated:
    """Knows the labels, and errs at a rate that falls with what the prompt offers: for pictures, and nothing else."""

    supported_params = frozenset({"structured_outputs", "choice_logprobs", "apply_chat_template", "temperature"})

    def __init__(self) -> None:
        task = sentiment.task()
        rows = (*task.train, *task.dev, *task.splits.test)
        self._labels = {row.review: row.sentiment for row in rows}

    def complete(self, request: Request) -> Response:
        """Answers a prompt."""
        texts = [request.system if isinstance(request.system, str) else ""]
        texts += [getattr(part, "text", "") for message in request.messages for part in message.parts]
        prompt = "\n".join(texts)
        asked = max(self._labels, key=lambda review: prompt.rfind(review))
        right = self._labels[asked]
        drawn = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) / 2**32
        chat = "[[ ## " in prompt
        rate = 0.45 if chat else 0.3 - 0.025 * min(prompt.count("Sentiment:"), 8) - 0.05 * ("expert" in prompt)
        said = right if drawn > rate else "negative" if right == "positive" else "positive"
        usage = Usage(input_tokens=len(prompt) // 4, output_tokens=2)
        choices = (request.config.extensions or {}).get("structured_outputs", {}).get("choice") or ()
        message = Message.assistant(f"[[ ## sentiment ## ]]\n{said}\n\n[[ ## completed ## ]]" if chat else said)
        if not choices or request.config.logprobs is None:
            return Response(None, request.model, message, "stop", usage)
        top = tuple(TopLogprob(token=choice, logprob=-0.1 if choice == said else -3.0) for choice in choices)
        given = (TokenLogprob(token=said, logprob=-0.1, top=top),)
        return Response(None, request.model, message, "stop", usage, logprobs=given)

    def lm(self) -> dspy.LM:
        """Gives it as DSPy takes it."""
        engine = self

        class Async:
            async def complete(self, request: Request) -> Response:
                return engine.complete(request)

        settings: dict[str, Any] = {"engine": self, "async_engine": Async(), "cache": False, "num_retries": 0}
        return dspy.LM("simulated/errs-by-a-rule", **settings)


if __name__ == "__main__":
    main()
