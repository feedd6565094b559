"""The Python that has torch and diffusers."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def reference_python():
    """$SORA_REFERENCE_PYTHON, else a virtual environment, made where there is none. Raises CalledProcessError where it
    cannot be made."""
    chosen = os.environ.get("SORA_REFERENCE_PYTHON")
    if chosen:
        return chosen
    venv = ROOT / "target" / "reference-venv"
    python = venv / "bin" / "python"
    stamp = venv / "requirements.txt"
    requirements = HERE / "requirements.txt"
    if not stamp.exists() or stamp.read_bytes() != requirements.read_bytes():
        print(f"making {venv.relative_to(ROOT)} (SORA_REFERENCE_PYTHON names one that is there already)")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)], check=True)
        stamp.write_bytes(requirements.read_bytes())
    return str(python)
