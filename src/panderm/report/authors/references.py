"""What a manuscript that uses a page has to cite: only what took part in it."""

from __future__ import annotations

from collections.abc import Sequence

from panderm.report.authors.methods import AUTHOR
from panderm.report.entry import Entry
from panderm.scores import Scores
from panderm.scores.compared import Comparison

PANDERM = "Yan S. et al. Nature Medicine 31, 2691–2702 (2025). doi:10.1038/s41591-025-03747-y"
WORKS = {
    "bootstrap": "Efron B., Tibshirani R. An Introduction to the Bootstrap (1993). doi:10.1201/9780429246593",
    "bca": "Efron B. J. Am. Stat. Assoc. 82, 171–185 (1987). doi:10.1080/01621459.1987.10478410",
    "wilson": "Wilson E. B. J. Am. Stat. Assoc. 22, 209–212 (1927). doi:10.1080/01621459.1927.10502953",
    "delong": "DeLong E. R. et al. Biometrics 44, 837–845 (1988). doi:10.2307/2531595",
    "mcnemar": "McNemar Q. Psychometrika 12, 153–157 (1947). doi:10.1007/BF02295996",
    "holm": "Holm S. Scandinavian Journal of Statistics 6, 65–70 (1979).",
    "clusters": "Field C. A., Welsh A. H. J. R. Stat. Soc. B 69, 369–390 (2007). "
    "doi:10.1111/j.1467-9868.2007.00593.x",
    "auroc": "Hanley J. A., McNeil B. J. Radiology 143, 29–36 (1982). doi:10.1148/radiology.143.1.7063747",
    "ovo": "Hand D. J., Till R. J. Machine Learning 45, 171–186 (2001). doi:10.1023/A:1010920819831",
    "kappa": "Cohen J. Psychological Bulletin 70, 213–220 (1968). doi:10.1037/h0026256",
    "exact": "Clopper C. J., Pearson E. S. Biometrika 26, 404–413 (1934). doi:10.1093/biomet/26.4.404",
    "youden": "Youden W. J. Cancer 3, 32–35 (1950). "
    "doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3",
    "net benefit": "Vickers A. J., Elkin E. B. Medical Decision Making 26, 565–574 (2006). "
    "doi:10.1177/0272989X06295361",
    "brier": "Brier G. W. Monthly Weather Review 78, 1–3 (1950). "
    "doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
    "calibration error": "Kumar A., Liang P., Ma T. NeurIPS (2019). arXiv:1909.10155",
    "temperature": "Guo C. et al. ICML (2017). arXiv:1706.04599",
    "prior shift": "Saerens M., Latinne P., Decaestecker C. Neural Computation 14, 21–41 (2002). "
    "doi:10.1162/089976602753284446",
    "conformal": "Angelopoulos A. N., Bates S. Found. Trends Mach. Learn. 16, 494–591 (2023). "
    "doi:10.1561/2200000101",
    "selective": "Geifman Y., El-Yaniv R. NeurIPS (2017). arXiv:1705.08500",
    "scikit-learn": "Pedregosa F. et al. J. Mach. Learn. Res. 12, 2825–2830 (2011).",
    "dinov2": "Oquab M. et al. DINOv2 (2023). arXiv:2304.07193",
}


def references(entries: Sequence[Entry], comparison: Comparison | None = None) -> list[str]:
    """Return the works to cite, each once: the toolkit, the encoders, the statistics that were used."""
    found = [f"The toolkit, and PanDerm where it was used: {PANDERM}"]
    for entry in entries:
        card = entry.predictions.card
        if card.embeddings is None:
            found.append(f"{card.model}: {AUTHOR}the work that describes this model.]")
            continue
        encoder = card.embeddings.encoder
        if encoder.random:
            continue
        told = encoder.citation or f"{AUTHOR}the work that describes this encoder.]"
        if "dinov2" in encoder.architecture.lower():
            told = f"{WORKS['dinov2']} ({encoder.citation or encoder.name})"
        found.append(f"{encoder.name}: {told}")
    return list(dict.fromkeys([*found, *(WORKS[key] for key in _used(entries[0].scores, comparison))]))


def _used(scores: Scores, comparison: Comparison | None) -> list[str]:
    tests = {t.name.partition(",")[0] for p in (comparison.pairs if comparison else ()) for t in p.tests}
    has = {
        "bootstrap": True,
        "bca": scores.interval == "bca",
        "wilson": scores.interval == "analytic",
        "delong": scores.interval == "analytic" or "DeLong" in tests,
        "mcnemar": "McNemar" in tests,
        "holm": comparison is not None,
        "clusters": scores.unit != "image",
        "auroc": any(name.startswith("auroc") for name in scores.scores),
        "ovo": "auroc_ovo" in scores.scores,
        "kappa": "quadratic_kappa" in scores.scores,
        "exact": scores.operating is not None,
        "youden": scores.operating is not None
        and any(p.target.aim == "youden" for p in scores.operating.points),
        "net benefit": scores.operating is not None and scores.operating.decision is not None,
        "brier": scores.calibration is not None,
        "calibration error": scores.calibration is not None,
        "temperature": scores.calibration is not None
        and any(one.of == "temperature" for one in scores.calibration.recalibrated),
        "prior shift": scores.calibration is not None and scores.calibration.prior is not None,
        "conformal": scores.prediction_sets is not None,
        "selective": scores.selective is not None,
        "scikit-learn": True,
    }
    return [key for key, used in has.items() if used]
