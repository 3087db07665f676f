"""The training process: imports torch once, stays warm from trial to trial, and speaks to its agent alone."""

import argparse
import gc
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trimtab import lifeline
from trimtab.contract.leases import Completed, Failed, Lease, Outcome, Pruned, Report
from worker import beginning, data, devices, durable
from worker.agent_line import AgentLine
from worker.data import Seal, TaskData
from worker.failures import failure_of
from worker.memory_watch import MemoryWatch
from worker.pipe_messages import (
    OPENING,
    Began,
    Ended,
    EpochDone,
    Ready,
    Refused,
    RunTrial,
    StoredFile,
)
from worker.saver import Saver
from worker.signs_of_life import Cancelled, PutAside, SignsOfLife
from worker.training import backbones, heads
from worker.training.distillation import Teacher
from worker.training.errors import BackbonesUnreadable, CheckpointError
from worker.training.feature_cache import LIMIT_BYTES, FeatureCache
from worker.training.final import final_evaluation
from worker.training.fit import EpochResult, fit
from worker.training.own_backbones import OwnBackbones
from worker.training.shelf import Shelf
from worker.training.state import FitState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What every trial of this process works on."""

    line: AgentLine
    device: torch.device
    memory_bytes: int
    cache_dir: Path
    features: FeatureCache
    own: OwnBackbones
    shelf: Shelf
    download: bool = False


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
        line.say(run(bench, order))
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


def run(bench: Bench, order: RunTrial) -> Ended:
    """Run one lease to its end, whatever happens in it."""
    lease = order.lease
    signs = SignsOfLife(bench.line, lease.lease_id)
    saver = Saver(order.folder)
    model: StoredFile | None = None
    outcome: Outcome | None
    try:
        if lease.kind == "final":
            outcome, model = _evaluate(bench, order, signs)
        else:
            outcome = _train(bench, order, signs, saver)
    except Cancelled:
        outcome = Failed(error="cancelled")
    except PutAside:
        outcome = None
    except Exception as error:  # noqa: BLE001 - whatever it is, the agent is told, and goes on
        bench.shelf.clear()
        outcome = failure_of(error)
        log.info("%s/%d: %s", lease.study, lease.trial_number, outcome.message)
    finally:
        saver.close()
    return Ended(
        lease_id=lease.lease_id,
        outcome=outcome,
        newest=saver.newest,
        best=saver.best,
        model=model,
    )


def _train(bench: Bench, order: RunTrial, signs: SignsOfLife, saver: Saver) -> Outcome | None:
    """Train epoch by epoch as the verdicts say; None where the trial was put aside."""
    lease = order.lease
    with signs.busy():
        epochs, best, watch = _begin(bench, order, signs)
    for epoch in epochs:
        best = epoch.best_value
        bench.line.say(
            EpochDone(
                lease_id=lease.lease_id,
                report=_report(epoch),
                newest=saver.newest,
                best=saver.best,
                finding=watch.news(epoch.micro_batch_size),
            )
        )
        saver.offer(epoch)  # While the agent reports.
        match bench.line.verdict(epoch.epoch):
            case "continue":
                continue
            case "stop":
                return Pruned()
            case "cancel":
                raise Cancelled
            case "pause":
                saver.save(epoch)
                return None
    saver.save_best()
    return Completed(value=best)


def _begin(
    bench: Bench, order: RunTrial, signs: SignsOfLife
) -> tuple[Iterator[EpochResult], float, MemoryWatch]:
    """Load data and model, and carry on from the first state that fits; with the best value so far."""
    lease = order.lease
    seen = _load(bench, lease)

    watch = MemoryWatch(lease, seen, bench.device, bench.memory_bytes, order.memory)
    teacher = None
    if order.teacher is not None:
        teacher = Teacher(order.teacher, seen.classes, bench.own)

    def begin(state: FitState | None) -> Iterator[EpochResult]:
        model = bench.shelf.take(
            lease.model,
            classes=seen.outputs,
            seed=lease.seed,
            recipe=lease.recipe,
            head=heads.of(lease.recipe, seen.kind),
        )
        epochs = fit(
            model,
            seen,
            lease.recipe,
            seed=lease.seed,
            device=bench.device,
            resume=state,
            features_cache=bench.features,
            micro_batch_size=watch.first_portion,
            teacher=teacher,
            each_batch=signs.batch,
        )
        if lease.kind == "trial":
            portion = watch.first_portion
            record = beginning.record_of(
                seen, lease.recipe, bench.device, model=model, portion=portion
            )
            bench.line.say(Began(lease_id=lease.lease_id, record=record))
        return epochs

    for saved in order.resume:
        try:
            state = FitState.load(saved.path)
            return begin(state), state.progress.best_value, watch
        except CheckpointError as error:
            log.warning("step %d is passed over: %s", saved.step, error)
    return begin(None), 0.0, watch


def _load(bench: Bench, lease: Lease) -> TaskData:
    return data.load(
        lease.task,
        cache_dir=bench.cache_dir,
        image_size=backbones.image_size(lease.model, lease.recipe, bench.own),
        few=lease.recipe.shots,
        download=bench.download,
    )


def _report(epoch: EpochResult) -> Report:
    measured = {f"validation_{name}": value for name, value in epoch.metrics.items()}
    metrics = {**measured, "train_loss": epoch.train_loss, "seconds": epoch.seconds}
    return Report(step=epoch.epoch, value=epoch.value, metrics=metrics)


def _evaluate(bench: Bench, order: RunTrial, signs: SignsOfLife) -> tuple[Outcome, StoredFile]:
    """Measure the winner on the sealed test split, and export it."""
    lease = order.lease
    seal = Seal(lease.kind)
    state = _winner(bench, order, signs)
    order.folder.mkdir(parents=True, exist_ok=True)
    path = order.folder / "model.safetensors"

    def ask(seen: TaskData) -> None:
        """First it is noted, then done: no test split is opened without a word of it in the log."""
        record = beginning.record_of(seen, lease.recipe, bench.device)
        bench.line.say(Began(lease_id=lease.lease_id, record=record))
        match bench.line.verdict(OPENING):
            case "continue":
                return
            case "cancel":
                raise Cancelled
            case _:
                raise PutAside

    with signs.busy():
        scores = final_evaluation(
            lease.task,
            lease.model,
            lease.recipe,
            state,
            seal=seal,
            cache_dir=bench.cache_dir,
            own=bench.own,
            download=bench.download,
            device=bench.device,
            before_opening=ask,
            export_to=path,
            teacher=lease.teacher,
        )
    model = StoredFile(path=path, sha256=durable.sha256_of(path), bytes=path.stat().st_size)
    outcome = Completed(value=scores.value, metrics=scores.by_name(), model_sha256=model.sha256)
    return outcome, model


def _winner(bench: Bench, order: RunTrial, signs: SignsOfLife) -> FitState:
    """Load the winner's best state; where that is lost, train it again, from the same seed."""
    for saved in order.resume:
        try:
            return FitState.load(saved.path)
        except CheckpointError as error:
            log.warning("step %d is passed over: %s", saved.step, error)
    log.warning("the winner's checkpoint is lost: it is trained again")
    with signs.busy():
        epochs, _, _ = _begin(bench, order.model_copy(update={"resume": ()}), signs)
    # One at a time: a list of all bests would hold each of them in memory.
    *_, best = (epoch.state() for epoch in epochs if epoch.best)
    return best


if __name__ == "__main__":
    main()
