"""Controls: copies of training images under graded changes, planted to see how many of them would be found."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from monai_deepssim.data.derived_image import DerivedImage
from monai_deepssim.data.items import file_of
from monai_deepssim.data.loading import read_image
from monai_deepssim.networks import AutoencoderWeights
from monai_deepssim.progress import warn
from monai_deepssim.transforms import CONTROL_CHANGES, VOLUME_CONTROL_CHANGES, ControlChange, FitImageSize

__all__ = ["draw_controls", "plant_controls", "plant_reconstructions"]

Item = Mapping[str, Any]
#: Name of the change that a pass through the generator's autoencoder is.
_AUTOENCODER = "autoencoder"
# Images by which the groups and the range of an autoencoder are found.
_NUM_EXAMPLES = 2
# An autoencoder that a generator can work with gives pixels back with 0.95 and more.
_LEAST_CORRELATION = 0.8
# Another number where what a control looks like is changed, so that embeddings of earlier ones are not taken for it.
_VERSION = 1


def draw_controls(items: Sequence[Item], num_controls: int) -> list[int]:
    """Draw the training images that are planted: of different patients as far as there are enough.

    The draw goes by digests of names within the source, so that it depends neither on the order of the images nor on
    how the way to their folder was typed, and a larger draw holds the smaller ones. Images of an unknown patient are
    the patient's whose file they are in.

    Args:
        items: the training images, as :func:`~monai_deepssim.data.list_images` lists them.
        num_controls: number of images that are drawn; all of them where there are fewer.

    Returns:
        Positions of the images, in the order in which they were drawn.

    Example:
        >>> items = [{"image": name, "path": name, "patient_id": name[0]} for name in ("a1", "a2", "a3", "b1")]
        >>> sorted(items[position]["patient_id"] for position in draw_controls(items, 2))
        ['a', 'b']
    """
    positions_of = defaultdict(list)
    for position in sorted(range(len(items)), key=lambda position: _digest("image", items[position]["path"])):
        positions_of[_owner(items[position])].append(position)
    owners = sorted(positions_of, key=lambda owner: _digest("patient", _name_owner(items, positions_of[owner])))
    turns = max(map(len, positions_of.values()), default=0)
    drawn = [positions_of[owner][turn] for turn in range(turns) for owner in owners if turn < len(positions_of[owner])]
    return drawn[:num_controls]


def plant_controls(
    items: Sequence[Item],
    num_controls: int,
    image_size: Sequence[int],
    changes: Sequence[ControlChange] | None = None,
) -> list[dict[str, Any]]:
    """Make copies of training images under graded changes, as items that are listed like those of files.

    An image is changed at its own size, when it is read (:class:`~monai_deepssim.data.DerivedImage`); a volume at no
    more than that at which volumes are compared. The same images
    go through every change, so that levels compare; what a change draws follows from its name and the image's path.

    Args:
        items: the training images.
        num_controls: number of copies for each change and level; as many as there are images at most.
        image_size: rows and columns at which images are compared, of volumes three sides.
        changes: the changes, by default :data:`~monai_deepssim.transforms.CONTROL_CHANGES`, of volumes
            :data:`~monai_deepssim.transforms.VOLUME_CONTROL_CHANGES`. One that needs an image of another patient is
            left out where there is none.

    Returns:
        One item per control, by change: ``change``, ``level`` and ``unit``, and ``sources``, the positions of the
        training images that it shows (two where two are mixed), beside what every item has.

    Example:
        >>> import torch
        >>> from monai_deepssim.data import list_in_memory, load_slice
        >>> controls = plant_controls(list_in_memory(torch.rand(3, 1, 64, 64), "training"), 2, (64, 64))
        >>> len(controls), controls[2]["change"], load_slice(controls[2]).shape
        (42, 'blur', torch.Size([1, 64, 64]))
    """
    drawn = draw_controls(items, num_controls)
    order = draw_controls(items, len(items))
    if changes is None:
        changes = CONTROL_CHANGES if len(image_size) == 2 else VOLUME_CONTROL_CHANGES
    controls = []
    for change in changes:
        for position in drawn:
            partner = _find_partner(items, order, position) if change.needs_partner else None
            if partner is None and change.needs_partner:
                continue
            sources = (position,) if partner is None else (position, partner)
            controls.append(_plant(change, items, sources, image_size))
    return controls


def plant_reconstructions(
    items: Sequence[Item],
    num_controls: int,
    image_size: Sequence[int],
    weights: AutoencoderWeights,
    device: torch.device | str = "cpu",
) -> list[dict[str, Any]]:
    """Make copies of training images that went through a generator's autoencoder: as near as it can come to a copy.

    They are made at once, at the size at which the generator makes its images, and held in memory.

    Args:
        items: the training images.
        num_controls: number of copies; as many as there are images at most.
        image_size: rows and columns of the generator's images.
        weights: the autoencoder's.
        device: where it runs.

    Returns:
        Items as :func:`plant_controls` makes them, of the change ``autoencoder``.
    """
    drawn, fit = draw_controls(items, num_controls), FitImageSize(tuple(image_size))
    images = [fit(read_image(items[position])) for position in drawn]
    network = weights.fit(torch.stack(images[:_NUM_EXAMPLES]).to(device))
    digest = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    identity = f"control {_VERSION}: {_AUTOENCODER} {digest} {tuple(image_size)}"
    passed = [network(image[None].to(device))[0].cpu() for image in images]
    alike = min(
        float(torch.corrcoef(torch.stack([image.flatten(), other.flatten()]))[0, 1])
        for image, other in zip(images, passed, strict=True)
    )
    if not alike >= _LEAST_CORRELATION:
        warn(
            f"{weights.path}: gives a training image back with a correlation of {alike:.2f}. Perhaps it is not the "
            "autoencoder of this generator, or its images were scaled in another way than to [0, 1] or [-1, 1]: its "
            "controls then say nothing."
        )
    return [
        _as_item(
            DerivedImage((items[position],), partial(_made, made=other), identity),
            items,
            (position,),
            _AUTOENCODER,
            change=_AUTOENCODER,
            level=None,
            unit="",
        )
        for position, other in zip(drawn, passed, strict=True)
    ]


def _plant(
    change: ControlChange, items: Sequence[Item], sources: tuple[int, ...], image_size: Sequence[int]
) -> dict[str, Any]:
    item = items[sources[0]]
    size = tuple(map(int, image_size))
    seed = int(_digest(change.name, item["path"])[:8], 16)
    image = DerivedImage(
        tuple(items[source] for source in sources),
        partial(_make, change=change, seed=seed, image_size=size),
        f"control {_VERSION}: {change.name} {seed} {size}",
    )
    return _as_item(image, items, sources, change.name, change=change.change, level=change.level, unit=change.unit)


def _as_item(
    image: DerivedImage, items: Sequence[Item], sources: tuple[int, ...], name: str, **columns: Any
) -> dict[str, Any]:
    item = items[sources[0]]
    return {
        "image": image,
        "path": f"{item['path']} ({name})",
        "patient_id": item["patient_id"],
        "slice": None,
        "slice_axis": 2,
        "volume": bool(item.get("volume")),
        "files": "",
        "window": "",
        "spacing": "",
        "sources": sources,
        **columns,
    }


def _made(source: Tensor, *, made: Tensor) -> Tensor:
    return made


def _make(
    image: Tensor, partner: Tensor | None = None, *, change: ControlChange, seed: int, image_size: tuple[int, ...]
) -> Tensor:
    return change.apply(image, partner, seed=seed, image_size=image_size)


def _find_partner(items: Sequence[Item], order: Sequence[int], position: int) -> int | None:
    """The next image of another patient in the order of the draw, as on a ring."""
    place, owner = order.index(position), _owner(items[position])
    ring = map(order.__getitem__, chain(range(place + 1, len(order)), range(place)))
    return next((other for other in ring if _owner(items[other]) != owner), None)


def _owner(item: Item) -> str:
    return str(item["patient_id"] or file_of(item))


def _name_owner(items: Sequence[Item], positions: Sequence[int]) -> str:
    """The patient, or where it is unknown the first image of the file."""
    return str(items[positions[0]]["patient_id"] or min(str(items[position]["path"]) for position in positions))


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
