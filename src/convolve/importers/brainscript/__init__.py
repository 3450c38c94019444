"""BrainScript: CNTK's configurations (.cntk), and the networks in them.

files.py       the files of a configuration, without comments and with what they include
config.py      the configuration: blocks of `key = value`, variables, the command line
syntax.py      the text of a network -> a typed tree, by grammar.lark
evaluate.py    the tree -> values, lazily; library.bs holds the layers, natives.py and operators.py the rest
network.py     the values -> operations, with nothing left to evaluate
lower.py       the operations -> the neutral graph of all importers
trained.py     the numbers of a model that CNTK trained from the same text
job.py         everything else: what is to be trained and tested, how (sgd.py) and on which data (reader.py)
"""

from pathlib import Path


def is_config(name: str) -> bool:
    """Whether `name` is a BrainScript configuration, or several joined by `+`; the ending decides."""
    return all(Path(part).suffix.lower() in (".cntk", ".config") for part in name.split("+"))
