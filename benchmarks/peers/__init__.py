"""The systems that are measured side by side, and in which environment each runs. None is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_SMALL = ("latency", "in_flight", "map", "stream", "echo")
_ALL = (*_SMALL, "big_echo")


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table. `entry`: module and class of its `System`, and `options` for the class.

    `home`: the environment it is installed in: "here" (EasyRemote's own), or a folder of `.build/peers`. `workloads`: those that
    tell something about this row that another row of the same system doesn't.
    """

    title: str
    entry: str
    home: str = "here"
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    workloads: tuple[str, ...] = _ALL

    @property
    def is_peer(self) -> bool:
        return self.home != "here"


_OVER_TCP = {"EASYREMOTE_LOCAL_SOCKET": "0", "EASYREMOTE_SHARED_MEMORY": "0"}
_EASYREMOTE = "benchmarks.peers.easyremote_:EasyRemote"
_RELAY = (*_SMALL[:2], "echo", "big_echo")

CONTENDERS: dict[str, Contender] = {
    "easyremote-thread": Contender(
        "EasyRemote, owner's thread, one host",
        _EASYREMOTE,
        options={"place": "thread"},
        workloads=(*_ALL, "busy"),
    ),
    "easyremote-worker": Contender(
        "EasyRemote, worker process, one host",
        _EASYREMOTE,
        options={"place": "worker"},
        workloads=(*_ALL, "busy"),
    ),
    "easyremote-thread-tcp": Contender(
        "EasyRemote, owner's thread, as between machines (gRPC over TCP)",
        _EASYREMOTE,
        options={"place": "thread"},
        environment=_OVER_TCP,
        workloads=(*_ALL, "busy"),
    ),
    "easyremote-worker-tcp": Contender(
        "EasyRemote, worker process, as between machines (gRPC over TCP)",
        _EASYREMOTE,
        options={"place": "worker"},
        environment=_OVER_TCP,
        workloads=(*_ALL, "busy"),
    ),
    "relay-grpc-uvloop": Contender(
        "bare gRPC relay (aio on uvloop)",
        "benchmarks.limit:Relay",
        options={"kind": "grpc-uvloop"},
        workloads=_RELAY,
    ),
    "relay-grpc-asyncio": Contender(
        "bare gRPC relay (aio on asyncio)",
        "benchmarks.limit:Relay",
        options={"kind": "grpc-asyncio"},
        workloads=_RELAY[:3],
    ),
    "relay-grpc-threads": Contender(
        "bare gRPC relay (thread API)",
        "benchmarks.limit:Relay",
        options={"kind": "grpc-threads"},
        workloads=_RELAY[:3],
    ),
    "relay-tcp": Contender(
        "bare TCP relay (asyncio on uvloop)",
        "benchmarks.limit:Relay",
        options={"kind": "tcp"},
        workloads=_RELAY,
    ),
    "nats": Contender("nats (Go broker)", "benchmarks.peers.nats_:Nats", "venv"),
    "pyro5": Contender("Pyro5, batches (no gateway)", "benchmarks.peers.pyro5_:Daemon", "venv"),
    "pyro5-msgpack": Contender(
        "Pyro5, batches, msgpack (no gateway)",
        "benchmarks.peers.pyro5_:Daemon",
        "venv",
        options={"serializer": "msgpack"},
    ),
    "pyro5-threads": Contender(
        "Pyro5, 16 threads (no gateway)",
        "benchmarks.peers.pyro5_:Daemon",
        "venv",
        options={"way": "threads"},
        workloads=("in_flight", "map"),
    ),
    "rpyc": Contender("rpyc (no gateway)", "benchmarks.peers.rpyc_:Rpyc", "venv"),
    "ray-actor": Contender("Ray, actor", "benchmarks.peers.ray_:Ray", "venv"),
    "ray-task": Contender(
        "Ray, plain tasks",
        "benchmarks.peers.ray_:Ray",
        "venv",
        options={"way": "task"},
        workloads=("latency", "in_flight", "map"),
    ),
    "dask": Contender("Dask (LocalCluster)", "benchmarks.peers.dask_:Dask", "venv"),
    "dask-actor": Contender(
        "Dask, actor",
        "benchmarks.peers.dask_:Dask",
        "venv",
        options={"way": "actor"},
        workloads=("latency", "in_flight"),
    ),
    "ipyparallel": Contender("ipyparallel, direct view", "benchmarks.peers.ipyparallel_:Ipyparallel", "venv"),
    "ipyparallel-balanced": Contender(
        "ipyparallel, load-balanced view",
        "benchmarks.peers.ipyparallel_:Ipyparallel",
        "venv",
        options={"way": "balanced"},
        workloads=("latency", "in_flight", "map"),
    ),
    "easyremote-2": Contender("easyremote 2.0.2 from PyPI", "benchmarks.peers.easyremote_2:EasyRemote2", "old"),
}
