"""What is told of a request that cannot be answered, after RFC 9457 (problem details), and of a machine that fails."""

import errno
import sqlite3
from http import HTTPStatus
from typing import Any

RESEARCH_USE = "For research use only: not a medical device, not for diagnosis or treatment."
"""Stands on the page, in the description of the API and in its answers."""


def is_full(error: BaseException) -> bool:
    """Tell whether an error says that the disk is full."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def fault_words(error: BaseException) -> str:
    """Say in a sentence what of the service's machine fails; an error's own words may name files, and are left out."""
    if is_full(error):
        return "The disk of the service is full."
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        return f"The queue of the service cannot be read or written ({name})."
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno, type(error).__name__)
        return f"The disk of the service, or its system, fails ({name})."
    return f"The service fails between two predictions ({type(error).__name__})."


class ProblemError(Exception):
    """Tell a client what is wrong with its request.

    Parameters
    ----------
    status
        The status of HTTP.
    detail
        A sentence: what is wrong, and what to do.
    found, expected
        What was found, and what was expected, in words; empty where the sentence says all.
    headers
        Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        found: str = "",
        expected: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.found = found
        self.expected = expected
        self.headers = headers or {}

    def content(self) -> dict[str, Any]:
        """Return the members of the answer, `application/problem+json`."""
        told = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.found:
            told["found"] = self.found
        if self.expected:
            told["expected"] = self.expected
        return told
