"""`segstudy serve`: a page and a REST service that predict with trained models."""

import importlib
import signal
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.serve.limits import Limits

MIB, GIB = 1 << 20, 1 << 30
EXAMPLES = """examples:
  segstudy serve model.bundle --port 8000
  segstudy serve model.bundle --calibration model=quality.json --folder served/ --keep-hours 2
  segstudy serve model.bundle --host 0.0.0.0 --token-file token.txt
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the models, where the service listens, and what it takes."""
    parser.description = (
        "Serve trained models on a page, where a scan is dropped, and by REST: a queue with progress, volumes, quality, downloads. For "
        "research use only. Needs pip install 'segstudy[serve]'."
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "bundles",
        nargs="+",
        type=Path,
        metavar="BUNDLE",
        help="bundles, or weights files; each is a model, called as its file",
    )
    parser.add_argument(
        "--port", type=_whole, default=8000, help="0: one that is free (default: 8000)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at (default: 127.0.0.1, which this machine alone reaches); others ask for a token",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the token that clients send (default: none on this machine; else one is made up and printed once)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="holds queue and files, and what waits when the service is started again (default: a temporary one, removed at the end)",
    )
    parser.add_argument(
        "--calibration",
        action="append",
        default=[],
        metavar="MODEL=JSON",
        help="quality.json of a model, from a study: its predictions then have intervals, and flags with a reason",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="the network, where it is a plug-in; of one BUNDLE alone",
    )
    parser.add_argument(
        "--trained-on-too",
        action="store_true",
        help="predict images that the weights were trained on, too; they are refused where the weights know their images",
    )
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="where to predict (default: auto)",
    )
    parser.add_argument(
        "--threads", type=_whole, help="CPU threads of the process that predicts (default: all)"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--upload-mb",
        type=_above_0,
        default=Limits.upload_bytes / MIB,
        help=f"of a request, in MiB (default: {Limits.upload_bytes // MIB})",
    )
    limits.add_argument(
        "--unpacked-mb",
        type=_above_0,
        default=Limits.unpacked_bytes / MIB,
        help=f"of what it unpacks to, in MiB (default: {Limits.unpacked_bytes // MIB})",
    )
    limits.add_argument(
        "--voxels",
        type=_whole,
        default=Limits.voxels,
        help=f"of an image, channels counted (default: {Limits.voxels})",
    )
    limits.add_argument(
        "--zip-files",
        type=_whole,
        default=Limits.files,
        help=f"in a zip (default: {Limits.files})",
    )
    limits.add_argument(
        "--waiting",
        type=_whole,
        default=Limits.waiting,
        help=f"predictions that are not finished (default: {Limits.waiting})",
    )
    limits.add_argument(
        "--minutes",
        type=_above_0,
        default=Limits.seconds / 60,
        help=f"that a prediction may run (default: {Limits.seconds / 60:g})",
    )
    limits.add_argument(
        "--memory-gb",
        type=_above_0,
        help="of the process that predicts, in GiB (default: three quarters of the machine's)",
    )
    limits.add_argument(
        "--keep-hours",
        type=_above_0,
        default=Limits.keep_seconds / 3600,
        help=f"after which a finished prediction is removed (default: {Limits.keep_seconds / 3600:g})",
    )
    limits.add_argument(
        "--stall-seconds",
        type=_above_0,
        default=Limits.stall_seconds,
        help="after which a client is cut off that sends no byte of what it began, or reads none of an answer "
        f"(default: {Limits.stall_seconds:g})",
    )


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def _above_0(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{text!r}: expected a number above 0")
    return number


def run(options: Namespace) -> None:
    """Serve until the process is told to end."""
    import psutil

    from segstudy import log
    from segstudy.serve import access
    from segstudy.serve.predictor import Worker, worker_settings
    from segstudy.serve.run import check_installed, running

    check_installed()
    log.start()
    if options.port > 65535:
        raise InputError(f"--port {options.port}: expected 0 to 65535")
    memory = options.memory_gb * GIB if options.memory_gb else 0.75 * psutil.virtual_memory().total
    limits = Limits(
        upload_bytes=int(options.upload_mb * MIB),
        unpacked_bytes=int(options.unpacked_mb * MIB),
        voxels=options.voxels,
        files=options.zip_files,
        waiting=options.waiting,
        seconds=options.minutes * 60,
        memory_bytes=int(memory),
        keep_seconds=options.keep_hours * 3600,
        stall_seconds=options.stall_seconds,
    )
    # Ended by SIGTERM, as by Ctrl-C: what is predicted waits for the next start, and a temporary folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    who, is_new = access.access_of(options.host, options.token_file)
    settings = worker_settings(_models(options), options.device)
    start_worker = partial(Worker, settings, options.threads)
    with (
        _folder(options.folder) as folder,
        running(Path(folder), start_worker, limits, who) as service,
    ):
        # By name, since they need the extra.
        app = importlib.import_module("segstudy.serve.app").make_app(service)
        connections = importlib.import_module("segstudy.serve.connections")
        with _listening(options) as socket:
            _tell(options.host, socket.getsockname()[1], who.token, is_new)
            connections.server(app, limits.stall_seconds).run(sockets=[socket])


def _models(options: Namespace) -> dict[str, dict[str, Any]]:
    """Return the arguments of `infer.worker.load` of each model, by its name."""
    from segstudy.serve.predictor import model_name

    if options.plugin and len(options.bundles) > 1:
        raise InputError("--plugin: which of the bundles it is for cannot be told; serve one")
    models: dict[str, dict[str, Any]] = {}
    for file in options.bundles:
        name = model_name(file)
        if name in models:
            raise InputError(
                f"{file} and {models[name]['file']}: both would be called {name}; rename one"
            )
        models[name] = {
            "file": str(file.absolute()),
            "plugins": options.plugin,
            "calibration": None,
            "trained_on_too": options.trained_on_too,
        }
    for text in options.calibration:
        name, _, file = text.rpartition("=")
        name = name or (next(iter(models)) if len(models) == 1 else "")
        if name not in models:
            raise InputError(
                f"--calibration {text}: expected MODEL=FILE, with one of {', '.join(models)}"
            )
        models[name]["calibration"] = str(Path(file).absolute())
    return models


def _folder(path: Path | None) -> AbstractContextManager[Path | str]:
    """Return the folder of the service to be entered; a temporary one is removed at the end."""
    if path is not None:
        return nullcontext(path)
    return tempfile.TemporaryDirectory(prefix="segstudy-serve-", ignore_cleanup_errors=True)


@contextmanager
def _listening(options: Namespace):
    """Yield the socket that the service listens at; InputError where it cannot."""
    import socket

    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((options.host, options.port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise InputError(
            f"--host {options.host} --port {options.port}: cannot listen there ({error.strerror}); give another port"
        ) from None
    with made:
        yield made


def _tell(host: str, port: int, token: str, is_new: bool) -> None:
    """Print where the service is, and a token that was made up, this once."""
    from segstudy.serve.access import is_local
    from segstudy.serve.problems import RESEARCH_USE

    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}/  {RESEARCH_USE}", flush=True)
    if is_new:
        # After the #, so that browsers send it to nobody.
        print(f"token, told this once: {token}\nhttp://{shown}:{port}/#token={token}", flush=True)
    if not is_local(host):
        print(
            "The token and the scans cross the network as they are: put a proxy with TLS in front.",
            flush=True,
        )
