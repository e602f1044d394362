"""Image URLs as pages write them, made absolute: relative, scheme-less, or with a host and no scheme."""

import re
from urllib.parse import urljoin, urlsplit

# The common case, recognised without parsing.
_PLAIN = re.compile(r"https?://[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:\d{1,5})?([/?#][^\s\\]*)?\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\d)")
_HOST = re.compile(r"(?:[A-Za-z0-9-]+\.)+([A-Za-z]{2,24})(?::\d{1,5})?(?:[/?#]|\Z)")
# `index.php/3.jpg` and `photo.jpg` are paths, not hosts: endings of files that are no top-level domains in
# common use.
_FILE_ENDINGS = re.compile(
    r"jpe?g|png|gif|webp|bmp|svg|tiff?|ico|avif|x?html?|php|aspx?|jsp|cgi|cfm|ashx", re.IGNORECASE
)


def absolute(raw: str, page: str | None) -> str | None:
    """The absolute URL that `raw` means on the page at `page`; None if it means none.

    `//host/x`, `/x`, `x` and `../x` are joined to the page. `host.com/x.jpg` is taken as a host where its
    first segment ends like a domain and not like a file, and gets the page's scheme. What has no host in
    the end (`data:`, `javascript:`, an empty string) means no picture that can be fetched.
    """
    if _PLAIN.match(raw):
        return raw
    raw = raw.strip()
    base = _with_scheme(page.strip(), "http") if page else ""
    try:
        scheme = urlsplit(base).scheme or "http"
        joined = urljoin(base, _with_scheme(raw, scheme)) if raw else ""
        return joined if urlsplit(joined).hostname else None
    except ValueError:  # such as a broken IPv6 address
        return None


def resolved(raw: str, page: str | None) -> str | None:
    """The absolute URL that `raw` means in a page of HTML, by the rules of browsers; None if it means none.

    Unlike in `absolute`, a text without a scheme is always a path.
    """
    try:
        joined = urljoin(page or "", "".join(raw.split("\n")).strip())
        return joined if urlsplit(joined).hostname else None
    except ValueError:
        return None


def _with_scheme(url: str, scheme: str) -> str:
    if _SCHEME.match(url):
        return url
    host = _HOST.match(url)
    is_host = host and (url.lower().startswith("www.") or not _FILE_ENDINGS.fullmatch(host[1]))
    return f"{scheme}://{url}" if is_host else url
