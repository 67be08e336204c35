"""What Snakemake says of an error, and what `segstudy run` shows of it; Snakemake's own parts write it."""

import io
import logging
from types import SimpleNamespace

import pytest
from snakemake.exceptions import InputFunctionException, WorkflowError, print_exception
from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake.logging import logger as theirs

from segstudy.follow.sentences import ASKED, error_in, speak_plainly


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Using x.\nMissingRuleException:\nNo rule to produce trian (if you use input functions make sure "
            "that they don't raise unexpected exceptions).\n",
            "trian: neither a stage nor a file that this study makes; stages are download, repair, preprocess, "
            "train, infer, metrics, statistics, publish",
        ),
        (
            'InputFunctionException in rule train_fit in file "train.smk", line 5:\nError:\n  InputError: no plan\n'
            'Wildcards:\n  model=flat\nTraceback:\n  File "train.smk", line 66, in <lambda>\n',
            "no plan",
        ),
        (
            'MissingInputException in rule download_list in file "download.smk", line 5:\nMissing input files for '
            "rule download_list:\n    output: o\n    wildcards: dataset=a\n    affected files:\n        p1.nii\n",
            "no such file, which download_list reads: p1.nii",
        ),
        (
            'Traceback (most recent call last):\n  File "pathlib.py", line 1\n    os.mkdir(self)\n'
            "FileNotFoundError: [Errno 2] No such file or directory: '/proc/nobody'\n",
            "[Errno 2] No such file or directory: '/proc/nobody'",
        ),
        (
            "usage: snakemake [-h]\n  [targets ...]\n__main__.py: error: unrecognized arguments: --x\n",
            "snakemake: unrecognized arguments: --x",
        ),
        (
            'WorkflowError in file "common.smk", line 48:\n--config only: b: no such model\n'
            '  File "common.smk", line 66, in <module>\n',
            "--config only: b: no such model",
        ),
        ("", "Snakemake cannot plan this study; snakemake --dry-run says more"),
    ],
)
def test_what_snakemake_refuses_is_said_in_its_words(text, said):
    assert error_in(text) == said


@pytest.fixture
def terminal(monkeypatch):
    """What Snakemake's own handler writes on the terminal after `segstudy run`."""
    monkeypatch.setenv(ASKED, "1")
    handler = ColorizingTextHandler(stream=io.StringIO(), formatter=DefaultFormatter())
    handler.name = "DefaultStreamHandler"
    before = theirs.handlers
    theirs.handlers = [handler]
    yield handler
    theirs.handlers = before


def job_error(**changed):
    job = {"rule_name": "download_audit", "rule_msg": None, "jobid": 9, "input": [], "output": []}
    job |= {"log": [], "conda_env": None, "container_img": None, "aux": {}, "indent": False}
    theirs.error("Error in rule", extra={**job, "shellcmd": "x", "event": "job_error", **changed})


def mistake():
    workflow = SimpleNamespace(linemaps={})
    place = {"lineno": 83, "snakefile": "rules/download.smk"}
    rule = SimpleNamespace(name="download_audit", workflow=workflow, **place)
    said = WorkflowError("a.tsv: no row below the header")
    return InputFunctionException(said, wildcards={"dataset": "mine"}, rule=rule)


def test_a_mistake_is_its_sentence_alone(terminal, tmp_path):
    speak_plainly(theirs.handlers)
    print_exception(mistake())
    assert terminal.stream.getvalue() == "segstudy: error: a.tsv: no row below the header\n"


def test_a_failed_job_is_what_its_log_says(terminal, tmp_path):
    speak_plainly(theirs.handlers)
    log = tmp_path / "audit.log"
    log.write_text("22:44 audit\nsegstudy: error: p1: p1.nii.gz: no image\n22:45 ended\n")
    text = 'RuleException:\nCalledProcessError in file "download.smk", line 101:\nCommand ...'
    theirs.error(text, extra={"event": "error", "exception": "RuleException"})
    job_error(log=[str(log)])
    assert terminal.stream.getvalue().splitlines() == [
        "segstudy: error: p1: p1.nii.gz: no image",
        f"segstudy: error: download_audit failed; its log: {log}",
    ]


def test_a_fault_of_ours_and_the_plain_command_say_where_it_is(terminal, monkeypatch):
    speak_plainly(theirs.handlers)
    try:
        raise KeyError("plan")
    except KeyError as error:
        print_exception(error)
    assert "test_sentences.py" in terminal.stream.getvalue()
    terminal.setFormatter(DefaultFormatter())
    monkeypatch.delenv(ASKED)
    speak_plainly(theirs.handlers)
    print_exception(mistake())
    assert 'in file "rules/download.smk", line 83' in terminal.stream.getvalue()


def test_log_files_keep_the_whole(terminal):
    other = logging.StreamHandler(io.StringIO())
    other.setFormatter(DefaultFormatter())
    speak_plainly([terminal, other])
    assert isinstance(other.formatter, DefaultFormatter)
    assert not isinstance(terminal.formatter, DefaultFormatter)
