"""The gradient of the vocabulary's tables on a CPU: added where it belongs, without copies.

Autograd makes a tensor of the size of the whole table for every use of it, and adds these up. A
tied table is used three times in each micro-batch: by the encoder, the decoder and the head. With
32,000 x 256 weights, filling and adding such tensors took a quarter of a step at 8 x 8
(docs/benchmarks.md). Here a lookup adds the rows that it read to `.grad`, and the head in slices
adds its products to it.

A GPU fills such a tensor in microseconds, and adds rows in an order that changes from run to run,
so there autograd keeps doing this.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def gradient(weight: Tensor) -> Tensor:
    """The gradient of a leaf so far; zeros before the first one."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def add_rows_in_place(model: nn.Module) -> None:
    """Lets the embeddings of a model add to the gradient of their weight only the rows they read.

    The results are the same but for the order of additions. Embeddings with options that change
    their gradient are left as they are.
    """
    for module in model.modules():
        plain = isinstance(module, nn.Embedding) and not (
            module.sparse or module.scale_grad_by_freq or module.max_norm is not None
        )
        if plain and not isinstance(module, _RowsInPlace):
            kind = type(module)
            # Models like BART scale what nn.Embedding gives: theirs is called first, then ours.
            bases = (_RowsInPlace,) if kind is nn.Embedding else (kind, _RowsInPlace)
            module.__class__ = type(kind.__name__, bases, {})


class _RowsInPlace(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        if not (torch.is_grad_enabled() and weight.requires_grad and weight.is_leaf):
            return super().forward(input)
        apply: Any = _Lookup.apply
        found: Tensor = apply(weight, input, self.padding_idx)
        return found


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor, padding_idx: int | None) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.weight, ctx.padding_idx = weight, padding_idx
        return nn.functional.embedding(tokens, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: Tensor) -> tuple[None, None, None]:
        (tokens,) = ctx.saved_tensors
        whole = gradient(ctx.weight)
        # Padding adds nothing here; the head may have added to its row.
        kept = None if ctx.padding_idx is None else whole[ctx.padding_idx].clone()
        whole.index_add_(0, tokens.flatten(), of_rows.flatten(0, -2))
        if kept is not None:
            whole[ctx.padding_idx] = kept
        return None, None, None
