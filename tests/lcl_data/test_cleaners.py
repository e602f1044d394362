"""Cleaners: what each rewrites and what it leaves alone, the ledger's law, idempotence."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.c4_lines import C4Lines
from lcl_data.filters.c4_quality import C4Quality
from lcl_data.filters.mask_pii import MaskPii
from lcl_data.filters.normalise_text import NormaliseText
from lcl_data.filters.text_length import TextLength
from lcl_data.report import report
from lcl_data.verify import verify
from lcl_data.views import check
from schemas import members
from schemas.documents import Image
from schemas.errors import RecipeError
from tests.lcl_data.corpus import bytes_of, document, read_documents, rejects, write_documents

CLEANERS = [C4Lines(), C4Lines(terminal_punctuation=False, min_words=0), MaskPii(), NormaliseText()]
CLEANERS += [NormaliseText(form="NFKC"), NormaliseText(encoding=False, form=None)]
PIECES = [
    "a b",
    "word",
    ".",
    "…",
    '"',
    " ",
    "\n",
    "[1]",
    "[",
    "]",
    "1",
    "@",
    "h.org",
    "+",
    "(212)",
    "555-1234",
]
PIECES += [
    "81.2.69.160",
    "tel",
    ":",
    "2a00:1450::5",
    "\xa0",
    "\u200b",
    "é",
    "e\u0301",
    "â€™",
    "Ã\x90©",
    "\x85",
    "漢字。",
]


def cleaned(cleaner, *texts):
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    return frame.select(cleaner.cleaned().alias("text"))["text"].to_list()


@pytest.mark.parametrize("cleaner", CLEANERS, ids=str)
@given(texts=st.lists(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)), max_size=4))
@settings(max_examples=100)
def test_a_cleaner_changes_nothing_in_what_it_has_cleaned(cleaner, texts):
    once = cleaned(cleaner, *texts, None)
    assert once[-1] is None
    assert all(isinstance(text, str) for text in once[:-1])
    assert cleaned(cleaner, *once) == once
    assert [cleaned(cleaner, text)[0] for text in texts] == once[:-1]


def test_c4_lines():
    text = 'Home | About\n  It rains today. \nToo short.\nIt goes on and on...\nHe said [12] "so it is"\n'
    assert cleaned(C4Lines(), text) == ['It rains today.\nHe said  "so it is"']
    for setting, line in (
        ("terminal_punctuation", "No mark at its end"),
        ("javascript", "Turn on JavaScript to go on."),
        ("policy", "This site uses Cookies, as all do."),
    ):
        assert cleaned(C4Lines(), line) == [""], setting
        assert cleaned(C4Lines(**{setting: False}), line) == [line], setting
    assert cleaned(C4Lines(min_words=2), "Too short.") == ["Too short."]
    long = f"It is {'x' * 10} now."
    assert cleaned(C4Lines(max_word_chars=10), long) == [long]
    assert cleaned(C4Lines(max_word_chars=9), long) == [""]
    assert cleaned(C4Lines(citations=False), "It is so [1].") == ["It is so [1]."]
    assert cleaned(C4Lines(), "It is so [edit][citation needed][[2]3].") == ["It is so ."]
    assert cleaned(C4Lines(min_words=1), "一句话。\nهل هذا صحيح؟\nयह सच है।\n标题", "") == [
        "一句话。\nهل هذا صحيح؟\nयह सच है।",
        "",
    ]


def test_c4_lines_stand_before_c4_quality(tmp_path):
    lines = "\n".join(f"Sentence number {n} is here." for n in range(5))
    docs = write_documents(tmp_path / "in", [[document(0, f"{lines}\nfunction() {{"), document(1, "No. {")]])
    ledger = filter_documents(docs, tmp_path / "out", (C4Lines(), C4Quality()), Engine()).ledger
    (kept,) = read_documents(tmp_path / "out")
    assert kept.items == (lines,)
    assert ledger.documents.rejected == {"c4_quality:too_few_sentences": 1}


def test_mask_pii_masks():
    for text, masked in (
        ("write to Ann.O'Neil+x@mail.uni-x.edu.", "write to email@example.com."),
        ("<ann@x.org>,bob@y.de", "<email@example.com>,email@example.com"),
        ("from 81.2.69.160:80, 8.8.44.4.", "from 192.0.2.1:80, 192.0.2.1."),
        ("at [2a00:1450:4001:82a::200e]:443", "at [2001:db8::1]:443"),
        ("call +44 20 7946 0958.", "call +1 202-555-0100."),
        ("(212) 736-5000 or 1-800-736-5000", "+1 202-555-0100 or +1 202-555-0100"),
        ("+49(0)30/1234", "+49(0)30/1234"),
        ("Tel.: 030 1234 567, fax 0301234568", "Tel.: +1 202-555-0100, fax +1 202-555-0100"),
        ("212.736.5000; +12127365000", "+1 202-555-0100; +1 202-555-0100"),
    ):
        assert cleaned(MaskPii(), text) == [masked]


@pytest.mark.parametrize(
    "text",
    [
        "email@example.com ann@host.test me@example",
        "10.1.2.3 192.168.0.1 127.0.0.1 172.16.0.1 224.0.0.251 203.0.113.9 1.2.3.400 1.2.3.4.5",
        "version 81.2.69.160, v81.2.69.160 and Section\xa09.2.1.40 with release 81.2.69.160",
        "fe80::1 ::1 2001:db8::5 12:30:45 std::vector 3:4 2:1 0a:1b:2c:3d:4e:5f",
        "on 2020-01-15, 15.01.2020 and 01/15/2020 at 12:30:45.123",
        "ISBN 978-0-13-468599-1, 0-13-468599-7 and ISSN 1234-5678",
        "$1,234,567.89 or 1 234 567 890 people, 123-45-6789, 4111 1111 1111 1111",
        "charge +1.602 176 634, from -70 mV to +30 mV, 3+12345678, +22.360680",
        "call 911 or dial 030; (202) 555-0143 is free for stories",
        "10.1038/s41586-020-2649-2 and arXiv:2406.07543",
        "@handle, a@b, user@localhost",
    ],
)
def test_mask_pii_leaves_alone(text):
    assert cleaned(MaskPii(), text) == [text]


def test_mask_pii_by_kind_and_token():
    text = "a@b.org 81.2.69.160 2a00:1450:4001:82a::200e 212-736-5000"
    assert cleaned(MaskPii(email=None, ipv4="", ipv6=None, phone="<phone>"), text) == [
        "a@b.org  2a00:1450:4001:82a::200e <phone>"
    ]
    with pytest.raises(RecipeError, match="would itself be masked"):
        members.build("lcl_data.filters", {"mask_pii": {"phone": "call 030 123 4567"}}, MaskPii)


def test_normalise_text():
    for text, normal in (
        ("cafe\u0301 â€™ \u00c3\u00a9", "café ’ é"),
        ("a\xa0\u3000 b\t c \r\n\n\n\n d", "a b c\n\nd"),
        ("soft\xadhyphen\u200b\x00\x1b", "softhyphen"),
        ("می\u200cخواهم 👩\u200d👩", "می\u200cخواهم 👩\u200d👩"),
        ("“quotes” ﬁne &amp; ½", "“quotes” ﬁne &amp; ½"),
        (" \n\t", ""),
    ):
        assert cleaned(NormaliseText(), text) == [normal]
    assert cleaned(NormaliseText(form="NFKC"), "ﬁne ½ Ａ") == ["fine 1⁄2 A"]
    off = NormaliseText(encoding=False, form=None, controls=False, spaces=False)
    assert cleaned(off, " e\u0301 \x00 Ã© ") == [" e\u0301 \x00 Ã© "]


def test_the_ledger_counts_what_was_changed_and_anchors_follow_what_was_lost(tmp_path):
    own, lost = Image("u", anchor=1), Image("v", anchor=0)
    docs = write_documents(
        tmp_path / "in",
        [
            [document(0, "Home", lost, "Write to a@b.org about it.", own, "It is so.\nHome")],
            [document(1, "Home"), document(2, "It is what it is.")],
        ],
    )
    cuts = (C4Lines(), MaskPii(), TextLength(min_words=1), C4Lines())
    check(cuts)
    ledger = filter_documents(docs, tmp_path / "out", cuts, Engine()).ledger
    first, last = read_documents(tmp_path / "out")
    assert first.items == (
        Image("v"),
        "Write to email@example.com about it.",
        Image("u", anchor=0),
        "It is so.",
    )
    assert last == document(2, "It is what it is.")
    assert ledger.texts.model_dump() == {
        "read": 5,
        "kept": 3,
        "rejected": {"c4_lines:empty": 2},
        "changed": {"c4_lines": 1, "mask_pii": 1},
    }
    assert ledger.documents.rejected == {"text_length:too_short": 1}
    assert [row["item"] for row in rejects(tmp_path / "out") if row["kind"] == "texts"] == [0, 0]
    assert verify(tmp_path).problems == []
    assert report(docs, cuts, Engine()).ledger == ledger


def test_workers_do_not_change_a_byte(tmp_path):
    corpus = [
        [
            document(9 * shard + n, "Call (212) 736-5000 now.", "x" * n, "It is\xa0so.", Image("u"))
            for n in range(9)
        ]
        for shard in range(3)
    ]
    docs = write_documents(tmp_path / "in", corpus)
    cuts = (NormaliseText(), C4Lines(), MaskPii())
    one = filter_documents(docs, tmp_path / "one", cuts, Engine())
    assert filter_documents(docs, tmp_path / "two", cuts, Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    again = filter_documents(tmp_path / "one", tmp_path / "again", cuts, Engine()).ledger
    assert again.texts.changed == {"c4_lines": 0, "mask_pii": 0, "normalise_text": 0}
