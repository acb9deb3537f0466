"""Damaged and malicious files for every reader: each must end in one line that names the file, or be read.

    pip install atheris
    python -m experiments.hostile_input [--seconds=600] [--only=npz,glb,...]

Valid small files (experiments/hostile_seeds.py) are damaged (experiments/hostile_mutations.py) for every reader
(experiments/hostile_readers.py) under the guidance of Atheris, which keeps what reaches new lines. A defect is

    an exception that is not a ValueError or OSError, or one whose text is more than a line or does not name the file;
    more than MEMORY above what the process needs at rest, a crash, more than HANG seconds;
    a program started, a connection opened, or a file opened for writing.

Each reader runs in a process of its own, which is started again after a crash. What is found is added to what earlier
runs found, in experiments/results/hostile_input.{json,md}: a defect that a run does not find again is counted as
mended, and the memory is that of the last run. Inputs that showed defects are left in --keep.
"""

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from experiments.hostile_readers import NO_FILE, Reader, readers
from experiments.results import machine, markdown_table, stored, write_result

ROOT = Path(__file__).parents[1]
MEMORY, HANG, LARGEST = 1 << 30, 10, 1 << 18  # bytes; seconds; bytes of a file


# ------------------------------------------------------------------------------------------ in the process

def fuzz(name: str, place: Path, seconds: int, seed: int) -> None:
    """Read damaged files until the time is over; libFuzzer ends the process. Findings go to `place`."""
    try:
        import atheris
    except ImportError:
        sys.exit("hostile_input: needs Atheris: pip install atheris")
    with atheris.instrument_imports(include=["sfm_jax"]):
        reader = readers()[name]()
        folder, corpus = place / "files", place / "corpus"
        names = [file for file in reader.files if file not in reader.fixed]
        sow(reader, names, folder, corpus)  # many readers import what they need where they read
    rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    state = {"executions": 0}
    forbid(state)

    def one(data):
        if not data:
            return
        file = names[data[0] % len(names)]
        restore(folder, reader, file)
        (folder / file).write_bytes(data[1:])
        state["executions"] += 1
        problem = attempt(reader, folder / file)
        problem = state.pop("forbidden", None) or problem
        if problem:
            note(place, problem, file, data[1:])
        if state["executions"] % 50 == 1 or problem:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rest
            (place / "state.json").write_text(json.dumps({"executions": state["executions"], "peak_mb": peak >> 10}))

    def mutate(data, most, number):
        rng = random.Random(number)
        if not data or rng.random() < 0.1:
            return atheris.Mutate(data, min(most, LARGEST))
        changed = rng.choice(reader.mutations)(data[1:], rng)
        return (data[:1] + changed)[:LARGEST]

    flags = {"max_total_time": seconds, "seed": seed, "max_len": LARGEST, "timeout": HANG, "rss_limit_mb": 0,
             "len_control": 0, "verbosity": 0, "artifact_prefix": f"{place}/"}
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{key}={value}" for key, value in flags.items())], one,
                  custom_mutator=mutate)
    atheris.Fuzz()


def sow(reader: Reader, names: list[str], folder: Path, corpus: Path) -> None:
    """The first inputs: for each of `names` a byte that says which, and its valid file, read once in `folder`."""
    for place in (folder, corpus):
        place.mkdir(exist_ok=True)
    for index, file in enumerate(names):
        restore(folder, reader, None)
        problem = attempt(reader, folder / file)  # imports what reading needs, too
        (corpus / f"seed-{index}").write_bytes(bytes([index]) + reader.files[file])
        if problem and not file.endswith(".eps"):
            sys.exit(f"hostile_input: {file}, undamaged: {problem}")


def restore(folder: Path, reader: Reader, but: str | None) -> None:
    """All valid files, but one."""
    for name, content in reader.files.items():
        if name != but:
            (folder / name).write_bytes(content)


def attempt(reader: Reader, path: Path) -> str | None:
    """What is wrong with how a file was refused; None if nothing is."""
    try:
        reader.read(path)
    except (ValueError, OSError) as error:
        text = str(error)
        clear = type(error).__module__.startswith("sfm_jax") or type(error) in (ValueError, FileNotFoundError, OSError)
        named = path.name in text or path.stem in text or str(path.parent) in text or path.name == NO_FILE
        if clear and named and "\n" not in text:
            return None
        why = "names no file" if clear and not named else "has several lines" if clear else "is not ours"
        return where(error, f"{type(error).__name__} that {why}")
    except Exception as error:
        return where(error, type(error).__name__)
    return None


def where(error: BaseException, kind: str) -> str:
    """The kind, and the innermost function of ours on the error's way."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/sfm_jax/" in frame.filename]
    frame = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{kind} in {Path(frame.filename).name}, {frame.name}"


def forbid(state: dict) -> None:
    """Note whoever starts a program, connects, or writes."""
    def hook(event, arguments):
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "os.fork"):
            state["forbidden"] = f"{event} {str(arguments)[:80]}"

    sys.addaudithook(hook)


def note(place: Path, problem: str, file: str, content: bytes) -> None:
    with (place / "defects.jsonl").open("a") as stream:
        stream.write(json.dumps(problem) + "\n")
    kept = place / "kept" / f"{abs(hash(problem)) % 10**8}-{file}"
    kept.parent.mkdir(exist_ok=True)
    if not kept.exists():
        kept.write_bytes(content)
        kept.with_suffix(".why").write_text(problem + "\n" + traceback.format_exc())


# -------------------------------------------------------------------------------------------- from outside

def campaign(name: str, place: Path, seconds: int, seed: int) -> dict:
    """Fuzz one reader in processes of its own for so long."""
    place.mkdir(parents=True)
    end, executions, peak, defects, crashes = time.monotonic() + seconds, 0, 0, {}, 0
    while (left := int(end - time.monotonic())) > 3 and crashes < 30:
        (place / "state.json").write_text('{"executions": 0, "peak_mb": 0}')
        with (place / "log.txt").open("w") as log:
            code = subprocess.run(
                [sys.executable, "-m", "experiments.hostile_input", "--fuzz", name, "--place", str(place), "--seconds",
                 str(left), "--seed", str(seed + crashes)], cwd=ROOT, stdout=log, stderr=log).returncode
        state = json.loads((place / "state.json").read_text())
        executions, peak = executions + state["executions"], max(peak, state["peak_mb"])
        if code:
            crashes += 1
            if not state["executions"]:
                raise RuntimeError(f"{name}: cannot be fuzzed: {(place / 'log.txt').read_text()[-2000:]}")
            problem = crash(place, code)
            defects[problem] = defects.get(problem, 0) + 1
    noted = place / "defects.jsonl"
    for line in noted.read_text().splitlines() if noted.exists() else []:
        defects[json.loads(line)] = defects.get(json.loads(line), 0) + 1
    return {"seconds": seconds, "executions": executions, "defects": defects, "peak_mb": peak}


def crash(place: Path, code: int) -> str:
    """What ended the process; the file that did it is kept."""
    log = (place / "log.txt").read_text(errors="replace")
    places = re.findall(r"/sfm_jax/\S*?(\w+\.py)\", line \d+ in (\w+)", log)
    function = ", ".join(places[0]) if places else "?"
    problem = f"longer than {HANG} s in {function}" if "Timeout: " in log else f"process ended in {function}"
    for file in (place / "files").iterdir():
        kept = place / "kept" / f"{'hang' if 'longer' in problem else 'crash'}-{code}-{time.time_ns()}-{file.name}"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(file.read_bytes())
    return problem


def merged(before: dict, found: dict) -> dict:
    """What earlier runs found of a reader, and this one: what is not found again counts as mended."""
    mended = sorted((set(before.get("mended", [])) | set(before.get("defects", {}))) - set(found["defects"]))
    total = {key: before.get(key, 0) + found[key] for key in ("seconds", "executions")}
    return total | {"defects": found["defects"], "mended": mended, "peak_mb": found["peak_mb"]}


def report(found: dict) -> None:
    results = stored("hostile_input").get("readers", {})
    results |= {name: merged(results.get(name, {}), one) for name, one in found.items()}
    values = {"machine": machine(), "limit_mb": MEMORY >> 20, "limit_s": HANG, "readers": results}
    write_result("hostile_input", values, table(values))
    print(table(values))


def table(values: dict) -> str:
    header = ["reader", "seconds", "files read", "defects found", "mended", "open", "most memory (MB over rest)"]
    rows = [[name, one["seconds"], one["executions"], len(one["mended"]) + len(one["defects"]), len(one["mended"]),
             len(one["defects"]), one["peak_mb"]] for name, one in values["readers"].items()]
    return (markdown_table(header, rows) + f"\n\nLimits: {values['limit_mb']} MB over what the process needs at rest, "
            f"{values['limit_s']} s a file.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each reader")
    parser.add_argument("--only", help="words, of which a reader's name has one, such as npz,glb")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that showed defects")
    parser.add_argument("--fuzz", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fuzz:
        fuzz(arguments.fuzz, arguments.place, arguments.seconds, arguments.seed)
        return
    words = arguments.only.split(",") if arguments.only else [""]
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in [name for name in readers() if any(word in name for word in words)]:
            place = (arguments.keep or Path(scratch)) / "".join(c if c.isalnum() else "-" for c in name)
            found[name] = campaign(name, place, arguments.seconds, arguments.seed)
            print(name, json.dumps(found[name]), flush=True)
    report(found)
    if any(one["defects"] for one in found.values()):
        sys.exit("defects were found")


if __name__ == "__main__":
    main()
