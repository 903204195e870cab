# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the engine's own Python environment and reports progress. Free of bpy.

The pip that lies inside every Python's ``ensurepip`` fetches uv into a folder of ours; uv finds or brings a Python
3.12, makes the environment and installs exactly what the extension's locks name, wheels only. Nothing is put into
Blender's Python and nothing is compiled. What exists already is kept: on the same packages, a new engine costs its own
wheel alone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import engine_home as home
from .engine_home import InstallError, Locks, Package, python_of
from .graphics import Card, backend_for, find_card, outcome
from .running import Command, find_python, python_that_has_pip

LINES = 200
SPARE = 500 * 2**20  # bytes that stay free
CUDA_BYTES = 6 * 10**9  # what PyTorch with CUDA takes, as measured on Linux
PAIR = ("torch", "torchvision")  # what PyTorch's own index is asked for; what they need of CUDA comes with them
FIRST_START = "The engine starts for the first time and prepares its own parts for this processor: a minute or two."
PIP = """
import glob, os, runpy, sys
if not os.environ.get("INSTRUCT_NERF_OWN_PIP"):
    import ensurepip
    places = [os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"), "/usr/share/python-wheels"]
    wheels = [wheel for place in places for wheel in glob.glob(os.path.join(place, "pip-*.whl"))]
    sys.path.insert(0, wheels[0])
import pip
newer = tuple(map(int, pip.__version__.split(".")[:2])) >= (24, 2)
if not newer and not os.environ.get("REQUESTS_CA_BUNDLE") and not os.environ.get("CURL_CA_BUNDLE"):
    # Such a pip trusts its own list of certificates alone; companies add theirs to the system's.
    import atexit, ssl, tempfile
    from pip._vendor import certifi
    trusted = [certifi.contents()]
    try:
        trusted += map(ssl.DER_cert_to_PEM_cert, ssl.create_default_context().get_ca_certs(True))
    except ssl.SSLError:
        pass  # one in the system's store cannot be read
    usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
    for path in [os.environ.get("SSL_CERT_FILE", ""), *usual]:
        if os.path.isfile(path):
            trusted.append(open(path, encoding="utf-8", errors="replace").read())
    handle, bundle = tempfile.mkstemp(suffix=".pem")
    atexit.register(os.remove, bundle)
    with open(handle, "w", encoding="utf-8") as stream:
        stream.write(chr(10).join(trusted))
    os.environ["REQUESTS_CA_BUNDLE"] = bundle
sys.argv = ["pip", *sys.argv[1:]]
runpy.run_module("pip", run_name="__main__")
"""
ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
mps = getattr(torch.backends, "mps", None)
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda,
                  "cards": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
                  "mps": bool(mps and mps.is_available())}))
"""


@dataclass(frozen=True)
class Order:
    """What is to be installed, where, and from where.

    ``root`` holds everything; ``wheel`` is the engine's, ``locks`` the folder of the locks; ``user`` is the add-on that
    will use it. The rest is the artist's choice, empty for none: a Python to make the environment with, a package index
    in place of PyPI, a folder of wheels in place of any network. ``own`` is the Python that this runs in.
    """

    root: Path
    wheel: Path
    locks: Path
    user: str
    python: str = ""
    index: str = ""
    wheels: str = ""
    platform: str = ""
    own: str = sys.executable


class Installer:
    """Installs on a thread of its own; ``start``, look at the fields as often as you like, ``cancel``.

    ``label`` says what is being done and ``progress`` how far it is; ``lines`` holds the output's end. ``finished``
    turns true at the end: ``error`` then says what went wrong ("" where nothing did), ``outcome`` what will compute.
    With ``repair`` every file is compared with what was installed, and packages that differ are fetched again.
    """

    def __init__(self, order: Order, repair: bool = False):
        self.lines: deque[str] = deque(maxlen=LINES)
        self.label = "Looking at this machine"
        self.finished = False
        self.error = ""
        self.outcome = ""
        self._order, self._repair = order, repair
        self._card: Card | None = None
        self._wanted = self._built = ""  # PyTorch's build for this machine, and the one that was to be had
        self._command = Command(self._say)
        self._downloads = Downloads(order.root)
        self._thread = threading.Thread(target=self._run, daemon=True, name="engine installer")

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop within two seconds; what is half-made is removed, what was downloaded is kept for the next time."""
        self._command.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._command.cancelled

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes that are there, and that will be, of the packages to download; (0, 0) where that is not known."""
        return self._downloads.progress()

    def join(self, timeout: float) -> bool:
        """Wait for the end, at most ``timeout`` seconds; whether it ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._install()
            self.label = "Installed"
        except (InstallError, OSError) as error:
            self.error = "The installation was cancelled." if self.cancelled else str(error)
        except Exception as error:  # whatever it is, the artist is told, and the panel does not wait for ever
            self.error = f"The installer itself failed: {error!r}"
        finally:
            self.finished = True

    def _install(self) -> None:
        order = self._order
        locks = home.read_locks(order.locks, order.platform)
        environment = order.root / "e" / locks.name
        marker = home.read_marker(environment) or {}
        known = {path for path in marker.get("users", ()) if Path(path).exists()}
        self._card = find_card()
        self._wanted = backend_for(locks.platform, self._card, locks.version("nvidia-cuda-runtime"))
        if self._repair and self._card and marker.get("build") != self._build(self._wanted):
            self._say("PyTorch's build is not the one for this card and driver: the environment is made anew.")
            marker = {}
        order.root.mkdir(parents=True, exist_ok=True)
        home.remove_leftovers(order.root)
        if self._repair and marker:
            self.label = "Comparing the files"
            broken = damaged(environment, self._command)
            self._say(f"Packages to install again: {', '.join(broken) or 'none'}")
        else:
            broken = []
        if not marker:
            needed = sum(p.installed for p in (*locks.packages, *locks.torch)) + SPARE
            if self._wanted == "auto" and not locks.version("nvidia-cuda-runtime"):
                needed += CUDA_BYTES  # Windows' locked PyTorch knows no card, and this one does
            check_space(order.root, needed)
            home.throw_away(environment, order.root)
        uv = self._tool(locks)
        try:
            if not marker:
                self._packages(uv, locks, environment, [])
            elif broken:
                self._packages(uv, locks, environment, broken)
            else:
                self._built = str((marker.get("build") or [""])[-1])
            self._engine(uv, environment)
            found = self._check(locks, environment)
        except BaseException:
            if not marker:
                home.throw_away(environment, order.root)
            raise
        self.outcome = found["outcome"]
        users = known | {order.user}
        versions = {p.name: p.version for p in (*locks.packages, *locks.torch)}
        new = {"wheel": home.digest(order.wheel), "users": sorted(users), "packages": versions, **found}
        new["build"] = self._build(self._built)
        home.write_marker(environment, new)
        self._tidy(uv, versions, environment.name)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _tool(self, locks: Locks) -> list[str]:
        """uv, as words: what lies in its folder, or what pip fetches there."""
        order, version = self._order, locks.version("uv")
        folder = order.root / "uv" / version
        found = _uv_in(folder)
        if found is None:
            self.label = "Downloading the installer's tool"
            python, own_pip = python_that_has_pip(order.own)
            command = [python, "-I", "-c", PIP, "install", "--disable-pip-version-check", "--no-input", "--no-deps",
                       "--progress-bar", "off", "--only-binary", ":all:", "--no-compile", "--target", str(folder),
                       "--upgrade"]  # fmt: skip
            if order.wheels:
                command += ["--no-index", "--find-links", order.wheels]
            elif order.index:
                command += ["--index-url", order.index]
            shutil.rmtree(folder, ignore_errors=True)
            extra = {"INSTRUCT_NERF_OWN_PIP": "1"} if own_pip else {}
            self._call([*command, "--requirement", str(locks.file("-uv"))], extra)
            found = _uv_in(folder)
            if found is None:
                raise InstallError(f"The installer's tool is not in {folder}, where pip should have put it.")
            for old in folder.parent.glob("*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
        return [str(found)]

    def _packages(self, uv: list[str], locks: Locks, environment: Path, again: Sequence[str]) -> None:
        """Make the environment with all that the locks name, or install the packages ``again`` in the one there is."""
        order = self._order
        python = str(python_of(environment))
        install = [*uv, "pip", "install", "--python", python, "--only-binary", ":all:", *self._source()]
        if again:
            self._call([*uv, "cache", "clean", *again])
        else:
            self.label = f"Looking for Python {home.PYTHON}"
            chosen = find_python(order.python, order.own)
            self._say(f"Using {chosen}")
            self._call([*uv, "venv", "--no-project", "--python", chosen, str(environment)])
        words = [word for name in again for word in ("--reinstall-package", name)]
        wanted = [p for p in (*locks.packages, *locks.torch) if not again or p.name in again]
        self.label = "Downloading and installing"
        self._downloads.expect(wanted)
        self._call([*install, *words, "--no-deps", "--requirement", str(locks.file(""))])
        if locks.torch:
            self._torch(install, words, locks)
        self._downloads.done()

    def _torch(self, install: list[str], words: list[str], locks: Locks) -> None:
        """PyTorch's build for the card that is there: the locked one where it fits, else one of PyTorch's own index."""
        backend, self._built = self._wanted, ""
        locked = [*install, *words, "--no-deps", "--requirement", str(locks.file("-torch"))]
        if not backend or self._order.wheels:
            self._call(locked)
            return
        named = [f"{name}=={locks.version(name)}" for name in PAIR]
        bounds = ["--constraint", str(locks.file(""))]
        for choice in dict.fromkeys([backend, "cpu"]):
            try:
                self._call([*install, *words, *named, *bounds, "--torch-backend", choice])
                self._built = choice
                return
            except InstallError as error:
                if self.cancelled:
                    raise
                self._say(f"PyTorch's own index gives nothing for {choice}: {error}")
        self._call(locked)

    def _engine(self, uv: list[str], environment: Path) -> None:
        self.label = "Installing the engine"
        wheel = str(self._order.wheel)
        python = str(python_of(environment))
        # The old one counts no longer once the new one is being put in its place.
        if (environment / home.MARKER).exists():
            kept = home.read_marker(environment) or {}
            home.write_marker(environment, kept | {"wheel": ""})
        self._call([*uv, "pip", "install", "--python", python, "--no-deps", "--no-index", "--reinstall", wheel])

    def _check(self, locks: Locks, environment: Path) -> dict[str, Any]:
        """Start the engine once, and ask PyTorch what it can compute on."""
        self.label = "Checking the engine"
        self._say(FIRST_START)  # or what uv said last would stand there meanwhile
        python = str(python_of(environment))
        # What libraries warn of when they are compiled is nothing that an artist should see as the last word.
        self._call([python, "-I", "-W", "ignore", "-m", "engine", "check", "--quick"])
        if not locks.torch:
            return {"outcome": ""}
        said = self._call([python, "-I", "-c", ASK_TORCH])
        try:
            found = json.loads(said)
        except ValueError:
            raise InstallError(f"PyTorch does not say what it can compute on: {said}") from None
        return {"torch": found, "outcome": outcome(locks.platform, self._card, found)}

    def _tidy(self, uv: list[str], versions: dict[str, str], name: str) -> None:
        """Remove environments that nobody uses any more, and of the downloads what only they used."""
        self.label = "Removing what is no longer used"
        stale: set[str] = set()
        for old in home.unused_environments(self._order.root, name, self._order.user):
            packages = (home.read_marker(old) or {}).get("packages", {})
            stale |= {key for key, version in packages.items() if versions.get(key) != version}
            self._say(f"Removing {old}")
            home.throw_away(old, self._order.root)
        if stale:
            self._call([*uv, "cache", "clean", *sorted(stale)])

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _build(self, built: str) -> list[str]:
        """What decides about PyTorch's build, as the marker keeps it: wanted, for which driver, and what came."""
        return [self._wanted, self._card.driver if self._card else "", built]

    def _source(self) -> list[str]:
        """Where packages come from, as uv's options."""
        order = self._order
        if order.wheels:
            return ["--offline", "--no-index", "--find-links", order.wheels]
        return ["--default-index", order.index] if order.index else []

    def _call(self, command: Sequence[str], extra: dict[str, str] | None = None) -> str:
        """Run one command; its last line."""
        root = self._order.root
        places = {
            "UV_CACHE_DIR": str(root / "cache"),
            "UV_PYTHON_INSTALL_DIR": str(root / "python"),
            "UV_LINK_MODE": "hardlink",
        }
        return self._command.run(self.label, command, places | (extra or {}))

    def _say(self, line: str) -> None:
        self.lines.append(line[:500])
        self._downloads.hear(line)


class Downloads:
    """How many bytes have come, from what uv says (it names a package when it begins and ends to fetch it) and, in
    between, from how the disk fills."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._sizes: dict[str, Package] = {}
        self._waiting: set[str] = set()
        self._running: set[str] = set()
        self._used = 0
        self._most = 0

    def expect(self, packages: Sequence[Package]) -> None:
        """These will be fetched, or are in the cache."""
        self._sizes = {p.name: p for p in packages}
        self._waiting, self._running, self._most = set(self._sizes), set(), 0
        self._used = self._disk()

    def hear(self, line: str) -> None:
        """Take note of one line of uv's."""
        words = line.split()
        if len(words) >= 2 and words[0] in {"Downloading", "Downloaded", "+"}:
            name = words[1].partition("==")[0].lower()
            if name in self._sizes:
                self._waiting.discard(name)
                (self._running.add if words[0] == "Downloading" else self._running.discard)(name)
                if words[0] != "Downloading":
                    self._used = self._disk()

    def done(self) -> None:
        """Everything is there."""
        self._sizes = {}

    def progress(self) -> tuple[int, int]:
        """Bytes come and bytes in all; (0, 0) where nothing is expected."""
        sizes, running = self._sizes, set(self._running)
        if not sizes:
            return 0, 0
        total = sum(p.download for p in sizes.values())
        open_ = sum(sizes[name].download for name in self._waiting | running if name in sizes)
        begun = [sizes[name] for name in running if name in sizes]
        coming = sum(p.download for p in begun)
        if coming:  # packages are unpacked as they come
            share = (self._disk() - self._used) / max(1, sum(p.installed or 3 * p.download for p in begun))
            open_ -= int(coming * min(max(share, 0.0), 0.98))
        self._most = max(self._most, total - open_)
        return self._most, total

    def _disk(self) -> int:
        try:
            return shutil.disk_usage(self._folder).used
        except OSError:
            return self._used


def check_space(folder: Path, needed: int) -> None:
    """Raise :class:`InstallError` where fewer than ``needed`` bytes are free at ``folder``."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InstallError(
            f"The engine needs {needed / 1e9:.1f} GB at {folder}, and {free / 1e9:.1f} GB are free: make room first."
        )


def damaged(environment: Path, command: Command) -> list[str]:
    """Names of the packages of which a file is missing or differs from what was installed. Takes some ten seconds."""
    answer = command.run("Comparing the files", [str(python_of(environment)), "-I", "-c", COMPARE], {})
    names = json.loads(answer)
    return [str(name) for name in names]


# RECORD is read here, for importlib.metadata's own list leaves missing files out from Python 3.12 on.
COMPARE = """
import base64, csv, hashlib, json, re
from importlib.metadata import distributions
bad = set()
for each in distributions():
    for name, expected, *_ in csv.reader((each.read_text("RECORD") or "").splitlines()):
        if not expected or name.endswith(".pyc"):
            continue
        kind, _, value = expected.partition("=")
        try:
            with open(each.locate_file(name), "rb") as stream:
                found = hashlib.file_digest(stream, kind).digest()
        except OSError:
            found = b""
        if base64.urlsafe_b64encode(found).decode().rstrip("=") != value:
            bad.add(re.sub("[-_.]+", "-", each.metadata["Name"]).lower())
            break
print(json.dumps(sorted(bad)))
"""


def _uv_in(folder: Path) -> Path | None:
    name = "uv.exe" if os.name == "nt" else "uv"
    return next((p for p in (folder / "bin" / name, folder / "Scripts" / name) if p.is_file()), None)
