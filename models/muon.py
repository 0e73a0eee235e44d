"""Muon: momentum whose step is made orthogonal, so that every direction of a matrix learns at one pace."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Close to the nearest orthogonal matrix, by a quintic Newton-Schulz iteration in bfloat16."""
    a, b, c = _COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """For the weight matrices of the layers; embeddings and norms belong to another optimizer."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        parts: dict[torch.Size, int],
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        """`parts`: how many matrices are stacked in those of a shape (query, key and value; gate and up)."""
        super().__init__(
            parameters, {"lr": lr, "parts": parts, "momentum": momentum, "weight_decay": weight_decay}
        )
        # The matrices are too small to share one among cores: each is one thread's work.
        self._threads = ThreadPoolExecutor(
            torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            updates = [self._update(p, group) for p in learning]
            for parameter, step in zip(learning, self._threads.map(_orthogonal_parts, updates), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step, alpha=-group["lr"])

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
        """The direction that momentum gives, as the matrices that are stacked in the parameter."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        moving = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        return parameter.grad.lerp(moving, group["momentum"]).chunk(group["parts"].get(parameter.shape, 1))


def _orthogonal_parts(parts: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        return torch.cat([orthogonal(part) * max(1, part.shape[0] / part.shape[1]) ** 0.5 for part in parts])
