"""Models of a final evaluation as files."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from trimtab.contract.teachers import Teacher
from worker.data import TaskData
from worker.training.device.placement import precision_of
from worker.training.final.candidates import Network, TrainedState, Untrained
from worker.training.final.evaluator import Evaluator, Told
from worker.training.final.probe import Probe
from worker.training.model.card import ModelCard, Precision, Scores, together
from worker.training.model.export import export, export_together, make_card
from worker.training.model.freezing import Freezing


def export_states(
    path: Path,
    networks: Sequence[tuple[Network, Told]],
    evaluator: Evaluator,
    *,
    scores: Scores,
    teacher: Teacher | None,
) -> None:
    """Write trained states as one model; several answer by the average of their probabilities.

    Args:
        path: The file.
        networks: The states with their weights, each with an answer that tells what it computes in.
        evaluator: The machine that builds their networks.
        scores: The scores of the model.
        teacher: The model whose answers they may have learned.

    Raises:
        MembersUnlike: They do not mean the same.
    """
    cards: list[ModelCard] = []
    models: list[Freezing] = []
    for network, told in networks:
        state = network.state
        trained = state.open(evaluator)
        seed = state.read().seed
        pretrained = evaluator.of(state.model).model
        cards.append(_card(trained, state, told, seed, scores, pretrained, teacher))
        trained.model.cpu()
        models.append(trained)
    if len(models) == 1:
        export(path, models[0].model, card=cards[0])
    else:
        weights = [network.weight for network, _ in networks]
        card = together(cards, scores=scores, weights=weights)
        export_together(path, [one.model for one in models], card=card)


def _card(
    trained: Freezing,
    state: TrainedState,
    told: Told,
    seed: int,
    scores: Scores,
    pretrained: Model,
    teacher: Teacher | None,
) -> ModelCard:
    return make_card(
        trained.model,
        state.seen,
        recipe=state.recipe,
        seed=seed,
        scores=scores,
        pretrained=pretrained,
        # A teacher of the task that the recipe gave no weight has taught this model nothing.
        teacher=teacher if state.recipe.distillation_weight else None,
        precision=told.precision,
        head_precision=told.head_precision,
    )


def export_untrained(
    path: Path,
    untrained: Untrained,
    seen: TaskData,
    evaluator: Evaluator,
    *,
    scores: Scores,
    probe: Probe | None,
) -> None:
    """Write the pretrained model as it was, or with a linear probe as its head.

    Args:
        path: The file.
        untrained: The pretrained model.
        seen: The data of the winner, in whose form the model takes pictures.
        evaluator: The machine that the model was measured on.
        scores: The scores of the model.
        probe: The probe; None leaves the head as it was.
    """
    model, precision = untrained.before, untrained.recipe.precision
    of_head: Precision | None = None
    if probe is not None and isinstance(model.head, nn.Linear):
        probe.put_into(model.head)
        # As it was measured: its features in what the device is built for, the layer behind them in full.
        precision, of_head = "auto", "float32"
    computed_in = precision_of(precision, evaluator.device)
    # Whoever builds the network from the file needs a linear head, and samples in the same form.
    recipe = Recipe(
        image_size=untrained.recipe.image_size,
        resize=untrained.recipe.resize,
        max_tokens=untrained.recipe.max_tokens,
        frozen_stages=len(model.stages),
    )
    card = make_card(
        model,
        seen,
        recipe=recipe,
        seed=untrained.seed,
        scores=scores,
        pretrained=untrained.pretrained,
        precision=computed_in,
        head_precision=of_head or computed_in,
    )
    export(path, model, card=card)
