"""What is known, before a study has seen its data, about learning rates and recipes for a kind of model.

Each entry names its source. The ones called "our experiment" come from ten-trial studies of November 2026 on drawings
(Omniglot, 40 classes), small photos (nine classes of CIFAR-10) and digits (MNIST, eight a class), with cifar_resnet20, on
one seed of the data each: they are a place to begin, and no law.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from trimtab.contract.backbones import (
    OWN_PREFIX,
    TIMM_PREFIX,
    TORCHVISION_BACKBONES,
    reads_text,
)
from trimtab.contract.search_space import Scalar

Family = Literal["small_convnet", "convnet", "transformer", "encoder", "from_scratch"]
"""Kinds of models that want about the same learning rate."""

SGD_FACTOR = 10.0
"""The factor from adamw's learning rates to those of sgd with momentum.

Source: a rule of thumb, not measured by us: published fine-tuning takes sgd at 1e-3 to 1e-2, adamw at 5e-5 to 1e-3.
"""

SHADOWED: Mapping[str, str] = MappingProxyType(
    {"head_factor": "head_learning_rate", "warmup_share": "warmup_epochs"}
)
"""Hyperparameters that nothing reads, or that say the same, where the other one is given."""

_TRANSFORMERS = (
    *(
        "aimv2",
        "beit",
        "cait",
        "coat",
        "convnext",
        "deit",
        "edgenext",
        "eva",
        "focalnet",
        "gmlp",
    ),
    *("hiera", "inception_next", "mambaout", "mixer", "nest", "pit_", "pvt", "resmlp", "swin"),
    *("tnt", "twins", "volo", "xcit"),
)
"""The beginnings of names: ConvNeXt and some others are convolution nets, and are trained as transformers are."""
_TRANSFORMERS_WITHIN = ("vit", "former")
"""Parts of the names of others, such as maxvit and caformer."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The prior of a learning rate, for adamw: log-normal.

    Attributes:
        centre: The likeliest rate.
        decades: The standard deviation of its decimal logarithm.
        low: The lowest rate to search.
        high: The highest rate to search.
        plain: The rate that a plain script would take.
        source: The grounds for the numbers.
    """

    centre: float
    decades: float
    low: float
    high: float
    plain: float
    source: str

    def times(self, factor: float) -> "Rates":
        """Return the same prior for rates that are so much higher."""
        return Rates(
            *(rounded(self.centre * factor), self.decades, rounded(self.low * factor)),
            *(rounded(self.high * factor), rounded(self.plain * factor), self.source),
        )


@dataclass(frozen=True, slots=True)
class KnownRecipe:
    """A recipe that does well on many tasks of its kind.

    Attributes:
        name: The recipe's name.
        values: Its hyperparameters; the others have their defaults.
        source: The grounds for it.
    """

    name: str
    values: Mapping[str, Scalar]
    source: str


RATES: Mapping[Family, Rates] = MappingProxyType(
    {
        "small_convnet": Rates(2e-3, 0.4, 1e-4, 3e-2, 1e-3, "our experiment, on three tasks"),
        "convnet": Rates(
            *(5e-4, 0.5, 2e-5, 1e-2, 1e-3),
            "a guess, not measured by us: between a tenth of the sgd 1e-3 of PyTorch's tutorial of transfer learning and the 1e-3 "
            "of adamw that did well on ants and bees with a mobile net in our experiment",
        ),
        "transformer": Rates(
            *(5e-5, 0.5, 2e-6, 1e-3, 1e-4),
            "ConvNeXt, appendix A.2 (adamw 5e-5), https://arxiv.org/abs/2201.03545; Swin (1e-5 to 5e-5), "
            "https://arxiv.org/abs/2103.14030",
        ),
        "encoder": Rates(
            *(1e-4, 0.5, 5e-6, 1e-3, 3e-5),
            "ELECTRA, appendix B (3e-4 small, 1e-4 base, 5e-5 large), https://arxiv.org/abs/2003.10555; BERT, appendix A.3 "
            "(2e-5 to 5e-5), https://arxiv.org/abs/1810.04805; our experiment: 87.9 % at 3e-4, 75.4 % at 1e-4, 53.9 % at 3e-5, "
            "79.8 % at 1e-3 (MiniLM on 302 questions, 3 epochs, one seed); with 640 rows 1e-4 and 3e-4 are level "
            "(TREC 92.0 % and 92.7 %, SST-2 85.0 % and 84.0 %, one seed)",
        ),
        "from_scratch": Rates(
            1e-3, 0.5, 1e-4, 3e-2, 1e-3, "torch's default of adamw; not measured by us"
        ),
    }
)


def family_of(backbone: str, weights: str) -> Family:
    """Return the kind of a model; a backbone of somebody's own passes for a small convolution net."""
    is_own = backbone.startswith(OWN_PREFIX)
    if weights == "none" and not is_own:  # what its owner's function makes may be pretrained
        return "from_scratch"
    if reads_text(backbone):
        return "encoder"
    name = backbone.removeprefix(TIMM_PREFIX)
    if is_own or (name == backbone and name not in TORCHVISION_BACKBONES):
        return "small_convnet"
    is_transformer = name.startswith(_TRANSFORMERS) or any(
        part in name for part in _TRANSFORMERS_WITHIN
    )
    return "transformer" if is_transformer else "convnet"


def rates_of(family: Family, optimizer: str) -> Rates:
    """Return the prior of the learning rate for a kind of model and an optimizer."""
    return RATES[family].times(SGD_FACTOR) if optimizer == "sgd" else RATES[family]


def known_recipes(family: Family, optimizer: str, kind: str) -> tuple[KnownRecipe, ...]:
    """Return the recipes that are known to be good, the best one first.

    Args:
        family: The kind of model.
        optimizer: The optimizer that they shall have.
        kind: The kind of task.
    """
    rates = rates_of(family, optimizer)
    if family == "encoder":
        return (
            _warm_linear("warm_linear", rates.centre, optimizer),
            _warm_linear("warm_linear_small", rounded(3 * rates.centre), optimizer),
            _plain(rates, optimizer),
        )
    warm, fast, plain = (
        _warm_cosine(rates, optimizer, kind),
        _fast_head(rates, optimizer),
        _plain(rates, optimizer),
    )
    if family == "from_scratch":
        return warm, plain  # all of its layers are as new as the head
    return (fast, warm, plain) if family == "convnet" else (warm, fast, plain)


def _warm_cosine(rates: Rates, optimizer: str, kind: str) -> KnownRecipe:
    values: dict[str, Scalar] = {
        "learning_rate": rounded(1.5 * rates.centre),
        "optimizer": optimizer,
        "schedule": "cosine",
        "warmup_share": 0.1,
        "head_factor": 1.0,
    }
    if kind == "classification":
        values["label_smoothing"] = 0.1
    source = (
        "our experiment: the best single recipe on three tasks, 87.0 % against 84.2 % of the plain one; warm-up: Goyal et al. "
        "(2017), https://arxiv.org/abs/1706.02677; smoothing: Szegedy et al. (2016), https://arxiv.org/abs/1512.00567"
    )
    return KnownRecipe("warm_cosine", values, source)


def _warm_linear(name: str, rate: float, optimizer: str) -> KnownRecipe:
    values: dict[str, Scalar] = {
        "learning_rate": rate,
        "optimizer": optimizer,
        "schedule": "linear",
        "warmup_share": 0.1,
        "head_factor": 10.0,
    }
    source = (
        "schedule: Devlin et al. (2019), appendix A.3, https://arxiv.org/abs/1810.04805; warm-up and Adam's correction of its "
        "bias: Mosbach et al. (2021), https://arxiv.org/abs/2006.04884; the rate is that of base models, or thrice that for "
        "small ones: Clark et al. (2020), appendix B, https://arxiv.org/abs/2003.10555"
    )
    return KnownRecipe(name, values, source)


def _fast_head(rates: Rates, optimizer: str) -> KnownRecipe:
    values: dict[str, Scalar] = {
        "learning_rate": rounded(0.5 * rates.centre),
        "optimizer": optimizer,
        "schedule": "constant",
        "warmup_share": 0.0,
        "head_factor": 10.0,
    }
    source = (
        "our experiment: 86.9 % on three tasks, and as good as the plain one on ants and bees with a mobile net; the factor is "
        "that of Caffe's examples of fine-tuning"
    )
    return KnownRecipe("fast_head", values, source)


def _plain(rates: Rates, optimizer: str) -> KnownRecipe:
    values: dict[str, Scalar] = {
        "learning_rate": rates.plain,
        "optimizer": optimizer,
        "schedule": "constant",
        "warmup_share": 0.0,
        "head_factor": 1.0,
    }
    return KnownRecipe(
        "plain", values, "what a person's own script does: no study should be worse"
    )


def rounded(rate: float) -> float:
    """Without the noise of a float's product: three digits."""
    return float(f"{rate:.3g}")
