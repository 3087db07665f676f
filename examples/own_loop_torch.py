"""A training loop of your own in plain PyTorch, which goes on from its checkpoint wherever it was interrupted.

`python examples/own_loop_torch.py` while `trimtab up` runs; on as many machines as you like.
"""

from contextlib import suppress
from typing import Any

import torch
from torch import nn

from trimtab import Client
from trimtab.client.loop_trial import LoopTrial
from trimtab.contract.problems import StudyExists
from trimtab.contract.studies import StudyDocument

STUDY: dict[str, Any] = {
    "name": "own-torch",
    "task": {
        "kind": "external",
        "objective": "loss",
        "direction": "minimize",
        "metrics": ["accuracy"],
    },
    "space": {
        "learning_rate": {"kind": "float", "low": 1e-4, "high": 1.0, "log": True},
        "width": {"kind": "int", "low": 4, "high": 64, "log": True},
    },
    "fixed": {"epochs": 30},
    "search": {
        "pruner": {"kind": "hyperband"}
    },  # pauses trials, and takes the best ones up again
    "budget": {"trials": 20},
}


def spiral(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points (N, 2) of two arms of a spiral, and the arm (N,) of each."""
    chance = torch.Generator().manual_seed(seed)
    arm = torch.randint(2, (count,), generator=chance)
    angle = 6 * torch.rand(count, generator=chance)
    radius = angle / 6 + 0.05 * torch.randn(count, generator=chance)
    turned = angle + torch.pi * arm
    return torch.stack([radius * turned.cos(), radius * turned.sin()], dim=1), arm


def train(trial: LoopTrial, path: str = "own-torch.pt") -> None:
    """Train one configuration from where it was left."""
    torch.manual_seed(trial.seed)
    width = trial.hyperparameters["width"]
    network = nn.Sequential(
        nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
    )
    rate = trial.hyperparameters["learning_rate"]
    optimizer = torch.optim.Adam(network.parameters(), rate)
    if trial.resume is not None:
        state = torch.load(trial.resume, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    (x, y), (x_new, y_new) = spiral(1000, seed=0), spiral(1000, seed=1)
    for epoch in range(trial.first_step, trial.hyperparameters["epochs"]):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            output = network(x_new)
        loss = nn.functional.cross_entropy(output, y_new).item()
        accuracy = (output.argmax(1) == y_new).float().mean().item()
        goes_on = trial.report(epoch, loss=loss, accuracy=accuracy)
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
        trial.save(path)
        if not goes_on:
            break


def main(trials: int = 20, epochs: int = 30, path: str = "own-torch.pt") -> None:
    """Create the study, unless another loop has, and train its trials until it is done."""
    study = STUDY | {"budget": {"trials": trials}, "fixed": {"epochs": epochs}}
    with Client() as client:  # TRIMTAB_SERVER and TRIMTAB_TOKEN, else http://127.0.0.1:8000
        with suppress(StudyExists):
            client.create_study(StudyDocument.model_validate(study))
        for trial in client.loop(STUDY["name"]):
            with trial:
                train(trial, path)
        print(client.best(STUDY["name"]).trial)  # noqa: T201


if __name__ == "__main__":
    main()
