"""Does the code still compute the same? Tiny runs, recorded; two recordings, compared bit by bit.

    python benchmarks/equality.py record DIR [--only NAME ...] [--repo REPO]
    python benchmarks/equality.py compare DIR_A DIR_B [--only NAME ...]

``record`` makes every case in a process of its own, on one thread, two side by side, without
network and with a cache that starts empty (DIR/cache), and writes DIR/record.json: exit codes,
numbers, and a hash of every picture and tensor. ``--repo`` is another checkout, whose code is run;
``--only`` adds to what DIR holds, and makes the cases that these need if they are not there.
``compare`` says what differs, and by how much as long as both folders hold the files. Recordings
are comparable if one machine made them with the same packages: other processors and versions of
torch round differently.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
Record = dict[str, Any]

# ------------------------------------------------------------------------------------ the cases


@dataclass(frozen=True)
class Case:
    """One command. In its words DIR is the recording's folder, and OUT the case's own in it.

    Attributes:
        words: what follows ``run.py``; those that begin with ``-c`` are given to Python itself.
        after: the cases whose results it uses.
        code: the exit code that it should have; of a refusal (2) nothing else is recorded.
    """

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...] = ()
    code: int = 0


# trainer.batch is set: left alone, it follows from the memory that happens to be free
CPU = "trainer=cpu trainer.threads=1 trainer.batch=4 trainer.progress=false logger=csv"
RUN = f"{CPU} offline=true output=OUT name=run"
FEW = "dataset.train=4 dataset.validation=2 dataset.test=4 sampler.s_for=4 sampler.s_gen=2"
TUNE = f"{RUN} {FEW} method.epochs=1 method.s_train=2"
DRAW = f"{RUN} sampler.s_gen=4 task.count=4 metric.reference=8"
DRAW += " metric.kid_sizes=[2,4] metric.bootstrap=50"
FILES = "dataset=folder dataset.root=DIR/made/pictures metric.identity=false"
DDIM = "checkpoint.name=DIR/made/ddim.pt checkpoint.image_size=32"
ADM = "checkpoint.name=DIR/made/adm.pt checkpoint.image_size=32"
CIFAR10 = "dataset.root=DIR/made/cifar10 dataset.train=12 dataset.test=6"
NETS = "clip.name=DIR/pretrain_cifar10_clip/latest/cifar10_clip.safetensors clip.heldout=null"
TRAIN = f"{RUN} task.steps=2 task.batch=8 task.compile=false task.pool=24"
KINDS = "contrastive,spherical,single,global,directional,contrastive_directional"
FOLDERS = "--real DIR/made/real --edited DIR/made/edited --output OUT --device cpu --bootstrap 50"
TEXTS = ("--source-text", "person", "--text", "person with red hair")
API = """
import json
import dclip, numpy, torch
from PIL import Image
from safetensors.torch import save_file
torch.set_num_threads(1)
faces = [numpy.array(Image.open(f"DIR/made/real/{i:02d}.png")) for i in range(2)]
x = torch.from_numpy(numpy.stack(faces)).permute(0, 3, 1, 2) / 127.5 - 1
model = dclip.load_model("toonfaces")
z = dclip.invert(model, x, t0=400, steps=4)
again = dclip.generate(model, z, t0=400, steps=4, solver="ab2", eta=0)
edited = dclip.edit(model, x, "DIR/lora/latest", gamma=0.7)
found = {"latents": z, "again": again, "edited": edited}
save_file({name: value.contiguous() for name, value in found.items()}, "OUT/api.safetensors")
json.dump(dclip.measure(x, edited), open("OUT/metrics.json", "w"))
"""


def case(name: str, words: str, *more: str, after: tuple[str, ...] = (), code: int = 0) -> Case:
    """A case from words in one string, and words with spaces in them."""
    return Case(name, (*words.split(), *more), after, code)


def tuned(name: str, words: str, experiment: str = "toonfaces_red_hair") -> Case:
    """A fine-tuning."""
    return case(name, f"experiment={experiment} {TUNE} {words}")


def applied(name: str, words: str, *edits: str) -> Case:
    """A run that applies what other cases have learned."""
    folders = ",".join(f"DIR/{edit}/latest" for edit in edits)
    adapter = f"[{folders}]" if len(edits) > 1 else folders
    return case(name, f"{words} {RUN} {FEW} edit.adapter={adapter}", after=edits)


CASES = (
    # every objective, and what else a fine-tuning can be told
    tuned("chain", "preset=chain sampler=ddim loss.form=cosine method.lr_schedule=paper"),
    tuned("chain_checkpointed", "preset=chain_checkpointed trainer.precision=bf16"),
    tuned("gpu_efficient", "preset=gpu_efficient"),
    tuned("gpu_efficient_faithful", "preset=gpu_efficient_faithful method.batch=2"),
    tuned("last_k", "preset=last_k clip.antialias=false"),
    tuned("annealed", "preset=annealed method.epochs=2", "toonfaces_tanned"),
    tuned("onestep", "preset=onestep", "toonfaces_smiling"),
    tuned("onestep_invert", "preset=onestep_invert method.drawn_t=true"),
    tuned("onestep_lora", "preset=onestep_lora sampler=ab2 sampler.grid=quadratic"),
    tuned("lora", "preset=lora"),
    tuned("shared", "preset=[quick,shared]"),
    tuned("shared_beard", "method=gpu_efficient preset=shared", "toonfaces_beard"),
    tuned("faithful", "preset=faithful", "toonfaces_zombie"),
    tuned("threads", "preset=chain trainer.threads=2"),
    tuned("processes", "preset=gpu_efficient trainer.devices=2"),
    tuned("sampled", "dataset=sampled dataset.steps=4"),
    tuned("sampled_latents", "dataset=sampled dataset.steps=6 dataset.invert=false preset=chain"),
    tuned("single_image", "input=DIR/made/real/00.png method.epochs=2", "single_image"),
    tuned("examples", "edit.examples=DIR/made/edited", "examples"),
    # learned edits, applied
    applied("edit", "task=edit", "gpu_efficient"),
    applied("edit_files", "task=edit gamma=0.5 input=DIR/made/pictures", "shared"),
    applied("edit_solvers", "-m task=edit sampler=ab2,belm degrees=[]", "lora"),
    applied("degrees", "experiment=apply_degrees", "lora"),
    applied("mix", "experiment=apply_mix", "gpu_efficient", "lora"),
    applied("mix_shared", "experiment=apply_mix", "shared", "shared_beard"),
    applied("fade", "experiment=apply_fade", "shared_beard", "lora"),
    applied("soup", "experiment=apply_soup", "gpu_efficient", "shared_beard"),
    applied("stochastic", "experiment=apply_stochastic variants=2", "last_k"),
    applied("ancestral", "task=edit sampler=ddpm sampler.encode=stochastic variants=2", "onestep"),
    applied("strokes", "experiment=translate_strokes task.steps=4 variants=2", "lora"),
    applied("sketch", "experiment=translate_sketch task.steps=4 task.rounds=1", "lora"),
    case("pixel", f"experiment=translate_pixel {RUN} {FEW} task.steps=4 edit.adapter=null"),
    case("api", "-c", API, after=("lora",)),
    # there and back
    case(
        "solvers",
        f"-m task=reconstruct {RUN} {FEW} sampler=ddim,ddpm,ab2,heun,dpmpp_2m,fixed_point,belm",
    ),
    case(
        "grids",
        f"-m task=reconstruct {RUN} {FEW} sampler.grid=uniform,quadratic,log_snr,rho"
        " sampler.final_step=to_t0 dataset.only_applicable=false",
    ),
    # drawn from noise, freely and under guidance
    case(
        "guided_ddpm",
        f"-m experiment=toonfaces_unconditional guidance=none,{KINDS} {DRAW} task.leak=8",
        "edit.source=person",
    ),
    case(
        "guided_ddim",
        f"-m experiment=toonfaces_unconditional sampler=ddim guidance=none,{KINDS} {DRAW}",
        "edit.source=person",
    ),
    case(
        "guided_sees",
        f"-m experiment=toonfaces_contrastive guidance.sees=x_t,x0,x0_through_unet,blend {DRAW}"
        " guidance.cutouts=2 guidance.noise=0.1 guidance.tv=0.1 guidance.range=0.1",
    ),
    case(
        "guided_normalised",
        f"-m experiment=toonfaces_spherical guidance.normalise=none,eps,bounded,cap {DRAW}"
        " guidance.time_travel=1 guidance.every=2 guidance.clips=[toonfaces,toonfaces_heldout]",
    ),
    case(
        "guided_faithful",
        f"-m task=sample guidance=contrastive_faithful,spherical_faithful {DRAW}",
        "guidance.targets=a person with a beard",
    ),
    case("compound", f"experiment=toonfaces_compound {DRAW} task.leak=8"),
    case(
        "guided_images",
        f"experiment=toonfaces_contrastive {DRAW} task.start=images task.clip_x0=false"
        " dataset.test=2 sampler.s_for=4 sampler.t0=500",
    ),
    case(
        "latents",
        f"-m experiment=toonfaces_latent method.objective={KINDS} {DRAW} method.steps=2"
        " method.s_opt=2 task.count=2 edit.source=person",
    ),
    case(
        "latents_guided",
        f"experiment=toonfaces_latent guidance=contrastive {DRAW} method.steps=2 method.s_opt=2"
        " method.checkpointing=false method.id=0.1 method.l1=0.1",
    ),
    # files that others have published, and photographs
    case("foreign_ddim", f"task=reconstruct sampler=ab2 {RUN} {FEW} {FILES} {DDIM}"),
    case("foreign_adm", f"task=reconstruct sampler=ddpm {RUN} {FEW} {FILES} {ADM}"),
    case(
        "foreign_edit",
        f"task=edit edit.adapter=DIR/made/human_zombie_t601.pth {RUN} {FEW} {FILES} {DDIM}",
    ),
    case("foreign_tuned", f"{TUNE} {FILES} {DDIM} edit=blond_hair loss.id=0"),
    # training from nothing, and what was trained at work
    case("pretrain_identity", f"experiment=pretrain_toonfaces_identity {TRAIN}"),
    case("pretrain_clip", f"experiment=pretrain_toonfaces_clip {TRAIN} task.robust=1"),
    case("pretrain_judge", f"experiment=pretrain_toonfaces_judge {TRAIN}"),
    case("pretrain_cifar10_ddpm", f"experiment=pretrain_cifar10_ddpm {TRAIN} {CIFAR10}"),
    case("pretrain_cifar10_clip", f"experiment=pretrain_cifar10_clip {TRAIN} {CIFAR10}"),
    case(
        "cifar10",
        f"experiment=cifar10_contrastive {DRAW} {CIFAR10} {DDIM} {NETS}"
        " metric.kid=false dataset.category=airplane",
        after=("pretrain_cifar10_clip",),
    ),
    # everything that is no run
    case("metrics", f"metrics {FOLDERS} --domain toonfaces --kid-subset 4", *TEXTS),
    case("metrics_preset", f"metrics {FOLDERS} --preset torchmetrics --size 48"),
    case("metrics_sets", f"metrics {FOLDERS} --domain toonfaces --sets --kid-subset 4"),
    case("study", "study=DIR/made/study.yaml output=OUT workers=1"),
    case("search", "study=DIR/made/search.yaml output=OUT workers=1"),
    case(
        "report",
        "task=report runs=DIR/gpu_efficient,DIR/chain by=method.objective columns=mae,s_dir,id",
        "output=OUT",
        after=("gpu_efficient", "chain"),
    ),
    case("plan", f"plan=true experiment=toonfaces_red_hair {RUN}"),
    case("plan_photographs", f"plan=true experiment=celeba_tanned {RUN}"),
    case("refused_value", f"experiment=toonfaces_red_hair sampler.t0=2000 {RUN}", code=2),
    case("refused_name", f"experiment=toonfaces_red_hair sampler.tt0=3 {RUN}", code=2),
    case("refused_edit", f"task=edit edit.adapter=DIR/made/none {RUN}", code=2),
    case("refused_weights", f"experiment=celeba_tanned {RUN}", code=2),
)

# ------------------------------------------------------------------------ what they start from

STUDY = f"""
title: "A fine-tuning, its edit, a reconstruction"
base: [{", ".join(f"{CPU} {FEW}".split())}]
grids:
  - key: {{kind: edit}}
    base: [task=edit]
    adapter: [experiment=toonfaces_red_hair, method.epochs=1, method.s_train=2]
    axes: {{gamma: [1]}}
  - key: {{kind: reconstruction}}
    base: [task=reconstruct]
    axes: {{gamma: [1]}}
columns: [mae, s_dir, id]
figure: [mae, id]
pictures: true
"""
SEARCH = f"""
title: "A search"
base: [experiment=toonfaces_red_hair, {", ".join(f"{CPU} {FEW}".split())}, method.s_train=2]
goal: val_counterfactual_ratio
trials: 2
space:
  method.lr: {{low: 1.0e-4, high: 1.0e-3, log: true}}
  method.epochs: [1]
columns: [mae, s_dir]
"""
Shapes = dict[str, tuple[int, ...]]


def layer(name: str, *shape: int) -> Shapes:
    """Weight and bias of one layer."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def ddim_layers() -> Shapes:
    """A network of two levels (32 and 64 channels) under the names of the ddim code."""
    at = {"down.0.block.0": (32, 32), "down.1.block.0": (32, 64), "mid.block_1": (64, 64)}
    at |= {"mid.block_2": (64, 64), "up.1.block.0": (128, 64), "up.1.block.1": (96, 64)}
    at |= {"up.0.block.0": (96, 32), "up.0.block.1": (64, 32)}
    found = layer("temb.dense.0", 128, 32) | layer("temb.dense.1", 128, 128)
    found |= layer("conv_in", 32, 3, 3, 3) | layer("norm_out", 32) | layer("conv_out", 3, 32, 3, 3)
    found |= layer("down.0.downsample.conv", 32, 32, 3, 3)
    found |= layer("up.1.upsample.conv", 64, 64, 3, 3)
    for name, (a, b) in at.items():
        found |= layer(f"{name}.norm1", a) | layer(f"{name}.conv1", b, a, 3, 3)
        found |= layer(f"{name}.temb_proj", b, 128)
        found |= layer(f"{name}.norm2", b) | layer(f"{name}.conv2", b, b, 3, 3)
        found |= layer(f"{name}.nin_shortcut", b, a, 1, 1) if a != b else {}
    for name in ("down.1.attn.0", "mid.attn_1", "up.1.attn.0", "up.1.attn.1"):
        found |= layer(f"{name}.norm", 64)
        for part in ("q", "k", "v", "proj_out"):
            found |= layer(f"{name}.{part}", 64, 64, 1, 1)
    return found


def adm_layers() -> Shapes:
    """The same with a learned variance, under the names of the ADM code."""
    at = {"input_blocks.1.0": (32, 32), "input_blocks.2.0": (32, 32), "input_blocks.3.0": (32, 64)}
    at |= {"middle_block.0": (64, 64), "middle_block.2": (64, 64), "output_blocks.0.0": (128, 64)}
    at |= {"output_blocks.1.0": (96, 64), "output_blocks.1.2": (64, 64)}
    at |= {"output_blocks.2.0": (96, 32), "output_blocks.3.0": (64, 32)}
    found = layer("time_embed.0", 128, 32) | layer("time_embed.2", 128, 128)
    found |= layer("input_blocks.0.0", 32, 3, 3, 3) | layer("out.0", 32)
    found |= layer("out.2", 6, 32, 3, 3)
    for name, (a, b) in at.items():
        found |= layer(f"{name}.in_layers.0", a) | layer(f"{name}.in_layers.2", b, a, 3, 3)
        found |= layer(f"{name}.emb_layers.1", 2 * b, 128)
        found |= layer(f"{name}.out_layers.0", b) | layer(f"{name}.out_layers.3", b, b, 3, 3)
        found |= layer(f"{name}.skip_connection", b, a, 1, 1) if a != b else {}
    for name in ("input_blocks.3.1", "middle_block.1", "output_blocks.0.1", "output_blocks.1.1"):
        found |= layer(f"{name}.norm", 64) | layer(f"{name}.qkv", 192, 64, 1)
        found |= layer(f"{name}.proj_out", 64, 64, 1)
    return found


def random_weights(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Random weights that keep the size of what passes through; norms are near 1."""
    random, found = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        noise = random.standard_normal(shape)
        if len(shape) > 1:
            noise /= np.sqrt(np.prod(shape[1:]))
        else:
            noise = 0.1 * noise + name.endswith("weight")
        found[name] = torch.from_numpy(noise.astype(np.float32))
    return found


def paint(path: Path, seed: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> None:
    """A picture of soft random blots."""
    blots = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)


def make_inputs(folder: Path) -> None:
    """Pictures, published-looking checkpoints, a study and a search, all decided by seeds."""
    shutil.rmtree(folder, ignore_errors=True)
    for i in range(6):
        paint(folder / "real" / f"{i:02d}.png", i)
        paint(folder / "edited" / f"{i:02d}.png", 10 * i + 1)
        for name in ("airplane", "automobile"):
            paint(folder / "cifar10" / "train" / name / f"{i:04d}.png", 100 + i, (32, 32))
            paint(folder / "cifar10" / "test" / name / f"{i:04d}.png", 200 + i, (32, 32))
    for i in range(12):
        mode = ("RGB", "L", "RGBA")[i % 3]
        paint(folder / "pictures" / f"{i:02d}.png", 300 + i, (70 + i, 64), mode)
    ddim, change = random_weights(ddim_layers(), 0), random_weights(ddim_layers(), 1)
    torch.save(ddim, folder / "ddim.pt")
    torch.save({k: v + 0.05 * change[k] for k, v in ddim.items()}, folder / "human_zombie_t601.pth")
    torch.save(random_weights(adm_layers(), 2), folder / "adm.pt")
    (folder / "study.yaml").write_text(STUDY, "utf-8")
    (folder / "search.yaml").write_text(SEARCH, "utf-8")


# ------------------------------------------------------------------------------------- recording

# what no two runs share: times, memory, the machine and its versions
PASSING = re.compile(r"seconds|time_ratio|peak_memory|environment|device|basis")
DATED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(_\w+)?(-\d+)?")


def execute(this: Case, folder: Path, repo: Path) -> int:
    """Run one case in its own folder; its exit code."""
    out = folder / this.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    words = [re.sub(r"\bDIR\b", str(folder), word) for word in this.words]
    words = [re.sub(r"\bOUT\b", str(out), word) for word in words]
    ours = ("DCLIP_", "WANDB_", "HYDRA_", "TORCH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    more = {"PYTHONPATH": str(repo), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONHASHSEED": "0"}
    more |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    script = [] if words[0] == "-c" else [str(repo / "run.py")]
    with (out / "said.txt").open("wb") as said:
        done = subprocess.run(
            [sys.executable, *script, *words], cwd=out, env=kept | more, check=False,
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    return done.returncode


def files_of(out: Path) -> Iterator[tuple[str, Path]]:
    """Files of a case with names that do not tell the date: runs of one folder are numbered."""
    folders = {p.parent for p in out.rglob("config.yaml") if DATED.fullmatch(p.parent.name)}
    numbers: dict[Path, str] = {}
    for parent in {p.parent for p in folders}:
        runs = [p for p in folders if p.parent == parent]
        runs.sort(key=lambda p: (p / "config.yaml").stat().st_mtime_ns)
        numbers |= {run: f"run{k}" for k, run in enumerate(runs, 1)}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        parts = [numbers.get(p, p.name) for p in (*reversed(path.parents), path)]
        yield DATED.sub("DATE", "/".join(parts[len(out.parts) :])), path


def numbers_in(node: Any, name: str) -> Iterator[tuple[str, float]]:
    """All numbers of a nested document by their path, without what no two runs share."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if not PASSING.search(str(key)):
                yield from numbers_in(value, f"{name}:{key}")
    elif isinstance(node, int | float):
        yield name, node
    elif isinstance(node, str) and re.fullmatch(r"-?(nan|inf|[\d.]+(e-?\d+)?)", node):
        yield name, float(node)


def document(path: Path) -> Any:
    """The content of a file that holds numbers; None for any other."""
    if path.name == "metrics.json" or path.parent.name == "plans":
        return json.loads(path.read_text("utf-8"))
    if path.name == "curves.jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if path.name in ("rows.csv", "traces.csv", "table.csv"):
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    return None


def arrays(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every frame of a picture, or every tensor of a file, by name."""
    if path.suffix in (".png", ".gif"):
        with Image.open(path) as picture:
            for k, frame in enumerate(ImageSequence.Iterator(picture)):
                yield f"frame {k}", np.asarray(frame.convert("RGBA"))
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            for key in sorted(file.keys()):
                value = file.get_tensor(key)
                wide = value.float() if value.dtype == torch.bfloat16 else value
                yield f"{value.dtype} {key}", wide.numpy()


def hashed(array: NDArray[Any]) -> str:
    """SHA-256 of an array's shape, type and content."""
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def result_of(this: Case, code: int, out: Path) -> Record:
    """What a case left behind, as plain data."""
    found: Record = {"exit": code, "numbers": {}, "arrays": {}}
    for name, path in files_of(out) if this.code == 0 else ():
        found["numbers"] |= dict(numbers_in(document(path), name))
        found["arrays"] |= {f"{name}: {key}": hashed(array) for key, array in arrays(path)}
    return found


def with_needed(names: Iterable[str], made: Iterable[str]) -> list[Case]:
    """These cases and, before them, those that they need and that are not there yet."""
    wanted, known = set(names), set(made)
    unknown = wanted - {one.name for one in CASES}
    if unknown:
        there = ", ".join(one.name for one in CASES)
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {there}")
    for one in reversed(CASES):
        wanted |= {name for name in one.after if name not in known} if one.name in wanted else set()
    return [one for one in CASES if one.name in wanted]


def record(folder: Path, only: list[str], repo: Path) -> int:
    """Make cases and write record.json; 1 if any ended otherwise than it should."""
    place = folder / "record.json"
    if not only:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        place.unlink(missing_ok=True)
    known: Record = json.loads(place.read_text("utf-8")) if place.is_file() else {}
    sound = [one.name for one in CASES if known.get(one.name, {}).get("exit") == one.code]
    cases = with_needed(only or [one.name for one in CASES], sound)
    make_inputs(folder / "made")
    pending: dict[str, Future[bool]] = {}
    writing = Lock()

    def make(this: Case) -> bool:
        for name in this.after:
            if name in pending:
                pending[name].result()
        start = time.monotonic()
        code = execute(this, folder, repo)
        found = result_of(this, code, folder / this.name)
        counts = ", ".join(f"{len(found[k])} {k}" for k in ("numbers", "arrays"))
        wrong = "" if code == this.code else f"; should have been {this.code}: see said.txt"
        took = time.monotonic() - start
        with writing:
            known[this.name] = found
            place.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
        print(f"{this.name:24} {took:5.1f} s  exit {code}, {counts}{wrong}", flush=True)
        return code == this.code

    with ThreadPoolExecutor(2) as pool:
        for this in cases:  # in order, so that what a case waits for has begun before it
            pending[this.name] = pool.submit(make, this)
    return 0 if all(one.result() for one in pending.values()) else 1


# ------------------------------------------------------------------------------------- comparing


def differences(name: str, a: Path, b: Path, left: Record, right: Record) -> Iterator[str]:
    """Every difference of a case, in words."""
    if left["exit"] != right["exit"]:
        yield f"exit code {left['exit']}, now {right['exit']}"
    for kind in ("numbers", "arrays"):
        one, other = left[kind], right[kind]
        for key in sorted(one.keys() | other.keys()):
            if key not in one or key not in other:
                yield f"{key}: only in the {'first' if key in one else 'second'}"
            elif repr(one[key]) != repr(other[key]):
                told = f"{one[key]}, now {other[key]}"
                yield f"{key}: {told if kind == 'numbers' else apart(key, a / name, b / name)}"


def apart(key: str, a: Path, b: Path) -> str:
    """How far two pictures or tensors are apart, from the files if they are still there."""
    name, part = key.split(": ", 1)
    files = [path for out in (a, b) for told, path in files_of(out) if told == name]
    found = [array for path in files for told, array in arrays(path) if told == part]
    if len(found) != 2:
        return "differs"
    one, other = found
    if one.shape != other.shape:
        return f"shape {one.shape}, now {other.shape}"
    gaps = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return f"differs by at most {gaps.max():.3g}, in {(gaps > 0).mean():.1%} of its values"


def compare(a: Path, b: Path, only: list[str], shown: int = 5) -> int:
    """Say of every case whether it is equal; 1 if any is not, or is in one recording only."""
    left, right = (json.loads((place / "record.json").read_text("utf-8")) for place in (a, b))
    different, names = 0, only or sorted(left.keys() | right.keys())
    for name in names:
        if name in left and name in right:
            found = list(differences(name, a, b, left[name], right[name]))
        else:
            found = [f"not in {a if name in right else b}"]
        different += bool(found)
        print(f"{name:24} {f'{len(found)} differences' if found else 'equal'}")
        for line in found[:shown]:
            print(f"    {line}")
    print(f"{different} of {len(names)} cases differ")
    return 1 if different else 0


def main() -> int:
    """The two commands; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="make every case and write DIR/record.json")
    recording.add_argument("folder", type=Path, metavar="DIR")
    recording.add_argument("--repo", type=Path, default=ROOT)
    comparing = commands.add_parser("compare", help="say what differs between two recordings")
    comparing.add_argument("a", type=Path, metavar="DIR_A")
    comparing.add_argument("b", type=Path, metavar="DIR_B")
    for command in (recording, comparing):
        command.add_argument("--only", nargs="+", default=[], metavar="NAME")
    told = parser.parse_args()
    if told.command == "compare":
        return compare(told.a, told.b, told.only)
    return record(told.folder.resolve(), told.only, told.repo.resolve())


if __name__ == "__main__":
    sys.exit(main())
