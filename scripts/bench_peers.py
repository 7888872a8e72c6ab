#!/usr/bin/env python3
"""Measures layercast and its peers in turn; see bench-peers.sh, which builds the program and calls this."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
MEMORY_LIMIT = 320 * MIB
FAR = {"delay": 0.04, "rate": 25_000_000}
SAMPLE_SECONDS = 0.025


# ------------------------------------------------------------------------------------------------ bundles


@dataclass(frozen=True)
class Recipe:
    """How make_bundle.py makes a bundle; `quick` replaces options in a smoke test."""

    suffix: str
    options: dict
    quick: dict = field(default_factory=dict)
    next_release_of: str | None = None


# 30 docker-archives; a layer that several images share is in each of their archives, as `docker save` writes it.
ARCHIVES = dict(images=30, layers=4, share=0.25, total=307_000_000, median=2 * MIB, sigma=1.5, max_layer=32 * MIB, format="archives")
LAYOUT = dict(images=40, layers=5, share=0.4, total=430_000_000, median=2 * MIB, sigma=1.5, max_layer=32 * MIB, format="oci-layout")
SMALL = dict(preset="many-small", format="oci-layout", outer="zstd")
HUGE = dict(images=2, layers=2, share=0, median=256 * MIB, sigma=0.1, total=1 << 30, max_layer=1 << 30, format="oci-layout", outer="none", layer_compression="none")

RECIPES = {
    "first": Recipe(".tar.xz", {**ARCHIVES, "outer": "xz-multi"}, dict(images=6, total=40_000_000)),
    "one-block": Recipe(".tar.xz", {**ARCHIVES, "outer": "xz"}, dict(images=6, total=40_000_000)),
    "oci": Recipe(".tar.zst", {**LAYOUT, "outer": "zstd-multi"}, dict(images=8, total=40_000_000)),
    "oci-next": Recipe(".tar.zst", dict(change=5, outer="zstd-multi"), next_release_of="oci"),
    "small": Recipe(".tar.zst", {**SMALL, "images": 500}, dict(images=60)),
    "far-small": Recipe(".tar.zst", {**SMALL, "images": 60}, dict(images=15)),
    "huge": Recipe(".tar", HUGE, dict(total=128 * MIB, median=32 * MIB)),
}


@dataclass
class Bundle:
    name: str
    path: Path
    truth: dict

    @property
    def blob_bytes(self) -> int:
        return self.truth["totals"]["distinct_blob_bytes"]

    @property
    def is_archives(self) -> bool:
        return self.truth["options"]["format"] == "archives"


class Bundles:
    """Makes bundles when they are first asked for, and keeps them for the next run."""

    def __init__(self, folder: Path, quick: bool, seed: str, source: list[str], xz_level: int):
        self.folder, self.quick, self.seed, self.source, self.xz_level = folder, quick, seed, source, xz_level
        self.made: dict[str, Bundle] = {}

    def get(self, name: str) -> Bundle:
        if name not in self.made:
            self.made[name] = self._make(name)
        return self.made[name]

    def _make(self, name: str) -> Bundle:
        recipe = RECIPES[name]
        options = {**recipe.options, **(recipe.quick if self.quick else {})}
        if options["outer"].startswith("xz"):
            options["outer_level"] = self.xz_level
        command = [sys.executable, HERE.parent / "tests/bundles/make_bundle.py"]
        if recipe.next_release_of:
            base = self.get(recipe.next_release_of)
            command += ["--delta-from", base.path]
            key = base.path.parent.name + json.dumps(options, sort_keys=True)
        else:
            options["seed"] = self.seed
            key = json.dumps([options, self.source], sort_keys=True)
        folder = self.folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        path = folder / (name + recipe.suffix)
        truth = Path(f"{path}.TRUTH.json")
        if not truth.exists():  # written last
            say(f"making {path} (once)")
            folder.mkdir(parents=True, exist_ok=True)
            for key, value in options.items():
                command += ["--" + key.replace("_", "-"), str(value)]
            for source in self.source:
                command += ["--source", source]
            command += ["--cache", self.folder / "layers", "--out", path]
            subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        return Bundle(name, path, json.loads(truth.read_text()))


# ------------------------------------------------------------------------------------------------ measuring


@dataclass
class Run:
    """What one run of one program cost."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0  # of the largest process, mapped files counted
    peak_memory_bytes: int = 0  # of all processes together, mapped files not counted
    disk_bytes: int = 0
    registry_cpu_seconds: float = 0.0
    steps: dict = field(default_factory=dict)
    report: dict = field(default_factory=dict)

    def then(self, other: "Run") -> "Run":
        return Run(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.max_rss_bytes, other.max_rss_bytes),
            max(self.peak_memory_bytes, other.peak_memory_bytes),
            max(self.disk_bytes, other.disk_bytes),
            self.registry_cpu_seconds + other.registry_cpu_seconds,
            {**self.steps, **other.steps},
            {**self.report, **other.report},
        )


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        try:
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        except OSError:
            pass
    return found


def private_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def flat_bytes(folder: Path) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        pass  # a file went while we looked
    return total


def tree_bytes(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(base, name)).st_blocks * 512 for name in names)
    return total


class Failed(Exception):
    """A program ended with an error."""


def measure(command: list, step: str, env: dict, temp: Path, stdin: Path | None = None) -> Run:
    """Runs a command to its end. CPU time is that of all processes it waited for."""
    words = list(map(str, command))
    log = temp.parent / "output.txt"
    with open(log, "wb") as output, open(stdin or os.devnull, "rb") as given:
        began = time.monotonic()
        process = subprocess.Popen(words, env=env, stdin=given, stdout=output, stderr=subprocess.STDOUT)
        peak = {"memory": 0, "disk": 0}
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                peak["memory"] = max(peak["memory"], sum(map(private_bytes, family(process.pid))))
                peak["disk"] = max(peak["disk"], flat_bytes(temp))
                done.wait(SAMPLE_SECONDS)

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        done.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(errors="replace")[-1500:]
        raise Failed(f"{words[0]} ended with {process.returncode}:\n{tail}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, peak["memory"], peak["disk"], 0.0, {step: seconds})


# ------------------------------------------------------------------------------------------------ servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str) -> None:
    for _ in range(400):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.025)
    raise SystemExit(f"{url} does not answer")


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Mirrors:
    """Registries with nothing in them, on ports nobody has heard of."""

    hosts: list[str]
    processes: list[subprocess.Popen]

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(process.pid) for process in self.processes)


@contextmanager
def registries(storage: Path, count: int, link: dict | None = None):
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, storage, ignore_errors=True)
        hosts, processes = [], []
        for number in range(count):
            root, port = storage / str(number), free_port()
            root.mkdir(parents=True)
            config = storage / f"{number}.yml"
            # JSON is YAML. The cache is that of the configuration that Debian ships.
            config.write_text(json.dumps({
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(root)}, "cache": {"blobdescriptor": "inmemory"}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }))
            log = stack.enter_context(open(storage / f"{number}.log", "wb"))
            registry = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
            stack.callback(stop, registry)
            processes.append(registry)
            wait_for(f"http://127.0.0.1:{port}/v2/")
            if link:
                port = stack.enter_context(linked(port, link))
                wait_for(f"http://127.0.0.1:{port}/v2/")
            hosts.append(f"127.0.0.1:{port}")
        yield Mirrors(hosts, processes)


@contextmanager
def linked(port: int, link: dict):
    """The port of a long and narrow link to `port`."""
    here = free_port()
    words = [sys.executable, HERE / "link.py", "--listen", here, "--to", port, "--delay", link["delay"], "--rate", link["rate"]]
    process = subprocess.Popen(list(map(str, words)))
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", here)) == 0:
                    break
            time.sleep(0.025)
        yield here
    finally:
        stop(process)


def wire_seconds(size: int, link: dict) -> float:
    """How long the link alone takes for `size` bytes over four connections, until the last one has arrived."""
    share, done = size // 4, []
    sink = socket.create_server(("127.0.0.1", 0), backlog=16)

    def drain(connection: socket.socket) -> None:
        while connection.recv(1 << 18):
            pass
        connection.close()
        done.append(time.monotonic())

    def accept() -> None:
        while True:
            try:
                connection, _ = sink.accept()
            except OSError:
                return
            threading.Thread(target=drain, args=[connection], daemon=True).start()

    def send(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(bytes(share))
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    threading.Thread(target=accept, daemon=True).start()
    with linked(sink.getsockname()[1], link) as port:
        time.sleep(0.5)  # the knock of linked() is over
        done.clear()
        began = time.monotonic()
        senders = [threading.Thread(target=send, args=[port]) for _ in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    sink.close()
    return max(done) - began


# ------------------------------------------------------------------------------------------------ contenders


@dataclass
class Place:
    """Where a contender may write. What it remembers from cold to warm lies in `home`."""

    folder: Path

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ("home", "temp", "unpacked"):
            (self.folder / part).mkdir(parents=True)

    @property
    def env(self) -> dict:
        home, temp = str(self.folder / "home"), str(self.folder / "temp")
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("LAYERCAST", "REGISTRY_AUTH")) and k != "DOCKER_CONFIG"}
        return {**plain, "HOME": home, "XDG_STATE_HOME": home, "XDG_CACHE_HOME": home, "XDG_DATA_HOME": home, "TMPDIR": temp, "LAYERCAST_SPOOL_DIR": temp}

    @property
    def temp(self) -> Path:
        return self.folder / "temp"

    @property
    def unpacked(self) -> Path:
        return self.folder / "unpacked"


class Layercast:
    is_peer = False

    def __init__(self, program: Path, compression: str, extra: list[str]):
        self.program, self.compression, self.extra = program, compression, extra
        self.name = f"layercast {compression}"

    def can(self, _bundle: Bundle) -> bool:
        return True

    def push(self, bundle: Bundle, mirrors: Mirrors, place: Place, _processes: int) -> Run:
        report = place.folder / "report.json"
        command = [self.program, "--quiet", "push", "images", "--source", bundle.path, "--need-credential=false"]
        command += ["--layer-compression", self.compression, "--report", report]
        for host in mirrors.hosts:
            command += ["--private-registry", f"{host}/bench"]
        run = measure(command + self.extra, "push", place.env, place.temp)
        run.report = json.loads(report.read_text())
        run.peak_memory_bytes = max(run.peak_memory_bytes, run.report["peak_rss_bytes"])
        run.disk_bytes = max(run.disk_bytes, run.report["decode"]["spool_peak_bytes"])
        return run


class Peer:
    """Decompress, extract, then push image after image, several at a time: what people do today."""

    is_peer = True

    def __init__(self, name: str):
        self.name = name

    def can(self, bundle: Bundle) -> bool:
        return not (self.name == "oras" and bundle.is_archives) and not (self.name == "crane" and not bundle.is_archives)

    def _words(self, hosts: list[str]) -> list[str]:
        """The command that takes one line of jobs."""
        if self.name == "skopeo":
            return ["skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false"]
        if self.name == "crane":
            return ["crane", "push", "--insecure"]
        if self.name == "regctl":
            return ["regctl", *(word for host in hosts for word in ("--host", f"reg={host},tls=disabled")), "image"]
        return ["oras", "cp", "--from-oci-layout", "--to-plain-http"]

    def _job(self, bundle: Bundle, image: dict, folder: Path, place: str) -> str:
        if bundle.is_archives:
            file = folder / "bmpackages" / (image["name"].replace("/", "_").replace(":", "_") + ".tar")
            return {
                "skopeo": f"docker-archive:{file} docker://{place}",
                "crane": f"{file} {place}",
                "regctl": f"import {place} {file}",
            }[self.name]
        return {
            "skopeo": f"oci:{folder}:{image['name']} docker://{place}",
            "regctl": f"copy ocidir://{folder}@{image['digest']} {place}",
            "oras": f"{folder}@{image['digest']} {place}",
        }[self.name]

    def push(self, bundle: Bundle, mirrors: Mirrors, place: Place, processes: int) -> Run:
        unpack = {".xz": "xz -dc -T2", ".zst": "zstd -dcq"}[bundle.path.suffix]
        script = f'set -o pipefail; {unpack} "$0" | tar -x -C "$1"'
        run = measure(["bash", "-c", script, bundle.path, place.unpacked], "unpack", place.env, place.temp)
        jobs = place.folder / "jobs"
        targets = [(image, f"{host}/bench/{image['repository']}:{image['tag']}") for image in bundle.truth["images"] for host in mirrors.hosts]
        jobs.write_text("".join(self._job(bundle, image, place.unpacked, target) + "\n" for image, target in targets))
        run.disk_bytes = tree_bytes(place.unpacked)
        pushed = measure(["xargs", "-P", processes, "-L", "1", *self._words(mirrors.hosts)], "push", place.env, place.temp, jobs)
        pushed.disk_bytes += run.disk_bytes
        shutil.rmtree(place.unpacked)
        place.unpacked.mkdir()
        return run.then(pushed)


# ------------------------------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Case:
    """One line of the result: who is measured at what, and what layercast is held against."""

    what: str
    bundle: str
    ours: str = "gzip"  # the contender that the target is about
    phase: str = "cold"
    mirrors: int = 1
    also: tuple = ()  # other forms of ours that are shown
    processes: int = 4
    far: bool = False
    peers: bool = True
    target: float | None = None


CASES = {
    "first-cold": Case("30 docker-archives, .tar.xz of several blocks, cold, gzip layers", "first", target=0.50),
    "first-zstd": Case("the same, zstd layers", "first", ours="zstd", target=0.40),
    "first-warm": Case("the same, nothing to do", "first", phase="warm", target=0.02),
    "first-four": Case("the same, cold, four mirrors", "first", mirrors=4, also=("zstd",), target=0.30),
    "one-block": Case("docker-archives, .tar.xz of one block, pushed, against `xz -dc` alone", "one-block", peers=False, target=0.85),
    "decode": Case(".tar.xz of several blocks, decoding alone, against `xz -dc -T2`", "first", peers=False, target=0.66),
    "oci-cold": Case("OCI layout, .tar.zst of many frames, cold", "oci", target=0.55),
    "oci-warm": Case("the same, nothing to do", "oci", phase="warm", target=0.10),
    "small-cold": Case("500 small images, cold", "small", target=0.40),
    "small-warm": Case("the same, nothing to do", "small", phase="warm", target=0.10),
    "delta": Case("next release with 5 layers changed: bytes decoded", "oci-next", peers=False),
    "far-oci": Case("OCI layout over 80 ms and 25 MB/s: share of the link that is used", "oci", processes=12, far=True, target=0.95),
    "far-small": Case("60 small images over 80 ms and 25 MB/s", "far-small", processes=12, far=True, target=0.40),
    "discard": Case("plain OCI layout of large blobs to a sink, against one core's sha256", "huge", peers=False, target=0.80),
}


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.work = Path(options.work).resolve()
        self.bundles = Bundles(self.work / "bundles", options.quick, options.seed, options.source, options.xz_level)
        self.storage = Path(options.storage or default_storage(self.work)) / f"layercast-bench-{os.getpid()}"
        self.program = Path(options.layercast).resolve()
        self.ours = {name: Layercast(self.program, name, options.layercast_arg) for name in ("gzip", "zstd")}
        self.peers = [Peer(name) for name in ("skopeo", "crane", "regctl", "oras") if shutil.which(name) and name not in options.without]
        # (bundle, mirrors, far), contender, phase -> runs
        self.runs: dict[tuple, dict[str, dict[str, list[Run]]]] = {}
        # case -> name of a figure -> values
        self.figures: dict[str, dict[str, list[float]]] = {}

    def place(self) -> Place:
        return Place(self.work / "run")

    def figure(self, case: str, name: str, value: float) -> None:
        self.figures.setdefault(case, {}).setdefault(name, []).append(value)

    def keep(self, key: tuple, contender: str, phase: str, run: Run) -> None:
        self.runs.setdefault(key, {}).setdefault(contender, {}).setdefault(phase, []).append(run)

    # -- one repetition

    def repetition(self, number: int, chosen: list[str]) -> None:
        scenarios: dict[tuple, dict] = {}
        for name in chosen:
            case = CASES[name]
            special = getattr(self, "case_" + name.replace("-", "_"), None)
            if special:
                special(case)
                continue
            wanted = scenarios.setdefault((case.bundle, case.mirrors, case.far), {"ours": [], "warm": [], "processes": case.processes, "peers": False})
            wanted["ours"] += [form for form in (case.ours, *case.also) if form not in wanted["ours"]]
            wanted["peers"] |= case.peers
            if case.phase == "warm":
                wanted["warm"].append(case.ours)
        for key, wanted in scenarios.items():
            contenders = [self.ours[form] for form in wanted["ours"]]
            contenders += [peer for peer in self.peers if wanted["peers"] and peer.can(self.bundles.get(key[0]))]
            turn = number % len(contenders)  # nobody is always the first
            for contender in contenders[turn:] + contenders[:turn]:
                warm = bool(wanted["warm"]) and (contender.is_peer or contender.compression in wanted["warm"])
                self.contend(key, contender, wanted["processes"], warm)

    def contend(self, key: tuple, contender, processes: int, warm: bool) -> None:
        name, count, far = key
        bundle, place = self.bundles.get(name), self.place()
        with registries(self.storage, count, FAR if far else None) as mirrors:
            for phase in ["cold", "warm"] if warm else ["cold"]:
                before = mirrors.cpu_seconds()
                try:
                    run = contender.push(bundle, mirrors, place, processes)
                except Failed as failed:
                    if not contender.is_peer or contender.name == "skopeo":
                        raise
                    say(f"{contender.name} is left out from here on: {failed}")
                    self.peers = [peer for peer in self.peers if peer.name != contender.name]
                    return
                run.registry_cpu_seconds = mirrors.cpu_seconds() - before
                self.keep(key, contender.name, phase, run)
                where = f"{name}{' far' if far else ''}{f' x{count}' if count > 1 else ''}"
                say(f"  {where:12} {phase:5} {contender.name:16} {run.seconds:7.2f} s")

    def alone(self, key: tuple, contender: str, command: list) -> Run:
        place = self.place()
        run = measure(command, "alone", place.env, place.temp)
        self.keep(key, contender, "cold", run)
        say(f"  {key[0]:12} alone {contender:16} {run.seconds:7.2f} s")
        return run

    # -- cases that are more than a push

    def case_one_block(self, case: Case) -> None:
        key = (case.bundle, case.mirrors, case.far)
        self.alone(key, "xz -dc", ["xz", "-dc", self.bundles.get(case.bundle).path])
        self.contend(key, self.ours[case.ours], case.processes, False)

    def case_decode(self, case: Case) -> None:
        path, key = self.bundles.get(case.bundle).path, ("decode", 0, False)
        xz = self.alone(key, "xz -dc -T2", ["xz", "-dc", "-T2", path])
        place = self.place()
        run = measure([self.program, "bench", "decode", path, "--json"], "decode", place.env, place.temp)
        told = json.loads((place.folder / "output.txt").read_text())
        self.keep(key, "layercast bench decode", "cold", Run(seconds=told["seconds"], peak_memory_bytes=run.peak_memory_bytes, report=told))
        say(f"  {'decode':12} alone {'layercast':16} {told['seconds']:7.2f} s")
        self.figure("decode", "ratio", told["seconds"] / xz.seconds)

    def case_delta(self, case: Case) -> None:
        base, following, place = self.bundles.get("oci"), self.bundles.get(case.bundle), self.place()
        changed = following.truth["delta"]["new_bytes"]
        with registries(self.storage, 1) as mirrors:
            self.ours[case.ours].push(base, mirrors, place, 1)
            run = self.ours[case.ours].push(following, mirrors, place, 1)
        self.keep((case.bundle, 1, False), self.ours[case.ours].name, "cold", run)
        decoded = run.report["decode"]["bytes"]
        say(f"  {case.bundle:12} delta layercast        {run.seconds:7.2f} s, {megabytes(decoded)} decoded for {megabytes(changed)} of changed blobs")
        self.figure("delta", "decoded_bytes", decoded)
        self.figure("delta", "changed_bytes", changed)
        self.figure("delta", "allowed_bytes", 1.5 * changed + 16 * MIB)
        self.figure("delta", "share of what is allowed", decoded / (1.5 * changed + 16 * MIB))

    def case_far_oci(self, case: Case) -> None:
        bundle, key = self.bundles.get(case.bundle), (case.bundle, case.mirrors, case.far)
        wire = wire_seconds(bundle.blob_bytes, FAR)
        self.figure("far-oci", "seconds of the wire alone", wire)
        say(f"  {case.bundle + ' far':12} alone the wire         {wire:7.2f} s")
        contenders = [self.ours[case.ours], *(peer for peer in self.peers if peer.can(bundle))]
        for contender in contenders:
            self.contend(key, contender, case.processes, False)
        seconds = self.runs[key][self.ours[case.ours].name]["cold"][-1].seconds
        self.figure("far-oci", "share of the link", wire / seconds)

    def case_discard(self, case: Case) -> None:
        bundle, place = self.bundles.get(case.bundle), self.place()
        sha256 = hash_rate()
        with open(self.work / "sink.log", "wb") as log:
            command = [str(self.program), "serve", "--discard", "--listen", "127.0.0.1:0"]
            sink = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
            try:
                host = sink.stdout.readline().decode().rsplit("http://", 1)[1].strip()
                wait_for(f"http://{host}/v2/")
                run = self.ours[case.ours].push(bundle, Mirrors([host], [sink]), place, 1)
            finally:
                stop(sink)
        self.keep((case.bundle, 1, False), self.ours[case.ours].name, "cold", run)
        rate = bundle.blob_bytes / run.seconds
        say(f"  {case.bundle:12} sink  layercast        {run.seconds:7.2f} s, {megabytes(rate)}/s against sha256 at {megabytes(sha256)}/s")
        self.figure("discard", "bytes_per_second", rate)
        self.figure("discard", "sha256_bytes_per_second", sha256)
        self.figure("discard", "ratio", rate / sha256)

    # -- results

    def verdict(self, name: str) -> dict:
        """The figure of a case and whether it reaches its target."""
        case = CASES[name]
        if name in ("decode", "discard", "delta", "far-oci"):
            figure = {"delta": "share of what is allowed", "far-oci": "share of the link"}.get(name, "ratio")
            value = statistics.median(self.figures[name][figure])
            at_least = name in ("discard", "far-oci")
            target = case.target if case.target is not None else 1.0
        else:
            phases = self.runs[(case.bundle, case.mirrors, case.far)]
            ours = seconds(phases[self.ours[case.ours].name][case.phase])
            others = {who: seconds(runs[case.phase]) for who, runs in phases.items() if not who.startswith("layercast") and case.phase in runs}
            best = min(others, key=others.get)
            value, at_least, target, figure = ours / others[best], False, case.target, f"of {best}"
        met = value >= target if at_least else value <= target
        return {"case": name, "what": case.what, "value": value, "figure": figure, "target": target, "at_least": at_least, "met": met}

    def show(self, chosen: list[str]) -> dict:
        lines = [f"{'bundle':14}{'phase':6}{'contender':24}{'wall s':>8}{'(min-max)':>16}{'cpu s':>8}{'regs s':>8}{'max RSS':>10}{'memory':>10}{'disk':>10}"]
        measured, over = [], []
        for (bundle, mirrors, far), contenders in self.runs.items():
            label = bundle + (f" x{mirrors}" if mirrors > 1 else "") + (" far" if far else "")
            for contender, phases in contenders.items():
                for phase, runs in phases.items():
                    walls, memory = [run.seconds for run in runs], max(run.peak_memory_bytes for run in runs)
                    middle = {key: statistics.median(getattr(run, key) for run in runs) for key in ("cpu_seconds", "registry_cpu_seconds", "max_rss_bytes", "disk_bytes")}
                    lines.append(
                        f"{label:14}{phase:6}{contender:24}{statistics.median(walls):8.2f}{f'{min(walls):.2f}-{max(walls):.2f}':>16}"
                        f"{middle['cpu_seconds']:8.2f}{middle['registry_cpu_seconds']:8.2f}"
                        f"{mebibytes(middle['max_rss_bytes']):>10}{mebibytes(memory):>10}{megabytes(middle['disk_bytes']):>10}"
                    )
                    steps = {step: statistics.median(run.steps[step] for run in runs) for step in runs[0].steps}
                    measured.append({"bundle": bundle, "mirrors": mirrors, "far": far, "phase": phase, "contender": contender,
                                     "seconds": walls, "median_seconds": statistics.median(walls), "steps": steps, **middle, "peak_memory_bytes": memory,
                                     "reports": [run.report for run in runs]})
                    if contender.startswith("layercast") and memory > MEMORY_LIMIT:
                        over.append(f"{label} {phase} {contender}: {mebibytes(memory)}")
        verdicts = [self.verdict(name) for name in chosen]
        lines.append("")
        for verdict in verdicts:
            sign = ">=" if verdict["at_least"] else "<="
            word = "met" if verdict["met"] else "MISSED"
            lines.append(f"{verdict['case']:12}{verdict['value']:8.3f} {verdict['figure']:26} target {sign} {verdict['target']:.2f}  {word:7} {verdict['what']}")
        lines.append(f"{'memory':12}{'' if over else 'all'} at most {mebibytes(MEMORY_LIMIT)}, mapped files aside: {'MISSED: ' + '; '.join(over) if over else 'met'}")
        print("\n".join(lines))
        return {"measured": measured, "figures": self.figures, "verdicts": verdicts, "memory_over_limit": over}


def seconds(runs: list[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def hash_rate() -> float:
    """Bytes of sha256 per second on one core."""
    data, count, began = bytes(MIB), 0, time.perf_counter()
    state = hashlib.sha256()
    while time.perf_counter() - began < 0.7:
        state.update(data)
        count += 1
    return count * MIB / (time.perf_counter() - began)


def mebibytes(size: float) -> str:
    return f"{size / MIB:.0f} MiB"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def default_storage(work: Path) -> str:
    """Memory, where there is enough: a disk that others use is a source of noise."""
    try:
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize > 6 << 30:
            return "/dev/shm"
    except OSError:
        pass
    return str(work)


def first_line(command: list[str]) -> str:
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return next(iter((out.stdout or out.stderr).splitlines()), "?")


def machine() -> dict:
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    versions = {"xz": ["xz", "--version"], "zstd": ["zstd", "--version"], "docker-registry": ["docker-registry", "--version"], "skopeo": ["skopeo", "--version"],
                "crane": ["crane", "version"], "regctl": ["regctl", "version"], "oras": ["oras", "version"]}
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "kernel": platform.release(),
            "load_before": os.getloadavg()[0], "tools": {name: first_line(words) for name, words in versions.items() if shutil.which(name)}}


def choose(wanted: str) -> list[str]:
    if not wanted:
        return list(CASES)
    chosen = []
    for word in wanted.split(","):
        found = [name for name in CASES if name == word or name.startswith(word + "-")]
        if not found:
            raise SystemExit(f"no such case: {word}; there are {', '.join(CASES)}")
        chosen += [name for name in found if name not in chosen]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description="layercast against its peers, in turn, in one run")
    parser.add_argument("--layercast", default="target/release/layercast", metavar="PROGRAM", help="the program to measure")
    parser.add_argument("--layercast-arg", action="append", default=[], metavar="ARG", help="one more argument for its pushes (repeatable), as --layercast-arg=--memory=64MiB")
    parser.add_argument("--case", default="", metavar="NAMES", help="cases, with commas between them; a word stands for all that begin with it")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--repeat", type=int, metavar="N", help="repetitions [default: 5; 1 with --quick]")
    parser.add_argument("--quick", action="store_true", help="small bundles, once: a smoke test, whose figures say little")
    parser.add_argument("--prepare", action="store_true", help="make the bundles and end")
    parser.add_argument("--without", action="append", default=[], metavar="PEER", help="leave a peer out (repeatable)")
    parser.add_argument("--work", default="target/bench-peers", metavar="DIR", help="bundles and what is unpacked")
    parser.add_argument("--storage", metavar="DIR", help="where the registries keep their blobs [default: /dev/shm if it has 6 GiB, else the work folder]")
    parser.add_argument("--json", metavar="FILE", help="where the figures go [default: results.json in the work folder]")
    parser.add_argument("--seed", default="bench", help="of the bundles")
    parser.add_argument("--source", action="append", default=[], metavar="DIR", help="files that layers are made of, or 'synthetic' [default: /usr]")
    parser.add_argument("--xz-level", type=int, default=6, metavar="N", help="of the .tar.xz bundles")
    options = parser.parse_args()
    if options.list:
        for name, case in CASES.items():
            print(f"{name:12} {case.what}")
        return
    chosen = choose(options.case)
    bench = Bench(options)
    if not bench.peers:
        raise SystemExit("no peer is here: on Debian, apt-get install skopeo")
    repetitions = options.repeat or (1 if options.quick else 5)
    result = {"schema_version": 1, "quick": options.quick, "repetitions": repetitions, "machine": machine(), "layercast": first_line([str(bench.program), "--version"])}
    for name in {CASES[name].bundle for name in chosen}:
        bench.bundles.get(name)
    if options.prepare:
        return
    try:
        for number in range(repetitions):
            say(f"repetition {number + 1} of {repetitions}")
            bench.repetition(number, chosen)
    finally:
        shutil.rmtree(bench.work / "run", ignore_errors=True)
        shutil.rmtree(bench.storage, ignore_errors=True)
    result["bundles"] = {name: {"options": {k: v for k, v in bundle.truth["options"].items()}, **bundle.truth["bundle"], **bundle.truth["totals"]} for name, bundle in bench.bundles.made.items()}
    result |= bench.show(chosen)
    path = Path(options.json or bench.work / "results.json")
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        raise SystemExit(str(failed)) from None
