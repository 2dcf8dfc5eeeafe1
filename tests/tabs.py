"""Pages in a real Chromium."""

from __future__ import annotations

from typing import Any

HOSTILE = '</script><img src=x onerror="hacked=1"><script>hacked=1</script>&lt;b&gt; \u2028 \'" ${7*7}'
"""A text that a careless page would run or mark up."""


def tab_of(browser: Any, url: str, drawn: str, *, width: int = 1280, scheme: Any = "light") -> Any:
    """A tab on which that much is drawn; what the browser complains of (errors, refusals of the policy) is kept."""
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.complaints = []
    tab.on("console", lambda message: tab.complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.goto(url)
    tab.wait_for_selector(drawn)
    return tab
