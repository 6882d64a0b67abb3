"""The embedding side: which training images are nearest to an image, by the cosine of their embeddings."""

from monai_deepssim.search.block_search import search_by_similarity
from monai_deepssim.search.faiss_neighbors import FaissNeighbors
from monai_deepssim.search.nearest_neighbors import NearestNeighbors
from monai_deepssim.search.normalized_rows import Embeddings, NormalizedRows

__all__ = ["Embeddings", "FaissNeighbors", "NearestNeighbors", "NormalizedRows", "search_by_similarity"]
