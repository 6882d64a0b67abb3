"""An audit says which search proposed its candidates and what that found, and its gate goes by it."""

import json
from dataclasses import replace

import jsonschema
import pytest
from test_schemas import load_schema

from monai_deepssim.search import FaissNeighbors, faiss_neighbors


@pytest.mark.parametrize(("recall", "codes"), [(0.97, []), (0.6, ["search_incomplete"])])
def test_the_recall_of_an_index_is_in_the_summary_and_a_poor_one_leaves_the_gate_undecided(
    audit, folders, monkeypatch, capsys, recall, codes
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(faiss_neighbors, "_LEAST_FOR_INDEX", 5)
    tune = FaissNeighbors.tune
    monkeypatch.setattr(FaissNeighbors, "tune", lambda self, *args: replace(tune(self, *args), recall=recall))
    with pytest.raises(SystemExit):
        audit(search="hnsw", max_copy_fraction=1.0, controls=None)
    content = json.loads((folders / "out" / "summary.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, load_schema("summary"))
    assert {name: content["search"][name] for name in ("engine", "recall", "num_sampled")} == {
        "engine": "hnsw",
        "recall": recall,
        "num_sampled": 4,
    }
    assert [reason["code"] for reason in content["gate"]["reasons"] if "search" in reason["code"]] == codes
    words = f"hnsw found {100 * recall:.1f} % of the"
    assert f"Search: {words}" in capsys.readouterr().out
    assert words in (folders / "out" / "report.html").read_text(encoding="utf-8")


def test_a_wrong_engine_is_told_the_nearest(audit, folders, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        audit(search="hnws")
    assert ended.value.code == 2
    assert "wanted one of exact, faiss, hnsw, ivfpq (did you mean hnsw?)" in capsys.readouterr().err
