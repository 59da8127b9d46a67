"""Prometheus's formats in plain Python, bit by bit: what the arrays of the program have to come to."""

import struct

STALE_BITS = 0x7FF0000000000002
# What a NaN in a text is.
NAN_BITS = 0x7FF8000000000001


def bits_of(value: float) -> int:
    """A float's 64 bits."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", value))
    assert isinstance(bits, int)
    return bits


def crc32c(data: bytes) -> int:
    """The checksum, a bit at a time."""
    total = 0xFFFFFFFF
    for byte in data:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ (0x82F63B78 if total & 1 else 0)
    return total ^ 0xFFFFFFFF


def uvarint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = []
    while number > 127:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


def xor_chunk(samples: list[tuple[int, int]]) -> bytes:
    """The chunk of times and values' bits."""
    out = f"{len(samples):016b}"
    before, delta, value, window = 0, 0, 0, (-1, -1)

    def as_bytes(data: bytes) -> str:
        return "".join(f"{byte:08b}" for byte in data)

    for number, (time, bits) in enumerate(samples):
        if number == 0:
            out += as_bytes(uvarint(time * 2 if time >= 0 else -time * 2 - 1)) + f"{bits:064b}"
        else:
            step = (time - before) % 2**64
            if number == 1:
                out += as_bytes(uvarint(step))
            else:
                dod = (step - delta + 2**63) % 2**64 - 2**63
                for width, mark in ((0, "0"), (14, "10"), (17, "110"), (20, "1110"), (64, "1111")):
                    if width == 64 or (dod == 0 if width == 0 else -(2 ** (width - 1)) < dod <= 2 ** (width - 1)):
                        out += mark + (f"{dod % 2**width:0{width}b}" if width else "")
                        break
            delta = step
            change = bits ^ value
            if change == 0:
                out += "0"
            else:
                text = f"{change:064b}"
                leading, trailing = min(len(text) - len(text.lstrip("0")), 31), len(text) - len(text.rstrip("0"))
                if window[0] >= 0 and leading >= window[0] and trailing >= window[1]:
                    out += "10" + text[window[0] : 64 - window[1]]
                else:
                    window = (leading, trailing)
                    part = text[leading : 64 - trailing]
                    out += "11" + f"{leading:05b}" + f"{len(part) % 64:06b}" + part
        before, value = time, bits
    out += "0" * (-len(out) % 8)
    return bytes(int(out[at : at + 8], 2) for at in range(0, len(out), 8))
