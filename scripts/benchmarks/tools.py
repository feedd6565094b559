"""What the sections share: running programs in turn, and saying on what they ran."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time

from interpreter import reference_python

from . import measured


class Bench:
    """One run of scripts/bench."""

    def __init__(self, root, scratch, options):
        self.root, self.scratch, self.options = root, scratch, options
        self._parts = options.parts
        self._python = None

    @property
    def python(self):
        """The interpreter with torch and diffusers, or None where there is none to be had."""
        if self._python is None:
            self._python = [self._find_python()]
        return self._python[0]

    def _find_python(self):
        try:
            chosen = reference_python()
        except subprocess.CalledProcessError:
            print("skipped: Python torch and diffusers cannot be installed; our own columns alone")
            return None
        probe = subprocess.run([chosen, "-c", "import torch"], capture_output=True)
        if probe.returncode != 0:
            print(f"skipped: {chosen} has no torch; our own columns alone")
            return None
        return chosen

    def has_diffusers(self):
        probe = "import diffusers, transformers"
        return self.python and subprocess.run([self.python, "-c", probe], capture_output=True).returncode == 0

    @property
    def parts_program(self):
        """The program that measures parts, built where it was not given."""
        if self._parts is None:
            if not shutil.which("cargo"):
                sys.exit("error: there is no cargo here; --parts names the program built elsewhere")
            self.build("--example", "parts")
            self._parts = self.root / "target" / "release" / "examples" / "parts"
        return str(self._parts)

    def build(self, *what):
        """Has cargo build what options like --example NAME say, with everything that the workspace builds it with."""
        subprocess.run(["cargo", "build", "--release", "--locked", "--workspace", *what], cwd=self.root, check=True)

    def ours(self, request):
        return self._ask([self.parts_program], request)

    def theirs(self, request):
        return self._ask([self.python, str(self.root / "scripts" / "reference" / "parts.py")], request)

    def _ask(self, command, request):
        path = self.scratch / "request.json"
        path.write_text(json.dumps(request))
        done = subprocess.run([*command, str(path)], stdout=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"error: {shlex.join([*command, str(path)])} failed")
        return json.loads(done.stdout)

    def in_turn(self, request, turns=2):
        """Both sides, one after the other, several times: the best times of each."""
        ours, theirs = {}, {}
        for turn in range(turns):
            sides = [(ours, self.ours)] + ([(theirs, self.theirs)] if self.has_diffusers() else [])
            for found, side in sides if turn % 2 == 0 else reversed(sides):
                better(found, side(request))
        return ours, theirs

    def launch(self, pipeline, environment=None):
        """Wall seconds, processor seconds and largest resident set (bytes) of gst-launch-1.0."""
        shell = f". {shlex.quote(str(self.root / 'target/sora/env'))} && exec gst-launch-1.0 -q {pipeline}"
        return self.run(["bash", "-c", shell], environment)

    def run(self, command, environment=None, **streams):
        """The same of any program; what it printed too, where stdout is a pipe."""
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=self.scratch, env={**os.environ, **(environment or {})}, text=True, **streams
        )
        printed = process.stdout.read() if process.stdout else ""
        took = measured.wait(process, began)
        if process.returncode != 0:
            sys.exit(f"error: this failed: {shlex.join(command)}")
        return {**took._asdict(), "printed": printed}

    def about(self, section, arguments):
        """Machine, versions and command, in one paragraph."""
        command = shlex.join(["scripts/bench", *(arguments or [])])
        versions = []
        if section in ("clips", "parts", "growth", "cuda") and self.python:
            code = "import torch; print('Python torch', torch.__version__)"
            versions += [subprocess.run([self.python, "-c", code], capture_output=True, text=True).stdout.strip()]
            if self.has_diffusers():
                code = "import diffusers; print('diffusers', diffusers.__version__)"
                versions += [subprocess.run([self.python, "-c", code], capture_output=True, text=True).stdout.strip()]
        if section == "sdcpp":
            versions += [subprocess.run([self.options.sdcpp, "--version"], capture_output=True, text=True).stdout.strip()]
        load = os.getloadavg()[0]
        date = time.strftime("%Y-%m-%d", time.gmtime())
        machine = f"{cpu_name()}, {os.cpu_count()} cores; load average {load:.1f} at the end"
        return f"*{date}, `{command}`. {'; '.join([machine, *versions])}.*"


def cpu_name():
    name, flags = "an unnamed CPU", set()
    with open("/proc/cpuinfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() == "flags":
                flags = set(value.split())
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name} ({', '.join(known) or 'no AVX2'})"


def better(found, new):
    """Keeps the smaller of two times, wherever they stand in the tree."""
    for key, value in new.items():
        if isinstance(value, dict):
            better(found.setdefault(key, {}), value)
        elif key in ("matmul_tflops", "copy_gb_s"):
            found[key] = max(value, found.get(key, value))
        else:
            found[key] = min(value, found.get(key, value))


def ratio(a, b):
    return f"{a / b:.2f}" if b else "-"
