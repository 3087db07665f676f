"""`trimtab priors`."""

import typer
from rich.console import Group, RenderableType

from trimtab.cli import tables, terminal
from trimtab.contract.experience import KindPriors, Priors


def priors(context: typer.Context) -> None:
    """Show what is known before a study begins: known recipes and learning rates, and what studies have moved."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.priors(), shown)


def shown(answer: Priors) -> RenderableType:
    """Return the kinds as a table, with their recipes in the order in which they are tried."""
    rows = tables.table(
        "model", "task", "studies", "learning rate", "recipes, the first one first"
    )
    for kind in answer.kinds:
        recipes = "  ".join(
            f"{one.name} ({one.wins} won)" if one.wins else one.name for one in kind.recipes
        )
        rows.add_row(kind.family, kind.task, str(kind.studies), _centre(kind), recipes)
    return Group(rows)


def _centre(kind: KindPriors) -> str:
    usual = "" if kind.centre == kind.usual_centre else f", was {kind.usual_centre:.3g}"
    return f"{kind.centre:.3g}{usual}"
