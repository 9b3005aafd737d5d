"""Sets everything up on a bare machine, then starts the app or runs the tests.

    python3 run.py [flags of app.py]         start the app
    python3 run.py test [flags of pytest]    run all tests, browser tests included
    python3 run.py test --all [flags]        those against a Milvus server, too, which it brings
    python3 run.py python ...                run Python inside the environment

Needs only Python 3.10 or newer. The environment is made once, in `.venv` beside this file, and is
brought up to date when the requirements change.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
MILVUS = HERE / ".milvus"  # of its own, as the server's old libraries do not go with ours
MILVUS_SERVER = "milvus==2.3.5"
OLDEST = (3, 10)
MOST_PROCESSES = 4  # of tests at a time; each takes one to two gigabytes of memory
NEEDED_GIGABYTES = 8  # on Linux torch comes with its GPU libraries
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
)


class SetupError(Exception):
    """Something that the user must put right; the text says what."""


def environment_python(environment: Path = ENVIRONMENT) -> Path:
    """The interpreter inside an environment."""
    if os.name == "nt":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def say(text: str) -> None:
    """One line of progress."""
    print(f"vitdemo: {text}", file=sys.stderr, flush=True)


def call(command: list[str], fault: str) -> None:
    """Run a command; its failure is a `SetupError` with ``fault``."""
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"{fault} ({error})") from error


def as_root(command: list[str]) -> list[str]:
    """The command with sudo where that is needed and there."""
    if os.name != "nt" and os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise SetupError(f"please run as administrator: {' '.join(command)}")
        return ["sudo", *command]
    return command


def make_environment() -> None:
    """Make `.venv` where there is none that works."""
    if environment_python().exists():
        return
    say("making the environment .venv")
    made = subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)],
                          stdin=subprocess.DEVNULL)
    if made.returncode == 0:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    if shutil.which("apt-get") is None:
        raise SetupError("Python's venv module does not work here; install it and try again.")
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    say(f"Python's venv module is missing; installing {package}")
    call(as_root(["apt-get", "update", "-qq"]), "the package list could not be fetched")
    call(as_root(["apt-get", "install", "-y", "-qq", package]), f"{package} could not be installed")
    call([sys.executable, "-m", "venv", str(ENVIRONMENT)], "the environment could not be made")


def install(requirements: str) -> None:
    """Install a requirements file, unless just that was installed before."""
    text = b"".join((HERE / name).read_bytes() for name in
                    ("requirements.txt", "requirements-train.txt", "requirements-milvus.txt",
                     "requirements-bits.txt", "requirements-openvino.txt",
                     "requirements-video.txt", requirements))
    wanted = hashlib.sha256(text).hexdigest()
    stamp = ENVIRONMENT / f"{requirements}.stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    free = shutil.disk_usage(HERE).free / 1e9
    if free < NEEDED_GIGABYTES:
        say(f"only {free:.1f} GB of disk are free; about {NEEDED_GIGABYTES} GB may be needed")
    say(f"installing {requirements}; the first time takes some minutes and up to 6 GB")
    call([str(environment_python()), "-m", "pip", "install", "--disable-pip-version-check", "-q",
          "-r", str(HERE / requirements)],
         "the packages could not be installed; is there a network, and room on the disk?")
    stamp.write_text(wanted)


def ensure_milvus() -> None:
    """A Milvus server, which tests/milvus_server.py starts from `.milvus`."""
    python, stamp = environment_python(MILVUS), MILVUS / "server.stamp"
    if stamp.exists() and stamp.read_text() == MILVUS_SERVER:
        return
    say("installing a Milvus server into .milvus")
    shutil.rmtree(MILVUS, ignore_errors=True)
    fault = "the Milvus server cannot be installed here; leave --all away to do without its tests"
    call([sys.executable, "-m", "venv", str(MILVUS)], fault)
    call([str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q",
          MILVUS_SERVER], fault)
    stamp.write_text(MILVUS_SERVER)


def find_browser() -> str | None:
    """A Chromium or Chrome of this machine."""
    given = os.environ.get("CHROMIUM")
    if given:
        return given
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    return next((path for path in APPLICATIONS if Path(path).exists()), None)


def ensure_browser() -> str:
    """A Chromium, installed from the system's packages where none is there."""
    found = find_browser()
    if found:
        return found
    say("no Chromium is here; installing it from the system's packages")
    if shutil.which("apt-get"):
        call(as_root(["apt-get", "update", "-qq"]), "the package list could not be fetched")
        call(as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq",
                      "--no-install-recommends", "chromium", "fonts-wqy-microhei"]),
             "Chromium could not be installed")
    elif shutil.which("dnf"):
        call(as_root(["dnf", "install", "-y", "-q", "chromium"]), "Chromium could not be installed")
    elif shutil.which("brew"):
        call(["brew", "install", "--cask", "chromium"], "Chromium could not be installed")
    found = find_browser()
    if found is None:
        raise SetupError("the browser tests need Chromium or Chrome; install one, or set the "
                         f"variable CHROMIUM to its program ({platform.system()}).")
    return found


def main(argv: list[str]) -> int:
    """Set up, then hand over; returns the exit code."""
    if sys.version_info < OLDEST:
        print(f"vitdemo needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is "
              f"{platform.python_version()}.", file=sys.stderr)
        return 2
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    testing, plain = argv[:1] == ["test"], argv[:1] == ["python"]
    try:
        make_environment()
        install("requirements-dev.txt" if testing else "requirements.txt")
        settings = dict(os.environ)
        if testing:
            settings["CHROMIUM"] = ensure_browser()
            settings.setdefault("OMP_NUM_THREADS", "1")  # each process has a core of its own
            if "--all" in argv:
                ensure_milvus()
            command = ["-m", "pytest", "-n", str(min(os.cpu_count() or 1, MOST_PROCESSES)),
                       *(flag for flag in argv[1:] if flag != "--all")]
        else:
            command = argv[1:] if plain else [str(HERE / "app.py"), *argv]
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    try:
        folder = None if plain else HERE
        return subprocess.run([str(environment_python()), *command], cwd=folder,
                              env=settings).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
