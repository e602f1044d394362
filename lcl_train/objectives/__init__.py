"""What a model is trained for: one file per objective, each a frozen settings model that can be called.

An objective takes the model's `Outputs` and the `Batch` they came from and returns a `Loss`. Its total must
be finite and reach every parameter whatever the batch holds: ranks with nothing to learn from take part too.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lcl_train.collate import Batch
from lcl_train.model import Outputs


@dataclass(frozen=True, slots=True)
class Loss:
    """A scalar to minimise, and what to report of it.

    Attributes:
        total: fp32 scalar with a graph.
        parts: detached fp32 scalars by name, unweighted losses and rates among them; still on their device.
        counts: how many terms each mean was taken over.
    """

    total: Tensor
    parts: dict[str, Tensor]
    counts: dict[str, int]


class Objective(Protocol):
    """Anything that turns a forward pass into a loss."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        """The loss of one batch."""
        ...
