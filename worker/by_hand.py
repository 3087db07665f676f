"""The options of what a person runs by hand: predict and pretrain."""

import argparse
from pathlib import Path


def add_backbones(verb: argparse.ArgumentParser) -> None:
    """Add the option of own backbones, which `start` has too."""
    verb.add_argument(
        "--backbones",
        metavar="FILE",
        type=Path,
        action="append",
        help="a Python file of own backbones; may be given more than once; default: TRIMTAB_BACKBONES",
    )


def add_predict(predict: argparse.ArgumentParser) -> None:
    """Add the options of `predict`."""
    predict.add_argument("--model", metavar="FILE", type=Path, required=True)
    add_backbones(predict)
    predict.add_argument("--json", action="store_true", help="one JSON object a line")
    predict.add_argument(
        "samples",
        metavar="SAMPLE",
        nargs="*",
        help="pictures, or texts; - reads texts, one a line",
    )
    predict.add_argument(
        "--file", metavar="TABLE", type=Path, help="texts in a CSV or JSONL file"
    )
    predict.add_argument(
        "--text", metavar="COLUMN", action="append", help="a column of it that holds texts"
    )
    predict.add_argument(
        "--skip-bad", action="store_true", help="name files that cannot be read, and succeed"
    )
    predict.add_argument("--builtin", choices=["digits"], help="a picture of this data set")
    predict.add_argument("--index", metavar="N", type=int, default=0, help="which of them")


def add_pretrain(pretrain: argparse.ArgumentParser) -> None:
    """Add the options of `pretrain`."""
    pretrain.add_argument("what", choices=["glyphs"])
    pretrain.add_argument("--out", metavar="DIR", type=Path, required=True)
    pretrain.add_argument("--epochs", metavar="N", type=int, default=20)
    pretrain.add_argument("--seed", metavar="S", type=int, default=0)
