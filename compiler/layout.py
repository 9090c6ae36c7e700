"""How a tensor lies in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compiler.graph import Pair

Positions = npt.NDArray[np.int64]

BLOCKED = "blocked"
"""Channels in blocks of the vector length, innermost: a vector is one pixel of several channels."""
PLANAR = "planar"
"""A plane a channel: a vector is several pixels of one channel."""
LAYOUTS = (BLOCKED, PLANAR)

LINE = 16
"""Floats of a cache line."""
SPARE_PLANES = 8
"""Planes are allocated in multiples of this, since a kernel writes whole blocks of filters."""


@dataclass(frozen=True)
class Buffer:
    """A tensor (channels, height, width) as [channels / lanes][rows][pixels of a row][lanes] floats.

    `lanes` is the vector length (NCHWc), or 1 for planes. A halo of zeros around the pixels saves kernels from testing
    borders. In planes, two neighbouring rows share the columns between them: `pitch` pixels lie from row to row, at
    least width + halo. Each plane then ends with room for a vector, so that whole vectors may be read and written at
    its last pixel, and planes are an odd number of cache lines apart, lest they meet in the same cache sets.
    """

    channels: int
    height: int
    width: int
    lanes: int
    halo: Pair = (0, 0)
    pitch: int = 0

    @property
    def planar(self) -> bool:
        """Whether rows share their halo, and vectors run along pixels."""
        return self.pitch > 0

    @property
    def blocks(self) -> int:
        """Channel blocks."""
        return -(-self.channels // self.lanes)

    @property
    def row(self) -> int:
        """Floats from one row to the next."""
        return self.pitch or (self.width + 2 * self.halo[1]) * self.lanes

    @property
    def plane(self) -> int:
        """Floats from one channel block to the next."""
        floats = (self.height + 2 * self.halo[0]) * self.row
        if not self.planar:
            return floats
        lines = -(-(floats + self.halo[1] + LINE) // LINE)
        return LINE * (lines + 1 - lines % 2)

    @property
    def size(self) -> int:
        """Floats in all."""
        spare = -self.blocks % SPARE_PLANES if self.planar else 0
        return (self.blocks + spare) * self.plane

    @property
    def stretch(self) -> int:
        """Floats from the first to the last pixel of a plane, both included."""
        return (self.height - 1) * self.row + self.width * self.lanes

    def offset(self, channel: int, y: int, x: int) -> int:
        """Position of an element, counted from the first float of the buffer; y and x may lie in the halo."""
        block, lane = divmod(channel, self.lanes)
        return block * self.plane + (y + self.halo[0]) * self.row + (x + self.halo[1]) * self.lanes + lane

    def offsets(self, positions: Positions) -> Positions:
        """`offset` of the elements at flat positions in (channels, height, width)."""
        channel, pixel = np.divmod(positions, self.height * self.width)
        block, lane = np.divmod(channel, self.lanes)
        row, column = np.divmod(pixel, self.width)
        found: Positions = self.offset(0, 0, 0) + block * self.plane + row * self.row + column * self.lanes + lane
        return found
