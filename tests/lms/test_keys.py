from __future__ import annotations

import pytest

from progspace.lms.keys import Keys


@pytest.mark.parametrize("key", ["none", "k"])
def test_a_key_that_keeps_nothing_secret_leaves_errors_readable(key: str) -> None:
    keys = Keys(key)
    assert keys.current() == key
    assert keys.scrubbed("stop is none of the input tokens") == "stop is none of the input tokens"


def test_a_key_stands_in_no_error() -> None:
    keys = Keys("a-long-key")
    assert keys.current() == "a-long-key"
    assert keys.scrubbed("a-long-key is refused, and so is sk-other") == "(key) is refused, and so is (key)"
