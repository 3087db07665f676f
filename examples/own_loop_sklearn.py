"""A training loop of your own, without torch: scikit-learn's digits. `python examples/own_loop_sklearn.py` while `trimtab up` runs."""

from contextlib import suppress
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from trimtab import Client
from trimtab.client.loop_trial import LoopTrial
from trimtab.contract.problems import StudyExists
from trimtab.contract.studies import StudyDocument

STUDY: dict[str, Any] = {
    "name": "own-sklearn",
    "task": {"kind": "external", "objective": "accuracy", "direction": "maximize"},
    "space": {
        "alpha": {"kind": "float", "low": 1e-6, "high": 1e-1, "log": True},
        "loss": {"kind": "choices", "choices": ["hinge", "log_loss", "modified_huber"]},
    },
    "fixed": {"epochs": 10},
    "budget": {"trials": 20},
}


def train(trial: LoopTrial) -> None:
    """Train one configuration, epoch by epoch, for as long as it is worth it."""
    alpha, loss = trial.hyperparameters["alpha"], trial.hyperparameters["loss"]
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=0)
    model = SGDClassifier(alpha=alpha, loss=loss, random_state=trial.seed)
    for epoch in range(trial.hyperparameters["epochs"]):
        model.partial_fit(x_train, y_train, classes=np.arange(10))
        if not trial.report(epoch, accuracy=model.score(x_test, y_test)):
            break


def main(trials: int = 20, epochs: int = 10) -> None:
    """Create the study, unless another loop has, and train its trials until it is done."""
    study = STUDY | {"budget": {"trials": trials}, "fixed": {"epochs": epochs}}
    with Client() as client:  # TRIMTAB_SERVER and TRIMTAB_TOKEN, else http://127.0.0.1:8000
        with suppress(StudyExists):
            client.create_study(StudyDocument.model_validate(study))
        for trial in client.loop(STUDY["name"]):
            with trial:
                train(trial)
        print(client.best(STUDY["name"]).trial)  # noqa: T201


if __name__ == "__main__":
    main()
