"""How a tensor lies in memory."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.graph import Pair


@dataclass(frozen=True)
class Buffer:
    """A tensor (channels, height, width) as [channels / lanes][height + 2 halo][width + 2 halo][lanes] floats.

    `lanes` is the vector length (NCHWc), or 1 for plain NCHW. The halo holds zeros, so that no kernel tests borders.
    """

    channels: int
    height: int
    width: int
    lanes: int
    halo: Pair = (0, 0)

    @property
    def blocks(self) -> int:
        """Channel blocks."""
        return -(-self.channels // self.lanes)

    @property
    def row(self) -> int:
        """Floats from one row to the next."""
        return (self.width + 2 * self.halo[1]) * self.lanes

    @property
    def plane(self) -> int:
        """Floats from one channel block to the next."""
        return (self.height + 2 * self.halo[0]) * self.row

    @property
    def size(self) -> int:
        """Floats in all."""
        return self.blocks * self.plane

    def offset(self, channel: int, y: int, x: int) -> int:
        """Position of an element, counted from the first float of the buffer; y and x may lie in the halo."""
        block, lane = divmod(channel, self.lanes)
        return block * self.plane + (y + self.halo[0]) * self.row + (x + self.halo[1]) * self.lanes + lane
