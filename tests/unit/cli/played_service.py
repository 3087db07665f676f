"""A service that a test plays, request line by request line."""

import json
from typing import Any

import httpx2

from trimtab.contract import problems

AT = "2026-11-01T12:00:00Z"

STUDY: dict[str, Any] = {
    "name": "digits",
    "state": "done",
    "document": {
        "name": "digits",
        "task": {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
        "model": {"backbone": "glyphnet"},
        "space": {"learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}},
        "budget": {"trials": 16},
    },
    "created_at": AT,
    "trials_created": 4,
    "progress": {"completed": 3, "pruned": 1, "epochs": 30, "epochs_saved": 10},
    "best": {
        "number": 3,
        "objective": "accuracy",
        "value": 0.9625,
        "validation_accuracy": 0.9625,
        "hyperparameters": {"learning_rate": 0.001},
    },
    "final": {
        "objective": "accuracy",
        "test_value": 0.97,
        "test_value_before": 0.11,
        "linear_probe_test_value": 0.9,
        "test_accuracy": 0.97,
        "test_count": 360,
        "model_sha256": "a" * 64,
    },
}

BEST: dict[str, Any] = {
    "study": "digits",
    "state": "done",
    "trial": STUDY["best"],
    "recipe": {"learning_rate": 0.001},
    "final": STUDY["final"],
}

TRIAL: dict[str, Any] = {
    "number": 3,
    "state": "completed",
    "hyperparameters": {"learning_rate": 0.001},
    "objective": "accuracy",
    "value": 0.91,
    "curve": [
        {"step": 0, "value": 0.5},
        {"step": 1, "value": None},
        {"step": 2, "value": 0.91},
    ],
    "metrics": {"2": {"train_loss": 0.4}},
    "created_at": AT,
    "attempts": [{"fence": 1, "worker": "cpu-0", "started_at": AT, "outcome": "completed"}],
}

TRIALS: dict[str, Any] = {"trials": [TRIAL], "next_page_token": "abc"}

STUDIES: dict[str, Any] = {
    "studies": [
        {
            "name": "digits",
            "state": "done",
            "created_at": AT,
            "trials": 16,
            "trials_created": 4,
            "objective": "accuracy",
            "best_value": 0.9625,
        }
    ],
    "next_page_token": "abc",
}


class Played:
    """Answers by request line, such as `GET /v1/studies`; keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.bodies: list[bytes] = []
        self.asked: list[str] = []
        """The query of each request."""
        self.patience_s: list[float] = []
        """Of each client, where a test notes it: the seconds for which it repeats what is not answered."""
        self._answers: dict[str, httpx2.Response] = {}

    def answer(self, line: str, body: dict[str, Any] | bytes) -> None:
        if isinstance(body, bytes):
            self._answers[line] = httpx2.Response(200, content=body)
        else:
            self._answers[line] = httpx2.Response(200, json=body)

    def refuse(self, line: str, problem: problems.Problem) -> None:
        document = problem.document()
        self._answers[line] = httpx2.Response(
            document.status,
            content=document.model_dump_json(),
            headers={"content-type": "application/problem+json"},
        )

    def stream(self, study: str, *events: tuple[str, int | None]) -> None:
        texts: list[str] = []
        for cursor, (kind, number) in enumerate(events):
            event: dict[str, Any] = {"cursor": str(cursor), "at": AT, "kind": kind, "body": {}}
            texts.append(f"data: {json.dumps({**event, 'trial_number': number})}\n\n")
        self._answers[f"GET /v1/studies/{study}/events"] = httpx2.Response(
            200, content="".join(texts), headers={"content-type": "text/event-stream"}
        )

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        line = f"{request.method} {request.url.path}"
        self.seen.append(line)
        self.bodies.append(request.content)
        self.asked.append(str(request.url.params))
        answer = self._answers[line]
        return httpx2.Response(
            answer.status_code, headers=answer.headers, content=answer.content
        )
