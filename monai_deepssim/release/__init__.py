"""What is given away: the list of an audit's files, the check of a folder by it, and the files that are kept."""

import lazy_loader

# A check of hashes needs no PyTorch, which the list of a side's files waits for.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "closing": ["verification_colour", "verification_lines"],
        "file_list": ["FILE_LIST", "FileRecord", "read_file_list", "write_file_list"],
        "kept_folder": ["check_kept_folder", "is_occupied", "write_kept_files"],
        "side_files": ["hash_results", "list_side_files"],
        "verification": ["Difference", "ReleaseVerification", "verify_release"],
    },
)

__all__ = [
    "FILE_LIST",
    "Difference",
    "FileRecord",
    "ReleaseVerification",
    "check_kept_folder",
    "hash_results",
    "is_occupied",
    "list_side_files",
    "read_file_list",
    "verification_colour",
    "verification_lines",
    "verify_release",
    "write_file_list",
    "write_kept_files",
]
