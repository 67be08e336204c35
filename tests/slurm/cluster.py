"""A SLURM cluster of one node in a folder of its own, for tests and for trying things out.

    python tests/slurm/cluster.py start FOLDER    # prints the lines that point SLURM's commands at it
    python tests/slurm/cluster.py stop FOLDER

Needs Debian's packages slurm-wlm and munge, and no root: everything runs as the caller. Nothing is
bound to the machine's cores or memory, so the node offers more of both than there are, and GPUs
that do not exist: what is tested is what jobs ask for and how they end, not how fast they are.
"""

import getpass
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CPUS, MEMORY_MB, GPUS = 32, 512_000, 2

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
SwitchType=switch/none
# Without cgroups: jobs are followed by their process tree and bound to nothing.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,defer
# The node may claim more than the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
# What ignores SIGTERM is killed so many seconds later.
KillWait={kill_wait_s}
# Ended jobs are remembered, so that a test can ask for what they were given.
MinJobAge=7200
MaxArraySize=1001
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:fake:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=24:00:00 State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=24:00:00 State=UP
"""


def missing() -> str:
    """Why no cluster can be started here; empty where one can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in (*DAEMONS, "sbatch") if not shutil.which(name, path=path)]
    if absent:
        return f"SLURM is not installed: no {', '.join(absent)} (apt-get install slurm-wlm munge)"
    return ""


def start(folder: Path, kill_wait_s: int = 10, cpus: int = CPUS) -> dict[str, str]:
    """Start the daemons; the environment variables that point SLURM's commands at the cluster."""
    folder = folder.resolve()
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    controller_port, node_port = _free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        SLURM_CONF.format(
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            folder=folder,
            controller_port=controller_port,
            node_port=node_port,
            cpus=cpus,
            memory_mb=MEMORY_MB,
            gpus=GPUS,
            kill_wait_s=kill_wait_s,
        )
    )
    # SLURM counts a GPU where its file is; any file does.
    for number in range(GPUS):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu Type=fake File={folder}/gpu[0-{GPUS - 1}]\n")
    environment = {
        "SLURM_CONF": str(configuration),
        "PATH": f"{_commands(folder, configuration)}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    try:
        _daemon(
            folder,
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        _wait(lambda: (folder / "munge.socket").exists(), "munged", folder)
        _daemon(folder, "slurmctld", "-D", "-c", "-f", str(configuration))
        _wait(lambda: "UP" in _ask(environment, "scontrol", "ping"), "slurmctld", folder)
        _daemon(folder, "slurmd", "-D", "-f", str(configuration))
        _wait(
            lambda: "idle" in _ask(environment, "sinfo", "--noheader", "--format=%T"),
            "slurmd",
            folder,
        )
    except BaseException:
        stop(folder)
        raise
    return environment


def stop(folder: Path) -> None:
    """End the cluster's jobs and daemons, by the process ids that it wrote down itself."""
    folder = folder.resolve()
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    if "UP" in _ask(environment, "scontrol", "ping"):
        _ask(environment, "scancel", "--user", getpass.getuser())
        for _ in range(50):
            if not _ask(environment, "squeue", "--noheader").strip():
                break
            time.sleep(0.2)
    for name in reversed(DAEMONS):
        file = folder / f"{name}.started"
        if not file.exists():
            continue
        pid = json.loads(file.read_text())
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _runs(pid, folder):
                os.kill(pid, number)
            for _ in range(50):
                if not _runs(pid, folder):
                    break
                time.sleep(0.1)
        file.unlink()


def _commands(folder: Path, configuration: Path) -> Path:
    """A folder with an `srun` that knows the cluster: Snakemake takes SLURM_CONF out of its jobs' environment."""
    commands = folder / "bin"
    commands.mkdir()
    # SLURM's own, and not that of another cluster of ours.
    path = os.pathsep.join(
        place for place in os.get_exec_path() if not (Path(place).parent / "slurm.conf").exists()
    )
    command = commands / "srun"
    command.write_text(
        f'#!/bin/sh\nSLURM_CONF="{configuration}" exec {shutil.which("srun", path=path)} "$@"\n'
    )
    command.chmod(0o755)
    return commands


def _daemon(folder: Path, name: str, *arguments: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    with ExitStack() as stack:
        output = stack.enter_context((folder / f"{name}.out").open("wb"))
        process = subprocess.Popen(
            [shutil.which(name, path=path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (folder / f"{name}.started").write_text(json.dumps(process.pid))


def _runs(pid: int, folder: Path) -> bool:
    """Whether the process is there and is this cluster's: numbers are given again."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    # A process that is just being started has no command line yet.
    return not command or str(folder).encode() in command


def _wait(ready, name: str, folder: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return
        if not _runs(json.loads((folder / f"{name}.started").read_text()), folder):
            break
        time.sleep(0.2)
    told = "".join(
        file.read_text(errors="replace")[-2000:]
        for file in (folder / f"{name}.out", folder / f"{name}.log")
        if file.exists()
    )
    raise RuntimeError(f"{name} did not start:\n{told}")


def _ask(environment: dict[str, str], *command: str) -> str:
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return run.stdout


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ("start", "stop"):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] == "stop":
        stop(Path(arguments[1]))
        return 0
    reason = missing()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    for name, value in start(Path(arguments[1])).items():
        print(f"export {name}='{value}'")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
