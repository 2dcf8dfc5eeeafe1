from __future__ import annotations

import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from progspace.programs.metrics import metric_identity


def test_sources_are_read_once_and_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11 raises SystemError where two threads parse at a time."""
    reading, read = threading.Lock(), list[Any]()

    def getsource(owner: Any) -> str:
        assert reading.acquire(blocking=False), "two at a time"
        time.sleep(0.01)
        reading.release()
        read.append(owner)
        return owner.__name__

    monkeypatch.setattr(inspect, "getsource", getsource)
    classes = [
        type(f"Metric{i}", (), {"__call__": lambda self, example, prediction, trace=None: 1.0}) for i in range(8)
    ]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(metric_identity, [each() for each in classes * 4]))
    assert len(set(found)) == len(read) == 8
