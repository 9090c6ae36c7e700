"""Pixel-panel kernels: for single weights and per-kernel patterns, where every product needs a vector of its own.

A load across two cache lines costs two, and a kernel that does little else is half as fast. So a tile of rows x one
vector of pixels is first copied out of some input planes, once for each horizontal kernel position, so that every
vector that a product can want starts a cache line, and all of them stay in the first-level cache. Filters then run over
their lists of kept weights. Kernels with a pattern take four products an entry, and load a row once for all positions
of a column that it meets. The sums are kept until the next planes have been copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compiler.graph import Array, Pair
from compiler.kernels.base import (
    Code,
    Family,
    Operands,
    Schedule,
    activation_bytes,
    pack_sections,
    prelude,
    register,
    share,
    signature,
    split,
)
from compiler.kernels.epilogue import apply, suffix
from compiler.kernels.pixel_vector import pack_chunks
from compiler.kernels.products import FMA_LATENCY, Indices, streaming_cycles
from compiler.layout import PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target
from pruning.schemes.pattern import LIBRARY, Pattern

LOAD_CYCLES = ((26_000, 0.6), (60_000, 0.88), (120_000, 1.1))
"""Bytes of a panel, and cycles of an aligned vector load from it: it leaves the first-level cache bit by bit."""
COPY_CYCLES = 2.0
LIST_CYCLES = 20.0
"""A list of entries ends where the processor does not expect it."""
SUM_CYCLES = 3.5
"""Loading and storing a vector of sums between chunks of channels."""

DIMS = (
    *("filters", "channels", "chunk", "down", "across", "height", "width", "last"),
    *("x0", "xrow", "xplane", "y0", "yrow", "yplane", "r0", "rrow", "rplane"),
    *("bias_at", "mask_at", "ptr_at", "ix_at", "w_at"),
)


@dataclass(frozen=True)
class Panel:
    """What is copied of one input plane for a tile: for each of `copies`, `height` vectors.

    Vectors hold one row each, or two where an image is no wider than half a vector.

    Attributes:
        kernel, dilation: of the convolution.
        vectors: vectors of output pixels in a tile.
        rows: rows in a vector.
    """

    kernel: Pair
    dilation: Pair
    vectors: int
    rows: int

    @property
    def copies(self) -> int:
        """Copies that start at another column, or at an odd row."""
        return self.kernel[1] * self.rows

    @property
    def height(self) -> int:
        """Vectors a copy."""
        return self.vectors + -(-(self.kernel[0] - 1) * self.dilation[0] // self.rows)

    def place(self, row: int, col: int) -> tuple[int, int]:
        """The copy, and the vector in it, that kernel position (row, col) reads for the first output vector."""
        vector, odd = divmod(row * self.dilation[0], self.rows)
        return odd * self.kernel[1] + col, vector


class PixelPanel(Family):
    """Convolutions of stride 1 on planes, without structure or with patterns a kernel."""

    layouts = frozenset({(PLANAR, PLANAR)})

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        height, width = spec.out_size
        if spec.stride != (1, 1) or spec.sparsity.rate == 1 or target.registers < 32:
            return
        rows = 2 if 2 * width <= target.vector else 1
        down = -(-height // rows)
        for taps in (1, 4) if _patterned(spec) else (1,):
            most = min(down, target.accumulators, target.registers - taps - 2)
            for vectors in sorted({split(down, longest)[0] for longest in range(1, most + 1)}):
                panel = Panel(spec.kernel, spec.dilation, vectors, rows)
                a_plane = 4 * target.vector * panel.copies * panel.height
                for size, load in LOAD_CYCLES if taps > 1 else LOAD_CYCLES[:1]:
                    chunk = split(spec.in_channels, max(1, size // a_plane))[0]
                    yield self._tiled(spec, target, panel, taps, chunk, load)

    def _tiled(self, spec: KernelSpec, target: Target, panel: Panel, taps: int, chunk: int, load: float) -> Schedule:
        channels, (height, width) = spec.in_channels, spec.out_size
        entries = channels * spec.kernel[0] * spec.kernel[1] / spec.sparsity.rate / taps
        loads = panel.vectors if taps == 1 else sum(len(_meetings(panel, p)) for p in LIBRARY) / len(LIBRARY)
        an_entry = max(max(panel.vectors * taps / 2, load * loads) + 0.5 + taps, taps * FMA_LATENCY + 1.0)
        chunks = -(-channels // chunk)
        tile = spec.out_channels * (entries * an_entry + chunks * (LIST_CYCLES + SUM_CYCLES * panel.vectors + 4 * taps))
        copying = COPY_CYCLES * channels * panel.copies * panel.height
        cols = target.vector // panel.rows
        tiles = -(-height // (panel.vectors * panel.rows)) * -(-width // cols)
        weight_bytes = 4.0 * entries * spec.out_channels * (taps + 1)
        blocks_shared = width < target.vector  # rows of one filter are then written one over the end of the other
        pieces = spec.out_channels if blocks_shared else tiles
        alone = tiles * copying if blocks_shared else 0.0
        work = tiles * (tile + copying) + streaming_cycles(weight_bytes, tiles) - alone
        return Schedule(
            "pixel_panel",
            "sparse",
            panel.vectors,
            rows=panel.vectors * panel.rows,
            cols=cols,
            filters=1,
            unroll=taps,
            chunk=chunk if chunks > 1 else 0,
            entries=entries,
            pieces=pieces,
            blocks_shared=blocks_shared,
            cycles=alone + share(work, pieces, spec.threads),
            bytes=activation_bytes(spec) + weight_bytes,
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        panel, filters = _panel(spec, schedule), schedule.filters
        narrow = spec.out_size[1] < target.vector
        kernel = "x".join(map(str, spec.kernel)) + "d" + "x".join(map(str, spec.dilation))
        shape = "half" if panel.rows == 2 else "narrow" if narrow else "wide"
        name = f"panel{filters}_{panel.vectors}_{kernel}_{shape}_t{schedule.unroll}{suffix(spec.epilogue)}"
        sums = [(f, v) for f in range(filters) for v in range(panel.vectors)]
        place = f"(sum + ({{0}} * {panel.vectors} + {{1}}) * VL)"
        lines = [f"vf a{f}_{v} = npas_splat(bias[b * {filters} + {f}]);" for f, v in sums]
        lines += ["if (first) {", *(f"  a{f}_{v} = *(const vf *){place.format(f, v)};" for f, v in sums), "}"]
        lines += _pattern_lists(panel) if schedule.unroll == 4 else _list(panel, filters)
        lines += ["if (first + chunk < channels) {", *(f"  *(vf *){place.format(f, v)} = a{f}_{v};" for f, v in sums)]
        lines += ["  continue;", "}"]
        lines += _store(panel, filters, spec.epilogue, narrow)
        body = "".join(f"        {line}\n" for line in lines)
        lists = len(LIBRARY) if schedule.unroll == 4 else 1
        shared, whole = "part, parts", "0, 1"
        tiles, blocks = (whole, shared) if schedule.blocks_shared else (shared, whole)
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  const float *bias = (const float *)(c + bias_at), *weights = (const float *)(c + w_at);
  const int32_t *ptr = (const int32_t *)(c + ptr_at), *index = (const int32_t *)(c + ix_at);
  const vi inside = *(const vi *)(c + mask_at);
  const long blocks = (filters + {filters - 1}) / {filters};
  const npas_range tiles = npas_part(down * across, {tiles}), mine = npas_part(blocks, {blocks});
  float *panel = (float *)s, *sums = panel + chunk * {panel.copies * panel.height} * VL;
  (void)r; (void)r0; (void)rrow; (void)rplane; (void)last; (void)inside;
  for (long tile = tiles.from; tile < tiles.to; tile++) {{
    const long ty = tile / across, tx = tile % across;
    const long below = height - {schedule.rows}, right = width - {schedule.cols};
    long top = ty * {schedule.rows} < below ? ty * {schedule.rows} : below, left = tx * VL < right ? tx * VL : right;
    top = top < 0 ? 0 : top; left = left < 0 ? 0 : left;
    for (long first = 0; first < channels; first += chunk) {{
      const long some = channels - first < chunk ? channels - first : chunk;
      for (long ch = 0; ch < some; ch++) {{
        const float *xp = x + x0 + (first + ch) * xplane + left;
        float *pp = panel + ch * {panel.copies * panel.height} * VL;
{_copy(panel)}      }}
      for (long b = mine.from; b < mine.to; b++) {{
        const int32_t *ends = ptr + (first / chunk * blocks + b) * {lists};
        float *sum = sums + b * {filters * panel.vectors} * VL;
        float *yp = y + y0 + b * {filters} * yplane + top * yrow + left;
        const float *rp = r + r0 + b * {filters} * rplane + top * rrow + left;
{body}      }}
    }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        panel, lanes = _panel(spec, schedule), schedule.cols * schedule.rows // schedule.vectors
        height, width = spec.out_size
        chunk = schedule.chunk or spec.in_channels
        a_plane = panel.copies * panel.height * lanes
        if schedule.unroll == 4:
            pointers, channels, packed = _pack_patterns(use.weight, chunk)
            offsets = channels % chunk * a_plane
        else:
            pointers, where, packed = pack_chunks(use.weight, schedule, chunk)
            where[:, 0] %= chunk
            places = np.array([panel.place(row, col) for row, col in np.ndindex(*spec.kernel)])
            place = (places @ [panel.height, 1]).reshape(spec.kernel)
            offsets = where[:, 0] * a_plane + place[where[:, 1], where[:, 2]] * lanes
        bias = np.zeros(-(-spec.out_channels // schedule.filters) * schedule.filters, np.float32)
        bias[: spec.out_channels] = use.bias
        mask = np.where(np.arange(lanes) < width, -1, 0).astype(np.int32)
        sections, blob = pack_sections(bias, mask, pointers, offsets.astype(np.int32), packed)
        x, y, r = use.x, use.y, use.r or use.y
        dims = [
            *(spec.out_channels, spec.in_channels, chunk, -(-height // schedule.rows), -(-width // schedule.cols)),
            *(height, width, x.height + x.halo[0] + spec.padding[0] - 1),
            *(x.offset(0, -spec.padding[0], -spec.padding[1]), x.row, x.plane),
            *(y.offset(0, 0, 0), y.row, y.plane, r.offset(0, 0, 0), r.row, r.plane),
            *sections,
        ]
        return dims, blob

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        panel = _panel(spec, schedule)
        lanes = schedule.cols * schedule.rows // schedule.vectors
        chunk, filters = schedule.chunk or spec.in_channels, spec.out_channels + schedule.filters
        return 4 * lanes * (panel.copies * panel.height * chunk + filters * panel.vectors)

    def order_of_sums(self, schedule: Schedule) -> tuple[object, ...]:
        return *super().order_of_sums(schedule), schedule.chunk


def _patterned(spec: KernelSpec) -> bool:
    scheme = spec.sparsity.scheme
    return isinstance(scheme, Pattern) and scheme.share == 1


def _panel(spec: KernelSpec, schedule: Schedule) -> Panel:
    return Panel(spec.kernel, spec.dilation, schedule.vectors, schedule.rows // schedule.vectors)


def _meetings(panel: Panel, pattern: tuple[int, ...]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """What each vector of the panel (copy, number) meets under a pattern: (tap, output vector)."""
    found: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for tap, position in enumerate(pattern):
        copy, first = panel.place(*divmod(position, panel.kernel[1]))
        for v in range(panel.vectors):
            found[copy, first + v].append((tap, v))
    return dict(sorted(found.items()))


def _pack_patterns(weight: Array, chunk: int) -> tuple[Indices, Indices, Array]:
    """Kernels chunk by chunk of channels, filter by filter, sorted by pattern.

    Returns:
        pointers [chunks * filters * patterns + 1], channels, weights [kernels, 4].
    """
    flat = weight.reshape(*weight.shape[:2], -1)
    library = np.zeros((len(LIBRARY), flat.shape[2]), bool)
    for row, pattern in enumerate(LIBRARY):
        library[row, list(pattern)] = True
    kept = flat != 0
    fits = ~(kept[:, :, None, :] & ~library).any(3) & kept.any(2)[:, :, None]
    assert bool((fits.any(2) == kept.any(2)).all()), "a kernel has a pattern that is not in the library"
    which = np.where(kept.any(2), fits.argmax(2), len(LIBRARY))
    filters, channels = np.nonzero(kept.any(2))
    patterns = which[filters, channels]
    order = np.lexsort((channels, patterns, filters, channels // chunk))
    lists = (channels // chunk * len(weight) + filters) * len(LIBRARY) + patterns
    counts = np.bincount(lists, minlength=-(-weight.shape[1] // chunk) * len(weight) * len(LIBRARY))
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    taps = np.array(LIBRARY)[patterns[order]]
    packed = np.take_along_axis(flat[filters[order], channels[order]], taps, 1)
    return pointers, channels[order].astype(np.int32), packed


def _copy(panel: Panel) -> str:
    """Copy rows `top` and below of one plane, from column `left`, into the panel."""
    columns, down = panel.kernel[1], panel.height
    lines = []
    for copy in range(panel.copies):
        odd, col = divmod(copy, columns)
        shift = col * panel.dilation[1]
        if panel.rows == 1:
            lines.append(f"for (long u = 0; u < {down}; u++)")
            lines.append(f"  *(vf *)(pp + ({copy * down} + u) * VL) = *(const vfu *)(xp + (top + u) * xrow + {shift});")
        else:
            lines.append(f"for (long u = 0; u < {2 * down}; u++) {{")
            lines.append(f"  const long at = top + u + {odd} < last ? top + u + {odd} : last;")
            lines.append(f"  memcpy(pp + ({2 * copy * down} + u) * (VL / 2), xp + at * xrow + {shift}, VL / 2 * 4);")
            lines.append("}")
    return "".join(f"      {line}\n" for line in lines)


def _list(panel: Panel, filters: int) -> list[str]:
    """Single positions: each is a vector of the panel from which `vectors` follow one another."""
    lines = [
        f"const float *w = weights + (long)ends[0] * {filters};",
        "for (long e = ends[0]; e < ends[1]; e++) {",
        "  const float *p = panel + index[e];",
    ]
    lines += [f"  vf t{f} = npas_splat(w[{f}]); KEEP(t{f});" for f in range(filters)]
    keep = " KEEP(x);" if filters > 1 else ""
    for v in range(panel.vectors):
        products = " ".join(f"a{f}_{v} += t{f} * x;" for f in range(filters))
        lines.append(f"  {{ vf x = *(const vf *)(p + {v} * VL);{keep} {products} }}")
    return [*lines, f"  w += {filters};", "}"]


def _pattern_lists(panel: Panel) -> list[str]:
    """Kernels pattern by pattern: what a pattern reads is written out, each vector once."""
    lines = ["const float *w = weights + (long)ends[0] * 4;"]
    for number, pattern in enumerate(LIBRARY):
        lines += [
            f"for (long e = ends[{number}]; e < ends[{number + 1}]; e++) {{",
            "  const float *p = panel + index[e];",
            *(f"  vf t{tap} = npas_splat(w[{tap}]); KEEP(t{tap});" for tap in range(4)),
        ]
        for (copy, vector), products in _meetings(panel, pattern).items():
            keep = " KEEP(x);" if len(products) > 1 else ""
            sums = " ".join(f"a0_{v} += t{tap} * x;" for tap, v in products)
            lines.append(f"  {{ vf x = *(const vf *)(p + {copy * panel.height + vector} * VL);{keep} {sums} }}")
        lines += ["  w += 4;", "}"]
    return lines


def _store(panel: Panel, filters: int, epilogue: tuple[str, ...], narrow: bool) -> list[str]:
    """Write the sums. Pixels beside a narrow image belong to other rows, and stay."""
    lines = []
    for f in range(filters):
        if f:
            lines.append(f"if (b * {filters} + {f} >= filters) continue;")
        for v in range(panel.vectors):
            if panel.rows == 1:
                value = apply(epilogue, f"a{f}_{v}", f"rp + {f} * rplane + {v} * rrow", "vfu")
                at = f"yp + {f} * yplane + {v} * yrow"
                value = f"npas_select(inside, {value}, *(const vfu *)({at}))" if narrow else value
                lines.append(f"*(vfu *)({at}) = {value};")
                continue
            lines.append("{ float two[VL] __attribute__((aligned(64))) = {0};")
            lines.append(f"  const long some = height - top - {2 * v} < 2 ? height - top - {2 * v} : 2;")
            each = "for (long i = 0; i < some; i++) for (long j = 0; j < width; j++)"
            if "add" in epilogue:
                lines.append(f"  {each} two[i * VL / 2 + j] = rp[{f} * rplane + ({2 * v} + i) * rrow + j];")
            lines.append(f"  *(vf *)two = {apply(epilogue, f'a{f}_{v}', 'two')};")
            lines.append(f"  {each} yp[{f} * yplane + ({2 * v} + i) * yrow + j] = two[i * VL / 2 + j]; }}")
    return lines


register("pixel_panel", PixelPanel(), "conv")
