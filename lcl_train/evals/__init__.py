"""What a frozen encoder is good for: one file per eval, each a frozen settings model that can be called.

An eval gives one score per item, not one number: so every eval gets its interval, and a paired comparison
with the untrained network, from the same few lines.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from lcl_train.features import Subject
from schemas.recipe import Settings


@dataclass(frozen=True, slots=True)
class Scores:
    """What an eval found.

    Attributes:
        values: float [items], 0-1 each; their mean is the result.
        notes: choices it made on the way, for the report.
    """

    values: Tensor
    notes: dict[str, float] = field(default_factory=dict)


class Eval(Settings, ABC):
    """Any eval: its settings, and how it scores a subject."""

    @abstractmethod
    def __call__(self, subject: Subject) -> Scores:
        """Score every validation item, in an order that depends on the data only."""
