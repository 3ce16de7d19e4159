"""The sections on decisions say every number they hold, and keep the points that they draw."""

from dataclasses import replace

from panderm.report.sections import decision_sections, hierarchy_section, subgroup_forest
from panderm.scores import LevelScores, Score, Scores, SubgroupColumn, Subgroups
from panderm.scores.calibration import Calibration, CalibrationOf, ReliabilityBin
from panderm.scores.hierarchy import Hierarchy, HierarchyLevel
from panderm.scores.operating import DecisionCurve, DiagnosisRow, Operating, OperatingPoint, Target
from panderm.scores.prediction_sets import CoverageRow, PredictionSets, SetsBy
from panderm.scores.resampled import Band
from panderm.scores.selective import Selective

S = Score(0.712, 0.633, 0.798)
NONE = Score(None, None, None, "too few to say: 2 patients of class 'mel', and 5 are needed")
BAND = Band((0.1, None, 0.3), (0.05, None, 0.2), (0.2, None, 0.4))
BINS = (ReliabilityBin(0, 0.5, 9, 0.2, S), ReliabilityBin(0.5, 1, 0, None, NONE))
POINTS = (
    OperatingPoint(Target("sensitivity", 0.95), 0.125, None, {}, 11, 22, 33, 44, {"ppv": S}),
    OperatingPoint(Target("youden"), None, "no row reaches it", {}, 0, 0, 0, 0, {"ppv": NONE}),
)
BARE = Scores({"auroc": S}, {}, [], ("nv", "mel"), 9, 9, "image", 9, 0, "test", "0")
FULL = replace(
    BARE,
    operating=Operating(
        ("<mel>",), "val", False, 5, 2, POINTS, DecisionCurve((0.1, 0.2, 0.3), BAND, BAND),
        (DiagnosisRow("nevus", 7, 6, None, (S, NONE)),),
    ),
    calibration=Calibration("of mel", CalibrationOf("as given", "", {"ece": S}, BINS, {})),
    prediction_sets=PredictionSets(
        0.9, "val", 5, (SetsBy("all", (CoverageRow("all", "", 9, 5, S, S, S, NONE),), {1: 8}),)
    ),
    selective=Selective((0.1, 0.5, 1.0), BAND, S, S, {"0.5": S}),
    hierarchy=Hierarchy(
        "a file",
        (HierarchyLevel("malignant", {}, {"x": "no"}, 9, {"accuracy": S}, {"yes": NONE}, {"yes": 4}),),
    ),
)  # fmt: skip


def test_a_section_without_data_is_absent():
    assert decision_sections(BARE) == []
    assert subgroup_forest(BARE) is None
    assert hierarchy_section(BARE) is None


def test_every_section_says_its_numbers_and_why_there_is_none():
    made = {one.name: one for one in decision_sections(FULL)}
    assert list(made) == ["operating", "calibration", "sets", "selective", "hierarchy"]
    for one in made.values():
        assert "0.712 (0.633–0.798)" in str(one.tables)
    text = str(made["operating"])
    assert "those are the rows scored" in text
    assert "none: no row reaches it" in text
    assert "too few to say: 2 patients" in text
    assert "differs" in text
    assert "locked before" in str(
        decision_sections(replace(FULL, operating=replace(FULL.operating, locked=True)))[0]
    )


def test_figures_keep_their_points_and_gaps():
    drawn = {d.title: d for one in decision_sections(FULL) for d in one.drawings}
    curve = drawn["Decision curve"].points
    assert curve.rows[:2] == (("by the model", 0.1, 0.1, 0.05, 0.2), ("by the model", 0.2, None, None, None))
    assert len(curve.rows) == 6
    assert drawn["Reliability diagram"].points.rows[1] == ("as given", None, None, None, None, 0)
    assert all(d.svg.startswith("<svg") and "nan" not in d.svg.lower() for d in drawn.values())


def test_the_forest_has_a_line_for_groups_without_a_value():
    levels = tuple(LevelScores(n, 9, 9, {}, {"auroc": s}, {"auroc": s}) for n, s in (("<f>", S), ("m", NONE)))
    held = Subgroups((SubgroupColumn("sex", levels),), "t.csv", "0" * 64, "image", 5)
    forest = subgroup_forest(replace(BARE, subgroups=held))
    assert forest.points.rows == (
        ("all", 0.712, 0.633, 0.798),
        ("sex: <f>", 0.712, 0.633, 0.798),
        ("sex: m", None, None, None),
    )
    assert "<f>" not in forest.svg
    assert "no value" in forest.svg
