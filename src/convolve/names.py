"""Names of files that every system can have. What we name after something (a class, an address) gets such a name."""

import re

# Source: "Naming Files, Paths, and Namespaces" of Windows' documentation, the strictest of the systems.
_REFUSED = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]|[. ]$')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def portable(name: str) -> str:
    """`name`, with `_` for what a system would not have in it: a reserved letter, a dot or space at its end; and
    before what Windows takes for a device, whatever its ending: `nul.png`."""
    name = _REFUSED.sub("_", name) or "_"
    return f"_{name}" if _DEVICE.match(name) else name
