"""The video tracks of a file, as its container describes them: what players heed, and OpenCV does not say.

MP4 and QuickTime (ISO/IEC 14496-12: boxes), Matroska and WebM (RFC 9559: elements), AVI (chunks) and MPEG transport
streams (ISO/IEC 13818-1: packets). Of any other file, and of damaged parts, nothing is said. However long and hostile a
file is, a bounded number of small pieces is read.
"""

import dataclasses
import math
import os
import struct

# Pieces looked at in a file: an hour of Matroska has some thousand clusters in front of what may come last.
_MAX_PIECES = 100_000
# Packets of a transport stream; its tables come several times a second.
_MAX_PACKETS = 20_000
# MPEG-1, 2 and 4, H.264, HEVC, VVC, VC-1, Dirac and AVS, as program maps number them.
_VIDEO_TYPES = (0x01, 0x02, 0x10, 0x1B, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA)
_IDENTITY = (1, 0, 0, 1)
# IDs of Matroska's elements.
_EBML, _SEGMENT, _TRACKS, _TRACK = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
_TYPE, _DEFAULT, _VIDEO, _PROJECTION = b"\x83", b"\x88", b"\xe0", b"\x76\x70"
_PROJECTION_TYPE, _YAW, _PITCH, _ROLL = b"\x76\x71", b"\x76\x73", b"\x76\x74", b"\x76\x75"


@dataclasses.dataclass(frozen=True)
class Track:
    """One video track.

    Args:
      is_default: whether the file marks it as one to play by default; False for AVI and transport streams, which
        have no such mark.
      matrix: (a, b, c, d) that puts the pixel (x, y) at (a x + c y, b x + d y), up to scale and place.
    """

    is_default: bool
    matrix: tuple = _IDENTITY

    @property
    def angle(self):
        """By how many degrees the frames are turned clockwise, 0 to 359; a matrix without a direction turns nothing."""
        a, b, c, d = self.matrix
        scale_x, scale_y = math.hypot(a, c), math.hypot(b, d)
        if not scale_x or not scale_y:
            return 0
        return round(math.degrees(math.atan2(b / scale_y, a / scale_x))) % 360

    @property
    def flips(self):
        """Whether x and y change places, and whether x and y are mirrored after that; for right angles."""
        a, b, c, d = self.matrix
        return (True, c < 0, b < 0) if self.angle in (90, 270) else (False, a < 0, d < 0)


def read(path: str | os.PathLike) -> list[Track]:
    """Reads the video tracks of a file.

    Args:
      path: the file.

    Returns:
      A list of Track in the order of the file; empty when the container is another one or tells of none.
    """
    with open(path, "rb") as file:
        head = file.read(12)
        pieces = _Pieces(file, os.fstat(file.fileno()).st_size)
        if head[:4] == _EBML:
            return list(_matroska_tracks(pieces))
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            return list(_avi_tracks(pieces))
        for size, offset in ((188, 0), (192, 4)):  # Discs and cameras put a time before each packet.
            if all(pieces.read(start + offset, 1) == b"\x47" for start in (0, size, 2 * size)):
                return list(_transport_tracks(pieces, size, offset))
        return list(_mp4_tracks(pieces))


class _Pieces:
    """Walks over boxes, elements or chunks: yields (name, start, end) of the content of each within bounds."""

    def __init__(self, file, size):
        self.size = size
        self._file = file
        self._left = _MAX_PIECES

    def read(self, start, size):
        """Up to so many bytes; fewer at the end of the file."""
        self._file.seek(start)
        return self._file.read(size)

    def walk(self, header, start, end):
        """Pieces from start to end.

        Args:
          header: function of the first 16 bytes of a piece, which returns its name, the size of its header and that of
            its content, None if that is unknown; or None if this is no piece.
          start: offset in bytes.
          end: offset in bytes.
        """
        while start < end and self._left > 0:
            self._left -= 1
            found = header(self.read(start, min(16, end - start)))
            if found is None:
                return
            name, header_size, size = found
            content = start + header_size
            if content > end:
                return
            start = end if size is None else content + size
            yield name, content, min(start, end)

    def inside(self, header, start, end, *names):
        """The content of the first piece of this name within the first one of the name before: (start, end) or None."""
        for name in names:
            found = next(((a, b) for kind, a, b in self.walk(header, start, end) if kind == name), None)
            if found is None:
                return None
            start, end = found
        return start, end


def _mp4_header(data):
    if len(data) < 8:
        return None
    size, name = struct.unpack(">I4s", data[:8])
    if size == 0:  # To the end.
        return name, 8, None
    if size == 1:
        size = int.from_bytes(data[8:], "big")
        return (name, 16, size - 16) if size >= 16 else None
    return (name, 8, size - 8) if size >= 8 else None


def _mp4_tracks(pieces):
    movie = pieces.inside(_mp4_header, 0, pieces.size, b"moov")
    whole = _IDENTITY
    for name, start, end in pieces.walk(_mp4_header, *movie) if movie else ():
        if name == b"mvhd":
            whole = _mp4_matrix(pieces.read(start, min(end - start, 100)), 36)
        elif name == b"trak":
            handler = pieces.inside(_mp4_header, start, end, b"mdia", b"hdlr")
            header = pieces.inside(_mp4_header, start, end, b"tkhd")
            if handler and pieces.read(handler[0], 12)[8:] == b"vide":
                data = pieces.read(header[0], min(header[1] - header[0], 100)) if header else b""
                yield Track(bool(data[3:4] and data[3] & 1), _product(_mp4_matrix(data, 40), whole))


def _mp4_matrix(data, offset):
    """The matrix of an mvhd or tkhd box; the offset is that of version 0, version 1 has longer times."""
    offset += 12 if data[:1] == b"\1" else 0
    if len(data) < offset + 36:
        return _IDENTITY
    a, b, _, c, d = struct.unpack(">5i", data[offset : offset + 20])
    return a, b, c, d


def _product(first, then):
    """The matrix that does what the one does and then what the other does."""
    (a, b, c, d), (e, f, g, h) = first, then
    return a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h


def _matroska_header(data):
    """An ID and a size: integers whose length is that of the first byte's leading zeros."""
    id_size = _vint_size(data)
    size_size = _vint_size(data[id_size:])
    if not id_size or not size_size or len(data) < id_size + size_size:
        return None
    raw = int.from_bytes(data[id_size : id_size + size_size], "big")
    bits = 7 * size_size
    size = raw & ((1 << bits) - 1)
    return data[:id_size], id_size + size_size, None if size == (1 << bits) - 1 else size


def _vint_size(data):
    return 9 - data[0].bit_length() if data and data[0] else 0


def _matroska_tracks(pieces):
    tracks = pieces.inside(_matroska_header, 0, pieces.size, _SEGMENT, _TRACKS)
    for name, start, end in pieces.walk(_matroska_header, *tracks) if tracks else ():
        if name == _TRACK:
            values = _matroska_values(pieces, start, end)
            if int.from_bytes(values.get(_TYPE, b""), "big") == 1:
                is_default = int.from_bytes(values.get(_DEFAULT, b"\1"), "big") == 1
                projection = pieces.inside(_matroska_header, start, end, _VIDEO, _PROJECTION)
                pose = _matroska_values(pieces, *projection) if projection else {}
                yield Track(is_default, _matroska_matrix(pose))


def _matroska_values(pieces, start, end):
    """The first bytes of every element."""
    return {name: pieces.read(a, min(b - a, 8)) for name, a, b in pieces.walk(_matroska_header, start, end)}


def _matroska_matrix(pose):
    """Of a flat picture that is turned around its middle (roll, anticlockwise) or seen from behind (yaw)."""
    yaw, pitch, roll = (_matroska_float(pose.get(name, b"")) for name in (_YAW, _PITCH, _ROLL))
    is_flat = int.from_bytes(pose.get(_PROJECTION_TYPE, b""), "big") == 0
    if not is_flat or pitch or yaw not in (0, 180, -180) or not math.isfinite(roll):
        return _IDENTITY
    mirror = -1 if yaw else 1
    # Right angles exactly, where a cosine would leave a little of either sign.
    cos, sin = (round(value, 9) for value in (math.cos(math.radians(roll)), math.sin(math.radians(roll))))
    return mirror * cos, -mirror * sin, sin, cos


def _matroska_float(data):
    return struct.unpack({4: ">f", 8: ">d"}[len(data)], data)[0] if len(data) in (4, 8) else 0.0


def _avi_header(data):
    if len(data) < 8:
        return None
    name, size = struct.unpack("<4sI", data[:8])
    if name in (b"RIFF", b"LIST"):  # Their first four bytes say what they hold.
        return (data[8:12], 12, size - 4 + size % 2) if size >= 4 else None
    return name, 8, size + size % 2


def _avi_tracks(pieces):
    headers = pieces.inside(_avi_header, 0, pieces.size, b"AVI ", b"hdrl")
    for name, start, end in pieces.walk(_avi_header, *headers) if headers else ():
        if name == b"strl":
            stream = pieces.inside(_avi_header, start, end, b"strh")
            if stream and pieces.read(stream[0], 4) == b"vids":
                yield Track(is_default=False)


def _transport_tracks(pieces, size, offset):
    """One for each video stream of the program maps; the association table says in which packets these are."""
    maps, videos = set(), set()
    for number in range(min(pieces.size // size, _MAX_PACKETS)):
        packet = pieces.read(number * size + offset, 188)
        stream = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[1] & 0x40 and (stream == 0 or stream in maps):
            section = _section(packet)
            if stream == 0:
                maps.update(
                    int.from_bytes(section[at + 2 : at + 4], "big") & 0x1FFF for at in range(5, len(section) - 3, 4)
                )
            else:
                videos.update(_video_streams(section))
    return [Track(is_default=False) for _ in videos]


def _section(packet):
    """What a table of one packet holds behind its length, without its checksum; empty if it goes on in the next one."""
    start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    payload = packet[start + 1 + packet[start] :] if packet[3] & 0x10 and start < len(packet) else b""
    length = int.from_bytes(payload[1:3], "big") & 0xFFF
    return payload[3 : 3 + length - 4] if 4 <= length <= len(payload) - 3 else b""


def _video_streams(section):
    at = 9 + (int.from_bytes(section[7:9], "big") & 0xFFF)
    while at + 5 <= len(section):
        if section[at] in _VIDEO_TYPES:
            yield int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)
