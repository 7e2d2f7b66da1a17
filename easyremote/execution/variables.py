"""Which of the node's environment variables a worker sees, by their names.

Outside of a sandbox variables go where files go: code there is a process of the node's user and reads that user's files, the
environment of the node's own process among them, so a credential that is left out of its environment is still within its reach,
and training that was meant to have it fails. What isn't passed there either is what leads into the login session of whoever
started the node: agents, desktop, editor, notebook server. No computation is meant to use these, and a library that finds one
uses it unasked, as ssh does its agent.

In a sandbox nobody can list all names that secrets have, so it is the other way round: passed is what is known to be for
computing, and what the owner names.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_SESSION = (
    "SSH_AUTH_SOCK",
    "SSH_AGENT_*",
    "*_ASKPASS",
    "GPG_AGENT_INFO",
    "GNOME_KEYRING_*",
    "DBUS_SESSION_BUS_*",
    "DBUS_STARTER_*",
    "DISPLAY",
    "WAYLAND_*",
    "XAUTHORITY",
    "ICEAUTHORITY",
    "SESSION_MANAGER",
    "I3SOCK",
    "SWAYSOCK",
    "TMUX",
    "STY",
    "KITTY_LISTEN_ON",
    "NVIM*",
    "VSCODE_*IPC*",
    "VSCODE_GIT_*",
    "NOTIFY_SOCKET",
    "JPY_API_TOKEN",
    "JUPYTER_TOKEN",
    "JUPYTERHUB_API_TOKEN",
)

_COMPUTING = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "XDG_*_HOME", "XDG_DATA_DIRS"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*"),
    *("PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "MPLBACKEND"),
    *("CUDA_*", "CUDNN_*", "CUBLAS_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "ROCM_*", "HSA_*", "GPU_*", "ZE_*"),
    *("OMP_*", "KMP_*", "GOMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "VECLIB_*", "NUMEXPR_*", "NUMBA_*"),
    *("TORCH*", "PYTORCH_*", "TRITON_*", "XLA_*", "JAX_*", "TF_*", "KERAS_*", "HF_*", "TRANSFORMERS_*", "VLLM_*"),
    *("TOKENIZERS_PARALLELISM", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)

_NETWORK = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")

_SECRET = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASS|PASSW(?:OR)?D|PWD|PASSPHRASE|KEY|APIKEY|CREDENTIALS?|AUTH)(?:_|$)|^TF_VAR_", re.I
)
"""Names that `_COMPUTING` matches by their beginning, such as HF_TOKEN. TF_ begins Terraform's as well as TensorFlow's."""


def is_of_the_session(name: str) -> bool:
    """Whether it leads into the login session of whoever started the node. Such are never passed."""
    return _matches(name, _SESSION)


def is_for_computing(name: str, has_network: bool) -> bool:
    """Whether a worker in a sandbox sees it without having been told to. `has_network`: proxies, too."""
    if has_network and name.lower() in _NETWORK:
        return True
    return _matches(name, _COMPUTING) and not _SECRET.search(name)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
