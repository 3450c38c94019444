"""NDL: the network language before BrainScript.

syntax.py     the text of a script -> its statements, by grammar.lark
script.py     the statements -> nodes, macros expanded; functions.bs has what BrainScript's library calls otherwise
maker.py      nodes by the functions of that library, under CNTK's names
builder.py    the NDLNetworkBuilder block: files, sections, macros
"""
