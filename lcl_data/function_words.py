"""The closed classes of English: words that carry grammar rather than a topic, so that prose on any subject
is full of them.

Written from the grammar's own tables (pronouns, determiners, prepositions, conjunctions, auxiliaries, and the
adverbs of place, time and degree that behave like them), not from a published list.
"""

_PRONOUNS = """
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself
she her hers herself it its itself they them their theirs themselves one oneself who whom whose
which what whoever whatever whichever somebody someone something anybody anyone anything everybody
everyone everything nobody none nothing
"""
_DETERMINERS = """
a an the this that these those some any no every each either neither both all half much many more
most few fewer little less least several enough such other another others own same
"""
_PREPOSITIONS = """
about above across after against along alongside amid among around as at before behind below beneath
beside besides between beyond by concerning despite down during except for from in inside into like
near of off on onto opposite out outside over past per regarding round since than through throughout
till to toward towards under underneath unlike until up upon versus via with within without
"""
_CONJUNCTIONS = """
and but or nor so yet if unless although though because while whilst whereas whether when whenever
where wherever why how once lest provided
"""
_AUXILIARIES = """
am is are was were be been being have has had having do does did doing done will would shall should
can could may might must ought cannot i'm you're he's she's it's we're they're i've you've we've
they've i'd you'd he'd she'd we'd they'd i'll you'll he'll she'll it'll we'll they'll isn't aren't
wasn't weren't haven't hasn't hadn't don't doesn't didn't won't wouldn't shan't shouldn't can't
couldn't mustn't mightn't that's there's here's what's who's let's
"""
_ADVERBS = """
not there here then now too very also just only even ever never always often again already still
quite rather however therefore thus hence instead together apart away back forth ahead afterwards
else otherwise
"""

ENGLISH = frozenset(
    word
    for group in (_PRONOUNS, _DETERMINERS, _PREPOSITIONS, _CONJUNCTIONS, _AUXILIARIES, _ADVERBS)
    for word in group.split()
)
