"""k nearest neighbours: a picture is what its nearest training pictures are. Nothing is trained."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from lcl_train.evals import Eval, Scores
from lcl_train.features import Kind, Labelled, Subject

_QUERIES = 1024


class Knn(Eval):
    """Vote of the k nearest by cosine, each weighing exp(cosine / temperature) (the protocol of DINO)."""

    k: int = Field(20, gt=0, description="neighbours that vote")
    temperature: float = Field(0.07, gt=0, description="the lower, the more the nearest decide")
    features: Kind = Field(
        "pooled", description="patches: mean of the patch tokens; pooled: the pooled vector"
    )

    def __call__(self, subject: Subject) -> Scores:
        """1 for every validation picture whose class wins the vote."""
        train, val = (subject.labelled(split, self.features) for split in ("train", "val"))
        classes = len(subject.folder.classes)
        bank = normalize(train.features, dim=-1)
        hits = [
            self._hits(val.features[i : i + _QUERIES], val.labels[i : i + _QUERIES], bank, train, classes)
            for i in range(0, len(val.labels), _QUERIES)
        ]
        return Scores(torch.cat(hits))

    def _hits(self, features: Tensor, labels: Tensor, bank: Tensor, train: Labelled, classes: int) -> Tensor:
        cosine, place = (normalize(features, dim=-1) @ bank.T).topk(min(self.k, len(bank)))
        votes = one_hot(train.labels[place], classes) * (cosine / self.temperature).exp().unsqueeze(-1)
        return (votes.sum(1).argmax(-1) == labels).float()
