"""The course of the training: curves over the epochs, and every epoch's numbers."""

from convolve.report.contents import Contents
from convolve.report.plot import Curve, Plot, plot
from convolve.templates import Writer, count, number, percent, percent_text
from convolve.training.schedule import step_size

Points = list[tuple[float, float]]
FEW_EPOCHS = 3  # with fewer epochs, the training curves are the running means within the epochs


def learning_plots(contents: Contents) -> list[Plot | None]:
    """Loss and error over the epochs."""
    last = last_epoch(contents)
    errors = [*_pair(contents, "error"), *_published(contents, last)]
    return [
        plot("Loss", _pair(contents, "loss"), last, number, log=True),
        plot("Error", errors, last, percent_text, log=True),
        plot("Mean average precision", _judged(contents, "mean_average_precision"), last, percent_text),
        plot("Mean absolute error", _judged(contents, "mean_absolute_error"), last, number, log=True),
    ]


def _judged(contents: Contents, what: str) -> list[Curve]:
    """Metrics that are not computed for the training images."""
    return [Curve(contents.split, "test", each_epoch(contents, f"{contents.split}_{what}"))]


def last_epoch(contents: Contents) -> float:
    """The end of an axis of epochs."""
    return contents.epochs_done if contents.result else contents.recipe.run.epochs


def schedule_plots(contents: Contents) -> list[Plot | None]:
    """Learning rate and momentum, computed from the recipe for full batches, also for the epochs still to come."""
    recipe, samples = contents.recipe, round(contents.samples_per_epoch)
    total, batch_size = samples * recipe.run.epochs, recipe.run.batch_size(0)
    seen = contents.samples_seen
    end = seen if contents.result else total  # a finished run may have stopped early
    positions = sorted(_corners(contents, end) | {round(i * max(end - batch_size, 0) / 200) for i in range(201)})
    known = {"samples_per_epoch": samples, "total_samples": total}
    sizes = [
        step_size(recipe.optimizer, recipe.schedule, at, recipe.run.batch_size(at // samples), **known)
        for at in positions
    ]
    epochs = [position / samples for position in positions]
    by_factors = recipe.schedule.kind == "steps"  # a cycle ends near zero, which a logarithmic axis cannot show
    rates = _taken_and_ahead([*zip(epochs, (size.lr for size in sizes), strict=True)], seen / samples)
    momenta = _taken_and_ahead([*zip(epochs, (size.momentum for size in sizes), strict=True)], seen / samples)
    plots = [plot("Learning rate", rates, last_epoch(contents), number, log=by_factors)]
    if any(size.momentum for size in sizes):
        plots.append(plot("Momentum", momenta, last_epoch(contents), number))
    return plots


def _corners(contents: Contents, end: int) -> set[int]:
    """The sample counts at which a period of the schedule begins, and those just before."""
    recipe = contents.recipe
    period = recipe.schedule.period_samples or round(contents.samples_per_epoch)
    count = max(len(recipe.schedule.learning_rates), len(recipe.optimizer.momentum))
    starts = range(period, min(count * period, end), period)
    return {sample for start in starts for sample in (start - 1, start)}


def _taken_and_ahead(points: Points, seen_epochs: float) -> list[Curve]:
    taken = [point for point in points if point[0] <= seen_epochs]
    ahead = points[max(len(taken) - 1, 0) :] if len(taken) < len(points) else []
    return [Curve("last", "test", taken), Curve("to come", "ahead", ahead)]


def _pair(contents: Contents, what: str) -> list[Curve]:
    few = len(contents.epochs) < FEW_EPOCHS
    train = (few and within_epochs(contents, what)) or each_epoch(contents, f"train_{what}")
    split = contents.split
    return [Curve("train", "train", train), Curve(split, "test", each_epoch(contents, f"{split}_{what}"))]


def _published(contents: Contents, last_epoch: float) -> list[Curve]:
    error = contents.recipe.published_error
    return [] if error is None else [Curve("published", "published", [(0, error), (last_epoch, error)])]


def each_epoch(contents: Contents, key: str) -> Points:
    """The value at the end of each epoch."""
    points = [(event.epoch, getattr(event, key)) for event in contents.epochs]
    return [(epoch, value) for epoch, value in points if value is not None]


def within_epochs(contents: Contents, key: str) -> Points:
    """The values within the epochs, if the run recorded them."""
    samples = contents.samples_per_epoch
    points = [(event.samples_seen / samples, getattr(event, key)) for event in contents.progress]
    return [(epoch, value) for epoch, value in points if value is not None]


def epoch_table(contents: Contents) -> tuple[list[str], list[list[str]]]:
    """The header of the table, and a row for each epoch."""
    split = contents.split
    columns: list[tuple[str, str, Writer]] = [
        ("epoch", "epoch", count),
        ("train loss", "train_loss", _loss),
        ("train error", "train_error", percent),
        (f"{split} loss", f"{split}_loss", _loss),
        (f"{split} error", f"{split}_error", percent),
        (f"{split} mean AP", f"{split}_mean_average_precision", percent),
        (f"{split} R2", f"{split}_r2", number),
        (f"{split} mean absolute error", f"{split}_mean_absolute_error", number),
        ("learning rate", "learning_rate", number),
        ("seconds", "seconds", _tenths),
        ("evaluation", "evaluation_seconds", _tenths),
        ("images/s", "images_per_second", count),
        ("waiting", "data_wait_fraction", percent_text),
    ]
    columns = [column for column in columns if each_epoch(contents, column[1])]
    rows = [
        ["–" if (value := getattr(event, key)) is None else write(value) for _, key, write in columns]
        for event in contents.epochs
    ]
    return [name for name, _, _ in columns], rows


def _loss(value: float) -> str:
    return f"{value:.4f}"


def _tenths(seconds: float) -> str:
    return f"{seconds:.1f}"
