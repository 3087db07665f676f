#!/usr/bin/env bash
# torchmetrics 1.9.0 (https://pypi.org/project/torchmetrics/1.9.0/), functional/regression/r2.py, `_r2_score_compute`.
#
# R2 has no unit: the same predictions in metres and in tenths of a millimetre have the same score. Here they have not. A sum
# of squares that is within 1e-4 of zero is taken for zero, and where that of the residuals is, the score is 1.0, the best
# there is. A hundred targets of standard deviation 1e-4 and predictions that are five deviations off score 1.0; both
# multiplied by 10,000, they score about -24.
#
# Seen (torch 2.9.1, torchmetrics 1.9.0, CPU):
#   small units 1.0000, the same in large units -23.8214
#
# Exits with 0 while this is so, and with 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.9.1 torchmetrics==1.9.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import torch
from torchmetrics.functional import r2_score

target = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 1e-4
useless = torch.full_like(target, float(target.mean()) + 5e-4)
small, large = float(r2_score(useless, target)), float(r2_score(useless * 1e4, target * 1e4))
print(f"small units {small:.4f}, the same in large units {large:.4f}")
raise SystemExit(0 if small == 1.0 and large < -20 else "this has changed")
PY
