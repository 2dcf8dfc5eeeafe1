"""Log-probabilities of given continuations under the embedded LM.

The graph ends in the logits of every position; here it is cut short to the log-probabilities of the tokens that were
asked for. A prompt's constant first part is run once and its key-value states are kept, so that a row costs what it
adds. Rows run in small batches, two infer requests side by side: on two cores that is the fastest way measured, and in
32-bit floats a row's result does not depend on what runs beside it (differences under 1e-4).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .provision import GRAPH

__all__ = ["Scorer"]

_ROWS = 4
_KEPT_PREFIXES = 8


@dataclass(slots=True)
class _Row:
    prefix: tuple[int, ...]
    tail: list[int]
    continuations: list[list[int]]
    future: Future[list[float]] = field(default_factory=Future)

    @property
    def single(self) -> bool:
        return all(len(continuation) == 1 for continuation in self.continuations)


class Scorer:
    """Scores continuations of prompts, both given as token ids.

    Args:
        folder: An OpenVINO folder whose graph holds its states (``ReadValue``).
    """

    def __init__(self, folder: Path) -> None:
        self._workers = max(1, min(4, os.cpu_count() or 1))
        self._compiled = _compile(folder, self._workers)
        self._requests = [self._compiled.create_infer_request() for _ in range(self._workers)]
        self._lock = threading.Lock()
        self._waiting: deque[_Row] = deque()
        self._idle = list(range(self._workers))
        self._prefixes: OrderedDict[tuple[int, ...], list[Any]] = OrderedDict()
        self._prefix_lock = threading.Lock()

    def submit(self, prefix: list[int], tail: list[int], continuations: list[list[int]]) -> Future[list[float]]:
        """Queues a row: the log-probability of each continuation after ``prefix + tail``.

        The prefix is what many rows share; it may be empty, the tail and the continuations may not.
        """
        row = _Row(tuple(prefix), tail, continuations)
        with self._lock:
            self._waiting.append(row)
            # A worker for every batch's worth of rows: more would only split batches.
            if self._idle and len(self._waiting) > _ROWS * (self._workers - len(self._idle)):
                threading.Thread(target=self._run, args=(self._idle.pop(),), name="progspace-scoring").start()
        return row.future

    def _take(self) -> list[_Row]:
        """Takes rows that can run as one batch: of one prefix, near in length."""
        first = self._waiting[0]
        if not first.single:
            return [self._waiting.popleft()]
        alike = [row for row in self._waiting if row.prefix == first.prefix and row.single]
        alike.sort(key=lambda row: abs(len(row.tail) - len(first.tail)))
        batch = alike[:_ROWS]
        for row in batch:
            self._waiting.remove(row)
        return batch

    def _run(self, worker: int) -> None:
        request = self._requests[worker]
        while True:
            with self._lock:
                if not self._waiting:
                    self._idle.append(worker)
                    return
                batch = [row for row in self._take() if row.future.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                scores = self._score(request, batch)
            except Exception as error:
                for row in batch:
                    row.future.set_exception(error)
            else:
                for row, score in zip(batch, scores, strict=True):
                    row.future.set_result(score)

    def _score(self, request: Any, batch: list[_Row]) -> list[list[float]]:
        past = self._restore(request, batch[0].prefix)
        width = max(len(row.tail) for row in batch)
        most = max(len(row.continuations) for row in batch)
        ids = np.zeros((len(batch), width), np.int64)  # padded on the right: no real token attends to what comes later
        targets = np.zeros((len(batch), 1, most), np.int64)
        for index, row in enumerate(batch):
            ids[index, : len(row.tail)] = row.tail
            targets[index, 0, : len(row.continuations)] = [continuation[0] for continuation in row.continuations]
        last = np.array([[len(row.tail) - 1] for row in batch], np.int64)
        first = _infer(request, ids, past, last, targets, np.zeros(len(batch), np.int32))[:, 0]
        scores = [
            [float(value) for value in values[: len(row.continuations)]]
            for row, values in zip(batch, first, strict=True)
        ]
        if not batch[0].single:
            scores[0] = self._continue(request, past + width, batch[0].continuations, scores[0])
        return scores

    @staticmethod
    def _continue(request: Any, past: int, continuations: list[list[int]], first: list[float]) -> list[float]:
        """Adds the log-probabilities of the second and later tokens, some continuations at a time.

        The states of what came before are repeated for so many rows, and no more: of a prompt of 2,000 tokens, those of
        one row take 90 MB. The next continuations run in the same rows, masked from those before them.
        """
        longer = [index for index, continuation in enumerate(continuations) if len(continuation) > 1]
        longer.sort(key=lambda index: len(continuations[index]))
        rows, masked = min(_ROWS, len(longer)), 0
        beams = np.zeros(rows, np.int32)
        scores = list(first)
        for start in range(0, len(longer), rows):
            some = longer[start : start + rows]
            width = len(continuations[some[-1]]) - 1
            ids = np.zeros((rows, width), np.int64)
            targets = np.zeros((rows, width, 1), np.int64)
            for row, index in enumerate(some):
                length = len(continuations[index]) - 1
                ids[row, :length] = continuations[index][:-1]
                targets[row, :length, 0] = continuations[index][1:]
            positions = np.tile(np.arange(width), (rows, 1))
            rest = _infer(request, ids, past, positions, targets, beams, masked)[..., 0]
            for row, index in enumerate(some):
                scores[index] += float(rest[row, : len(continuations[index]) - 1].sum())
            beams, masked = np.arange(rows, dtype=np.int32), masked + width
        return scores

    def _restore(self, request: Any, prefix: tuple[int, ...]) -> int:
        """Puts the states of a prefix into an infer request; gives the prefix's length."""
        request.reset_state()
        if not prefix:
            return 0
        with self._prefix_lock:
            states = self._prefixes.get(prefix)
            if states is None:
                ids = np.array([prefix], np.int64)
                last = np.array([[len(prefix) - 1]])
                _infer(request, ids, 0, last, np.zeros((1, 1, 1), np.int64), np.zeros(1, np.int32))
                states = [_copy(variable.state) for variable in request.query_state()]
                self._prefixes[prefix] = states
                while len(self._prefixes) > _KEPT_PREFIXES:
                    self._prefixes.popitem(last=False)
            self._prefixes.move_to_end(prefix)
        for variable, state in zip(request.query_state(), states, strict=True):
            variable.state = state
        return len(prefix)


def _copy(state: Any) -> Any:
    import openvino as ov

    return ov.Tensor(state.data.copy())


def _infer(
    request: Any,
    ids: NDArray[np.int64],
    past: int,
    positions: NDArray[np.int64],
    targets: NDArray[np.int64],
    beams: NDArray[np.int32],
    masked: int = 0,
) -> NDArray[np.float32]:
    """Runs rows after ``past`` tokens; gives the log-probabilities of ``targets`` (rows, positions, tokens).

    To so many later tokens that ran after ``past``, ``masked``, no row attends.
    """
    rows, width = ids.shape
    mask = np.ones((rows, past + masked + width), np.int64)
    mask[:, past : past + masked] = 0
    outputs = request.infer(
        {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": np.tile(np.arange(past, past + width), (rows, 1)),
            "beam_idx": beams,
            "positions": positions,
            "targets": targets,
        },
        share_inputs=True,
    )
    result: NDArray[np.float32] = outputs[0].copy()
    return result


def _compile(folder: Path, streams: int) -> Any:
    """Compiles the graph with two more inputs: the positions to look at, and the tokens to score there."""
    import openvino as ov
    from openvino import opset13 as ops

    core = ov.Core()
    model = core.read_model(str(folder / GRAPH))
    result = model.get_results()[0]
    head = result.input(0).get_source_output().get_node()  # hidden states × embeddings
    positions = ops.parameter([-1, -1], ov.Type.i64, "positions")
    positions.output(0).set_names({"positions"})
    targets = ops.parameter([-1, -1, -1], ov.Type.i64, "targets")
    targets.output(0).set_names({"targets"})
    hidden = ops.gather(head.input(0).get_source_output(), positions, ops.constant(np.int64(1)), batch_dims=1)
    head.input(0).replace_source_output(hidden.output(0))
    scores = ops.gather_elements(ops.log_softmax(head.output(0), -1), targets, 2)
    model.add_parameters([positions, targets])
    model.remove_result(result)
    model.add_results([ops.result(scores.output(0))])
    model.validate_nodes_and_infer_types()
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "NUM_STREAMS": str(streams),
    }
    return core.compile_model(model, "CPU", properties)
