"""Image URLs as pages write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcl_data.links import absolute

PAGE = "https://site.example/blog/post.html?id=3"


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("http://h.example/a.jpg", "http://h.example/a.jpg"),
        ("HTTP://h.example:8080/a.jpg?x=1#y", "HTTP://h.example:8080/a.jpg?x=1#y"),
        (" http://h.example/a.jpg\n", "http://h.example/a.jpg"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ("/img/a.jpg", "https://site.example/img/a.jpg"),
        ("img/a.jpg", "https://site.example/blog/img/a.jpg"),
        ("../a.jpg", "https://site.example/a.jpg"),
        ("a.jpg", "https://site.example/blog/a.jpg"),
        ("?picture=3", "https://site.example/blog/post.html?picture=3"),
        ("index.php/a/3.jpg", "https://site.example/blog/index.php/a/3.jpg"),
        ("cdn.example.com/a.jpg", "https://cdn.example.com/a.jpg"),
        ("cdn.example.com:8080/a.jpg", "https://cdn.example.com:8080/a.jpg"),
        ("www.pictures.png/a", "https://www.pictures.png/a"),
        ("http://127.0.0.1:8765/a.jpg", "http://127.0.0.1:8765/a.jpg"),
        ("http://[::1]/a.jpg", "http://[::1]/a.jpg"),
        ("", None),
        ("   ", None),
        ("http://", None),
        ("http://[::1/a.jpg", None),
        ("data:image/gif;base64,R0lGOD", None),
        ("javascript:void(0)", None),
        ("file:///etc/passwd", None),
    ],
)
def test_what_a_url_means_on_its_page(raw, meant):
    assert absolute(raw, PAGE) == meant


def test_pages_without_scheme_or_at_all():
    assert absolute("/a.jpg", "www.site.example/post") == "http://www.site.example/a.jpg"
    assert absolute("/a.jpg", None) is None
    assert absolute("/a.jpg", "nowhere") is None
    assert absolute("cdn.example.com/a.jpg", None) == "http://cdn.example.com/a.jpg"


@given(st.text(), st.text() | st.none())
def test_any_text_has_an_answer_and_answers_are_stable(raw, page):
    found = absolute(raw, page)
    assert found is None or absolute(found, page) == found
