"""`convolve show CONFIG.cntk`: the network and the schedule of a BrainScript configuration; no data is read."""

import json
from typing import Any

from convolve.cli.formatting import recipe_text, schedule_text, summary_mapping, summary_text


def show_config(what: str, schedule: bool, as_json: bool) -> None:
    from convolve.graph.build import build
    from convolve.graph.describe import describe
    from convolve.importers.brainscript.job import TrainStep
    from convolve.recipe import to_mapping
    from convolve.run_config import read_configuration
    from convolve.run_config.training import network_graph, recipe_of, samples_of
    from convolve.training.schedule import schedule_rows

    job = read_configuration([what])
    shown: list[dict[str, Any]] = []
    for step in (step for step in job.steps if isinstance(step, TrainStep)):
        graph, recipe = network_graph(step, None), recipe_of(step)
        if schedule:
            rows = schedule_rows(recipe, samples_of(recipe))
            shown.append({"schedule": [vars(row) for row in rows]})
            head = f"{step.name}: {recipe.optimizer.name}, {recipe.run.global_batch_size} samples a minibatch"
            text = f"{head}\n\n{schedule_text(rows)}"
        else:
            summary = describe(graph, build(graph))
            classes = tuple(map(str, range(step.reader.classes)))
            shown.append(summary_mapping(summary, classes) | {"recipe": to_mapping(recipe), "notes": list(graph.notes)})
            comments = [f"# {line}" for line in summary_text(summary).splitlines()]
            text = "\n".join([f"# {step.name}", *comments, recipe_text(recipe)])
        if not as_json:
            print(text)
    if as_json:
        print(json.dumps(shown[0] if len(shown) == 1 else {"trainings": shown}, indent=2))
    for sentence in () if as_json else (*job.warnings, *job.refused):
        print(f"# {sentence}")
