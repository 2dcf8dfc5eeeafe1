"""``progspace …``: arguments in, calls, text or JSON out.

People's text and progress go to standard error, results to standard output; ``--json`` gives one JSON document there.
Exit status: 0 done, 1 a gate did not hold, 2 bad input or an error, 3 a gate cannot tell, 130 interrupted, 141 nobody
reads on.
"""

from __future__ import annotations

from .application import app, main

__all__ = ["app", "main"]
