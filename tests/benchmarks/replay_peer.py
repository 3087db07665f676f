"""The surrogate of the learning curves and Syne Tune's schedulers, behind a pipe: a line of JSON in, a line of JSON out.

`replay_peer.py FOLDER`: the folder has YAHPO's surrogate of LCBench (Pfisterer et al., YAHPO Gym, AutoML 2022; Zimmer et
al., Auto-PyTorch Tabular, TPAMI 2021) as `model.onnx` and `encoding.json`. A venv of its own runs this file as a script,
since neither onnxruntime nor Syne Tune is a dependency of ours; it imports nothing of ours.

A question is `{"verb": VERB, ...}`, with the arguments of the function of that name here.
"""
# Both are installed when the benchmark runs, never beside our own tools.
# pyright: basic, reportMissingImports=false

import datetime
import json
import logging
import sys
from pathlib import Path

import numpy as np
import onnxruntime

EPOCHS = 52
SECONDS, ACCURACY, CROSS_ENTROPY = 0, 1, 2
"""Columns of the surrogate's answer; seconds are those of all epochs so far."""


class Surrogate:
    """Learning curves of configurations: batch size, learning rate, momentum, weight decay, layers, units, dropout."""

    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]

    def curve(self, task, row):
        found = self._of(task, np.array([row]), np.arange(1, EPOCHS + 1))
        seconds, accuracy, loss = (
            found[:, column] for column in (SECONDS, ACCURACY, CROSS_ENTROPY)
        )
        return {
            "accuracy": np.clip(accuracy, 0, 100).tolist(),
            "loss": loss.tolist(),
            "epoch_s": max(float(seconds[-1]), 0.01) / EPOCHS,
        }

    def scale(self, task):
        """The seconds that an epoch takes, and the median last accuracy, of configurations drawn at random."""
        u = np.random.default_rng(7).random((3000, 7))
        rows = np.stack(
            [
                np.round(16 * 32 ** u[:, 0]),
                1e-4 * 1e3 ** u[:, 1],
                0.1 + 0.89 * u[:, 2],
                1e-5 + (0.1 - 1e-5) * u[:, 3],
                1 + np.round(4 * u[:, 4]),
                np.round(64 * 16 ** u[:, 5]),
                u[:, 6],
            ],
            axis=1,
        )
        found = self._of(task, rows, np.array([EPOCHS]))
        return {
            "epoch_s": float(np.maximum(found[:, SECONDS], 0.01).mean() / EPOCHS),
            "accuracy": float(np.median(np.clip(found[:, ACCURACY], 0, 100))),
        }

    def _of(self, task, rows, epochs):
        asked = np.empty((len(rows) * len(epochs), 8), np.float32)
        asked[:, 0] = np.tile(epochs, len(rows))
        asked[:, 1:] = np.repeat(rows, len(epochs), axis=0)
        codes = np.full((len(asked), 1), self._codes[task], np.int32)
        return self._session.run(None, {"x_cat": codes, "x_cont": asked})[0].astype(float)


class Scheduler:
    """One of Syne Tune's schedulers, as its tuner drives it."""

    def __init__(self, name, space, epochs, seed, maximize):
        from syne_tune.optimizer import baselines

        np.random.seed(seed)
        self._epochs = epochs
        self._trials = {}
        self._scheduler = getattr(baselines, name)(
            config_space={name: _domain(one) for name, one in space.items()},
            metric="value",
            time_attr="epoch",
            max_t=epochs,
            do_minimize=not maximize,
            random_seed=seed,
        )

    def claim(self):
        from syne_tune.backend.trial_status import Trial

        number = len(self._trials)
        suggestion = self._scheduler.suggest()
        if not suggestion.spawn_new_trial_id:
            raise NotImplementedError("a scheduler that takes trials up again")
        trial = Trial(number, suggestion.config, datetime.datetime.now(datetime.UTC))
        self._trials[number] = trial
        self._scheduler.on_trial_add(trial)
        return {"number": number, "values": suggestion.config}

    def report(self, number, epoch, value):
        trial, result = self._trials[number], {"value": value, "epoch": epoch}
        told = self._scheduler.on_trial_result(trial, result)
        if epoch == self._epochs:
            self._scheduler.on_trial_complete(trial, result)
            return {"verdict": "continue"}
        return {"verdict": "continue" if told == "CONTINUE" else "stop"}

    def fail(self, number):
        self._scheduler.on_trial_error(self._trials[number])
        return {}


def _domain(dimension):
    from syne_tune import config_space

    if dimension["kind"] == "choices":
        return config_space.choice(list(dimension["choices"]))
    kinds = {
        ("int", False): config_space.randint,
        ("int", True): config_space.lograndint,
        ("float", False): config_space.uniform,
        ("float", True): config_space.loguniform,
    }
    return kinds[dimension["kind"], dimension["log"]](dimension["low"], dimension["high"])


class Desk:
    """Answers the questions of one run, one after the other."""

    def __init__(self, folder):
        self._surrogate = Surrogate(folder)
        self._scheduler = None

    def answer(self, verb, **given):
        if verb in ("curve", "scale"):
            return getattr(self._surrogate, verb)(**given)
        if verb == "open":
            self._scheduler = Scheduler(**given)
            return {}
        return getattr(self._scheduler, verb)(**given)


def main():
    logging.disable(logging.WARNING)
    desk = Desk(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(desk.answer(**json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
