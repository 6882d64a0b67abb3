"""Images a second of this package's embedding beside the published code's way, with the same weights, in turn.

    python benchmarks/embedding.py --json embedding.json
    python benchmarks/embedding.py --device cuda --workers 14 --num_base 4096 --num_shipped 4096

The published way: a TorchScript program in float32 that takes three equal channels, in batches of 32, and a loader with
two processes that reads pictures with Pillow, standardises them and repeats the channel. Ours is `embed_images`, with
all that it does (hashes of files, checks of the pixels, shards on disk). Both read the same PNG files.

Two networks: the one published with DeepSSIM (ConvNeXt-Base, 88 million parameters; weights drawn at random, with a
layer scale of 0.1 in place of the 1e-6 at which no block would count), and the one that ships. A second table has the
networks alone, also in bfloat16, and with linear layers in eight bits (torch's dynamic quantisation). On a `--device`
both ways move each batch there; `--workers` are the processes that read for ours, beside none and the two of the
published way.

Differences are those of the cosines of all pairs of images from the published way's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from monai_deepssim import load_embedder
from monai_deepssim.data import PhantomBrainDataset, list_images
from monai_deepssim.engines import EmbeddingStore, embed_images
from monai_deepssim.engines.autocast_inferer import has_bfloat16
from monai_deepssim.networks import DeepSSIMEmbedder, prepare_for_inference
from monai_deepssim.similarity import standardize
from monai_deepssim.transforms import RandStructurePreserving

IMAGE_SIZE, PUBLISHED_BATCH, WORKERS, NUM_PHANTOMS = (136, 112), 32, 2, 16


class PublishedDataset(Dataset):
    """Pictures as the published code reads them."""

    def __init__(self, paths: list[Path], channels: int) -> None:
        self.paths, self.channels = paths, channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = np.array(Image.open(self.paths[index]).convert("L"))
        image = (image - np.mean(image)) / np.std(image)
        return torch.from_numpy(image).float()[None].repeat(self.channels, 1, 1)


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Write phantoms under random changes as PNG."""
    phantoms = [item["image"] for item in PhantomBrainDataset(NUM_PHANTOMS, seed=5, progress=False)]
    change = RandStructurePreserving(prob=0.8).set_random_state(0)
    paths = []
    for number in range(count):
        image = torch.as_tensor(change(phantoms[number % NUM_PHANTOMS]))[0].clamp(0, 1)
        paths.append(folder / f"{number:05}.png")
        Image.fromarray((image * 255).byte().numpy()).save(paths[-1])
    return paths


def make_base() -> tuple[DeepSSIMEmbedder, nn.Module]:
    """Make the published network with random weights: as ours, and as one that takes three channels."""
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder().eval()
    with torch.no_grad():
        for name, parameter in embedder.named_parameters():
            if name.endswith("layer_scale"):
                parameter.fill_(0.1)
    program = DeepSSIMEmbedder(in_channels=3).eval()
    program.load_state_dict(embedder.state_dict())
    return embedder, program


def make_shipped() -> tuple[nn.Module, nn.Module]:
    """Load the network that ships; it folds images and takes one channel."""
    embedder = load_embedder(device="cpu")
    return embedder, embedder


def embed_as_published(program: Callable[[Tensor], Tensor], paths: list[Path], channels: int, device: str) -> Tensor:
    loader = DataLoader(PublishedDataset(paths, channels), batch_size=PUBLISHED_BATCH, num_workers=WORKERS)
    with torch.no_grad():
        return torch.cat([program(batch.to(device)).cpu() for batch in loader])


def embed_as_here(network: nn.Module, folder: Path, num_workers: int, device: str) -> Tensor:
    with tempfile.TemporaryDirectory() as shards:
        store = EmbeddingStore(f"{shards}/shards", list_images(str(folder)), image_size=IMAGE_SIZE, embedder_id="one")
        embedded = embed_images(network, store, num_workers=num_workers, device=device)
        return torch.from_numpy(np.concatenate([np.array(shard) for shard in embedded.embeddings]))


def timed(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def largest_difference(embeddings: Tensor, expected: Tensor) -> float:
    """Of the cosines of all pairs."""
    first, second = (nn.functional.normalize(rows.double(), dim=1) for rows in (embeddings, expected))
    return float((first @ first.T - second @ second.T).abs().max())


def trace(program: nn.Module, device: str) -> Callable[[Tensor], Tensor]:
    """What TorchScript makes of a network; it optimises in its first calls."""
    example = torch.randn(PUBLISHED_BATCH, program.in_channels, *IMAGE_SIZE, device=device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(program, example)
        for _ in range(2):
            script(example)
    return script


def compare_ways(
    network: nn.Module,
    program: nn.Module,
    folder: Path,
    paths: list[Path],
    rounds: int,
    readers: list[int],
    device: str,
) -> dict:
    """Embed the files both ways, in turn; the median of the rounds."""
    channels, script = program.in_channels, trace(program, device)
    embed_as_published(script, paths[:PUBLISHED_BATCH], channels, device)
    ways = {f"ours, {count} readers" if count else "ours": count for count in readers}
    seconds: dict[str, list[float]] = {"published": [], **{name: [] for name in ways}}
    for _ in range(rounds):
        taken, expected = timed(lambda: embed_as_published(script, paths, channels, device))
        seconds["published"].append(taken)
        for name, workers in ways.items():
            taken, embeddings = timed(lambda workers=workers: embed_as_here(network, folder, workers, device))
            seconds[name].append(taken)
    speeds = {name: len(paths) / float(np.median(values)) for name, values in seconds.items()}
    return {"images_per_second": speeds, "largest_difference": largest_difference(embeddings, expected)}


def compare_networks(network: nn.Module, program: nn.Module, images: Tensor) -> dict[str, dict[str, float]]:
    """Run the networks alone on images that are in memory; the fastest of some calls."""
    channels, device = program.in_channels, images.device.type
    script, prepared = trace(program, device), prepare_for_inference(network)

    def in_bfloat16(batch: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return prepared(batch)

    ways = {"TorchScript, float32": script, "ours, float32": prepared, "ours, bfloat16": in_bfloat16}
    if device == "cpu":
        by_channel = {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        ways["ours, linear layers in int8"] = torch.ao.quantization.quantize_dynamic(prepared, by_channel)
    results = {}
    with torch.inference_mode():
        expected = script(images.expand(-1, channels, -1, -1)).cpu()
        for name, way in ways.items():
            batch = images.expand(-1, channels, -1, -1).contiguous() if way is script else images
            way(batch)
            calls = [timed(lambda way=way, batch=batch: way(batch).cpu()) for _ in range(2 if device == "cpu" else 10)]
            results[name] = {
                "images_per_second": len(images) / min(seconds for seconds, _ in calls),
                "largest_difference": largest_difference(calls[-1][1].float(), expected),
            }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_base", type=int, default=96, help="images for the published network")
    parser.add_argument("--num_shipped", type=int, default=1024, help="images for the network that ships")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all ways, in turn; the median is reported")
    parser.add_argument("--device", default="cpu", help="where both embed")
    parser.add_argument("--workers", type=int, help="a further number of processes that read for ours")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    device, readers = options.device, [0, WORKERS, *([options.workers] if options.workers else [])]
    numbers: dict[str, object] = {"threads": torch.get_num_threads(), "bfloat16_is_used": has_bfloat16()}
    if device == "cpu":
        print(f"{torch.get_num_threads()} threads; bfloat16 would be used here: {has_bfloat16()}")
    else:
        print(torch.cuda.get_device_name(device))
    cases = {
        "ConvNeXt-Base": (make_base, options.num_base, max(1, options.rounds - 2)),
        "shipped": (make_shipped, options.num_shipped, options.rounds),
    }
    for title, (make, count, rounds) in cases.items():
        network, program = (one.to(device) for one in make())
        with tempfile.TemporaryDirectory() as name:
            paths = write_pictures(Path(name), count)
            ways = compare_ways(network, program, Path(name), paths, rounds, readers, device)
            at_once = 32 if device == "cpu" else 256
            images = torch.stack([PublishedDataset(paths, 1)[i] for i in range(min(at_once, count))])
        networks = compare_networks(network, program, standardize(images).to(device))
        numbers[title] = {"files": ways, "networks": networks}
        reference = ways["images_per_second"]["published"]
        print(f"\n{title}, {count} files{'':6}images a second   ratio")
        for way, speed in ways["images_per_second"].items():
            print(f"{way:32}{speed:10.1f}{speed / reference:8.2f}")
        print(f"largest difference of a cosine: {ways['largest_difference']:.1e}")
        base = networks["TorchScript, float32"]["images_per_second"]
        for way, result in networks.items():
            speed = result["images_per_second"]
            print(f"network alone: {way:21}{speed:8.1f}{speed / base:8.2f}  {result['largest_difference']:.1e}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
