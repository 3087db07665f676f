"""The files for Kubernetes, built and checked as an engine would, as far as can be told without a cluster."""

import re
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from service.api import workers
from service.api.security import PUBLIC
from service.settings import Settings as ServiceSettings
from tests.support import kubernetes
from tests.support.kubernetes import Document, Refused
from trimtab.contract.demand import Demand
from worker.settings import Settings as WorkerSettings

VERSIONS = ("1.31", "1.37")
GRACE_OF_REQUESTS_S = 3
"""The seconds that `service.__main__` gives requests in flight."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kubernetes.copy(tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="module", params=["base", "cpu"])
def documents(folder: Path, request: pytest.FixtureRequest) -> list[Document]:
    return kubernetes.build(folder / request.param)


@pytest.fixture(scope="module")
def base(folder: Path) -> list[Document]:
    return kubernetes.build(folder / "base")


def settings_of(documents: list[Document], name: str) -> dict[str, str]:
    return kubernetes.one(documents, "ConfigMap", name)["data"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_takes_the_files(documents: list[Document], version: str) -> None:
    kubernetes.check(documents, version)
    assert {document["kind"] for document in documents} >= {
        "Deployment", "Service", "PodDisruptionBudget", "ScaledJob", "TriggerAuthentication", "Secret", "ConfigMap",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "field", "other"),
    [
        ("service.yaml", "readinessProbe:", "readyProbe:"),
        ("service.yaml", "minAvailable:", "minAlive:"),
        ("worker.yaml", "rollout:", "rollouts:"),
        ("worker.yaml", "podFailurePolicy:", "podFailurePolicies:"),
        ("worker.yaml", "valueLocation:", "valueLocations:"),
        ("worker.yaml", "authMode:", "authModi:"),
        ("worker.yaml", "readOnlyRootFilesystem:", "readOnlyRoot:"),
        ("worker.yaml", "secretTargetRef:", "secretTarget:"),
        ("kustomization.yaml", "configMapGenerator:", "configMapGenerators:"),
    ],
)
def test_a_field_that_no_engine_knows_is_refused_by_its_name(
    tmp_path: Path, file: str, field: str, other: str
) -> None:
    assert_refused(tmp_path, file, field, other, told=other.removesuffix(":"))


def assert_refused(folder: Path, file: str, written: str, wrong: str, *, told: str) -> None:
    """See that the files are refused, in these words, once something in one of them is written wrong."""
    changed = kubernetes.copy(folder) / "base" / file
    text = changed.read_text()
    assert written in text
    changed.write_text(text.replace(written, wrong))
    with pytest.raises(Refused, match=re.escape(told)):
        kubernetes.check(kubernetes.build(changed.parent), VERSIONS[-1])


@pytest.mark.parametrize(
    ("written", "wrong", "told"),
    [
        ('targetValue: "1"', "targetValue: 1", "1 is not of type 'string'"),
        (', status: "True"}', "}", "'status' is a required property"),
        ("strategy: gradual", "strategy: slowly", "'slowly' is not one of"),
    ],
)
def test_what_keda_refuses_is_refused(
    tmp_path: Path, written: str, wrong: str, told: str
) -> None:
    assert_refused(tmp_path, "worker.yaml", written, wrong, told=told)


@pytest.mark.parametrize("secret", sorted(kubernetes.SECRETS))
def test_nothing_is_built_without_the_secrets_of_its_owners(
    tmp_path: Path, secret: str
) -> None:
    files = kubernetes.copy(tmp_path)
    (files / "base" / secret).unlink()
    with pytest.raises(Refused, match=re.escape(secret)):
        kubernetes.build(files / "base")


def test_no_secret_is_committed() -> None:
    assert "*.env" in (kubernetes.SHIPPED / ".gitignore").read_text().split()


def test_every_name_that_is_spoken_of_exists(documents: list[Document]) -> None:
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    spoken_of = set(kubernetes.references(documents))
    assert {kind for kind, _ in spoken_of} == {
        "Secret", "ConfigMap", "PersistentVolumeClaim", "TriggerAuthentication",
    }  # fmt: skip
    assert spoken_of <= names


def test_names_with_a_prefix_are_spoken_of_with_it(tmp_path: Path) -> None:
    files = kubernetes.copy(tmp_path)
    overlay = files / "cpu" / "kustomization.yaml"
    overlay.write_text(overlay.read_text() + "\nnamePrefix: second-\n")
    documents = kubernetes.build(files / "cpu")
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    assert set(kubernetes.references(documents)) <= names
    assert ("ScaledJob", "second-trimtab-worker") in names


@pytest.mark.parametrize("folder_of_it", ["base", "cpu"])
def test_keda_asks_in_the_namespace_of_the_service(tmp_path: Path, folder_of_it: str) -> None:
    files = kubernetes.copy(tmp_path)
    kustomization = files / folder_of_it / "kustomization.yaml"
    kustomization.write_text(
        kustomization.read_text().replace("namespace: trimtab\n", "namespace: vision\n", 1)
    )
    documents = kubernetes.build(files / folder_of_it)
    (trigger,) = kubernetes.one(documents, "ScaledJob")["spec"]["triggers"]
    assert urlsplit(trigger["metadata"]["url"]).netloc == "trimtab.vision.svc:8000"
    assert kubernetes.one(documents, "Namespace")["metadata"]["name"] == "vision"
    assert {document["metadata"].get("namespace", "vision") for document in documents} == {
        "vision"
    }


def test_probes_ask_what_the_service_answers_without_a_token(base: list[Document]) -> None:
    (container,) = kubernetes.pods(base)["service"]["containers"]
    asked = {
        name: container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert set(asked.values()) <= PUBLIC
    assert asked["readinessProbe"] == "/readyz"
    assert asked["livenessProbe"] == "/livez", (
        "a database that is away must not end the service"
    )


def test_one_replica_stays_whatever_is_drained(base: list[Document]) -> None:
    deployment, budget = (
        kubernetes.one(base, kind)["spec"] for kind in ("Deployment", "PodDisruptionBudget")
    )
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["replicas"] > budget["minAvailable"] >= 1
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert budget["selector"]["matchLabels"] == deployment["selector"]["matchLabels"] == labels
    assert kubernetes.one(base, "Service")["spec"]["selector"] == labels
    volume = kubernetes.one(base, "PersistentVolumeClaim", "trimtab-artifacts")
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"], "replicas share the artifacts"


@pytest.mark.parametrize("name", ["service", "worker"])
def test_pods_may_do_nothing_that_they_do_not_need(
    documents: list[Document], name: str
) -> None:
    pod = kubernetes.pods(documents)[name]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] | {
        "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
    } == pod["securityContext"]  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["command"][0] == "trimtab", "a shell as process 1 would swallow SIGTERM"
    assert "args" not in container


def test_the_settings_are_known_and_mean_what_is_written(
    base: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings_of(base, "trimtab-worker") | settings_of(base, "trimtab-service")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRIMTAB_TOKEN", "0" * 32)
    known = {"TRIMTAB_SERVER"}
    known |= {f"TRIMTAB_WORKER_{field}".upper() for field in WorkerSettings.model_fields}
    known |= {f"TRIMTAB_{field}".upper() for field in ServiceSettings.model_fields}
    assert set(given) <= known
    worker = WorkerSettings()
    service = ServiceSettings(host="0.0.0.0")
    pods = kubernetes.pods(base)
    assert pods["worker"]["terminationGracePeriodSeconds"] >= worker.grace_s + 15
    leaving_s = service.drain_s + GRACE_OF_REQUESTS_S
    assert pods["service"]["terminationGracePeriodSeconds"] >= leaving_s + 10
    polled_s = kubernetes.one(base, "ScaledJob")["spec"]["pollingInterval"]
    assert worker.exit_when_idle_s is not None
    assert worker.exit_when_idle_s > polled_s
    assert worker.together == 1, "KEDA counts leases, and starts a Job for each"


def test_workers_write_only_where_a_volume_is(base: list[Document]) -> None:
    pod = kubernetes.pods(base)["worker"]
    (container,) = pod["containers"]
    empty = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    settings = settings_of(base, "trimtab-worker")
    cache = Path(settings["TRIMTAB_WORKER_CACHE_DIR"])
    for writable in (str(cache.parent), "/tmp", "/dev/shm"):
        assert mounts[writable]["name"] in empty
    assert mounts[settings["TRIMTAB_WORKER_ROOTS"]]["readOnly"] is True


def test_workers_know_the_token_and_not_the_database(documents: list[Document]) -> None:
    pod = kubernetes.pods(documents)["worker"]
    secrets = [name for kind, name in kubernetes.references(pod) if kind == "Secret"]
    (token,) = secrets
    assert list(kubernetes.one(documents, "Secret", token)["data"]) == ["TRIMTAB_TOKEN"]


def test_keda_starts_a_job_for_each_lease_and_kills_none(documents: list[Document]) -> None:
    scaled: dict[str, Any] = kubernetes.one(documents, "ScaledJob")["spec"]
    (trigger,) = scaled["triggers"]
    assert scaled["rollout"] == {"strategy": "gradual"}, "the default kills Jobs that run"
    assert "scalingStrategy" not in scaled, (
        "KEDA's own subtracts what runs, as the metric needs"
    )
    url = urlsplit(str(trigger["metadata"]["url"]))
    assert url.path == "/v1/demand"
    asked = parse_qs(url.query)
    assert set(asked) <= set(signature(workers.read_demand).parameters)
    assert trigger["metadata"]["valueLocation"] == "total"
    assert "total" in Demand.model_fields
    assert trigger["metadata"]["authMode"] == "bearer"
    (secret,) = kubernetes.one(documents, "TriggerAuthentication")["spec"]["secretTargetRef"]
    assert (secret["parameter"], secret["key"]) == ("token", "TRIMTAB_TOKEN")
    job = scaled["jobTargetRef"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["podFailurePolicy"]["rules"] == [
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        }
    ]


def test_a_worker_has_a_gpu_unless_it_is_for_cpus(folder: Path) -> None:
    for name, device in (("base", "cuda:0"), ("cpu", "cpu")):
        documents = kubernetes.build(folder / name)
        (container,) = kubernetes.pods(documents)["worker"]["containers"]
        limits = container["resources"]["limits"]
        assert limits.get("nvidia.com/gpu") == ("1" if name == "base" else None)
        assert settings_of(documents, "trimtab-worker")["TRIMTAB_WORKER_DEVICE"] == device
