"""Conceptual 12M (Changpinyo et al. 2021, arXiv 2102.08981): a TSV without a header, URL before caption."""

from lcl_data.pairs import Pairs


class Cc12m(Pairs):
    """CC12M as published (URL, tab, caption), or with the header that img2dataset's users put before it.

    CC3M has its columns the other way round; the content says which is which, whatever the file is called.
    """
