"""Fetching an archive over HTTP: resumed, checked, and unpacked whole or not at all."""

import hashlib
import http
import re
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import requests
import urllib3

import segstudy
from segstudy.download.registry import Archive
from segstudy.errors import InputError
from segstudy.files import make_folder, read_json, write_json, writing_folder
from segstudy.log import duration, log
from segstudy.unpack import unpack

ATTEMPTS = 4  # transfers in a row that bring nothing new
PAUSE_S = 1.0  # before the first repetition; doubled each time
TIMEOUT_S = (15, 60)  # to connect, and between two pieces
PIECE_BYTES = 1 << 18
PROGRESS_S = 5.0


class _Broken(Exception):
    """Report a transfer that is worth another attempt."""


def fetch_archive(archive: Archive, output: Path, pause_s: float = PAUSE_S) -> None:
    """Fetch an archive and unpack it to the folder `output`.

    Until the content is whole, the transferred part lies in `<output>.partial/`, from where the
    next call goes on; that folder is removed at the end, and when its checksum is wrong.

    Parameters
    ----------
    archive
        Address and checksums.
    output
        The folder.
    pause_s
        Seconds before the first repetition of a broken transfer.

    Raises
    ------
    InputError
        When the server does not answer or refuses, when the checksum is wrong and when the archive
        is damaged; `output` is then unchanged.
    """
    for note in archive.notes:
        log.info("%s", note)
    partial = output.with_name(output.name + ".partial")
    file = partial / "archive"
    size = f" (about {_bytes(archive.size_bytes)})" if archive.size_bytes else ""
    log.info("fetching %s%s", archive.url, size)
    resumed = _prepare(partial, archive)
    try:
        download(archive.url, file, pause_s)
        problem = checksum_problem(file, archive.checksums)
        if problem and resumed:
            # An earlier run may have left the beginning of another version of the file.
            log.warning("%s: %s; the resumed file is dropped, starting anew", archive.url, problem)
            file.unlink()
            download(archive.url, file, pause_s)
            problem = checksum_problem(file, archive.checksums)
    except BaseException:
        _remove_if_empty(partial)
        raise
    if problem:
        hint = _page_hint(file)
        shutil.rmtree(partial)
        raise InputError(
            f"{archive.url}: {problem}{hint}. Nothing was kept. Either the file at this address "
            "has changed or the checksum in the study file is not its own"
        )
    log.info("checksum is right; unpacking")
    try:
        with writing_folder(output) as folder:
            unpack(file, folder)
    except InputError as error:
        shutil.rmtree(partial)
        raise InputError(f"{archive.url}: {error}") from None
    shutil.rmtree(partial)


def download(url: str, file: Path, pause_s: float = PAUSE_S) -> None:
    """Download `url` to `file`, going on behind the part that the file already holds.

    A broken transfer is resumed after a pause. A server that cannot resume makes the file start
    anew.

    Parameters
    ----------
    url
        http or https.
    file
        Where the content goes.
    pause_s
        Seconds before the first repetition, doubled each time.

    Raises
    ------
    InputError
        After `ATTEMPTS` transfers in a row that brought nothing new.
    """
    failures = 0
    while True:
        held = _size(file)
        try:
            _transfer(url, file)
            return
        except _Broken as error:
            # Progress counts only behind what was held: a server that starts anew each time and
            # breaks each time would otherwise be asked for ever.
            failures = (
                1 if held and _size(file) > held and _note(file).get("resumes") else failures + 1
            )
            if failures >= ATTEMPTS:
                kept = _size(file)
                advice = (
                    f"{_bytes(kept)} are kept: run again to go on from there"
                    if kept
                    else "check the address and the network, and run again"
                )
                raise InputError(
                    f"{url}: {error}, {failures} times in a row; {advice} (or fetch it by other "
                    "means, unpack it and set source.path)"
                ) from None
            pause = pause_s * 2 ** (failures - 1)
            log.warning("%s; attempt %d in %s", error, failures + 1, duration(pause))
            time.sleep(pause)


def checksum_problem(file: Path, checksums: Mapping[str, str]) -> str:
    """Describe the first wrong checksum of a file; empty where all are right."""
    for algorithm, expected in checksums.items():
        log.info("computing the %s", algorithm.upper())
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, algorithm).hexdigest()
        if digest != expected:
            return (
                f"wrong {algorithm.upper()}: found {digest}, expected {expected} "
                f"({_size(file)} bytes)"
            )
    return ""


def _prepare(partial: Path, archive: Archive) -> bool:
    """Prepare the folder of the partial file; tell whether it holds the beginning of this archive."""
    file, wanted = partial / "archive", {"url": archive.url, "checksums": archive.checksums}
    note = _note(file)
    same = {key: note.get(key) for key in wanted} == wanted
    if partial.exists() and not same:
        shutil.rmtree(partial)
    make_folder(partial)
    if not same:
        write_json(_note_path(file), wanted)
    if _size(file):
        log.info("going on behind the %s that are there", _bytes(_size(file)))
    return _size(file) > 0


# --- one transfer -------------------------------------------------------------------------------


def _transfer(url: str, file: Path) -> None:
    """Send one HTTP request; `_Broken` if it is worth another one."""
    held, note = _size(file), _note(file)
    headers = {"Accept-Encoding": "identity", "User-Agent": f"segstudy/{segstudy.__version__}"}
    if held:
        headers["Range"] = f"bytes={held}-"
        if note.get("version"):
            # With another version the server sends the whole file in place of the rest.
            headers["If-Range"] = note["version"]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and held:
                if _total(answer) == held:
                    return
                file.unlink()
                raise _Broken("the server has another file than the one begun")
            _refuse(answer, url)
            resumes = answer.status_code == http.HTTPStatus.PARTIAL_CONTENT
            if resumes and _start(answer) != held:
                file.unlink()
                raise _Broken("the server sent another part than asked")
            total = _total(answer)
            _check_space(file, url, (total or 0) - (held if resumes else 0))
            _write_note(file, note | {"version": _version(answer), "resumes": resumes})
            _receive(answer, file, resumes, total)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise InputError(f"source.url: {url}: {error}; expected http:// or https://") from None
    except requests.exceptions.MissingSchema:
        raise InputError(f"source.url: {url}: expected http:// or https:// before it") from None
    except requests.exceptions.TooManyRedirects:
        raise InputError(f"{url}: the server redirects without end; check the address") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Broken(_reason(error)) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from None


def _receive(answer: requests.Response, file: Path, resumes: bool, total: int | None) -> None:
    began = said = time.monotonic()
    done = before = _size(file) if resumes else 0
    with file.open("ab" if resumes else "wb") as target:
        # decode_content=False: some servers call a .tar.gz a compressed .tar.
        for piece in answer.raw.stream(PIECE_BYTES, decode_content=False):
            target.write(piece)
            done += len(piece)
            now = time.monotonic()
            if now - said >= PROGRESS_S:
                said = now
                rate = (done - before) / (now - began)
                log.info("%s", _progress(done, total, rate))
    if total is not None and done != total:
        raise _Broken(f"the transfer broke after {done} of {total} bytes")
    log.info("%s in %s", _bytes(done), duration(time.monotonic() - began))


def _progress(done: int, total: int | None, rate: float) -> str:
    if not total:
        return f"{_bytes(done)}, {_bytes(rate)}/s"
    left = duration((total - done) / rate)
    return (
        f"{_bytes(done)} of {_bytes(total)} ({100 * done / total:.0f} %), {_bytes(rate)}/s, "
        f"about {left} left"
    )


def _refuse(answer: requests.Response, url: str) -> None:
    """Raise for an HTTP error: `_Broken` where waiting may help, InputError where it won't."""
    code = answer.status_code
    if code < 400:
        return
    text = f"HTTP {code} {answer.reason or ''}".strip()
    if code in (408, 425, 429) or code >= 500:
        raise _Broken(f"the server answers {text}")
    advice = (
        "the dataset needs a login: fetch it by other means, unpack it and set source.path"
        if code in (401, 403)
        else "check the address"
    )
    raise InputError(f"{url}: the server answers {text}; {advice}")


def _total(answer: requests.Response) -> int | None:
    """Read the size of the whole file in bytes, if the server tells it."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if answer.status_code == http.HTTPStatus.OK:
        whole = answer.headers.get("Content-Length", "")
    return _bytes_told(whole)


def _start(answer: requests.Response) -> int | None:
    start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return _bytes_told(start)


def _bytes_told(text: str) -> int | None:
    """Read a number of bytes that a server tells; None for text that is none."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _version(answer: requests.Response) -> str | None:
    """Read the version to ask for by `If-Range`: a strong ETag, or the date of the last change."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _check_space(file: Path, url: str, needed: int) -> None:
    free = shutil.disk_usage(file.parent).free
    if needed > free:
        raise InputError(
            f"{url}: {_bytes(needed)} are to be fetched, {_bytes(free)} are free in {file.parent}"
        )


def _reason(error: BaseException) -> str:
    """Describe a library's error in a few words, from its innermost cause."""
    chain = [error]
    while True:
        last = chain[-1]
        inner = getattr(last, "reason", None) or (last.args[0] if last.args else None)
        inner = inner if isinstance(inner, BaseException) else last.__cause__ or last.__context__
        if inner is None or inner in chain:
            break
        chain.append(inner)
    for cause in reversed(chain):
        if isinstance(cause, socket.gaierror):
            return "there is no server of this name"
        if isinstance(cause, TimeoutError | requests.Timeout):
            return "the server does not answer in time"
        if isinstance(cause, urllib3.exceptions.IncompleteRead):
            return "the transfer broke off"
        if isinstance(cause, OSError) and cause.strerror:
            return f"no connection ({cause.strerror})"
    return f"no connection ({' '.join(str(error).split())[:160]})"


# --- the partial file and its note --------------------------------------------------------------


def _note_path(file: Path) -> Path:
    return file.with_name("archive.json")


def _note(file: Path) -> dict:
    """Read the note on the partial file: its address and checksums, the server's version of it."""
    try:
        note = read_json(_note_path(file))
    except InputError:
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(file: Path, note: dict) -> None:
    write_json(_note_path(file), note)


def _remove_if_empty(partial: Path) -> None:
    if not _size(partial / "archive"):
        shutil.rmtree(partial, ignore_errors=True)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _page_hint(file: Path) -> str:
    with file.open("rb") as content:
        start = content.read(200).lstrip().lower()
    return ", and what came is a web page" if start.startswith((b"<!doctype", b"<html")) else ""


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
