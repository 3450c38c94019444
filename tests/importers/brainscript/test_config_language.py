"""The configuration around a network: merging, inheritance, variables, includes, arrays, errors with their place."""

from pathlib import Path

import pytest

from convolve.errors import ConvolveError, FormatError, UsageError
from convolve.importers.brainscript.config import Block, read_config


def config(folder: Path, text: str, *arguments: str) -> Block:
    file = folder / "a.cntk"
    file.write_text(text, encoding="utf-8")
    return read_config([str(file), *arguments])[0]


def test_values_have_types_and_keys_no_case(tmp_path: Path) -> None:
    root = config(tmp_path, 'a = 1; B = "two words" , c\nd=0.5*2:1 ; e = (1:2)\nf = T\ng = 1e-3')
    assert root.integer("A", 0) == 1
    assert root.text("b") == "two words"
    assert root.flag("c") and root.flag("f")
    assert root.numbers("d") == (0.5, 0.5, 1.0)
    assert root.integers("e") == (1, 2)
    assert root.number("g", 0) == 0.001
    assert root.number("missing", 7) == 7


def test_comments_go_by_the_first_hash_of_a_line(tmp_path: Path) -> None:
    root = config(tmp_path, '# whole line\na = x#y # gone\nb = 1 # gone\nc = "p #q" \n'.replace('"p #q"', "p#q"))
    assert root.text("a") == "x#y # gone"  # only the first # is looked at, and it is part of a word
    assert root.integer("b", 0) == 1


def test_a_hash_behind_a_blank_cuts_quoted_texts_too(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="line 1, column 5: this quote is never closed"):
        config(tmp_path, 'a = "x #y"')


def test_keys_are_looked_for_in_the_blocks_around(tmp_path: Path) -> None:
    root = config(tmp_path, "n = 1\nm = 5\nTrain = { n = 2 \n SGD = [ k = 3 ] }")
    sgd = root.block("Train").block("SGD")
    assert (sgd.integer("n", 0), sgd.integer("m", 0), sgd.integer("k", 0)) == (2, 5, 3)
    assert sgd.integer("m", 0, inherit=False) == 0


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("Train=[SGD=[maxEpochs=3]]", (3, 64)),  # merged
        ("Train={SGD={maxEpochs=3}}", (3, 0)),  # replaced
        ("train=[sgd=[minibatchSize=1:2]]", (1, 1)),
    ],
)
def test_the_command_line_wins(tmp_path: Path, argument: str, expected: tuple[int, int]) -> None:
    root = config(tmp_path, "Train = {\n SGD = {\n maxEpochs = 1\n minibatchSize = 64\n }\n}", argument)
    sgd = root.block("Train").block("SGD")
    assert (sgd.integer("maxEpochs", 0), sgd.integers("minibatchSize", (0,))[0]) == expected


def test_records_merge_one_after_the_other(tmp_path: Path) -> None:
    root = config(tmp_path, "a={x=1;y=2}", "a=[y=3]", "a=[z=4;x=5]")
    block = root.block("a")
    assert [block.integer(key, 0) for key in "xyz"] == [5, 3, 4]


def test_variables_are_pasted_where_they_are_read(tmp_path: Path) -> None:
    inner = 'T = { file = "$DataDir$/$name$.txt"\n name = inner\n shape = $w$:$w$:3 }'
    text = f'root = "."\ndataDir = "$root$/data"\n{inner}\nw=1'
    block = config(tmp_path, text, "w=28").block("T")
    assert block.text("file") == "./data/inner.txt"
    assert block.integers("shape") == (28, 28, 3)
    assert config(tmp_path, "a = $1 and 5$").text("a") == "$1 and 5$"


def test_a_variable_of_the_same_name_is_that_of_the_block_around(tmp_path: Path) -> None:
    """CNTK replaces the variables of a block's text when it enters the block: the outermost value is handed on."""
    text = 'size = 64\nname = "a"\nTrain = { size = "$size$" ; own = 3 ; SGD = { size = $size$ ; own = $own$ } }'
    for arguments, expected in (((), 64), (("size=32",), 32)):
        sgd = config(tmp_path, text, *arguments).block("Train").block("SGD")
        assert (sgd.integer("size", 0), sgd.integer("own", 0)) == (expected, 3)
    shadowed = config(tmp_path, 'p = "outer"\nT = { p = "inner" ; file = "$p$.log" }').block("T")
    assert (shadowed.text("p"), shadowed.text("file")) == ("inner", "outer.log")


def test_a_braced_value_may_begin_on_the_next_line(tmp_path: Path) -> None:
    assert config(tmp_path, "T =\n[\n x = 1\n]").block("T").integer("x", 0) == 1


def test_arrays_of_blocks_and_other_separators(tmp_path: Path) -> None:
    root = config(tmp_path, "d = ({ n=1 } : { n=2 })\nf = (;C:/a;b)\n")
    assert [block.integer("n", 0) for block in root.blocks("d")] == [1, 2]
    assert root.words("f") == ("C:/a", "b")
    assert config(tmp_path, "d = ()\ne = ( )").blocks("d") == []


def test_files_are_joined_and_included(tmp_path: Path) -> None:
    (tmp_path / "b.cntk").write_text("\ufeffx = 2\r\ninclude=c.cntk\r\ny = 3\r\n", encoding="utf-8")
    (tmp_path / "c.cntk").write_text("z = 4\ninclude=b.cntk\nx = 5")
    (tmp_path / "a.cntk").write_text("x = 1")
    root, folders = read_config([f"{tmp_path / 'a.cntk'}+{tmp_path / 'b.cntk'}", "y=6"])
    assert [root.integer(key, 0) for key in "xyz"] == [5, 6, 4]
    assert folders == (tmp_path.resolve(),)


def test_places_survive_includes_and_variables(tmp_path: Path) -> None:
    (tmp_path / "c.cntk").write_text("u = 1\nbad = 1 2\n")
    root = config(tmp_path, "a = 1\ninclude=c.cntk\n\n  worse = $bad$x\n")
    with pytest.raises(FormatError, match=r"c\.cntk: line 2, column 7: a number is expected, not .1 2."):
        root.integer("bad", 0)
    assert str(root.place("worse")) == f"{tmp_path / 'a.cntk'}: line 4, column 11"


def test_keys_that_nobody_asks_for_are_named(tmp_path: Path) -> None:
    block = config(tmp_path, "S = {\n  maxEpoch = 3\n}").block("S")
    block.integer("maxEpochs", 0)
    (sentence,) = block.unread()
    assert config(tmp_path, "used = 1\nS = {\n  x = $used$\n}").unread() == []
    assert sentence.endswith("a.cntk: line 2, column 3: unknown key 'maxEpoch'; did you mean 'maxEpochs'?")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = {\n b = 1\n", "line 1, column 5: this '{' is never closed"),
        ("a = 1\n}", "line 2, column 1: a key is expected"),
        ("a = (1:2]", "line 1, column 9: unexpected ']', which closes nothing"),
        ('a = "x', "line 1, column 5: this quote is never closed"),
        ("= 5", "line 1, column 1: a key is expected"),
        ("a = $nowhere$", "line 1, column 5: no variable is called 'nowhere'"),
        ("a = $b$\nb = $a$", "refers to itself"),
        ("a = x1", "line 1, column 5: a number is expected, not 'x1'"),
        ("a = 1_000", "a number is expected"),
        ("a = 1*99999999", "must have 1 to 100000 elements"),
        ("a = " + "(" * 60, "never closed"),
        ("include=nothing.cntk", "line 1, column 1: cannot find 'nothing.cntk'"),
        ("include=$x$.cntk", "an include cannot contain variables"),
    ],
)
def test_errors_name_line_and_column(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FormatError) as error:
        config(tmp_path, text).numbers("a")
    assert words in str(error.value)


def test_growth_is_bounded(tmp_path: Path) -> None:
    """Twenty doublings of a text; blocks in blocks; thousands of merges."""
    doubling = "\n".join(f"v{i} = $v{i + 1}$$v{i + 1}$" for i in range(40)) + "\nv40 = x"
    with pytest.raises(FormatError, match="more than 524288 characters"):
        config(tmp_path, doubling).text("v0")
    nested = config(tmp_path, "b=[" * 60 + "]" * 60)
    with pytest.raises(FormatError, match="blocks are nested more than 50 deep"):
        while True:
            nested = nested.block("b")
    assert config(tmp_path, "a={}\n" + "a=[x=1]\n" * 5_000).block("a").integer("x", 0) == 1


def test_command_lines_without_a_file_or_with_one_twice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no configuration"):
        read_config(["a=1"])
    config(tmp_path, "a=1")
    with pytest.raises(UsageError, match="given twice"):
        read_config([f"{tmp_path}/a.cntk+{tmp_path}/a.cntk"])
    (tmp_path / "circle.cntk").symlink_to(tmp_path / "circle.cntk")
    for name in ("b", "circle"):
        with pytest.raises(ConvolveError, match="cannot read"):
            read_config([f"{tmp_path}/{name}.cntk"])
