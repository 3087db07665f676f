"""Studies and their trials over REST."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.app import Running, refused
from tests.support.documents import a_document


def settle(service: Running, lease: dict[str, Any], **outcome: Any) -> str:
    """Settle with an outcome; unless one is given, completed."""
    outcome.setdefault("kind", "completed")
    answer = service.call("PUT", f"/v1/leases/{lease['lease_id']}/outcome", outcome)
    assert answer.status_code == 200, answer.text
    return answer.json()["state"]


def verb(service: Running, name: str, word: str) -> str:
    answer = service.call("POST", f"/v1/studies/{name}:{word}")
    assert answer.status_code == 200, answer.text
    return answer.json()["state"]


def read(service: Running, name: str) -> dict[str, Any]:
    return service.call("GET", f"/v1/studies/{name}").json()


def test_a_study_is_created_with_its_address(shared: Running) -> None:
    document = a_document(name="made")
    answer = shared.call("POST", "/v1/studies", document)
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/studies/made")
    study = answer.json()
    assert (study["name"], study["state"], study["trials_created"]) == ("made", "active", 0)
    assert {key: study["document"][key] for key in ("name", "fixed")} == {
        "name": "made",
        "fixed": {"epochs": 4},
    }
    assert read(shared, "made") == study


def test_what_a_trial_tells_can_be_read(service: Running) -> None:
    lease = service.leased(name="told")
    reports = {
        "reports": [
            {"step": 0, "value": 0.25, "metrics": {"loss": 2.0}},
            {"step": 1, "value": None},
        ]
    }
    answer = service.call("POST", f"/v1/leases/{lease['lease_id']}/reports", reports)
    assert answer.status_code == 200
    assert answer.json()["ttl_s"] == 60.0
    study = lease["study"]
    trial = service.call("GET", f"/v1/studies/{study}/trials/0").json()
    assert (trial["number"], trial["state"]) == (0, "running")
    assert trial["hyperparameters"] == lease["hyperparameters"]
    assert trial["curve"] == [{"step": 0, "value": 0.25}, {"step": 1, "value": None}]
    assert [attempt["fence"] for attempt in trial["attempts"]] == [1]
    assert settle(service, lease, value=0.75) == "completed"
    best = service.call("GET", f"/v1/studies/{study}/best").json()
    assert best["trial"]["validation_accuracy"] == 0.75
    assert best["recipe"]["epochs"] == 4
    assert read(service, study)["progress"]["completed"] == 1


def test_the_list_of_studies_is_read_page_by_page(service: Running) -> None:
    names = [service.create(name=f"s{number}") for number in range(5)]
    seen: list[str] = []
    token: str | None = ""
    pages = 0
    while token is not None:
        query = f"?page_size=2{f'&page_token={token}' if token else ''}"
        page = service.call("GET", f"/v1/studies{query}").json()
        seen += [study["name"] for study in page["studies"]]
        token = page["next_page_token"]
        pages += 1
    assert seen == names[::-1]
    assert pages == 3


def test_trials_are_read_page_by_page_and_by_state(service: Running) -> None:
    name = service.create(budget={"trials": 5})
    worker = service.register()
    for number in range(4):
        (lease,) = service.claim(worker)
        settle(service, lease, **({"kind": "pruned"} if number % 2 else {"value": number / 10}))
    first = service.call("GET", f"/v1/studies/{name}/trials?page_size=3").json()
    assert [trial["number"] for trial in first["trials"]] == [0, 1, 2]
    rest = service.call(
        "GET", f"/v1/studies/{name}/trials?page_size=3&page_token={first['next_page_token']}"
    ).json()
    assert [trial["number"] for trial in rest["trials"]] == [3]
    assert rest["next_page_token"] is None
    pruned = service.call("GET", f"/v1/studies/{name}/trials?state=pruned").json()
    assert [trial["number"] for trial in pruned["trials"]] == [1, 3]


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["pause"], "paused"),
        (["pause", "pause"], "paused"),
        (["pause", "resume"], "active"),
        (["resume"], "active"),
        (["cancel", "cancel"], "cancelled"),
        (["pause", "cancel"], "cancelled"),
    ],
)
def test_a_study_changes_its_state_and_a_repeat_changes_nothing(
    shared: Running, words: list[str], state: str
) -> None:
    name = shared.create()
    for word in words[:-1]:
        verb(shared, name, word)
    assert verb(shared, name, words[-1]) == state
    assert read(shared, name)["state"] == state


@pytest.mark.parametrize("word", ["pause", "resume", "stop"])
def test_a_cancelled_study_stays_so(shared: Running, word: str) -> None:
    name = shared.create()
    verb(shared, name, "cancel")
    answer = shared.call("POST", f"/v1/studies/{name}:{word}")
    assert refused(answer, 409, "study-not-active")["state"] == "cancelled"
    assert read(shared, name)["state"] == "cancelled"


def test_stopping_a_study_without_trials_ends_it_without_a_model(shared: Running) -> None:
    name = shared.create()
    assert verb(shared, name, "stop") == "done"
    assert read(shared, name)["problem"] == "No trial completed, so there is no model."
    refused(shared.call("GET", f"/v1/studies/{name}/best"), 404, "no-completed-trial")
    refused(shared.call("GET", f"/v1/studies/{name}/model"), 404, "no-model")


def test_a_stopped_study_proposes_nothing_more(service: Running) -> None:
    name = service.create()
    worker = service.register(capacity=2)
    (lease,) = service.claim(worker)
    assert verb(service, name, "stop") == "stopping"
    assert service.claim(worker) == []
    settle(service, lease, value=0.5)
    assert read(service, name)["state"] == "finalising"
    (final,) = service.claim(worker)
    assert (final["kind"], final["validation_accuracy"]) == ("final", 0.5)


def test_a_claim_beside_a_study_waits_until_its_turn_has_come(service: Running) -> None:
    name = service.create(priority=600)
    worker = service.register(capacity=2)
    service.claim(worker)
    urgent = service.create(priority=1000, budget={"trials": 1})
    assert service.claim(worker, beside=name) == []
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(service.claim, worker, beside=name, wait_s=60)
        (other,) = service.claim(service.register())
        service.create()  # of lower priority; rings for whoever waits
        (lease,) = waiting.result()
    assert (other["study"], lease["study"]) == (urgent, name)


def test_running_trials_are_told_what_became_of_their_study(service: Running) -> None:
    name = service.create()
    (lease,) = service.claim(service.register())
    heartbeat = f"/v1/leases/{lease['lease_id']}:heartbeat"
    told = [service.call("POST", heartbeat).json()["verdict"]]
    for word in ("pause", "resume", "cancel"):
        verb(service, name, word)
        told.append(service.call("POST", heartbeat).json()["verdict"])
    assert told == ["continue", "pause", "continue", "cancel"]


def test_a_deleted_study_is_gone_and_its_name_is_free(service: Running) -> None:
    name = service.create()
    (lease,) = service.claim(service.register())
    assert refused(service.call("DELETE", f"/v1/studies/{name}"), 409, "study-not-idle")
    settle(service, lease, value=0.5)
    assert service.call("DELETE", f"/v1/studies/{name}").status_code == 204
    refused(service.call("GET", f"/v1/studies/{name}"), 404, "study-not-found")
    refused(service.call("DELETE", f"/v1/studies/{name}"), 404, "study-not-found")
    heartbeat = service.call("POST", f"/v1/leases/{lease['lease_id']}:heartbeat")
    refused(heartbeat, 404, "lease-not-found")
    assert service.create(name=name) == name


def test_a_study_runs_over_rest_to_its_model(service: Running) -> None:
    name = service.create(budget={"trials": 2})
    worker = service.register()
    for value in (0.5, 0.75):
        (lease,) = service.claim(worker)
        settle(service, lease, value=value)
    (final,) = service.claim(worker)
    model = b"a model"
    outcome = {"value": 0.7, "metrics": {"test_accuracy_before": 0.1, "test_count": 360.0}}
    sha256 = hashlib.sha256(model).hexdigest()
    missing = service.call(
        "PUT",
        f"/v1/leases/{final['lease_id']}/outcome",
        {"kind": "completed", **outcome, "model_sha256": sha256},
    )
    refused(missing, 404, "artifact-not-found")
    assert service.call("PUT", f"/v1/artifacts/{sha256}", model).status_code == 201
    assert settle(service, final, **outcome, model_sha256=sha256) == "completed"
    study = read(service, name)
    assert (study["state"], study["final"]["test_accuracy"]) == ("done", 0.7)
    assert study["final"]["test_count"] == 360
    download = service.call("GET", f"/v1/studies/{name}/model")
    assert download.content == model
    assert f'filename="{name}.safetensors"' in download.headers["content-disposition"]
    assert service.claim(worker) == []


REPORT = {
    "handed_over": "refit",
    "why": "It has seen more.",
    "candidates": [{"kind": "refit", "trials": [0]}],
    "test": {"value": 0.7, "low": 0.6, "high": 0.8},
}


@pytest.mark.parametrize("handed_over", ["refit", "winner"])
@pytest.mark.parametrize("validated_is_kept", [True, False])
def test_the_model_that_is_handed_over_and_the_validated_winner_are_told_apart(
    service: Running, handed_over: str, validated_is_kept: bool
) -> None:
    worker, name = refitted(service)
    (final,) = service.claim(worker)
    models = {sha256_of(content): content for content in (b"handed over", b"validated")}
    for sha256, content in models.items():
        service.call("PUT", f"/v1/artifacts/{sha256}", content)
    given, validated = models
    settle(
        service,
        final,
        value=0.7,
        model_sha256=given,
        validated_sha256=validated if validated_is_kept else None,
        report=REPORT | {"handed_over": handed_over},
    )
    told = read(service, name)["final"]
    assert told["report"]["handed_over"] == handed_over
    assert told["validated_sha256"] == (validated if validated_is_kept else None)
    assert service.call("GET", f"/v1/studies/{name}/model").content == b"handed over"
    asked = service.call("GET", f"/v1/studies/{name}/model?which=validated")
    if handed_over == "winner":
        assert asked.content == b"handed over"
    elif validated_is_kept:
        assert asked.content == b"validated"
        assert (
            f'filename="{name}.validated.safetensors"' in asked.headers["content-disposition"]
        )
    else:
        refused(asked, 404, "no-model")
    refused(service.call("GET", f"/v1/studies/{name}/model?which=best"), 422, "invalid")
    done = [
        event
        for event in service.call("GET", f"/v1/studies/{name}/events").text.split("\n")
        if "study_done" in event
    ]
    assert done
    assert "It has seen more." not in "".join(done)


def test_a_validated_model_that_was_never_uploaded_is_asked_for(service: Running) -> None:
    worker, _ = refitted(service)
    (final,) = service.claim(worker)
    sha256 = sha256_of(b"handed over")
    service.call("PUT", f"/v1/artifacts/{sha256}", b"handed over")
    answer = service.call(
        "PUT",
        f"/v1/leases/{final['lease_id']}/outcome",
        {
            "kind": "completed",
            "value": 0.7,
            "model_sha256": sha256,
            "validated_sha256": "0" * 64,
        },
    )
    refused(answer, 404, "artifact-not-found")


def test_a_refit_goes_over_rest_like_a_trial_but_for_its_reports(service: Running) -> None:
    name = service.create(budget={"trials": 4}, finish=None)
    worker = service.register()
    large = {"form": "outputs", "epochs": 1, "rows": 9, "columns": 9, "body": "A" * 200_000}
    for value in (0.5, 0.75, 0.6):
        (lease,) = service.claim(worker)
        settle(service, lease, value=value, validation_outputs=large)
    (refit,) = service.claim(worker)
    assert (refit["kind"], refit["trial_number"]) == ("refit", 1)
    path = f"/v1/leases/{refit['lease_id']}"
    refused(
        service.call("POST", f"{path}/reports", {"reports": [{"step": 0, "value": 0.5}]}),
        409,
        "conflict",
    )
    assert service.call("POST", f"{path}:heartbeat").json()["verdict"] == "continue"
    refused(service.call("GET", f"{path}/validation-outputs"), 409, "conflict")
    settle(service, refit, value=0.1)
    assert read(service, name)["refits"] == {
        "total": 1,
        "running": 0,
        "completed": 1,
        "failed": 0,
    }
    (final,) = service.claim(worker)
    assert [member["trial_number"] for member in final["members"]] == [1]
    path = f"/v1/leases/{final['lease_id']}/validation-outputs"
    page = service.call("GET", f"{path}?from=1").json()
    assert [one["trial_number"] for one in page["trials"]] == [1, 2]
    assert (page["trials"][0]["outputs"], page["next"]) == (large, None)
    refused(service.call("GET", f"{path}?from=-1"), 422, "invalid")


def refitted(service: Running) -> tuple[str, str]:
    """A worker, and a study that waits for its final evaluation."""
    name = service.create(budget={"trials": 2}, finish={"refit": True})
    worker = service.register()
    for _ in range(2):
        (lease,) = service.claim(worker)
        settle(service, lease, value=0.5)
    return worker, name


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
