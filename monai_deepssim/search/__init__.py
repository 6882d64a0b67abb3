"""Which training images are nearest to an image: by the cosine of embeddings, and by local features."""

from monai_deepssim.search.block_search import search_by_similarity
from monai_deepssim.search.candidates import is_proven, unite_candidates
from monai_deepssim.search.descriptor_index import DescriptorIndex
from monai_deepssim.search.engine_choice import (
    LONGEST_EXACT_SECONDS,
    SEARCH_ENGINES,
    choose_engine,
    exact_search_seconds,
    make_neighbors,
)
from monai_deepssim.search.faiss_neighbors import EXACT_SEARCH, FaissNeighbors, SearchRecall
from monai_deepssim.search.feature_table import FeatureTable, tabulate_features
from monai_deepssim.search.local_feature_search import LocalFeatureSearch
from monai_deepssim.search.nearest_neighbors import NearestNeighbors
from monai_deepssim.search.neighbor_order import sort_neighbors
from monai_deepssim.search.normalized_rows import Embeddings, NormalizedRows

__all__ = [
    "EXACT_SEARCH",
    "LONGEST_EXACT_SECONDS",
    "SEARCH_ENGINES",
    "DescriptorIndex",
    "Embeddings",
    "FaissNeighbors",
    "FeatureTable",
    "LocalFeatureSearch",
    "NearestNeighbors",
    "NormalizedRows",
    "SearchRecall",
    "choose_engine",
    "exact_search_seconds",
    "is_proven",
    "make_neighbors",
    "search_by_similarity",
    "sort_neighbors",
    "tabulate_features",
    "unite_candidates",
]
