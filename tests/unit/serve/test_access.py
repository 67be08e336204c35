"""Who may ask: tokens, names of hosts, pages of other sites."""

import pytest

from segstudy.errors import InputError
from segstudy.serve.access import Access, access_of, is_local
from segstudy.serve.problems import ProblemError


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.4", False), ("clinic.example", False), ("127.0.0.1.evil.example", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine(host, local):
    assert is_local(host) == local


def test_beyond_this_machine_there_is_a_token():
    access, is_new = access_of("0.0.0.0", None)
    assert is_new and len(access.token) >= 40
    assert access_of("0.0.0.0", None)[0].token != access.token
    assert access_of("127.0.0.1", None) == (Access("", ("localhost", "127.0.0.1", "::1")), False)


def test_a_token_of_a_file(tmp_path):
    file = tmp_path / "token.txt"
    file.write_text("a-token-of-my-own-4711\n")
    access, is_new = access_of("0.0.0.0", file)
    assert (access.token, is_new) == ("a-token-of-my-own-4711", False)
    access.check_token("Bearer a-token-of-my-own-4711")
    for given in (
        "",
        "a-token-of-my-own-4711",
        "Bearer a-token-of-my-own-471",
        "Bearer",
        "Basic abc",
        "Bearer \udcff",
    ):
        with pytest.raises(ProblemError) as refused:
            access.check_token(given)
        assert refused.value.status == 401
        assert "Bearer" in refused.value.headers["WWW-Authenticate"]
        assert access.token not in str(refused.value.content())
    # With a token the name may be any, as that of a proxy on this machine.
    access, _ = access_of("127.0.0.1", file)
    access.check_caller({"host": "clinic.example", "origin": "https://clinic.example"})
    with pytest.raises(ProblemError, match="other sites"):
        access.check_caller({"host": "clinic.example", "origin": "https://evil.example"})
    for content in ("short", "two words of many letters", ""):
        file.write_text(content)
        with pytest.raises(InputError, match="one word of 16"):
            access_of("0.0.0.0", file)
    with pytest.raises(InputError, match="not readable"):
        access_of("0.0.0.0", tmp_path / "none.txt")


def test_other_sites_do_not_get_through_a_browser():
    access, _ = access_of("127.0.0.1", None)
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        access.check_caller({"host": host})
        access.check_caller({"host": host, "origin": f"http://{host}"})
    for headers in (
        {"host": "evil.example:8000"},  # DNS rebinding
        {"host": "localhost:8000", "origin": "https://evil.example"},
        {"host": "localhost:8000", "origin": "http://localhost:9000"},
        {"host": "localhost:8000", "origin": "null"},
        {},
    ):
        with pytest.raises(ProblemError) as refused:
            access.check_caller(headers)
        assert refused.value.status == 403
