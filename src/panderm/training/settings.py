"""What is decided before a probe is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from panderm.errors import UsageError

Recipe = Literal["tuned", "paper"]
ProbeKind = Literal["linear", "knn", "prototypes", "attentive", "mlp"]
ClassWeight = Literal["none", "balanced"]


@dataclass(frozen=True)
class ProbeSettings:
    """What is decided before a probe is fitted.

    Attributes:
        kind: ``linear``, ``knn`` (nearest neighbours), ``prototypes`` (nearest class mean), ``attentive`` (a
            learned query over patch tokens) or ``mlp`` (one hidden layer).
        recipe: of a linear probe, ``tuned`` or ``paper``.
        C: strength of a linear probe, where it is not to be chosen.
        k: neighbours, where they are not to be chosen.
        class_weight: ``balanced``: each class counts as much as any other.
        float64: double precision throughout, where a kind has a choice.
        device: ``auto``, ``cpu``, ``cuda``, …
        seed: of starts and folds.

    Raises:
        UsageError: a choice that there is not, or that the kind has no use for.
    """

    kind: ProbeKind = "linear"
    recipe: Recipe = "tuned"
    C: float | None = None
    k: int | None = None
    class_weight: ClassWeight = "none"
    float64: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("kind", ProbeKind), ("recipe", Recipe), ("class_weight", ClassWeight)):
            if getattr(self, name) not in get_args(choices):
                raise UsageError(
                    f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}."
                )
        of_linear = {"--recipe paper": self.recipe == "paper", "--C": self.C is not None}
        of_knn = {"--k": self.k is not None}
        for kind, options in (("linear", of_linear), ("knn", of_knn)):
            for option, given in options.items():
                if given and self.kind != kind:
                    raise UsageError(
                        f"{option} is of --kind {kind}.", f"found --kind {self.kind}", f"leave {option} out"
                    )
        if self.k is not None and self.k < 1:
            raise UsageError(f"k must be at least 1, not {self.k}.")

    @property
    def task(self) -> str:
        """The question, for the card."""
        return _TASKS[self.kind]

    @property
    def chooses(self) -> bool:
        """Whether something is left to be chosen on held-out rows."""
        if self.kind == "linear":
            return self.recipe == "tuned" and self.C is None
        return self.kind != "knn" or self.k is None

    def record(self) -> dict[str, Any]:
        """Return what the predictions' card says; what is as it always was is not named."""
        told: dict[str, Any] = {}
        if self.kind == "linear":
            told |= {"recipe": self.recipe, "penalty": _PENALTIES[self.recipe]}
            told |= {"C": "chosen" if self.C is None else self.C}
        else:
            told |= {"probe": self.kind}
        if self.kind == "knn":
            told |= {"k": "chosen" if self.k is None else self.k}
        if self.class_weight != "none":
            told |= {"class weight": self.class_weight}
        if self.float64:
            told |= {"precision": "float64"}
        return told


_TASKS: dict[ProbeKind, str] = {
    "linear": "linear probe",
    "knn": "nearest neighbours",
    "prototypes": "nearest prototypes",
    "attentive": "attentive probe",
    "mlp": "probe of one hidden layer",
}
_PENALTIES = {
    "tuned": "‖W‖²/(2·C·n), features centred and scaled by one number",
    "paper": "‖W‖/(2·C), not squared, raw features",
}
