"""The folder of a service: its queue, and the files of each prediction."""

import fcntl
import secrets
import shutil
from pathlib import Path

from segstudy.errors import InputError
from segstudy.files import make_folder
from segstudy.serve.job_queue import JobQueue

MARK = "lock"


class Folder:
    """Hold a folder that one service at a time works in.

    In `incoming/` lie uploads that are looked through, in `predictions/<id>/` what was accepted (`input/`) and made (`output/`). A
    prediction counts as soon as it stands in the queue.
    """

    def __init__(self, path: Path) -> None:
        """Take a folder, which is made where it is not there; InputError where another service has it, or it is another's."""
        self.path = path.absolute()
        try:
            if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / MARK).is_file():
                raise InputError(
                    f"--folder {path}: holds files that are not of a service; name an empty folder, since what is old in it is removed"
                )
            for place in (self.path, self.incoming, self.path / "predictions"):
                make_folder(place)
            self.path.chmod(0o700)
            self._lock = (self.path / MARK).open("w")
        except OSError as error:
            raise InputError(
                f"--folder {path}: cannot be read and written ({error.strerror}); name another folder"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"--folder {path}: another service works in it; end that one, or name another folder"
            ) from None

    @property
    def incoming(self) -> Path:
        """Return where uploads lie until they are accepted."""
        return self.path / "incoming"

    def queue_file(self) -> Path:
        """Return the file of the queue."""
        return self.path / "queue.sqlite"

    def prediction(self, name: str) -> Path:
        """Return the folder of a prediction."""
        return self.path / "predictions" / name

    def new(self) -> tuple[str, Path]:
        """Make a folder for an upload; return the name of the prediction, and the folder for its input."""
        name = secrets.token_hex(16)
        place = self.incoming / name / "input"
        place.mkdir(parents=True)
        return name, place

    def accept(self, name: str) -> None:
        """Move an upload that was looked through to the predictions."""
        (self.incoming / name).rename(self.prediction(name))

    def drop(self, name: str) -> None:
        """Remove an upload that was not accepted."""
        shutil.rmtree(self.incoming / name, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove all files of a prediction."""
        shutil.rmtree(self.prediction(name), ignore_errors=True)

    def remove_input(self, name: str) -> None:
        """Remove the upload of a prediction that is finished."""
        shutil.rmtree(self.prediction(name) / "input", ignore_errors=True)

    def clear(self, name: str, jobs: JobQueue) -> None:
        """Remove the upload of a prediction that is finished, and all of one that was deleted meanwhile."""
        job = jobs.find(name)
        if job is None:
            self.remove(name)
        elif job.finished is not None:
            self.remove_input(name)

    def tidy(self, jobs: JobQueue) -> None:
        """Remove what a service that was stopped left half: uploads, and files that stand in no queue."""
        for left in self.incoming.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for place in (self.path / "predictions").iterdir():
            self.clear(place.name, jobs)

    def close(self) -> None:
        """Give the folder free."""
        self._lock.close()
