"""LAION-400M (Schuhmann et al. 2021, arXiv 2111.02114) and LAION-5B (2022, arXiv 2210.08402): tables of
pairs.
"""

from lcl_data.pairs import Pairs


class Laion(Pairs):
    """LAION-400M: URL, TEXT, SAMPLE_ID, LICENSE, NSFW, similarity, WIDTH, HEIGHT. LAION-2B-en and -multi:
    URL, TEXT, WIDTH, HEIGHT, similarity, hash, punsafe, pwatermark, aesthetic, LANGUAGE. Any other table of
    pairs with such columns is read as well. `similarity` is the cosine of CLIP ViT-B/32.
    """
