"""Makes .venv and installs what a task needs, once. Standard library only: nothing else is there yet.

    python3 scripts/install.py run            what `make run` needs
    python3 scripts/install.py development    what tests and checks need

A stamp in .venv remembers what was installed; a second call takes milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]


def main(task: str) -> None:
    check_machine()
    if not PYTHON.exists():
        make_venv()
    wanted = requirements(task)
    stamp = VENV / f"installed-{wanted.stem}"
    digest = hashlib.sha256(wanted.read_bytes() + TORCH.encode()).hexdigest()
    if not is_installed(wanted, digest):
        print(f"Installing {wanted.relative_to(ROOT)} (once; this can take a few minutes) ...", flush=True)
        pip("--require-hashes", "-r", str(wanted))
        stamp.write_text(digest)
    if needs_torch(wanted) and not has_torch():
        install_torch()


def check_machine() -> None:
    if sys.version_info < (3, 11):
        sys.exit(
            "ClawdBot needs Python 3.11 or newer: sudo apt install python3.11 python3.11-venv, then "
            "`make run PYTHON=python3.11`."
        )
    try:
        import ensurepip  # noqa: F401  (only whether it is there)
    except ImportError:
        sys.exit("Python's venv module is missing: sudo apt install python3-venv")


def make_venv() -> None:
    done = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        reason = done.stderr.strip()[-500:]
        sys.exit(f"A virtual environment could not be made: sudo apt install python3-venv\n{reason}")


def requirements(task: str) -> Path:
    """Remote models only need no torch and no transformers: a smaller, quicker install."""
    name = task if task == "development" else "base" if setting("MODEL_ENDPOINT") else "gpu"
    return ROOT / "requirements" / f"{name}.txt"


def setting(name: str) -> str:
    """From the environment, else from .env (the product itself reads it the same way)."""
    if name in os.environ:
        return os.environ[name]
    dotenv = ROOT / ".env"
    lines = dotenv.read_text("utf-8").splitlines() if dotenv.exists() else []
    return next((line.partition("=")[2].strip().strip("'\"") for line in lines if line.startswith(f"{name}=")), "")


def is_installed(wanted: Path, digest: str) -> bool:
    """A larger set holds the smaller ones: development > gpu > base."""
    order = ["base", "gpu", "development"]
    stamps = [VENV / f"installed-{name}" for name in order[order.index(wanted.stem) :]]
    own = stamps[0]
    if own.exists():
        return own.read_text() == digest
    return any(stamp.exists() and _is_current(stamp) for stamp in stamps[1:])


def _is_current(stamp: Path) -> bool:
    source = ROOT / "requirements" / f"{stamp.name.removeprefix('installed-')}.txt"
    return stamp.read_text() == hashlib.sha256(source.read_bytes() + TORCH.encode()).hexdigest()


def needs_torch(wanted: Path) -> bool:
    return wanted.stem != "base"


def has_torch() -> bool:
    return bool(list(VENV.glob("lib/python*/site-packages/torch/version.py")))


def install_torch() -> None:
    """The CPU build where there is no NVIDIA driver (the default wheel would bring gigabytes of CUDA)."""
    print(f"Installing {TORCH} ...", flush=True)
    index = os.environ.get("TORCH_INDEX") or ("" if has_nvidia_driver() else CPU_INDEX)
    if index and run_pip("--index-url", index, "--timeout", "8", "--retries", "0", TORCH):
        return
    pip(TORCH)


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def pip(*words: str) -> None:
    if not run_pip(*words):
        sys.exit("Installing failed (see above). Check the network or PIP_INDEX_URL, then run the same command again.")


def run_pip(*words: str) -> bool:
    return subprocess.run([str(PYTHON), *PIP, *words], check=False).returncode == 0


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "run")
