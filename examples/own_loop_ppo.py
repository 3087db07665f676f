"""Reinforcement learning: PPO on gymnasium's CartPole. `python examples/own_loop_ppo.py` while `trimtab up` runs.

Source: Schulman et al., 2017, https://arxiv.org/abs/1707.06347.
"""

from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from trimtab import Client
from trimtab.client.loop_trial import LoopTrial
from trimtab.contract.problems import StudyExists
from trimtab.contract.studies import StudyDocument

STUDY: dict[str, Any] = {
    "name": "own-ppo",
    "task": {
        "kind": "external",
        "objective": "episode_return",
        "direction": "maximize",
        "metrics": ["entropy"],
    },
    "space": {
        "learning_rate": {
            "kind": "float",
            "low": 1e-4,
            "high": 1e-2,
            "log": True,
            "prior": 1e-3,
        },
        "clip": {"kind": "float", "low": 0.1, "high": 0.4},
        "entropy_weight": {"kind": "float", "low": 1e-4, "high": 0.1, "log": True},
        "gae_lambda": {"kind": "float", "low": 0.8, "high": 1.0},
    },
    "fixed": {"epochs": 30, "steps": 1024, "gamma": 0.99},
    "budget": {"trials": 20},
}


def mlp(outputs: int) -> nn.Module:
    """Return a network from CartPole's four numbers."""
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, outputs))


def train(trial: LoopTrial) -> None:
    """Train one policy: an epoch is a rollout and ten passes over it."""
    h = trial.hyperparameters
    torch.manual_seed(trial.seed)
    environment, (actor, critic) = gymnasium.make("CartPole-v1"), (mlp(2), mlp(1))
    optimizer = torch.optim.Adam(
        [*actor.parameters(), *critic.parameters()], h["learning_rate"]
    )
    seen, _ = environment.reset(seed=trial.seed)
    episode, returns = 0.0, [0.0]
    for epoch in range(h["epochs"]):
        states, actions, rewards, ends = [], [], [], []
        for _ in range(h["steps"]):
            states.append(torch.from_numpy(seen))
            with torch.no_grad():
                actions.append(Categorical(logits=actor(states[-1])).sample())
            seen, reward, terminated, truncated, _ = environment.step(int(actions[-1]))
            episode += float(reward)
            rewards.append(float(reward))
            ends.append(terminated or truncated)
            if ends[-1]:
                returns, episode = [*returns[-19:], episode], 0.0
                seen, _ = environment.reset()
        x, a = torch.stack(states), torch.stack(actions)
        with torch.no_grad():
            value = critic(torch.cat([x, torch.from_numpy(seen)[None]])).squeeze(1)
            before = Categorical(logits=actor(x)).log_prob(a)
        advantage, later = torch.zeros(len(x)), 0.0
        for t in reversed(range(len(x))):
            lives = 1.0 - ends[t]
            delta = rewards[t] + h["gamma"] * float(value[t + 1]) * lives - float(value[t])
            later = delta + h["gamma"] * h["gae_lambda"] * lives * later
            advantage[t] = later
        target, scaled = (
            advantage + value[:-1],
            (advantage - advantage.mean()) / (advantage.std() + 1e-8),
        )
        entropy = torch.zeros(())
        for _ in range(10):
            for part in torch.randperm(len(x)).split(128):
                policy = Categorical(logits=actor(x[part]))
                ratio, entropy = (
                    (policy.log_prob(a[part]) - before[part]).exp(),
                    policy.entropy().mean(),
                )
                clipped = ratio.clamp(1 - h["clip"], 1 + h["clip"])
                gain = torch.min(ratio * scaled[part], clipped * scaled[part]).mean()
                error = (critic(x[part]).squeeze(1) - target[part]).square().mean()
                optimizer.zero_grad()
                (0.5 * error - gain - h["entropy_weight"] * entropy).backward()
                optimizer.step()
        if not trial.report(epoch, episode_return=np.mean(returns), entropy=entropy.item()):
            break


def main(trials: int = 20, epochs: int = 30, steps: int = 1024) -> None:
    """Create the study, unless another loop has, and train its trials until it is done."""
    fixed = STUDY["fixed"] | {"epochs": epochs, "steps": steps}
    study = STUDY | {"budget": {"trials": trials}, "fixed": fixed}
    with Client() as client:  # TRIMTAB_SERVER and TRIMTAB_TOKEN, else http://127.0.0.1:8000
        with suppress(StudyExists):
            client.create_study(StudyDocument.model_validate(study))
        for trial in client.loop(STUDY["name"]):
            with trial:
                train(trial)
        print(client.best(STUDY["name"]).trial)  # noqa: T201


if __name__ == "__main__":
    main()
