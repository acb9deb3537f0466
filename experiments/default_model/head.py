"""Cutting the head out of the base mesh: skin, lid rims, the closed mouth bag and the eyeballs, all in quads.

The mouth bag is read from its texture mask; the eye sockets from topology (a socket is a cap of ten rings of quads
around its deepest one), of which only the rim that closes the gap to the eyeball is kept.
"""

import dataclasses

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph

from experiments.default_model.makehuman import BaseMesh, Source, sample_mask

SKIN, LID, MOUTH, EYE = range(4)
_SOCKET_RINGS, _SOCKET_QUADS, _RIM_RINGS = 10, 293, 2
_BACK, _BOTTOM, _NAPE = 0.30, 5.90, 0.42  # dm: the cut behind the ears, through the neck, and behind the neck


@dataclasses.dataclass(frozen=True)
class Head:
    """base [n], which base vertices these are; quads, uv_quads [Q, 4]; uv [U, 2]; part [Q], SKIN, LID, MOUTH or EYE."""

    base: np.ndarray
    quads: np.ndarray
    uv: np.ndarray
    uv_quads: np.ndarray
    part: np.ndarray

    def vertices_of(self, *parts) -> np.ndarray:
        """Mask [n] of the vertices of some parts."""
        return mark(self.quads[np.isin(self.part, parts)], len(self.base))


def cut_head(mesh: BaseMesh, source: Source) -> Head:
    body = mesh.groups == "body"
    centre = mesh.vertices[mesh.quads].mean(1)
    eyes = np.isin(mesh.groups, ("helper-l-eye", "helper-r-eye"))
    mouth = body & (sample_mask(source.mask("inside-mouth"), mesh.uv[mesh.uv_quads].mean(1)) > 0.5)
    sockets = np.zeros_like(body)
    for side in (-1, 1):
        eyeball = np.unique(mesh.quads[eyes & (side * centre[:, 0] > 0)])
        sockets |= _socket(mesh, body, centre, mesh.vertices[eyeball].mean(0))
    outside = body & ~mouth & ~sockets
    skin = outside & (abs(centre[:, 0]) < 1.0) & (centre[:, 1] > _BOTTOM) & (centre[:, 2] > _BACK)
    skin &= ~((centre[:, 1] < 6.35) & (centre[:, 2] < _NAPE))
    skin = _largest_piece(mesh, skin)
    near_border = (centre[:, 2] < 0.75) | (centre[:, 1] < 6.15)
    skin = _largest_piece(mesh, _even_border(mesh, skin, outside, near_border))
    # The eyeball helpers are whole; the half behind the socket rim is never seen.
    front = eyes & (centre[:, 2] > 1.23)
    rim = grow(mesh, skin, sockets, _RIM_RINGS)
    keep = skin | rim | mouth | front
    part = np.select([front, mouth, rim], [EYE, MOUTH, LID], SKIN)[keep]
    base, quads = np.unique(mesh.quads[keep], return_inverse=True)
    texels, uv_quads = np.unique(mesh.uv_quads[keep], return_inverse=True)
    return Head(base, quads.reshape(-1, 4), mesh.uv[texels], uv_quads.reshape(-1, 4), part)


def grow(mesh: BaseMesh, seed: np.ndarray, pool: np.ndarray, rings: int) -> np.ndarray:
    """Quads of `pool` [Q] within some rings of the quads `seed` [Q], without the seed."""
    reached = seed
    for _ in range(rings):
        touched = mark(mesh.quads[reached], len(mesh.vertices))
        reached = reached | (pool & touched[mesh.quads].any(1))
    return reached & pool


def mark(indices: np.ndarray, count: int) -> np.ndarray:
    """Mask [count] that is True at the indices."""
    mask = np.zeros(count, bool)
    mask[indices.ravel()] = True
    return mask


def quad_edges(quads: np.ndarray) -> np.ndarray:
    """Edges [4 Q, 2] of quads [Q, 4], smaller vertex first; corner by corner, so edge k Q + q starts at corner k."""
    return np.sort(np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)]), axis=1)


def _socket(mesh, body, centre, eye):
    behind = body & (np.linalg.norm(centre - eye, axis=1) < 0.2)
    deepest = np.zeros_like(body)
    deepest[np.flatnonzero(behind)[np.argmin(centre[behind, 2])]] = True
    socket = grow(mesh, deepest, body, _SOCKET_RINGS)
    if socket.sum() != _SOCKET_QUADS:
        raise ValueError(f"base mesh: eye socket of {socket.sum()} quads, expected {_SOCKET_QUADS}")
    return socket


def _largest_piece(mesh, quads):
    chosen = np.flatnonzero(quads)
    edges = quad_edges(mesh.quads[chosen])
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(mesh.vertices),) * 2)
    _, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    own = label[mesh.quads[chosen, 0]]
    piece = np.zeros_like(quads)
    piece[chosen[own == np.bincount(own).argmax()]] = True
    return piece


def _even_border(mesh, inside, pool, free):
    """Even out the cut's steps: quads near the border join the majority of their neighbours, teeth fall off."""
    chosen = np.flatnonzero(pool)
    quads, free = mesh.quads[chosen], free[chosen]
    members = np.repeat(np.arange(len(quads)), 4)
    of_vertex = sp.csr_matrix((np.ones(quads.size), (quads.ravel(), members)), shape=(len(mesh.vertices), len(quads)))
    around = (of_vertex.T @ of_vertex > 0).astype(float)
    _, edge = np.unique(quad_edges(quads), axis=0, return_inverse=True)
    of_edge = sp.csr_matrix((np.ones(quads.size), (edge.ravel(), np.tile(np.arange(len(quads)), 4))))
    beside = (of_edge.T @ of_edge).tolil()
    beside.setdiag(0)
    beside, inside = beside.tocsr(), inside[chosen].astype(float)
    for _ in range(30):
        share = (around @ inside) / np.asarray(around.sum(1)).ravel()
        inside = np.where(free & (share > 0.56), 1.0, np.where(free & (share < 0.44), 0.0, inside))
        inside = np.where(free & (beside @ inside <= 1), 0.0, inside)
    result = np.zeros_like(pool)
    result[chosen[inside > 0]] = True
    return result
