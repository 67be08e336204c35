"""The service over HTTP: what each request does, its OpenAPI, the page, and the guards in front of all."""

import asyncio
import base64
import hashlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import FastAPI, Request
from fastapi import Path as InPath
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from segstudy import __version__
from segstudy.log import log
from segstudy.serve import answers, uploads
from segstudy.serve.access import Access
from segstudy.serve.folder import Folder
from segstudy.serve.job_queue import DONE, RUNNING, WAITING, Job, JobQueue
from segstudy.serve.limits import Limits
from segstudy.serve.predictor import Predictor
from segstudy.serve.problems import RESEARCH_USE, ProblemError, fault_words, is_full
from segstudy.serve.prometheus import TYPE, Counts

OPEN = ("/", "/health", "/openapi.json", "/niivue.js")
"""What is told without a token: the empty page, and whether the service lives."""
SPARE_BYTES = 1 << 30
"""That must be free on the disk beside an upload."""
BLOCK = 1 << 20
"""Bytes of a file that are sent at a time."""
UNPACKING = 2
"""Uploads that are looked through at a time."""
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
DESCRIPTION = f"""**{RESEARCH_USE}**

Send a scan, ask for its state until it is done, fetch the label map. Scans are NIfTI, NRRD, or a zip of one DICOM series; the name
of a file decides nothing and is not kept. An upload is removed as soon as it is predicted, a prediction after a time, or when it is
deleted. Whoever has the number of a prediction, which nobody can guess, can read it.
"""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Service:
    """Hold what answers requests.

    Parameters
    ----------
    folder, jobs, predictor
        Files, queue, and the thread that predicts.
    limits
        What is taken.
    access
        Who may ask.
    counts
        What was done.
    """

    folder: Folder
    jobs: JobQueue
    predictor: Predictor
    limits: Limits
    access: Access
    counts: Counts


RefusedError = HTTPException.__mro__[1]
"""Starlette's own, of forms, paths and methods."""


class DisconnectedError(Exception):
    """Tell that a client went away in the middle of its request."""


# --- guards -----------------------------------------------------------------------------------------


class Guard:
    """Stand in front of all: who may ask, how much is read, which headers an answer has, and what is logged of it."""

    def __init__(self, app: Callable[..., Awaitable[None]], service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                known = {name.lower() for name, _ in message["headers"]}
                more = HEADERS | {"Content-Security-Policy": API_POLICY}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in more.items()
                        if name.lower().encode() not in known
                    ),
                ]
            await send(message)

        # The server leaves out what a HEAD is not answered with.
        asked = scope | {"method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            self._check(scope)
            await self._app(asked, self._counted(receive, scope["method"] != "POST"), sending)
        except ProblemError as problem:
            await problem_response(problem)(scope, receive, sending)
        except Exception as error:
            # Its words may hold names of files or of patients.
            log.error("%s: %s at %s", scope["method"], type(error).__name__, _place(error))
            if not status:
                await problem_response(_unforeseen(error))(scope, receive, sending)
        route = getattr(asked.get("route"), "path", "elsewhere")
        log.info(
            "%s %s %d in %.3f s", scope["method"][:10], route, status, time.monotonic() - began
        )
        self._service.counts.answered(_method(scope["method"]), status)

    def _check(self, scope: Scope) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self._service.access.check_caller(headers)
        if scope["path"] not in OPEN:
            self._service.access.check_token(headers.get("authorization", ""))
        length = headers.get("content-length", "0")
        if not re.fullmatch(r"\d{1,18}", length):
            raise ProblemError(400, "Content-Length is no number.", "", "a number of bytes")
        self._check_size(int(length))

    def _check_size(self, size: int) -> None:
        most = self._service.limits.upload_bytes
        if size > most:
            raise ProblemError(
                413,
                "The upload is too large.",
                f"{size:,} bytes or more",
                f"at most {most:,} bytes",
            )

    def _counted(self, receive: Receive, ended: bool) -> Receive:
        """Read a body, up to as much as is taken and the disk has room for, whatever its header says; ended: none is read."""
        size, service = 0, self._service

        async def receiving() -> MutableMapping[str, Any]:
            nonlocal size, ended
            try:
                # A body that ended is followed by nothing but the end of the connection.
                async with asyncio.timeout(None if ended else service.limits.stall_seconds):
                    message = await receive()
            except TimeoutError:
                raise _stalled(service) from None
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                ended = not message.get("more_body", False)
                self._check_size(size)
                if not ended and _free_bytes(service) < SPARE_BYTES:
                    raise _no_room()
            elif not ended:
                raise DisconnectedError
            return message

        return receiving


def problem_response(problem: ProblemError) -> Response:
    """Return the answer that tells a problem."""
    return JSONResponse(
        problem.content(), problem.status, problem.headers, media_type="application/problem+json"
    )


def _method(method: str) -> str:
    return (
        method
        if method in ("GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS")
        else "other"
    )


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"


def _unforeseen(error: BaseException) -> ProblemError:
    if is_full(error):
        return _no_room()
    if isinstance(error, sqlite3.Error):
        return _no_queue()
    return ProblemError(500, "The service failed on this request, which its log tells of.")


def _stalled(service: Service) -> ProblemError:
    return ProblemError(
        408,
        "The upload stopped: send it again.",
        f"no byte for {service.limits.stall_seconds:g} s",
        "an upload that goes on",
        {"Connection": "close"},
    )


def _free_bytes(service: Service) -> int:
    return shutil.disk_usage(service.folder.path).free


def _no_room() -> ProblemError:
    return ProblemError(
        507, "The disk of the service is full: try again later, or tell who runs it."
    )


def _no_queue() -> ProblemError:
    return ProblemError(
        503,
        "The queue of the service cannot be read or written: try again later, or tell who runs it.",
        headers={"Retry-After": "30"},
    )


def is_name(text: str) -> bool:
    """Tell whether a text could be the name of a prediction."""
    return bool(re.fullmatch("[0-9a-f]{32}", text))


def _no_such() -> ProblemError:
    return ProblemError(404, "There is no such prediction, or it was removed.")


# --- an upload --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """Hold what a request asks for.

    Parameters
    ----------
    model
        Name of the model.
    quality
        Whether the prediction is judged.
    files
        The uploads.
    """

    model: str
    quality: bool
    files: list[IO[bytes]]


async def read_form(request: Request, models: Mapping[str, Mapping[str, Any]]) -> Form:
    """Read a request's form; its files lie on the disk, not in memory.

    Raises
    ------
    ProblemError
        415 for another type than `multipart/form-data`, 400 for a broken one, 422 for other fields than there are.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise ProblemError(
            415,
            "The request holds no form.",
            "another Content-Type" if kind else "no Content-Type",
            "multipart/form-data",
        )
    most = max(len(one["channels"]) for one in models.values())
    try:
        form = await request.form(max_files=most + 1, max_fields=8, max_part_size=1024)
    except RefusedError as error:
        raise ProblemError(
            400, "The form cannot be read.", str(error.detail)[:200], "multipart/form-data"
        ) from None
    except UnicodeError:  # as of the charset `undefined`
        raise ProblemError(
            400, "The form cannot be read.", "names that are not of its charset", "UTF-8"
        ) from None
    odd = sorted(set(form) - {"image", "model", "quality"})
    if odd:
        raise ProblemError(422, "A field that is not known.", odd[0][:40], "image, model, quality")
    for key in ("model", "quality"):
        if len(form.getlist(key)) > 1:
            raise ProblemError(
                422, f"`{key}` is given more than once.", f"{len(form.getlist(key))} times", "once"
            )
    files = [one.file for one in form.getlist("image") if not isinstance(one, str)]
    if not files or len(files) < len(form.getlist("image")):
        raise ProblemError(
            422, "A file is missing.", f"{len(files)} files in `image`", uploads.EXPECTED
        )
    name = form.get("model", next(iter(models)) if len(models) == 1 else None)
    if not isinstance(name, str) or name not in models:
        raise ProblemError(
            422,
            "The model is not known." if name else "No model is named.",
            "another name" if name else "",
            ", ".join(models),
        )
    asked = form.get("quality", "true" if models[name]["calibrated"] else "false")
    if asked not in ("true", "false"):
        raise ProblemError(422, "`quality` is neither true nor false.", "", "true or false")
    return Form(name, asked == "true", files)


@contextmanager
def _dropped_unless_kept(folder: Folder, name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        folder.drop(name)
        folder.remove(name)
        raise


def take_upload(service: Service, form: Form) -> str:
    """Look through an upload and put its prediction into the queue; return its name.

    Raises
    ------
    ProblemError
        As `uploads.take` does; 503 where too many wait.
    """
    model = service.predictor.models[form.model]
    name, place = service.folder.new()
    with _dropped_unless_kept(service.folder, name):
        taken = [
            uploads.take(file, place, f"image_{number:04d}", service.limits)
            for number, file in enumerate(form.files)
        ]
        uploads.check_channels(taken, model["channels"], service.limits)
        service.folder.accept(name)
        request = {
            "files": [one.path.name for one in taken],
            "kinds": [one.kind for one in taken],
            "notes": [note for one in taken for note in one.notes],
            "quality": form.quality,
            "checksum": model["checksum"],
        }
        if not service.jobs.add(name, form.model, request, service.limits.waiting):
            raise _too_many(service)
    service.predictor.wake()
    return name


def _too_many(service: Service) -> ProblemError:
    return ProblemError(
        503,
        "Too many predictions wait: try again later.",
        f"{service.limits.waiting} that are not finished",
        "fewer",
        {"Retry-After": "30"},
    )


# --- the page ---------------------------------------------------------------------------------------


def page() -> tuple[str, str]:
    """Return the page, and the policy that lets its own script and style run, by their digests, and no other."""
    text = resources.files("segstudy").joinpath("serve", "page.html").read_text(encoding="utf-8")
    digests = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
            for part in re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src 'self' {digests['script']}; style-src {digests['style']}; connect-src 'self' data: blob:; "
        "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


# --- the application --------------------------------------------------------------------------------

TOLD = {
    400: "A request that cannot be read.",
    401: "No token, or another one.",
    403: "A foreign name, or a page of another site.",
    404: "No such prediction, or it was removed.",
    408: "An upload that stopped.",
    409: "The prediction is not done.",
    413: "More than is taken.",
    415: "No scan that can be read.",
    422: "A scan that is damaged, or not to be trusted.",
    500: "A fault of the service.",
    503: "Too many predictions wait, or the queue cannot be read or written.",
    507: "The disk is full.",
}
"""Status -> what it means."""


def _told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {
            "description": TOLD[status],
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in (400, 401, 403, *statuses, 500, 503)
    }


FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {
                    "image": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                        "description": "The scan, a file a channel in the order of the model's channels, or one with all.",
                    },
                    "model": {
                        "type": "string",
                        "description": "Its name; may be left out where there is one.",
                    },
                    "quality": {
                        "type": "string",
                        "enum": ["true", "false"],
                        "description": "Whether the prediction is judged, which takes several predictions (default: where the "
                        "model is calibrated).",
                    },
                },
            }
        }
    },
}


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield an open file, a block at a time, and close it."""
    with file:
        while block := file.read(BLOCK):
            yield block


Name = Annotated[
    str,
    InPath(description="Of a prediction: 32 hexadecimal digits.", examples=[answers.EXAMPLE_ID]),
]


def make_app(service: Service) -> Guard:
    """Return the application of a service, with its guard."""
    app = FastAPI(
        title="segstudy serve",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    text, policy = page()
    niivue = resources.files("segstudy").joinpath("publish", "niivue", "niivue.umd.js")
    unpacking = ThreadPoolExecutor(UNPACKING, "unpacking")

    def found(name: str) -> Job:
        job = service.jobs.find(name) if is_name(name) else None
        if job is None:
            raise _no_such()
        return job

    def answered(job: Job) -> answers.PredictionAnswer:
        output = service.folder.prediction(job.id) / "output"
        names = {one for one in answers.FILES if (output / one).is_file()}
        return answers.prediction_answer(job, service.predictor.progress(job.id), names)

    @app.post(
        "/predictions",
        status_code=202,
        response_model=answers.PredictionAnswer,
        responses=_told(408, 413, 415, 422, 507),
        openapi_extra={"requestBody": FORM},
        summary="Send a scan",
    )
    async def create(request: Request, response: Response) -> answers.PredictionAnswer:
        counts = service.jobs.counts()
        if counts["waiting"] + counts["running"] >= service.limits.waiting:
            raise _too_many(service)
        length = int(request.headers.get("content-length", "0"))
        if _free_bytes(service) < length + SPARE_BYTES:
            raise _no_room()
        form = await read_form(request, service.predictor.models)
        size = sum(one.seek(0, os.SEEK_END) for one in form.files)  # a length need not be told
        name = await asyncio.wrap_future(unpacking.submit(take_upload, service, form))
        await request.close()
        service.counts.uploaded(size)
        response.headers["Location"] = f"/predictions/{name}"
        return answered(found(name))

    @app.get(
        "/predictions/{name}",
        response_model=answers.PredictionAnswer,
        responses=_told(404),
        summary="Ask for a prediction",
    )
    def read(name: Name) -> answers.PredictionAnswer:
        return answered(found(name))

    @app.get(
        "/predictions/{name}/files/{file}",
        response_class=StreamingResponse,
        responses=_told(404, 409)
        | {
            200: {
                "description": "The file.",
                "content": {kind: {} for kind in dict.fromkeys(answers.FILES.values())},
            }
        },
        summary="Fetch a file",
    )
    def fetch(
        name: Name,
        file: Annotated[
            str,
            InPath(
                description=f"One of {', '.join(answers.FILES)}.", examples=["segmentation.nii.gz"]
            ),
        ],
    ) -> StreamingResponse:
        job = found(name)
        if file not in answers.FILES:
            raise ProblemError(
                404, "There is no such file.", "another name", ", ".join(answers.FILES)
            )
        if job.state != DONE:
            raise ProblemError(
                409, "The prediction has no files.", f"state {job.state}", "state done"
            )
        try:
            # Opened here, so that it is sent as a whole though it is removed meanwhile.
            opened = (service.folder.prediction(name) / "output" / file).open("rb")
        except FileNotFoundError:
            found(name)
            raise ProblemError(
                404, "This prediction has no such file.", "", ", ".join(job.result["files"])
            ) from None
        return StreamingResponse(
            _blocks(opened),
            media_type=answers.FILES[file],
            headers={
                "Content-Length": str(os.fstat(opened.fileno()).st_size),
                "Content-Disposition": f'attachment; filename="{name[:8]}-{file}"',
            },
        )

    @app.delete(
        "/predictions/{name}",
        status_code=204,
        responses=_told(404),
        summary="Remove a prediction, or stop it",
    )
    def remove(name: Name) -> None:
        state = service.jobs.remove(name) if is_name(name) else None
        if state is None:
            raise _no_such()
        if state != RUNNING:  # else whoever predicts it does so
            service.folder.remove(name)

    @app.get(
        "/models", response_model=answers.ModelsAnswer, responses=_told(), summary="List the models"
    )
    def models() -> answers.ModelsAnswer:
        return answers.ModelsAnswer(
            models=[
                answers.ModelAnswer(name=name, **told)
                for name, told in service.predictor.models.items()
            ],
            upload_bytes=service.limits.upload_bytes,
            keep_hours=service.limits.keep_seconds / 3600,
        )

    @app.get(
        "/health",
        response_model=answers.HealthAnswer,
        responses=_told()
        | {
            503: {
                "model": answers.HealthAnswer,
                "description": "It does not predict, and says why.",
            }
        },
        summary="Ask whether it predicts",
    )
    def health(response: Response) -> answers.HealthAnswer:
        counts, fault = {}, service.predictor.fault
        try:
            counts = service.jobs.counts()
        except sqlite3.Error as error:
            fault = fault or fault_words(error)
        status = "failing" if fault else "ok"
        if not service.predictor.is_alive():
            status, fault = "stopped", fault or "The service stops."
        if fault:
            response.status_code = 503
        return answers.HealthAnswer(
            status=status,
            problem=fault or None,
            waiting=counts.get(WAITING),
            running=counts.get(RUNNING),
            version=__version__,
        )

    @app.get(
        "/metrics",
        responses=_told()
        | {
            200: {
                "description": "Text of Prometheus.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
        response_class=Response,
        summary="Count what was done",
    )
    def metrics() -> Response:
        text = service.counts.text(service.jobs.counts(), service.predictor.memory_bytes)
        return Response(text, headers={"Content-Type": TYPE})

    @app.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    @app.get("/niivue.js", include_in_schema=False)
    def viewer() -> Response:
        cached = {"Cache-Control": "max-age=86400"}
        return Response(niivue.read_bytes(), media_type="text/javascript", headers=cached)

    @app.exception_handler(ProblemError)
    async def told(request: Request, problem: ProblemError) -> Response:
        return problem_response(problem)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: Any) -> Response:
        detail, headers = str(error.detail), dict(error.headers or {})
        if error.status_code == 404:
            detail = "There is nothing at this address."
        if error.status_code == 405:
            # Starlette names those of one route alone.
            fitting = [one for one in app.routes if one.path_regex.match(request.url.path)]
            methods = {name for one in fitting for name in one.methods}
            more = {"HEAD"} if "GET" in methods else set()
            headers["Allow"] = ", ".join(sorted(methods | more))
            detail = f"This address does not answer {_method(request.method)}."
        return problem_response(
            ProblemError(error.status_code, detail, "", headers.get("Allow", ""), headers)
        )

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:80]
        return problem_response(ProblemError(422, f"{place}: {first['msg']}"[:300]))

    @app.exception_handler(DisconnectedError)
    async def gone(request: Request, error: DisconnectedError) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return problem_response(_unforeseen(error))  # the guard logs it

    openapi = app.openapi

    def described() -> dict[str, Any]:
        content = openapi()
        schemas = content["components"]["schemas"]
        schemas["Problem"] = answers.Problem.model_json_schema()
        # FastAPI tells of 422 wherever there is a parameter; no request to these paths is answered so.
        for methods in content["paths"].values():
            for method, told in methods.items():
                if method != "post":
                    told["responses"].pop("422", None)
                if service.access.token:
                    told["security"] = [{"token": []}]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        content["paths"]["/health"]["get"].pop("security", None)
        return content

    app.openapi = described
    return Guard(app, service)
