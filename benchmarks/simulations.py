"""What simulations on recorded matrices have in common: arguments, processes, and intervals of means."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .results import RESULTS

__all__ = ["half_width", "simulation_parser", "workers"]


def simulation_parser(told: str | None, *, runs: int) -> argparse.ArgumentParser:
    """Makes a parser of what every simulation takes: how many runs, in how many processes, and where results go."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def workers(count: int) -> Pool:
    """Starts so many processes for simulations, which let others go first.

    Their matrices are small: more threads of BLAS than one only stand in their way.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    return multiprocessing.get_context("spawn").Pool(count, os.nice, (10,))


def half_width(values: NDArray[np.float64]) -> float:
    """Half the width of the 95 % interval of a mean, by the normal distribution; 0 for a single value."""
    return 1.96 * float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else 0.0
