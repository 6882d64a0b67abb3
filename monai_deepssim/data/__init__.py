"""Folders, CSVs and volumes to MONAI data lists; one orientation and one range for every file format."""

from monai_deepssim.data.contents import (
    CHANGED,
    UNREADABLE,
    FileContent,
    check_unchanged,
    content_of,
    digest_of_images,
    hash_items,
)
from monai_deepssim.data.controls import draw_controls, plant_controls, plant_reconstructions
from monai_deepssim.data.derived_image import DerivedImage
from monai_deepssim.data.entries import ImageSource
from monai_deepssim.data.folders import source_folder
from monai_deepssim.data.image_dataset import ImageDataset
from monai_deepssim.data.in_memory import list_in_memory
from monai_deepssim.data.items import file_of, files_of
from monai_deepssim.data.labelled_pairs import labelled_pairs
from monai_deepssim.data.listing import ImageListing, list_images, scan_images
from monai_deepssim.data.load_transform import LoadSliced
from monai_deepssim.data.loading import load_slice, load_volume, read_image
from monai_deepssim.data.other_files import IGNORED_KINDS
from monai_deepssim.data.patient_ids import patient_id_text
from monai_deepssim.data.phantom import AXIAL_LEVELS_MM, PHANTOM_VARIABLES, GeneratePhantomd, PhantomBrainDataset
from monai_deepssim.data.phantom_chest import GenerateChestd, PhantomChestDataset
from monai_deepssim.data.phantom_demo import read_planted, write_copies_demo, write_png, write_repetitions_demo
from monai_deepssim.data.phantom_organs import PHANTOM_ORGANS, make_phantom_cohort
from monai_deepssim.data.phantom_pairs import PhantomPairDataset, write_phantom_pairs
from monai_deepssim.data.phantom_shapes import GenerateShapesd, PhantomShapesDataset
from monai_deepssim.data.readers import READERS, Reader, reader_of
from monai_deepssim.data.repeats import Repeat, content_keys, file_keys, insert_repeats, split_repeats
from monai_deepssim.data.score_matrices import ScoreMatrix, read_score_matrix, write_score_matrix
from monai_deepssim.data.slices import SliceSelection
from monai_deepssim.data.spacing_choice import give_spacings
from monai_deepssim.data.splitting import split_by_patient
from monai_deepssim.data.tables import path_inside, read_table
from monai_deepssim.data.window_choice import WindowChoice, choose_windows
from monai_deepssim.data.windows import NAMED_WINDOWS, level_distance

__all__ = [
    "AXIAL_LEVELS_MM",
    "CHANGED",
    "IGNORED_KINDS",
    "NAMED_WINDOWS",
    "PHANTOM_ORGANS",
    "PHANTOM_VARIABLES",
    "READERS",
    "UNREADABLE",
    "DerivedImage",
    "FileContent",
    "GenerateChestd",
    "GeneratePhantomd",
    "GenerateShapesd",
    "ImageDataset",
    "ImageListing",
    "ImageSource",
    "LoadSliced",
    "PhantomBrainDataset",
    "PhantomChestDataset",
    "PhantomPairDataset",
    "PhantomShapesDataset",
    "Reader",
    "Repeat",
    "ScoreMatrix",
    "SliceSelection",
    "WindowChoice",
    "check_unchanged",
    "choose_windows",
    "content_keys",
    "content_of",
    "digest_of_images",
    "draw_controls",
    "file_keys",
    "file_of",
    "files_of",
    "give_spacings",
    "hash_items",
    "insert_repeats",
    "labelled_pairs",
    "level_distance",
    "list_images",
    "list_in_memory",
    "load_slice",
    "load_volume",
    "make_phantom_cohort",
    "path_inside",
    "patient_id_text",
    "plant_controls",
    "plant_reconstructions",
    "read_image",
    "read_planted",
    "read_score_matrix",
    "read_table",
    "reader_of",
    "scan_images",
    "source_folder",
    "split_by_patient",
    "split_repeats",
    "write_copies_demo",
    "write_phantom_pairs",
    "write_png",
    "write_repetitions_demo",
    "write_score_matrix",
]
