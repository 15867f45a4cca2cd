"""The emulated phone: Debian's ARM kernel in QEMU, its initramfs, and a USB port with a stick in it.

Owns: the QEMU process and its monitor, the guest's shell, plugging, pulling, stalling and power cuts.
Knows nothing of the agent. Times are the host's monotonic clock, in seconds."""
import atexit
import glob
import json
import os
import re
import socket
import subprocess
import threading
import time

import stick

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.abspath(os.environ.get("RIG_CACHE", f"{ROOT}/target/rig"))
GUEST = f"{CACHE}/guest"

# Debian builds all of these as modules, even the character set that vfat needs to mount.
MODULES = """virtio_mmio virtio_console virtio_net 9pnet_virtio 9p xhci_pci usb_storage sd_mod
    nls_cp437 nls_ascii nls_utf8 vfat exfat""".split()

BOOT_LIMIT_S = 180      # 6 s on an idle machine
MOUNT_LIMIT_S = 60      # 1.5 s, of which the kernel waits 1 s for the stick to settle


def say(text):
    print(text, flush=True)


# ------------------------------------------------------------------------------------------- initramfs

def _modules_in_order():
    """The files of MODULES and of all that they depend on, dependencies first."""
    files = {os.path.basename(path)[:-3].replace("-", "_"): path
             for path in glob.glob(f"{GUEST}/lib/modules/*/kernel/**/*.ko", recursive=True)}
    order = []

    def take(name):
        if name not in files or files[name] in order:       # built into the kernel, or taken before
            return
        with open(files[name], "rb") as module:
            depends = re.search(rb"\0depends=([^\0]*)", module.read())[1].decode()
        for other in filter(None, depends.split(",")):
            take(other.replace("-", "_"))
        order.append(files[name])
    for name in MODULES:
        take(name)
    return order


def _cpio(entries):
    """An archive in the kernel's "newc" form of (name, mode, content, device number)."""
    archive = bytearray()
    for number, (name, mode, content, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))]):
        fields = [number + 1, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0]
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += b"\0" * (-len(archive) % 4) + content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def build_initramfs():
    """Writes the initramfs and the guest's helper program; returns the path of the former."""
    def content(path):
        with open(path, "rb") as file:
            return file.read()
    bridge = f"{CACHE}/bridge"
    subprocess.run(["arm-linux-gnueabihf-gcc", "-static", "-O2", "-Wall", "-o", bridge,
                    f"{HERE}/guest/bridge.c"], check=True)
    entries = [(folder, 0o040755, b"", (0, 0)) for folder in ("bin", "dev", "modules")]
    entries.append(("dev/console", 0o020600, b"", (5, 1)))
    for name, path in (("bin/busybox", f"{GUEST}/bin/busybox"), ("bin/bridge", bridge),
                       ("init", f"{HERE}/guest/init"), ("hotplug", f"{HERE}/guest/hotplug")):
        entries.append((name, 0o100755, content(path), (0, 0)))
    modules = [(f"modules/{os.path.basename(path)}", path) for path in _modules_in_order()]
    entries += [(name, 0o100644, content(path), (0, 0)) for name, path in modules]
    order = "".join(f"/{name}\n" for name, _ in modules).encode()
    entries.append(("modules/order", 0o100644, order, (0, 0)))
    target = f"{CACHE}/initramfs"
    with open(f"{target}.new", "wb") as file:
        file.write(_cpio(entries))
    os.replace(f"{target}.new", target)
    return target


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --------------------------------------------------------------------------------------------- machine

class Machine:
    """One phone. `tcp` and `udp` are the guest's ports that the host can reach; see `host_port`."""

    def __init__(self, tcp=(), udp=(), memory_mib=256):
        self.dir = f"{CACHE}/run"
        self.share = f"{self.dir}/share"                    # /host in the guest
        os.makedirs(self.share, exist_ok=True)
        self.host_port = {**{("tcp", port): free_port(socket.SOCK_STREAM) for port in tcp},
                          **{("udp", port): free_port(socket.SOCK_DGRAM) for port in udp}}
        self.memory_mib = memory_mib
        self.process = None
        self.plugged = 0                                    # number of sticks plugged so far
        self.log = []                                       # (time, line) of the guest's log port

    # -- life

    def boot(self):
        """Power on. Returns the seconds until the guest answers."""
        initramfs = build_initramfs()
        started = time.monotonic()
        ours, theirs = zip(*(socket.socketpair() for _ in range(3)))
        monitor, commands, log = (end.fileno() for end in theirs)
        forwards = "".join(f",hostfwd={kind}:127.0.0.1:{host}-:{guest}"
                           for (kind, guest), host in self.host_port.items())
        # highmem=off: this kernel has no LPAE and would find no PCI bus, hence no USB.
        # No restrict=on: it drops the guest's answers on forwarded UDP ports, too.
        self.process = subprocess.Popen(
            f"""qemu-system-arm -M virt,highmem=off -cpu cortex-a15 -m {self.memory_mib}
            -nodefaults -no-user-config -display none -no-reboot
            -kernel {glob.glob(f"{GUEST}/boot/vmlinuz-*")[0]} -initrd {initramfs}
            -serial file:{self.dir}/console
            -chardev socket,id=monitor,fd={monitor} -mon chardev=monitor,mode=control
            -device virtio-serial-device
            -chardev socket,id=commands,fd={commands} -device virtserialport,chardev=commands,name=commands
            -chardev socket,id=log,fd={log} -device virtserialport,chardev=log,name=log
            -fsdev local,id=share,path={self.share},security_model=none
            -device virtio-9p-device,fsdev=share,mount_tag=host
            -netdev user,id=net,ipv6=off{forwards} -device virtio-net-device,netdev=net
            -device qemu-xhci,id=usb""".split() + ["-append", "console=ttyAMA0 quiet panic=-1"],
            pass_fds=(monitor, commands, log), stdin=subprocess.DEVNULL)
        atexit.register(self.process.kill)
        for end in theirs:
            end.close()
        self._monitor = ours[0].makefile("rw")
        self._command_socket = ours[1]
        self._commands = ours[1].makefile("rwb")
        self.log = []
        threading.Thread(target=self._collect, args=(ours[2].makefile("r", errors="replace"), self.log),
                         daemon=True).start()
        ours[0].settimeout(BOOT_LIMIT_S)
        ours[1].settimeout(BOOT_LIMIT_S)
        self._monitor.readline()
        self.qmp("qmp_capabilities")
        assert self._commands.readline().startswith(b"up "), "the guest did not come up"
        # The phone's clock is set by NTP.
        self.run(f"date -s @{int(time.time())}")
        return time.monotonic() - started

    @staticmethod
    def _collect(lines, log):
        for line in lines:
            log.append((time.monotonic(), line.rstrip("\n")))

    def power_cut(self):
        """Power off without a word, in the midst of whatever is going on."""
        self.process.kill()
        self.process.wait()
        atexit.unregister(self.process.kill)

    # -- the guest's shell

    def run(self, line, check=True, limit_s=60):
        """Runs one shell line and returns what it printed. After a time-out the machine is of no more use."""
        self._command_socket.settimeout(limit_s)
        self._commands.write(line.encode() + b"\n")
        self._commands.flush()
        status, length = map(int, self._commands.readline().split())
        output = self._commands.read(length).decode(errors="replace")
        if check and status:
            raise RuntimeError(f"in the guest: {line}: exit status {status}: {output}")
        return output

    def wait_until(self, line, limit_s=20):
        """Runs a shell line until it succeeds; returns the seconds that took."""
        started = time.monotonic()
        while time.monotonic() - started < limit_s:
            if self.run(f"{line} >/dev/null 2>&1 && echo yes || echo no").strip() == "yes":
                return time.monotonic() - started
            time.sleep(0.05)
        raise TimeoutError(f"in the guest, not within {limit_s} s: {line}")

    # -- QEMU's monitor

    def qmp(self, command, **arguments):
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._monitor.flush()
        while True:
            reply = json.loads(self._monitor.readline())
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    # -- the stick

    def plug(self, image, wait=True):
        """Puts the stick `image` in; with `wait`, returns the seconds until it is mounted.

        The stick has no write cache of its own: what it has acknowledged survives."""
        self.plugged += 1
        self.image = image
        node, bot, disk = (f"{name}{self.plugged}" for name in ("stick", "bot", "disk"))
        cache = {"direct": True, "no-flush": False}
        self.qmp("blockdev-add", **{"node-name": node, "driver": "raw", "cache": cache, "file": {
            "driver": "file", "filename": image, "cache": cache}})
        # Not usb-storage, which always claims a write cache.
        self.qmp("device_add", driver="usb-bot", id=bot, bus="usb.0")
        self.qmp("device_add", driver="scsi-hd", id=disk, bus=f"{bot}.0", drive=node, removable=True,
                 **{"write-cache": "off"})
        self.qmp("qom-set", path=f"/machine/peripheral/{bot}", property="attached", value=True)
        if wait:
            return self.wait_until("grep -q ' /media/stick ' /proc/mounts", MOUNT_LIMIT_S)

    def pull(self):
        """Pulls the stick. Returns when that was; the image is free after `release`."""
        when = time.monotonic()
        self.qmp("device_del", id=f"bot{self.plugged}")
        return when

    def release(self, limit_s=20):
        """Waits until QEMU has let go of the pulled stick's image."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                return self.qmp("blockdev-del", **{"node-name": f"stick{self.plugged}"})
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def throttle(self, octets_per_s):
        """Limits writing to the stick: 1 is as good as none, 0 is no limit.

        Not for over 25 s: at 30 s the guest's SCSI layer resets the stick, and QEMU stops answering."""
        self.qmp("block_set_io_throttle", id=f"disk{self.plugged}", bps=0, bps_rd=0, bps_wr=octets_per_s,
                 iops=0, iops_rd=0, iops_wr=0)

    def freeze(self):
        """Stops the guest's time; QEMU finishes what the stick was asked to write."""
        self.qmp("stop")

    def thaw(self):
        self.qmp("cont")

    def snapshot(self, path):
        """What a power cut at this moment would leave on the stick. Only when frozen."""
        stick.copy_sparse(self.image, path)
