"""The environment of the training process.

That process runs the code of users' backbones, and never speaks to the service. It gets what Python, torch and the
system need, and nothing else that happens to stand in the environment: no token, no key of a cloud.
"""

from collections.abc import Iterable, Mapping

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ"),
        *("TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_PREFIX"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    }
)
"""Names in large letters; the proxies are also known in small ones."""
_BEGINNINGS = (
    *("LC_", "PYTHON", "TRIMTAB_WORKER_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "MALLOC_"),
    *("TORCH", "PYTORCH", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "TRITON_", "HF_"),
)
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "ACCESS_KEY")
"""Parts of names that hold secrets, such as HF_TOKEN, whatever they begin with."""


def handed_on(environment: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables that a training process gets.

    Args:
        environment: The environment of the agent.
        more: Names of further variables, which whoever runs the worker has chosen.
    """
    chosen = frozenset(more)
    return {
        name: value
        for name, value in environment.items()
        if name in chosen or _is_needed(name.upper())
    }


def _is_needed(name: str) -> bool:
    if any(word in name for word in _SECRET):
        return False
    return name in _NAMES or name.startswith(_BEGINNINGS)
