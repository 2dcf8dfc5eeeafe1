"""What can be measured, each with a script of its own.

python -m progspace.benchmarks                       # tells of each
python -m progspace.benchmarks core --suite quick    # or: progspace benchmark core --suite quick
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..errors import DataError, ProgspaceError

__all__ = ["SCRIPTS", "run", "tell"]

SCRIPTS = (
    "claims", "cluster", "code_generation", "cold_start", "core", "drift", "embedding", "faults", "finetune", "fuzz",
    "gate", "ingest", "input_drift", "kills", "known", "newcomer", "overhead", "page", "peers", "policies", "promotion",
    "record", "replay", "retrieval", "robustness", "screenshots", "search_overhead", "selection", "sentiment",
    "serving", "serving_embedded", "show", "store", "vectors", "watching",
)  # fmt: skip


def run(name: str, arguments: Sequence[str], called: str) -> None:
    """Runs one with the arguments of its command line; ``called`` is what its help calls it.

    Raises:
        DataError: There is none of that name.
    """
    if name not in SCRIPTS:
        raise DataError(f"there is no suite {name!r}; there is {', '.join(SCRIPTS)}")
    sys.argv = [f"{called} {name}", *arguments]
    importlib.import_module(f".{name}", __package__).main()


def tell() -> None:
    """Prints each, and what its script says of it."""
    from .shown.reading import about

    told = Table(box=None, show_header=False, pad_edge=False)
    for name in SCRIPTS:
        told.add_row(name, about(name))
    Console().print(told)


if __name__ == "__main__":
    try:
        if sys.argv[1:] in ([], ["-h"], ["--help"]):
            tell()
        else:
            run(sys.argv[1], sys.argv[2:], "python -m progspace.benchmarks")
    except ProgspaceError as error:
        sys.exit(f"progspace: {error}")
