"""Programs that show DSPy's progress bars run side by side."""

from __future__ import annotations

from typing import Any

from dspy.utils.parallelizer import ParallelExecutor, tqdm

import progspace  # noqa: F401 — which is what mends it


def test_a_bar_may_be_cleared_by_another_thread_while_it_is_made() -> None:
    class Meanwhile(tqdm.tqdm):
        @classmethod
        def _get_free_pos(cls, instance: Any = None) -> int:
            ParallelExecutor(num_threads=1, disable_progress_bar=True).execute(str, [1])
            return int(super()._get_free_pos(instance))

    assert Meanwhile([1, 2], disable=True).total == 2
