"""BrainScript: CNTK's configurations (.cntk), and the networks in them.

config.py      the configuration: blocks of `key = value`, variables, includes, the command line
syntax.py      the text of a network -> a typed tree, by grammar.lark
evaluate.py    the tree -> values, lazily; library.bs holds the layers, natives.py and operators.py the rest
network.py     the values -> operations, with nothing left to evaluate
lower.py       the operations -> the neutral graph of all importers
"""
