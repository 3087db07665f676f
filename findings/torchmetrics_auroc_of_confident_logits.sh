#!/usr/bin/env bash
# torchmetrics 1.9.0 (https://pypi.org/project/torchmetrics/1.9.0/), functional/classification/precision_recall_curve.py,
# `_binary_precision_recall_curve_format`.
#
# The area under the ROC curve depends on the order of the scores alone, and logits are taken as scores. Yet what is ranked is
# their sigmoid in float32, which is exactly 1.0 from about 17 on: logits that order the samples without a fault are all
# alike then, and the area is 0.5, that of a coin. In float64 it is 1.0.
#
# Seen (torch 2.9.1, torchmetrics 1.9.0, CPU):
#   float32 0.5, float64 1.0
#
# Exits with 0 while this is so, and with 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.9.1 torchmetrics==1.9.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import torch
from torchmetrics.functional.classification import binary_auroc

logits, target = torch.tensor([20.0, 25.0, 30.0, 35.0]), torch.tensor([0, 0, 1, 1])
single, double = float(binary_auroc(logits, target)), float(binary_auroc(logits.double(), target))
print(f"float32 {single}, float64 {double}")
raise SystemExit(0 if (single, double) == (0.5, 1.0) else "this has changed")
PY
