"""The clusters that a sweep can run on: processes of this machine, a scheduler that runs, a batch system's jobs."""

import functools
import importlib.util
import ipaddress
import logging
import os
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch

from vaekit.fleet import default_backend, device_problem
from vaekit.settings import PlainError, expanded, nearest

_CONNECT, _START, _QUEUE = 10.0, 60.0, 24 * 3600.0  # seconds to wait for a scheduler, a process, a batch system's job
_LOST = "120s"  # after which a worker is lost: a process that is started again imports torch first
_LEAST = 300.0  # seconds of patience: until a worker is lost, asked for again and there
_OFF = ("MEMORY__PAUSE", "MEMORY__TERMINATE", "PROFILE__ENABLED", "DAEMON")  # Dask's settings of a worker
# Dask has memory given back to the system after each tensor: a small model takes half as long again.
_TRIM = "MALLOC_TRIM_THRESHOLD_"
_KEEP = (f"export {_TRIM}=134217728", "export MALLOC_MMAP_THRESHOLD_=33554432")  # what glibc comes to by itself
_ADDRESS = re.compile(r"([a-z]+)://(\[[0-9a-f:.]+\]|[^:/\s]+):[0-9]{1,5}/?", re.ASCII | re.IGNORECASE)


class ClusterError(PlainError):
    """A cluster that cannot be had, or was lost; what was committed stays. `status`: a command's exit status."""

    status = 2


class Workers(NamedTuple):
    """A cluster before it is there: how many workers, of how many threads each, and its description."""

    count: int
    threads: int
    what: str


def check(cluster: str, device: str, insecure: bool = False) -> None:
    """Raise ClusterError for a cluster that cannot be meant, or is open to everybody; nothing is started."""
    if not importlib.util.find_spec("distributed"):
        raise ClusterError("a cluster needs Dask: pip install 'vaekit[cluster]'")
    if device.startswith("cuda:"):
        raise ClusterError(f"device: got {device}; wanted cuda, since each worker has a GPU of its own")
    if match := _ADDRESS.fullmatch(cluster):
        if match[1] not in ("tcp", "tls"):
            raise ClusterError(f"cluster: got {cluster}; wanted tcp://… or tls://…, as the scheduler prints it")
        if match[1] == "tls" and not _has_certificates():
            lack = "has no certificate and key for it, nor the authority's (distributed.comm.tls, or DASK_… variables)"
            raise ClusterError(f"cluster: {cluster} wants TLS, and Dask's configuration {lack}")
        if match[1] == "tcp" and not _is_loopback(match[2]) and not insecure:
            raise ClusterError(
                f"cluster: {cluster} is not this machine and has no TLS, so whoever reaches it runs code as you; use "
                "tls://, or say --insecure where the network is yours alone"
            )
    elif cluster == "local" or cluster.endswith((".yaml", ".yml")):
        if not insecure and not importlib.util.find_spec("cryptography"):
            raise ClusterError("certificates for TLS need cryptography: pip install 'vaekit[cluster]'; or --insecure")
        if cluster != "local":
            _settings(cluster)
    else:
        wanted = "wanted local, a scheduler's address (tcp://head:8786, tls://head:8786) or a YAML file (slurm.yaml)"
        raise ClusterError(f"cluster: got {cluster!r}; {wanted}")


def _has_certificates() -> bool:
    from distributed import Security

    return Security().get_connection_args("client").get("ssl_context") is not None


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host.lower() == "localhost"


def _settings(path: str) -> tuple[Any, dict[str, Any], int, float]:
    """What a file says: dask-jobqueue's class, its own settings, how many workers, seconds to wait for the first."""
    try:
        import dask_jobqueue.core
        import yaml
        from dask import config
        from dask.utils import parse_timedelta
    except ImportError as error:
        raise ClusterError(f"a batch system needs dask-jobqueue ({error}): pip install 'vaekit[cluster]'") from None
    file = expanded(path, ClusterError)
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise ClusterError(f"cluster: {file} cannot be read ({reason})") from None
    content = dict(content) if isinstance(content, dict) else {}
    workers, patience = content.pop("workers", None), content.pop("patience", f"{_QUEUE}s")
    content = content.get("jobqueue", content)
    kinds = {cls.job_cls.config_name: cls for cls in _subclasses(dask_jobqueue.core.JobQueueCluster)}
    if not isinstance(content, dict) or len(content) != 1 or not isinstance(next(iter(content.values())), dict):
        raise ClusterError(f"cluster: {file} wants one of {', '.join(kinds)} with its settings, and `workers: N`")
    [(kind, given)] = content.items()
    if kind not in kinds:
        raise ClusterError(f"cluster: {file} names {kind!r}{nearest(kind, kinds)}; wanted one of {', '.join(kinds)}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ClusterError(f"cluster: {file} says `workers: {workers}`; wanted a whole number, at least 1")
    known = [name.replace("_", "-") for name in config.get(f"jobqueue.{kind}")]
    given = {str(name).replace("_", "-"): value for name, value in given.items()}
    if unknown := [name for name in given if name not in known]:
        raise ClusterError(f"cluster: {file}: {kind} has no {unknown[0]!r}{nearest(unknown[0], known)}")
    if not given.get("cores") or not given.get("memory"):
        raise ClusterError(f"cluster: {file}: {kind} needs `cores` and `memory` of a job")
    if not isinstance(given["cores"], int) or isinstance(given["cores"], bool) or given["cores"] < 1:
        raise ClusterError(f"cluster: {file} says `cores: {given['cores']}`; wanted a whole number, at least 1")
    if given.setdefault("processes", 1) != 1:
        raise ClusterError(
            f"cluster: {file}: a job is one worker, of as many threads as `cores`; leave out `processes`"
        )
    try:
        seconds = parse_timedelta(patience)
    except (AttributeError, KeyError, TypeError, ValueError):
        seconds = None
    if not seconds or seconds < _LEAST:
        wanted = f"wanted a time, e.g. 24h, of at least {_LEAST:.0f}s: so long a lost worker may take to be replaced"
        raise ClusterError(f"cluster: {file} says `patience: {patience}`; {wanted}")
    command = (getattr(kinds[kind].job_cls, "submit_command", None) or "").split()
    if command and not shutil.which(command[0]):
        raise ClusterError(f"cluster: {file}: there is no {command[0]} on this machine, which submits jobs of {kind}")
    # What Dask takes for memory pressure is its own data's: it would pause or kill a worker that holds images. The
    # profiler stops the training a hundred times a second. The dashboard is for who is on this machine.
    off = (f"export DASK_DISTRIBUTED__WORKER__{name}=False" for name in _OFF)
    if command:  # else it starts a process, without a script
        given["job-script-prologue"] = [*_KEEP, *off, *(given.get("job-script-prologue") or [])]
    given["scheduler-options"] = {"dashboard_address": "127.0.0.1:0", **(given.get("scheduler-options") or {})}
    return kinds[kind], given, workers, seconds


def _subclasses(cls: type) -> Iterator[Any]:
    for below in cls.__subclasses__():
        yield below
        yield from _subclasses(below)


def _places(device: str) -> list[dict[str, str]]:
    """The environments of a local cluster's workers: one a core, or one a GPU."""
    if default_backend(device) == "cores":
        return [{}] * torch.get_num_threads()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    count = torch.cuda.device_count()
    cards = visible[:count] if count and len(visible) >= count and all(visible) else list(map(str, range(count)))
    return [{"CUDA_VISIBLE_DEVICES": card} for card in cards]


class Cluster(NamedTuple):
    """A cluster that is there.

    Args:
        client: Dask's.
        fill: ask for the workers that it lacks; says what of it is refused. Raises ClusterError where all of it is.
        patience: seconds that may pass without a worker.
        is_batch: whether its workers are a batch system's jobs, which end where they have nothing to do.
    """

    client: Any
    fill: Callable[[], str | None]
    patience: float
    is_batch: bool = False


@contextmanager
def opened(cluster: str, device: str, insecure: bool = False) -> Iterator[Cluster]:
    """A cluster that is started, or a scheduler that runs already. Raises ClusterError."""
    from dask import config
    from distributed import Client, Nanny, Scheduler, Security, SpecCluster

    check(cluster, device, insecure)
    # A death is told at once, for the client knows whether the job got further; a study's workers may start children.
    own = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.daemon": False}
    own["distributed.worker.profile.enabled"] = False  # it stops the training a hundred times a second to look at it
    own["distributed.deploy.lost-worker-timeout"] = _LOST
    own[f"distributed.nanny.pre-spawn-environ.{_TRIM}"] = None
    with ExitStack() as stack:
        if _ADDRESS.fullmatch(cluster):
            try:
                client = stack.enter_context(Client(cluster, timeout=_CONNECT, set_as_default=False))
            except (OSError, ValueError, TypeError, RuntimeError) as error:
                advice = "is it there, and is dask's configuration the same (TLS certificates)?"
                raise ClusterError(f"no scheduler answers at {cluster} ({error}); {advice}") from None
            yield Cluster(client, lambda: None, _QUEUE)
            return
        if cluster == "local":
            if absent := device_problem(device):
                raise ClusterError(f"device: {absent}")
            # Other users of this machine reach 127.0.0.1, too.
            transport = {"host": "127.0.0.1"} if insecure else {"host": "127.0.0.1", "protocol": "tls"}
            transport |= {} if insecure else {"security": Security.temporary()}
            options = {**transport, "nthreads": 1, "memory_limit": 0, "dashboard": False}
            options |= {"preload": ["vaekit.sweep.jobs"], "silence_logs": logging.CRITICAL}
            workers = {
                i: {"cls": Nanny, "options": {**options, "env": place}} for i, place in enumerate(_places(device))
            }
            stack.enter_context(config.set(own))
            dashboard = {"dashboard": True, "dashboard_address": "127.0.0.1:0"}
            spec = {"cls": Scheduler, "options": {**transport, **dashboard}}
            of_cluster: Any = {"security": transport.get("security"), "silence_logs": logging.CRITICAL}
            started: Any = stack.enter_context(SpecCluster(workers=workers, scheduler=spec, **of_cluster))
            fill, patience = functools.partial(started.scale, len(workers)), _START
        else:
            cls, given, count, patience = _settings(cluster)
            name = cls.job_cls.config_name
            stack.enter_context(config.set({**own, f"jobqueue.{name}": config.get(f"jobqueue.{name}") | given}))
            try:
                started = stack.enter_context(cls(security=None if insecure else True, silence_logs=logging.CRITICAL))
            except (OSError, RuntimeError, TypeError, ValueError) as error:
                raise ClusterError(f"the scheduler of {cluster} cannot be started ({error})") from None
            fill = functools.partial(_submit, started, count, name)
        client = stack.enter_context(Client(started, timeout=_CONNECT, set_as_default=False))
        yield Cluster(client, fill, patience, cluster != "local")


def _submit(started: Any, count: int, name: str) -> str | None:
    """Ask a batch system for its jobs; `scale` alone drops what it says. See `Cluster.fill`."""
    from distributed import Status

    while len(started.worker_spec) < count:
        started.worker_spec.update(started.new_worker_spec())
    try:
        started.sync(started._correct_state)
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # they hold all jobs, of which Dask counts those that are held
        refused = [job for job, worker in started.workers.items() if worker.status == Status.created]
        for job in refused:
            started.workers.pop(job).status = Status.failed  # Dask closes no worker that never was
        if not started.workers:
            raise ClusterError(f"{name} takes no job: {error}") from None
        return f"{name} takes {len(started.workers)} of {count} jobs, and is asked for the others again: {error}"
    return None


def expected(cluster: str, device: str, insecure: bool = False) -> Workers:
    """The workers that a cluster would have; a scheduler that runs already is asked. Raises ClusterError."""
    check(cluster, device, insecure)
    if cluster == "local":
        return Workers(len(_places(device)), 1, "this machine")
    if _ADDRESS.fullmatch(cluster):
        with opened(cluster, device, insecure) as here:
            threads = list(here.client.nthreads().values())
        return Workers(len(threads), max(threads, default=1), cluster)
    cls, given, count, _ = _settings(cluster)
    return Workers(count, given["cores"], f"{cls.job_cls.config_name}, {cluster}")
