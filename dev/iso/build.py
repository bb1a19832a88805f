# SPDX-License-Identifier: Apache-2.0
"""The install CD from a checkout: packages, the root, its image, the installer, the boot loader, one file.

Two of one commit and of the same packages are the same, octet by octet. The root is kept for next time, while what
it was made from is the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from dev.iso import recipe, sbom
from dev.iso.boot import Medium
from dev.iso.medium import answers
from dev.iso.root import Root
from dev.package import lock
from dev.package.build import build as build_packages
from dev.vm.build_dir import Runner, check_tools, remove, workshop
from xdpdirector.errors import NotFoundError
from xdpdirector.lab.errors import LabError

Say = Callable[[str], None]
HERE = Path(__file__).parent
FILES = HERE / "files"
PLACE = Path("usr/lib/xdpdirector-cd")
_PARTS = ("dev/__init__.py", "dev/iso/__init__.py")
_LIVE = {  # where the files of files/live belong
    "xdpdirector-install.target": "usr/lib/systemd/system",
    "xdpdirector-install.service": "usr/lib/systemd/system",
    "xdpdirector-rescue.target": "usr/lib/systemd/system",
    "xdpdirector-rescue@.service": "usr/lib/systemd/system",
    "xdpdirector-install": "usr/sbin",
    "xdpdirector-rescue": "usr/sbin",
    "profile.sh": "etc/profile.d",
    "live.network": "etc/systemd/network",
}
_INSTALLED = {
    "xdpdirector-host-keys.service": "usr/lib/systemd/system",
    "xdpdirector-first-login.service": "usr/lib/systemd/system",
    "xdpdirector-first-login": "usr/sbin",
}
_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "xorriso": "xorriso",
    "grub-mkimage": "grub-common",
    "mformat": "mtools",
    "git": "git",
}
_LEVEL = "9"


def build(checkout: Path, output: Path, site: Path | None, say: Say) -> Path:
    """The image, `output`, with SHA256SUMS and an SBOM beside it. LabError with the builder's last words;
    ConfigurationError for an answer file that is wrong."""
    check_tools(_TOOLS)
    for needed in ("i386-pc/boot_hybrid.img", "x86_64-efi/kernel.img"):
        if not (Path("/usr/lib/grub") / needed).exists():
            raise LabError("GRUB's parts are missing: apt-get install grub-pc-bin grub-efi-amd64-bin")
    text = _answers(site)
    epoch = commit_time(checkout)
    built = build_packages(checkout, say)
    packages = [path for name in recipe.OURS for path in built if path.name.startswith(f"{name}_")]
    packages = [path for path in packages if path.suffix == ".deb"]
    home = checkout / ".lab" / "iso"
    home.mkdir(parents=True, exist_ok=True)
    kept = _root(home, packages, epoch, say)
    log = home / "image.log"
    with workshop(home) as work, log.open("w") as opened:
        say("writing the image")
        medium = Medium(work / "tree", work, epoch, Runner(opened.fileno(), log))
        shutil.copytree(kept / "live", medium.tree / "live")
        _live_layer(checkout, medium)
        if text is not None:
            (medium.tree / "site.yaml").write_text(text)
        version = packages[0].name.split("_")[1]
        medium.make_bootable((FILES / "grub.cfg").read_text().replace("@VERSION@", version))
        image = work / "image.iso"
        medium.write(image)
        if image.stat().st_size > recipe.LARGEST:
            raise LabError(f"the image has {image.stat().st_size >> 20} MiB: a CD has {recipe.LARGEST >> 20}")
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(image, output)
    bill = output.with_suffix(".spdx.json")
    pins = lock.pins((checkout / lock.LOCK).read_text())
    parts = [*sbom.debian((kept / "packages").read_text()), *sbom.python(pins)]
    bill.write_text(sbom.document(output.stem, epoch, parts))
    _sums(output.parent / "SHA256SUMS", (output, bill))
    return output


def commit_time(checkout: Path) -> int:
    """Of the checkout's last commit, in seconds since 1970."""
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%ct"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{checkout} is no checkout, so the image has no time: {done.stderr.strip()}")
    return int(done.stdout)


def _answers(site: Path | None) -> str | None:
    """Its text, if it is one that the installer will take."""
    if site is None:
        return None
    try:
        text = site.read_text()
    except OSError as error:
        raise NotFoundError(f"{site} cannot be read: {error.strerror}") from error
    answers.read(text, str(site))
    return text


def _root(home: Path, packages: Sequence[Path], epoch: int, say: Say) -> Path:
    """live/ of the medium, and the list of packages, from a root that is not kept."""
    kept, stamp = home / "root", home / "root.stamp"
    digest = _digest(packages, epoch)
    if kept.is_dir() and stamp.is_file() and stamp.read_text() == digest:
        return kept
    log = home / "root.log"
    with workshop(home) as work, log.open("w") as opened:
        say(f"installing {len(recipe.PACKAGES)} Debian packages and what they need")
        run = Runner(opened.fileno(), log)
        root = Root(work / "root", epoch, run)
        root.make(packages)
        _place(root.path, FILES / "installed", _INSTALLED, epoch)
        root.inside("systemctl", "--quiet", "enable", "xdpdirector-host-keys")
        root.finish()
        new = work / "kept"
        (new / "live").mkdir(parents=True)
        for kind in ("vmlinuz", "initrd.img"):
            shutil.copy(root.path / "boot" / f"{kind}-{root.version}", new / "live" / kind)
        listing = root.asked("dpkg-query", "--show", f"--showformat={sbom.FORMAT}")
        (new / "packages").write_text(listing)
        say("compressing it")
        squash(root.path, new / "live" / "root.squashfs", epoch, run)
        stamp.unlink(missing_ok=True)
        remove(kept)
        new.rename(kept)
        stamp.write_text(digest)
    return kept


def _digest(packages: Sequence[Path], epoch: int) -> str:
    """Of what makes the root: other values, another root."""
    own = [HERE / "recipe.py", HERE / "root.py", HERE / "build.py", *sorted((FILES / "installed").iterdir())]
    content = [sha256(path.read_bytes()).hexdigest() for path in (*packages, *own)]
    return sha256(json.dumps([epoch, content]).encode()).hexdigest()


def _live_layer(checkout: Path, medium: Medium) -> None:
    """What the started system has and the installed has not: the installer."""
    layer = medium.work / "layer"
    _place(layer, FILES / "live", _LIVE, medium.epoch)
    for part in (
        *_PARTS,
        *(str(path.relative_to(checkout)) for path in sorted((HERE / "medium").glob("*.py"))),
    ):
        target = layer / PLACE / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkout / part, target)
        target.chmod(0o644)
    squash(layer, medium.tree / "live" / "live.squashfs", medium.epoch, medium.runner)


def _place(root: Path, source: Path, places: dict[str, str], epoch: int) -> None:
    for name, place in places.items():
        target = root / place / (f"xdpdirector-{name}" if name == "profile.sh" else name)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
        target.chmod(0o755 if place == "usr/sbin" else 0o644)
        os.utime(target, (epoch, epoch))


def squash(tree: Path, image: Path, epoch: int, run: Runner) -> None:
    """Sorted, and nothing younger than `epoch`."""
    options = ("-comp", "zstd", "-Xcompression-level", _LEVEL, "-noappend", "-quiet", "-no-progress")
    command = ("mksquashfs", str(tree), str(image), *options, "-no-exports", "-no-xattrs")
    run(*command, environment={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)})


def _sums(file: Path, of: Sequence[Path]) -> None:
    file.write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in of))


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
