"""Filters of single signs, words and hosts, and the lists that name them."""

import pytest

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.domains import Domains
from lcl_data.filters.flagged_words import FlaggedWords
from lcl_data.filters.punctuation import Punctuation
from lcl_data.filters.special_characters import SpecialCharacters
from lcl_data.filters.stop_words import StopWords
from schemas import members
from schemas.documents import Image
from schemas.errors import RecipeError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import document, write_documents
from tests.lcl_data.judging import CHINESE, PROSE, fact, reasons


def test_special_characters():
    assert fact(SpecialCharacters(), "special_character_share", "ab 1") == 0.5
    assert fact(SpecialCharacters(), "special_character_share", "हिन्दी") == 0.0  # vowel signs are no specials
    assert fact(SpecialCharacters(), "special_character_share", "🙂🙂é漢") == 0.5
    edge = "abcdefg 12"  # 0.3
    assert reasons(SpecialCharacters(), text=[edge, PROSE, ""]) == ["too_high", None, None]
    assert reasons(SpecialCharacters(level="text"), text=[edge, "abcdef 123"]) == [None, "too_high"]


def test_punctuation():
    assert fact(Punctuation(), "punctuation_marks", "Well, it's 3.5 - so?") == 3
    assert fact(Punctuation(), "words_and_marks", "Well, it's 3.5 - so?") == 8
    bare = "word " * 12
    assert reasons(Punctuation(), text=[bare, PROSE, CHINESE, "", "a b c"]) == [
        "too_low",
        None,
        None,
        "too_low",
        "too_low",
    ]
    assert reasons(Punctuation(level="text"), text=[bare, "word " * 11, ""]) == ["too_low", None, None]
    assert reasons(Punctuation(min=0.5), text=["a.", "a b."]) == [None, "too_low"]


def test_stop_words(tmp_path):
    # the, of, to: 3 of 9 stripped words; 42 is none.
    text = "The (42) price of sugar rose; bakers turned to honey."
    assert fact(StopWords(), "stop_word_share", text) == pytest.approx(3 / 9)
    assert reasons(StopWords(), text=[text, PROSE, "", "42", CHINESE]) == [
        "too_low",
        None,
        "too_low",
        "too_low",
        "too_low",
    ]
    assert reasons(StopWords(level="text"), text=[text]) == [None]
    german = tmp_path / "de.txt"
    german.write_text("der # article\n\nDie\nund\n", "utf-8")
    assert reasons(StopWords(file=german, min=0.5), text=["Die Sonne", "Sonne Mond", "der die DAS"]) == [
        None,
        "too_low",
        None,
    ]


def test_flagged_words(tmp_path):
    listed = tmp_path / "rude.txt"
    listed.write_text("damn\nüble\n", "utf-8")
    clean = "word " * 99
    assert reasons(
        FlaggedWords(file=listed), text=[clean + "Damn!", clean + "damn ÜBLE", "damnation", ""]
    ) == [None, "too_high", None, None]
    assert reasons(FlaggedWords(file=listed, max=0), text=[clean + "damn", clean]) == ["too_high", None]


def test_phrases_and_words_with_digits_are_listed_too(tmp_path):
    listed = tmp_path / "rude.txt"
    listed.write_text("damn\nsilly goose\n2rude4u\nb00m5\n\N{SWAN}\nc++\n", "utf-8")
    share = "flagged_word_share_rude"
    rule = FlaggedWords(file=listed)
    assert fact(rule, share, "a Silly\ngoose, damn it") == pytest.approx(2 / 5)
    assert fact(rule, share, "silly goose silly goose") == 0.5
    assert fact(rule, share, "sillys goose; silly gooseberry") == 0
    assert fact(rule, share, "one 2RUDE4U, two B00M5!") == 0.5
    assert fact(rule, share, "\N{SWAN}") == fact(rule, share, "c++ damn") == 1
    assert reasons(rule, text=["c++ " * 9, "c", ""]) == ["too_high", None, None]


def test_a_list_is_told_before_any_work_when_it_cannot_be_used(tmp_path):
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "latin1").write_bytes(b"\xfcble\n")
    for file, message in (("none", "no such file"), ("empty", "empty list"), ("latin1", "not UTF-8")):
        with pytest.raises(RecipeError, match=message):
            members.build("lcl_data.filters", {"flagged_words": {"file": str(tmp_path / file)}}, FlaggedWords)
    with pytest.raises(RecipeError, match="give a list"):
        members.build("lcl_data.filters", "domains", Domains)


def test_a_changed_list_is_another_setting_and_a_moved_one_is_not(tmp_path):
    docs = write_documents(tmp_path / "in", [[document(0, "damn it")]])
    listed = tmp_path / "a/words"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words").write_text("damn\n")

    def run(path):
        return filter_documents(docs, tmp_path / "out", (FlaggedWords(file=path),), Engine()).digest

    first = run(listed)
    assert run(tmp_path / "b/words") == first
    assert "/" not in str(read_manifest(tmp_path / "out").settings)
    (tmp_path / "b/words").write_text("it\n")
    assert run(tmp_path / "b/words") != first


def test_domains_stand_for_their_subdomains(tmp_path):
    url = [
        "https://Example.org/a",
        "http://user@www.example.org:8080/b?c#d",
        "https://badexample.org/",
        "https://other.net/ads/1.html?x=1",
        "https://other.net/ads/2.html",
        "",
        None,
    ]
    listed = tmp_path / "hosts"
    listed.write_text("https://www.other.net/ads/1.html/\n")
    rule = Domains(deny=("example.org",), deny_file=listed)
    assert reasons(rule, url=url) == ["denied", "denied", None, "denied", None, "unmeasured", "unmeasured"]
    rule = Domains(allow=("example.org", "net"), deny=("www.example.org/b",))
    assert reasons(rule, url=url[:5]) == [None, "denied", "not_allowed", None, None]


@pytest.mark.parametrize(
    "entry",
    [
        "*.other.net",
        "other.net:8080",
        "https://user@WWW.Other.net:80/a/?x=1#y",
        "//other.net",
        "other.net/a?u=http://h/",
    ],
)
def test_an_entry_may_be_written_as_addresses_are(entry):
    rule = Domains(deny=(entry,))
    assert reasons(rule, url=["https://other.net:8080/a", "https://another.net/a"]) == ["denied", None]


def test_what_is_no_entry_is_refused(tmp_path):
    listed = tmp_path / "hosts"
    listed.write_text("other.net\n0.0.0.0 ads.example.org\n")
    with pytest.raises(RecipeError, match=r"'0\.0\.0\.0 ads\.example\.org' is no host"):
        members.build("lcl_data.filters", {"domains": {"deny_file": str(listed)}}, Domains)
    with pytest.raises(RecipeError, match="'' is no host"):
        members.build("lcl_data.filters", {"domains": {"deny": [""]}}, Domains)


def test_a_list_that_changes_between_two_runs_of_one_process_is_read_anew(tmp_path):
    listed = tmp_path / "hosts"
    listed.write_text("example.org")
    rule, url = Domains(deny_file=listed), ["https://example.org/", "https://other.net/a"]
    assert reasons(rule, url=url) == ["denied", None]
    listed.write_text("other.net # and no more")
    assert reasons(rule, url=url) == [None, "denied"]


def test_domains_of_pictures(tmp_path):
    doc = document(0, "words", Image("https://cdn.stock.com/1.jpg"), Image("https://h.org/2.jpg"))
    docs = write_documents(tmp_path / "in", [[doc]])
    cuts = (Domains(level="image", deny=("stock.com",)),)
    ledger = filter_documents(docs, tmp_path / "out", cuts, Engine()).ledger
    assert ledger.images.rejected == {"domains:denied": 1}
    assert ledger.documents.kept == 1
