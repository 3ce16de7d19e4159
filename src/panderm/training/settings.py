"""What is decided before a probe is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
    """

    kind: ProbeKind = "linear"
    recipe: Recipe = "tuned"
    C: float | None = None
    k: int | None = None
    class_weight: ClassWeight = "none"
    float64: bool = False
    device: str = "auto"
    seed: int = 0

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


_PENALTIES = {
    "tuned": "‖W‖²/(2·C·n), features centred and scaled by one number",
    "paper": "‖W‖/(2·C), not squared, raw features",
}
