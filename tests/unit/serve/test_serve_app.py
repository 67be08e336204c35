"""The service over HTTP, with a pretended process that predicts: answers, guards, restarts, faults; skipped without FastAPI."""

import logging
import re
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest

from segstudy.serve import predictor
from segstudy.serve.access import Access
from segstudy.serve.folder import Folder
from segstudy.serve.job_queue import JobQueue
from segstudy.serve.problems import RESEARCH_USE
from serve_answers import crash, predict
from upload_faults import faults, nifti

PATIENT = "Mustermann_Erika_4711.nii"


def send(client, content=None, name=PATIENT, **fields):
    files = {"image": (name, nifti() if content is None else content)}
    return client.post("/predictions", files=files, data=fields)


def wait(client, name, **headers):
    for _ in range(6000):
        told = client.get(f"/predictions/{name}", **headers).json()
        if told["state"] in ("done", "failed"):
            return told
        time.sleep(0.02)
    raise AssertionError(told)


def until(is_so):
    for _ in range(6000):
        if is_so():
            return
        time.sleep(0.02)
    assert is_so()


def test_from_upload_to_download(serve):
    client = serve()
    answer = send(client)
    assert answer.status_code == 202
    told = answer.json()
    assert answer.headers["location"] == f"/predictions/{told['id']}"
    assert told["research_use_only"] == RESEARCH_USE
    told = wait(client, told["id"])
    assert [one["structure"] for one in told["structures"]] == ["shell", "core"]
    assert set(told["files"]) == {"segmentation.nii.gz", "segmentation.seg.nrrd", "image.nii.gz"}
    for path in told["files"].values():
        file = client.get(path)
        assert file.status_code == 200
        assert file.content[:2] == b"\x1f\x8b"
        assert file.headers["x-content-type-options"] == "nosniff"
        assert file.headers["cache-control"] == "no-store"
        assert told["id"][:8] in file.headers["content-disposition"]
    assert client.get(f"/predictions/{told['id']}/files/segmentation.dcm").status_code == 404
    # The upload is gone, and so is all once it is removed.
    place = client.service.folder.prediction(told["id"])
    until(lambda: [path.name for path in place.iterdir()] == ["output"])
    assert client.delete(f"/predictions/{told['id']}").status_code == 204
    assert not place.exists()
    assert client.get(f"/predictions/{told['id']}").status_code == 404


def test_a_file_is_sent_as_a_whole_though_it_is_removed(serve, monkeypatch):
    """Between the answer's head and its last byte a prediction may be deleted, or its time be over."""
    client = serve()
    from segstudy.serve import app  # needs FastAPI

    told = wait(client, send(client).json()["id"])
    path = told["files"]["segmentation.nii.gz"]
    content = client.get(path).content
    # Ranges are not answered, so that there are no more ways to fail.
    assert client.get(path, headers={"Range": "bytes=5-"}).content == content
    blocks = app._blocks

    def removed_first(file):
        client.service.jobs.remove(told["id"])
        client.service.folder.remove(told["id"])
        yield from blocks(file)

    monkeypatch.setattr(app, "_blocks", removed_first)
    answer = client.get(path)
    assert (answer.status_code, answer.content) == (200, content)
    assert int(answer.headers["content-length"]) == len(content)
    assert client.get(path).status_code == 404


def test_a_file_that_is_gone_before_it_is_opened(serve):
    client = serve()
    told = wait(client, send(client).json()["id"])
    client.service.folder.remove(told["id"])
    assert client.get(told["files"]["segmentation.nii.gz"]).status_code == 404


def test_odd_forms(serve):
    client = serve()
    head = {"Content-Type": "multipart/form-data; boundary=a; charset=undefined"}
    body = b'--a\r\nContent-Disposition: form-data; name="model"\r\n\r\nballs\r\n--a--\r\n'
    answer = client.post("/predictions", content=body, headers=head)
    assert (answer.status_code, answer.json()["detail"]) == (400, "The form cannot be read.")
    answer = send(client, quality=["true", "false"])
    assert answer.status_code == 422
    assert "more than once" in answer.json()["detail"]


def test_bytes_are_counted_where_no_length_is_told(serve):
    client = serve()
    head = b'--a\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    parts = [head, nifti(), b"\r\n--a--\r\n"]
    kind = {"Content-Type": "multipart/form-data; boundary=a"}
    assert client.post("/predictions", content=iter(parts), headers=kind).status_code == 202
    assert f"upload_bytes_total {len(nifti())}\n" in client.get("/metrics").text


def test_quality_where_it_is_asked_for(serve):
    client = serve()
    told = wait(client, send(client, quality="true").json()["id"])
    assert told["structures"][0]["quality"]["flagged"] is True
    assert wait(client, send(client).json()["id"])["structures"][0]["quality"] is None


def test_faults_are_problems_with_a_sentence(serve):
    client = serve()
    for fault in faults():
        answer = send(client, fault.content)
        assert answer.status_code == fault.status, fault.name
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert fault.told in told["detail"], fault.name
        assert "/" + client.service.folder.path.name not in answer.text
    assert list(client.service.folder.incoming.rglob("*")) == []
    assert client.service.jobs.names() == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("GET", "/nowhere", {}), 404),
        (("PUT", "/predictions", {}), 405),
        (("GET", "/predictions/../../etc/passwd", {}), 404),
        (("GET", "/predictions/%2e%2e%2f", {}), 404),
        (("GET", f"/predictions/{'0' * 32}", {}), 404),
        (("GET", f"/predictions/{'0' * 32}/files/..%2fqueue.sqlite", {}), 404),
        (("DELETE", "/predictions/abc", {}), 404),
        (("POST", "/predictions", {"content": b"x"}), 415),
        (("POST", "/predictions", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}), 400),
        (("POST", "/predictions", {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}}), 400),
        (("POST", "/predictions", {"data": {"model": "balls"}, "files": {"other": b"x"}}), 422),
        (("POST", "/predictions", {"data": {"model": "balls", "image": "text"}, "files": {"image": b"x"}}), 422),
        (("POST", "/predictions", {"data": {"model": "hearts"}, "files": {"image": nifti()}}), 422),
        (("POST", "/predictions", {"data": {"quality": "maybe"}, "files": {"image": nifti()}}), 422),
        (("POST", "/predictions", {"files": [("image", nifti())] * 9}), 400),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_asked(serve, request_, status):
    method, path, more = request_
    answer = serve().request(method, path, **more)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_method_that_an_address_does_not_answer(serve):
    client = serve()
    answer = client.request("OPTIONS", f"/predictions/{'0' * 32}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == answer.json()["expected"] == "DELETE, GET, HEAD"
    answer = client.request("HEAD", "/predictions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_head_is_answered_as_get_without_a_body(serve):
    client = serve()
    told = wait(client, send(client).json()["id"])
    fixed = ["/", "/models", "/health", "/openapi.json", "/niivue.js", "/nowhere"]
    for path in (*fixed, f"/predictions/{told['id']}", *told["files"].values()):
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers == get.headers, path


def test_an_upload_is_cut_off_at_its_limit(serve):
    client = serve(upload_bytes=1_000_000)
    assert send(client, bytes(1_000_001)).status_code == 413

    def chunks():  # without a Content-Length
        yield b'--a\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for _ in range(100):
            sent.append(1)
            yield bytes(50_000)

    sent = []
    headers = {"content-type": "multipart/form-data; boundary=a"}
    answer = client.post("/predictions", content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert list(client.service.folder.incoming.iterdir()) == []


def test_a_token_is_asked_for(serve):
    client = serve(access=Access("a-token-of-my-own-4711"))
    right = {"headers": {"authorization": "Bearer a-token-of-my-own-4711"}}
    for method, path in [("GET", "/models"), ("POST", "/predictions"), ("GET", "/metrics"),
                         ("GET", f"/predictions/{'0' * 32}"), ("GET", "/nowhere")]:  # fmt: skip
        answer = client.request(method, path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/", "/health", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert client.get("/models", **right).json()["models"][0]["name"] == "balls"
    name = client.post("/predictions", files={"image": nifti()}, **right).json()["id"]
    assert wait(client, name, **right)["state"] == "done"


def test_pages_of_other_sites_may_not_ask(serve):
    client = serve()
    assert client.get("/models", headers={"origin": "https://evil.example"}).status_code == 403
    assert client.get("/models", headers={"host": "evil.example"}).status_code == 403


def test_a_restart_in_the_middle_loses_nothing(serve, gate):
    reached = threading.Event()

    def hang(request, check):
        reached.set()
        while True:
            check()
            gate.wait(0.02)
            yield {"step": "predicting", "fraction": 0.1}

    client = serve(hang)
    names = [send(client).json()["id"] for _ in range(3)]
    assert reached.wait(20)
    states = [client.get(f"/predictions/{name}").json() for name in names]
    assert [one["state"] for one in states] == ["running", "waiting", "waiting"]
    assert [one["before"] for one in states] == [None, 1, 2]
    client.stop()
    again = serve()
    assert [wait(again, name)["state"] for name in names] == ["done"] * 3


def test_a_running_prediction_is_stopped(serve, gate):
    reached = threading.Event()

    def hang(request, check):
        reached.set()
        while True:
            check()
            gate.wait(0.02)
            yield {"step": "reading"}

    client = serve(hang)
    name = send(client).json()["id"]
    assert reached.wait(20)
    assert client.delete(f"/predictions/{name}").status_code == 204
    until(lambda: client.workers[0].ended)
    until(lambda: not client.service.folder.prediction(name).exists())


def test_a_crash_is_of_one_image(serve):
    turns = iter([crash, predict])
    client = serve(lambda request, check: next(turns)(request, check))
    names = [send(client).json()["id"] for _ in range(2)]
    told = [wait(client, name) for name in names]
    assert [one["state"] for one in told] == ["failed", "done"]
    assert "SIGSEGV" in told[0]["problem"]
    assert len(client.workers) == 2


def test_a_queue_that_fails_is_told_and_gets_over_it(serve, gate, monkeypatch, caplog):
    """A real fault of SQLite: its table is away for a while, also when a result is to be written."""
    monkeypatch.setattr(predictor, "RETRY_S", 0.02)
    reached = threading.Event()

    def hold(request, check):
        reached.set()
        gate.wait(20)
        yield from predict(request, check)

    client = serve(hold)
    queue = client.service.folder.queue_file()

    def rename(old, new):
        with closing(sqlite3.connect(queue, timeout=30)) as connection:
            connection.execute(f"ALTER TABLE {old} RENAME TO {new}")

    name = send(client).json()["id"]
    assert reached.wait(20)
    assert client.get("/health").json()["status"] == "ok"
    rename("predictions", "away")
    gate.set()
    until(lambda: client.service.predictor.fault)
    answer = client.get("/health")
    assert answer.status_code == 503
    told = answer.json()
    assert (told["status"], told["running"]) == ("failing", None)
    assert told["problem"] == "The queue of the service cannot be read or written (SQLITE_ERROR)."
    for refused in (client.get(f"/predictions/{name}"), send(client)):
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "30"
        assert "queue" in refused.json()["detail"]
    rename("away", "predictions")
    assert wait(client, name)["state"] == "done"
    until(lambda: client.get("/health").status_code == 200)
    assert "SQLITE_ERROR" in caplog.text
    assert "Traceback" not in caplog.text
    assert client.delete(f"/predictions/{name}").status_code == 204
    until(lambda: not any((client.service.folder.path / "predictions").iterdir()))


def test_an_upload_that_the_queue_does_not_take_leaves_no_file(serve, monkeypatch):
    client = serve()

    def fail(*_):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
        raise error

    monkeypatch.setattr(client.service.jobs.__class__, "add", fail)
    assert send(client).status_code == 507
    for folder in (client.service.folder.incoming, client.service.folder.path / "predictions"):
        assert list(folder.iterdir()) == []


def test_a_state_is_asked_for_by_one_connection(serve, gate, monkeypatch):
    def hang(request, check):
        gate.wait(20)
        yield from predict(request, check)

    client = serve(hang)
    names = [send(client).json()["id"] for _ in range(3)]
    until(lambda: client.service.jobs.find(names[0]).state == "running")
    asked, connect = [], sqlite3.connect

    def counted(*words, **more):
        asked.append(threading.current_thread().name)
        return connect(*words, **more)

    monkeypatch.setattr(sqlite3, "connect", counted)
    told = client.get(f"/predictions/{names[2]}").json()
    assert (told["state"], told["before"]) == ("waiting", 2)
    assert len([one for one in asked if one != "predictor"]) == 1
    gate.set()


def test_a_removal_goes_by_the_state_that_it_found(serve, monkeypatch):
    """Not by one that was read before: a prediction that is done meanwhile would leave its files."""
    client = serve()
    name = send(client).json()["id"]
    wait(client, name)
    jobs, place = client.service.jobs, client.service.folder.prediction(name)
    stale = replace(jobs.find(name), state="running")
    monkeypatch.setattr(jobs.__class__, "find", lambda *_: stale)
    assert client.delete(f"/predictions/{name}").status_code == 204
    assert not place.exists()


def test_what_is_given_up_at_a_start_keeps_no_upload(serve, tmp_path):
    folder = Folder(tmp_path / "served")
    jobs = JobQueue(folder.queue_file())
    name, place = folder.new()
    (place / "image_0000.nii").write_bytes(b"x")
    folder.accept(name)
    jobs.add(name, "balls", {"files": [], "kinds": [], "quality": False}, 10)
    jobs.take()
    folder.close()
    client = serve(attempts=1)
    assert "cut off 1 times" in client.get(f"/predictions/{name}").json()["problem"]
    assert not (client.service.folder.prediction(name) / "input").exists()


def test_too_many_wait(serve, gate):
    def hang(request, check):
        gate.wait(20)
        yield from predict(request, check)

    client = serve(hang, waiting=2)
    names = [send(client).json()["id"] for _ in range(2)]
    refused = send(client)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "30"
    gate.set()
    assert {wait(client, name)["state"] for name in names} == {"done"}
    assert send(client).status_code == 202


@pytest.mark.parametrize(
    ("limit", "word"), [({"memory_bytes": 10}, "memory"), ({"seconds": -1}, "longer")]
)
def test_memory_and_time_are_bounded(serve, limit, word):
    client = serve(**limit)
    told = wait(client, send(client).json()["id"])
    assert told["state"] == "failed"
    assert word in told["problem"]


def test_many_clients_are_all_answered(serve):
    client, names = serve(), []

    def work():
        for _ in range(5):
            names.append(send(client).json()["id"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(names)) == 20
    assert {wait(client, name)["state"] for name in names} == {"done"}
    text = client.get("/metrics").text
    assert 'segstudy_predictions_total{model="balls",outcome="done"} 20' in text
    assert "segstudy_prediction_seconds_count 20" in text
    for line in text.splitlines():
        assert re.fullmatch(
            r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+', line
        ), line


def test_no_names_in_logs_and_files(serve, caplog):
    caplog.set_level(logging.DEBUG)
    client = serve()
    wait(client, send(client).json()["id"])
    client.get("/Mustermann")
    send(client, b"Mustermann^Erika")
    own = [one.getMessage() for one in caplog.records if one.name == "segstudy"]
    assert any("POST /predictions 202" in line for line in own)
    assert "ustermann" not in "\n".join(own)
    for path in client.service.folder.path.rglob("*"):
        assert "ustermann" not in path.name
        assert path.is_dir() or b"ustermann" not in path.read_bytes()


def test_a_fault_of_ours_tells_no_trace(serve, monkeypatch, caplog):
    client = serve()

    def fail(*_):
        raise RuntimeError("/secret/place of Mustermann")

    monkeypatch.setattr(client.service.jobs.__class__, "find", fail)
    answer = client.get(f"/predictions/{'0' * 32}")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "secret" not in caplog.text


def test_the_page_and_the_api_say_what_they_are_for(serve):
    client = serve()
    page = client.get("/")
    assert RESEARCH_USE in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "sha256-" in policy
    # Nothing from elsewhere, and no style or handler that the policy would stop.
    assert not re.findall(r"(?:src|href)=\"?https?:|\bon\w+=\"|\bstyle=\"", page.text)
    described = client.get("/openapi.json").json()
    assert RESEARCH_USE in described["info"]["description"]
    assert set(described["paths"]) == {"/predictions", "/predictions/{name}", "/predictions/{name}/files/{file}",
                                       "/models", "/health", "/metrics"}  # fmt: skip
    for methods in described["paths"].values():
        for told in methods.values():
            assert "application/problem+json" in told["responses"]["401"]["content"]
    assert (
        described["components"]["schemas"]["PredictionAnswer"]["example"]["research_use_only"]
        == RESEARCH_USE
    )
    assert client.get("/health").json()["status"] == "ok"
