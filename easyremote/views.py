"""What a gateway answers, as the records that people get."""

from __future__ import annotations

import math
from typing import Any

from easyremote.execution.functions import signature_of
from easyremote.model import (
    CallInfo,
    FailureInfo,
    FunctionInfo,
    GatewayInfo,
    GpuInfo,
    NodeInfo,
    OfferInfo,
    Overview,
    RestInfo,
    TokenInfo,
)
from easyremote.needs import described
from easyremote.wire.v1 import gateway_pb2 as pb

_KINDS = {
    pb.FUNCTION_KIND_GENERATOR: "generator",
    pb.FUNCTION_KIND_COROUTINE: "coroutine",
    pb.FUNCTION_KIND_ASYNC_GENERATOR: "async_generator",
}


def function_info(record: pb.FunctionRecord) -> FunctionInfo:
    spec = record.spec
    signature = signature_of(spec)
    return FunctionInfo(
        name=spec.name,
        signature=str(signature) if signature is not None else "(...)",
        kind=_KINDS.get(spec.kind, "function"),
        nodes=tuple(sorted(record.nodes)),
        version=spec.version,
        doc=spec.doc,
        shipped=spec.shipped,
        needs=described(spec.needs),
        max_concurrency=spec.max_concurrency,
        requirements=tuple(spec.environment.requirements),
        python=spec.environment.python,
        versions=dict(sorted(record.versions.items())),
        stale_nodes=tuple(sorted(node for node in record.versions if _differs(record, node))) if spec.shipped else (),
    )


def _differs(record: pb.FunctionRecord, node: str) -> bool:
    return record.versions[node] != record.spec.version


def token_info(record: pb.TokenRecord) -> TokenInfo:
    return TokenInfo(
        id=record.token_id,
        name=record.name,
        roles=tuple(record.roles),
        functions=tuple(record.functions),
        nodes=tuple(record.nodes),
        max_calls=record.max_calls,
        max_bytes=record.max_bytes,
        calls_per_s=record.calls_per_s,
        created=record.created,
        expires=record.expires or None,
        is_invitation=record.is_invitation,
    )


def node_info(record: pb.NodeRecord) -> NodeInfo:
    load = record.load
    gpus = _gpus(record)
    resources: dict[str, Any] = {}
    if record.HasField("load"):
        resources = {
            "cpus": load.cpus,
            "cpu_percent": load.cpu_percent,
            "memory_used_bytes": load.memory_used_bytes,
            "memory_total_bytes": load.memory_total_bytes,
            "gpus": len(load.gpus),
        }
    return NodeInfo(
        node_id=record.node_id,
        status=record.status,
        functions=tuple(record.functions),
        slots=record.slots,
        running=record.running,
        load=record.running / record.slots if record.slots else 0.0,
        resources=resources,
        gpus=gpus,
        finished=record.finished,
        failed=record.failed,
        python=record.runtime.python,
        version=record.runtime.easyremote,
        host=record.runtime.host,
        pid=record.runtime.pid,
        platform=record.runtime.platform,
        labels=dict(record.labels),
        connected_s=record.connected_s,
        price=record.price,
        draining=record.draining,
        resting=tuple(RestInfo(item.function, item.rests_s, item.reason, item.is_probed) for item in record.resting),
        capacity={
            "slots": record.slots,
            "cpus": record.capacity.millicpus / 1000,
            "memory_bytes": record.capacity.memory_bytes,
            "gpus": len(record.capacity.gpus),
        },
        in_use={
            "slots": record.in_use.slots,
            "cpus": record.in_use.millicpus / 1000,
            "memory_bytes": record.in_use.memory_bytes,
            "gpus": sum(gpu.calls > 0 for gpu in record.in_use.gpus),
        },
    )


def _gpus(record: pb.NodeRecord) -> tuple[GpuInfo, ...]:
    """Those that are measured or offered, or both."""
    measured = {gpu.index: gpu for gpu in record.load.gpus}
    offered = {gpu.index: gpu for gpu in record.capacity.gpus}
    in_use = {gpu.index: gpu for gpu in record.in_use.gpus}
    found: list[GpuInfo] = []
    for index in sorted({*measured, *offered}):
        gpu, offer = measured.get(index, pb.Load.Gpu()), offered.get(index, pb.Capacity.Gpu())
        use = in_use.get(index, pb.NodeRecord.Use.Gpu())
        found.append(
            GpuInfo(
                index=index,
                name=gpu.name or offer.name,
                uuid=gpu.uuid or offer.uuid,
                memory_used_bytes=gpu.memory_used_bytes,
                memory_total_bytes=gpu.memory_total_bytes or offer.memory_bytes,
                utilization_percent=gpu.utilization_percent,
                temperature_c=gpu.temperature_c,
                power_w=gpu.power_w,
                own_memory_bytes=gpu.own_memory_bytes,
                offered_bytes=offer.memory_bytes,
                held_bytes=use.memory_bytes,
                calls=use.calls,
                is_exclusive=use.is_exclusive,
                lost=gpu.lost,
            )
        )
    return tuple(found)


def gateway_info(record: pb.GatewayRecord, address: str) -> GatewayInfo:
    return GatewayInfo(
        address=address,
        version=record.version,
        uptime_s=record.uptime_s,
        clients=record.clients,
        queued=record.queued,
        running=record.running,
    )


def overview(answer: pb.Answer, address: str) -> Overview:
    """The answer to a look."""
    picture = answer.picture
    return Overview(
        gateway=gateway_info(answer.gateway, address),
        nodes=tuple(sorted(map(node_info, answer.nodes), key=lambda node: node.node_id)),
        calls=tuple(map(_call_info, picture.calls)),
        failures=tuple(map(_failure_info, picture.failures)),
        functions=tuple(map(_offer_info, picture.offers)),
        running=picture.running,
        queued=picture.waiting,
        spent=picture.spent,
        sees_all=picture.sees_all,
    )


def _call_info(record: pb.Picture.CallRecord) -> CallInfo:
    done, total = record.progress.done, record.progress.total
    part = done / total if total > 0 else math.nan
    return CallInfo(
        call_id=record.call_id.hex(),
        function=record.title,
        state="running" if record.is_running else "queued",
        node=record.node_id,
        attempt=record.attempt,
        age_s=record.age_s,
        running_s=record.running_s,
        progress=min(max(part, 0.0), 1.0) if math.isfinite(part) else None,
        progress_text=record.progress.text,
        tasks=record.tasks,
        owner=record.owner,
        is_own=record.is_own,
        is_job=record.is_job,
        version=record.version,
    )


def _failure_info(record: pb.Picture.FailureRecord) -> FailureInfo:
    return FailureInfo(
        call_id=record.call_id.hex(),
        function=record.title,
        node=record.node_id,
        code=record.code,
        type=record.type,
        message=record.message,
        ago_s=record.ago_s,
        owner=record.owner,
    )


def _offer_info(record: pb.Picture.OfferRecord) -> OfferInfo:
    return OfferInfo(
        name=record.name,
        kind=_KINDS.get(record.kind, "function"),
        shipped=record.shipped,
        versions=tuple((each.version, tuple(each.nodes)) for each in record.versions),
    )
