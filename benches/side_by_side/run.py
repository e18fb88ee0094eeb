#!/usr/bin/env python3
"""dsv3 and the other engines of this machine on the same work, one after the other, in turns.

    benches/side_by_side/run.py --model ../bench-bf16 --gguf ../bench-bf16.gguf

Installs nothing: an engine that isn't there is named as missing. Every engine runs once a round, so
that what changes on the machine in the course of the run meets all of them. Nothing else should run
meanwhile. docs/benchmarks.md says how to make a checkpoint that all can read.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Run by the interpreter of --python. Prints {"prefill": tokens/s, "decode": tokens/s}.
TRANSFORMERS = """
import json, sys, time, torch
from transformers import AutoConfig, DeepseekV3ForCausalLM
model, threads, prompt, decode, depth = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
net = DeepseekV3ForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
ids = torch.randint(net.config.vocab_size, (1, max(prompt, depth, 1)))
said = {}
with torch.inference_mode():
    net(ids[:, :16])
    begin = time.perf_counter()
    cache = net(ids[:, :prompt], use_cache=True).past_key_values
    said["prefill"] = prompt / (time.perf_counter() - begin)
    if depth != prompt:
        cache = net(ids[:, :depth], use_cache=True).past_key_values if depth else None
    token = ids[:, :1]
    begin = time.perf_counter()
    for _ in range(decode):
        out = net(token, past_key_values=cache, use_cache=True)
        cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
    said["decode"] = decode / (time.perf_counter() - begin)
print(json.dumps(said))
"""

VLLM = """
import json, os, sys, time
model, threads, prompt, decode, depth = sys.argv[1], *map(int, sys.argv[2:])
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{threads - 1}"
from vllm import LLM, SamplingParams
net = LLM(model=model, dtype="bfloat16", skip_tokenizer_init=True, enable_prefix_caching=False,
          max_model_len=max(prompt, depth) + decode + 16)
def run(length, tokens):
    ids = {"prompt_token_ids": [7] * max(length, 1)}
    how = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    begin = time.perf_counter()
    net.generate([ids], how, use_tqdm=False)
    return time.perf_counter() - begin
run(16, 2)
one = run(prompt, 1)
first, all = run(depth, 1), run(depth, decode + 1)
print(json.dumps({"prefill": prompt / one, "decode": decode / (all - first)}))
"""


def output(command, **how):
    """What a command says on stdout; None, and its last words on stderr, where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **how)
    if done.returncode == 0:
        return done.stdout
    last = (done.stderr or done.stdout).strip().splitlines()[-1:]
    print(f"  {command[0]} failed: {''.join(last)}", file=sys.stderr)
    return None


class Dsv3:
    """This project."""

    def __init__(self, args, model, *flags):
        self.args, self.model, self.flags = args, model, flags
        self.name = " ".join([f"dsv3, {model.name}", *flags])
        self.bandwidth = []
        # Of what memory gave around each decoding.
        self.shares = []

    def missing(self):
        if not self.args.dsv3.exists():
            return f"{self.args.dsv3}: cargo build --release -p dsv3-cli"
        return None if self.model.exists() else f"no checkpoint in {self.model}"

    def run(self):
        a = self.args
        text = output([
            a.dsv3, "bench", "--model", self.model, "--threads", str(a.threads), "--json",
            "--prompt", str(a.prompt), "--decode", str(a.decode), "--depth", str(a.depth),
            "--repeat", "1", *self.flags,
        ])
        if text is None:
            return None
        said = json.loads(text)
        self.bandwidth.append(said["bandwidth_gb_s"])
        speed = {row["kind"]: row["tokens_per_s"]["median"] for row in said["rows"]}
        share = next(r["bandwidth_share"] for r in said["rows"] if r["kind"] == "decode")
        if share:
            self.shares.append(100 * share)
        return speed


class LlamaCpp:
    """llama.cpp's own bench."""

    def __init__(self, args, gguf):
        self.args, self.gguf = args, gguf
        self.name = f"llama.cpp, {gguf.name if gguf else 'no file'}"
        self.program = args.llama_bench or shutil.which("llama-bench")

    def missing(self):
        if not self.program:
            return "no llama-bench on the path (--llama-bench)"
        if not self.gguf:
            return "no GGUF file (--gguf)"
        return None if self.gguf.exists() else f"no file {self.gguf}"

    def run(self):
        a = self.args
        common = [self.program, "-m", self.gguf, "-t", str(a.threads), "-r", "1", "-fa", "1", "-o", "json"]
        prefill = output([*common, "-p", str(a.prompt), "-n", "0"])
        decode = output([*common, "-p", "0", "-n", str(a.decode), "-d", str(a.depth)])
        if prefill is None or decode is None:
            return None
        speed = lambda text: json.loads(text)[-1]["avg_ts"]
        return {"prefill": speed(prefill), "decode": speed(decode)}


class Python:
    """An engine that is a Python package."""

    def __init__(self, args, package, script):
        self.args, self.package, self.script = args, package, script
        self.name = f"{package}, bf16"

    def missing(self):
        found = subprocess.run([self.args.python, "-c", f"import {self.package}"], capture_output=True)
        if found.returncode:
            return f"{self.args.python} has no {self.package} (--python)"
        return None if self.args.model.exists() else f"no checkpoint in {self.args.model}"

    def run(self):
        a = self.args
        numbers = [str(n) for n in (a.threads, a.prompt, a.decode, a.depth)]
        env = {**os.environ, "OMP_NUM_THREADS": str(a.threads), "HF_HUB_OFFLINE": "1"}
        text = output([a.python, "-c", self.script, a.model, *numbers], env=env)
        # vLLM logs to stdout too, behind what the script says as well.
        said = [line for line in (text or "").splitlines() if line.startswith("{")]
        return json.loads(said[-1]) if said else None


class MistralRs:
    """mistral.rs refused DeepSeek-V3's shapes when this was written (0.9.5: value and key heads of
    different widths), so it is looked for and not run."""

    name = "mistral.rs"

    def missing(self):
        found = shutil.which("mistralrs-bench") or shutil.which("mistralrs")
        return "is not run: it can't read these shapes" if found else "no mistralrs on the path"


def spread(values, unit):
    """Median, least and most."""
    if not values:
        return "failed"
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f}){unit}"


def machine():
    """The processor's name and how many cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(l.split(":")[1].strip() for l in lines if l.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def commit():
    text = output(["git", "-C", ROOT, "describe", "--always", "--dirty"])
    return text.strip() if text else "unknown"


def report(args, engines, results, missing):
    """The table, in markdown."""
    ours = [engine for engine in engines if isinstance(engine, Dsv3)]
    bandwidth = [b for engine in ours for b in engine.bandwidth if b]
    lines = [
        f"{machine()}, {args.threads} threads, dsv3 at `{commit()}`. Prompt of {args.prompt}, "
        f"{args.decode} tokens after {args.depth}; tokens/s, median of {args.rounds} rounds "
        "(slowest–fastest), engines in turns.",
        "",
    ]
    if bandwidth:
        lines += [f"Memory read in the same run: {spread(bandwidth, ' GB/s')}.", ""]
    lines += [
        "| engine | prefill | decode | decode, share of memory |",
        "|---|---|---|---|",
    ]
    for engine in engines:
        runs = [run for run in results[engine.name] if run]
        cells = [spread([run[kind] for run in runs if kind in run], "") for kind in ("prefill", "decode")]
        shares = getattr(engine, "shares", None)
        share = f"{statistics.median(shares):.0f} %" if shares else ""
        lines.append(f"| {engine.name} | {cells[0]} | {cells[1]} | {share} |")
    lines += ["", *(f"- {name}: {why}" for name, why in missing)]
    lines += ["", "`" + " ".join(["benches/side_by_side/run.py", *sys.argv[1:]]) + "`", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="a bf16 checkpoint in the published layout, for all")
    add("--also", type=Path, action="append", default=[], help="more checkpoints for dsv3: fp8, int8, int4")
    add("--w8a8", type=Path, action="append", default=[], help="and these with --w8a8: activations in 8 bits")
    add("--gguf", type=Path, action="append", default=[], help="the same weights for llama.cpp, once or more")
    add("--dsv3", type=Path, default=ROOT / "target/release/dsv3", help="the program")
    add("--llama-bench", type=Path, help="the program, where it isn't on the path")
    add("--python", default=sys.executable, help="an interpreter with transformers or vllm")
    add("--threads", type=int, default=os.cpu_count())
    add("--prompt", type=int, default=512, help="tokens")
    add("--decode", type=int, default=32, help="tokens")
    add("--depth", type=int, default=512, help="tokens in the cache before")
    add("--rounds", type=int, default=3)
    add("--out", type=Path, help="a file for the table, beside stdout")
    args = parser.parse_args()
    if min(args.threads, args.prompt, args.decode, args.rounds) < 1 or args.depth < 0:
        parser.error("threads, prompt, decode and rounds are at least 1, depth at least 0")

    engines, missing = [], []
    for engine in [
        Dsv3(args, args.model),
        # As the others compute.
        Dsv3(args, args.model, "--dtype", "bf16"),
        *(Dsv3(args, model) for model in args.also),
        *(Dsv3(args, model, "--w8a8") for model in args.w8a8),
        *(LlamaCpp(args, gguf) for gguf in args.gguf or [None]),
        Python(args, "transformers", TRANSFORMERS),
        Python(args, "vllm", VLLM),
        MistralRs(),
    ]:
        why = engine.missing()
        if why:
            missing.append((engine.name, why))
            print(f"missing: {engine.name}: {why}", file=sys.stderr)
        else:
            engines.append(engine)
    if not engines:
        sys.exit("no engine was found")
    results = {engine.name: [] for engine in engines}
    for number in range(args.rounds):
        for engine in engines:
            print(f"round {number + 1} of {args.rounds}: {engine.name}", file=sys.stderr)
            results[engine.name].append(engine.run())
    text = report(args, engines, results, missing)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)


if __name__ == "__main__":
    main()
