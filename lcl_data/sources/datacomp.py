"""DataComp's CommonPool (Gadre et al. 2023, arXiv 2304.14108): a table of pairs with two similarities."""

from pydantic import Field

from lcl_data.pairs import Pairs


class Datacomp(Pairs):
    """CommonPool: uid, url, text, original_width, original_height, clip_b32_similarity_score,
    clip_l14_similarity_score, face_bboxes, sha256 (of the file they saw, not of ours, so it goes to meta).
    """

    similarity_column: str | None = Field(
        "clip_l14_similarity_score",
        description="score that filters see; clip_b32_similarity_score is another",
    )
