"""The device that work runs on: which is chosen, its name, whether it works, and why not."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F

from utils.errors import UserError

DRIVER_FILE = Path("/proc/driver/nvidia/version")
CONTROL_FILE = Path("/dev/nvidiactl")
CPU_FILE = Path("/proc/cpuinfo")
BUILDS_PAGE = "pytorch.org/get-started/previous-versions"

# names of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4

# of NVIDIA's drivers, the first that runs programs of a version of CUDA
_FIRST_DRIVER = {11: 450, 12: 525, 13: 580}


def select_device(name: str = "auto") -> torch.device:
    """The device called `name`: auto, cuda, mps or cpu; auto takes the first that is available.

    If auto takes the CPU of a machine with a GPU, a warning says why, and the remedy.

    Raises:
        UserError: the name is unknown, or there is no such device here.
    """
    kinds = ("cuda", "mps", "cpu")
    if name != "auto" and name not in kinds:
        raise UserError(f"--device {name}: unknown; choose auto, {', '.join(kinds)}")
    here = [kind for kind in kinds if is_available(kind)]
    if name != "auto" and name not in here:
        fault = unusable_gpu(name) or f"PyTorch finds none here; available: {', '.join(here)}"
        raise UserError(f"--device {name}: {fault}")
    if name == "auto" and here == ["cpu"] and speaks_for_machine():
        fault = unusable_gpu("cuda") or unusable_gpu("mps")
        if fault:
            print(f"warning: on the CPU: {fault}", file=sys.stderr, flush=True)
    return torch.device(here[0] if name == "auto" else name)


def make_deterministic() -> None:
    """Make every operation give the same bits in every run; call it before a GPU is used.

    Operations without a deterministic version still run, with a warning that names them.
    """
    # cuBLAS is deterministic only with workspaces of a fixed size
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def tune_convolutions(device: torch.device, sizes_vary: bool = False) -> None:
    """Let cuDNN time its ways to compute a convolution when it meets one of a new shape.

    Not after `make_deterministic`, since what it chooses differs from run to run, and not where
    `sizes_vary`, since it would do little else.
    """
    fixed = torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.benchmark = device.type == "cuda" and not fixed and not sizes_vary


def gpus_used(device: torch.device, spread: bool) -> list[torch.device]:
    """The devices that work goes to: `device`, or where it is to `spread`, all visible GPUs."""
    if device.type != "cuda" or device.index is not None or not spread:
        return [device]
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def describe_devices(devices: Sequence[torch.device]) -> str:
    """Devices of one type in words, as `2 × NVIDIA H100 (79 GiB), CUDA 12.4`."""
    kind = devices[0].type
    if kind == "cpu":
        threads = torch.get_num_threads()
        return f"CPU ({_cpu_name()}, {threads} thread{'s' * (threads != 1)})"
    if kind != "cuda":
        return f"{kind.upper()} ({_cpu_name()})"
    names = []
    for device in devices:
        try:
            with _pytorch_silent():
                facts = torch.cuda.get_device_properties(device)
            names.append(f"{facts.name} ({facts.total_memory / 2**30:.0f} GiB)")
        except RuntimeError:  # `require_working` will say why
            names.append(str(device))
    if len(names) > 1 and len(set(names)) == 1:
        names = [f"{len(names)} × {names[0]}"]
    hip = torch.version.hip
    return ", ".join([*names, f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}"])


def _cpu_name() -> str:
    names = re.findall(r"^model name\s*:\s*(.+)$", _cpu_facts(), re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


def cpu_lacks(unit: str) -> bool:
    """Whether the CPU is known to have no `unit`, as bf16: Linux tells, other systems do not."""
    facts = _cpu_facts()
    return bool(facts) and unit not in facts


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has units for matrix products in bf16: AMX, or CUDA's from Ampere on."""
    if device.type == "cuda" and not torch.version.hip:
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and "amx_bf16" in _cpu_facts()


def keep_memory(device: torch.device) -> None:
    """On a CPU, let the C library keep freed memory for the next tensors.

    glibc gives large blocks back to the system at once, and to get fresh ones, filled with zeros
    page by page, takes longer than many a layer that is no product. The process then stays as large
    as it once was, and it all is, so that commands do this and `Segmenter` does not. Other C
    libraries are left as they are.
    """
    if device.type != "cpu" or os.name != "posix":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)  # blocks of any size come from the heap,
        mallopt(_M_TRIM_THRESHOLD, -1)  # whose end is never cut off


def _cpu_facts() -> str:
    try:
        return CPU_FILE.read_text()
    except OSError:
        return ""


def speaks_for_machine() -> bool:
    """Whether this process prints warnings for all that torchrun started on this machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU ran out of memory, which its libraries report only in their messages."""
    words = (
        "CUDA error: out of memory",
        "MPS backend out of memory",
        "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
        "unable to find an engine",  # cuDNN, where its workspaces find no room
    )
    known = isinstance(error, torch.cuda.OutOfMemoryError)
    return known or any(word in str(error) for word in words)


def is_available(kind: str) -> bool:
    """Whether PyTorch finds a device of this kind: cuda, mps or cpu."""
    finders = {"cuda": torch.cuda, "mps": torch.backends.mps, "cpu": torch.cpu}
    with _pytorch_silent():
        return finders[kind].is_available()


def require_working(devices: Sequence[torch.device]) -> None:
    """Compute a small convolution on every one of `devices`, before anything else is done there.

    PyTorch finds GPUs that it has no kernels for; they fail at the first operation.

    Raises:
        UserError: it fails; the line says what to do.
    """
    for device in devices:
        if device.type == "cpu":
            continue
        try:
            with _pytorch_silent():
                images = torch.ones(1, 3, 8, 8, device=device)
                F.conv2d(images, torch.ones(4, 3, 3, 3, device=device)).sum().item()
        except RuntimeError as error:
            raise UserError(_what_fails(device, error)) from error


@contextmanager
def _pytorch_silent() -> Iterator[None]:
    """Suppress PyTorch's long warnings about problems that are reported here in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _what_fails(device: torch.device, error: RuntimeError) -> str:
    try:
        lacking = device.type == "cuda" and _lacking_kernels(device, error)
    except RuntimeError:  # a GPU in such a state does not even tell what it is
        lacking = ""
    if lacking:
        return lacking
    reason = str(error).splitlines()[0]
    return (
        f"{device}: the GPU fails at a first small convolution ({reason}); choose another one with "
        "CUDA_VISIBLE_DEVICES, or give --device cpu"
    )


def _lacking_kernels(device: torch.device, error: RuntimeError) -> str:
    """The message for a GPU that PyTorch has no kernels for, "" for other errors."""
    kernels = torch.cuda.get_arch_list()
    major, minor = torch.cuda.get_device_capability(device)
    known = "no kernel image" in str(error) or not _runs_on(kernels, major, minor)
    if torch.version.hip or not known:
        return ""
    return (
        f"{torch.cuda.get_device_name(device)} (sm_{major}{minor}): PyTorch {torch.__version__} "
        f"has no kernels for this GPU; {_build_with_kernels(kernels, major, minor)}"
    )


def _runs_on(kernels: Sequence[str], major: int, minor: int) -> bool:
    """Whether a GPU of this capability runs one of these kernels, as sm_86 or compute_90."""
    numbers = [int(digits) for digits in re.findall(r"sm_(\d+)", " ".join(kernels))]
    if any(number // 10 == major and number % 10 <= minor for number in numbers):
        return True
    # PTX, as compute_90, is compiled on any newer GPU
    sources = [int(digits) for digits in re.findall(r"compute_(\d+)", " ".join(kernels))]
    return any(number <= 10 * major + minor for number in sources)


def _build_with_kernels(kernels: Sequence[str], major: int, minor: int) -> str:
    newest = max([int(digits) for digits in re.findall(r"_(\d+)", " ".join(kernels))], default=0)
    if 10 * major + minor > newest:
        return f"a newer one may: {_pip('--upgrade torch torchvision')}, or give --device cpu"
    if major >= 5:  # builds on PyPI have kernels for these up to 2.7
        return f"older ones have: {_pip('torch<2.8 torchvision')}, or give --device cpu"
    return "no build that this code can use has any; give --device cpu"


def unusable_gpu(kind: str) -> str:
    """Why PyTorch finds no device of this `kind` (cuda or mps), and a remedy; "" without GPUs."""
    return _unusable_mps() if kind == "mps" else _unusable_nvidia()


def _unusable_mps() -> str:
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return ""
    if torch.backends.mps.is_built():
        return f"PyTorch {torch.__version__} does not use this Mac's GPU; update macOS"
    return (
        f"PyTorch {torch.__version__} is built without MPS, for this Mac's GPU; "
        f"{_pip('--force-reinstall torch torchvision')} brings it"
    )


def _unusable_nvidia() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    driver = _nvidia_driver()
    if not driver or visible in ("", "-1"):  # hidden on purpose
        return ""
    found = f"there is an NVIDIA driver ({driver}), but PyTorch {torch.__version__}"
    generation = int(driver.split(".")[0])
    if torch.version.cuda is None:
        return f"{found} is built without CUDA; {_build_for(generation, '--force-reinstall ')}"
    if generation < _FIRST_DRIVER.get(int(torch.version.cuda.split(".")[0]), 0):
        needs = f"{found}, built for CUDA {torch.version.cuda}, needs a newer one"
        return f"{needs}; update it, or {_build_for(generation)}"
    if visible:
        return f"{found} finds no GPU; check CUDA_VISIBLE_DEVICES={visible}"
    if DRIVER_FILE.exists() and not CONTROL_FILE.exists():
        return f"{found} sees no GPU; start a container with docker run --gpus all"
    return f"{found} cannot use its GPU ({_why_not()}); check nvidia-smi"


def _nvidia_driver() -> str:
    """The version of NVIDIA's driver, as 535.104.05; empty if there is none."""
    try:
        told = DRIVER_FILE.read_text()
    except OSError:
        told = ""
        if shutil.which("nvidia-smi"):  # in WSL there is no such file
            told = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    versions = re.findall(r"\b\d{3}\.\d+(?:\.\d+)?\b", told)
    return versions[0] if versions else ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _why_not() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return "for no reason that it tells"


def _build_for(driver: int, option: str = "") -> str:
    """The line that installs a build of PyTorch for CUDA that this driver runs."""
    if platform.machine() != "x86_64" or driver < _FIRST_DRIVER[12]:
        return f"choose a build for it: {BUILDS_PAGE}"
    # builds on PyPI are for CUDA 12 up to 2.10, for CUDA 13 from then on
    torch_version = "torch" if driver >= _FIRST_DRIVER[13] else "torch<2.11"
    return f"install one that fits: {_pip(f'{option}{torch_version} torchvision')}"


def _pip(arguments: str) -> str:
    quoted = " ".join(f'"{word}"' if "<" in word else word for word in arguments.split())
    return f"{shlex.quote(sys.executable)} -m pip install {quoted}"
