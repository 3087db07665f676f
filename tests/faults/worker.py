"""`python -P -m tests.faults.worker`: the real agent over the real client, with its requests in a journal.

The runner trains nothing (`tests.support.scripted_runner`), and the agent's long waits are short.
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import stamina

from tests.faults.log import Log, LoggedTransport
from trimtab import lifeline
from trimtab.client import Client
from trimtab.contract import problems
from worker.agent import agent, backoff, uploads
from worker.agent.agent import Agent, Plan
from worker.agent.runner_process import command
from worker.agent.stall_detector import Timeouts
from worker.agent.warm_runner import CannotWork

TIMEOUT_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--together", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    stamina.instrumentation.set_on_retry_hooks([])
    agent.CLAIM_WAIT_S = 2.0
    backoff.LAST_S = 1.0
    uploads.BEST_EVERY_S, uploads.EVERY_S = 0.2, 0.4
    name = f"{arguments.label}-{os.getpid()}"
    transport = LoggedTransport(Log(arguments.log / f"{name}.jsonl", name))
    client = Client(arguments.server, timeout_s=TIMEOUT_S, retry_for_s=1.0, transport=transport)
    plan = Plan(
        server=arguments.server,
        label=arguments.label,
        cache_dir=arguments.cache_dir,
        runner=command("tests.support.scripted_runner", ("--by-chance",)),
        timeouts=Timeouts(stall_s=20.0, grace_s=6.0),
        together=arguments.together,
    )
    with client:
        return _work(Agent(client, plan), arguments.lifeline)


def _work(working: Agent, lifeline_fd: int) -> int:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        working.leave()

    signal.signal(signal.SIGTERM, on_signal)
    lifeline.watch(lifeline_fd, working.leave)
    try:
        working.run()
    except (CannotWork, problems.Problem) as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
