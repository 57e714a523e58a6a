"""
The Merkle tree of RFC 9162 over SHA-256: roots that grow with their log, and proofs. Imports nothing of the library.

A leaf is hashed as ``H(0x00 || d)`` and a node as ``H(0x01 || left || right)``, so that neither can pass as the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

#: The root of the tree without leaves.
EMPTY: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry of the log."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one."""
    return sha256(b"\1" + left + right).digest()


class Tree:
    """
    A tree that only grows, of which only the whole subtrees at its right edge are kept.

    Attributes:
        size: How many leaves it has.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Append one leaf, given by its hash."""
        size, peaks = self.size, self._peaks
        self.size = size + 1
        while size & 1:
            leaf = sha256(b"\1" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)

    def extend(self, entries: Iterable[bytes]) -> None:
        """Append entries, as they are."""
        add = self.add
        for entry in entries:
            add(sha256(b"\0" + entry).digest())

    def root(self) -> bytes:
        """
        Hash all leaves into one.

        Source:
            RFC 9162 §2.1.1.
        """
        peaks = iter(reversed(self._peaks))
        root = next(peaks, EMPTY)
        for peak in peaks:
            root = node_hash(peak, root)
        return root


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves."""
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """
    Prove that a leaf is in a tree.

    Args:
        leaves: The hashes of all leaves.

        index: Which one, from 0.

    Returns:
        The hashes beside its path, from the leaf up.

    Source:
        RFC 9162 §2.1.3.1.
    """
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), tree_root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), tree_root(leaves[:split])]


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """
    Whether a proof shows that the leaf at *index* of a tree of *size* leaves with this root is *leaf*.

    Source:
        RFC 9162 §2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for beside in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(beside, found)
            at, last = _risen(at, last, lambda at: not at & 1 and at != 0)
        else:
            found = node_hash(found, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def consistency_proof(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """
    Prove that a tree has grown from an older one.

    Args:
        leaves: The hashes of all leaves of the newer one.

        old: How many of them the older one had, from 1.

    Source:
        RFC 9162 §2.1.4.1.
    """
    return _subproof(leaves, old, whole=True)


def consistent(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """
    Whether a proof shows that a tree of *new* leaves has grown from one of *old* leaves.

    Source:
        RFC 9162 §2.1.4.2.
    """
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = _risen(old - 1, new - 1, lambda at: bool(at & 1))
    older = newer = path[0]
    for beside in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            older, newer = node_hash(beside, older), node_hash(beside, newer)
            at, last = _risen(at, last, lambda at: not at & 1 and at != 0)
        else:
            newer = node_hash(newer, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and older == old_root and newer == new_root


def _subproof(leaves: Sequence[bytes], old: int, *, whole: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [tree_root(leaves)]
    split = _split(len(leaves))
    if old <= split:
        return [*_subproof(leaves[:split], old, whole=whole), tree_root(leaves[split:])]
    return [*_subproof(leaves[split:], old - split, whole=False), tree_root(leaves[:split])]


def _split(size: int) -> int:
    """Return the largest power of two below a size over 1."""
    return 1 << ((size - 1).bit_length() - 1)


def _risen(at: int, last: int, going: Callable[[int], bool]) -> tuple[int, int]:
    """Go up in the tree as long as that tells nothing new."""
    while going(at):
        at, last = at >> 1, last >> 1
    return at, last
