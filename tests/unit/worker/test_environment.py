"""What a training process gets of its agent's environment."""

import pytest

from worker.agent.environment import handed_on


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH"),
        *(
            "OMP_NUM_THREADS",
            "GOMP_SPINCOUNT",
            "MKL_CBWR",
            "CUDA_VISIBLE_DEVICES",
            "TORCH_HOME",
        ),
        *("NVIDIA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "HF_HOME", "XDG_CACHE_HOME"),
        *("https_proxy", "NO_PROXY", "SSL_CERT_FILE", "TRIMTAB_WORKER_RUNNER"),
    ],
)
def test_what_torch_and_the_system_need_is_handed_on(name: str) -> None:
    assert handed_on({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    "name",
    [
        *("TRIMTAB_TOKEN", "TRIMTAB_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"),
        *("HF_TOKEN", "PGPASSWORD", "GITHUB_TOKEN", "KUBECONFIG", "SSH_AUTH_SOCK", "MINE"),
        *("TRIMTAB_WORKER_TOKEN", "PYTHON_KEYRING_PASSWORD"),
    ],
)
def test_everything_else_is_kept_from_it_unless_it_is_named(name: str) -> None:
    assert handed_on({name: "value"}) == {}
    assert handed_on({name: "value", "OTHER": "1"}, [name]) == {name: "value"}
