"""The training process: imports torch once, stays warm from trial to trial, and speaks to its agent alone."""

import argparse
import gc
import itertools
import logging
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from trimtab import lifeline
from trimtab.contract.leases import Lease
from worker import company, devices, final_lease
from worker.agent_line import AgentLine
from worker.bench import Bench
from worker.pipe_messages import Ready, Refused, RunTrial
from worker.trainee import Trainee, take_on
from worker.training.epochs import next_epochs
from worker.training.errors import BackbonesUnreadable
from worker.training.feature_cache import LIMIT_BYTES, FeatureCache
from worker.training.own_backbones import OwnBackbones
from worker.training.shelf import Shelf


def main(argv: Sequence[str] | None = None) -> None:
    """Run trials until the agent is gone."""
    arguments = _parser().parse_args(argv)
    lifeline.watch(arguments.lifeline, lambda: os._exit(0))
    for number in (signal.SIGTERM, signal.SIGINT):
        # Sent to every process of a machine or a group; the agent decides when this one leaves.
        signal.signal(number, signal.SIG_IGN)
    devices.volunteer_for_oom_kill()
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO
    )
    line = AgentLine(arguments.orders, arguments.news)
    try:
        device = torch.device(devices.choose(arguments.device, torch.cuda.device_count()))
        memory_bytes = take_share(device, arguments.slots)
        own = OwnBackbones.gather(arguments.backbones)
    except (devices.NoSuchDevice, devices.TooManySlots, BackbonesUnreadable) as error:
        line.say(Refused(message=str(error)))
        return
    features = FeatureCache(
        arguments.cache_dir / "features", limit_bytes=arguments.feature_cache_bytes
    )
    bench = Bench(
        line,
        device,
        memory_bytes,
        arguments.cache_dir / "data",
        features,
        own,
        Shelf(own),
        download=arguments.download,
    )
    line.say(_introduction(device, memory_bytes))
    for count, order in enumerate(line.trials(), 1):
        run(bench, order)
        _tidy(device)
        if count == 1:
            # What the imports made lives as long as this process: no later collection need look at it again.
            gc.freeze()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--orders", "--news", "--lifeline"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--backbones", type=Path, action="append", default=[])
    parser.add_argument("--feature-cache-bytes", type=int, default=LIMIT_BYTES)
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--slots", type=int, default=1)
    return parser


def take_share(device: torch.device, slots: int) -> int:
    """Take no more of the device than one of so many slots may, and return the memory that is.

    A GPU's allocator keeps to it; on a CPU the threads are divided, and the kernel guards the memory of all together.

    Raises:
        TooManySlots: it is too little.
    """
    if device.type == "cuda":
        memory_bytes = devices.share(torch.cuda.mem_get_info(device)[1], slots)
        torch.cuda.set_per_process_memory_fraction(1 / slots, device)
        return memory_bytes
    memory_bytes = devices.share(devices.host_memory_bytes(), slots)
    torch.set_num_threads(max(1, torch.get_num_threads() // slots))
    return memory_bytes


def _introduction(device: torch.device, memory_bytes: int) -> Ready:
    if device.type == "cuda":
        name = f"{device} {torch.cuda.get_device_name(device)}"[:128]
        return Ready(device=name, memory_bytes=memory_bytes)
    return Ready(device=str(device), memory_bytes=memory_bytes)


def _tidy(device: torch.device) -> None:
    """Give back what the trial held, so that the next one finds all of the device's memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def run(bench: Bench, order: RunTrial) -> None:
    """Run one lease to its end, whatever happens in it, and those that join it."""
    if order.lease.kind == "final":
        final_lease.run(bench, order)
        return
    trainees = list(_begin(bench, [order], []))
    while trainees:
        trainees += _newcomers(bench, order.lease, trainees)
        epochs = next_epochs([trainee.begun.training for trainee in trainees])
        for trainee, epoch in zip(trainees, epochs, strict=True):
            trainee.report(epoch)
        for trainee in trainees:
            trainee.heed()
        trainees = [trainee for trainee in trainees if not trainee.has_ended]


def _newcomers(bench: Bench, lease: Lease, going: Sequence[Trainee]) -> Iterator[Trainee]:
    """Begin the trials that wait and are alike, where those that train take company."""
    takes_company = going[0].takes_company
    waiting = bench.line.waiting(lambda other: takes_company and company.is_alike(lease, other))
    return _begin(bench, waiting, going)


def _begin(
    bench: Bench, orders: Iterable[RunTrial], going: Sequence[Trainee]
) -> Iterator[Trainee]:
    """Begin trials beside those that go on, each in a place of its own."""
    taken = {trainee.place for trainee in going}
    for order in orders:
        place = next(place for place in itertools.count() if place not in taken)
        trainee = take_on(bench, order, place=place, beside=next(iter(going), None))
        if trainee is not None:
            taken.add(place)
            yield trainee


if __name__ == "__main__":
    main()
