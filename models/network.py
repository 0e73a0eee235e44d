"""The llama architecture in torch, small, computing what libllama will compute from the exported file.

Matrix products run in bfloat16: oneDNN has fast kernels for it, also in builds of torch without a fast BLAS.
Attention is written out because the fused CPU kernel falls back to that slow BLAS.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters; widths are multiples of 32, the block of Q8_0."""

    vocabulary: int
    width: int = 256
    layers: int = 4
    heads: int = 8
    hidden: int = 512
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-5


class Layer(nn.Module):
    """Attention, then a gated feed-forward, each behind its own norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)
        self.forward_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.gate_up = nn.Linear(shape.width, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor, drop: float) -> Tensor:
        batch, length, width = x.shape
        parts = self.query_key_value(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        query, key = _rotate(query, angles), _rotate(key, angles)
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5) + mask
        mixed = functional.softmax(scores, -1, dtype=torch.float32).to(value.dtype) @ value
        mixed = self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        x = x + functional.dropout(mixed, drop, self.training)
        gate, up = self.gate_up(self.forward_norm(x)).chunk(2, -1)
        return x + functional.dropout(self.down(functional.silu(gate) * up), drop, self.training)


def _rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates neighbouring pairs of each head, as llama's "normal" rope does."""
    cosine, sine = angles
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2).to(x.dtype)


class Network(nn.Module):
    """Token ids to hidden states; the embedding serves as the output matrix too."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.drop = 0.0
        nn.init.normal_(self.embedding.weight, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("output.weight", "down.weight")):
                nn.init.normal_(weight, std=0.03 / (2 * shape.layers) ** 0.5)
            elif weight.dim() == 2 and "embedding" not in name:
                nn.init.normal_(weight, std=0.03)
        head = shape.width // shape.heads
        rates = shape.rope_base ** (-torch.arange(0, head, 2).float() / head)
        turns = torch.outer(torch.arange(shape.context).float(), rates)
        self.register_buffer("cosine", turns.cos(), persistent=False)
        self.register_buffer("sine", turns.sin(), persistent=False)
        mask = torch.full((shape.context, shape.context), -1e4).triu(1).bfloat16()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        angles = self.cosine[:length], self.sine[:length]
        with torch.autocast("cpu", torch.bfloat16):
            x = self.embedding(ids)
            for layer in self.layers:
                x = layer(x, angles, self.mask[:length, :length], self.drop)
            return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return functional.linear(hidden, self.embedding.weight).float()
