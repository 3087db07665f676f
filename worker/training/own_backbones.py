"""A person's own backbones, from their file or package: registered on the worker, never sent in a request.

A file offers each of its functions and `nn.Module` classes that needs nothing but the number of outputs, as an argument
named `classes` or `num_classes`, under its own name. If it has a mapping `BACKBONES`, it offers what that names instead:
such a function, or a mapping of `build`, the function, and the facts of `Facts`. A package offers one of these
by an entry point of the group `trimtab.backbones`.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from trimtab.contract.backbones import OWN_NAME, OWN_PREFIX
from trimtab.contract.message import Flag, Int, Message
from worker.training.architecture import Architecture, find_head, find_stages
from worker.training.errors import BackboneMissing, BackbonesUnreadable, BackboneUnfit

GROUP = "trimtab.backbones"
"""Of entry points."""
_TABLE = "BACKBONES"
_ARGUMENTS = ("classes", "num_classes")
_Statistics = Annotated[tuple[float, ...], Field(min_length=1)]


class Facts(Message):
    """What a network's code does not tell; without a word, it is taken for one that ImageNet's pictures trained."""

    build: Callable[..., object]
    """Makes the network for a number of outputs."""
    mean: _Statistics = (0.485, 0.456, 0.406)
    """Of the pictures it was trained on, a channel each, in [0, 1]."""
    std: _Statistics = (0.229, 0.224, 0.225)
    image_size: Annotated[Int, Field(ge=1)] = 224
    """Side in pixels of the pictures it was trained on."""
    one_size: Flag = False
    """Whether it takes no other: all pictures are scaled to it then."""
    head: str | None = None
    """Name of its last layer; None: the last linear or convolutional one with as many outputs as asked for."""
    stages: tuple[tuple[str, ...], ...] | None = None
    """From the input on, the names of the modules that freeze together; None: its blocks."""
    classes: tuple[str, ...] = ()
    """Those of the head that its weights have, where these do not say."""

    @model_validator(mode="after")
    def _speak_of_the_same_channels(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have a number for each channel")
        return self


@dataclass(frozen=True, slots=True)
class _Offer:
    """Something that was registered, and by whom."""

    origin: str
    load: Callable[[], object]


@dataclass(frozen=True, slots=True)
class OwnBackbones:
    """What is registered on this worker, by name."""

    offers: Mapping[str, _Offer] = field(default_factory=dict[str, _Offer])

    @classmethod
    def gather(cls, files: Sequence[Path] = ()) -> Self:
        """Run the files and list the installed entry points, which are loaded once they are asked for.

        Raises:
            BackbonesUnreadable: A file is missing, raises or offers nothing, or a name comes twice.
        """
        offers: dict[str, _Offer] = {}
        for name, offer in (*_of_files(files), *_of_packages()):
            if name in offers:
                both = f"{offers[name].origin} and {offer.origin}"
                raise BackbonesUnreadable(offer.origin, f"{name!r} is registered twice: {both}")
            offers[name] = offer
        return cls(offers)

    def image_size(self, backbone: str) -> int:
        """Return the side of the pictures that a backbone was trained on.

        Raises:
            BackboneMissing: It is not registered here.
            BackboneUnfit: What is registered is no backbone.
        """
        return self._facts(backbone).image_size

    def architecture(self, backbone: str, classes: int) -> Architecture:
        """Build a network with a head for `classes`, try it on two pictures, and find its head and stages.

        Raises:
            BackboneMissing: It is not registered here.
            BackboneUnfit: It is no network, or not one for so many classes.
        """
        facts = self._facts(backbone)
        network = _network(backbone, facts, classes)
        try:
            head = facts.head or find_head(network, classes)
            network.get_submodule(head)
        except (LookupError, AttributeError) as error:
            raise BackboneUnfit(backbone, f"its head is not found: {error}") from error
        stages = find_stages(network, head) if facts.stages is None else facts.stages
        _check_stages(backbone, network, head, stages)
        return Architecture(
            network=network,
            head=head,
            stages=stages,
            mean=facts.mean,
            std=facts.std,
            only_side=facts.image_size if facts.one_size else None,
            tried_side=facts.image_size,
            weights_classes=facts.classes,
        )

    def _facts(self, backbone: str) -> Facts:
        offer = self.offers.get(backbone.removeprefix(OWN_PREFIX))
        if offer is None:
            raise BackboneMissing(backbone, sorted(self.offers))
        try:
            offered = offer.load()
            told = {"build": offered} if callable(offered) else offered
            return Facts.model_validate(told)
        except ValidationError as error:
            reason = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
                for fault in error.errors(include_input=False)
            )
        except Exception as error:  # noqa: BLE001 - other people's code
            reason = _last_line(error)
        raise BackboneUnfit(backbone, f"what {offer.origin} registers is not usable: {reason}")


def _of_files(files: Sequence[Path]) -> Iterator[tuple[str, _Offer]]:
    for file in files:
        path = file.expanduser().resolve()
        for name, value in _offered(path, _run(path)).items():
            yield name, _Offer(str(path), lambda value=value: value)


def _of_packages() -> Iterator[tuple[str, _Offer]]:
    for entry in metadata.entry_points(group=GROUP):
        yield entry.name, _Offer(f"the entry point {entry.value}", entry.load)


def _run(path: Path) -> ModuleType:
    """Execute a file as a module. Its neighbours can be imported, but shadow nothing that is installed."""
    if not path.is_file():
        raise BackbonesUnreadable(path, "there is no such file")
    name = f"{OWN_PREFIX}{path}"
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BackbonesUnreadable(path, "its name does not end in .py")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Dataclasses look for their own module there.
    module = sys.modules[name] = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BackbonesUnreadable(path, _last_line(error, path)) from error
    return module


def _offered(path: Path, module: ModuleType) -> Mapping[str, object]:
    table: object = getattr(module, _TABLE, None)
    if table is None:
        found = {
            name: value
            for name, value in vars(module).items()
            if _is_maker(name, value, module)
        }
    elif isinstance(table, Mapping):
        found = {
            str(name): value for name, value in cast(Mapping[object, object], table).items()
        }
    else:
        raise BackbonesUnreadable(path, f"its {_TABLE} is no mapping of names to functions")
    if not found:
        wanted = f"a function of `classes` that returns the network, or {_TABLE}"
        raise BackbonesUnreadable(path, f"it offers nothing; give it {wanted}")
    if wrong := [name for name in found if not OWN_NAME.fullmatch(name)]:
        raise BackbonesUnreadable(path, f"{wrong[0]!r} is no name of letters, digits, '_.-'")
    return found


def _is_maker(name: str, value: object, module: ModuleType) -> bool:
    """Whether it is a public function or network class of the file itself that needs only the number of outputs."""
    of_the_file = getattr(value, "__module__", None) == module.__name__
    if name.startswith("_") or not of_the_file or not callable(value):
        return False
    if isinstance(value, type) and not issubclass(value, nn.Module):
        return False
    needed = {
        each.name
        for each in inspect.signature(value).parameters.values()
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    return _argument(value) is not None and needed <= set(_ARGUMENTS)


def _argument(build: Callable[..., object]) -> str | None:
    """The name by which a function takes the number of outputs."""
    names = inspect.signature(build).parameters
    return next((name for name in _ARGUMENTS if name in names), None)


def _network(backbone: str, facts: Facts, classes: int) -> nn.Module:
    """Build the network and see that it turns pictures into logits."""
    side = facts.image_size
    try:
        argument = _argument(facts.build)
        network = (
            facts.build(classes) if argument is None else facts.build(**{argument: classes})
        )
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"its function returns {type(network).__name__}, no torch.nn.Module"
            )
        with torch.no_grad():
            outputs: Any = network.eval()(torch.zeros(2, len(facts.mean), side, side))
    except Exception as error:
        raise BackboneUnfit(backbone, _last_line(error)) from error
    if not isinstance(outputs, Tensor) or outputs.shape != (2, classes):
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        wanted = f"a tensor of (2, {classes}): one output for each class"
        raise BackboneUnfit(backbone, f"of two pictures it makes {found}, not {wanted}")
    return network.train()


def _check_stages(
    backbone: str, network: nn.Module, head: str, stages: Sequence[Sequence[str]]
) -> None:
    named = [name for stage in stages for name in stage]
    for parameter, _ in network.named_parameters():
        holders = [name for name in (*named, head) if f"{parameter}.".startswith(f"{name}.")]
        if len(holders) != 1:
            where = " and ".join(holders) or "no stage"
            reason = f"`stages` must hold all but the head once: {parameter} is in {where}"
            raise BackboneUnfit(backbone, reason)


def _last_line(error: BaseException, path: Path | None = None) -> str:
    """An exception in one line, with the line of the file that it came from."""
    told = traceback.format_exception_only(error)[-1].strip()
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if path is not None and Path(frame.filename) == path
    ]
    return f"line {lines[-1]}: {told}" if lines else told
