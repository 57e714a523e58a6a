from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pep.audit.merkle import (
    EMPTY,
    Tree,
    consistency_proof,
    consistent,
    includes,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tree_root,
)

ENTRIES = st.lists(st.binary(max_size=4), max_size=40)
# Merkle tree heads of the first entries, as published with RFC 6962 implementations.
VECTOR = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
HEADS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
}


def naive(entries: Sequence[bytes]) -> bytes:
    """The definition of RFC 9162 §2.1.1, word by word."""
    if not entries:
        return sha256().digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return sha256(b"\x01" + naive(entries[:split]) + naive(entries[split:])).digest()


@pytest.mark.parametrize("size", HEADS)
def test_published_heads(size: int) -> None:
    """Roots are those that other implementations publish."""
    assert tree_root([leaf_hash(entry) for entry in VECTOR[:size]]).hex() == HEADS[size]


@given(ENTRIES)
def test_a_tree_grows_as_it_is_defined(entries: list[bytes]) -> None:
    """After each entry the root is the one of the definition, however they are added."""
    tree = Tree()
    assert tree.root() == EMPTY == naive([])
    for count, entry in enumerate(entries, 1):
        tree.add(leaf_hash(entry))
        assert (tree.size, tree.root()) == (count, naive(entries[:count]))
    whole = Tree()
    whole.extend(entries)
    assert (whole.size, whole.root()) == (len(entries), naive(entries))


@given(ENTRIES.filter(len), st.data())
def test_inclusion_is_proven(entries: list[bytes], data: st.DataObject) -> None:
    """The proof of each leaf holds, and for no other leaf, index, size, root or proof."""
    leaves = [leaf_hash(entry) for entry in entries]
    index = data.draw(st.integers(0, len(entries) - 1))
    proof, root, size = inclusion_proof(leaves, index), naive(entries), len(entries)
    assert includes(leaves[index], index, size, proof, root)
    assert not includes(leaf_hash(b"other one"), index, size, proof, root)
    assert not includes(leaves[index], index, size, proof, EMPTY)
    assert not includes(leaves[index], index, size, [*proof, EMPTY], root)
    assert not includes(leaves[index], index, 0, proof, root)
    assert not includes(leaves[index], -1, size, proof, root)
    assert not includes(leaves[index], size, size, proof, root)
    assert not includes(leaves[index], index, size * 2 + 1, proof, root)
    for at in range(len(proof)):
        assert not includes(leaves[index], index, size, proof[:at] + proof[at + 1 :], root)
        assert not includes(leaves[index], index, size, [*proof[:at], EMPTY, *proof[at + 1 :]], root)


@given(ENTRIES.filter(len), st.data())
def test_consistency_is_proven(entries: list[bytes], data: st.DataObject) -> None:
    """The proof between two sizes holds, and for no other history."""
    leaves = [leaf_hash(entry) for entry in entries]
    new = len(entries)
    old = data.draw(st.integers(1, new))
    proof, before, after = consistency_proof(leaves, old), naive(entries[:old]), naive(entries)
    assert consistent(old, new, before, after, proof)
    assert not consistent(old, new, EMPTY, after, proof)
    assert not consistent(old, new, before, EMPTY, proof)
    assert not consistent(old, new, before, after, [*proof, EMPTY])
    assert not consistent(0, new, before, after, proof)
    assert not consistent(new + 1, new, before, after, proof)
    for at in range(len(proof)):
        assert not consistent(old, new, before, after, proof[:at] + proof[at + 1 :])
        assert not consistent(old, new, before, after, [*proof[:at], EMPTY, *proof[at + 1 :]])


def test_a_leaf_is_no_node() -> None:
    """Two hashes as an entry are not the node over them."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


def test_an_empty_proof_shows_nothing() -> None:
    """Trees of different sizes are not consistent for want of a proof."""
    leaves = [leaf_hash(b"%d" % at) for at in range(6)]
    assert not consistent(3, 6, tree_root(leaves[:3]), tree_root(leaves), [])
    assert not consistent(4, 6, tree_root(leaves[:4]), tree_root(leaves), [])
