"""Heads: the last linear layer after a backbone's features, with or without a hidden layer before it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from trimtab.contract.metrics import TaskKind
from trimtab.contract.recipe import Pooling, Recipe
from worker.training.seeding import derive, seeded

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}

_Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True, slots=True)
class Head:
    """The shape of a head.

    Attributes:
        width: Units of its hidden layer; 0 has none.
        activation: The activation of the hidden layer: `relu`, `gelu` or `silu`; empty without one.
        dropout: Probability with which a training step drops an input of the last layer.
        pooling: The way from the vectors of tokens to one for the text; networks for pictures do not read it.
        signed: Whether outputs below zero say something: those of numbers and of yes and no, not those of classes.
    """

    width: int = 0
    activation: str = ""
    dropout: float = 0.0
    pooling: Pooling = "mean"
    signed: bool = False


LINEAR = Head()
"""The head that published networks end in."""


def of(recipe: Recipe, kind: TaskKind) -> Head:
    """Return the head that a recipe asks for; what a linear one does not read makes no other head."""
    hidden = recipe.head == "mlp"
    return Head(
        width=recipe.head_width if hidden else 0,
        activation=recipe.head_activation if hidden else "",
        dropout=recipe.head_dropout,
        pooling=recipe.pooling,
        signed=kind != "classification",
    )


class HeadSlot:
    """The place of a network's last layer, and the layer that stood there first.

    Args:
        network: The network.
        name: Name of its last layer, which is linear or a 1 x 1 convolution.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self.plain = cast(_Layer, network.get_submodule(name))
        self._parent = network.get_submodule(name.rpartition(".")[0])
        self._key = name.rpartition(".")[2]
        self._follower = _relu_behind(self._parent, self._key)
        self._dropping: RemovableHandle | None = None

    def put(self, head: Head) -> None:
        """Replace what stands there; new layers hold whatever torch draws."""
        if self._dropping is not None:
            self._dropping.remove()
            self._dropping = None
        module = _hidden(self.plain, head) if head.width else self.plain
        setattr(self._parent, self._key, module)
        if self._follower is not None:
            # Squeezenets end in a ReLU behind the head, which cuts off what is below zero.
            key, relu = self._follower
            setattr(self._parent, key, nn.Identity() if head.signed else relu)
        if head.dropout and not head.width:
            # A hook, so that the layer keeps its name, and with it the pretrained weights that it may have.
            self._dropping = self.plain.register_forward_pre_hook(_dropout(head.dropout))

    def draw(self, seed: int) -> None:
        """Draw new layers' weights: the same for the same seed, however often it has been done before."""
        module = getattr(self._parent, self._key)
        with seeded(derive(seed, "head")):
            for layer in cast(Iterator[nn.Module], module.children()):
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    layer.reset_parameters()


def _hidden(plain: _Layer, head: Head) -> nn.Sequential:
    between = (_ACTIVATIONS[head.activation](), nn.Dropout(head.dropout))
    if isinstance(plain, nn.Linear):
        first = nn.Linear(plain.in_features, head.width)
        return nn.Sequential(first, *between, nn.Linear(head.width, plain.out_features))
    first = nn.Conv2d(plain.in_channels, head.width, 1)
    return nn.Sequential(first, *between, nn.Conv2d(head.width, plain.out_channels, 1))


def _relu_behind(parent: nn.Module, key: str) -> tuple[str, nn.Module] | None:
    children = list(parent.named_children())
    names = [name for name, _ in children]
    following = (
        children[names.index(key) + 1 :][:1] if isinstance(parent, nn.Sequential) else []
    )
    return next((each for each in following if isinstance(each[1], nn.ReLU)), None)


def _dropout(p: float) -> Callable[[nn.Module, tuple[Tensor, ...]], Tensor]:
    def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return functional.dropout(inputs[0], p, module.training)

    return drop
