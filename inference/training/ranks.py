"""Data-parallel training: several processes under `torchrun` share every batch and stay equal.

Gradients, batch statistics and figures are averaged over the processes after each step. That is all: no wrapper around
the model, so one process and several run the same code, and a checkpoint of either continues in the other.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from streamer.errors import ProcessError


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    """0 writes files and reports."""
    count: int = 1
    """How many there are."""
    device: str = "cpu"
    """Where this one computes."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace floating tensors by their mean over all processes, in place; all must call with equal shapes."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        begin = 0
        for tensor in tensors:
            end = begin + tensor.numel()
            tensor.copy_(flat[begin:end].reshape(tensor.shape))
            begin = end

    def any(self, flag: bool) -> bool:
        """Whether the flag is set anywhere."""
        if self.count == 1:
            return flag
        told = torch.tensor([float(flag)], device=self.device)
        distributed.all_reduce(told)
        return bool(told.item() > 0)


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that `torchrun` started; alone otherwise.

    Raises:
        ProcessError: they do not find each other.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    if count == 1:
        yield Ranks(device="cuda" if cuda else "cpu")
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local)
    try:
        distributed.init_process_group("nccl" if cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        raise ProcessError(
            f"rank {rank} of {count} does not find the others: {error}; start them by torchrun"
        ) from error
    try:
        yield Ranks(rank, count, f"cuda:{local}" if cuda else "cpu")
    finally:
        distributed.destroy_process_group()
