"""An audit that was interrupted is continued, and one of other images is not overwritten by mistake."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_files import IMAGE_SIZE, LENIENT_GATE, write_png
from monai.inferers import SimpleInferer
from torch import nn

from monai_deepssim.data import list_images
from monai_deepssim.engines.embedding import embed_images
from monai_deepssim.engines.embedding_store import EmbeddingStore
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.stores import read_sealed, write_sealed


class CountingNetwork(nn.Module):
    """Counts the images that it embeds, and can be told to fail like a process that is killed."""

    def __init__(self, fail_after: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(64 * 64, 8)
        self.seen = 0
        self.fail_after = fail_after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return self.layer(images.flatten(1))


def store(folder: Path, directory: str = "shards", **options) -> EmbeddingStore:
    settings = {"image_size": IMAGE_SIZE, "embedder_id": "counting", "shard_size": 4, **options}
    return EmbeddingStore(folder / directory, list_images(folder / "training"), **settings)


def test_a_run_interrupted_in_its_second_shard_does_not_compute_the_first_again(folders) -> None:
    torch.manual_seed(0)
    network = CountingNetwork(fail_after=6)
    with pytest.raises(KeyboardInterrupt):
        embed_images(network, store(folders), batch_size=2)
    assert [part.tolist() for part in store(folders).missing()] == [[4, 5, 6, 7], [8, 9]]
    (first,) = (folders / "shards").glob("*.npy")
    written = first.stat().st_mtime_ns
    network.fail_after, network.seen = None, 0
    continued = embed_images(network, store(folders), batch_size=2)
    assert network.seen == 6  # ten images, of which the first shard holds four
    assert first.stat().st_mtime_ns == written
    assert continued.indices.tolist() == list(range(10))
    assert [len(shard) for shard in continued.embeddings] == [4, 4, 2]


def test_processes_that_read_end_with_what_they_read_for(folders) -> None:
    network = CountingNetwork()
    embed_images(network, store(folders), batch_size=2, num_workers=2)
    assert network.seen == 10
    assert multiprocessing.active_children() == []
    with pytest.raises(KeyboardInterrupt):
        embed_images(CountingNetwork(fail_after=2), store(folders, "others"), batch_size=2, num_workers=2)
    assert multiprocessing.active_children() == []


def test_a_continued_run_gives_what_an_uninterrupted_one_gives(folders) -> None:
    torch.manual_seed(0)
    network = CountingNetwork(fail_after=4)
    with pytest.raises(KeyboardInterrupt):
        embed_images(network, store(folders), batch_size=4)
    network.fail_after = None
    continued = np.concatenate(embed_images(network, store(folders), batch_size=4).embeddings)
    other = EmbeddingStore(
        folders / "other", list_images(folders / "training"), image_size=IMAGE_SIZE, embedder_id="x", shard_size=100
    )
    at_once = np.concatenate(embed_images(network, other, batch_size=4).embeddings)
    assert np.allclose(continued, at_once, atol=1e-6)


def shard_of(folder: Path, row: int) -> Path:
    """The array of a shard, by its place in the list."""
    manifest = read_sealed(folder / "manifest.json")
    return folder / f"{list(manifest['shards'])[row]}.npy"


def test_a_half_written_shard_is_not_taken_for_a_whole_one(folders) -> None:
    network = CountingNetwork()
    embed_images(network, store(folders))
    path = shard_of(folders / "shards", 1)
    whole = path.read_bytes()
    path.unlink()
    path.with_suffix(".npy.partial").write_bytes(whole[:50])
    network.seen = 0
    embed_images(network, store(folders))
    assert network.seen == 4
    assert not list((folders / "shards").glob("*.partial"))


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_shard_is_named_and_made_again(folders, capsys, suffix) -> None:
    network = CountingNetwork()
    first = np.concatenate(embed_images(network, store(folders)).embeddings)
    path = shard_of(folders / "shards", 1).with_suffix(suffix)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    network.seen = 0
    again = np.concatenate(embed_images(network, store(folders)).embeddings)
    assert network.seen == 4
    assert f"{path.name}: is damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(again, first)


def test_a_shard_of_another_embedder_is_not_taken_for_one_of_this(folders) -> None:
    embed_images(CountingNetwork(), store(folders))
    embed_images(CountingNetwork(), store(folders, "other", embedder_id="x"))
    ours, theirs = (shard_of(folders / name, 2) for name in ("shards", "other"))
    assert ours.name != theirs.name
    for suffix in (".npy", ".json"):
        ours.with_suffix(suffix).write_bytes(theirs.with_suffix(suffix).read_bytes())
    assert [part.tolist() for part in store(folders).missing()] == [[8, 9]]


def test_embeddings_follow_what_images_hold_and_not_their_names_or_places(folders, axial) -> None:
    network = CountingNetwork()
    embed_images(network, store(folders))
    training = folders / "training"
    paths = sorted(training.iterdir())
    paths[0].rename(training / "z-is-now-the-last.png")
    write_png(training / "a-new.png", axial(140))
    write_png(paths[4], axial(141))
    paths[7].unlink()
    network.seen = 0
    grown = store(folders)
    grown.open()
    assert grown.describe_reuse() == (
        "8 are embedded already, 2 are new or have changed, 2 that were embedded are no longer there"
    )
    embedded = embed_images(network, grown)
    assert network.seen == 2
    at_once = embed_images(network, store(folders, "other"))
    np.testing.assert_allclose(np.concatenate(embedded.embeddings), np.concatenate(at_once.embeddings), atol=1e-6)
    assert [len(shard) for shard in embedded.embeddings] == [4, 4, 2]
    # What is of no use any more is gone: two files a shard, the manifest and the fingerprint.
    assert len(list((folders / "shards").iterdir())) == 8


@pytest.mark.parametrize("changed", [{"image_size": (64, 80)}, {"embedder_id": "another"}])
def test_another_embedder_or_size_embeds_all_images_again(folders, changed) -> None:
    embed_images(CountingNetwork(), store(folders))
    again = store(folders, **changed)
    again.open()
    assert sum(map(len, again.missing())) == 10
    assert again.describe_reuse().startswith("all 10 are embedded again")


def test_a_folder_of_other_images_is_refused(folders) -> None:
    embed_images(CountingNetwork(), store(folders))
    options = {"image_size": IMAGE_SIZE, "embedder_id": "counting"}
    other = EmbeddingStore(folders / "shards", list_images(folders / "synthetic")[2:], **options)
    with pytest.raises(UnusableInputError, match="overwrite"):
        other.open()
    other.open(overwrite=True)
    assert len(embed_images(CountingNetwork(), other).indices) == 2
    assert sum(map(len, store(folders).missing())) == 10


def test_embeddings_of_an_earlier_version_are_made_again(folders, capsys) -> None:
    names = store(folders).fingerprint["names"]
    (folders / "shards").mkdir()
    write_sealed(folders / "shards" / "fingerprint.json", {"store_version": 5, "names": names})
    for suffix in ("npy", "json"):
        (folders / "shards" / f"shard-00000.{suffix}").write_bytes(b"of an earlier version")
    network = CountingNetwork()
    embed_images(network, store(folders))
    assert network.seen == 10
    assert "earlier version" in capsys.readouterr().out
    assert not (folders / "shards" / "shard-00000.npy").exists()
    # Of other images it is refused, as ever.
    write_sealed(folders / "shards" / "fingerprint.json", {"store_version": 5, "names": "others"})
    with pytest.raises(UnusableInputError, match="overwrite"):
        store(folders).open()


def test_an_audit_is_continued_with_other_options_that_leave_the_embeddings_as_they_are(audit, folders) -> None:
    audit()
    (shard,) = (folders / "out" / "embeddings" / "training").glob("*.npy")
    before = shard.stat().st_mtime_ns
    result = audit(top_k=3, thresholds=[0.2, 0.3])
    assert shard.stat().st_mtime_ns == before
    assert result.training.continued
    assert result.copy_fraction.count > 2
    assert json.loads((folders / "out" / "summary.json").read_text())["num_copies"] == result.copy_fraction.count


def test_an_audit_of_a_set_that_has_grown_embeds_the_new_images(audit, folders, axial, capsys) -> None:
    audit()
    write_png(folders / "training" / "new.png", axial(100))
    capsys.readouterr()
    assert audit().training.continued
    assert "training images: 10 are embedded already, 1 are new or have changed." in capsys.readouterr().out


def test_an_audit_of_other_images_is_refused_until_overwrite_is_given(audit, folders, axial, capsys) -> None:
    audit()
    for path in (folders / "synthetic").iterdir():
        path.unlink()
    write_png(folders / "synthetic" / "new.png", axial(100))
    with pytest.raises(SystemExit) as ended:
        audit()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "synthetic images" in message
    assert "--overwrite true" in message
    assert json.loads((folders / "out" / "summary.json").read_text())["num_synthetic"] == 4
    assert audit(overwrite="true").copy_fraction.total == 1


@pytest.mark.usefixtures("null_that_calls")
def test_a_result_does_not_outlive_the_audit_that_replaces_it(audit, folders) -> None:
    audit(max_copy_fraction=0.9, **LENIENT_GATE)
    for path in (folders / "synthetic").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SystemExit):
        audit(max_copy_fraction=0.9, overwrite=True)
    assert not (folders / "out" / "summary.json").exists()
    assert not (folders / "out" / "report.html").exists()


def test_a_folder_with_files_of_the_same_names_from_elsewhere_is_left_alone(audit, folders, capsys) -> None:
    (folders / "out").mkdir()
    (folders / "out" / "summary.json").write_text("somebody else's")
    with pytest.raises(SystemExit):
        audit()
    assert "--overwrite true" in capsys.readouterr().err
    assert (folders / "out" / "summary.json").read_text() == "somebody else's"


def test_images_without_a_direction_in_the_embedding_are_reported_and_not_scored(folders) -> None:
    network = CountingNetwork()
    nn.init.zeros_(network.layer.weight)
    nn.init.zeros_(network.layer.bias)
    embedded = embed_images(network, store(folders))
    assert len(embedded.problems) == 10
    assert embedded.embeddings == []


class HalvingInferer(SimpleInferer):
    """An inferer whose embeddings are others."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def __call__(self, inputs, network, *args, **kwargs):
        return super().__call__(inputs[..., ::2].repeat_interleave(2, -1) * self.scale, network)


def test_embeddings_by_another_inferer_are_not_taken_up(audit, capsys) -> None:
    audit()
    audit(inferer=HalvingInferer(0.5))
    assert "training images: all 10 are embedded again" in capsys.readouterr().out
    assert not audit(inferer=HalvingInferer(0.25)).training.continued
