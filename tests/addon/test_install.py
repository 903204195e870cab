# SPDX-License-Identifier: GPL-3.0-or-later
"""The installer, for real, with tiny wheels from a folder in place of the network."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_wheels import script, tiny_engine, tiny_locks, tiny_wheel

from blender_addon import engine_home, install, running
from blender_addon.engine_home import InstallError

posix = pytest.mark.skipif(sys.platform == "win32", reason="uses shell scripts as stand-ins")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here may reach a network or a Python that the machine happens to have."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> install.Order:
    """An order of two tiny packages and a tiny engine, from a folder of wheels, made with this very Python."""
    monkeypatch.setattr(running, "PYTHON", f"{sys.version_info[0]}.{sys.version_info[1]}")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    locks = tiny_locks(tmp_path / "locks", wheels, {"leaf": "1.0", "twig": "2.0"})
    user = tmp_path / "addon"
    user.mkdir()
    # uv is there already, but where a test takes it away.
    real = Path(sys.executable).with_name("uv.exe" if sys.platform == "win32" else "uv")
    folder = tmp_path / "root" / "uv" / engine_home.read_locks(locks, "linux-x86_64").version("uv") / "bin"
    folder.mkdir(parents=True)
    (folder / real.name).symlink_to(real)
    return install.Order(
        tmp_path / "root", tiny_engine(tmp_path), locks, str(user), python=sys.executable, wheels=str(wheels),
        platform="linux-x86_64",
    )  # fmt: skip


def run(order: install.Order, repair: bool = False) -> install.Installer:
    installer = install.Installer(order, repair)
    installer.start()
    assert installer.join(120)
    return installer


def environment_of(order: install.Order) -> Path:
    return order.root / "e" / engine_home.read_locks(order.locks, "linux-x86_64").name


def python_of(order: install.Order) -> Path | None:
    locks = engine_home.read_locks(order.locks, "linux-x86_64")
    return engine_home.installed_python(order.root, locks, order.wheel)


def says(python: Path, code: str) -> str:
    return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_is_made_used_kept_and_given_up(order: install.Order, tmp_path: Path) -> None:
    assert python_of(order) is None
    shutil.rmtree(order.root)  # with the tool: pip fetches it
    installer = run(order)
    assert installer.error == "", list(installer.lines)
    lines = list(installer.lines)  # the wait at the end is told, after uv's last word
    assert lines.index(install.FIRST_START) > max(i for i, line in enumerate(lines) if "instruct-nerf-engine" in line)
    python = python_of(order)
    assert python is not None
    assert says(python, "import engine.__main__, leaf, twig; print(leaf.VERSION, twig.VERSION)").split() == [
        "usage:", "engine", "1.0", "2.0"
    ]  # fmt: skip
    # Another engine on the same packages goes into the same environment; the older one counts no longer.
    before = (environment_of(order) / "pyvenv.cfg").stat().st_ino
    (tmp_path / "new").mkdir()
    newer = install.Order(**{**vars(order), "wheel": tiny_engine(tmp_path / "new", "print('newer')")})
    assert python_of(newer) is None
    again = run(newer)
    assert again.error == "" and says(python_of(newer), "import engine.__main__") == "newer"
    assert python_of(order) is None and (environment_of(newer) / "pyvenv.cfg").stat().st_ino == before
    assert not any("Prepared" in line and "leaf" in line for line in again.lines)
    # Other packages are another environment, and the old one, which this add-on alone used, is removed.
    wheels = tmp_path / "wheels"
    locks = tiny_locks(tmp_path / "l2", wheels, {"leaf": "1.1", "twig": "2.0"})
    changed = install.Order(**{**vars(newer), "locks": locks})
    assert run(changed).error == ""
    assert says(python_of(changed), "import leaf; print(leaf.VERSION)") == "1.1"
    assert not environment_of(order).exists() and environment_of(changed).exists()


def test_an_environment_that_another_blender_uses_stays(order: install.Order, tmp_path: Path) -> None:
    other = tmp_path / "other addon"
    other.mkdir()
    assert run(install.Order(**{**vars(order), "user": str(other)})).error == ""
    locks = tiny_locks(tmp_path / "l2", tmp_path / "wheels", {"leaf": "1.1"})
    changed = install.Order(**{**vars(order), "locks": locks})
    assert run(changed).error == "" and environment_of(order).exists() and environment_of(changed).exists()
    other.rmdir()  # its add-on was uninstalled
    assert run(changed).error == "" and not environment_of(order).exists()


def test_a_broken_file_is_found_and_mended(order: install.Order) -> None:
    assert run(order).error == ""
    packages = next(environment_of(order).rglob("site-packages"))
    leaf, twig = packages / "leaf" / "__init__.py", packages / "twig" / "__init__.py"
    stamp = twig.stat().st_mtime_ns
    leaf.write_text("VERSION = 'broken'")  # in the cache too: it is the same file
    installer = run(order, repair=True)
    assert installer.error == "", list(installer.lines)
    assert "Packages to install again: leaf" in installer.lines
    assert says(python_of(order), "import leaf; print(leaf.VERSION)") == "1.0"
    assert twig.stat().st_mtime_ns == stamp
    leaf.unlink()
    assert run(order, repair=True).error == "" and leaf.is_file()


def test_repairing_what_is_not_there_installs_it(order: install.Order) -> None:
    assert run(order, repair=True).error == "" and python_of(order) is not None


def test_an_engine_that_does_not_start_leaves_no_environment(order: install.Order, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    bad = tiny_engine(tmp_path / "bad", "raise SystemExit('no torch')")
    installer = run(install.Order(**{**vars(order), "wheel": bad}))
    assert "Checking the engine failed: no torch" in installer.error
    assert not environment_of(order).exists() and python_of(order) is None


@posix
def test_cancelled_in_the_middle_it_leaves_nothing_half_made(order: install.Order, tmp_path: Path) -> None:
    uv = engine_home.read_locks(order.locks, "linux-x86_64").version("uv")
    folder = order.root / "uv" / uv / "bin"
    (folder / "uv").unlink()
    script(folder / "uv", f'if [ "$1" = venv ]; then mkdir -p "{environment_of(order)}"; fi\nsleep 60 & wait\n')
    installer = install.Installer(order)
    installer.start()
    deadline = time.monotonic() + 20
    while not environment_of(order).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert environment_of(order).exists()
    began = time.monotonic()
    installer.cancel()
    assert installer.join(5) and time.monotonic() - began < 2
    assert installer.error == "The installation was cancelled." and not environment_of(order).exists()


def test_a_half_made_environment_is_not_used_and_is_made_anew(order: install.Order) -> None:
    python = engine_home.python_of(environment_of(order))
    python.parent.mkdir(parents=True)
    python.touch()
    assert python_of(order) is None
    assert run(order).error == "" and python_of(order) is not None


def test_an_altered_wheel_is_refused(order: install.Order) -> None:
    wheel = next(Path(order.wheels).glob("leaf-1.0*"))
    wheel.unlink()
    tiny_wheel(wheel.parent, "leaf", "1.0", {"leaf/__init__.py": "VERSION = 'evil'"})
    installer = run(order)
    assert "its hash differs" in installer.error, installer.error
    assert not environment_of(order).exists()


def test_a_missing_wheel_is_named(order: install.Order) -> None:
    next(Path(order.wheels).glob("twig*")).unlink()
    assert "twig" in run(order).error


def test_too_little_space_is_said_before_anything_is_done(
    order: install.Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = order.locks / "linux-x86_64.txt"
    lock.write_text(lock.read_text().replace("installed: ", "installed: 9999999"))
    engine_home.read_locks.cache_clear()
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5 * 10**9, "used": 0})())
    error = run(order).error
    assert "and 5.0 GB are free" in error and str(order.root) in error
    assert not (order.root / "e").exists()


def test_settings_that_would_lead_packages_astray_do_not_count(
    order: install.Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away"
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "UV_TARGET", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH",
                 "PYTHONUSERBASE", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"):  # fmt: skip
        monkeypatch.setenv(name, str(away))
    for name in ("PIP_USER", "UV_SYSTEM_PYTHON", "PIP_REQUIRE_VIRTUALENV", "UV_NO_INDEX", "PIP_NO_BINARY"):
        monkeypatch.setenv(name, "1")
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nuser = true\ntarget = {away}\nrequire-virtualenv = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    shutil.rmtree(order.root / "uv")
    assert run(order).error == "" and python_of(order) is not None and not away.exists()


@pytest.fixture
def company(order: install.Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """An index of packages behind the certificate of an unknown authority: its address, and the authority's file."""
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-subj", "/CN=The company", "-keyout", "authority.key", "-out", "authority.pem"]
    server = ["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "server.pem", "-CA", "authority.pem", "-CAkey",
              "authority.key", "-addext", "subjectAltName=DNS:localhost", "-addext",
              "basicConstraints=critical,CA:FALSE"]  # fmt: skip
    for words in (authority, server):
        subprocess.run([*make, *words], check=True, capture_output=True, cwd=tmp_path)
    for wheel in Path(order.wheels).glob("*.whl"):
        folder = tmp_path / "simple" / wheel.name.split("-")[0]
        folder.mkdir(parents=True)
        shutil.copy(wheel, folder)
    for name in ("PIP_CERT", "PIP_INDEX_URL", "PIP_FIND_LINKS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
                 "SSL_CERT_FILE", "SSL_CERT_DIR"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "localhost")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    index = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "key.pem")
    index.socket = context.wrap_socket(index.socket, server_side=True)
    threading.Thread(target=index.serve_forever, daemon=True).start()
    yield f"https://localhost:{index.server_port}/simple", tmp_path / "authority.pem"
    index.shutdown()
    index.server_close()


@posix
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("named", ["SSL_CERT_FILE", ""])
def test_a_companys_certificate_counts_for_pip_and_for_uv(
    named: str, order: install.Order, company: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, certificate = company
    if named:
        monkeypatch.setenv(named, str(certificate))
    shutil.rmtree(order.root / "uv")
    error = run(replace(order, wheels="", index=index)).error
    assert "set the environment variable SSL_CERT_FILE" in error if not named else not error
    assert bool(named) == (python_of(order) is not None)


def test_proxies_and_certificates_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("PIP_CERT", "/company.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mirror.example/simple")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    monkeypatch.setattr(running.urllib.request, "getproxies", lambda: {"http": "http://from-windows:1", "no": "x"})
    env = running.command_environment()
    assert env["SSL_CERT_FILE"] == env["PIP_CERT"] == "/company.pem" and env["UV_SYSTEM_CERTS"] == "1"
    assert env["HTTPS_PROXY"] == "http://proxy:3128" and env["HTTP_PROXY"] == "http://from-windows:1"
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("error: Failed to fetch: `https://x/simple/torch/`\n  cause: dns error", "package index is not reached"),
        ("NewConnectionError: Failed to establish a new connection: [Errno -2] Name or service", "is not reached"),
        ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "SSL_CERT_FILE"),
        ("Tunnel connection failed: 407 Proxy Authentication Required", "HTTPS_PROXY"),
        ("failed to write to file: No space left on device (os error 28)", "The disk is full"),
        ("× Failed to download `https://github.com/astral-sh/python-build-standalone/x`\n dns error", "python.org"),
        ("error: No interpreter found for Python 3.12 in managed installations or search path", "python.org"),
        ("OSError: [WinError 126] The specified module could not be found. Error loading c10.dll", "Redistributable"),
        ("error: failed to remove file: Access is denied. (os error 5)", "stop the engine in every Blender"),
        ("something new", ""),
    ],
)  # fmt: skip
def test_failures_are_said_so_that_one_can_do_something(said: str, sentence: str) -> None:
    assert sentence in running.meaning(said) and bool(running.meaning(said)) == bool(sentence)


@posix
def test_only_pythons_that_fit_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    old = script(tmp_path / "python3", "echo 3.14\n")
    assert running.find_python("", old) == "3.12"  # uv looks further, and brings one
    with pytest.raises(InstallError, match=r"is not a 64-bit Python 3.12"):
        running.find_python(old, sys.executable)
    fits = script(tmp_path / "python3.12", "echo 3.12\n")
    assert running.find_python("", old) == running.find_python(fits, old) == fits
    narrow = script(tmp_path / "narrow", "echo\n")  # 32 bits
    with pytest.raises(InstallError):
        running.find_python(narrow, old)
    assert running.find_python("", fits) == fits
    Path(fits).unlink()
    (tmp_path / ".pyenv/versions/3.12.9/bin").mkdir(parents=True)
    own = script(tmp_path / ".pyenv/versions/3.12.9/bin/python", "echo 3.12\n")
    assert running.find_python("", old) == own


@posix
def test_where_no_python_fits_uv_brings_its_own(
    order: install.Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv stands in for itself, and makes the environment from a Python that it "downloaded" into our root."""
    monkeypatch.setattr(install, "find_python", lambda *_: "3.12")
    real = Path(sys.executable).with_name("uv")
    version = engine_home.read_locks(order.locks, "linux-x86_64").version("uv")
    folder = order.root / "uv" / version / "bin"
    (folder / "uv").unlink()
    script(
        folder / "uv",
        f'if [ "$1" = venv ]; then echo "$UV_PYTHON_INSTALL_DIR" "$@" > "{tmp_path}/asked"\n'
        f'exec "{real}" venv --no-project --python "{sys.executable}" "$5"; fi\nexec "{real}" "$@"\n',
    )
    installer = run(order)
    assert installer.error == "", list(installer.lines)
    asked = (tmp_path / "asked").read_text().split()
    assert asked == [str(order.root / "python"), "venv", "--no-project", "--python", "3.12", str(environment_of(order))]


@posix
def test_a_blender_without_pip_asks_the_systems_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = script(tmp_path / "blenders", "exit 1\n")
    with pytest.raises(InstallError, match="lacks pip"):
        running.python_that_has_pip(bare)
    has = script(tmp_path / "python3", 'case "$3" in "import pip"*) echo 1;; *) exit 1;; esac\n')
    assert running.python_that_has_pip(bare) == (has, True)
    assert running.python_that_has_pip(sys.executable) == (sys.executable, False)


def test_bytes_are_counted_by_what_uv_says_and_what_the_disk_shows(tmp_path: Path) -> None:
    used = [0]
    downloads = install.Downloads(tmp_path)
    downloads._disk = lambda: used[0]
    assert downloads.progress() == (0, 0)
    sizes = [engine_home.Package("torch", "2", 500, 1000, 9), engine_home.Package("idna", "3", 10, 30, 9)]
    downloads.expect([*sizes, engine_home.Package("scipy", "1", 90, 200, 9)])
    assert downloads.progress() == (0, 600)
    downloads.hear("Downloading torch (500.0MiB)")
    used[0] = 500
    assert downloads.progress() == (250, 600)
    used[0] = 10**6  # another program fills the disk
    assert downloads.progress() == (490, 600)
    downloads.hear(" Downloaded torch")
    assert downloads.progress() == (500, 600)
    used[0] = 0
    assert downloads.progress() == (500, 600)  # it never runs backward
    downloads.hear(" + idna==3")
    downloads.hear(" + scipy==1")
    assert downloads.progress() == (600, 600)
    downloads.done()
    assert downloads.progress() == (0, 0)


def test_everything_is_removed_and_nothing_else(order: install.Order) -> None:
    assert run(order).error == ""
    (order.root / "projects").mkdir()
    engine_home.remove_everything(order.root)
    deadline = time.monotonic() + 20
    while any(order.root.glob("e/.gone-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert python_of(order) is None and not list((order.root / "e").iterdir())
    assert {p.name for p in order.root.iterdir()} == {"e", "projects"}
    assert Path(sys.executable).with_name("uv").exists()  # what a link leads to is not ours


def test_an_engine_elsewhere(tmp_path: Path) -> None:
    arguments = ["-m", "engine", "serve"]
    python = tmp_path / "a b" / "python"
    python.parent.mkdir()
    python.touch()
    assert engine_home.elsewhere(str(python), arguments) == [str(python), *arguments]
    assert engine_home.elsewhere("ssh box python -m engine", arguments) == [
        "ssh",
        "box",
        "python",
        "-m",
        "engine",
        "serve",
    ]
    assert engine_home.elsewhere("/nowhere/python", arguments) == ["/nowhere/python", *arguments]
    environment = tmp_path / "environment"
    environment.mkdir()
    assert engine_home.elsewhere(str(environment), arguments) == [str(engine_home.python_of(environment)), *arguments]


def test_no_lock_for_this_machine_is_said() -> None:
    assert engine_home.lock_platform("win32", "AMD64") == "windows-x86_64"
    assert engine_home.lock_platform("darwin", "arm64") == "macos-arm64"
    with pytest.raises(InstallError, match=r"not built for this machine.*x86_64.*another machine"):
        engine_home.lock_platform("darwin", "x86_64")


def test_the_committed_locks_are_read(tmp_path: Path) -> None:
    folder = Path(engine_home.__file__).parent / "locks"
    for platform in ("linux-x86_64", "windows-x86_64", "macos-arm64"):
        locks = engine_home.read_locks(folder, platform)
        assert len(locks.packages) > 60 and len(locks.tool) == 1 and locks.version("torch")
        assert all(p.download and p.installed and p.longest for p in (*locks.packages, *locks.torch, *locks.tool))
    with pytest.raises(InstallError, match=r"lacks linux-x86_64.txt; install the extension again"):
        engine_home.read_locks(tmp_path, "linux-x86_64")


def test_paths_on_windows_are_short_enough() -> None:
    """259 characters are allowed; a user's name has 20."""
    env = {"LOCALAPPDATA": "C:\\Users\\" + "a" * 20 + "\\AppData\\Local"}
    root = engine_home.root_of("win32", env, "")
    locks = engine_home.read_locks(Path(engine_home.__file__).parent / "locks", "windows-x86_64")
    packages = root / "e" / locks.name / "Lib" / "site-packages"
    cached = root / "cache" / "archive-v0" / ("x" * 21)  # uv's names have 16 characters
    linux = engine_home.read_locks(Path(engine_home.__file__).parent / "locks", "linux-x86_64")
    # PyTorch with CUDA for Windows is not in the lock; Linux' has CUDA and names as long.
    longest = max(p.longest for p in (*locks.packages, *locks.torch, *linux.torch))
    assert longest > 100 and len(str(packages)) + 1 + longest < 250 and len(str(cached)) + 1 + longest < 250


def test_roots_of_other_systems() -> None:
    assert str(engine_home.root_of("darwin", {}, "/Users/a")) == "/Users/a/Library/Application Support/InstructNeRF"
    assert str(engine_home.root_of("linux", {}, "/home/a")) == "/home/a/.local/share/instruct-nerf"
    assert str(engine_home.root_of("linux", {"XDG_DATA_HOME": "/data"}, "/home/a")) == "/data/instruct-nerf"
    assert str(engine_home.root_of("linux", {"XDG_DATA_HOME": "relative"}, "/h")) == "/h/.local/share/instruct-nerf"
    assert str(engine_home.root_of("win32", {}, "C:\\Users\\a")) == "C:\\Users\\a\\AppData\\Local\\InstructNeRF"
