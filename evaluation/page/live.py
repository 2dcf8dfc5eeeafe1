"""Serves the report page of a search that runs elsewhere, to the browser of this machine alone."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ...store.database import Store
from ...store.searches import Search, searches
from .content import PageContent
from .html import html_page, json_of
from .reading import read_content

__all__ = ["Watch", "find_search"]

_HOST = "127.0.0.1"
_NAMES = (_HOST, "localhost")


def find_search(store: Store, what: str | None) -> Search | None:
    """Finds the search that was heard of last, of all or of those of a task's name or an id."""
    return next((each for each in searches(store) if what in (None, each.task, each.id)), None)


class Watch:
    """A server on the loopback address; what it shows is read from the store anew when something was stored.

    Args:
        store: In which the search is written down.
        what: A task's name or a search's id; None for the search that was heard of last.
        port: 0 for any that is free.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, store: Store, what: str | None = None, port: int = 0) -> None:
        self._store, self._what = store, what
        self._lock = threading.Lock()
        self._known: tuple[str, PageContent] = ("", _nothing(what))
        self._server = ThreadingHTTPServer((_HOST, port), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{_HOST}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Serves until it is interrupted or closed."""
        self._server.serve_forever()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()

    def content(self) -> tuple[str, PageContent]:
        """Gives what is to be shown now, with a tag that changes when it does."""
        with self._lock:
            search = find_search(self._store, self._what)
            tag = "" if search is None else f'"{search.id}-{search.updated}"'
            if search is not None and tag != self._known[0]:
                self._known = (tag, read_content(self._store, search))
            return self._known

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        watch = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # A page of another site may make a browser ask here, under that site's name.
                if self.headers.get("Host", "").rpartition(":")[0] not in _NAMES:
                    self.send_error(HTTPStatus.FORBIDDEN)
                    return
                if self.path not in ("/", "/content.json"):
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                tag, content = watch.content()
                if self.path == "/":
                    self._give(html_page(content, live=True), "text/html", "")
                elif tag and self.headers.get("If-None-Match") == tag:
                    self.send_response(HTTPStatus.NOT_MODIFIED)
                    self.end_headers()
                else:
                    self._give(json_of(content), "application/json", tag)

            def _give(self, text: str, kind: str, tag: str) -> None:
                body = text.encode()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                if tag:
                    self.send_header("ETag", tag)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing: the page asks every other second."""

        return Handler


def _nothing(what: str | None) -> PageContent:
    return PageContent(task=what or "no search yet", lm="none yet", seed=0, state="running")
