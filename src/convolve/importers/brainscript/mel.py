"""MEL: scripts that edit trained networks, which the `edit` action ran before BrainScript existed.

A model is a table of nodes, each under the name that CNTK gives it. A script copies, connects and removes them; NDL in
a script adds nodes to the current model. The numbers of parameters go with them, and are read when the edited network
is made.
"""

import re
from collections.abc import Callable, Iterable

from convolve.errors import UnsupportedError, unknown_name
from convolve.importers.brainscript.config import Block
from convolve.importers.brainscript.edits import frozen
from convolve.importers.brainscript.loaded import Models, load_network
from convolve.importers.brainscript.ndl.builder import macros_of, read_file, scripts_of
from convolve.importers.brainscript.ndl.maker import Maker
from convolve.importers.brainscript.ndl.script import TAGS, Ndl
from convolve.importers.brainscript.ndl.syntax import Assignment, Call, Embedded, Expression, Macro, Statement, Word
from convolve.importers.brainscript.ndl.table import (
    below,
    change,
    changed,
    complete,
    fill,
    inputs,
    join,
    matches,
    replace_operand,
)
from convolve.importers.brainscript.syntax import Spot
from convolve.importers.brainscript.values import NOTHING, Node
from convolve.names import own_slashes

MAX_NODES = 100_000  # of all models of one script


Saved = tuple[str, Maker, Spot]  # the path of a model, its nodes, and where the script says so


def edited(block: Block, models: Models, note: Callable[[str], None]) -> list[Saved]:
    """What the scripts at editPath save. Raises FormatError with line and column; `note` is told what only prints."""
    editor = _Editor(models, macros_of(block), note)
    names = block.file("editPath", inherit=False)
    if not names:
        raise block.here.error(f"{block.name} has no editPath; name the script")
    for name in names.split("+"):
        for script in scripts_of(block, read_file(block, "editPath", name.strip()), ("load", "edit")):
            editor.run(script)
    if not editor.saved:
        raise block.error("editPath", f"{block.name}: the script saves no model; end it with SaveModel (name, file)")
    return editor.saved


class _Editor:
    def __init__(self, models: Models, macros: list[Statement], note: Callable[[str], None]) -> None:
        self.trained, self.note, self.macros = models, note, macros
        self.models: dict[str, Ndl] = {}
        self.default: Ndl | None = None
        self.saved: list[Saved] = []
        self.made = 0

    def run(self, script: Iterable[Statement]) -> None:
        for statement in script:
            if isinstance(statement, Macro):
                self.macros.append(statement)
                for model in self.models.values():
                    model.run([statement])
                continue
            value = statement.value
            if isinstance(value, Embedded):
                self.add(statement.name, Maker()).run(value.script)
            elif isinstance(value, Call) and (command := _command(value.function, bool(statement.name))):
                command(self, value, statement.name)
            elif statement.name:
                self.inline(statement)
            else:
                known = [names[0] for names in _COMMANDS]
                called = value.function if isinstance(value, Call) else "?"
                raise statement.spot.error(unknown_name("command", called, known))

    def inline(self, statement: Assignment) -> None:
        """NDL for the model that the name begins with, or else for the current one."""
        first, dot, rest = statement.name.partition(".")
        if dot and first.lower() in self.models:
            self.models[first.lower()].run([Assignment(statement.spot, rest, statement.value)])
            return
        self.at_hand(statement.spot).run([statement])

    # -- models -------------------------------------------------------------------------------------------------------

    def at_hand(self, spot: Spot) -> Ndl:
        if self.default is None:
            raise spot.error("no model is loaded; begin with LoadModel or SetDefaultModel")
        return self.default

    def model(self, word: Expression) -> Ndl:
        text = _text(word)
        if text.lower() not in self.models:
            raise word.spot.error(unknown_name("model", text, [*self.models] or ["none"]))
        return self.models[text.lower()]

    def add(self, name: str, maker: Maker) -> Ndl:
        """Add a model called `name`; the first one becomes the current one."""
        model = self.models[(name or "default").lower()] = Ndl(maker)
        model.run(self.macros)
        self.default = self.default or model
        return model

    def create(self, call: Call, name: str) -> None:
        self.add(name or (_text(call.positional[0]) if call.positional else ""), Maker())

    def load_model(self, call: Call, name: str) -> None:
        if not name and len(call.positional) == 2:
            name = _text(call.positional[0])
        path = call.positional[-1]
        maker = Maker()
        maker.evaluator.models = self.trained
        fill(maker, load_network(maker.evaluator, _text(path), path.spot))
        self.count(len(maker.nodes), call.spot)
        self.add(name, maker)

    def load_snippet(self, call: Call, name: str) -> None:
        raise UnsupportedError(f"{call.spot.place}: LoadNDLSnippet is not supported; write name=[ ... ] in the script")

    def set_default(self, call: Call, name: str) -> None:
        self.default = self.model(call.positional[0])

    def unload(self, call: Call, name: str) -> None:
        for word in call.positional:
            gone = self.model(word)
            del self.models[_text(word).lower()]
            self.default = None if self.default is gone else self.default

    def save(self, call: Call, name: str) -> None:
        model = self.model(call.positional[0]) if len(call.positional) == 2 else self.at_hand(call.spot)
        self.saved.append((own_slashes(_text(call.positional[-1])), complete(model.maker, call.spot), call.spot))

    def dump(self, call: Call, name: str) -> None:
        self.note(f"{call.spot.place}: {call.function} only prints; it is skipped (see `convolve show`)")

    # -- nodes --------------------------------------------------------------------------------------------------------

    def found(self, word: Expression) -> tuple[Ndl, list[str]]:
        """The model, and the names of its nodes that match a pattern, at least one."""
        model, pattern = self.pattern(word)
        names = [name for name in model.maker.nodes if matches(pattern, name)]
        if not names:
            symbol = model.find(pattern, model.top)
            node = model.node(word.spot, symbol) if symbol is not None else None
            names = [name for name, other in model.maker.nodes.items() if other is node]
        if not names:
            raise word.spot.error(unknown_name("node", pattern, model.maker.nodes or ["none"]))
        return model, names

    def pattern(self, word: Expression) -> tuple[Ndl, str]:
        """`model.pattern`, `model` for all of its nodes, or a pattern for the current model."""
        text = _text(word)
        first = re.split(r"[.*]", text, maxsplit=1)[0]
        if first.lower() in self.models:
            return self.models[first.lower()], text[len(first) + 1 :] or "*"
        return self.at_hand(word.spot), text

    def one(self, word: Expression) -> tuple[Ndl, Node]:
        model, names = self.found(word)
        if len(names) > 1:
            raise word.spot.error(f"{_text(word)} stands for {len(names)} nodes; name one")
        return model, model.maker.nodes[names[0]]

    def pairs(self, call: Call) -> tuple[Ndl, Ndl, list[tuple[str, str]]]:
        """(source model, target model, pairs of names) for two patterns, both with a * or both without."""
        source, names = self.found(call.positional[0])
        _, pattern = self.pattern(call.positional[0])
        target, other = self.pattern(call.positional[1])
        if "*" in other and "*" not in pattern:
            targets = [name for name in target.maker.nodes if matches(other, name)]
            return source, target, [(names[0], name) for name in targets]
        if ("*" in pattern) != ("*" in other):
            raise call.spot.error(f"{pattern} and {other} must both have a *, or neither")
        before, _, after = pattern.partition("*")
        first, _, last = other.partition("*")
        found = [(name, first + name[len(before) : len(name) - len(after)] + last) for name in names]
        return source, target, found if "*" in pattern else [(names[0], other)]

    def copy(self, call: Call, name: str) -> None:
        source, target, pairs = self.pairs(call)
        self.put(call, source.maker, target.maker, pairs, source is target)

    def copy_tree(self, call: Call, name: str) -> None:
        source, names = self.found(call.positional[0])
        target, _ = self.pattern(call.positional[1])
        prefix = _text(call.positional[2])
        pairs = [(each, f"{prefix}.{each}" if prefix else each) for each in below(source.maker, names)]
        self.put(call, source.maker, target.maker, pairs, source is target)

    def put(self, call: Call, source: Maker, target: Maker, pairs: list[tuple[str, str]], within: bool) -> None:
        """Copy nodes with their numbers and, unless copy=value, their connections. Between models, connections to nodes
        that are not copied are dropped."""
        self.count(len(pairs), call.spot)
        option = next((_text(word).lower() for key, word in call.named if key.lower().startswith("copy")), "all")
        if option not in ("all", "value"):
            raise call.spot.error(unknown_name("value of the option copy", option, ("all", "value")))
        before = {name: source.nodes[name] for name, _ in pairs}
        after: dict[Node, Node] = {}
        for old, new in pairs:
            node = before[old]
            mine = {**node.attributes}
            if new in target.nodes:
                after[node] = changed(target.nodes[new], node, mine, only_value=option == "value", spot=call.spot)
            else:
                after[node] = target.nodes[new] = Node(node.operation, mine, new, node.spot, node.frame)
        for old, _ in pairs if option == "all" else ():
            operands = [
                after.get(item, item if within else NOTHING) if isinstance(item, Node) else item
                for item in inputs(source, before[old])
            ]
            join(after[before[old]], operands)

    def count(self, more: int, spot: Spot) -> None:
        self.made += more
        if self.made > MAX_NODES:
            raise spot.error(f"the script makes more than {MAX_NODES:,} nodes")

    def copy_inputs(self, call: Call, name: str) -> None:
        source, target, pairs = self.pairs(call)
        self.require_same(call, source, target)
        for old, new in pairs:
            if new not in target.maker.nodes:
                raise call.spot.error(unknown_name("node", new, target.maker.nodes))
            join(target.maker.nodes[new], inputs(source.maker, source.maker.nodes[old]))

    def set_input(self, call: Call, name: str) -> None:
        model, names = self.found(call.positional[0])
        other, node = self.one(call.positional[2])
        self.require_same(call, model, other)
        number = _text(call.positional[1])
        for each in names:
            count = len(inputs(model.maker, model.maker.nodes[each]))
            if not number.isdigit() or int(number) >= count:
                raise call.spot.error(f"{each} has {count} operands, which count from 0; there is no operand {number}")
            replace_operand(model.maker, model.maker.nodes[each], int(number), node)

    def set_inputs(self, call: Call, name: str) -> None:
        model, node = self.one(call.positional[0])
        words, count = call.positional[1:], len(inputs(model.maker, node))
        if len(words) != count:
            raise call.spot.error(f"{_text(call.positional[0])} has {count} operands, but got {len(words)}")
        for number, word in enumerate(words):
            other, operand = self.one(word)
            self.require_same(call, model, other)
            replace_operand(model.maker, node, number, operand)

    @staticmethod
    def require_same(call: Call, one: Ndl, other: Ndl) -> None:
        if one is not other:
            raise call.spot.error(
                f"{call.function} connects nodes of one model; copy them first with CopyNode or CopySubTree"
            )

    def remove(self, call: Call, name: str) -> None:
        for word in call.positional:
            model, names = self.found(word)
            gone = {model.maker.nodes.pop(each) for each in names}
            for node in model.maker.nodes.values():
                operands = inputs(model.maker, node)
                if any(isinstance(item, Node) and item in gone for item in operands):
                    join(node, [NOTHING if isinstance(item, Node) and item in gone else item for item in operands])
            for nodes in model.maker.roles.values():
                nodes[:] = [node for node in nodes if node not in gone]

    def rename(self, call: Call, name: str) -> None:
        source, target, pairs = self.pairs(call)
        self.require_same(call, source, target)
        nodes = source.maker.nodes
        renamed = dict(pairs)
        taken = [new for old, new in pairs if new in nodes and new not in renamed]
        if taken:
            raise call.spot.error(f"there already is a node {taken[0]!r}; remove it, or choose another name")
        source.maker.nodes = {renamed.get(old, old): node for old, node in nodes.items()}

    # -- properties ---------------------------------------------------------------------------------------------------

    def set_property(self, call: Call, name: str) -> None:
        model, names = self.found(call.positional[0])
        self.give(call, model.maker, names, roles=True)

    def set_property_below(self, call: Call, name: str) -> None:
        model, names = self.found(call.positional[0])
        self.give(call, model.maker, below(model.maker, names), roles=False)

    def give(self, call: Call, maker: Maker, names: Iterable[str], roles: bool) -> None:
        word, value = _text(call.positional[1]), _text(call.positional[2])
        known = [*_RATES, *((*TAGS, _FREEZE) if roles else ())]
        matching = [one for one in known if _is_short_for(word, one)]
        if not matching and roles and word.lower() in ("recurrent", "finalcriterion"):
            matching = ["criterion"] if word.lower() == "finalcriterion" else []
        elif not matching:
            raise call.positional[1].spot.error(unknown_name("property", word, known))
        for each in names:
            node = maker.nodes[each]
            if matching and matching[0] in TAGS:
                role = TAGS[matching[0]]
                maker.tag(role, node)
                maker.roles[role] = maker.roles[role] if _flag(call, value) else maker.roles[role][:-1]
            elif matching == [_FREEZE]:
                for key, setting in frozen(node).items() if _flag(call, value) else ():
                    change(node, key, setting)
            elif matching and node.operation == "Parameter":
                change(node, "rate", _number(call, value) if matching[0] == _RATE else float(_flag(call, value)))

    def revise(self, call: Call, name: str) -> None:
        model, names = self.found(call.positional[0])
        for each in names:
            node = model.maker.nodes[each]
            if node.operation != "Parameter":
                raise call.spot.error(f"{each} is not a parameter; only parameters have values to change")
            del model.maker.nodes[each]
            shape = node.attributes["shape"]
            path = _text(call.positional[1])
            fresh = model.maker.call(
                call.spot, each, "LearnableParameter", [model.maker.evaluator.force(shape)],
                {"init": "fromFile", "initFromFilePath": path},
            )  # fmt: skip
            rate = node.attributes["rate"]
            model.maker.nodes[each] = node
            assert isinstance(node.attributes, dict)  # made by this module, or by the library
            node.attributes.clear()
            node.attributes.update({**fresh.attributes, "rate": rate})


_RATE, _FREEZE = "learningRateMultiplier", "freezeParameters"
_RATES = ("needGradient", "needsGradient", "computeGradient", _RATE)

Command = Callable[[_Editor, Call, str], None]

# The names of a command, its smallest and largest number of arguments, and what does it.
_COMMANDS: dict[tuple[str, ...], tuple[int, int, Command]] = {
    ("CreateModel", "CreateModelWithName"): (0, 1, _Editor.create),
    ("LoadModel", "LoadModelWithName"): (1, 2, _Editor.load_model),
    ("LoadNDLSnippet",): (2, 2, _Editor.load_snippet),
    ("SaveModel", "SaveDefaultModel", "SaveModelWithName"): (1, 2, _Editor.save),
    ("SetDefaultModel",): (1, 1, _Editor.set_default),
    ("UnloadModel",): (1, 99, _Editor.unload),
    ("DumpModel", "DumpNode", "Dump"): (1, 3, _Editor.dump),
    ("CopyNode", "Copy"): (2, 2, _Editor.copy),
    ("CopySubTree",): (3, 3, _Editor.copy_tree),
    ("CopyNodeInputs", "CopyInputs"): (2, 2, _Editor.copy_inputs),
    ("SetNodeInput", "SetInput"): (3, 3, _Editor.set_input),
    ("SetNodeInputs", "SetInputs"): (2, 9, _Editor.set_inputs),
    ("SetProperty",): (3, 3, _Editor.set_property),
    ("SetPropertyForSubTree",): (3, 3, _Editor.set_property_below),
    ("RemoveNode", "Remove", "DeleteNode", "Delete"): (1, 99, _Editor.remove),
    ("Rename", "RenameNode"): (2, 2, _Editor.rename),
    ("ReviseParameter",): (2, 2, _Editor.revise),
}
_WITH_A_VALUE = ("CreateModel", "LoadModel")  # everything else is NDL, if a name stands before it


def _command(function: str, is_assigned: bool) -> Command | None:
    """What runs a command, whose name may be cut to half its length; None if it is not a command."""
    exact = {name.lower(): row for names, row in _COMMANDS.items() for name in names}
    short = [name for name in exact if _is_short_for(function, name)]
    if not short or (is_assigned and not any(_is_short_for(function, name) for name in _WITH_A_VALUE)):
        return None
    least, most, command = exact.get(function.lower(), exact[short[0]])

    def checked(editor: _Editor, call: Call, name: str) -> None:
        if not least <= len(call.positional) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise call.spot.error(f"{function} takes {wanted} arguments, but got {len(call.positional)}")
        command(editor, call, name)

    return checked


def _is_short_for(word: str, name: str) -> bool:
    return name.lower().startswith(word.lower()) and len(word) >= len(name) // 2


def _text(word: Expression) -> str:
    if not isinstance(word, Word):
        raise word.spot.error("a name is expected here")
    return word.text


def _flag(call: Call, text: str) -> bool:
    if text.lower() not in ("true", "t", "1", "false", "f", "0"):
        raise call.spot.error(f"true or false is expected, not {text[:40]!r}")
    return text.lower() in ("true", "t", "1")


def _number(call: Call, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise call.spot.error(f"a number is expected, not {text[:40]!r}") from None
