from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_CLIENT: _ClassVar[Role]
    ROLE_NODE: _ClassVar[Role]

class FunctionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FUNCTION_KIND_UNSPECIFIED: _ClassVar[FunctionKind]
    FUNCTION_KIND_FUNCTION: _ClassVar[FunctionKind]
    FUNCTION_KIND_GENERATOR: _ClassVar[FunctionKind]
    FUNCTION_KIND_COROUTINE: _ClassVar[FunctionKind]
    FUNCTION_KIND_ASYNC_GENERATOR: _ClassVar[FunctionKind]

class Outlook(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTLOOK_UNSPECIFIED: _ClassVar[Outlook]
    OUTLOOK_NOW: _ClassVar[Outlook]
    OUTLOOK_LATER: _ClassVar[Outlook]
    OUTLOOK_NEVER: _ClassVar[Outlook]
ROLE_UNSPECIFIED: Role
ROLE_CLIENT: Role
ROLE_NODE: Role
FUNCTION_KIND_UNSPECIFIED: FunctionKind
FUNCTION_KIND_FUNCTION: FunctionKind
FUNCTION_KIND_GENERATOR: FunctionKind
FUNCTION_KIND_COROUTINE: FunctionKind
FUNCTION_KIND_ASYNC_GENERATOR: FunctionKind
OUTLOOK_UNSPECIFIED: Outlook
OUTLOOK_NOW: Outlook
OUTLOOK_LATER: Outlook
OUTLOOK_NEVER: Outlook

class JoinRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("token", "token_id", "roles", "gateway_name")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_NAME_FIELD_NUMBER: _ClassVar[int]
    token: str
    token_id: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    gateway_name: str
    def __init__(self, token: _Optional[str] = ..., token_id: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., gateway_name: _Optional[str] = ...) -> None: ...

class InviteRequest(_message.Message):
    __slots__ = ("roles", "expires_s", "uses", "name", "functions", "nodes", "inviter")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_S_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    INVITER_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedScalarFieldContainer[str]
    expires_s: float
    uses: int
    name: str
    functions: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    inviter: bytes
    def __init__(self, roles: _Optional[_Iterable[str]] = ..., expires_s: _Optional[float] = ..., uses: _Optional[int] = ..., name: _Optional[str] = ..., functions: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[str]] = ..., inviter: _Optional[bytes] = ...) -> None: ...

class InviteReply(_message.Message):
    __slots__ = ("invitation", "invitation_id")
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    INVITATION_ID_FIELD_NUMBER: _ClassVar[int]
    invitation: Invitation
    invitation_id: str
    def __init__(self, invitation: _Optional[_Union[Invitation, _Mapping]] = ..., invitation_id: _Optional[str] = ...) -> None: ...

class Invitation(_message.Message):
    __slots__ = ("addresses", "fingerprint", "token", "roles", "gateway_name", "inviter")
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_NAME_FIELD_NUMBER: _ClassVar[int]
    INVITER_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    fingerprint: bytes
    token: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    gateway_name: str
    inviter: bytes
    def __init__(self, addresses: _Optional[_Iterable[str]] = ..., fingerprint: _Optional[bytes] = ..., token: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., gateway_name: _Optional[str] = ..., inviter: _Optional[bytes] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("frames", "number", "crc32")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    number: int
    crc32: int
    def __init__(self, frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ..., number: _Optional[int] = ..., crc32: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("hello", "welcome", "refused", "goodbye", "heartbeat", "submit", "cancel", "ack", "synced", "query", "answer", "event", "verdict", "offers", "offers_taken", "load", "forget", "resume", "fetch", "chunk", "drain", "handed_back", "withdrawn", "handles", "held_values", "unwanted", "node_keys", "keyring", "reply")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    OFFERS_TAKEN_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    HANDED_BACK_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    HELD_VALUES_FIELD_NUMBER: _ClassVar[int]
    UNWANTED_FIELD_NUMBER: _ClassVar[int]
    NODE_KEYS_FIELD_NUMBER: _ClassVar[int]
    KEYRING_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    welcome: Welcome
    refused: Refused
    goodbye: Goodbye
    heartbeat: Heartbeat
    submit: Submit
    cancel: Cancel
    ack: Ack
    synced: Synced
    query: Query
    answer: Answer
    event: Event
    verdict: Verdict
    offers: Offers
    offers_taken: OffersTaken
    load: Load
    forget: Forget
    resume: Resume
    fetch: Fetch
    chunk: Chunk
    drain: Drain
    handed_back: HandedBack
    withdrawn: Withdrawn
    handles: Handles
    held_values: HeldValues
    unwanted: Unwanted
    node_keys: NodeKeys
    keyring: Keyring
    reply: Reply
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., submit: _Optional[_Union[Submit, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., synced: _Optional[_Union[Synced, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., offers: _Optional[_Union[Offers, _Mapping]] = ..., offers_taken: _Optional[_Union[OffersTaken, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ..., forget: _Optional[_Union[Forget, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., fetch: _Optional[_Union[Fetch, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., handed_back: _Optional[_Union[HandedBack, _Mapping]] = ..., withdrawn: _Optional[_Union[Withdrawn, _Mapping]] = ..., handles: _Optional[_Union[Handles, _Mapping]] = ..., held_values: _Optional[_Union[HeldValues, _Mapping]] = ..., unwanted: _Optional[_Union[Unwanted, _Mapping]] = ..., node_keys: _Optional[_Union[NodeKeys, _Mapping]] = ..., keyring: _Optional[_Union[Keyring, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "features", "role", "session_id", "runtime", "node")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    features: _containers.RepeatedScalarFieldContainer[str]
    role: Role
    session_id: bytes
    runtime: Runtime
    node: NodeState
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., role: _Optional[_Union[Role, str]] = ..., session_id: _Optional[bytes] = ..., runtime: _Optional[_Union[Runtime, _Mapping]] = ..., node: _Optional[_Union[NodeState, _Mapping]] = ...) -> None: ...

class Runtime(_message.Message):
    __slots__ = ("python", "implementation", "easyremote", "cloudpickle", "numpy", "platform", "host", "pid")
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    IMPLEMENTATION_FIELD_NUMBER: _ClassVar[int]
    EASYREMOTE_FIELD_NUMBER: _ClassVar[int]
    CLOUDPICKLE_FIELD_NUMBER: _ClassVar[int]
    NUMPY_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    python: str
    implementation: str
    easyremote: str
    cloudpickle: str
    numpy: str
    platform: str
    host: str
    pid: int
    def __init__(self, python: _Optional[str] = ..., implementation: _Optional[str] = ..., easyremote: _Optional[str] = ..., cloudpickle: _Optional[str] = ..., numpy: _Optional[str] = ..., platform: _Optional[str] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class NodeState(_message.Message):
    __slots__ = ("node_id", "slots", "offers", "attempts", "labels", "price", "capacity", "holdings", "drain", "values", "identity", "sealed_only", "environments", "why_no_environments")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SEALED_ONLY_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    WHY_NO_ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    slots: int
    offers: _containers.RepeatedCompositeFieldContainer[FunctionSpec]
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptState]
    labels: _containers.ScalarMap[str, str]
    price: float
    capacity: Capacity
    holdings: _containers.RepeatedCompositeFieldContainer[Holding]
    drain: Drain
    values: _containers.RepeatedCompositeFieldContainer[HeldValue]
    identity: bytes
    sealed_only: bool
    environments: bool
    why_no_environments: str
    def __init__(self, node_id: _Optional[str] = ..., slots: _Optional[int] = ..., offers: _Optional[_Iterable[_Union[FunctionSpec, _Mapping]]] = ..., attempts: _Optional[_Iterable[_Union[AttemptState, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., price: _Optional[float] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., holdings: _Optional[_Iterable[_Union[Holding, _Mapping]]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., values: _Optional[_Iterable[_Union[HeldValue, _Mapping]]] = ..., identity: _Optional[bytes] = ..., sealed_only: _Optional[bool] = ..., environments: _Optional[bool] = ..., why_no_environments: _Optional[str] = ...) -> None: ...

class Environment(_message.Message):
    __slots__ = ("requirements", "python")
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    requirements: _containers.RepeatedScalarFieldContainer[str]
    python: str
    def __init__(self, requirements: _Optional[_Iterable[str]] = ..., python: _Optional[str] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("millicpus", "memory_bytes", "gpus", "shares_cpus", "shares_memory")
    class Gpu(_message.Message):
        __slots__ = ("index", "uuid", "memory_bytes", "name")
        INDEX_FIELD_NUMBER: _ClassVar[int]
        UUID_FIELD_NUMBER: _ClassVar[int]
        MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        index: int
        uuid: str
        memory_bytes: int
        name: str
        def __init__(self, index: _Optional[int] = ..., uuid: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...
    MILLICPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    SHARES_CPUS_FIELD_NUMBER: _ClassVar[int]
    SHARES_MEMORY_FIELD_NUMBER: _ClassVar[int]
    millicpus: int
    memory_bytes: int
    gpus: _containers.RepeatedCompositeFieldContainer[Capacity.Gpu]
    shares_cpus: bool
    shares_memory: bool
    def __init__(self, millicpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[Capacity.Gpu, _Mapping]]] = ..., shares_cpus: _Optional[bool] = ..., shares_memory: _Optional[bool] = ...) -> None: ...

class Needs(_message.Message):
    __slots__ = ("slots", "millicpus", "memory_bytes", "gpus", "gpu_memory_bytes", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    MILLICPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    millicpus: int
    memory_bytes: int
    gpus: int
    gpu_memory_bytes: int
    labels: _containers.ScalarMap[str, str]
    def __init__(self, slots: _Optional[int] = ..., millicpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpus: _Optional[int] = ..., gpu_memory_bytes: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("slots", "millicpus", "memory_bytes", "gpus", "gpu_memory_bytes", "is_exclusive", "counts_as")
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    MILLICPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    IS_EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_AS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    millicpus: int
    memory_bytes: int
    gpus: _containers.RepeatedScalarFieldContainer[int]
    gpu_memory_bytes: int
    is_exclusive: bool
    counts_as: str
    def __init__(self, slots: _Optional[int] = ..., millicpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpus: _Optional[_Iterable[int]] = ..., gpu_memory_bytes: _Optional[int] = ..., is_exclusive: _Optional[bool] = ..., counts_as: _Optional[str] = ...) -> None: ...

class Holding(_message.Message):
    __slots__ = ("call_id", "attempt", "grant")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    grant: Grant
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class AttemptState(_message.Message):
    __slots__ = ("call_id", "attempt", "owner")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    owner: str
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class FunctionSpec(_message.Message):
    __slots__ = ("name", "version", "kind", "parameters", "has_signature", "doc", "shipped", "load_balancing", "max_concurrency", "needs", "idempotent", "retry", "batch", "batch_wait_s", "batch_whole", "staged", "environment")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    HAS_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    SHIPPED_FIELD_NUMBER: _ClassVar[int]
    LOAD_BALANCING_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BATCH_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    BATCH_WHOLE_FIELD_NUMBER: _ClassVar[int]
    STAGED_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    kind: FunctionKind
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    has_signature: bool
    doc: str
    shipped: bool
    load_balancing: bool
    max_concurrency: int
    needs: Needs
    idempotent: bool
    retry: RetryRule
    batch: int
    batch_wait_s: float
    batch_whole: bool
    staged: str
    environment: Environment
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., kind: _Optional[_Union[FunctionKind, str]] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., has_signature: _Optional[bool] = ..., doc: _Optional[str] = ..., shipped: _Optional[bool] = ..., load_balancing: _Optional[bool] = ..., max_concurrency: _Optional[int] = ..., needs: _Optional[_Union[Needs, _Mapping]] = ..., idempotent: _Optional[bool] = ..., retry: _Optional[_Union[RetryRule, _Mapping]] = ..., batch: _Optional[int] = ..., batch_wait_s: _Optional[float] = ..., batch_whole: _Optional[bool] = ..., staged: _Optional[str] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ...) -> None: ...

class RetryRule(_message.Message):
    __slots__ = ("retries", "retries_set", "retry_on", "backoff_s")
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    RETRIES_SET_FIELD_NUMBER: _ClassVar[int]
    RETRY_ON_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_S_FIELD_NUMBER: _ClassVar[int]
    retries: int
    retries_set: bool
    retry_on: _containers.RepeatedScalarFieldContainer[str]
    backoff_s: float
    def __init__(self, retries: _Optional[int] = ..., retries_set: _Optional[bool] = ..., retry_on: _Optional[_Iterable[str]] = ..., backoff_s: _Optional[float] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "kind", "has_default", "default_text", "annotation_text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    HAS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TEXT_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: int
    has_default: bool
    default_text: str
    annotation_text: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[int] = ..., has_default: _Optional[bool] = ..., default_text: _Optional[str] = ..., annotation_text: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "features", "gateway_id", "resumed", "heartbeat_s", "grace_s", "version", "node_id", "incarnation", "roles")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    features: _containers.RepeatedScalarFieldContainer[str]
    gateway_id: bytes
    resumed: bool
    heartbeat_s: float
    grace_s: float
    version: str
    node_id: str
    incarnation: int
    roles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., gateway_id: _Optional[bytes] = ..., resumed: _Optional[bool] = ..., heartbeat_s: _Optional[float] = ..., grace_s: _Optional[float] = ..., version: _Optional[str] = ..., node_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., roles: _Optional[_Iterable[str]] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "message", "retry_after_s")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retry_after_s: float
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_s: _Optional[float] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason", "returns")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    returns: bool
    def __init__(self, reason: _Optional[str] = ..., returns: _Optional[bool] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason", "leaving")
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    reason: str
    leaving: bool
    def __init__(self, reason: _Optional[str] = ..., leaving: _Optional[bool] = ...) -> None: ...

class HandedBack(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptState]
    def __init__(self, attempts: _Optional[_Iterable[_Union[AttemptState, _Mapping]]] = ...) -> None: ...

class Withdrawn(_message.Message):
    __slots__ = ("call_id", "attempt")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Submit(_message.Message):
    __slots__ = ("call_id", "function", "code", "arguments", "options", "attempt", "again", "seen_attempt", "seen_seq", "taken_seq", "seen_item", "seen_end", "nodes_may_return", "attempt_floor", "tasks", "tasks_content_type", "skipped_tasks", "earlier", "hedge_of", "grant", "plain_only", "owner", "allowed_nodes", "refs", "seal")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    SEEN_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEEN_SEQ_FIELD_NUMBER: _ClassVar[int]
    TAKEN_SEQ_FIELD_NUMBER: _ClassVar[int]
    SEEN_ITEM_FIELD_NUMBER: _ClassVar[int]
    SEEN_END_FIELD_NUMBER: _ClassVar[int]
    NODES_MAY_RETURN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FLOOR_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    TASKS_CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_TASKS_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    HEDGE_OF_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    PLAIN_ONLY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_NODES_FIELD_NUMBER: _ClassVar[int]
    REFS_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    function: str
    code: Code
    arguments: Payload
    options: Options
    attempt: int
    again: bool
    seen_attempt: int
    seen_seq: int
    taken_seq: int
    seen_item: bool
    seen_end: bool
    nodes_may_return: bool
    attempt_floor: int
    tasks: _containers.RepeatedScalarFieldContainer[bytes]
    tasks_content_type: str
    skipped_tasks: _containers.RepeatedScalarFieldContainer[int]
    earlier: _containers.RepeatedCompositeFieldContainer[ErrorInfo]
    hedge_of: bytes
    grant: Grant
    plain_only: bool
    owner: str
    allowed_nodes: _containers.RepeatedScalarFieldContainer[str]
    refs: _containers.RepeatedCompositeFieldContainer[Ref]
    seal: Seal
    def __init__(self, call_id: _Optional[bytes] = ..., function: _Optional[str] = ..., code: _Optional[_Union[Code, _Mapping]] = ..., arguments: _Optional[_Union[Payload, _Mapping]] = ..., options: _Optional[_Union[Options, _Mapping]] = ..., attempt: _Optional[int] = ..., again: _Optional[bool] = ..., seen_attempt: _Optional[int] = ..., seen_seq: _Optional[int] = ..., taken_seq: _Optional[int] = ..., seen_item: _Optional[bool] = ..., seen_end: _Optional[bool] = ..., nodes_may_return: _Optional[bool] = ..., attempt_floor: _Optional[int] = ..., tasks: _Optional[_Iterable[bytes]] = ..., tasks_content_type: _Optional[str] = ..., skipped_tasks: _Optional[_Iterable[int]] = ..., earlier: _Optional[_Iterable[_Union[ErrorInfo, _Mapping]]] = ..., hedge_of: _Optional[bytes] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., plain_only: _Optional[bool] = ..., owner: _Optional[str] = ..., allowed_nodes: _Optional[_Iterable[str]] = ..., refs: _Optional[_Iterable[_Union[Ref, _Mapping]]] = ..., seal: _Optional[_Union[Seal, _Mapping]] = ...) -> None: ...

class Ref(_message.Message):
    __slots__ = ("ref_id", "part_bytes", "type", "node_id", "shared_file", "seal_key", "content_type")
    REF_ID_FIELD_NUMBER: _ClassVar[int]
    PART_BYTES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SHARED_FILE_FIELD_NUMBER: _ClassVar[int]
    SEAL_KEY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    ref_id: bytes
    part_bytes: _containers.RepeatedScalarFieldContainer[int]
    type: str
    node_id: str
    shared_file: str
    seal_key: bytes
    content_type: str
    def __init__(self, ref_id: _Optional[bytes] = ..., part_bytes: _Optional[_Iterable[int]] = ..., type: _Optional[str] = ..., node_id: _Optional[str] = ..., shared_file: _Optional[str] = ..., seal_key: _Optional[bytes] = ..., content_type: _Optional[str] = ...) -> None: ...

class Seal(_message.Message):
    __slots__ = ("statement", "signature", "admission", "admissions", "box", "own", "mac")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    ADMISSIONS_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    signature: bytes
    admission: Admission
    admissions: _containers.RepeatedCompositeFieldContainer[Admission]
    box: bytes
    own: bytes
    mac: bytes
    def __init__(self, statement: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., admission: _Optional[_Union[Admission, _Mapping]] = ..., admissions: _Optional[_Iterable[_Union[Admission, _Mapping]]] = ..., box: _Optional[bytes] = ..., own: _Optional[bytes] = ..., mac: _Optional[bytes] = ...) -> None: ...

class CallStatement(_message.Message):
    __slots__ = ("epoch", "call_id", "function", "code_kind", "code_digest", "spec", "node_id", "session_id", "retries", "expires", "issued", "keep", "accept", "ref_ids", "tasks", "python", "retries_set")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    CODE_KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    REF_IDS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    RETRIES_SET_FIELD_NUMBER: _ClassVar[int]
    epoch: bytes
    call_id: bytes
    function: str
    code_kind: int
    code_digest: str
    spec: bytes
    node_id: str
    session_id: str
    retries: int
    expires: float
    issued: float
    keep: bool
    accept: str
    ref_ids: _containers.RepeatedScalarFieldContainer[bytes]
    tasks: int
    python: str
    retries_set: bool
    def __init__(self, epoch: _Optional[bytes] = ..., call_id: _Optional[bytes] = ..., function: _Optional[str] = ..., code_kind: _Optional[int] = ..., code_digest: _Optional[str] = ..., spec: _Optional[bytes] = ..., node_id: _Optional[str] = ..., session_id: _Optional[str] = ..., retries: _Optional[int] = ..., expires: _Optional[float] = ..., issued: _Optional[float] = ..., keep: _Optional[bool] = ..., accept: _Optional[str] = ..., ref_ids: _Optional[_Iterable[bytes]] = ..., tasks: _Optional[int] = ..., python: _Optional[str] = ..., retries_set: _Optional[bool] = ...) -> None: ...

class Admission(_message.Message):
    __slots__ = ("statement", "signature")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    signature: bytes
    def __init__(self, statement: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class AdmissionStatement(_message.Message):
    __slots__ = ("node_key", "client", "epoch", "expires", "wrapped")
    NODE_KEY_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_FIELD_NUMBER: _ClassVar[int]
    node_key: bytes
    client: bytes
    epoch: bytes
    expires: float
    wrapped: bytes
    def __init__(self, node_key: _Optional[bytes] = ..., client: _Optional[bytes] = ..., epoch: _Optional[bytes] = ..., expires: _Optional[float] = ..., wrapped: _Optional[bytes] = ...) -> None: ...

class Keyring(_message.Message):
    __slots__ = ("admissions", "complete")
    ADMISSIONS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    admissions: _containers.RepeatedCompositeFieldContainer[Admission]
    complete: bool
    def __init__(self, admissions: _Optional[_Iterable[_Union[Admission, _Mapping]]] = ..., complete: _Optional[bool] = ...) -> None: ...

class NodeKeys(_message.Message):
    __slots__ = ("nodes", "gone", "complete")
    NODES_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeKey]
    gone: _containers.RepeatedScalarFieldContainer[str]
    complete: bool
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeKey, _Mapping]]] = ..., gone: _Optional[_Iterable[str]] = ..., complete: _Optional[bool] = ...) -> None: ...

class NodeKey(_message.Message):
    __slots__ = ("node_id", "identity", "sealed_only")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SEALED_ONLY_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    identity: bytes
    sealed_only: bool
    def __init__(self, node_id: _Optional[str] = ..., identity: _Optional[bytes] = ..., sealed_only: _Optional[bool] = ...) -> None: ...

class Handles(_message.Message):
    __slots__ = ("held", "released", "complete")
    HELD_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[Handle]
    released: _containers.RepeatedScalarFieldContainer[bytes]
    complete: bool
    def __init__(self, held: _Optional[_Iterable[_Union[Handle, _Mapping]]] = ..., released: _Optional[_Iterable[bytes]] = ..., complete: _Optional[bool] = ...) -> None: ...

class Handle(_message.Message):
    __slots__ = ("ref_id", "has_value")
    REF_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_VALUE_FIELD_NUMBER: _ClassVar[int]
    ref_id: bytes
    has_value: bool
    def __init__(self, ref_id: _Optional[bytes] = ..., has_value: _Optional[bool] = ...) -> None: ...

class HeldValues(_message.Message):
    __slots__ = ("held", "dropped", "bound_bytes")
    HELD_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    BOUND_BYTES_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[HeldValue]
    dropped: _containers.RepeatedScalarFieldContainer[bytes]
    bound_bytes: int
    def __init__(self, held: _Optional[_Iterable[_Union[HeldValue, _Mapping]]] = ..., dropped: _Optional[_Iterable[bytes]] = ..., bound_bytes: _Optional[int] = ...) -> None: ...

class HeldValue(_message.Message):
    __slots__ = ("ref_id", "size_bytes", "pending", "fetch_s")
    REF_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    FETCH_S_FIELD_NUMBER: _ClassVar[int]
    ref_id: bytes
    size_bytes: int
    pending: bool
    fetch_s: float
    def __init__(self, ref_id: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., pending: _Optional[bool] = ..., fetch_s: _Optional[float] = ...) -> None: ...

class Unwanted(_message.Message):
    __slots__ = ("ref_ids",)
    REF_IDS_FIELD_NUMBER: _ClassVar[int]
    ref_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, ref_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("node_id", "strategy", "cost_limit", "timeout_s", "queue_timeout_s", "run_timeout_s", "retries", "retries_set", "output", "session_id", "label", "accept", "not_on", "priority", "parent_id", "retry_on", "backoff_s", "idempotent", "needs", "keep", "output_limit", "answers", "no_debugger")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    COST_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    RUN_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    RETRIES_SET_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    NOT_ON_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    RETRY_ON_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_S_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    NO_DEBUGGER_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    strategy: str
    cost_limit: float
    timeout_s: float
    queue_timeout_s: float
    run_timeout_s: float
    retries: int
    retries_set: bool
    output: bool
    session_id: str
    label: str
    accept: str
    not_on: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    parent_id: bytes
    retry_on: _containers.RepeatedScalarFieldContainer[str]
    backoff_s: float
    idempotent: bool
    needs: Needs
    keep: bool
    output_limit: int
    answers: bool
    no_debugger: bool
    def __init__(self, node_id: _Optional[str] = ..., strategy: _Optional[str] = ..., cost_limit: _Optional[float] = ..., timeout_s: _Optional[float] = ..., queue_timeout_s: _Optional[float] = ..., run_timeout_s: _Optional[float] = ..., retries: _Optional[int] = ..., retries_set: _Optional[bool] = ..., output: _Optional[bool] = ..., session_id: _Optional[str] = ..., label: _Optional[str] = ..., accept: _Optional[str] = ..., not_on: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., parent_id: _Optional[bytes] = ..., retry_on: _Optional[_Iterable[str]] = ..., backoff_s: _Optional[float] = ..., idempotent: _Optional[bool] = ..., needs: _Optional[_Union[Needs, _Mapping]] = ..., keep: _Optional[bool] = ..., output_limit: _Optional[int] = ..., answers: _Optional[bool] = ..., no_debugger: _Optional[bool] = ...) -> None: ...

class Code(_message.Message):
    __slots__ = ("kind", "payload", "spec", "digest", "python", "cloudpickle")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Code.Kind]
        KIND_CALLABLE: _ClassVar[Code.Kind]
        KIND_CELL: _ClassVar[Code.Kind]
        KIND_REGISTER: _ClassVar[Code.Kind]
        KIND_UNREGISTER: _ClassVar[Code.Kind]
        KIND_CLOSE_SESSION: _ClassVar[Code.Kind]
        KIND_POST_MORTEM: _ClassVar[Code.Kind]
        KIND_STAGE: _ClassVar[Code.Kind]
        KIND_COMMIT: _ClassVar[Code.Kind]
    KIND_UNSPECIFIED: Code.Kind
    KIND_CALLABLE: Code.Kind
    KIND_CELL: Code.Kind
    KIND_REGISTER: Code.Kind
    KIND_UNREGISTER: Code.Kind
    KIND_CLOSE_SESSION: Code.Kind
    KIND_POST_MORTEM: Code.Kind
    KIND_STAGE: Code.Kind
    KIND_COMMIT: Code.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    CLOUDPICKLE_FIELD_NUMBER: _ClassVar[int]
    kind: Code.Kind
    payload: Payload
    spec: FunctionSpec
    digest: str
    python: str
    cloudpickle: str
    def __init__(self, kind: _Optional[_Union[Code.Kind, str]] = ..., payload: _Optional[_Union[Payload, _Mapping]] = ..., spec: _Optional[_Union[FunctionSpec, _Mapping]] = ..., digest: _Optional[str] = ..., python: _Optional[str] = ..., cloudpickle: _Optional[str] = ...) -> None: ...

class Payload(_message.Message):
    __slots__ = ("content_type", "data", "buffers", "blob", "kept", "seal_key")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    SEAL_KEY_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    data: bytes
    buffers: _containers.RepeatedScalarFieldContainer[bytes]
    blob: Blob
    kept: Ref
    seal_key: bytes
    def __init__(self, content_type: _Optional[str] = ..., data: _Optional[bytes] = ..., buffers: _Optional[_Iterable[bytes]] = ..., blob: _Optional[_Union[Blob, _Mapping]] = ..., kept: _Optional[_Union[Ref, _Mapping]] = ..., seal_key: _Optional[bytes] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("blob_id", "part_bytes")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    PART_BYTES_FIELD_NUMBER: _ClassVar[int]
    blob_id: bytes
    part_bytes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, blob_id: _Optional[bytes] = ..., part_bytes: _Optional[_Iterable[int]] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("transfer_id", "blob_id", "call_id", "offset", "limit", "shared_memory", "done", "detached", "of_ref")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    OF_REF_FIELD_NUMBER: _ClassVar[int]
    transfer_id: bytes
    blob_id: bytes
    call_id: bytes
    offset: int
    limit: int
    shared_memory: str
    done: bool
    detached: bool
    of_ref: bool
    def __init__(self, transfer_id: _Optional[bytes] = ..., blob_id: _Optional[bytes] = ..., call_id: _Optional[bytes] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ..., shared_memory: _Optional[str] = ..., done: _Optional[bool] = ..., detached: _Optional[bool] = ..., of_ref: _Optional[bool] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("transfer_id", "offset", "data", "error", "shared_file", "again", "data_crc32", "crc32")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SHARED_FILE_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    DATA_CRC32_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    transfer_id: bytes
    offset: int
    data: bytes
    error: str
    shared_file: str
    again: bool
    data_crc32: int
    crc32: int
    def __init__(self, transfer_id: _Optional[bytes] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., error: _Optional[str] = ..., shared_file: _Optional[str] = ..., again: _Optional[bool] = ..., data_crc32: _Optional[int] = ..., crc32: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("call_id", "attempt", "reason", "tasks", "kill")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    reason: str
    tasks: _containers.RepeatedScalarFieldContainer[int]
    kill: bool
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ..., reason: _Optional[str] = ..., tasks: _Optional[_Iterable[int]] = ..., kill: _Optional[bool] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("calls",)
    CALLS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[Acknowledged]
    def __init__(self, calls: _Optional[_Iterable[_Union[Acknowledged, _Mapping]]] = ...) -> None: ...

class Acknowledged(_message.Message):
    __slots__ = ("call_id", "attempt", "seq", "ended")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    seq: int
    ended: bool
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ..., seq: _Optional[int] = ..., ended: _Optional[bool] = ...) -> None: ...

class Synced(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Event(_message.Message):
    __slots__ = ("call_id", "attempt", "seq", "started", "run_s", "is_exhausted", "busy_s", "output", "display", "progress", "item", "result", "error", "items", "failure", "returned", "asked", "sealed")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RUN_S_FIELD_NUMBER: _ClassVar[int]
    IS_EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    seq: int
    started: Started
    run_s: float
    is_exhausted: bool
    busy_s: float
    output: Output
    display: Display
    progress: Progress
    item: Payload
    result: Payload
    error: ErrorInfo
    items: Items
    failure: ErrorInfo
    returned: Returned
    asked: Asked
    sealed: bytes
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ..., seq: _Optional[int] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., run_s: _Optional[float] = ..., is_exhausted: _Optional[bool] = ..., busy_s: _Optional[float] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., display: _Optional[_Union[Display, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., item: _Optional[_Union[Payload, _Mapping]] = ..., result: _Optional[_Union[Payload, _Mapping]] = ..., error: _Optional[_Union[ErrorInfo, _Mapping]] = ..., items: _Optional[_Union[Items, _Mapping]] = ..., failure: _Optional[_Union[ErrorInfo, _Mapping]] = ..., returned: _Optional[_Union[Returned, _Mapping]] = ..., asked: _Optional[_Union[Asked, _Mapping]] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class Items(_message.Message):
    __slots__ = ("data", "content_type")
    DATA_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    data: _containers.RepeatedScalarFieldContainer[bytes]
    content_type: str
    def __init__(self, data: _Optional[_Iterable[bytes]] = ..., content_type: _Optional[str] = ...) -> None: ...

class Asked(_message.Message):
    __slots__ = ("ask_id", "prompt", "is_secret")
    ASK_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    IS_SECRET_FIELD_NUMBER: _ClassVar[int]
    ask_id: int
    prompt: str
    is_secret: bool
    def __init__(self, ask_id: _Optional[int] = ..., prompt: _Optional[str] = ..., is_secret: _Optional[bool] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("call_id", "attempt", "ask_id", "text", "refusal", "sealed")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ASK_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    ask_id: int
    text: str
    refusal: str
    sealed: bytes
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ..., ask_id: _Optional[int] = ..., text: _Optional[str] = ..., refusal: _Optional[str] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class Returned(_message.Message):
    __slots__ = ("first", "stop")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    first: int
    stop: bool
    def __init__(self, first: _Optional[int] = ..., stop: _Optional[bool] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("node_id", "version", "kind", "waits", "after")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    version: str
    kind: FunctionKind
    waits: bool
    after: str
    def __init__(self, node_id: _Optional[str] = ..., version: _Optional[str] = ..., kind: _Optional[_Union[FunctionKind, str]] = ..., waits: _Optional[bool] = ..., after: _Optional[str] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("is_stderr", "text", "to_file", "kept", "tail")
    IS_STDERR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TO_FILE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    is_stderr: bool
    text: str
    to_file: bool
    kept: bytes
    tail: OutputTail
    def __init__(self, is_stderr: _Optional[bool] = ..., text: _Optional[str] = ..., to_file: _Optional[bool] = ..., kept: _Optional[bytes] = ..., tail: _Optional[_Union[OutputTail, _Mapping]] = ...) -> None: ...

class OutputTail(_message.Message):
    __slots__ = ("left_out_bytes", "file", "kept_bytes")
    LEFT_OUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    KEPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    left_out_bytes: int
    file: str
    kept_bytes: int
    def __init__(self, left_out_bytes: _Optional[int] = ..., file: _Optional[str] = ..., kept_bytes: _Optional[int] = ...) -> None: ...

class Display(_message.Message):
    __slots__ = ("bundle", "display_id", "update", "clear", "wait", "is_result")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    IS_RESULT_FIELD_NUMBER: _ClassVar[int]
    bundle: Payload
    display_id: str
    update: bool
    clear: bool
    wait: bool
    is_result: bool
    def __init__(self, bundle: _Optional[_Union[Payload, _Mapping]] = ..., display_id: _Optional[str] = ..., update: _Optional[bool] = ..., clear: _Optional[bool] = ..., wait: _Optional[bool] = ..., is_result: _Optional[bool] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total", "text", "bars")
    class Bar(_message.Message):
        __slots__ = ("id", "done", "total", "text", "note", "has_ended")
        ID_FIELD_NUMBER: _ClassVar[int]
        DONE_FIELD_NUMBER: _ClassVar[int]
        TOTAL_FIELD_NUMBER: _ClassVar[int]
        TEXT_FIELD_NUMBER: _ClassVar[int]
        NOTE_FIELD_NUMBER: _ClassVar[int]
        HAS_ENDED_FIELD_NUMBER: _ClassVar[int]
        id: str
        done: float
        total: float
        text: str
        note: str
        has_ended: bool
        def __init__(self, id: _Optional[str] = ..., done: _Optional[float] = ..., total: _Optional[float] = ..., text: _Optional[str] = ..., note: _Optional[str] = ..., has_ended: _Optional[bool] = ...) -> None: ...
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    done: float
    total: float
    text: str
    bars: _containers.RepeatedCompositeFieldContainer[Progress.Bar]
    def __init__(self, done: _Optional[float] = ..., total: _Optional[float] = ..., text: _Optional[str] = ..., bars: _Optional[_Iterable[_Union[Progress.Bar, _Mapping]]] = ...) -> None: ...

class ErrorInfo(_message.Message):
    __slots__ = ("code", "type", "message", "traceback", "exception", "node_id", "may_have_run", "retry_after_s", "frames", "task", "details", "retriable", "earlier")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class Frames(_message.Message):
        __slots__ = ("file", "line", "function", "source", "is_ours")
        FILE_FIELD_NUMBER: _ClassVar[int]
        LINE_FIELD_NUMBER: _ClassVar[int]
        FUNCTION_FIELD_NUMBER: _ClassVar[int]
        SOURCE_FIELD_NUMBER: _ClassVar[int]
        IS_OURS_FIELD_NUMBER: _ClassVar[int]
        file: str
        line: int
        function: str
        source: str
        is_ours: bool
        def __init__(self, file: _Optional[str] = ..., line: _Optional[int] = ..., function: _Optional[str] = ..., source: _Optional[str] = ..., is_ours: _Optional[bool] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    MAY_HAVE_RUN_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    RETRIABLE_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    code: str
    type: str
    message: str
    traceback: str
    exception: Payload
    node_id: str
    may_have_run: bool
    retry_after_s: float
    frames: _containers.RepeatedCompositeFieldContainer[ErrorInfo.Frames]
    task: int
    details: _containers.ScalarMap[str, str]
    retriable: bool
    earlier: _containers.RepeatedCompositeFieldContainer[ErrorInfo]
    def __init__(self, code: _Optional[str] = ..., type: _Optional[str] = ..., message: _Optional[str] = ..., traceback: _Optional[str] = ..., exception: _Optional[_Union[Payload, _Mapping]] = ..., node_id: _Optional[str] = ..., may_have_run: _Optional[bool] = ..., retry_after_s: _Optional[float] = ..., frames: _Optional[_Iterable[_Union[ErrorInfo.Frames, _Mapping]]] = ..., task: _Optional[int] = ..., details: _Optional[_Mapping[str, str]] = ..., retriable: _Optional[bool] = ..., earlier: _Optional[_Iterable[_Union[ErrorInfo, _Mapping]]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("call_id", "error")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    error: ErrorInfo
    def __init__(self, call_id: _Optional[bytes] = ..., error: _Optional[_Union[ErrorInfo, _Mapping]] = ...) -> None: ...

class Offers(_message.Message):
    __slots__ = ("revision", "offers", "slots")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    offers: _containers.RepeatedCompositeFieldContainer[FunctionSpec]
    slots: int
    def __init__(self, revision: _Optional[int] = ..., offers: _Optional[_Iterable[_Union[FunctionSpec, _Mapping]]] = ..., slots: _Optional[int] = ...) -> None: ...

class OffersTaken(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("cpu_percent", "memory_used_bytes", "memory_total_bytes", "cpus", "gpus")
    class Gpu(_message.Message):
        __slots__ = ("index", "name", "uuid", "memory_used_bytes", "memory_total_bytes", "utilization_percent", "temperature_c", "power_w", "own_memory_bytes", "lost")
        INDEX_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        UUID_FIELD_NUMBER: _ClassVar[int]
        MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
        MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
        UTILIZATION_PERCENT_FIELD_NUMBER: _ClassVar[int]
        TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
        POWER_W_FIELD_NUMBER: _ClassVar[int]
        OWN_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
        LOST_FIELD_NUMBER: _ClassVar[int]
        index: int
        name: str
        uuid: str
        memory_used_bytes: int
        memory_total_bytes: int
        utilization_percent: float
        temperature_c: float
        power_w: float
        own_memory_bytes: int
        lost: str
        def __init__(self, index: _Optional[int] = ..., name: _Optional[str] = ..., uuid: _Optional[str] = ..., memory_used_bytes: _Optional[int] = ..., memory_total_bytes: _Optional[int] = ..., utilization_percent: _Optional[float] = ..., temperature_c: _Optional[float] = ..., power_w: _Optional[float] = ..., own_memory_bytes: _Optional[int] = ..., lost: _Optional[str] = ...) -> None: ...
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    cpu_percent: float
    memory_used_bytes: int
    memory_total_bytes: int
    cpus: int
    gpus: _containers.RepeatedCompositeFieldContainer[Load.Gpu]
    def __init__(self, cpu_percent: _Optional[float] = ..., memory_used_bytes: _Optional[int] = ..., memory_total_bytes: _Optional[int] = ..., cpus: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[Load.Gpu, _Mapping]]] = ...) -> None: ...

class Forget(_message.Message):
    __slots__ = ("call_id", "attempt")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("call_id", "attempt", "after_seq", "taken_seq")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    TAKEN_SEQ_FIELD_NUMBER: _ClassVar[int]
    call_id: bytes
    attempt: int
    after_seq: int
    taken_seq: int
    def __init__(self, call_id: _Optional[bytes] = ..., attempt: _Optional[int] = ..., after_seq: _Optional[int] = ..., taken_seq: _Optional[int] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("query_id", "list_nodes", "list_functions", "describe_function", "explain", "job", "drain_node", "resume_node", "tokens", "look", "cancel_call")
    class ListNodes(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Look(_message.Message):
        __slots__ = ("details", "max_calls")
        DETAILS_FIELD_NUMBER: _ClassVar[int]
        MAX_CALLS_FIELD_NUMBER: _ClassVar[int]
        details: bool
        max_calls: int
        def __init__(self, details: _Optional[bool] = ..., max_calls: _Optional[int] = ...) -> None: ...
    class ListFunctions(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class DrainNode(_message.Message):
        __slots__ = ("node_id", "reason")
        NODE_ID_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        node_id: str
        reason: str
        def __init__(self, node_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    LIST_NODES_FIELD_NUMBER: _ClassVar[int]
    LIST_FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    DESCRIBE_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    DRAIN_NODE_FIELD_NUMBER: _ClassVar[int]
    RESUME_NODE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOOK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_CALL_FIELD_NUMBER: _ClassVar[int]
    query_id: int
    list_nodes: Query.ListNodes
    list_functions: Query.ListFunctions
    describe_function: str
    explain: Submit
    job: JobRequest
    drain_node: Query.DrainNode
    resume_node: str
    tokens: TokenRequest
    look: Query.Look
    cancel_call: bytes
    def __init__(self, query_id: _Optional[int] = ..., list_nodes: _Optional[_Union[Query.ListNodes, _Mapping]] = ..., list_functions: _Optional[_Union[Query.ListFunctions, _Mapping]] = ..., describe_function: _Optional[str] = ..., explain: _Optional[_Union[Submit, _Mapping]] = ..., job: _Optional[_Union[JobRequest, _Mapping]] = ..., drain_node: _Optional[_Union[Query.DrainNode, _Mapping]] = ..., resume_node: _Optional[str] = ..., tokens: _Optional[_Union[TokenRequest, _Mapping]] = ..., look: _Optional[_Union[Query.Look, _Mapping]] = ..., cancel_call: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("query_id", "error", "nodes", "functions", "close_names", "gateway", "job", "explanation", "tokens", "picture")
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_NAMES_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    query_id: int
    error: ErrorInfo
    nodes: _containers.RepeatedCompositeFieldContainer[NodeRecord]
    functions: _containers.RepeatedCompositeFieldContainer[FunctionRecord]
    close_names: _containers.RepeatedScalarFieldContainer[str]
    gateway: GatewayRecord
    job: JobAnswer
    explanation: Explanation
    tokens: TokenAnswer
    picture: Picture
    def __init__(self, query_id: _Optional[int] = ..., error: _Optional[_Union[ErrorInfo, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeRecord, _Mapping]]] = ..., functions: _Optional[_Iterable[_Union[FunctionRecord, _Mapping]]] = ..., close_names: _Optional[_Iterable[str]] = ..., gateway: _Optional[_Union[GatewayRecord, _Mapping]] = ..., job: _Optional[_Union[JobAnswer, _Mapping]] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ..., tokens: _Optional[_Union[TokenAnswer, _Mapping]] = ..., picture: _Optional[_Union[Picture, _Mapping]] = ...) -> None: ...

class Picture(_message.Message):
    __slots__ = ("calls", "running", "waiting", "failures", "spent", "sees_all", "offers")
    class CallRecord(_message.Message):
        __slots__ = ("call_id", "title", "is_running", "node_id", "attempt", "age_s", "running_s", "progress", "tasks", "owner", "is_own", "is_job", "version")
        CALL_ID_FIELD_NUMBER: _ClassVar[int]
        TITLE_FIELD_NUMBER: _ClassVar[int]
        IS_RUNNING_FIELD_NUMBER: _ClassVar[int]
        NODE_ID_FIELD_NUMBER: _ClassVar[int]
        ATTEMPT_FIELD_NUMBER: _ClassVar[int]
        AGE_S_FIELD_NUMBER: _ClassVar[int]
        RUNNING_S_FIELD_NUMBER: _ClassVar[int]
        PROGRESS_FIELD_NUMBER: _ClassVar[int]
        TASKS_FIELD_NUMBER: _ClassVar[int]
        OWNER_FIELD_NUMBER: _ClassVar[int]
        IS_OWN_FIELD_NUMBER: _ClassVar[int]
        IS_JOB_FIELD_NUMBER: _ClassVar[int]
        VERSION_FIELD_NUMBER: _ClassVar[int]
        call_id: bytes
        title: str
        is_running: bool
        node_id: str
        attempt: int
        age_s: float
        running_s: float
        progress: Progress
        tasks: int
        owner: str
        is_own: bool
        is_job: bool
        version: str
        def __init__(self, call_id: _Optional[bytes] = ..., title: _Optional[str] = ..., is_running: _Optional[bool] = ..., node_id: _Optional[str] = ..., attempt: _Optional[int] = ..., age_s: _Optional[float] = ..., running_s: _Optional[float] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., tasks: _Optional[int] = ..., owner: _Optional[str] = ..., is_own: _Optional[bool] = ..., is_job: _Optional[bool] = ..., version: _Optional[str] = ...) -> None: ...
    class FailureRecord(_message.Message):
        __slots__ = ("ago_s", "call_id", "title", "node_id", "code", "type", "message", "owner")
        AGO_S_FIELD_NUMBER: _ClassVar[int]
        CALL_ID_FIELD_NUMBER: _ClassVar[int]
        TITLE_FIELD_NUMBER: _ClassVar[int]
        NODE_ID_FIELD_NUMBER: _ClassVar[int]
        CODE_FIELD_NUMBER: _ClassVar[int]
        TYPE_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        OWNER_FIELD_NUMBER: _ClassVar[int]
        ago_s: float
        call_id: bytes
        title: str
        node_id: str
        code: str
        type: str
        message: str
        owner: str
        def __init__(self, ago_s: _Optional[float] = ..., call_id: _Optional[bytes] = ..., title: _Optional[str] = ..., node_id: _Optional[str] = ..., code: _Optional[str] = ..., type: _Optional[str] = ..., message: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...
    class OfferRecord(_message.Message):
        __slots__ = ("name", "kind", "shipped", "versions")
        class Version(_message.Message):
            __slots__ = ("version", "nodes")
            VERSION_FIELD_NUMBER: _ClassVar[int]
            NODES_FIELD_NUMBER: _ClassVar[int]
            version: str
            nodes: _containers.RepeatedScalarFieldContainer[str]
            def __init__(self, version: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ...) -> None: ...
        NAME_FIELD_NUMBER: _ClassVar[int]
        KIND_FIELD_NUMBER: _ClassVar[int]
        SHIPPED_FIELD_NUMBER: _ClassVar[int]
        VERSIONS_FIELD_NUMBER: _ClassVar[int]
        name: str
        kind: FunctionKind
        shipped: bool
        versions: _containers.RepeatedCompositeFieldContainer[Picture.OfferRecord.Version]
        def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[FunctionKind, str]] = ..., shipped: _Optional[bool] = ..., versions: _Optional[_Iterable[_Union[Picture.OfferRecord.Version, _Mapping]]] = ...) -> None: ...
    CALLS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    SEES_ALL_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[Picture.CallRecord]
    running: int
    waiting: int
    failures: _containers.RepeatedCompositeFieldContainer[Picture.FailureRecord]
    spent: float
    sees_all: bool
    offers: _containers.RepeatedCompositeFieldContainer[Picture.OfferRecord]
    def __init__(self, calls: _Optional[_Iterable[_Union[Picture.CallRecord, _Mapping]]] = ..., running: _Optional[int] = ..., waiting: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[Picture.FailureRecord, _Mapping]]] = ..., spent: _Optional[float] = ..., sees_all: _Optional[bool] = ..., offers: _Optional[_Iterable[_Union[Picture.OfferRecord, _Mapping]]] = ...) -> None: ...

class TokenRequest(_message.Message):
    __slots__ = ("list", "create", "revoke")
    class List(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    LIST_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    list: TokenRequest.List
    create: TokenRecord
    revoke: str
    def __init__(self, list: _Optional[_Union[TokenRequest.List, _Mapping]] = ..., create: _Optional[_Union[TokenRecord, _Mapping]] = ..., revoke: _Optional[str] = ...) -> None: ...

class TokenAnswer(_message.Message):
    __slots__ = ("tokens", "text")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenRecord]
    text: str
    def __init__(self, tokens: _Optional[_Iterable[_Union[TokenRecord, _Mapping]]] = ..., text: _Optional[str] = ...) -> None: ...

class TokenRecord(_message.Message):
    __slots__ = ("token_id", "name", "roles", "functions", "nodes", "max_calls", "max_bytes", "calls_per_s", "created", "expires", "is_invitation", "once")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_CALLS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    CALLS_PER_S_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    IS_INVITATION_FIELD_NUMBER: _ClassVar[int]
    ONCE_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    name: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    functions: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    max_calls: int
    max_bytes: int
    calls_per_s: float
    created: float
    expires: float
    is_invitation: bool
    once: bool
    def __init__(self, token_id: _Optional[str] = ..., name: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., functions: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[str]] = ..., max_calls: _Optional[int] = ..., max_bytes: _Optional[int] = ..., calls_per_s: _Optional[float] = ..., created: _Optional[float] = ..., expires: _Optional[float] = ..., is_invitation: _Optional[bool] = ..., once: _Optional[bool] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("function", "outlook", "headline", "nodes", "left_out", "before", "waited_s", "expected_s")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    OUTLOOK_FIELD_NUMBER: _ClassVar[int]
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_S_FIELD_NUMBER: _ClassVar[int]
    function: str
    outlook: Outlook
    headline: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeOutlook]
    left_out: int
    before: int
    waited_s: float
    expected_s: float
    def __init__(self, function: _Optional[str] = ..., outlook: _Optional[_Union[Outlook, str]] = ..., headline: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeOutlook, _Mapping]]] = ..., left_out: _Optional[int] = ..., before: _Optional[int] = ..., waited_s: _Optional[float] = ..., expected_s: _Optional[float] = ...) -> None: ...

class NodeOutlook(_message.Message):
    __slots__ = ("node_id", "outlook", "reason", "remedy", "expected_s")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    OUTLOOK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_S_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    outlook: Outlook
    reason: str
    remedy: str
    expected_s: float
    def __init__(self, node_id: _Optional[str] = ..., outlook: _Optional[_Union[Outlook, str]] = ..., reason: _Optional[str] = ..., remedy: _Optional[str] = ..., expected_s: _Optional[float] = ...) -> None: ...

class NodeRecord(_message.Message):
    __slots__ = ("node_id", "status", "slots", "running", "finished", "failed", "functions", "load", "runtime", "labels", "connected_s", "price", "capacity", "in_use", "draining", "resting", "offers")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class Resting(_message.Message):
        __slots__ = ("function", "rests_s", "reason", "is_probed")
        FUNCTION_FIELD_NUMBER: _ClassVar[int]
        RESTS_S_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        IS_PROBED_FIELD_NUMBER: _ClassVar[int]
        function: str
        rests_s: float
        reason: str
        is_probed: bool
        def __init__(self, function: _Optional[str] = ..., rests_s: _Optional[float] = ..., reason: _Optional[str] = ..., is_probed: _Optional[bool] = ...) -> None: ...
    class Use(_message.Message):
        __slots__ = ("slots", "millicpus", "memory_bytes", "gpus")
        class Gpu(_message.Message):
            __slots__ = ("index", "calls", "memory_bytes", "is_exclusive", "is_lost")
            INDEX_FIELD_NUMBER: _ClassVar[int]
            CALLS_FIELD_NUMBER: _ClassVar[int]
            MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
            IS_EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
            IS_LOST_FIELD_NUMBER: _ClassVar[int]
            index: int
            calls: int
            memory_bytes: int
            is_exclusive: bool
            is_lost: bool
            def __init__(self, index: _Optional[int] = ..., calls: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., is_exclusive: _Optional[bool] = ..., is_lost: _Optional[bool] = ...) -> None: ...
        SLOTS_FIELD_NUMBER: _ClassVar[int]
        MILLICPUS_FIELD_NUMBER: _ClassVar[int]
        MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
        GPUS_FIELD_NUMBER: _ClassVar[int]
        slots: int
        millicpus: int
        memory_bytes: int
        gpus: _containers.RepeatedCompositeFieldContainer[NodeRecord.Use.Gpu]
        def __init__(self, slots: _Optional[int] = ..., millicpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[NodeRecord.Use.Gpu, _Mapping]]] = ...) -> None: ...
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_S_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    IN_USE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    RESTING_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    status: str
    slots: int
    running: int
    finished: int
    failed: int
    functions: _containers.RepeatedScalarFieldContainer[str]
    load: Load
    runtime: Runtime
    labels: _containers.ScalarMap[str, str]
    connected_s: float
    price: float
    capacity: Capacity
    in_use: NodeRecord.Use
    draining: str
    resting: _containers.RepeatedCompositeFieldContainer[NodeRecord.Resting]
    offers: int
    def __init__(self, node_id: _Optional[str] = ..., status: _Optional[str] = ..., slots: _Optional[int] = ..., running: _Optional[int] = ..., finished: _Optional[int] = ..., failed: _Optional[int] = ..., functions: _Optional[_Iterable[str]] = ..., load: _Optional[_Union[Load, _Mapping]] = ..., runtime: _Optional[_Union[Runtime, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., connected_s: _Optional[float] = ..., price: _Optional[float] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., in_use: _Optional[_Union[NodeRecord.Use, _Mapping]] = ..., draining: _Optional[str] = ..., resting: _Optional[_Iterable[_Union[NodeRecord.Resting, _Mapping]]] = ..., offers: _Optional[int] = ...) -> None: ...

class FunctionRecord(_message.Message):
    __slots__ = ("spec", "nodes", "versions")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SPEC_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    spec: FunctionSpec
    nodes: _containers.RepeatedScalarFieldContainer[str]
    versions: _containers.ScalarMap[str, str]
    def __init__(self, spec: _Optional[_Union[FunctionSpec, _Mapping]] = ..., nodes: _Optional[_Iterable[str]] = ..., versions: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GatewayRecord(_message.Message):
    __slots__ = ("version", "uptime_s", "clients", "queued", "running")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    version: str
    uptime_s: float
    clients: int
    queued: int
    running: int
    def __init__(self, version: _Optional[str] = ..., uptime_s: _Optional[float] = ..., clients: _Optional[int] = ..., queued: _Optional[int] = ..., running: _Optional[int] = ...) -> None: ...

class InvokeRequest(_message.Message):
    __slots__ = ("function", "json", "raw", "timeout_s", "node_id")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    function: str
    json: str
    raw: bytes
    timeout_s: float
    node_id: str
    def __init__(self, function: _Optional[str] = ..., json: _Optional[str] = ..., raw: _Optional[bytes] = ..., timeout_s: _Optional[float] = ..., node_id: _Optional[str] = ...) -> None: ...

class InvokeReply(_message.Message):
    __slots__ = ("json", "raw")
    JSON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    json: str
    raw: bytes
    def __init__(self, json: _Optional[str] = ..., raw: _Optional[bytes] = ...) -> None: ...

class JobRequest(_message.Message):
    __slots__ = ("keep", "put", "list", "read", "piece", "end", "forget", "collected")
    class Keep(_message.Message):
        __slots__ = ("submits",)
        SUBMITS_FIELD_NUMBER: _ClassVar[int]
        submits: _containers.RepeatedCompositeFieldContainer[Submit]
        def __init__(self, submits: _Optional[_Iterable[_Union[Submit, _Mapping]]] = ...) -> None: ...
    class Put(_message.Message):
        __slots__ = ("blob_id", "offset", "data", "size")
        BLOB_ID_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        DATA_FIELD_NUMBER: _ClassVar[int]
        SIZE_FIELD_NUMBER: _ClassVar[int]
        blob_id: bytes
        offset: int
        data: bytes
        size: int
        def __init__(self, blob_id: _Optional[bytes] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...
    class List(_message.Message):
        __slots__ = ("id_prefix", "before", "limit")
        ID_PREFIX_FIELD_NUMBER: _ClassVar[int]
        BEFORE_FIELD_NUMBER: _ClassVar[int]
        LIMIT_FIELD_NUMBER: _ClassVar[int]
        id_prefix: str
        before: int
        limit: int
        def __init__(self, id_prefix: _Optional[str] = ..., before: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...
    class Read(_message.Message):
        __slots__ = ("job_id", "after", "max_bytes", "wait_s")
        JOB_ID_FIELD_NUMBER: _ClassVar[int]
        AFTER_FIELD_NUMBER: _ClassVar[int]
        MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
        WAIT_S_FIELD_NUMBER: _ClassVar[int]
        job_id: bytes
        after: int
        max_bytes: int
        wait_s: float
        def __init__(self, job_id: _Optional[bytes] = ..., after: _Optional[int] = ..., max_bytes: _Optional[int] = ..., wait_s: _Optional[float] = ...) -> None: ...
    class Piece(_message.Message):
        __slots__ = ("job_id", "blob_id", "offset", "max_bytes")
        JOB_ID_FIELD_NUMBER: _ClassVar[int]
        BLOB_ID_FIELD_NUMBER: _ClassVar[int]
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
        job_id: bytes
        blob_id: bytes
        offset: int
        max_bytes: int
        def __init__(self, job_id: _Optional[bytes] = ..., blob_id: _Optional[bytes] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...
    class End(_message.Message):
        __slots__ = ("job_id", "reason")
        JOB_ID_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        job_id: bytes
        reason: str
        def __init__(self, job_id: _Optional[bytes] = ..., reason: _Optional[str] = ...) -> None: ...
    KEEP_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    COLLECTED_FIELD_NUMBER: _ClassVar[int]
    keep: JobRequest.Keep
    put: JobRequest.Put
    list: JobRequest.List
    read: JobRequest.Read
    piece: JobRequest.Piece
    end: JobRequest.End
    forget: bytes
    collected: bytes
    def __init__(self, keep: _Optional[_Union[JobRequest.Keep, _Mapping]] = ..., put: _Optional[_Union[JobRequest.Put, _Mapping]] = ..., list: _Optional[_Union[JobRequest.List, _Mapping]] = ..., read: _Optional[_Union[JobRequest.Read, _Mapping]] = ..., piece: _Optional[_Union[JobRequest.Piece, _Mapping]] = ..., end: _Optional[_Union[JobRequest.End, _Mapping]] = ..., forget: _Optional[bytes] = ..., collected: _Optional[bytes] = ...) -> None: ...

class JobAnswer(_message.Message):
    __slots__ = ("kept", "size", "jobs", "events", "data", "is_all")
    class Kept(_message.Message):
        __slots__ = ("job_id", "error")
        JOB_ID_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        job_id: bytes
        error: ErrorInfo
        def __init__(self, job_id: _Optional[bytes] = ..., error: _Optional[_Union[ErrorInfo, _Mapping]] = ...) -> None: ...
    KEPT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IS_ALL_FIELD_NUMBER: _ClassVar[int]
    kept: _containers.RepeatedCompositeFieldContainer[JobAnswer.Kept]
    size: int
    jobs: _containers.RepeatedCompositeFieldContainer[JobRecord]
    events: _containers.RepeatedCompositeFieldContainer[JobEvent]
    data: bytes
    is_all: bool
    def __init__(self, kept: _Optional[_Iterable[_Union[JobAnswer.Kept, _Mapping]]] = ..., size: _Optional[int] = ..., jobs: _Optional[_Iterable[_Union[JobRecord, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[JobEvent, _Mapping]]] = ..., data: _Optional[bytes] = ..., is_all: _Optional[bool] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("number", "event")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    event: Event
    def __init__(self, number: _Optional[int] = ..., event: _Optional[_Union[Event, _Mapping]] = ...) -> None: ...

class JobRecord(_message.Message):
    __slots__ = ("job_id", "number", "title", "state", "node_id", "created", "started", "ended", "expires", "attempts", "progress", "kept_bytes", "dropped_events", "collected", "error", "code_kind")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    KEPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    COLLECTED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CODE_KIND_FIELD_NUMBER: _ClassVar[int]
    job_id: bytes
    number: int
    title: str
    state: str
    node_id: str
    created: float
    started: float
    ended: float
    expires: float
    attempts: int
    progress: Progress
    kept_bytes: int
    dropped_events: int
    collected: float
    error: str
    code_kind: int
    def __init__(self, job_id: _Optional[bytes] = ..., number: _Optional[int] = ..., title: _Optional[str] = ..., state: _Optional[str] = ..., node_id: _Optional[str] = ..., created: _Optional[float] = ..., started: _Optional[float] = ..., ended: _Optional[float] = ..., expires: _Optional[float] = ..., attempts: _Optional[int] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., kept_bytes: _Optional[int] = ..., dropped_events: _Optional[int] = ..., collected: _Optional[float] = ..., error: _Optional[str] = ..., code_kind: _Optional[int] = ...) -> None: ...
