"""The usual names of the parts of a set: for folders, for lists, and in a column of a table."""

import re

TRAINING, VALIDATION, TEST = "training", "validation", "test"

_ROLES = {
    TRAINING: ("train", "training"),
    VALIDATION: ("val", "valid", "validation", "dev"),
    TEST: ("test", "testing"),
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words}
_PART = re.compile(rf"(?:seg_)?({'|'.join(_ROLE_OF)})(?:_?set)?")  # seg_: Intel's image classification, on Kaggle


def role_of(name: str) -> str | None:
    """The part with the name `name`: "training", "validation", "test"; None if it is not a part's name."""
    found = _PART.fullmatch(name.casefold().strip().replace("-", "_").replace(" ", "_"))
    return _ROLE_OF[found[1]] if found else None
