"""Every error LCL raises on purpose. Each message names the culprit, the place and the remedy.

LclError
|- RecipeError       the recipe or the command line is wrong; nothing has run        exit 2
|- SourceError       an upstream row cannot be understood                            rejected, counted
|- ImageError        bytes are not a usable image                                    image dropped, counted
|- ShardError        a file is torn, foreign or of another version                   fails alone, exit 1
`- CheckpointError   a checkpoint does not fit the model, or is no checkpoint        exit 2
"""


class LclError(Exception):
    """The root: whatever LCL itself says is wrong."""


class RecipeError(LclError):
    """The recipe, a setting or an input path is wrong; told before any work begins."""


class SourceError(LclError):
    """An upstream row cannot be understood.

    Attributes:
        reason: the short name under which the rejection is counted.
        detail: what exactly was wrong, for the rejects table.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ImageError(LclError):
    """Bytes are not a usable image.

    Attributes:
        reason: the short name under which the rejection is counted.
        detail: what exactly was wrong.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ShardError(LclError):
    """A file is torn, foreign or written by a newer LCL: the shard fails alone, the others go on."""


class CheckpointError(LclError):
    """A checkpoint is torn, of another architecture, or would need a pickle to be loaded."""
