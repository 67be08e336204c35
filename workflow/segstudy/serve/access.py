"""Who may ask: nobody beyond this machine without a token, and no page of another site through a browser."""

import hmac
import ipaddress
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from segstudy.errors import InputError
from segstudy.serve.problems import ProblemError

SHORTEST = 16
"""Characters of a token."""
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    """Decide which requests are let through.

    Parameters
    ----------
    token
        Empty: none is asked for.
    hosts
        Names by which clients may call the service; empty: by any, since a token is asked for. Without a token this stops a site
        whose name was made to lead to this machine (DNS rebinding).
    """

    token: str = ""
    hosts: Collection[str] = ()

    def check_caller(self, headers: Mapping[str, str]) -> None:
        """Raise ProblemError for a request under a foreign name, or from a page of another site. headers: in lower case."""
        host = headers.get("host", "")
        if self.hosts and _name_of(host) not in self.hosts:
            raise ProblemError(
                403,
                "The service is not called by this name.",
                "another Host",
                " or ".join(self.hosts),
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise ProblemError(
                403, "Pages of other sites may not ask.", "another Origin", "the service's own page"
            )

    def check_token(self, authorization: str) -> None:
        """Raise ProblemError unless the header `Authorization` holds the token, compared in constant time."""
        if not self.token:
            return
        kind, _, given = authorization.partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("utf-8", "surrogateescape"), self.token.encode()
        ):
            raise ProblemError(
                401,
                "The service asks for its token.",
                "another token" if authorization else "no header Authorization",
                "Authorization: Bearer TOKEN",
                {"WWW-Authenticate": 'Bearer realm="segstudy"'},
            )


def access_of(host: str, token_file: Path | None) -> tuple[Access, bool]:
    """Return who may ask a service at an address, and whether the token was made up, so that it must be told.

    Parameters
    ----------
    host
        The address that the service listens at.
    token_file
        Holds the token; None: none on this machine, and a new one at other addresses.

    Raises
    ------
    InputError
        For a file that holds no token.
    """
    if token_file is not None:
        return Access(_read_token(token_file)), False
    if is_local(host):
        return Access("", LOCAL if host in LOCAL else (*LOCAL, host)), False
    return Access(secrets.token_urlsafe(32)), True


def is_local(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path}: not readable as text ({error})") from None
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"--token-file {path}: {len(token)} characters; expected one word of {SHORTEST} or more ASCII characters"
        )
    return token


def _name_of(host: str) -> str:
    """Return the name of a header `Host`, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
