"""Conceptual Captions (Sharma et al. 2018): a TSV without a header, caption before URL."""

from lcl_data.pairs import Pairs


class Cc3m(Pairs):
    """CC3M as published (caption, tab, URL), or with the header that img2dataset's users put before it.

    CC12M has its columns the other way round; the content says which is which, whatever the file is called.
    """
