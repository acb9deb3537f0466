"""Training under faults, each against a run that is left alone: what is lost, and whether it goes on rightly.

    python -m experiments.faults [--kills 100] [--only disk,clock,...]

A small run (experiments/counted_run.py) that saves every other step is killed at random moments (while it starts,
trains and saves), stopped by SIGTERM, left without disk or memory, given back damaged checkpoints and wrong clocks; of
two processes one is lost or hangs. Then it is started again. It passes if no step is lost that was saved, if batch k is
made of the same samples in every attempt, if its state has counted every sample once in every epoch, and if its
parameters are those of an undisturbed run, to the last bit. Writes experiments/results/faults.{json,md}, after every
fault; with --only the others' rows stay as they are. All of it takes about half an hour on two idle cores.

The disk is a small tmpfs, which needs root; without it, a limit on the size of files and folders without write
permission take its place, and the table says so. The clock that jumps is Python's own, of the whole process.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.counted_run import (
    BATCH,
    CLOCK,
    PHOTO,
    ROWS,
    SAVE_EVERY,
    Attempt,
    checkpoints,
    completed,
    largest_difference,
    newest,
    same_batches,
)
from experiments.results import machine, markdown_table, stored, write_result
from sfm_jax.training import distributed

STEPS = 240
KILLS_OF_A_RUN = 10
VICTIMS = {"the only process": (1, [0]), "the first of two": (2, [0]), "the second of two": (2, [1]),
           "both of two": (2, [0, 1])}
DISK, SMALL_FILES = 1 << 20, 2000  # bytes: of the tmpfs; of the largest file, where there is no tmpfs
DECADE = 315_360_000  # seconds


class Trial:
    """One run that is disturbed some times, and then left alone."""

    def __init__(self, folder: Path, count: int = 1, steps: int = STEPS):
        folder.mkdir(parents=True)
        self.folder, self.count, self.steps = folder, count, steps
        self.disturbances, self.saved = [], 0

    def start(self, **options) -> Attempt:
        flags = [f"--config.steps={self.steps}", *options.pop("flags", ())]
        return Attempt(self.folder, self.count, flags=flags, **options)

    def disturbed(self, attempt: Attempt, codes: list[int], began: float | None = None) -> None:
        """Note how an attempt ended, and what it lost of the steps that it had done: those after the last save."""
        told, saved = attempt.steps(), newest(self.folder)
        done = max(told, default=self.saved)
        self.disturbances.append({
            "first_step": min(told, default=None), "last_step": max(told, default=None), "saved": saved,
            "lost_steps": max(done - saved, 0), "exit_codes": codes, "said": attempt.problems(),
            "seconds_to_the_end": began and time.monotonic() - began})
        self.saved = saved

    def resumed(self, expected: dict, **options) -> dict:
        """Let it run to its end; all that was found."""
        found = completed(self.folder, self.count, flags=[f"--config.steps={self.steps}"], **options)
        starts = [row["first_step"] for row in self.disturbances[1:]] + [found["first_step"]]
        return {
            "processes": self.count, "disturbances": self.disturbances, "said_when_resumed": found["said"],
            "resumed_from_the_last_save": all(start is None or start == row["saved"] + 1 for row, start in
                                              zip(self.disturbances, starts, strict=True)),
            "same_batches": same_batches(self.folder, self.steps), "seen": sorted(set(found["seen"])),
            "epochs": self.steps * BATCH // ROWS, "largest_difference": largest_difference(found, expected)}


def passed(outcome: dict, tolerance: float = 0.0) -> bool:
    return (outcome["same_batches"] and outcome["seen"] == [outcome["epochs"]] and outcome.get("told", True)
            and outcome["resumed_from_the_last_save"] and outcome["largest_difference"] <= tolerance
            and not any(line.startswith("TRACEBACK") for one in outcome["disturbances"] for line in one["said"]))


# ------------------------------------------------------------------------------------------------- signals

def killed(folder: Path, victims: list[int], count: int, kills: int, expected: dict, rng: random.Random,
           steps: int = STEPS) -> dict:
    """SIGKILL for these processes, a fifth of the times while they start."""
    trial = Trial(folder, count, steps)
    for _ in range(kills):
        attempt = trial.start()
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0.0, 4.0))
        else:
            attempt.wait_for_step(1)
            time.sleep(rng.uniform(0.0, 1.0))
        began = time.monotonic()
        for victim in victims:
            attempt.processes[victim].kill()
        trial.disturbed(attempt, attempt.wait(distributed.STARTING + 30), began)
    return trial.resumed(expected)


def terminated(folder: Path, count: int, expected: dict, rng: random.Random) -> dict:
    """SIGTERM for one process, after a random step."""
    trial = Trial(folder, count)
    for _ in range(4):
        attempt = trial.start()
        attempt.wait_for_step(1)
        time.sleep(rng.uniform(0.0, 1.0))
        began = time.monotonic()
        attempt.processes[rng.randrange(count)].send_signal(signal.SIGTERM)
        trial.disturbed(attempt, attempt.wait(), began)
    return trial.resumed(expected)


def hung(folder: Path, victim: int, expected: dict, rng: random.Random) -> dict:
    """One of two processes stands still (SIGSTOP): the other ends; the one that stands is then killed."""
    trial = Trial(folder, 2)
    attempt = trial.start()
    attempt.wait_for_step(rng.randrange(3, 20))
    began = time.monotonic()
    attempt.processes[victim].send_signal(signal.SIGSTOP)
    with contextlib.suppress(subprocess.TimeoutExpired):
        attempt.processes[1 - victim].wait(120)
    ended = time.monotonic() - began
    attempt.processes[victim].kill()
    trial.disturbed(attempt, attempt.wait(), began)
    trial.disturbances[-1]["seconds_to_the_end"] = ended
    return trial.resumed(expected)


def paused(folder: Path, expected: dict, rng: random.Random) -> dict:
    """One of two processes stands still for five seconds: nothing happens."""
    trial = Trial(folder, 2)
    attempt = trial.start()
    attempt.wait_for_step(rng.randrange(3, 20))
    began = time.monotonic()
    attempt.processes[1].send_signal(signal.SIGSTOP)
    time.sleep(5)
    attempt.processes[1].send_signal(signal.SIGCONT)
    trial.disturbed(attempt, attempt.wait(120), began)
    return trial.resumed(expected)


# ---------------------------------------------------------------------------------------------------- disk

@contextlib.contextmanager
def small_disk(place: Path):
    """A disk of its own under `place`; yields whether there is one."""
    place.mkdir(parents=True)
    mounted = not subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)],
                                 capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def disk_full(folder: Path, expected: dict, rng: random.Random) -> dict:
    """The workdir's disk is filled up while it trains, and is still full when it is started again."""
    trial = Trial(folder)
    with small_disk(folder / "run") as mounted:
        limit = () if mounted else ("prlimit", f"--fsize={SMALL_FILES}")
        for again in (False, True):
            attempt = trial.start(prefix=limit)
            if mounted and not again:
                attempt.wait_for_step(rng.randrange(4, 12))
                fill(folder / "run" / "ballast")
            trial.disturbed(attempt, attempt.wait())
        (folder / "run" / "ballast").unlink(missing_ok=True)
        return trial.resumed(expected) | {"way": "tmpfs" if mounted else "RLIMIT_FSIZE"}


def fill(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def read_only(folder: Path, expected: dict, rng: random.Random) -> dict:
    """The workdir cannot be written any more when a run is to go on; nor could it when it was to begin."""
    trial = Trial(folder)
    with small_disk(folder / "run") as mounted:
        def writable(yes):
            if mounted:
                subprocess.run(["mount", "-o", f"remount,{'rw' if yes else 'ro'}", str(folder / "run")], check=True)
            else:
                for place in [folder / "run", *(folder / "run").rglob("*/")]:
                    place.chmod(0o755 if yes else 0o555)

        for fresh in (True, False):
            if not fresh:
                attempt = trial.start()
                attempt.wait_for_step(rng.randrange(4, 12))
                attempt.processes[0].kill()
                trial.disturbed(attempt, attempt.wait())
            writable(False)
            attempt = trial.start()
            trial.disturbed(attempt, attempt.wait())
            writable(True)
        return trial.resumed(expected) | {"way": "tmpfs, read-only" if mounted else "chmod"}


def damaged(folder: Path, expected: dict, rng: random.Random) -> dict:
    """The newest checkpoint changes on the disk, by a bit, an end, a file or all: the one before is taken and told."""
    trial = Trial(folder)
    for damage in ("bit", "bit", "bit", "cut", "empty", "lost", "all"):
        attempt = trial.start()
        attempt.wait_for_step(trial.saved + rng.randrange(8, 16))
        attempt.processes[0].kill()
        attempt.wait()
        broken = newest(folder)
        damage_checkpoint(checkpoints(folder)[-1], damage, rng)
        before = int(checkpoints(folder)[-2].name)
        trial.disturbed(attempt, [process.returncode for process in attempt.processes])
        row = trial.disturbances[-1]
        row |= {"damage": damage, "saved": before, "lost_steps": row["lost_steps"] + broken - before}
        trial.saved = before
    outcome = trial.resumed(expected)
    told = [row["said"] for row in outcome["disturbances"][1:]] + [outcome["said_when_resumed"]]
    return outcome | {"told": all("cannot be read, going on from" in " ".join(lines) for lines in told)}


def damage_checkpoint(checkpoint: Path, damage: str, rng: random.Random) -> None:
    files = sorted(file for file in (checkpoint / "default").rglob("*") if file.is_file() and file.stat().st_size)
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    if damage == "bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:len(content) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "lost":
        file.unlink()
    else:
        for every in files:
            every.write_bytes(rng.randbytes(every.stat().st_size))


# ------------------------------------------------------------------------------------------ clock and memory

def clock(folder: Path, expected: dict, rng: random.Random) -> dict:
    """Started again with the clock ten years ahead, ten years back, and with files from the future and the past."""
    trial = Trial(folder)
    for shift in (DECADE, -DECADE, DECADE, -DECADE):
        attempt = trial.start(environment={CLOCK: str(shift)})
        attempt.wait_for_step(trial.saved + rng.randrange(4, 16))
        began = time.monotonic()
        attempt.processes[0].send_signal(signal.SIGTERM)
        trial.disturbed(attempt, attempt.wait(), began)
        for file in (folder / "run").rglob("*"):
            moment = time.time() + rng.choice((-1, 1)) * rng.random() * DECADE
            os.utime(file, (moment, moment))
    return trial.resumed(expected)


def out_of_memory(folder: Path, expected: dict, rng: random.Random) -> dict:
    """Started again where a batch needs more memory than there is, and in ever smaller address spaces."""
    trial = Trial(folder)
    attempt = trial.start()
    attempt.wait_for_step(rng.randrange(4, 12))
    attempt.processes[0].kill()
    trial.disturbed(attempt, attempt.wait())
    for gigabytes, photo in ((6.0, 10**10), (1.6, 1), (1.4, 1), (1.0, 1)):
        limit = ("prlimit", f"--as={int(gigabytes * 1e9)}")
        attempt = trial.start(prefix=limit, environment={PHOTO: str(photo)})
        trial.disturbed(attempt, attempt.wait(120.0))
    return trial.resumed(expected) | {"way": "RLIMIT_AS"}


# -------------------------------------------------------------------------------------------------- report

def all_faults(kills: int, rng: random.Random) -> dict:
    """{fault: [functions of (folder, {processes: the undisturbed result})]}."""
    runs = max(kills // KILLS_OF_A_RUN, len(VICTIMS))
    shares = dict.fromkeys(VICTIMS, 1) | {"the only process": runs - len(VICTIMS) + 1}
    each = kills // runs
    faults = {f"SIGKILL, {name}": [
        lambda folder, expected, count=count, victims=victims: killed(folder, victims, count, each, expected[count],
                                                                      rng)] * shares[name]
        for name, (count, victims) in VICTIMS.items()}
    single = {
        "SIGTERM": lambda folder, expected: terminated(folder, 1, expected[1], rng),
        "SIGTERM, one of two": lambda folder, expected: terminated(folder, 2, expected[2], rng),
        "the first of two hangs": lambda folder, expected: hung(folder, 0, expected[2], rng),
        "the second of two hangs": lambda folder, expected: hung(folder, 1, expected[2], rng),
        "one of two hangs for 5 s": lambda folder, expected: paused(folder, expected[2], rng),
        "disk full": lambda folder, expected: disk_full(folder, expected[1], rng),
        "disk read-only": lambda folder, expected: read_only(folder, expected[1], rng),
        "newest checkpoint damaged": lambda folder, expected: damaged(folder, expected[1], rng),
        "clock and file times": lambda folder, expected: clock(folder, expected[1], rng),
        "out of memory": lambda folder, expected: out_of_memory(folder, expected[1], rng)}
    return faults | {name: [fault] for name, fault in single.items()}


def row(name: str, outcomes: list[dict]) -> list[str]:
    """A line of the table."""
    times = [one for outcome in outcomes for one in outcome["disturbances"]]
    codes = sorted({code for one in times for code in one["exit_codes"]})
    way, seconds = outcomes[0].get("way"), [one["seconds_to_the_end"] or 0 for one in times]
    return [name + (f" ({way})" if way else ""), str(len(times)), ", ".join(map(str, codes)),
            f"{max(seconds):.1f} s" if any(seconds) else "-", str(max(one["lost_steps"] for one in times)),
            "yes" if all(outcome["resumed_from_the_last_save"] for outcome in outcomes) else "NO",
            "yes" if all(outcome["same_batches"] and outcome["seen"] == [outcome["epochs"]] for outcome in outcomes)
            else "NO",
            f"{max(outcome['largest_difference'] for outcome in outcomes):g}"]


def report(found: dict, order: list[str]) -> None:
    """Rows of what was found now, and of what was found before of other faults."""
    results = stored("faults").get("faults", {}) | found
    ordered = {name: results[name] for name in order if name in results}
    values = {"machine": machine(), "steps": STEPS, "faults": ordered}
    write_result("faults", values, table(values))


def table(values: dict) -> str:
    header = ["fault", "times", "exit codes", "slowest end", f"most steps lost (saved every {SAVE_EVERY})",
              "resumed from the last whole save", "every sample once an epoch", "largest difference of a parameter"]
    return markdown_table(header, [row(name, outcomes) for name, outcomes in values["faults"].items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="words, of which a fault's name has one, such as disk,clock")
    arguments = parser.parse_args()
    faults = all_faults(arguments.kills, random.Random(arguments.seed))
    order = list(faults)
    words = arguments.only.split(",") if arguments.only else [""]
    faults = {name: fault for name, fault in faults.items() if any(word in name for word in words)}
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        expected = {count: completed(Path(scratch, f"undisturbed-{count}"), count, flags=[f"--config.steps={STEPS}"])
                    for count in (1, 2)}
        for name, trials in faults.items():
            results[name] = [trial(Path(scratch, f"{name}-{number}".replace(" ", "-")), expected)
                             for number, trial in enumerate(trials)]
            print(" | ".join(row(name, results[name])), flush=True)
            report(results, order)
    if not all(passed(outcome) for outcomes in results.values() for outcome in outcomes):
        sys.exit("a run differs from an undisturbed one")


if __name__ == "__main__":
    main()
