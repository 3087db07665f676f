"""The training process: takes orders from its agent and trains one trial, or a group of trials, epoch by epoch.

It imports torch and opens the device once, and stays warm from trial to trial. It has no token, no HTTP and no lease to
renew: those are the agent's, which outlives whatever happens here.
"""

import argparse
import gc
import itertools
import logging
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from trimtab import cores, lifeline
from trimtab.contract.leases import Lease
from worker import devices, grouping, signals
from worker.data.roots import Roots
from worker.pipe_messages import Ready, Refused, RunTrial
from worker.runner import final_lease, followers
from worker.runner.agent_channel import AgentChannel
from worker.runner.followers import Followers
from worker.runner.resources import Resources
from worker.runner.thread_counts import ThreadCounts
from worker.runner.trial import TrialRun, start_trial
from worker.training.errors import BackbonesUnreadable
from worker.training.features.feature_cache import LIMIT_BYTES, FeatureCache
from worker.training.loop.epochs import next_epochs
from worker.training.model.backbone_cache import BackboneCache
from worker.training.model.user_backbones import OwnBackbones


def main(argv: Sequence[str] | None = None) -> None:
    """Run trials until the agent closes the pipe or dies."""
    own = parser()
    own.add_argument("--news", type=int, required=True)
    arguments = own.parse_args(argv)
    meeting = followers.meeting_folder() if arguments.devices > 1 else None
    # At once: nothing that this process could still save would reach a service without its agent.
    lifeline.watch(arguments.lifeline, lambda: _leave(meeting))
    prepare_process()
    channel = AgentChannel(arguments.orders, arguments.news)
    try:
        names = devices.several(arguments.device, arguments.devices, torch.cuda.device_count())
        device = torch.device(names[0])
        resources = open_resources(arguments, channel, device)
    except (devices.NoSuchDevice, devices.TooManySlots, BackbonesUnreadable) as error:
        channel.say(Refused(message=str(error)))
        return
    if meeting is not None:
        others = Followers.start(_handed_on(arguments), arguments.devices, device, meeting)
        resources = replace(resources, followers=others)
    channel.say(_introduction(resources, arguments.devices))
    for count, order in enumerate(channel.trials(), 1):
        run(resources, order)
        if resources.followers is not None:
            resources.followers.ranks.dismiss()
        tidy(device)
        if count == 1:
            # The objects that the imports made live as long as this process. Frozen, they are skipped by every later
            # collection.
            gc.freeze()


def prepare_process() -> None:
    """Make this process one that trains, and leaves when its pipes say so."""
    for number in signals.LEAVE:
        # Ctrl-C, a shutdown and a scheduler's notice reach every process of the group. The agent drains on them, and
        # needs this process to end its batch and save its state; the agent decides when it leaves.
        signal.signal(number, signal.SIG_IGN)
    devices.volunteer_for_oom_kill()
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO
    )


def _leave(meeting: Path | None) -> None:
    if meeting is not None:
        followers.remove(meeting)
    os._exit(0)


def open_resources(
    arguments: argparse.Namespace, channel: AgentChannel, device: torch.device
) -> Resources:
    """Open what all trials of a process use.

    Args:
        arguments: The arguments of the command line (`parser`).
        channel: The channel to whoever gives the orders.
        device: The device of this process.

    Raises:
        TooManySlots: Its share of the memory is too small to train with.
        BackbonesUnreadable: A file of own backbones cannot be used.
    """
    # On a CPU, each of a trial's devices is a process on the same one.
    processes = arguments.slots * (arguments.devices if device.type == "cpu" else 1)
    memory_bytes = take_share(device, processes)
    own = OwnBackbones.gather(arguments.backbones)
    features = FeatureCache(
        arguments.cache_dir / "features", limit_bytes=arguments.feature_cache_bytes
    )
    return Resources(
        channel,
        device,
        memory_bytes,
        arguments.cache_dir / "data",
        features,
        own,
        BackboneCache(own),
        _thread_counts(arguments.threads, arguments.slots * arguments.devices),
        _roots(arguments),
        cache_bytes=arguments.cache_bytes,
        download=arguments.download,
    )


def _handed_on(arguments: argparse.Namespace) -> list[str]:
    """Return the arguments that the processes on a trial's further devices get too."""
    return [
        *("--device", arguments.device, "--devices", str(arguments.devices)),
        *("--cache-dir", str(arguments.cache_dir), "--slots", str(arguments.slots)),
        *("--feature-cache-bytes", str(arguments.feature_cache_bytes)),
        *(f"--backbones={file}" for file in arguments.backbones),
        *(f"--root={folder}" for folder in arguments.root),
        *(
            ()
            if arguments.cache_bytes is None
            else ("--cache-bytes", str(arguments.cache_bytes))
        ),
        *(("--download",) if arguments.download else ()),
        *(() if arguments.threads is None else ("--threads", str(arguments.threads))),
    ]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments that all processes of a runner have."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--orders", "--lifeline"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--backbones", type=Path, action="append", default=[])
    parser.add_argument("--root", type=Path, action="append", default=[])
    parser.add_argument("--feature-cache-bytes", type=int, default=LIMIT_BYTES)
    parser.add_argument("--cache-bytes", type=int)
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--threads", type=int)
    return parser


def _roots(arguments: argparse.Namespace) -> Roots:
    """Return the folders that studies may read from; what the agent has fetched for them is one."""
    return Roots.of(
        (*arguments.root, arguments.cache_dir / "fetched") if arguments.root else ()
    )


def take_share(device: torch.device, slots: int) -> int:
    """Limit this process to its slot's share of the device; return the share of the memory in bytes.

    On a GPU, torch's allocator keeps to the share. On a CPU, the memory is not limited here.

    Args:
        device: The device that the slots share.
        slots: The number of worker processes on the device.

    Raises:
        TooManySlots: The share is too small to train with.
    """
    if device.type == "cuda":
        memory_bytes = devices.share(torch.cuda.mem_get_info(device)[1], slots)
        torch.cuda.set_per_process_memory_fraction(1 / slots, device)
        return memory_bytes
    return devices.share(devices.host_memory_bytes(), slots)


def _thread_counts(fixed: int | None, slots: int) -> ThreadCounts:
    counts = ThreadCounts(most_threads(slots), fixed)
    # What is not tried, such as the first look at a network, computes with the largest number.
    torch.set_num_threads(counts.most)
    return counts


def most_threads(slots: int) -> int:
    """Return the number of threads that this process may compute with: its slot's share of the cores."""
    # Torch's own number is that of OMP_NUM_THREADS, if it is set, and never more than the physical cores.
    return max(1, min(cores.usable(), torch.get_num_threads()) // slots)


def _introduction(resources: Resources, count: int) -> Ready:
    device, name = resources.device, str(resources.device)
    if device.type == "cuda":
        name = f"{device} {torch.cuda.get_device_name(device)}"[:128]
    return Ready(device=name, memory_bytes=resources.memory_bytes, devices=count)


def tidy(device: torch.device) -> None:
    """Free the memory that the trial held, so that the next one can use all of the device's share."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def run(resources: Resources, order: RunTrial) -> None:
    """Run one lease to its end, and the trials that join its group."""
    if order.lease.kind == "final":
        final_lease.run(resources, order)
        return
    trials = list(_begin(resources, [order], []))
    while trials:
        # Trials join between two epochs, and end there too.
        trials += _join(resources, order.lease, trials)
        epochs = next_epochs([trial.started.training for trial in trials])
        # All report before any of them waits for its verdict, so that the agent's requests for them overlap.
        for trial, epoch in zip(trials, epochs, strict=True):
            trial.report(epoch)
        for trial in trials:
            trial.obey_verdict()
        trials = [trial for trial in trials if not trial.has_ended]


def _join(
    resources: Resources, lease: Lease, members: Sequence[TrialRun]
) -> Iterator[TrialRun]:
    """Begin the trials that wait and may share this runner, if the trials that it trains are a group."""
    may_group = members[0].may_group
    waiting = resources.channel.waiting(
        lambda other: may_group and grouping.may_share_runner(lease, other)
    )
    return _begin(resources, waiting, members)


def _begin(
    resources: Resources, orders: Iterable[RunTrial], members: Sequence[TrialRun]
) -> Iterator[TrialRun]:
    """Begin trials in the group of `members`, each with a place of its own in the backbone cache."""
    taken = {trial.place for trial in members}
    for order in orders:
        place = next(place for place in itertools.count() if place not in taken)
        trial = start_trial(resources, order, place=place, member=next(iter(members), None))
        if trial is not None:
            taken.add(place)
            yield trial
