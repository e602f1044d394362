"""COYO-700M (Byeon et al. 2022, kakaobrain/coyo-dataset): a table of pairs with many scores."""

from pydantic import Field

from lcl_data.pairs import Pairs


class Coyo(Pairs):
    """COYO-700M: url, text, width, height, and two similarities, of which ViT-L/14's is ours because MMC4's
    and LCL's thresholds are of that model; id, image_phash, nsfw, watermark and aesthetic scores go to meta.
    """

    similarity_column: str | None = Field(
        "clip_similarity_vitl14", description="score that filters see; clip_similarity_vitb32 is another"
    )
