"""A runner that trains nothing: it speaks the real pipe, writes real checkpoints, and fails on cue or by chance.

TRIMTAB_WORKER_SCRIPT holds cues, `what@step` parted by blanks: `hang` (for ever, deaf), `hold` (until told otherwise),
`exit`, `abort`, `kill`, `garble`, `shout` (on stdout), `crash`, `oom`; `hold-then-exit` and the like when told
otherwise; `what@step/number` for one trial alone. A cue plays only where no checkpoint was resumed, so that a second
attempt gets through. With the word `company` it takes company.

With `--by-chance` it takes company, each epoch takes a while, and now and then there is a mishap. Each value tells the
attempt that it came from, so that the checker of histories can tell a zombie's words from its successor's.

Each trial runs in a thread of its own.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.scripted_trial import ScriptedTrial
from trimtab import lifeline
from trimtab.contract.leases import Failed, Lease, Report, Verdict
from worker.pipe_messages import Ended, Ready, RunTrial
from worker.runner.agent_channel import AgentChannel

LOOK_EVERY_S = 0.01
EPOCH_S = (0.03, 0.12)
AFTER_ANOTHER = 4.0
"""How many times as long the epochs are of whoever takes a trial over, so that words of its predecessors find it at work."""
LONG_EPOCH_S = 1.5
LONG = 0.05
"""The share of epochs that are so long that only heartbeats keep the lease."""
SPOILING = 0.05
"""The share of mishaps in company that end it: after them a worker takes none until it is restarted."""
UNTOLD = 0.03
"""The share of epochs whose value is not told."""


@dataclass(frozen=True)
class Script:
    """What TRIMTAB_WORKER_SCRIPT says.

    Attributes:
        cues: Names of mishaps by (step, trial number), where None as the number means every trial.
    """

    may_group: bool = False
    cues: dict[tuple[int, int | None], str] = field(
        default_factory=dict[tuple[int, int | None], str]
    )

    @classmethod
    def read(cls, text: str) -> "Script":
        words = text.split()
        cues: dict[tuple[int, int | None], str] = {}
        for what, when in (word.split("@") for word in words if "@" in word):
            step, _, number = when.partition("/")
            cues[int(step), int(number) if number else None] = what
        return cls("company" in words, cues)


class TrialOnCue(ScriptedTrial):
    """Does what a script says; its values rise and fall again: early stopping keeps the fourth epoch."""

    def __init__(self, line: AgentChannel, order: RunTrial, script: Script, news: int) -> None:
        super().__init__(line, order, may_group=script.may_group)
        self._cues = {} if order.resume else script.cues
        self._news = news

    def report(self, step: int) -> tuple[float, Report]:
        value = (0.5, 0.6, 0.7, 0.9, 0.8)[min(step, 4)]
        return value, Report(step=step, value=value, metrics={"train_loss": 1 - value})

    def play(self, step: int) -> Ended | None:
        cue = self._cues.get((step, None)) or self._cues.get((step, self.lease.trial_number))
        if cue is not None and cue.startswith("hold"):
            word = self._other_word()
            cue = cue.removeprefix("hold-then-")
            if cue == "hold":
                return self.leave(word)
        match cue:
            case "crash":
                return self.ended(Failed(error="crashed", message="cue", retryable=True))
            case "oom":
                return self.ended(Failed(error="oom", message="cue"))
            case cue:
                self._misbehave(cue)
        return None

    def _other_word(self) -> Verdict:
        """Wait for one in between that is not to go on."""
        while (word := self.line.verdict_between_epochs(self.lease.lease_id)) == "continue":
            time.sleep(LOOK_EVERY_S)
        return word

    def _misbehave(self, cue: str | None) -> None:
        match cue:
            case "hang":
                while True:
                    time.sleep(3600)
            case "exit":
                os._exit(7)
            case "abort":
                os.abort()
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "garble":
                os.write(self._news, b"no message\n")
                time.sleep(3600)
            case "shout":
                sys.stdout.write('{"kind": "ready"}\n' * 3)
                sys.stdout.flush()
            case _:
                pass


class TrialByChance(ScriptedTrial):
    """Meets one mishap in its first dozen epochs, unless it ends before."""

    def __init__(self, line: AgentChannel, order: RunTrial) -> None:
        super().__init__(line, order, may_group=True)
        lease = order.lease
        self._chance = random.Random(f"{lease.study}/{lease.trial_number}/{lease.fence}")
        self._epochs_to_mishap = self._chance.randrange(12)

    def report(self, step: int) -> tuple[float, Report]:
        value = value_of(self.lease, step)
        told = None if self._chance.random() < UNTOLD else value
        return value, Report(step=step, value=told)

    def play(self, step: int) -> Ended | None:
        self._work()
        self._epochs_to_mishap -= 1
        return self._mishap() if self._epochs_to_mishap < 0 else None

    def _work(self) -> None:
        long = self._chance.random() < LONG
        times = AFTER_ANOTHER if self.lease.fence > 1 else 1
        time.sleep(LONG_EPOCH_S if long else times * self._chance.uniform(*EPOCH_S))

    def _mishap(self) -> Ended:
        kinds = ("crash", "exit", "oom", "diverge")
        spoils = is_alone() or self._chance.random() < SPOILING
        match self._chance.choice(kinds if spoils else kinds[2:]):
            case "crash":
                return self.ended(Failed(error="crashed", message="by chance", retryable=True))
            case "exit":
                os._exit(7)
            case "oom":
                return self.ended(Failed(error="oom", message="by chance"))
            case _:
                return self.ended(Failed(error="diverged", message="by chance"))


def value_of(lease: Lease, step: int) -> float:
    """Between 0.3 and 0.95, and other for each attempt."""
    base = random.Random(f"{lease.study}/{lease.trial_number}").uniform(0.3, 0.8)
    return round(base + 0.02 * min(step, 5) + 1e-6 * lease.fence, 9)


def is_alone() -> bool:
    """Whether the trial that asks has no company."""
    return sum(thread.name == "trial" for thread in threading.enumerate()) == 1


def trials_of(
    line: AgentChannel, news: int, *, by_chance: bool
) -> Callable[[RunTrial], ScriptedTrial]:
    """Return what makes a trial of an order."""
    if by_chance:
        return lambda order: TrialByChance(line, order)
    script = Script.read(os.environ.get("TRIMTAB_WORKER_SCRIPT", ""))
    return lambda order: TrialOnCue(line, order, script, news)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--news", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--by-chance", action="store_true")
    arguments, _ = parser.parse_known_args()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    lifeline.watch(arguments.lifeline, lambda: os._exit(0))
    line = AgentChannel(arguments.orders, arguments.news)
    line.say(Ready(device="scripted"))
    trial_of = trials_of(line, arguments.news, by_chance=arguments.by_chance)
    for order in line.trials():
        threading.Thread(target=trial_of(order).run, name="trial", daemon=True).start()


if __name__ == "__main__":
    main()
