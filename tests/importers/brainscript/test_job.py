"""What a configuration says beside its network: the numbers of a recipe, readers, refusals, warnings."""

import re
from pathlib import Path

import pytest

from convolve.errors import ConvolveError, FormatError, UnsupportedError
from convolve.importers.brainscript import criterion
from convolve.importers.brainscript.job import EvaluateStep, Job, TrainStep, read_job
from convolve.importers.brainscript.reader import Images, TextStream
from convolve.recipes import load_recipe
from convolve.run_config import run_job
from convolve.run_config.training import recipe_of
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.schedule import PlateauSpec
from convolve.training.schedule import step_size
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.scale import Scale

EXAMPLES = Path(__file__).parents[3] / "examples" / "BrainScript"
CORPUS = Path(__file__).parents[2] / "corpus" / "brainscript" / "valid"

NETWORK = """
    BrainScriptNetworkBuilder = {
        features = Input {(4:3:1)} ; labels = Input {2}
        z = LinearLayer {2} (features)
        ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
        criterionNodes = (ce) ; evaluationNodes = (errs)
    }"""
READER = """
    reader = {
        readerType = "CNTKTextFormatReader" ; file = "train.txt"
        input = { features = { dim = 12 ; format = "dense" } ; labels = { dim = 2 ; format = "dense" } }
    }"""
SGD = """
    SGD = { maxEpochs = 2 ; minibatchSize = 8 ; learningRatesPerMB = 0.5 }"""


def job(folder: Path, *blocks: str, head: str = "", arguments: tuple[str, ...] = ()) -> Job:
    file = folder / "job.cntk"
    file.write_text(f"command = Train\nmodelPath = m/net\n{head}\nTrain = {{{''.join(blocks)}\n}}\n", encoding="utf-8")
    return read_job([str(file), *arguments])


def trained(job: Job) -> TrainStep:
    step = job.steps[0]
    assert isinstance(step, TrainStep)
    return step


def test_paths_as_windows_writes_them(tmp_path: Path) -> None:
    """Back slashes separate folders on every system."""
    steps = []
    for slash in "/\\":
        reader = READER.replace("train.txt", f"..{slash}data{slash}train.txt")
        steps.append(trained(job(tmp_path, NETWORK, reader, SGD, head=f"modelPath = m{slash}net")))
    plain, own = steps
    assert own.model_path.parts == ("m", "net") and own.recipe.name == "net"
    assert own.reader.features.file == plain.reader.features.file != "train.txt"


@pytest.mark.parametrize(
    ("example", "recipe"),
    [
        ("ConvNet_MNIST", "mnist"),
        ("ConvNet_CIFAR10_DataAug", "cifar10-aug"),
        ("ConvNetLRN_CIFAR10_DataAug", "cifar10-aug-lrn"),
    ],
)
def test_examples_train_as_the_recipes_of_their_name(example: str, recipe: str) -> None:
    """Both were written from CNTK's files: the text and the Python form of one training."""
    ours, theirs = recipe_of(trained(read_job([str(EXAMPLES / f"{example}.cntk")]))), load_recipe(recipe)
    assert ours.schedule == theirs.schedule
    assert (ours.run.epochs, ours.run.global_batch_size) == (theirs.run.epochs, theirs.run.global_batch_size)
    assert (ours.optimizer.l2, ours.optimizer.unit_gain, ours.model.dropout) == (
        theirs.optimizer.l2, theirs.optimizer.unit_gain, theirs.model.dropout,
    )  # fmt: skip


def test_numbers_of_the_examples() -> None:
    """As CNTK's files have them."""
    step = trained(read_job([str(EXAMPLES / "ConvNet_CIFAR10.cntk")]))
    optimizer = step.recipe.optimizer
    assert step.recipe.model.dropout == (0.0,) * 5 + (0.5,)
    assert (optimizer.momentum, optimizer.momentum_unit) == ((0.0,) * 20 + (607.44,), "time_constant_samples")
    step = trained(read_job([str(EXAMPLES / "AlexNet_ImageNet.cntk"), "dataDir=/there"]))
    schedule, run, optimizer = step.recipe.schedule, step.recipe.run, step.recipe.optimizer
    assert schedule.learning_rates == (0.1,) * 25 + (0.01,) * 25 + (0.001,) * 25 + (0.0001,) * 25 + (0.00001,)
    assert (schedule.reference_batch_size, run.global_batch_size, run.global_batch_sizes) == (256, 256, ())
    assert run.epochs == 112
    assert (optimizer.momentum, optimizer.momentum_unit) == ((0.9,), "per_reference_batch")
    assert optimizer.momentum_reference_batch_size == 256
    assert step.reader.features.file == "/there/train_map.txt"
    assert step.reader.transforms == (
        Crop("randomside", side_ratio=(0.88671875,), jitter_type="uniratio"),
        Scale(227, 227),
    )


def test_every_example_is_read_without_a_warning() -> None:
    for file in EXAMPLES.glob("*.cntk"):
        found = read_job([str(file)])
        assert found.warnings == (), file
        assert [type(step) for step in found.steps] == [TrainStep, EvaluateStep]


def test_idioms_are_read_without_a_warning() -> None:
    for name in ("Idioms_CIFAR10", "OneHidden_MNIST"):
        found = read_job([str(CORPUS / f"{name}.cntk")])
        assert (found.warnings, found.refused) == ((), ()), name


def test_an_older_configuration_edits_by_a_script_that_must_be_there() -> None:
    with pytest.raises(
        FormatError, match=r"AddTop5\.editPath: cannot find 'add_top5\.mel', neither here nor beside the"
    ):
        read_job([str(CORPUS / "OldStyle_MNIST.cntk")])


def test_defaults(tmp_path: Path) -> None:
    step = trained(job(tmp_path, NETWORK, SGD, READER))
    run = step.recipe.run
    assert (run.epoch_samples, step.recipe.model.dropout, run.accumulation_steps) == (0, (0.0,), 1)
    assert step.recipe.optimizer.momentum == (0.9,)
    assert step.recipe.optimizer.momentum_reference_batch_size == 8
    assert (step.resume, step.reader.randomize, step.recipe.run.device) == (True, True, "auto")
    assert job(tmp_path, NETWORK, SGD, READER).log is None
    assert job(tmp_path, NETWORK, SGD, READER, head="stderr = logs/a").log == Path("logs/a_Train.log")


def test_image_readers_old_and_new(tmp_path: Path) -> None:
    old = """
    reader = {
        readerType = "ImageReader" ; file = "map.txt" ; randomize = "auto"
        features = {
            width = 4 ; height = 3 ; channels = 1 ; cropType = "Random" ; cropType = "RandomArea"
            areaRatio = 0.08:1.0 ; aspectRatio = 0.75:1.0 ; jitterType = "UniRatio" ; hflip = true
            interpolations = "cubic" ; meanFile = "mean.xml" ; brightnessRadius = 0.2
        }
        labels = { labelDim = 2 }
    }"""
    reader = trained(job(tmp_path, NETWORK, SGD, old)).reader
    assert reader.transforms == (
        Crop("randomarea", area_ratio=(0.08, 1.0), aspect_ratio=(0.75, 1.0), jitter_type="uniratio", hflip=True),
        Scale(4, 3, "cubic"),
        Color(0.2),
    )
    assert isinstance(reader.features, Images)
    assert (reader.features.mean_file, reader.classes, reader.randomize) == ("mean.xml", 2, True)


def text_reader(*streams: str) -> str:
    return (
        f'\nreader = {{ readerType = "CNTKTextFormatReader" ; file = "a.txt" ; input = {{ {" ; ".join(streams)} }} }}'
    )


def test_streams_go_by_the_names_of_the_networks_inputs(tmp_path: Path) -> None:
    network = NETWORK.replace("labels", "classes").replace("features", "image")
    streams = ["other = { dim = 3 }", 'image = { dim = 12 ; alias = "x" }', 'classes = { dim = 2 ; format = "sparse" }']
    reader = trained(job(tmp_path, network, SGD, text_reader(*streams))).reader
    assert reader.features == TextStream("image", "a.txt", "x", 12, False)
    assert (reader.labels, reader.classes) == (TextStream("classes", "a.txt", "classes", 2, True), 2)
    with pytest.raises(FormatError, match="no stream for labels 'labels' of the network; it has features"):
        job(tmp_path, NETWORK, SGD, text_reader("features = { dim = 12 }"))


def test_images_without_transforms_have_the_size_of_the_network(tmp_path: Path) -> None:
    images = """{ type = "ImageDeserializer" ; module = "ImageReader" ; file = "map.txt" ; input = {
        features = { transforms = () } ; labels = { labelDim = 5 } } }"""
    assert trained(job(tmp_path, NETWORK, SGD, f"\nreader = {{ deserializers = ({images}) }}")).reader.transforms == ()


def test_other_commands_of_the_file_use_keys_too(tmp_path: Path) -> None:
    """A key is unknown where no command of the file asks for it, run or not, and no $variable$ names it."""
    test = f"""Test = {{ action = "test" ; evalNodeNames = errs {READER.replace("train.txt", "$testFile$")} }}"""
    head = f"testFile = test.txt\nevalNodeNames = errs\nminibatchsize = 4\nnothing = 1\n{test}\n"
    (warning,) = job(tmp_path, NETWORK, SGD, READER, head=head).warnings
    assert "unknown key 'nothing'" in warning


def test_actions_that_only_print_are_skipped_with_a_note(tmp_path: Path) -> None:
    head = 'Show = { action = "dumpNode" ; printValues = true ; nodeName = "z" }\nDraw = { action = "plot" }'
    found = job(tmp_path, NETWORK, SGD, READER, head=head, arguments=("command=Show:Train:Draw",))
    assert [type(step) for step in found.steps] == [TrainStep] and found.refused == ()
    assert len(found.warnings) == 2 and all("it is skipped" in warning for warning in found.warnings)


def test_a_network_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    """With the braces in the file, as Microsoft's page has it, or around the include; forms of the old command line."""
    inner = NETWORK.partition("{")[2].rpartition("}")[0]
    (tmp_path / "members.bs").write_text(inner, encoding="utf-8")
    (tmp_path / "record.bs").write_text(f"# a record\n{{{inner}}}", encoding="utf-8")
    forms = ('(new ComputationNetwork\n include "record.bs"\n)', '(new ComputationNetwork { include "members.bs" })',
             '({ all = new ComputationNetwork include "record.bs" }.all)')  # fmt: skip
    for form in forms:
        found = trained(job(tmp_path, f"\nBrainScriptNetworkBuilder = {form}", SGD, READER))
        assert criterion.trained(found.network).outputs[0].name == "z"
    assert read_job([f"configFile={tmp_path / 'job.cntk'}", "modelPath=other"]).name == "job"


def test_several_deserializers_make_one_pair(tmp_path: Path) -> None:
    """Images of one file, labels of another; the images' own labels are then not asked for."""
    images = """{ type = "ImageDeserializer" ; module = "ImageReader" ; file = "map.txt" ; input = {
        features = { transforms = ({ type = "Scale" ; width = 4 ; height = 3 ; channels = 1 }) }
        ignored = { labelDim = 5 } } }"""
    text = """{ type = "CNTKTextFormatDeserializer" ; module = "CNTKTextFormatReader" ; file = "labels.txt"
        input = { labels = { dim = 2 ; format = "sparse" } } }"""
    found = job(tmp_path, NETWORK, SGD, f"\nreader = {{ deserializers = ({images} : {text}) }}")
    reader = trained(found).reader
    assert isinstance(reader.features, Images) and reader.features.file == "map.txt"
    assert (reader.labels, reader.classes) == (TextStream("labels", "labels.txt", "labels", 2, True), 2)
    assert (found.refused, found.warnings) == ((), ())
    own = trained(job(tmp_path, NETWORK, SGD, f"\nreader = {{ deserializers = ({images}) }}")).reader
    assert (own.labels, own.classes) == (None, 5)


def test_sizes_of_minibatches_and_their_rates(tmp_path: Path) -> None:
    """What is said for a minibatch is meant for that of the epoch; CNTK keeps both per sample."""
    sgd = "\nSGD = { maxEpochs = 9 ; minibatchSize = 8:16*2:32 ; learningRatesPerMB = 0.8*2:0.1 ; momentumPerMB = 0.9 }"
    recipe = recipe_of(trained(job(tmp_path, NETWORK, sgd, READER)))
    assert [recipe.run.batch_size(epoch) for epoch in range(6)] == [8, 16, 16, 32, 32, 32]
    for epoch, (rate, size) in enumerate([(0.8, 8), (0.8, 16), (0.1, 16), (0.1, 32), (0.1, 32)]):
        step = step_size(recipe.optimizer, recipe.schedule, epoch * 100, size, 100, 900)
        assert (step.lr, step.momentum) == pytest.approx((rate, 0.9))


def test_reduce_on_plateau(tmp_path: Path) -> None:
    sgd = """
    SGD = { maxEpochs = 2 ; learningRatesPerMB = 0.5*4 ; AutoAdjust = [
        autoAdjustLR = "AdjustAfterEpoch" ; reduceLearnRateIfImproveLessThan = 0.01 ; learnRateDecreaseFactor = 0.5
        increaseLearnRateIfImproveMoreThan = 0.2 ; learnRateIncreaseFactor = 1.2 ; learnRateAdjustInterval = 2
        loadBestModel = false ; useEvalCriterionControlLR = true ] }"""
    reader = READER + READER.replace("reader", "cvReader", 1)
    recipe = trained(job(tmp_path, NETWORK, sgd, reader)).recipe
    assert recipe.plateau == PlateauSpec(
        every_epochs=2, monitor="validation_error", threshold=0.01, factor=0.5, raise_threshold=0.2, raise_factor=1.2,
        rollback=False,
    )  # fmt: skip
    assert len(recipe.schedule.learning_rates) == 4 and recipe.schedule.min_lr_per_sample == 1e-9


@pytest.mark.parametrize(
    ("layers", "sgd", "penalized", "refused"),
    [
        ("true:true", SGD, False, ""),
        ("false:false", SGD, True, ""),
        ("false:false", SGD.replace("{", "{ disableRegInBatchNormalization = true ;"), False, ""),
        ("true:false", SGD, False, ""),  # without penalties there is nothing to leave out
        ("true:false", SGD.replace("{", "{ L2RegWeight = 0.1 ;"), False, "disableRegularization of some layers only"),
    ],
)
def test_batch_normalization_without_penalties(
    tmp_path: Path, layers: str, sgd: str, penalized: bool, refused: str
) -> None:
    norms = " >> ".join(f"BatchNormalizationLayer {{disableRegularization = {flag}}}" for flag in layers.split(":"))
    network = NETWORK.replace("LinearLayer {2} (features)", f"LinearLayer {{2}} (({norms}) (features))")
    found = job(tmp_path, network, sgd, READER)
    assert trained(found).recipe.optimizer.penalize_batch_norm is penalized
    assert refused in "".join(found.refused) and bool(found.refused) == bool(refused)


def test_everything_that_is_not_supported_is_said_at_once(tmp_path: Path) -> None:
    sgd = """
    SGD = {
        maxEpochs = 2 ; learningRatesPerSample = 0.1
        gradUpdateType = "RmsProp" ; gaussianNoiseInjectStd = 0.1
        autoAdjust = { autoAdjustLR = "SearchBeforeEpoch" }
    }"""
    reader = READER.replace('"train.txt"', '"train.txt" ; maxErrors = 3')
    found = job(tmp_path, NETWORK, sgd, reader, head="precision = half")
    with pytest.raises(UnsupportedError) as error:
        run_job(found, lambda event, values: None)
    places = re.findall(r"line (\d+), column \d+: ([\w.]+): [^;]* is not supported", str(error.value))
    assert [name for _, name in places] == [
        "precision", "Train.reader.maxErrors", "Train.SGD.autoAdjust.autoAdjustLR", "Train.SGD.gradUpdateType",
        "Train.SGD.gaussianNoiseInjectStd",
    ]  # fmt: skip


def test_learners(tmp_path: Path) -> None:
    def optimizer(words: str) -> OptimizerSpec:
        found = job(tmp_path, NETWORK, SGD.replace("{", f"{{ {words} ;"), READER)
        assert not found.refused
        return trained(found).recipe.optimizer

    assert optimizer('gradUpdateType = "None"').name == "momentum_sgd"
    assert optimizer("useNAG = true").name == "nesterov"
    assert optimizer('gradUpdateType = "AdaGrad" ; normWithAveMultiplier = false').name == "adagrad"
    ours, default = optimizer('gradUpdateType = "FSAdaGrad"'), OptimizerSpec(name="fsadagrad")
    assert (ours.name, ours.unit_gain) == (default.name, default.unit_gain)
    assert ours.variance_momentum == pytest.approx(default.variance_momentum, rel=1e-12)


def test_time_constants_of_batch_normalization(tmp_path: Path) -> None:
    for given, expected in (("0:1024", (0.0, 1024.0)), ("0", ())):
        sgd = SGD.replace("{", f"{{ batchNormalizationTimeConstant = {given} ;")
        step = trained(job(tmp_path, NETWORK, sgd, READER))
        assert step.recipe.model.batch_norm_time_constants == expected


def test_unknown_keys_are_warnings(tmp_path: Path) -> None:
    found = job(tmp_path, NETWORK, SGD.replace("{", "{ dropoutRat = 0.5 ;"), READER, head="zzz = 1")
    assert [warning.partition("unknown ")[2] for warning in found.warnings] == [
        "key 'zzz'; nothing reads it", "key 'dropoutRat'; did you mean 'dropoutRate'?",
    ]  # fmt: skip


NDL = "\nNDLNetworkBuilder = { networkDescription = a.ndl }"


@pytest.mark.parametrize(
    ("blocks", "kind", "words"),
    [
        ((NETWORK, READER), FormatError, "Train has no SGD block"),
        ((NETWORK, "\nSGD = ", READER), FormatError, "a block in {...} or [...] is expected, but there is nothing"),
        ((NETWORK, SGD), FormatError, "Train has no reader"),
        ((SGD, READER), FormatError, "Train has no BrainScriptNetworkBuilder"),
        ((NDL, SGD, READER), FormatError, "cannot find 'a.ndl', neither here nor beside the configuration"),
        (("\ncreateNetwork = {}", SGD, READER), UnsupportedError, "createNetwork; write it as BrainScriptNetwork"),
        ((NETWORK, SGD.replace("RatesPerMB", "Rate"), READER), FormatError, "give one of learningRatesPerMB"),
        ((NETWORK, SGD.replace("Epochs = 2", "Epochs = 0"), READER), FormatError, "maxEpochs must be at least 1"),
        ((NETWORK, SGD.replace("Epochs = 2", "Epochs = two"), READER), FormatError, "a number is expected, not 'two'"),
        (
            (NETWORK, SGD.replace("{", "{ dropoutRate = 1.5 ;"), READER),
            FormatError,
            "model.dropout must be at",
        ),
        (
            (NETWORK, SGD, READER, "\naction = edit"),
            FormatError,
            "Train has no outputModelPath; say where the model goes",
        ),
        (("\naction = edit",), FormatError, "Train has no editPath; name the script"),
        ((NETWORK, SGD, READER, "\naction = adapt"), UnsupportedError, "the action 'adapt' is not supported"),
        ((NETWORK, SGD, READER.replace("CNTKText", "HTK")), UnsupportedError, "the reader htkformatreader"),
    ],
)
def test_what_is_missing(tmp_path: Path, blocks: tuple[str, ...], kind: type[ConvolveError], words: str) -> None:
    with pytest.raises(kind) as error:
        run_job(job(tmp_path, *blocks), lambda event, values: None)
    assert words in str(error.value)
    assert re.search(r"job\.cntk: line \d+, column \d+: ", str(error.value))


def test_a_command_without_a_block(tmp_path: Path) -> None:
    with pytest.raises(ConvolveError, match="`command` names 'Tst'"):
        job(tmp_path, NETWORK, SGD, READER, arguments=("command=Train:Tst",))


@pytest.mark.parametrize("name", ["x" * 5000, "a\\0b"], ids=["long", "zero"])
def test_a_name_that_no_file_can_have_is_one_that_is_not_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "net.cntk").write_text(
        f'command = E\nE = {{ action = "edit" ; editPath = "{name}.mel" }}\n', encoding="utf-8"
    )
    with pytest.raises(ConvolveError, match=r"net\.cntk: line 2, column"):
        read_job([str(tmp_path / "net.cntk")])
