"""The diagnosis map: consistent with itself, true to what was published, and silent about nothing."""

from __future__ import annotations

import csv
import hashlib
import importlib.resources
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.diagnoses import (
    LEVELS,
    MAP_VERSION,
    SAME_WORDS,
    find,
    map_labels,
    read_map,
    taxonomies,
    taxonomy_of,
)
from panderm.data.sources.known import KNOWN
from panderm.errors import UsageError

# A changed map is another map: raise MAP_VERSION, and put its hash here.
HASHES = {"1": "36f9dda35c032dd26c30ad6aaf58d22a787cb5b7285c287553eda6d05ea7098b"}


def rows_of(taxonomy: str) -> dict[str, str]:
    """Return each label's answer at the level malignant."""
    return {row.label: row.malignant for row in read_map() if row.taxonomy == taxonomy}


def test_the_map_is_that_of_its_version() -> None:
    content = (importlib.resources.files("panderm.data") / "diagnoses.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == HASHES[MAP_VERSION]


def test_a_diagnosis_has_one_group_and_one_malignancy_whatever_the_dataset() -> None:
    answers = defaultdict(set)
    for row in read_map():
        if row.diagnosis:
            answers[row.diagnosis].add((row.malignant, row.group))
    assert {name: found for name, found in answers.items() if len(found) > 1} == {}


def test_every_row_is_complete_or_says_why_not() -> None:
    for row in read_map():
        assert all((row.taxonomy, row.label, row.source)), row
        assert row.malignant in ("malignant", "benign", "indeterminate", ""), row
        assert row.authors in ("malignant", "benign", "indeterminate", ""), row
        assert row.malignant or row.note, f"{row} is not mapped, and does not say why"
        assert row.label == row.label.strip(), row
    groups = Counter(row.group for row in read_map() if row.group)
    assert len(groups) < 20
    assert {"melanocytic", "keratinocytic", "vascular", "fibrous", "inflammatory"} <= set(groups)


def test_no_label_is_there_twice_under_the_rule_of_matching() -> None:
    for taxonomy in taxonomies():
        keys = [row.label.casefold().replace("-", " ").replace("_", " ") for row in read_map()
                if row.taxonomy == taxonomy]  # fmt: skip
        assert [k for k, n in Counter(" ".join(k.split()) for k in keys).items() if n > 1] == []


def test_labels_are_as_many_as_were_published() -> None:
    expected = {"ham10000": 7, "ddi": 78 + 2, "derm7pt": 20 + 5, "padufes20": 6, "ph2": 3, "mednode": 2}
    expected |= {"milk10k": 11, "dermnet": 23, "patch16": 16, "isic2019": 9, "isic2020": 9 + 2}
    for taxonomy, n in expected.items():
        assert len(rows_of(taxonomy)) == n, taxonomy


# Images per label of the published fitzpatrick17k.csv, and the partition its authors put the malignant in.
FITZPATRICK_MALIGNANT = {
    "malignant melanoma": (573, {"melanoma": 261, "superficial spreading melanoma ssm": 118,
                                 "malignant melanoma": 111, "lentigo maligna": 83}),
    "malignant cutaneous lymphoma": (182, {"mycosis fungoides": 182}),
    "malignant dermal": (156, {"kaposi sarcoma": 156}),
    "malignant epidermal": (1352, {"squamous cell carcinoma": 581, "basal cell carcinoma": 468,
                                   "basal cell carcinoma morpheiform": 62, "actinic keratosis": 175,
                                   "solid cystic basal cell carcinoma": 66}),
}  # fmt: skip


def test_what_the_authors_of_fitzpatrick17k_call_malignant_adds_up_to_their_partitions() -> None:
    partitions = {"malignant", "benign", "non-neoplastic", "inflammatory", "genodermatoses"}
    partitions |= {"benign epidermal", "benign dermal", "benign melanocyte", "malignant epidermal"}
    partitions |= {"malignant dermal", "malignant cutaneous lymphoma"}
    rows = [r for r in read_map() if r.taxonomy == "fitzpatrick17k" and r.label not in partitions]
    assert len(rows) == 114
    counted = {label for _, labels in FITZPATRICK_MALIGNANT.values() for label in labels}
    assert {r.label for r in rows if r.authors == "malignant"} == counted
    for published, labels in FITZPATRICK_MALIGNANT.values():
        assert sum(labels.values()) == published
    assert sum(n for n, _ in FITZPATRICK_MALIGNANT.values()) == 2263


def test_actinic_keratosis_is_indeterminate_everywhere_and_its_authors_are_quoted() -> None:
    of = {t: find(label, t) for t, label in [("padufes20", "ACK"), ("ddi", "actinic-keratosis"),
          ("fitzpatrick17k", "actinic keratosis"), ("isic", "Solar or actinic keratosis"),
          ("ham10000", "akiec"), ("isic2019", "AK"), ("milk10k", "AKIEC")]}  # fmt: skip
    assert {row.malignant for row in of.values() if row} == {"indeterminate"}
    assert {t: row.authors for t, row in of.items() if row and row.authors} == {
        "padufes20": "benign",
        "ddi": "benign",
        "fitzpatrick17k": "malignant",
        "isic": "indeterminate",
    }
    assert "Bowen" in of["ham10000"].note  # type: ignore[union-attr]


@pytest.mark.parametrize("source", KNOWN, ids=lambda s: s.name)
def test_every_class_of_every_known_dataset_is_in_the_map(source: panderm.data.sources.source.Source) -> None:
    if not source.classes or source.name in NO_DIAGNOSES:
        assert source.name in NO_DIAGNOSES, f"{source.name} has no classes: say why in NO_DIAGNOSES"
        return
    taxonomy = taxonomy_of(source.name)
    absent = [short for short, _ in source.classes if find(short, taxonomy) is None]
    assert absent == [], f"not in the map as words of {taxonomy}"


# Datasets whose classes are no diagnoses.
NO_DIAGNOSES = {
    "isic2018-task1": "masks of lesions, no classes",
    "isic2020-test": "the labels of the test set were never published",
}


@pytest.mark.parametrize(
    ("taxonomy", "label", "diagnosis"),
    [
        ("isic", "Malignant::Malignant adnexal epithelial proliferations - Follicular::Basal cell carcinoma"
         "::Basal cell carcinoma, Nodular", "basal cell carcinoma"),
        ("isic", "Benign:Benign melanocytic proliferations:Nevus:Nevus, NOS, Compound", "nevus"),
        ("isic", "Melanoma in situ, Lentigo maligna type", "melanoma"),
        ("isic", "nevus", "nevus"),
        ("isic", "SEBORRHEIC  keratosis", "benign keratosis"),
        ("ddi", "squamous cell carcinoma in situ", "squamous cell carcinoma in situ"),
        ("ddi", " Melanocytic_Nevi ", "nevus"),
        ("derm7pt", "Reed or Spitz nevus", "nevus"),
        ("dermnet", "urticaria hives", "urticaria"),
        ("ham10000", "NV", "nevus"),
    ],
)  # fmt: skip
def test_labels_are_found_however_they_are_spaced_and_capitalised(
    taxonomy: str, label: str, diagnosis: str
) -> None:
    row = find(label, taxonomy)
    assert row is not None
    assert row.diagnosis == diagnosis


@pytest.mark.parametrize(
    ("taxonomy", "label"),
    [("ham10000", "nve"), ("ham10000", "melanom"), ("ddi", "melanom"), ("derm7pt", "nevus"), ("isic", "::"),
     ("isic", ","), ("padufes20", "0"), ("ham10000", "Melanoma, NOS")],
)  # fmt: skip
def test_nothing_is_guessed(taxonomy: str, label: str) -> None:
    assert find(label, taxonomy) is None


@given(st.text(max_size=40), st.sampled_from(taxonomies()), st.sampled_from(LEVELS))
def test_whatever_a_label_is_it_is_mapped_or_listed(label: str, taxonomy: str, level: str) -> None:
    mapped = map_labels([label, label], taxonomy=taxonomy, level=level)  # type: ignore[arg-type]
    told = sum(n for *_, n in mapped.pairs) + sum(u.rows for u in mapped.unmapped) + mapped.unlabelled
    assert told == 2
    assert (mapped.values[0] is None) == bool(mapped.unmapped or mapped.unlabelled)


@given(st.sampled_from(read_map()), st.sampled_from("-_ "), st.booleans(), st.sampled_from(LEVELS))
def test_every_label_of_the_map_is_found_in_other_clothes(
    row: panderm.data.diagnoses.Diagnosis, between: str, upper: bool, level: str
) -> None:
    worn = row.label.replace(" ", between)
    mapped = map_labels([worn.upper() if upper else worn], taxonomy=row.taxonomy, level=level)  # type: ignore[arg-type]
    assert mapped.values[0] == (row.at(level) or None)  # type: ignore[arg-type]


def test_unmapped_labels_are_listed_with_their_rows_their_reason_and_the_nearest() -> None:
    labels = ["nv", "nvv", "nvv", None, "", "mel", "Naevus"]
    mapped = map_labels(labels, taxonomy="ham10000")
    assert list(mapped.values) == ["benign", None, None, None, None, "malignant", None]
    assert [(u.label, u.rows, u.reason, u.nearest) for u in mapped.unmapped] == [
        ("nvv", 2, "not a label of ham10000", ("nv",)),
        ("Naevus", 1, "not a label of ham10000", ()),
    ]
    assert mapped.unlabelled == 2
    assert mapped.counts == {"benign": 1, "malignant": 1}


def test_a_label_that_is_known_but_means_several_things_says_so() -> None:
    mapped = map_labels(["Melanoma Skin Cancer Nevi and Moles"], taxonomy="dermnet")
    assert mapped.unmapped[0].reason.startswith("melanoma and nevi in one folder")
    assert map_labels(["Melanoma Skin Cancer Nevi and Moles"], taxonomy="dermnet", level="group").counts == {
        "melanocytic": 1
    }
    assert map_labels(["Malignant"], taxonomy="isic", level="group").unmapped[0].reason == (
        "no one group fits all of it"
    )


@pytest.mark.parametrize(
    ("way", "ack", "af"),
    [("keep", "indeterminate", "indeterminate"), ("benign", "benign", "benign"), ("empty", None, None),
     ("malignant", "malignant", "malignant"), ("authors", "benign", "malignant")],
)  # fmt: skip
def test_indeterminate_labels_are_counted_as_asked(way: str, ack: str | None, af: str | None) -> None:
    mapped = map_labels(
        ["ACK", "actinic keratosis", "BCC"],
        taxonomy=["padufes20", "fitzpatrick17k", "padufes20"],
        indeterminate=way,  # type: ignore[arg-type]
    )
    assert list(mapped.values) == [ack, af, "malignant"]
    assert len(mapped.unmapped) == (2 if way == "empty" else 0)
    assert {c.label for c in mapped.contested} == {
        "keep": {"ACK", "actinic keratosis"},
        "benign": {"actinic keratosis"},
        "malignant": {"ACK"},
        "empty": set(),
        "authors": set(),
    }[way]


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'ham10000'"):
        map_labels(["nv"], taxonomy="ham1000")
    with pytest.raises(UsageError, match="at the level malignant only"):
        map_labels(["nv"], taxonomy="ham10000", level="group", indeterminate="benign")
    with pytest.raises(UsageError, match="a level must be one of"):
        map_labels(["nv"], taxonomy="ham10000", level="malign")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one for each"):
        map_labels(["nv"], taxonomy=["ham10000", "ddi"])
    assert set(SAME_WORDS.values()) <= set(taxonomies())
    assert not set(SAME_WORDS) & set(taxonomies())


def invoke(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "map", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_verb_adds_a_column_and_keeps_all_else(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", 'image;dx;site\na.jpg;mel;"back; low"\nb.jpg;nv;arm\n')
    code, out = invoke(table, "--label", "dx", "--from", "ham10000", "--out", tmp_path / "m.csv")
    assert code == 0
    assert "mel -> malignant: 1 row" in out
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"image": "a.jpg", "dx": "mel", "site": "back; low", "malignant": "malignant"},
            {"image": "b.jpg", "dx": "nv", "site": "arm", "malignant": "benign"},
        ]
    assert invoke(table, "--label", "dx", "--from", "ham10000", "--out", tmp_path / "m.csv")[0] == 2
    again = invoke(tmp_path / "m.csv", "--label", "dx", "--from", "ham10000", "--out", tmp_path / "n.csv")
    assert again[0] == 2
    assert "name the new column with --column" in again[1]


def test_the_verb_finds_fault_with_what_is_not_mapped_unless_told_otherwise(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "image,label\na.jpg,ACK\nb.jpg,acc\n")
    out = ("--from", "padufes20", "--json", "--out")
    code, text = invoke(table, *out, tmp_path / "m.csv")
    told = json.loads(text)
    assert code == 1
    assert told["unmapped"] == [
        {"label": "acc", "rows": 1, "reason": "not a label of padufes20", "nearest": ["SCC", "BCC"]}
    ]
    assert told["contested"][0]["authors"] == "benign"
    assert (tmp_path / "m.csv").read_text(encoding="utf-8").splitlines()[2] == "b.jpg,acc,"
    assert invoke(table, *out, tmp_path / "n.csv", "--allow-unmapped")[0] == 0


def test_rows_of_several_datasets_are_read_each_in_its_own_words(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "image,label,source\na,mel,ham10000-clean\nb,SEK,padufes20\nc,x,ddi\n")
    mapped = panderm.map_table(table, out=tmp_path / "m.csv", to="diagnosis")
    assert list(mapped.values) == ["melanoma", "benign keratosis", None]
    assert mapped.taxonomies == ("ham10000", "padufes20", "ddi")
    bare = write(tmp_path / "u.csv", "image,label\na,mel\n")
    with pytest.raises(UsageError, match="must be known"):
        panderm.map_table(bare, out=tmp_path / "v.csv")


def test_a_number_is_called_one_and_a_csv_is_written_under_no_other_name(tmp_path: Path) -> None:
    assert map_labels(["4"], taxonomy="ham10000").unmapped[0].reason == "a number, not a label of ham10000"
    table = write(tmp_path / "t.csv", "image,label\na,mel\n")
    with pytest.raises(UsageError, match="the table is written as CSV") as caught:
        panderm.map_table(table, taxonomy="ham10000", out=tmp_path / "m.parquet")
    assert caught.value.hint == "name it m.csv"


def test_a_parquet_table_is_mapped_too(tmp_path: Path) -> None:
    pd.DataFrame({"image": ["a", "b"], "label": ["mel", None]}).to_parquet(tmp_path / "t.parquet")
    mapped = panderm.map_table(tmp_path / "t.parquet", taxonomy="ham10000", out=tmp_path / "m.csv")
    assert list(mapped.values) == ["malignant", None]
    assert mapped.unlabelled == 1


def test_a_locked_table_is_mapped_in_place_and_stays_locked(
    world: panderm.data.drawn.DrawnWorld, tmp_path: Path
) -> None:
    rows = list(csv.DictReader(world.csv.read_text("utf-8").splitlines()))
    lines = [f"{row['image']},{row['label']},{row['patient_id']}" for row in rows]
    whole = write(tmp_path / "t.csv", "\n".join(["image,label,patient_id", *lines, ""]))
    table = tmp_path / "s.csv"
    images = ("--images", str(world.images))
    to = ("--test", "0.2", "--out", str(table), "-q")
    split = CliRunner().invoke(app, ["split", str(whole), *images, *to])
    assert split.exit_code in (0, 1), split.output
    words = ("--from", "isic", "--allow-unmapped", "--out")
    code, text = invoke(table, *words, tmp_path / "other.csv")
    assert "the lock of s.csv is not other.csv's" in text
    code, text = invoke(table, *words, table, "--overwrite")
    assert code == 0
    assert "the lock of" not in text
    verify = CliRunner().invoke(app, ["split", str(table), *images, "--verify", "-q"])
    assert verify.exit_code == 0, verify.output


# Label columns of the real tables, and what they must come to.
REAL = {
    "ham10000/ham_clean.csv": ("dx", "ham10000", {"benign": 6978, "indeterminate": 292, "malignant": 1513}),
    "padufes20/metadata_full_2298.csv": (
        *("diagnostic", "padufes20"),
        {"benign": 479, "indeterminate": 730, "malignant": 1089},
    ),
    "isic_uda1/labels.csv": ("dx", "isic", {"benign": 396, "malignant": 159}),
    "isic2020_patients/labels.csv": ("diagnosis", "isic2020", {"benign": 861, "malignant": 39}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_tables_are_mapped_whole(name: str, shared: Path, tmp_path: Path) -> None:
    label, taxonomy, counts = REAL[name]
    mapped = panderm.map_table(
        shared / "data" / name, label=label, taxonomy=taxonomy, out=tmp_path / "m.csv", column="mapped"
    )
    assert mapped.unmapped == ()
    assert mapped.counts == counts


def test_the_page_counts_the_labels_as_the_map_has_them() -> None:
    page = (Path(__file__).parents[2] / "docs/diagnoses.md").read_text("utf-8")
    told: dict[str, int] = {}
    for names, numbers in re.findall(r"^\| (`[^|]+`) \| ([\d, ]+) \|", page, re.M):
        told |= dict(zip(re.findall(r"`(\w+)`", names), map(int, numbers.split(",")), strict=True))
    assert told == {taxonomy: len(rows_of(taxonomy)) for taxonomy in taxonomies()}
    assert f"Its version, {MAP_VERSION}," in page


def test_what_goes_wrong_is_said_in_these_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("t.csv"), "image,dx,group\na.jpg,mel,1\n")
    words = {
        "--label dx --from ham1000": "UsageError: labels must be in the words of a known dataset; "
        "did you mean 'ham10000'?\n  found 'ham1000'\n  known: "
        + ", ".join([*taxonomies(), *SAME_WORDS])
        + "\n  hint: name the dataset the labels come from with --from\n",
        "--label dxx --from ham10000": "TableError: column 'dxx' (label) must be there; did you mean 'dx'?\n"
        "  t.csv has: image, dx, group\n  hint: name the column with --label\n",
        "--label dx --from ham10000 --to group": "TableError: the new column 'group' must not be there "
        "already.\n  t.csv has: image, dx, group\n  hint: name the new column with --column\n",
        "--label dx": "UsageError: the dataset whose words the labels are must be known.\n"
        "  t.csv has no column 'source', and no dataset is named\n  hint: name it with --from\n",
        "--label dx --from ddi --to diagnosis --indeterminate empty": "UsageError: indeterminate labels "
        "can be counted otherwise at the level malignant only.\n  the level is diagnosis\n"
        "  hint: leave out --indeterminate, or map to malignant\n",
    }
    for options, said in words.items():
        assert invoke("t.csv", *options.split(), "--out", "m.csv") == (2, said)
    assert not Path("m.csv").exists()
