"""`python -m tests.faults.variants [NAME ...]`: the checker must find fault with broken variants of the protocol.

A variant is `broken/NAME.patch` beside this module: header lines, then a patch against the root of the repository.

    # breaks: what a careless author might have written
    # faults: pause_worker replay_late      (the kinds of fault that bring it out; `#` may be left out: all kinds)
    # workers: 3                            (4 unless told)
    # expects: I4 I5                        (at least one of these invariants must be found broken)

Each is applied to a copy of the working tree, never to the tree itself, and the soak runs from the copy.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "broken"
SECONDS = 25.0
ROUNDS = 8
"""At least, however slow the machine is."""
SHARES = (0.3, 1.0, 1.0, 1.0)
"""Chance decides which races happen: a variant has so many seeds to be caught with, each for this share of the time.

Most are caught by the first, which is short.
"""


@dataclass(frozen=True)
class Variant:
    """One patch, and how to bring it out."""

    name: str
    patch: Path
    faults: tuple[str, ...]
    workers: int
    expects: frozenset[str]

    @classmethod
    def read(cls, patch: Path) -> "Variant":
        """Parse the header lines."""
        headers = {
            key.strip(): value.split()
            for line in patch.read_text().splitlines()
            if line.startswith("# ")
            for key, _, value in [line[2:].partition(":")]
        }
        workers = int(headers.get("workers", ["4"])[0])
        faults, expects = tuple(headers.get("faults", [])), frozenset(headers["expects"])
        return cls(patch.stem, patch, faults, workers, expects)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the variants; 0 if every one was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.variants")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args(argv)
    found = {path.stem: path for path in sorted(FOLDER.glob("*.patch"))}
    if unknown := set(options.names) - set(found):
        raise SystemExit(f"no such variant in {FOLDER}: {', '.join(sorted(unknown))}")
    chosen = [Variant.read(found[name]) for name in options.names or found]
    caught = [is_caught(variant, options.seconds) for variant in chosen]
    say(f"{sum(caught)} of {len(caught)} caught")
    return 0 if all(caught) else 1


def is_caught(variant: Variant, seconds: float = SECONDS) -> bool:
    """Run the soak on the broken copy, with another seed each time, until the checker finds what it should."""
    with tempfile.TemporaryDirectory(prefix="trimtab-variant-") as name:
        Path(name).chmod(0o755)
        copy = Path(name) / "copy"
        break_copy(variant, copy)
        for seed, share in enumerate(SHARES):
            broken = soak(variant, copy, seconds, seed, share)
            if broken & variant.expects:
                say(f"caught {variant.name} (seed {seed}): {' '.join(sorted(broken))}")
                return True
            say(
                f"       {variant.name} (seed {seed}): {' '.join(sorted(broken)) or 'nothing'} found"
            )
    say(f"SURVIVED {variant.name}")
    return False


def break_copy(variant: Variant, copy: Path) -> None:
    """Copy the working tree and apply the patch.

    Raises:
        SystemExit: it does not apply.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    applied = subprocess.run(
        ["git", "apply", str(variant.patch)],
        cwd=copy,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)},
        check=False,
        capture_output=True,
        text=True,
    )
    if applied.returncode:
        raise SystemExit(f"{variant.name} does not apply: {applied.stderr.strip()}")


def soak(variant: Variant, copy: Path, seconds: float, seed: int, share: float) -> set[str]:
    """Run the broken copy's own soak for this share of the time; returns the invariants that it found broken."""
    command = [sys.executable, "-m", "tests.faults.soak", "--json"]
    command += ["--seconds", str(share * seconds), "--rounds", str(round(share * ROUNDS))]
    command += ["--seed", str(seed), "--workers", str(variant.workers)]
    command += ["--faults", *variant.faults] if variant.faults else []
    run = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        return set(json.loads(run.stdout.splitlines()[-1])["broken"])
    except (IndexError, ValueError, KeyError):
        raise SystemExit(f"{variant.name}: the soak failed: {run.stderr[-3000:]}") from None


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
