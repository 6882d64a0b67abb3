"""Evaluation of labelled pairs against scikit-learn and by hand, with degenerate inputs."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import classification_report, roc_auc_score, silhouette_score

from monai_deepssim.metrics import CLASS_NAMES, LabelledPairsMetric, classify_scores, evaluate_pairs


def test_a_score_on_a_threshold_belongs_below_it_in_every_precision() -> None:
    scores = [0.0, 0.60, 0.6001, 0.85, 0.8501, 1.0]
    for values in (scores, np.float32(scores), torch.tensor(scores), torch.tensor(scores)[:, None]):
        assert classify_scores(values).tolist() == [0, 0, 2, 2, 1, 1]
    assert classify_scores([0.5, 0.7], thresholds=(0.97, 0.99905)).tolist() == [0, 0]


def test_numbers_equal_those_of_scikit_learn_s_report() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    scores = np.clip(np.array([0.5, 0.9, 0.72])[labels] + generator.normal(0, 0.15, 300), -1, 1)
    result = evaluate_pairs(scores, labels)
    report = classification_report(
        labels, classify_scores(scores), target_names=CLASS_NAMES, output_dict=True, zero_division=0
    )
    assert result["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    for name in CLASS_NAMES:
        assert result["precision"][name] == pytest.approx(report[name]["precision"])
        assert result["recall"][name] == pytest.approx(report[name]["recall"])
        assert result["counts"][name] == report[name]["support"]
    assert result["silhouette"] == pytest.approx(silhouette_score(scores[:, None], labels))
    assert result["roc_auc"] == pytest.approx(roc_auc_score(labels == 1, scores))
    assert np.sum(result["confusion_matrix"]) == result["num_pairs"] == 300
    assert result["thresholds"] == [0.60, 0.85]


def test_the_confusion_matrix_has_true_classes_in_rows() -> None:
    result = evaluate_pairs(torch.tensor([0.1, 0.2, 0.9, 0.7, 0.7]), torch.tensor([0, 1, 1, 1, 2]))
    assert result["confusion_matrix"] == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    assert result["precision"] == {"different": 0.5, "duplicate": 1.0, "similar": 0.5}
    assert result["recall"]["duplicate"] == pytest.approx(1 / 3)


def test_the_result_can_be_written_as_json() -> None:
    result = evaluate_pairs(np.float32([0.1, 0.9, 0.7, 0.2]), np.int64([0, 1, 2, 0]))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_class_alone_leaves_none_where_nothing_is_defined(label: int) -> None:
    result = evaluate_pairs([0.2, 0.3, 0.4], [label] * 3)
    assert result["silhouette"] is None
    assert result["roc_auc"] is None
    assert result["macro_f1"] == (1.0 if label == 0 else 0.0)
    assert result["precision"]["duplicate"] is None
    assert [result["recall"][name] is None for name in CLASS_NAMES] == [number != label for number in range(3)]
    json.dumps(result, allow_nan=False)


def test_two_classes_without_duplicates_have_a_silhouette_but_no_auc() -> None:
    result = evaluate_pairs([0.2, 0.3, 0.7], [0, 0, 2])
    assert result["roc_auc"] is None
    assert 0 < result["silhouette"] <= 1
    assert result["macro_f1"] == 1.0


def test_a_single_pair_does_not_crash() -> None:
    result = evaluate_pairs([0.9], [1])
    assert result["silhouette"] is None
    assert result["macro_f1"] == 1.0


def test_wrong_input_is_explained() -> None:
    with pytest.raises(ValueError, match="got 2 scores and 1 labels"):
        evaluate_pairs([0.1, 0.2], [0])
    with pytest.raises(ValueError, match="got 0 scores"):
        evaluate_pairs([], [])
    with pytest.raises(ValueError, match="label 1 of 2 is 3, wanted 0"):
        evaluate_pairs([0.1, 0.2], [0, 3])
    with pytest.raises(ValueError, match="score 1 of 2 is nan"):
        evaluate_pairs([0.1, float("nan")], [0, 1])
    with pytest.raises(ValueError, match=r"want \(lower, upper\)"):
        classify_scores([0.1], thresholds=(0.9, 0.1))
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        classify_scores([[0.1, 0.2], [0.3, 0.4]])


def test_the_metric_gathers_batches_and_lists_and_evaluates_all_of_them():
    scores, labels = [0.2, 0.9, 0.7, 0.8, 0.5], [0, 1, 2, 1, 0]
    metric = LabelledPairsMetric()
    metric(y_pred=torch.tensor(scores[:2])[:, None], y=torch.tensor(labels[:2]))
    metric(y_pred=[torch.tensor([score]) for score in scores[2:]], y=[torch.tensor(label) for label in labels[2:]])
    expected = evaluate_pairs(torch.tensor(scores), labels)
    assert metric.evaluate() == expected
    assert metric.aggregate().item() == pytest.approx(expected["macro_f1"])
    assert LabelledPairsMetric("roc_auc").metric_name == "roc_auc"
    metric.reset()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        metric.evaluate()


def test_the_metric_refuses_scores_without_labels_and_unknown_names():
    with pytest.raises(ValueError, match="one score and one label"):
        LabelledPairsMetric()(y_pred=torch.rand(3, 1), y=torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="macro_f1"):
        LabelledPairsMetric("accuracy")
