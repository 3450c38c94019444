"""BrainScript itself: what expressions come to, lazily, and what is said of those that come to nothing."""

from pathlib import Path
from typing import Any

import pytest

from convolve.errors import ConvolveError, FormatError, UnsupportedError
from convolve.importers.brainscript.evaluate import Evaluator, deep_calls
from convolve.importers.brainscript.network import read_network
from convolve.importers.brainscript.syntax import parse_expression
from convolve.importers.brainscript.text import of_lines
from convolve.importers.brainscript.values import Array


def value(source: str) -> Any:
    """The value of an expression; arrays as lists."""
    evaluator = Evaluator([])

    def plain(item: Any) -> Any:
        found = evaluator.force(item)
        return [plain(inner) for inner in found.items] if isinstance(found, Array) else found

    with deep_calls():
        return plain(evaluator.value(parse_expression(of_lines("t.bs", source.split("\n"))), evaluator.library, ""))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("-2 ** 2", 4),  # the sign binds tighter
        ("2 ** 3 ** 2", 64),  # from left to right, as *
        ("7 % 4 - 1/4", 2.75),
        ("0x10 + .5e1", 21),
        ("1 < 2 && !(2 <= 1) || false", True),
        ("'a' + \"b\" == 'ab'", True),
        ("if 1 == 2 then 3 else 4 + 5", 9),
        ("1 : 2 : 3", [1, 2, 3]),
        ("(1 : 2) : 3", [1, 2, 3]),
        ("1 : (2 : 3)", [1, [2, 3]]),
        ("[| 5 |]", [5]),
        ("[||]", []),
        ("array[0..3] (i => i*i)", [0, 1, 4, 9]),
        ("array[1..0] (i => i)", []),
        ("{ v[i:0..2] = 10*i }.v", [0, 10, 20]),
        ("(1:2:3)[1]", 2),
        ("{ a = b + 1 ; b = 2 }.a", 3),  # members may come later
        ("{ a = 13 b = 42 }.b", 42),  # nothing continues 13
        ("{ f (x, y = 2*3) = x - y }.f (1)", -5),
        ("{ f (x, y = 2) = x - y }.f (1, y = 5)", -4),
        ("{ f {x} = x + 1 }.f {1}", 2),
        ("{ n = 1 ; f (x) = x + n ; g = { n = 10 ; r = f (5) }.r }.g", 6),  # the scope of the definition
        ("(x => x * x) (3)", 9),
        ("((x => x + 1) >> (x => x * 2)) (3)", 8),
        ("((x => x + 1) << (x => x * 2)) (3)", 7),
        ("Sequential ((x => x + 1) : (x => x * 2) : (x => x - 3)) (1)", 1),
        ("Sequential (((x => x + 1) : (x => x * 2)) : (x => x * x)) (1)", 16),
        ("LayerStack {3, i => (x => 10*x + i)} (0)", 12),
        ("{ f (n) = if n == 0 then 1 else n * f (n-1) }.f (10)", 3628800),
        ("{ a = Fail ('never') ; b = 1 }.b", 1),  # what nobody needs is not computed
        ("({ a = 1 ; b = 2 } with { b = 3 }).b", 3),
        ("Length (1:2:3) + Length ('abc')", 6),
        ("Repeat (3, 7)", [7, 7, 7]),
        ("Min (1, 2) + Max (3, 4) + IntDiv (7, 2) + Mod (7, 4) + Sign (-3)", 10),
        ("Format (3, 'n=%d') + Replace ('a-b', '-', '+')", "n=3a+b"),
        ("{ n = None ; r = IsNumber (1) && IsArray (1:2) && !IsString (1) }.r", True),
        ("Floor (2.7) + Round (2.5) + Sqrt (9)", 8),
        ("1 // nothing\n + /* still */ 2 # the end", 3),
        ("{ a = 1 ; }.a", 1),
        ("array[1..3] (i => array[1..i] (j => j))", [[1], [1, 2], [1, 2, 3]]),
    ],
)
def test_values(source: str, expected: Any) -> None:
    assert value(source) == expected


def test_a_member_is_computed_once() -> None:
    """2^60 additions, if every use of a member computed it anew."""
    members = " ".join(f"a{i} = a{i + 1} + a{i + 1}" for i in range(60))
    assert value("{ " + members + " a60 = 1 }.a0") == 2.0**60


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 +", "line 1, column 4: the text ends where a value is expected"),
        ("(1 + 2", "line 1, column 7: the text ends where"),
        ("{ a = 1 ]", "line 1, column 9: unexpected ']'"),
        ("1 $ 2", "line 1, column 3: '$' has no meaning here"),
        ("{ a = 'x }.a", "line 1, column 7:"),
        ("if true then 1", "the text ends where"),
        ("unknwon", "line 1, column 1: unknown name 'unknwon'"),
        ("{ abc = 1 ; b = abd }.b", "line 1, column 17: unknown name 'abd'; did you mean 'abc'?"),
        ("{ a = 1 }.b", "unknown member 'b'"),
        ("{ a = 1\n a = 2 }.a", "line 2, column 2: 'a' is defined twice"),
        ("{ a = b ; b = a }.a", "a depends on itself"),
        ("1 + 'a'", "line 1, column 3: + is not defined for a number and a string"),
        ("1 / 0", "1 / 0 is not a number"),
        ("0 ** -1", "is not a number"),
        ("10 ** 400", "is not a number"),
        ("(-8) ** 0.5", "is not a number"),
        ("1 .* 2", ".* is not defined for a number and a number"),
        ("true + 1", "+ is not defined for a boolean and a number"),
        ("if 1 then 2 else 3", "a condition must be true or false, not a number"),
        ("(1:2)[2]", "there is no element 2 in an array of 2"),
        ("(1:2)[0.5]", "an index must be a whole number, not 0.5"),
        ("3[0]", "a number has no elements"),
        ("(3).x", "a number has no member 'x'"),
        ("3 (4)", "a number is called as if it were a function"),
        ("(x => x) (1, 2)", "takes 1 arguments (x), but got 2"),
        ("{ f (x, rate = 1) = x }.f (1, rates = 2)", "f: unknown optional argument 'rates'; did you mean 'rate'?"),
        ("{ f (x, x) = x }.f", "the parameter 'x' is given twice"),
        ("array[0..1e9] (i => i)", "an array has 1,000,000,001 elements"),
        ("Fail ('as asked')", "line 1, column 1: as asked"),
        ("Format (1, '%99999999d')", "cannot be written as"),
        ("Format (1, '%s')", "cannot be written as"),
        ("include 'x.bs'", "line 1, column 1: cannot find 'x.bs'"),
        ("{ include 'x.bs' }.a", "line 1, column 3: cannot find 'x.bs'"),
        ("{ f (x) = f (x) }.f (1)", "nested deeper than"),
        ("{ f (n) = f (n-1) + f (n-2) }.f (30)", "nested deeper than"),
        ("{ f (n) = if n < 2 then 1 else f (n-1) + f (n-2) }.f (40)", "not complete after"),
        ("{ d (s, n) = if n == 0 then s else d (s + s, n-1) }.d ('xx', 50)", "a string has more than"),
        ("(" * 3000 + "1" + ")" * 2999, "the text ends where"),
        ("- " * 5000 + "1", "nested deeper than"),
        ("1" + "+1" * 5000, "nested deeper than"),
    ],
)
def test_errors(source: str, words: str) -> None:
    with pytest.raises(FormatError) as error:
        value(source)
    assert words in str(error.value)


def test_unknown_objects_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"t\.bs: line 1, column 1: new RecurrentThing is not supported"):
        value("new RecurrentThing [ a = 1 ]")


def test_errors_tell_the_chain_of_calls() -> None:
    """Where the mistake is, and who called; inside the library, the place where it was called from."""
    source = "{\n inner (x) = x + nope\n outer (x) = inner (x)\n r = outer (1)\n}.r"
    with pytest.raises(FormatError) as error:
        value(source)
    assert str(error.value) == (
        "t.bs: line 2, column 18: unknown name 'nope'; did you mean 'None'? "
        "(in inner, called at line 3; in outer, called at line 4)"
    )
    with pytest.raises(
        FormatError, match=r"^t\.bs: line 2, column 2: LayerStack: - is not defined for a string and a number"
    ):
        value("{ a =\n LayerStack {'x', i => i} }.a")


def networks(folder: Path, **files: str) -> Any:
    for name, text in files.items():
        (folder / f"{name}.bs").write_text(text)
    return read_network(of_lines(str(folder / "net.cntk"), [files["net"]]), [folder])


def test_included_members_are_members(tmp_path: Path) -> None:
    network = networks(
        tmp_path,
        net="{ include 'macros.bs' ; features = Input {4} ; z = Scaled (features) }",
        macros="include 'more.bs'\nScaled (x) = factor .* x",
        more="factor = 3",
    )
    assert network.members["z"].kind == "ElementTimes"
    with pytest.raises(FormatError, match="includes itself"):
        networks(tmp_path, net="{ include 'a.bs' }", a="include 'b.bs'", b="include 'a.bs'")
    with pytest.raises(FormatError, match=r"c\.bs: line 2, column 3: unexpected '\)'"):
        networks(tmp_path, net="{ include 'c.bs' }", c="x = 1\ny )")


def test_names_of_nodes_are_cntks(tmp_path: Path) -> None:
    """The names that CNTK's own trainer wrote into a published model of this form."""
    network = networks(
        tmp_path,
        net="""{
            Layer (inDim, outDim, x) = { W = Parameter (outDim, inDim) ; b = Parameter (outDim, 1) ; z = W * x + b }
            SigmoidLayer (inDim, outDim, x) = Sigmoid (Layer (inDim, outDim, x).z)
            features = Input {784} ; labels = Input {10}
            featScaled = 1/256 * features
            h1 = SigmoidLayer (784, 200, featScaled)
            z = Layer (200, 10, h1)
            ce = CrossEntropyWithSoftmax (labels, z.z)
            top5Errs = ErrorPrediction (labels, z.z, topN=5)
            criterionNodes = ce
        }""".replace("\n", " "),
    )
    names, waiting = set(), [*network.members.values()]
    while waiting:
        operation = waiting.pop()
        names.add(operation.name)
        waiting += operation.inputs
    assert names == {
        "ce", "featScaled", "featScaled.ElementTimesArgs[0]", "features", "h1", "h1._.W", "h1._.b", "h1._.z",
        "h1._.z.PlusArgs[0]", "inputs[2]", "labels", "top5Errs", "z.W", "z.b", "z.z", "z.z.PlusArgs[0]",
    }  # fmt: skip


def test_lists_of_settings_are_bounded(tmp_path: Path) -> None:
    """Forty doublings of an array that holds nothing."""
    doubled = "d (s, n) = if n == 0 then s else d ([| s ; s |], n-1)"
    with pytest.raises(FormatError, match="an array has more than 10,000 values"):
        networks(tmp_path, net=f"{{ {doubled} ; x = Input {{d ([||], 40)}} }}")


def test_a_recurrent_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvolveError, match="recurrent"):
        networks(tmp_path, net="{ features = Input {4} ; a = ReLU (b) ; b = ReLU (a) }")
