"""The ranks of a training on several devices: processes that compute a part of each batch each, and agree at each step.

They speak in two ways. Words are exchanged on the CPU, all ranks at once and always in one form, so that two ranks that
are at different places of a training never wait for different things. Tensors are added up between the devices, after
the words have said that every rank has its part.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Self, cast

import torch
import torch.distributed as dist
from torch import Tensor

from worker.training.device.rank_errors import RankFailed, kind_of

PATIENCE = timedelta(days=30)
"""How long a rank waits for the others: whoever started them watches over the time (the worker's agent), not they."""
_REASON_BYTES = 2048


class Kind(IntEnum):
    """What a rank says of itself."""

    WAITS = 1
    """It waits to be told what comes next; said by all but the first rank."""
    EPOCH = 2
    """The first rank begins an epoch: its number, and the number of threads that compute it."""
    END = 3
    """The first rank trains no further."""
    READY = 4
    """It has its part of a step, or has begun the training."""
    LEAVES = 5
    """It leaves the epoch between two batches."""
    FAILED = 6
    """It has met an error, which all are told."""


@dataclass(frozen=True, slots=True)
class Word:
    """What one rank says in an exchange; what the two numbers mean depends on the kind."""

    kind: Kind
    number: int = 0
    second: int = 0


class Ranks:
    """All processes of one training, as one of them sees them.

    Made once for each process, by `join`. torch keeps the connections for the whole process.

    Attributes:
        rank: The number of this process among them, from 0. The first one decides, measures and saves.
        count: The number of processes.
    """

    def __init__(self, rank: int, count: int, tensors: dist.ProcessGroup | None = None) -> None:
        self.rank = rank
        self.count = count
        self._tensors = tensors
        self._train = False

    @classmethod
    def join(cls, rank: int, count: int, meeting: Path, device: torch.device) -> Self:
        """Meet the others; returns when all are there.

        They meet in a file, and not at a port that other users of the machine could connect to.

        Args:
            rank: The number of this process, from 0.
            count: The number of processes.
            meeting: A file that none has made yet, in a folder that only this user may enter.
            device: The device of this process.
        """
        store = dist.FileStore(str(meeting), count)  # pyright: ignore[reportPrivateImportUsage] - its documented name
        dist.init_process_group(
            "gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE
        )
        # Until all have met, the file is needed; NCCL meets there later.
        dist.barrier()
        on_gpus = device.type == "cuda" and dist.is_nccl_available()
        if on_gpus:
            torch.cuda.set_device(device)
        group = dist.new_group(backend="nccl", timeout=PATIENCE) if on_gpus else None
        return cls(rank, count, group if isinstance(group, dist.ProcessGroup) else None)

    def close(self) -> None:
        """Part from the others; returns when all have called it."""
        # A process that leaves while another still speaks to it makes that one fail in its last exchange.
        dist.barrier()
        dist.destroy_process_group()

    def exchange(self, word: Word, error: Exception | None = None) -> tuple[Word, ...]:
        """Say a word and hear those of all ranks, in their order.

        Args:
            word: The word of this rank.
            error: The error that it has met, if its word is FAILED.

        Raises:
            RankFailed: Another rank has met an error, and this one has not.
        """
        table = torch.zeros(self.count, 3, dtype=torch.int64)
        table[self.rank] = torch.tensor([word.kind, word.number, word.second])
        dist.all_reduce(table)
        words = tuple(
            Word(Kind(int(kind)), int(number), int(second)) for kind, number, second in table
        )
        failed = [rank for rank, said in enumerate(words) if said.kind is Kind.FAILED]
        if failed:
            reasons = self._reasons(error)
            if error is None:
                raise RankFailed(failed[0], *reasons[failed[0]])
        return words

    def _reasons(self, error: Exception | None) -> list[tuple[str, str]]:
        """Tell the others what this rank has met; return the kind and the words of what each has met."""
        told = b"" if error is None else f"{kind_of(error)}\n{error!r}".encode()[:_REASON_BYTES]
        table = torch.zeros(self.count, _REASON_BYTES, dtype=torch.uint8)
        table[self.rank, : len(told)] = torch.tensor([*told], dtype=torch.uint8)
        dist.all_reduce(table)
        texts = [
            bytes(cast(list[int], row.tolist()))
            .rstrip(b"\0")
            .decode(errors="replace")
            .partition("\n")
            for row in table
        ]
        return [(kind, message) for kind, _, message in texts]

    def begin(self, digest: int) -> bool:
        """Begin a training; return whether all ranks have the same number, which stands for their weights.

        Raises:
            RankFailed: Another rank could not begin.
        """
        words = self.exchange(Word(Kind.READY, digest))
        self._train = len({word.number for word in words}) == 1
        return self._train

    def dismiss(self) -> None:
        """Tell the other ranks, as the first one, that the training is over, if one is; whatever they are at, they leave it."""
        if not self._train:
            return
        self._train = False
        with suppress(RankFailed):
            self.exchange(Word(Kind.END))

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each place whether any rank has it set."""
        table = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(table, dist.ReduceOp.MAX)
        return [bool(flag) for flag in cast(list[int], table.tolist())]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the sum of the ranks' tensors; all ranks get the same bits.

        Args:
            tensors: The same number on each rank, of the same shapes and types.
        """
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            # One sum of all, since each costs a message whatever its size.
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            dist.all_reduce(flat, group=self._tensors)
            start = 0
            for tensor in alike:
                tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
                start += tensor.numel()


def loopback() -> dict[str, str]:
    """Return the variables that keep the ranks' connections within the machine."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    # NCCL would otherwise refuse loopback; between GPUs of one machine it only meets there.
    return {"GLOO_SOCKET_IFNAME": names[0], "NCCL_SOCKET_IFNAME": names[0]} if names else {}
