"""ICC profiles made on the spot, as small as they may be: by primaries, grey, and for inks."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
# Columns red, green, blue in XYZ, adapted to D50 as profiles want it.
DISPLAY_P3 = ((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657),
              (-0.00105, 0.04189, 0.78407))
PROPHOTO = ((0.79767, 0.13519, 0.03135), (0.28804, 0.71188, 0.00009), (0.0, 0.0, 0.82492))
SRGB = ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410))


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*values)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def srgb_curve() -> bytes:
    x = np.linspace(0, 1, 1024)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", 1024) + (y * 65535).round().astype(">u2").tobytes()


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr",
            connection: bytes = b"XYZ ") -> bytes:
    """A profile of version 2 with these tags."""
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s12s4s", start + len(body), bytes(4), 0x02400000, kind, space,
                       connection, bytes(12), b"acsp")
    head += bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def by_primaries(matrix: tuple[tuple[float, ...], ...], curve: bytes) -> bytes:
    """An RGB profile; ``matrix`` rows are X, Y and Z of red, green and blue."""
    columns = list(zip(*matrix, strict=True))
    tags = {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns,
                                                      strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return profile(b"RGB ", {b"wtpt": xyz(D50), **tags})


def grey(curve: bytes) -> bytes:
    return profile(b"GRAY", {b"wtpt": xyz(D50), b"kTRC": curve})


def inks(lab: np.ndarray) -> bytes:
    """A CMYK profile by the colours of its 16 full mixtures: float (2, 2, 2, 2, 3), L*, a*, b*."""
    ramp = np.arange(256, dtype=np.uint8).tobytes()
    corners = np.stack([lab[..., 0] * 2.55, lab[..., 1] + 128, lab[..., 2] + 128], -1)
    table = (b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4
             + corners.round().clip(0, 255).astype(np.uint8).tobytes() + ramp * 3)
    return profile(b"CMYK", {b"wtpt": xyz(D50), b"A2B0": table}, b"prtr", b"Lab ")
