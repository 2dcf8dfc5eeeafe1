"""What is remembered: cells and answers, in SQLite by default."""

from .records import Answer, Cell
from .store import Store, open_store

__all__ = ["Answer", "Cell", "Store", "open_store"]
