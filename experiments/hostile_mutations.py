"""How files are damaged, by what they are: bytes, words, JSON, arrays in a zip, and the heads of pictures.

Each function makes other bytes of bytes with a random.Random. A mutation that does not understand what it is given
changes bytes blindly, for files are damaged again and again.
"""

import io
import json
import pickle
import random
import struct
import zipfile
import zlib

import numpy as np

INTEGERS = (0, 1, 2, 3, 68, 127, 128, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (b"", b"-1", b"0", b"1", b"2", b"99999999", b"1000000000000", b"-1000000000000", b"9" * 40, b"9" * 5000,
         b"1e400", b"nan", b"-inf", b"1.5", b"0x10", b"\xff\xfe", b"\x00", b"null", b"true", b"{}", b"[]", b"[" * 20000,
         b"\"", b"{\"a\":" * 5000, b"../../etc/passwd", b"\xe2\x80\xae", b"1_000", b"%s%n", b"f 1//1 2//2 3//3")
VALUES = (None, True, False, 0, 1, -1, 1.5, 2**31, 10**12, -(10**12), 1e308, "", "x", "9" * 400, [], {}, [[]], [None],
          {"a": 1}, [1] * 68, "../../etc/passwd")
BOMB = 1 << 30  # bytes of zeros


def blind(data: bytes, rng: random.Random) -> bytes:
    """Bits, numbers, ends and pieces."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            form = rng.choice(("<I", ">I", "<Q", "<H", ">H", "B"))
            number = struct.pack(form, rng.choice(INTEGERS) % (1 << 8 * struct.calcsize(form)))
            data[at:at + len(number)] = number
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at:at + rng.randrange(1, 64)]
        elif kind == 4:
            data[at:at] = data[at:at + rng.randrange(1, 64)]
        else:
            data[at:at + 4] = rng.randbytes(4)
    return bytes(data)


def head(data: bytes, rng: random.Random) -> bytes:
    """As `blind`, of the first bytes: headers are there."""
    length = rng.choice((16, 64, 256))
    return blind(data[:length], rng) + data[length:]


def words(data: bytes, rng: random.Random) -> bytes:
    """A word or line of a text is another, is lost, or comes many times."""
    separator = rng.choice((b" ", b"\n", b",", b"="))
    parts = data.split(separator)
    at, kind = rng.randrange(len(parts)), rng.randrange(5)
    if kind < 3:
        parts[at] = rng.choice(WORDS)
    elif kind == 3:
        del parts[at]
    else:
        parts[at:at] = [parts[at]] * rng.choice((1, 2, 1000))
    return separator.join(parts)


def json_text(data: bytes, rng: random.Random) -> bytes:
    """A value of a JSON text is another one, of another kind."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return words(data, rng)
    return json.dumps(changed_json(tree, rng)).encode()


def changed_json(tree, rng):
    if isinstance(tree, (dict, list)) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        if rng.random() < 0.1:
            del tree[key]
        else:
            tree[key] = changed_json(tree[key], rng)
        return tree
    return rng.choice(VALUES)


def array(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """Another shape, dtype or number than what a reader expects."""
    kind = rng.randrange(9)
    if kind == 0:
        return values.reshape(-1)
    if kind == 1:
        return values[..., :rng.randrange(3)] if values.ndim else values
    if kind == 2:
        return values[:rng.randrange(3)] if values.ndim else values
    if kind == 3:
        return values[None]
    if kind == 4:
        return np.full(values.shape, "text")
    if kind == 5:
        with np.errstate(all="ignore"):
            return values.astype(rng.choice((np.complex64, np.int8, np.bool_, np.float16, np.uint64, np.bytes_))) \
                if values.dtype.kind in "fiub" else np.zeros(2)
    if kind == 6:
        return np.asarray(rng.choice((0, -1, 1e308, 10**12)))
    if kind == 7 and values.size and values.dtype.kind in "fiu":
        changed = values.copy()
        with np.errstate(all="ignore"):
            changed.flat[rng.randrange(values.size)] = np.asarray(
                rng.choice((np.nan, np.inf, -1, 1e30, 2**31)), np.float64).astype(values.dtype)
        return changed
    return values.T


def npz(data: bytes, rng: random.Random) -> bytes:
    """An array of an npz changes, its header lies, or it is a bomb."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = {name: file.read(name) for name in file.namelist() if file.getinfo(name).file_size < 1 << 22}
        name = rng.choice(sorted(members))
        kind = rng.randrange(8)
        if kind == 0:
            del members[name]
        elif kind == 1:
            members[name] = npy_head(members[name], rng)
        elif kind == 2:
            members[name] = blind(members[name], rng)
        elif kind == 3 and rng.random() < 0.1:
            members[name] = _npy_header((BOMB,), "|u1") + bytes(BOMB)
        else:
            values, file = array(np.load(io.BytesIO(members[name])), rng), io.BytesIO()
            np.save(file, values)
            members[name] = file.getvalue()
    except Exception:  # damaged before
        return blind(data, rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy_head(data: bytes, rng: random.Random) -> bytes:
    """A .npy whose header claims another shape or dtype than its bytes have."""
    shape = rng.choice(((10**12,), (10**6, 3), (-1, 3), (2**40, 2**40), (), (0, 3), (10**5, 10**5, 3)))
    dtype = rng.choice(("<f8", "<f4", "|O", "<U9999", "|V1000", "<i8", ">f8", "|S1000000000"))
    return _npy_header(shape, dtype) + data[128:]


def _npy_header(shape, dtype):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def glb(data: bytes, rng: random.Random) -> bytes:
    """The JSON of a glTF changes, or its binary chunk."""
    try:
        size = struct.unpack_from("<I", data, 12)[0]
        text = json.dumps(changed_json(json.loads(data[20:20 + size]), rng)).encode()
    except Exception:  # damaged before
        return blind(data, rng)
    text, rest = text + b" " * (-len(text) % 4), data[20 + size:]
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def hdf5(data: bytes, rng: random.Random) -> bytes:
    """A data set of an HDF5 file is another: its shape, dtype, size or place."""
    import h5py

    file = io.BytesIO(data)
    try:
        with h5py.File(file, "r+") as tree:
            names = []
            tree.visititems(lambda name, item: names.append(name))
            name = rng.choice(names)
            before = tree[name][()] if isinstance(tree[name], h5py.Dataset) else None
            del tree[name]
            kind = rng.randrange(8)
            if kind == 0:
                tree.create_dataset(name, (10**6, 10**6), "f4", chunks=(64, 64))
            elif kind == 1:
                tree.create_dataset(name, (BOMB,), "u1", chunks=(1 << 20,), fillvalue=3)
            elif kind == 2:
                tree.create_group(name)
            elif kind == 3:
                tree[name] = h5py.ExternalLink("/etc/hostname", "/")
            elif kind == 4:
                tree[name] = h5py.SoftLink(f"/{name}")
            elif kind == 5:
                tree[name] = rng.choice((b"[1,", b'[{"id": "a"}]', b'[{"id": [], "coordinates": [1, 2]}]', b"\xff"))
            else:
                tree[name] = array(np.asarray(before), rng) if isinstance(before, np.ndarray) else 10**12
    except Exception:  # damaged before, or nothing that HDF5 can hold
        return blind(data, rng)
    return file.getvalue()


def matlab(data: bytes, rng: random.Random) -> bytes:
    """A variable of a .mat is another, or a bomb; or bytes of what is compressed."""
    import scipy.io

    from sfm_jax.mat_files import load_mat5

    try:
        # By our own reader: SciPy's dies of what is damaged, and what comes here has been damaged before.
        variables = load_mat5(data)
        name = rng.choice(sorted(variables))
        if rng.random() < 0.2:
            del variables[name]
        elif rng.random() < 0.02:
            variables[name] = np.zeros(BOMB, np.uint8)
        else:
            variables[name] = array(np.asarray(variables[name]), rng)
        file = io.BytesIO()
        scipy.io.savemat(file, variables, do_compression=rng.random() < 0.5)
    except Exception:  # damaged before, or nothing that MATLAB can hold
        return blind(data, rng)
    return file.getvalue()


def pickled(data: bytes, rng: random.Random) -> bytes:
    """Instructions of a pickle that take memory, time or another's code."""
    deep = b"(lp0\n" + b"".join(b"(g%d\ng%d\nlp%d\n" % (i, i, i + 1) for i in range(60))
    hashed = b")p0\n" + b"".join(b"(g%d\ng%d\ntp%d\n" % (i, i, i + 1) for i in range(60))
    attacks = (
        b"r\xff\xff\xff\x7f", b"cos\nsystem\n(S'true'\ntR", b"cnumpy\nload\n", b"\x8e" + struct.pack("<Q", 2**40),
        b"\x96" + struct.pack("<Q", 2**33), b"\x8d" + struct.pack("<Q", 2**40), b"(" * 5000, b"2" * 1000 + b"t",
        b"]q\x00h\x00a", b"q\x00", b"p2147483647\n", deep, hashed, hashed + b"I1\ns", b"}" + hashed + b"I1\ns",
        b"cbuiltins\nset\n(" + hashed + b"ltR", b"cbuiltins\ngetattr\n", b"I" + b"9" * 5000 + b"\n",
        b"\x95" + b"\xff" * 8,
        b"cnumpy\ndtype\n(S'O8'\ntR", b"cnumpy\nndarray\n)\x81", b"cnumpy\ndtype\n)\x81N\x62", b"b", b".",
        b"F1e400\n", b"\x8a\xff" + b"\xff" * 255, b"S'" + b"\\" * 99 + b"'\n", b"P1\n", b"\x82\x01", b"0", b"R")
    at = rng.choice((0, 2, len(data) - 1, rng.randrange(len(data) + 1)))
    attack = rng.choice(attacks)
    return rng.choice((data[:at] + attack + data[at:], b"\x80\x02" + attack + b".", blind(data, rng)))


def arrays_pickled(data: bytes, rng: random.Random) -> bytes:
    """An array of a pickled dict is another."""
    from sfm_jax.morphable.formats.safe_pickle import load_pickle

    try:
        values = load_pickle("seed", data)  # damaged before, Python's would do what it says
        name = rng.choice(sorted(values))
        values[name] = array(np.asarray(values[name]), rng) if isinstance(values[name], np.ndarray) else \
            rng.choice(VALUES)
        return pickle.dumps(values, 2)
    except Exception:  # damaged, or nothing with a name
        return pickled(data, rng)


def picture(data: bytes, rng: random.Random) -> bytes:
    """A PNG that claims another size, with the right checksum; others have their head changed."""
    if not data.startswith(b"\x89PNG") or len(data) < 33:
        return head(data, rng)
    sizes = [rng.choice((0, 1, 24, 12_000, 60_000, 2**31 - 1)) for _ in range(2)]
    header = struct.pack(">II", *sizes) + bytes([rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0, 0])
    rows = zlib.compress(bytes(1 << 24)) if rng.random() < 0.05 else b""
    body = data[33:] if not rows else _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    return data[:8] + _chunk(b"IHDR", header) + body


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
