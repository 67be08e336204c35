"""What is told of a request that cannot be answered, after RFC 9457 (problem details)."""

from http import HTTPStatus
from typing import Any

RESEARCH_USE = "For research use only: not a medical device, not for diagnosis or treatment."
"""Stands on the page, in the description of the API and in its answers."""


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
