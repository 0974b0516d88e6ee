"""One SHA-256 over a whole training run: two runs that are equal to the bit have the same."""

import hashlib

import torch


def fingerprint(*parts):
    """Return the digest of the `state_dict()` of all parts, names and shapes included."""
    digest = hashlib.sha256()
    for part in parts:
        _add(digest, part.state_dict(), "")
    return digest.hexdigest()


def _add(digest, value, path):
    if isinstance(value, torch.Tensor):
        digest.update(f"{path} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in value:
            _add(digest, value[key], f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _add(digest, item, f"{path}/{index}")
    else:
        digest.update(f"{path} {value!r}\n".encode())
