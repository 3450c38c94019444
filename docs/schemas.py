"""Writes the JSON Schemas of what commands print with --json into schemas/, one file a command.

    python docs/schemas.py

Records that are written to files are described by their own types, the others here. tests/cli/test_json.py holds real
answers against them.
"""

from __future__ import annotations

import json
import types
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from convolve.checking.finding import KINDS
from convolve.export.parity import Parity
from convolve.records import Between, Hardware, QuantizedRecord, Result, TrainingInfo

FOLDER = Path(__file__).parent / "schemas"
Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FRACTION: Schema = {"type": "number", "minimum": 0, "maximum": 1}
TRUTH: Schema = {"type": "boolean"}
ANYTHING: Schema = {}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def by_name(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def said(schema: Schema, words: str) -> Schema:
    return schema | {"description": words}


def table(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these fields and no others."""
    both = required | (optional or {})
    return {"type": "object", "properties": both, "required": [*required], "additionalProperties": False}


def of_record(record: type) -> Schema:
    """A record of `convolve.records`: a field whose default is None is left out where it is None."""
    hints = get_type_hints(record, include_extras=True)
    known = {each.name: each for each in fields(record)}
    optional = {name for name, each in known.items() if each.default is None}
    schemas = {name: _of_type(hints[name], name in optional) for name in known}
    required = {name: schema for name, schema in schemas.items() if name not in optional}
    return table(required, {name: schemas[name] for name in sorted(optional)})


_PLAIN = {int: WHOLE, float: NUMBER, str: TEXT, bool: TRUTH, Any: ANYTHING}


def _of_type(hint: Any, without_null: bool = False) -> Schema:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Annotated:
        schema, [limit, *_] = _of_type(arguments[0]), arguments[1:]
        if isinstance(limit, Between) and not limit.or_not_finite:
            return schema | {"minimum": limit.low, "maximum": limit.high}
        return schema if isinstance(limit, Between) else schema | {"format": "date-time"}
    if origin in (Union, types.UnionType):
        [kind] = [each for each in arguments if each is not type(None)]
        return _of_type(kind) if without_null else or_null(_of_type(kind))
    if origin is tuple:
        return listed(_of_type(arguments[0]))
    if origin is dict:
        return by_name(_of_type(arguments[1]))
    if is_dataclass(hint):
        return of_record(hint)  # type: ignore[arg-type]
    if issubclass(hint, StrEnum):
        return {"enum": [each.value for each in hint]}
    raise TypeError(f"{hint} has no row here")


INTERVAL = said(listed(FRACTION), "95 % interval, low and high")
RECIPE = said({"type": "object"}, "every field of the recipe, as in a recipe file")
NOTES = listed(TEXT)

_RATES = {"precision": or_null(FRACTION), "recall": or_null(FRACTION), "f1": or_null(FRACTION)}
_SPREAD = table({"mean": NUMBER, "standard_deviation": or_null(NUMBER), "least": NUMBER, "most": NUMBER})


def _errors(counts: str, parts: str) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for which in ("", "_top5"):
        found |= {
            f"{counts}errors{which}": or_null(said(WHOLE, "images")), f"{parts}error{which}": or_null(FRACTION),
            f"{parts}error{which}_interval": or_null(INTERVAL),
        }  # fmt: skip
    return found | {f"{parts}loss": NUMBER}


DRIFT = table({
    "beyond": said(FRACTION, "images farther from the training images than 95 % of one's own"),
    "shift": said(FRACTION, "Kolmogorov-Smirnov distance"), "probability": said(FRACTION, "by chance alone"),
    "is_there": TRUTH,
})  # fmt: skip
_CONFIDENCE = {
    "accept": FRACTION, "accepted": said(FRACTION, "images that get an answer"), "accepted_error": or_null(FRACTION),
    "calibration_error": FRACTION, "coverage": FRACTION, "covered": said(FRACTION, "sets that hold the right class"),
    "mean_set_size": NUMBER, "empty_sets": FRACTION, "drift": DRIFT,
}  # fmt: skip
_CLASS_ROW = table(
    {"class": TEXT, "samples": WHOLE, **_RATES},
    {
        "errors": WHOLE, "errors_top5": WHOLE, "false_alarms": said(WHOLE, "other images that were taken for it"),
        "most_taken_for": or_null(TEXT), "average_precision": or_null(FRACTION), "threshold": FRACTION,
    },
)  # fmt: skip
_NUMBER_ROW = table(
    {"number": TEXT, "r2": or_null(NUMBER), "mean_absolute_error": NUMBER, "root_mean_squared_error": NUMBER}
)
_FIGURES = {
    name: schema
    for name, schema in of_record(Result)["properties"].items()
    if name.startswith("test_") and name not in ("test_nodes", "test_loss", "test_unreadable")
}

EVALUATE = table(
    {"samples": said(WHOLE, "test images"), "test_unreadable": WHOLE},
    _errors("", "test_") | _errors("views_", "views_") | _FIGURES | _CONFIDENCE
    | {name.replace("test_", "views_", 1): schema for name, schema in _FIGURES.items()}
    | {
        "views": WHOLE, "classes": listed(_CLASS_ROW), "numbers": listed(_NUMBER_ROW),
        "other_errors": WHOLE, "other_error": FRACTION, "other_error_interval": INTERVAL,
        "difference": said(NUMBER, "the other model's error less this one's"),
        "difference_interval": listed(NUMBER), "wrong_in_model_only": WHOLE, "wrong_in_other_only": WHOLE,
        "published_error": or_null(FRACTION), "published_error_top5": or_null(FRACTION),
    },
)  # fmt: skip

_CLASSES = listed(table({"class": TEXT, "probability": FRACTION}))
_IMAGE = table(
    {"path": TEXT},
    {
        "error": said(TEXT, "why it cannot be read; then nothing else is there"),
        "classes": said(_CLASSES, "the likeliest first"), "numbers": by_name(NUMBER),
        "features": said(ANYTHING, "of --output NODE: numbers in lists, of the shape above"),
        "heads": by_name(table({"classes": _CLASSES})), "fitted": said(TEXT, "what was done to its size and colors"),
        "none_of_these": TRUTH, "distance": NUMBER, "possible": said(listed(TEXT), "the set of classes"),
    },
)  # fmt: skip
PREDICT = table({"model": TEXT, "images": listed(_IMAGE)}, {"output": TEXT, "shape": listed(WHOLE)})

CHECK_DATA = table({
    "images": said(by_name(WHOLE), "part of the set -> images"), "passed_over": or_null(TEXT),
    "counts": said(table({}, dict.fromkeys(KINDS, WHOLE)), "kind -> findings"),
    "findings": said(listed(table({
        "kind": {"enum": [*KINDS]}, "place": TEXT, "what": TEXT, "mend": said(TEXT, "how to fix it"),
    })), "at most a thousand of each kind"),
})  # fmt: skip

_LAYER = table({
    "name": TEXT, "kind": TEXT, "output_shape": listed(WHOLE), "parameters": WHOLE, "flops_per_image": WHOLE,
    "source": said(TEXT, "its name in the file"), "is_trained": TRUTH,
})  # fmt: skip
_SUMMARY = {
    "parameters": WHOLE, "flops_per_image": said(WHOLE, "a multiply-add counts as 2"), "input_shape": listed(WHOLE),
    "layers": listed(_LAYER), "class_names": listed(TEXT),
}  # fmt: skip
_PORTS = {"inputs": ANYTHING, "outputs": ANYTHING}
_OF_MODEL = {
    "preprocess": {"type": "object"}, "training_info": of_record(TrainingInfo), "in_the_graph": listed(TEXT),
    "notes": NOTES,
}  # fmt: skip
_STRETCH = table(
    {"from_epoch": NUMBER, "to_epoch": NUMBER, "cntk_lr_per_sample": NUMBER, "cntk_unit_gain": TRUTH,
     "cntk_momentum_time_constant_samples": NUMBER, "pytorch_optimizer": or_null(TEXT), "caffe_solver": or_null(TEXT)}
    | {f"pytorch_{name}": or_null(NUMBER) for name in ("lr", "momentum", "dampening", "weight_decay")}
    | {f"caffe_{name}": or_null(NUMBER) for name in ("base_lr", "momentum", "weight_decay")}
)  # fmt: skip
_ONE_SHOWN = table({}, _SUMMARY | _PORTS | _OF_MODEL | {
    "recipe": RECIPE, "plan": TEXT, "schedule": listed(_STRETCH),
})  # fmt: skip
SHOW = table({}, _ONE_SHOWN["properties"] | {"trainings": listed(_ONE_SHOWN)})

_RESULT = of_record(Result)
_FOLDS = table({"folds": WHOLE, "error": FRACTION, "standard_deviation": NUMBER, "errors": listed(FRACTION)})
_RATE = table({
    "suggested": NUMBER, "setting": said(TEXT, "for --set"), "rates": listed(NUMBER), "losses": listed(or_null(NUMBER)),
    "page": TEXT,
})  # fmt: skip
_TRAINED = {**_RESULT, "properties": _RESULT["properties"] | {"cross_validation": _FOLDS}}

SCHEMAS: dict[str, tuple[str, Schema]] = {
    "train": ("result.json, or with --find-lr the rate", {"anyOf": [_TRAINED, _RATE]}),
    "reproduce": ("mean and spread over the seeds", table({
        "recipe": TEXT, "command": TEXT, "n": WHOLE, "published_error": or_null(FRACTION), "test_error": _SPREAD,
        "train_seconds": _SPREAD,
        "over_views": or_null(table({"views": WHOLE, "test_error": _SPREAD, "errors": listed(FRACTION)})),
        "runs": listed(_RESULT), "curves": listed(by_name(listed(or_null(NUMBER)))), "resolved_recipe": RECIPE,
    })),
    "report": ("where the page is", table({"report": TEXT})),
    "predict": ("the answer for each image", PREDICT),
    "evaluate": ("errors and figures of classes", EVALUATE),
    "serve": ("one line, when the server listens", table(
        {"address": TEXT, "models": said(by_name(TEXT), "name -> path"), "open_to": TEXT}
    )),
    "convert": ("what was written and compared, signed or checked", table(
        {"model": TEXT, "to": or_null(TEXT), "out": or_null(TEXT)},
        {
            "parameters": WHOLE, "class_names": listed(TEXT), "preprocess": {"type": "object"}, "notes": NOTES,
            "no_classifier": said(TEXT, "why it was converted without classes and preprocessing"),
            "inputs": by_name(listed(WHOLE)), "outputs": by_name(listed(WHOLE)),
            "compared": said(of_record(Parity), "images; the largest difference, as a part of the largest score"),
            "scaled": said(of_record(Parity), "the same of --any-size with --quantize, the scaling included"),
            "quantized": of_record(QuantizedRecord),
            "runtime": said(TEXT, "the version of onnxruntime-web"),
            "signature": TEXT, "bill_of_materials": TEXT, "verified_with": said(TEXT, "the public key"),
            "program": said(TEXT, "of --snippet without --out"), "asks": said(TEXT, "which file the program asks"),
        },
    )),
    "check-data": ("the findings", CHECK_DATA),
    "prepare": ("what was written", table({"dataset": TEXT, "out": TEXT, "files": listed(table(
        {"path": said(TEXT, "of a file or folder"), "what": said(TEXT, "what became of it")},
        {"images": WHOLE, "shards": WHOLE, "written": said(WHOLE, "images or shards that were not there yet"),
         "left_out": said(WHOLE, "images and files that are no part of it")},
    ))})),
    "run": ("the tests of a configuration, or what --translate wrote", {"anyOf": [
        table({"tests": listed(said({"type": "object", "required": ["test", "samples"]}, "and its figures"))}),
        table({"recipe": TEXT, "network": TEXT}),
    ]}),
    "show": ("a recipe, a network, a model, a schedule", SHOW),
    "doctor": ("what this machine has", table({
        "versions": by_name(TEXT), "hardware": of_record(Hardware), "arithmetic": by_name(ANYTHING),
        "distributed": by_name(TRUTH), "cache": by_name(TEXT), "extras": by_name(TEXT),
    })),
}  # fmt: skip


def texts() -> dict[Path, str]:
    """File -> what belongs into it."""
    found = {}
    for command, (words, schema) in SCHEMAS.items():
        head = {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"convolve {command} --json",
            "description": words,
        }  # fmt: skip
        found[FOLDER / f"{command}.json"] = json.dumps(head | schema, indent=1, ensure_ascii=False) + "\n"
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
