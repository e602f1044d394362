"""Names of elements, roles and classes by which the parts of a page are told apart."""

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = """
address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer
form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre section summary table tbody td
tfoot th thead tr ul
"""
_ROLES = """
navigation banner contentinfo complementary search menu menubar toolbar dialog alertdialog tablist tooltip
"""
_WORDS = """
nav navi navheader navfooter docnav navbar navigation navmenu topnav subnav sidenav menu submenu megamenu
breadcrumb breadcrumbs sidebar footer colophon masthead topbar cookie cookies consent gdpr advert adverts
advertisement advertising ad ads adsense adsbygoogle adbox adslot sponsor sponsored sponsors promo promos
popup popover modal lightbox overlay newsletter subscribe subscription signup optin share shares sharing
sharedaddy addthis addtoany social socials related recommended recommendations recommendation outbrain
taboola comments commentlist commentform disqus respond pagination pager paging prevnext pagenav tagcloud
blogroll toolbar search searchform searchbox login copyright skiplink noprint linenos linenodiv lineno
gutter toc tableofcontents editsection headerlink byline postmeta widgets
"""
_PAIRS = """
screen-reader sr-only visually-hidden assistive-text skip-to read-more more-posts more-stories see-also you-
may may-like site-header page-header global-header site-head site-info site-nav back-to to-top post-
navigation post-nav nav-links nav-previous nav-next prev-next post-meta entry-meta article-meta post-tags
entry-tags tag-list tags-links tag-links cat-links post-footer entry-footer entry-utility author-box author-
bio about-author author-info post-author widget-area widget-title side-bar side-col left-col right-col left-
column right-column col-left col-right left-nav right-nav call-to cross-sell table-of of-contents jump-to
powered-by terms-of privacy-policy legal-notice
"""

BLOCKS = frozenset(_BLOCKS.split())
APART_TAGS = frozenset(("nav", "footer", "aside", "dialog", "menu", "head", "title", "noframes", "button"))
APART_ROLES = frozenset(_ROLES.split())
# Words of a class or id that say: not of the article. `a-b` means both in a row.
APART_WORDS = frozenset(_WORDS.split())
APART_PAIRS = frozenset(_PAIRS.split())
# `has-sidebar`, `no-ads`, `content-sidebar-wrap`: what the sidebar stands beside, on the whole.
LAYOUT_WORDS = frozenset(
    ("has", "no", "with", "without", "wrap", "wrapper", "container", "layout", "content", "main", "js")
)
NEVER_APART = frozenset(("html", "body", "main", "article"))
CONTAINERS = frozenset(("article", "body", "center", "div", "fieldset", "form", "main", "section", "td"))
TITLED = frozenset(("section", "a", "span", "dt", "p", *HEADINGS))  # their ids are made of their headings
NOT_LISTS = frozenset(("pre", "figure", "figcaption", "dt", "tr", "caption", *HEADINGS))
