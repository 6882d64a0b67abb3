"""The release gate and its headline: every combination of what can be measured, and each sentence once."""

import json
from collections import Counter
from dataclasses import fields
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from monai_deepssim.calibration import (
    Gate,
    GateEvidence,
    GateRules,
    MemorizedPatients,
    SecondOpinion,
    decide_gate,
    headline,
    images_needed,
    upper_limit,
)

NUM_IMAGES, NONE = 1000, np.zeros(1000, dtype=bool)
#: Suspicious images of 1,000 where 1 % is accepted: the upper limits are 0.3, 0.63, 1.57 and 2.9 %.
SEEN = {"none": 0, "few": 2, "many": 9, "more": 20}
#: Memorized patients of 200 where 5 % is accepted: the upper limits are 1.5, 7.1 and 14.2 %.
PATIENTS = {
    "unnamed": None,
    "none": MemorizedPatients(0, 200),
    "many": MemorizedPatients(8, 200),
    "more": MemorizedPatients(20, 200),
    "some unnamed": MemorizedPatients(0, 200, unknown=7),
}
CHOSEN = {
    "": {},
    "alone": {"chosen_by": "deepssim"},
    "by itself": {"chosen_by": "deepssim", "second_opinion": SecondOpinion("deepssim", NONE)},
    "with a second": {"chosen_by": "deepssim", "second_opinion": SecondOpinion("local_features", NONE)},
}
#: A skipped image of 1,000 fits into 1 %; thirty fit neither there nor into 5 % of 200 patients.
SKIPPED = {"none": 0, "one": 1, "thirty": 30}


def flags(count):
    return np.arange(NUM_IMAGES) < count


def evidence_of(**measured):
    return GateEvidence(
        **{
            "is_copy": NONE,
            "is_part": NONE,
            "is_discovery": NONE,
            "is_unexplained": NONE,
            "null_can_call": True,
            "recall": 1.0,
            **measured,
        }
    )


def expected_codes(case):
    """The codes of a combination, worked out from the names of its parts alone."""
    copy_limit, patient_limit = case["limits"]
    asked, for_generator = copy_limit or patient_limit, case["gate_on"] == "generator"
    interval = for_generator and not case["chosen"]
    half_seen = case["recall"] == 0.5
    exceeded = copy_limit and case["seen"] == "more"
    patients_exceeded = patient_limit and case["patients"] == "more"
    skipped = case["skipped_synthetic"]
    #: One more suspicious image breaks the limit of 1 % where 9 are seen in the files, which 10 of 1,001 do not.
    one_too_many = copy_limit and (
        exceeded or (interval and (case["seen"] == "many" or (half_seen and case["seen"] == "few")))
    )
    one_patient_too_many = patient_limit and (patients_exceeded or (interval and case["patients"] == "many"))
    table = {
        "copies_exceeded": exceeded,
        "patients_exceeded": patients_exceeded,
        "skipped_training": case["skipped_training"],
        "skipped_synthetic": (skipped != "none" and not asked)
        or (skipped == "one" and (one_too_many or one_patient_too_many))
        or (skipped == "thirty" and (copy_limit or (patient_limit and case["patients"] != "unnamed"))),
        "skipped_holdout": case["skipped_holdout"],
        "ignored_files": case["ignored_files"],
        "sides_differ": case["sides_differ"],
        "judged_by_its_chooser": case["chosen"] in ("alone", "by itself"),
        "chosen_set": case["chosen"] and for_generator and asked,
        "no_null": case["null_can_call"] is None,
        "null_cannot_call": case["null_can_call"] is False,
        "recall_unknown": case["recall"] is None,
        "controls_missed": half_seen or case["missed"],
        "patients_unknown": patient_limit and case["patients"] in ("unnamed", "some unnamed"),
        "too_few_images": copy_limit and interval and (case["seen"] == "many" or (case["seen"] == "few" and half_seen)),
        "too_few_patients": patient_limit and interval and case["patients"] == "many",
    }
    return [code for code, holds in table.items() if holds]


def combinations(**choices):
    defaults = {
        "limits": [(True, False)],
        "gate_on": ["generator", "files"],
        "seen": ["none"],
        "patients": ["unnamed"],
        "recall": [1.0],
        "null_can_call": [True],
        "skipped_training": [0],
        "skipped_synthetic": ["none"],
        "skipped_holdout": [0],
        "ignored_files": [0],
        "sides_differ": [""],
        "chosen": [""],
        "missed": [()],
    }
    choices = {**defaults, **choices}
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def decide(case):
    copy_limit, patient_limit = case["limits"]
    rules = GateRules(0.01 if copy_limit else None, 0.05 if patient_limit else None, case["gate_on"])
    evidence = evidence_of(
        is_unexplained=flags(SEEN[case["seen"]]),
        patients=PATIENTS[case["patients"]],
        skipped_synthetic=SKIPPED[case["skipped_synthetic"]],
        **{
            name: case[name]
            for name in (
                *("recall", "null_can_call", "skipped_training", "skipped_holdout", "ignored_files", "sides_differ"),
                "missed",
            )
        },
        **CHOSEN[case["chosen"]],
    )
    return decide_gate(rules, evidence)


ALL_OF_IMAGES = combinations(
    limits=[(False, False), (True, False)],
    seen=list(SEEN),
    recall=[None, 0.5, 1.0],
    null_can_call=[None, False, True],
    skipped_training=[0, 2],
    skipped_synthetic=list(SKIPPED),
    ignored_files=[0, 3],
    sides_differ=["", "the training images are darker."],
    chosen=["", "alone", "with a second"],
)
ALL_OF_IMAGES += combinations(
    limits=[(False, False), (True, False)],
    seen=list(SEEN),
    skipped_training=[0, 2],
    skipped_synthetic=list(SKIPPED),
    skipped_holdout=[1],
    ignored_files=[0, 3],
)
ALL_OF_PATIENTS = combinations(
    limits=[(False, True), (True, True)],
    seen=["none", "many", "more"],
    patients=list(PATIENTS),
    recall=[None, 1.0],
    skipped_synthetic=list(SKIPPED),
    chosen=list(CHOSEN),
    missed=[(), ("1 of 20 shifted by 10 % of the side",)],
)


@pytest.mark.parametrize("cases", [ALL_OF_IMAGES, ALL_OF_PATIENTS], ids=["images", "patients"])
def test_every_combination_has_its_result_its_reasons_in_order_and_a_headline_that_says_the_same(cases):
    results = Counter()
    for case in cases:
        gate = decide(case)
        codes = expected_codes(case)
        assert [reason.code for reason in gate.reasons] == codes, case
        asked = any(case["limits"])
        exceeded = [code for code in codes if code.endswith("exceeded")]
        expected = None if not asked else "exceeded" if exceeded else "undecided" if codes else "passed"
        assert gate.result == expected, case
        assert [reason.result for reason in gate.reasons] == ["exceeded"] * len(exceeded) + ["undecided"] * (
            len(codes) - len(exceeded)
        )
        assert gate.exit_status == {None: 0, "passed": 0, "undecided": 2, "exceeded": 3}[expected]
        if asked and codes:
            assert gate.reason == gate.reasons[0].text
        check_headline(gate, sum_of_skipped(case), case)
        results[expected] += 1
    assert min(results.values()) > 10, results


def sum_of_skipped(case):
    return SKIPPED[case["skipped_synthetic"]] + case["skipped_training"] + case["skipped_holdout"]


def check_headline(gate, num_skipped, case):
    words = headline(gate, num_skipped=num_skipped)
    is_clean = gate.num_suspicious == 0 and not num_skipped
    tones = {
        "exceeded": "bad",
        "undecided": "unsure",
        "passed": "good" if is_clean else "unsure",
        None: "good" if is_clean and not gate.reasons else "unsure",
    }
    assert words.tone == tones[gate.result], case
    if gate.num_suspicious or gate.result == "exceeded":
        assert "no copy was found" not in words.title.lower(), case
    if gate.result is not None:
        assert f"gate {gate.result}" in words.title, case
    assert "passed" not in words.title or gate.exit_status == 0
    assert ("Do not share" in words.advice) == (gate.result in ("exceeded", "undecided")), case


@pytest.mark.parametrize("kind", ["is_copy", "is_part", "is_discovery", "is_unexplained", "second_opinion"])
def test_each_kind_of_suspicion_alone_fails_a_gate(kind):
    few = SecondOpinion("local_features", flags(20)) if kind == "second_opinion" else flags(20)
    chosen = {"chosen_by": "deepssim"} if kind == "second_opinion" else {}
    gate = decide_gate(GateRules(0.01, gate_on="files"), evidence_of(**{kind: few}, **chosen))
    assert (gate.result, gate.num_suspicious) == ("exceeded", 20)
    without_limit = decide_gate(GateRules(), evidence_of(**{kind: few}, **chosen))
    words = headline(without_limit)
    assert words.tone == ("bad" if kind in ("is_copy", "is_part") else "unsure")
    assert words.title.startswith("20 of 1,000")


def test_an_image_counts_in_the_first_class_that_it_is_of():
    evidence = evidence_of(
        is_copy=flags(1),
        is_part=flags(3),
        is_discovery=flags(6),
        is_unexplained=flags(10),
        is_twin=flags(4),
        second_opinion=SecondOpinion("local_features", flags(15)),
    )
    gate = decide_gate(GateRules(0.5, gate_on="files"), evidence)
    assert gate.suspicious == {
        "copies": 1,
        "parts": 2,
        "twins": 1,
        "discoveries": 2,
        "unexplained": 4,
        "second_opinion": 5,
    }
    assert gate.num_suspicious == 15


def test_part_copies_that_are_not_to_count_do_not_count_as_discoveries_and_stay_in_the_headline():
    evidence = evidence_of(is_part=flags(20), is_discovery=flags(20))
    gate = decide_gate(GateRules(0.01, count_parts=False), evidence)
    assert (gate.result, gate.num_suspicious) == ("passed", 0)
    words = headline(gate)
    assert words.tone == "unsure"
    assert words.title == (
        "Release gate passed (with copies of a part not counted): 20 of 1,000 synthetic images are copies of a "
        "training image"
    )
    assert "0 of 1,000 synthetic images are suspicious, beside 20 copies of a part that are not counted" in words.advice
    assert decide_gate(GateRules(0.01), evidence).result == "exceeded"


def test_the_limit_is_compared_after_its_division_by_the_recall():
    evidence = evidence_of(is_copy=flags(4), recall=0.9)
    gate = decide_gate(GateRules(0.01), evidence)
    limit = upper_limit(flags(4))
    assert limit < 0.01 < limit / 0.9 < 0.0102
    assert (gate.result, [reason.code for reason in gate.reasons]) == ("undecided", ["too_few_images"])
    assert gate.upper_limit == limit
    assert gate.upper_limit_over_recall == pytest.approx(limit / 0.9)
    assert gate.images_needed == images_needed(0.009, 4) == 1015
    assert "1,015 with 4 suspicious would do, or 332 with none." in gate.reason
    assert decide_gate(GateRules(0.01, gate_on="files"), evidence).result == "passed"


@pytest.mark.parametrize(("recall", "result"), [(1.0, "passed"), (0.95, "passed"), (0.949, "undecided")])
def test_a_search_that_finds_too_little_leaves_the_gate_undecided(recall, result):
    gate = decide_gate(GateRules(0.01), evidence_of(search_engine="hnsw", search_recall=recall))
    assert gate.result == result
    if result == "undecided":
        assert [reason.code for reason in gate.reasons] == ["search_incomplete"]
        assert "--search hnsw found 94.9 % of the training images that the exact search finds" in gate.reason
        assert "Give --search exact." in gate.reason
    with pytest.raises(ValueError, match=r"got search_recall=1.5"):
        evidence_of(search_recall=1.5)


def test_a_recall_of_nothing_leaves_any_share_possible():
    gate = decide_gate(GateRules(0.5), evidence_of(recall=0.0))
    assert gate.upper_limit_over_recall == 1
    assert [reason.code for reason in gate.reasons] == ["controls_missed", "too_few_images"]
    assert gate.images_needed is None


def test_slices_of_a_volume_are_not_taken_for_independent_images():
    volumes = [f"volume {index // 10}" for index in range(NUM_IMAGES)]
    gate = decide_gate(GateRules(0.01), evidence_of(files=volumes))
    assert gate.upper_limit == pytest.approx(upper_limit(np.zeros(100)))
    assert gate.result == "undecided"
    assert gate.images_needed == 2990


@pytest.mark.parametrize(("total", "result"), [(298, "undecided"), (299, "passed")])
def test_299_clean_images_pass_at_one_per_cent_and_298_do_not(total, result):
    none = np.zeros(total)
    gate = decide_gate(
        GateRules(0.01), evidence_of(**dict.fromkeys(("is_copy", "is_part", "is_discovery", "is_unexplained"), none))
    )
    assert (gate.result, gate.images_needed) == (result, 299)


def test_nothing_can_show_that_a_generator_never_copies():
    gate = decide_gate(GateRules(0.0), evidence_of())
    assert gate.result == "undecided"
    assert "give a limit above 0, or --gate_on files" in gate.reason
    assert decide_gate(GateRules(0.0, gate_on="files"), evidence_of()).result == "passed"


def test_no_number_of_images_is_named_where_the_share_itself_is_exceeded():
    gate = decide_gate(GateRules(0.01), evidence_of(is_copy=flags(20)))
    assert (gate.result, gate.images_needed) == ("exceeded", None)
    assert gate.upper_limit > 0.02


def test_no_interval_is_given_of_a_set_that_stands_for_no_other():
    for gate in (
        decide_gate(GateRules(0.01, gate_on="files"), evidence_of(patients=PATIENTS["none"])),
        decide_gate(GateRules(0.01), evidence_of(patients=PATIENTS["none"], **CHOSEN["with a second"])),
    ):
        assert (gate.upper_limit, gate.upper_limit_over_recall, gate.images_needed) == (None, None, None)
        assert gate.patients == {"memorized": 0, "total": 200, "upper_limit": None}


def test_the_known_patients_alone_can_exceed_a_limit():
    many = MemorizedPatients(30, 100, unknown=100)
    gate = decide_gate(GateRules(max_patient_fraction=0.1), evidence_of(patients=many))
    assert [reason.code for reason in gate.reasons] == ["patients_exceeded", "patients_unknown"]
    assert "30 of at most 200 training patients" in gate.reason
    assert gate.patients == {"memorized": 30, "total": 100, "upper_limit": None}
    fewer = decide_gate(GateRules(max_patient_fraction=0.2), evidence_of(patients=many))
    assert [reason.code for reason in fewer.reasons] == ["patients_unknown"]


@pytest.mark.parametrize("size", [100, 500, 1500])
def test_a_generator_that_copies_what_is_accepted_or_more_passes_at_most_one_audit_in_twenty(size):
    none, chance = np.zeros(size, dtype=bool), 0.0
    for count in range(40):
        copies = np.arange(size) < count
        evidence = evidence_of(is_copy=copies, is_part=none, is_discovery=none, is_unexplained=none)
        if decide_gate(GateRules(0.01), evidence).result == "passed":
            chance += binom.pmf(count, size, 0.0101)
    assert chance <= 0.05
    assert (chance > 0) == (size > 298)


def test_the_summary_has_every_field_and_is_plain_json():
    gate = decide_gate(GateRules(0.01, 0.05), evidence_of(is_copy=flags(20), patients=PATIENTS["many"]))
    entry = json.loads(json.dumps(gate.as_json()))
    assert set(entry) == {field.name for field in fields(Gate)}
    assert entry["reasons"][0] == {"code": "copies_exceeded", "result": "exceeded", "text": gate.reason}
    assert entry["suspicious"] == {"copies": 20, "parts": 0, "twins": 0, "discoveries": 0, "unexplained": 0}
    assert entry["patients"]["total"] == 200


def test_numbers_that_differ_are_written_so_that_they_do():
    none = np.zeros(298)
    evidence = evidence_of(is_copy=none, is_part=none, is_discovery=none, is_unexplained=none)
    assert "is 1.0002 %, and 1 % is accepted" in decide_gate(GateRules(0.01), evidence).reason


def test_the_headline_names_what_is_reproduced_and_how_many_more_reasons_there_are():
    evidence = evidence_of(is_copy=flags(20), is_unexplained=flags(21), recall=None, skipped_training=1)
    words = headline(decide_gate(GateRules(0.01), evidence), num_memorized=3, num_patients=2)
    assert words.title == (
        "Release gate exceeded: 20 of 1,000 synthetic images are copies of a training image, and 1 more is suspicious"
    )
    assert words.advice.startswith(
        "The copies match 3 training images of 2 known patients, repeated or neighbouring ones included. 21 of 1,000"
    )
    assert "2 more reasons are named below, and leaving images out alone" in words.advice
    unknown = headline(decide_gate(GateRules(), evidence), num_memorized=3)
    assert "their patients are not known" in unknown.advice


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GateRules(gate_on="folder"), "gate_on='folder'"),
        (lambda: GateRules(max_copy_fraction=2), "max_copy_fraction=2"),
        (lambda: evidence_of(recall=1.5), "recall=1.5"),
        (lambda: evidence_of(is_copy=[True]), "equally many"),
        (lambda: GateEvidence([], [], [], []), "at least one"),
    ],
)
def test_what_cannot_be_is_refused_in_words(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("num_images", [24, 100, 299, 500, 1000])
def test_a_generator_that_copies_more_than_is_accepted_seldom_passes(num_images) -> None:
    passing = []
    for count in range(20):
        is_copy = np.arange(num_images) < count
        none = np.zeros(num_images)
        evidence = GateEvidence(is_copy, none, none, none, recall=1.0, null_can_call=True)
        passing.append(decide_gate(GateRules(max_copy_fraction=0.01), evidence).result == "passed")
    counts = np.flatnonzero(passing)
    # At twice what is accepted, by the point estimate 40 % of the sets of 100 images passed and 6.5 % of those of 500.
    assert binom.pmf(counts, num_images, 0.02).sum() < 0.005
    assert binom.pmf(counts, num_images, 0.0101).sum() <= 0.05


def test_a_change_that_is_missed_is_named_with_how_many_were_found():
    missed = ("1 of 20 shifted by 10 % of the side", "0 of 20 rotated by 5 degrees")
    evidence = evidence_of(missed=missed, recall=0.85, reference="blurred by 2 px", is_verified=False)
    gate = decide_gate(GateRules(0.01), evidence)
    assert (gate.result, [reason.code for reason in gate.reasons]) == ("undecided", ["controls_missed"])
    assert gate.reason == (
        "Too few planted copies were found, and 90 % is required: 85 % of those blurred by 2 px; 1 of 20 shifted by "
        "10 % of the side; 0 of 20 rotated by 5 degrees. Leave --verify true."
    )
    assert decide_gate(GateRules(0.01), evidence_of(missed=missed[:1])).result == "undecided"


@pytest.mark.parametrize(
    ("rules", "recall", "code", "title"),
    [
        (GateRules(0.01, min_recall=0), 1.0, "recall_not_asked", "without asking for recall"),
        (GateRules(0.01, gate_on="files", min_recall=0), 0.0, "recall_not_asked", "without asking for recall"),
        (GateRules(0.01, min_recall=0.1), 1.0, "little_recall_asked", "with a recall of 10 % asked for"),
        (GateRules(1.0), 1.0, "any_share_accepted", "with any share of copies accepted"),
        (GateRules(max_patient_fraction=1.0), 1.0, "any_share_accepted", "with any share of copies accepted"),
    ],
)
def test_a_gate_that_was_not_asked_much_is_passed_and_never_a_clean_result(rules, recall, code, title):
    gate = decide_gate(rules, evidence_of(recall=recall, patients=PATIENTS["none"]))
    words = headline(gate)
    assert (gate.result, [caveat.code for caveat in gate.caveats]) == ("passed", [code])
    assert words.tone == "unsure"
    assert words.title.startswith(f"Release gate passed ({title}): no copy was found among 1,000 synthetic images, but")
    assert gate.caveats[0].text in words.advice
    assert gate.caveats[0].text in gate.reason


def test_without_a_limit_a_recall_that_was_not_asked_for_is_no_clean_result_either():
    words = headline(decide_gate(GateRules(min_recall=0), evidence_of(recall=0.0)))
    assert words.tone == "unsure"
    assert "Recall was not asked for" in words.advice
    assert headline(decide_gate(GateRules(), evidence_of())).tone == "good"


def test_a_set_of_nothing_but_copies_passes_a_limit_of_all_by_the_letter_and_says_what_was_accepted():
    copies = evidence_of(is_copy=np.ones(NUM_IMAGES, dtype=bool))
    words = headline(decide_gate(GateRules(1.0, gate_on="files"), copies))
    assert words.tone == "unsure"
    assert words.title == (
        "Release gate passed (with any share of copies accepted): 1,000 of 1,000 synthetic images are copies of a "
        "training image"
    )
    assert "A share of 100 % was accepted, so this gate could not be exceeded." in words.advice
    assert decide_gate(GateRules(1.0, 0.05), copies).caveats == ()


#: Each reason that numbers alone can cause: what causes it, the words of its remedy, and what that changes.
REMEDIES = {
    "copies_exceeded": ({"is_copy": flags(20)}, {}, "filter --leave_out", {"is_copy": NONE}, {}),
    "ignored_files": ({"ignored_files": 2}, {}, "take them out", {"ignored_files": 0}, {}),
    "chosen_set": (CHOSEN["with a second"], {}, "Give --gate_on files", {}, {"gate_on": "files"}),
    "recall_unknown": ({"recall": None}, {}, "Give --controls 20, and at least 5 training images", {"recall": 1.0}, {}),
    "patients_unknown": (
        {},
        {"max_patient_fraction": 0.05},
        "--patient_id_pattern",
        {"patients": PATIENTS["none"]},
        {},
    ),
    "too_few_images": ({}, {"max_copy_fraction": 0.0}, "--gate_on files", {}, {"gate_on": "files"}),
    "too_few_patients": (
        {"patients": PATIENTS["many"]},
        {"max_patient_fraction": 0.05},
        "--max_patient_fraction 0.0711 or --gate_on files would do",
        {},
        {"max_patient_fraction": 0.0711},
    ),
}


@pytest.mark.parametrize("code", REMEDIES)
def test_the_remedy_that_a_reason_names_takes_the_reason_away(code):
    measured, asked, words, other_measured, other_asked = REMEDIES[code]
    asked = {"max_copy_fraction": 0.01, **asked}
    before = decide_gate(GateRules(**asked), evidence_of(**measured))
    assert words in next(reason.text for reason in before.reasons if reason.code == code)
    after = decide_gate(GateRules(**{**asked, **other_asked}), evidence_of(**{**measured, **other_measured}))
    assert code not in [reason.code for reason in after.reasons]


def test_where_no_control_is_found_no_number_of_images_is_promised():
    reasons = decide_gate(GateRules(0.01), evidence_of(recall=0.0)).reasons
    assert "No number of images would do as long as no control is found." in reasons[-1].text
