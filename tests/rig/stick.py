"""Images of USB sticks: made, copied, and read on the host without mounting.

Owns: partition table, vfat (by mtools) and exFAT (by the reader below). A stick is as it is sold: one partition,
FAT32 with clusters of 16 KiB or exFAT with 32 KiB."""
import os
import struct
import subprocess

PARTITION = 1 << 20                 # octets before the partition
SECTOR = 512
FORMATS = {
    "vfat": (0x0C, ["mkfs.vfat", "-F", "32", "-s", "32", "-n", "STICK"]),
    "exfat": (0x07, ["mkfs.exfat", "-c", "32K", "-L", "STICK"]),
}
ENVIRONMENT = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}


def copy_sparse(source, target, skip=0, offset=0, size=None):
    """Copies `source` from `skip` on to a new `target` at `offset`, leaving holes where it has holes."""
    with open(source, "rb") as old, open(target, "wb") as new:
        end = os.fstat(old.fileno()).st_size
        new.truncate(end - skip + offset if size is None else size)
        at = skip
        while at < end:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:                                 # nothing but a hole is left
                break
            stop = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                octets = os.pread(old.fileno(), min(stop - at, 4 << 20), at)
                os.pwrite(new.fileno(), octets, at - skip + offset)
                at += len(octets)


def make(image, filesystem, mib=2048):
    """A new, empty stick; returns its path."""
    kind, mkfs = FORMATS[filesystem]
    plain = f"{image}.plain"
    with open(plain, "wb") as file:
        file.truncate((mib << 20) - PARTITION)
    subprocess.run([*mkfs, plain], check=True, capture_output=True, env=ENVIRONMENT)
    copy_sparse(plain, image, offset=PARTITION)
    os.remove(plain)
    first, count = PARTITION // SECTOR, ((mib << 20) - PARTITION) // SECTOR
    with open(image, "r+b") as file:
        file.seek(446)
        file.write(struct.pack("<4xB3xII", kind, first, count) + bytes(48) + b"\x55\xaa")
    return image


def fill(image, folder, contents):
    """Makes `folder` in the root of an empty vfat stick, with {name: content}; each content fits a cluster.

    mtools would take minutes for a thousand files: it reads the whole folder for each."""
    with open(image, "r+b") as file:
        file.seek(PARTITION)
        boot = file.read(SECTOR)
        cluster = boot[13] * SECTOR
        reserved, fats, fat_sectors, root = struct.unpack_from("<HB", boot, 14) + struct.unpack_from("<I4xI", boot, 36)
        heap = PARTITION + (reserved + fats * fat_sectors) * SECTOR
        first = root + 1
        entries = _fat_entry(".", 0x10, first, 0, 0) + _fat_entry("..", 0x10, 0, 0, 0)
        size = len(entries) + sum(32 * (2 + (len(name) - 1) // 13) for name in contents)
        own = -(-size // cluster)                           # clusters of the folder itself
        chain = {at: at + 1 for at in range(first, first + own - 1)} | {first + own - 1: 0x0FFFFFFF}
        for number, (name, content) in enumerate(contents.items()):
            at = first + own + number
            chain[at] = 0x0FFFFFFF
            entries += _fat_entry(name, 0x20, at, len(content), number)
            file.seek(heap + (at - 2) * cluster)
            file.write(content)
        file.seek(heap + (first - 2) * cluster)
        file.write(entries)
        file.seek(heap + (root - 2) * cluster + 32)         # behind the label
        file.write(_fat_entry(folder, 0x10, first, 0, 0))
        table = struct.pack(f"<{len(chain)}I", *(chain[at] for at in sorted(chain)))
        for copy in range(fats):
            file.seek(PARTITION + (reserved + copy * fat_sectors) * SECTOR + first * 4)
            file.write(table)
        # How many clusters are free is not known any more.
        file.seek(PARTITION + struct.unpack_from("<H", boot, 48)[0] * SECTOR + 488)
        file.write(b"\xff" * 8)


def _fat_entry(name, attributes, cluster, size, number):
    """An entry of a FAT folder: the parts of the long name, last first, and the short name, made of `number`."""
    short = name.ljust(11).encode() if name in (".", "..") else b"F%07X   " % number
    checksum = 0
    for octet in short:
        checksum = ((checksum & 1) << 7) + (checksum >> 1) + octet & 0xFF
    parts = []
    if name not in (".", ".."):
        units = name.encode("utf-16-le") + (b"\0\0" if len(name) % 13 else b"")
        units = [units[at:at + 26].ljust(26, b"\xff") for at in range(0, len(units), 26)]
        for order, part in enumerate(units, 1):
            last = 0x40 if order == len(units) else 0
            parts.insert(0, struct.pack("<B10sBBB12sH4s", order | last, part[:10], 0x0F, 0, checksum,
                                        part[10:22], 0, part[22:]))
    return b"".join(parts) + struct.pack("<11sB8xH4xHI", short, attributes, cluster >> 16, cluster & 0xFFFF, size)


def files(image, folder):
    """{name: content} of the files in a folder of the root; as much as a damaged filesystem still gives."""
    with open(image, "rb") as file:
        file.seek(PARTITION + 3)
        is_exfat = file.read(8) == b"EXFAT   "
        return _ExFat(file).folder(folder) if is_exfat else _vfat(image, folder)


def _vfat(image, folder):
    def mtools(*command):
        return subprocess.run([command[0], "-i", f"{image}@@{PARTITION}", *command[1:]], env=ENVIRONMENT,
                              capture_output=True).stdout
    names = [path.rsplit("/", 1)[1] for path in mtools("mdir", "-b", "-a", f"::{folder}").decode().splitlines()]
    return {name: mtools("mcopy", "-n", f"::{folder}/{name}", "-") for name in names if name}


class _ExFat:
    """As much of exFAT as it takes to read a folder of the root."""

    def __init__(self, file):
        self.file = file
        boot = self.at(0, SECTOR)
        fat, _, heap, _, self.root = struct.unpack_from("<5I", boot, 80)
        sector = 1 << boot[108]
        self.cluster = sector << boot[109]
        self.fat, self.heap = fat * sector, heap * sector

    def at(self, offset, count):
        return os.pread(self.file.fileno(), count, PARTITION + offset)

    def chain(self, cluster, size, contiguous):
        """Content that begins at `cluster`; `size` None: until the chain ends."""
        content = bytearray()
        while 2 <= cluster < 0xFFFFFFF7 and (size is None or len(content) < size):
            content += self.at(self.heap + (cluster - 2) * self.cluster, self.cluster)
            cluster = cluster + 1 if contiguous else struct.unpack("<I", self.at(self.fat + cluster * 4, 4))[0]
        return bytes(content[:size])

    def entries(self, content):
        """(name, is a folder, content as a function) of a folder's content."""
        name, left, is_folder, stream = "", 0, False, None
        for at in range(0, len(content), 32):
            entry = content[at:at + 32]
            if entry[0] == 0x85:                            # a file: attributes
                is_folder, stream = bool(entry[4] & 0x10), None
            elif entry[0] == 0xC0:                          # its stream: where it is
                stream, name, left = entry, "", entry[3]
            elif entry[0] == 0xC1 and stream:               # 15 characters of its name
                part = entry[2:32].decode("utf-16-le", "replace")[:left]
                name, left = name + part, left - len(part)
                if left <= 0:
                    valid, first, size = struct.unpack_from("<Q4xIQ", stream, 8)
                    contiguous = bool(stream[1] & 2)
                    yield name, is_folder, lambda a=first, v=valid, s=size, c=contiguous: (
                        # What was never written reads as zeros.
                        self.chain(a, min(v, s), c).ljust(s, b"\0"))
                    stream = None

    def folder(self, wanted):
        for name, is_folder, content in self.entries(self.chain(self.root, None, False)):
            if is_folder and name == wanted:
                return {name: read() for name, is_folder, read in self.entries(content()) if not is_folder}
        return {}
