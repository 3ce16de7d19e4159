"""The sections on decisions say every number they hold, and keep the points that they draw."""

import re
from dataclasses import replace

from test_report import make_predictions

from panderm.report.entry import Entry
from panderm.report.sections import decision_sections, hierarchy_section, subgroup_forest
from panderm.report.several.folds import folds_section
from panderm.report.several.keys import each, keys_of
from panderm.scores import LevelScores, Score, Scores, SubgroupColumn, Subgroups
from panderm.scores.calibration import Calibration, CalibrationOf, ReliabilityBin
from panderm.scores.folds import Folds, FoldScores
from panderm.scores.hierarchy import Hierarchy, HierarchyLevel
from panderm.scores.operating import DecisionCurve, DiagnosisRow, Operating, OperatingPoint, Target
from panderm.scores.prediction_sets import CoverageRow, PredictionSets, SetsBy
from panderm.scores.resampled import Band
from panderm.scores.selective import Selective
from panderm.statistics.over_folds import OverFolds

ENDS = (0.712, 0.633, 0.798)
S, T = Score(*ENDS), Score(0.25, 0.125, 0.5)
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
    top_k={"top_2_accuracy": S},
    hierarchy=Hierarchy(
        "a file",
        (HierarchyLevel("malignant", {}, {"x": "no"}, 9, {"accuracy": S}, {"yes": NONE}, {"yes": 4}),),
    ),
)  # fmt: skip


def entries(*scores):
    """Return one entry for each of some scores, titled as a user's own files would be."""
    given = make_predictions()
    return [Entry(f"model {i}", given, one) for i, one in enumerate(scores)]


def test_a_section_without_data_is_absent():
    for those in (entries(BARE), entries(BARE, BARE)):
        assert decision_sections(those) == []
        assert subgroup_forest(those) is None
        assert hierarchy_section(those) is None


def test_every_section_says_its_numbers_and_why_there_is_none():
    made = {one.name: one for one in decision_sections(entries(FULL))}
    assert list(made) == ["operating", "calibration", "sets", "selective", "top_k", "hierarchy"]
    for one in made.values():
        assert "0.712 (0.633–0.798)" in str(one.tables)
    text = str(made["operating"])
    assert "those are the rows scored" in text
    assert "none: no row reaches it" in text
    assert "too few to say: 2 patients" in text
    assert "differs" in text
    assert "locked before" in str(
        decision_sections(entries(replace(FULL, operating=replace(FULL.operating, locked=True))))[0]
    )


def test_figures_keep_their_points_and_gaps():
    drawn = {d.title: d for one in decision_sections(entries(FULL)) for d in one.drawings}
    curve = drawn["Decision curve"].points
    assert curve.rows[:2] == (("by the model", 0.1, 0.1, 0.05, 0.2), ("by the model", 0.2, None, None, None))
    assert len(curve.rows) == 6
    assert drawn["Reliability diagram"].points.rows[1] == ("as given", None, None, None, None, 0)
    assert all(d.svg.startswith("<svg") and "nan" not in d.svg.lower() for d in drawn.values())


def test_the_forest_has_a_line_for_groups_without_a_value():
    levels = tuple(LevelScores(n, 9, 9, {}, {"auroc": s}, {"auroc": s}) for n, s in (("<f>", S), ("m", NONE)))
    held = Subgroups((SubgroupColumn("sex", levels),), "t.csv", "0" * 64, "image", 5)
    scored = replace(BARE, subgroups=held)
    rows = (("all", *ENDS), ("sex: <f>", *ENDS), ("sex: m", None, None, None))
    forest = subgroup_forest(entries(scored))
    assert forest.points.rows == tuple(("model 0", *row) for row in rows)
    assert "<f>" not in forest.svg
    assert "no value" in forest.svg
    both = subgroup_forest(entries(scored, scored))
    assert both.points.rows == tuple((of, *row) for of in ("A model 0", "B model 1") for row in rows)
    assert both.caption.startswith("A model 0; B model 1. ")
    other = replace(held, columns=(replace(held.columns[0], levels=levels[:1]),))
    assert subgroup_forest(entries(scored, replace(BARE, subgroups=other))) is None
    assert subgroup_forest(entries(scored, BARE)) is None


# --- several ---


def test_every_column_of_one_is_a_table_of_several():
    other = replace(FULL, top_k={"top_2_accuracy": T}, selective=replace(FULL.selective, area=T))
    alone = {one.name: one for one in decision_sections(entries(FULL))}
    both = {one.name: one for one in decision_sections(entries(FULL, other))}
    assert list(both) == list(alone)
    for name, section in both.items():
        tables = [*section.tables, *(part.table for part in section.folded)]
        columns = [(t, column) for t in alone[name].tables for column in t.header[1:]]
        assert len(tables) == len(columns)
        for table, (of, column) in zip(sorted_by(tables, columns), columns, strict=True):
            at = of.header.index(column)
            assert table.header[1:] == ("A model 0", "B model 1")
            assert [key.letter for key in table.keys] == ["A", "B"]
            assert [(row[0], row[1]) for row in table.rows] == [
                (row[0], row[at]) for row in of.rows if row[at] != "—" or (row[0], "—") in cells(table)
            ]
    assert both["top_k"].tables[0].rows == [["Top 2 accuracy", "0.712 (0.633–0.798)", "0.250 (0.125–0.500)"]]


def cells(table):
    return [(row[0], row[1]) for row in table.rows]


def sorted_by(tables, columns):
    """Return tables of several in the order of the columns of one."""
    captions = [of.caption if len(of.header) == 2 else f"{of.caption}: {column}" for of, column in columns]
    return sorted(tables, key=lambda table: captions.index(table.caption))


def test_an_entry_without_a_section_has_a_column_that_says_so():
    made = {one.name: one for one in decision_sections(entries(FULL, BARE))}
    assert list(made) == ["operating", "calibration", "sets", "selective", "top_k", "hierarchy"]
    for section in made.values():
        assert all(row[2] == "—" for table in section.tables for row in table.rows)
    assert made["operating"].intro[1] == "B: none of this was scored."
    assert made["operating"].drawings[0].caption.startswith("A model 0. "), "only what is drawn is named"
    assert {row[0] for row in made["selective"].drawings[0].points.rows} == {"A model 0"}


def test_everyone_is_drawn_once_where_it_is_the_same():
    def lines(*scores):
        drawing = decision_sections(entries(*scores))[0].drawings[0]
        return [row[0] for row in drawing.points.rows]

    assert lines(FULL, FULL).count("everyone") == 3
    assert lines(FULL, FULL).count("B model 1") == 3
    curve = replace(FULL.operating.decision, everyone=Band((0.2,) * 3, (0.1,) * 3, (0.3,) * 3))
    other = replace(FULL, operating=replace(FULL.operating, positive=("nv",), decision=curve))
    assert lines(FULL, other).count("everyone") == 6
    intro = decision_sections(entries(FULL, other))[0].intro
    assert [text[:20] for text in intro] == ["A: Positive: <mel>. ", "B: Positive: nv. Thr"]


def test_drawings_of_several_have_the_colours_of_their_keys_and_ids_of_their_own():
    drawn = [d for one in decision_sections(entries(FULL, FULL, FULL)) for d in one.drawings]
    for drawing in drawn:
        for colour in ("--series-1", "--series-2", "--series-3"):
            assert colour in drawing.svg
        for name in ("A model 0", "B model 1", "C model 2"):
            assert name in drawing.caption
            assert name in drawing.svg
    ids = [i for drawing in drawn for i in re.findall(r' id="([^"]+)"', drawing.svg)]
    assert len(ids) == len(set(ids))


def test_heads_say_what_tells_titles_apart():
    def own(*titles):
        given = make_predictions()
        return [key.own for key in keys_of([Entry(title, given, BARE) for title in titles])]

    assert own("vit (recipe a)", "vit (recipe b)", "other") == ["recipe a", "recipe b", "other"]
    assert own("vit (recipe a)", "big (recipe b)") == ["vit (recipe a)", "big (recipe b)"]
    assert own("vit (a)", "vit (b)", "big (a)", "big (b)")[0] == "vit (a)", "no two heads are alike"
    assert own("vit") == ["vit"]
    keys = keys_of([Entry(f"model {i}", make_predictions(), BARE) for i in range(7)])
    assert [key.short for key in keys] == [""] * 7, "seven columns have no room for names"
    assert each(keys[:3], ["x.", "y.", "x."]) == ["A and C: x.", "B: y."]
    assert each(keys[:2], ["x.", "x."]) == ["x."]


# --- folds, tests ---


def test_folds_of_several_stand_side_by_side_where_all_have_them():
    fold = tuple(
        FoldScores(str(i), 9, 9, {}, {"auroc": v}, {"auroc": "why"}) for i, v in ((1, 0.5), (2, None))
    )
    over = OverFolds(folds=2, mean=0.7, sd=0.1, low=0.6, high=0.8)
    scored = replace(BARE, folds=Folds(fold, {"auroc": over}))
    section = folds_section(entries(scored, scored))
    assert section.tables[0].rows == [["AUROC", *["0.700 (0.600–0.800)"] * 2]]
    assert section.tables[1].rows == [["AUROC", "0.100", "0.100"]]
    assert section.tables[2].rows == [["1 (9)", "0.500", "0.500"], ["2 (9)", *["not computable: why"] * 2]]
    assert folds_section(entries(scored, BARE)) is None
