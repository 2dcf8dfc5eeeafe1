"""Temporary."""

import json

import dspy

from .splits import split


class Task:
    def __init__(self, program, examples, inputs, metric, name="task", test=None, seed=0):
        def read(x):
            return [
                dspy.Example(**r).with_inputs(*inputs) for r in (x if isinstance(x, list) else map(json.loads, open(x)))
            ]

        self.program = program
        self.metric = metric
        self.inputs = tuple(inputs)
        self.name = name
        self.splits = split(read(examples), seed=seed, test=read(test) if test is not None else None)
        self.train = self.splits.train
        self.dev = self.splits.dev
        self.test_size = len(self.splits.test)
        self.unsealed = ()
        self.identity = "x"

    def unseal_test(self, reason):
        self.unsealed += (reason,)
        return self.splits.test
