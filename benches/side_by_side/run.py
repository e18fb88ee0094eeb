#!/usr/bin/env python3
"""dsv3 and the other engines of this machine on the same work, one after the other, in turns.

    benches/side_by_side/run.py --model ../bench-bf16 --gguf ../bench-bf16.gguf

Installs nothing: an engine that isn't there is named as missing. Every engine runs once a round, so
that what changes on the machine in the course of the run meets all of them. Nothing else should run
meanwhile. Ctrl-C ends with what was measured so far. docs/benchmarks.md says how to make a
checkpoint that all can read.
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

# The exit status after Ctrl-C, as shells have it: 128 and SIGINT's number.
INTERRUPTED = 130

# Run by the interpreter of --python. Prints {"prefill": tokens/s, "decode": tokens/s}.
TRANSFORMERS = """
import json, sys, time, torch
from transformers import AutoConfig, DeepseekV3ForCausalLM
model, threads, prompt, decode, depth = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
net = DeepseekV3ForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
ids = torch.randint(net.config.vocab_size, (1, max(prompt, depth, 1)))
said = {}
def read(length):
    # The head for the last token alone, as the other engines compute it.
    return net(ids[:, :length], use_cache=True, logits_to_keep=1).past_key_values
with torch.inference_mode():
    read(16)
    begin = time.perf_counter()
    cache = read(prompt)
    said["prefill"] = prompt / (time.perf_counter() - begin)
    if depth != prompt:
        cache = read(depth) if depth else None
    token = ids[:, :1]
    begin = time.perf_counter()
    for _ in range(decode):
        out = net(token, past_key_values=cache, use_cache=True)
        cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
    said["decode"] = decode / (time.perf_counter() - begin)
print(json.dumps(said))
"""

VLLM = """
import json, os, random, sys, time
model, threads, prompt, decode, depth = sys.argv[1], *map(int, sys.argv[2:])
os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{threads - 1}"
from vllm import LLM, SamplingParams
net = LLM(model=model, dtype="bfloat16", skip_tokenizer_init=True, enable_prefix_caching=False,
          max_model_len=max(prompt, depth) + decode + 16)
with open(os.path.join(model, "config.json")) as file:
    vocabulary = json.load(file)["vocab_size"]
# Equal tokens would all choose the same experts. No prefix is cached: each run reads all of its own.
seeded = random.Random(1)
prompt_ids = [seeded.randrange(vocabulary) for _ in range(max(prompt, depth, 16))]
def run(length, tokens):
    ids = {"prompt_token_ids": prompt_ids[:max(length, 1)]}
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
    try:
        done = subprocess.run(command, capture_output=True, text=True, **how)
    except OSError as error:
        why = error.strerror or repr(error)
    else:
        if done.returncode == 0:
            return done.stdout
        why = "".join((done.stderr or done.stdout).strip().splitlines()[-1:])
    print(f"  {command[0]} failed: {why or f'exit status {done.returncode}'}", file=sys.stderr)
    return None


def tails(paths):
    """Of each path as much of its end as no other one has: its name, or with the folders before it."""
    whole = {path: Path(os.path.abspath(path)).parts for path in paths}

    def tail(own):
        others = set(whole.values()) - {own}
        ends = (own[-n:] for n in range(1, len(own) + 1))
        return str(Path(*next(end for end in ends if all(o[-len(end):] != end for o in others))))

    return {path: tail(own) for path, own in whole.items()}


class Dsv3:
    """This project."""

    def __init__(self, args, model, *flags):
        self.args, self.model, self.flags = args, model, flags
        self.name = " ".join([f"dsv3, {args.names[model]}", *flags])
        self.bandwidth = []
        # Of what memory gave around each decoding.
        self.shares = []

    def missing(self):
        if not shutil.which(self.args.dsv3):
            return f"no program {self.args.dsv3}: cargo build --release -p dsv3-cli"
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
        self.name = f"llama.cpp, {args.names[gguf] if gguf else 'no file'}"
        self.program = args.llama_bench

    def missing(self):
        if not shutil.which(self.program):
            return f"no program {self.program} (--llama-bench)"
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
        if not shutil.which(self.args.python):
            return f"no interpreter {self.args.python} (--python)"
        if output([self.args.python, "-c", f"import {self.package}"]) is None:
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


def rounds(count):
    return f"{count} round{'s' if count != 1 else ''}"


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


def turn(engine):
    """What an engine measures in one turn; None, and why on stderr, where it can't be read."""
    try:
        return engine.run()
    except (ValueError, LookupError, StopIteration) as error:
        print(f"  {engine.name} said what can't be read: {error!r}", file=sys.stderr)
        return None


def report(args, engines, results, missing):
    """The table, in markdown. The results lie in the engines' order, each with its runs so far."""
    whole = min(map(len, results))
    stopped = whole < args.rounds
    ours = [engine for engine in engines if isinstance(engine, Dsv3)]
    bandwidth = [b for engine in ours for b in engine.bandwidth if b]
    lines = [
        f"{machine()}, {args.threads} threads, dsv3 at `{commit()}`. Prompt of {args.prompt}, "
        f"{args.decode} tokens after {args.depth}; tokens/s, median of "
        f"{'the rounds done' if stopped else rounds(whole)} (slowest–fastest), engines in turns.",
        "",
    ]
    if stopped:
        begun = sum(len(runs) > whole for runs in results)
        lines += [
            f"**Stopped after {whole} of {rounds(args.rounds)}**, in the next one after {begun} of "
            f"{len(engines)} engines.",
            "",
        ]
    if bandwidth:
        lines += [f"Memory read in the same run: {spread(bandwidth, ' GB/s')}.", ""]
    lines += [
        "| engine | prefill | decode | decode, share of memory |",
        "|---|---|---|---|",
    ]
    failed = []
    for engine, tries in zip(engines, results):
        runs = [run for run in tries if run]
        cells = [
            spread([run[kind] for run in runs if kind in run], "") if tries else "not run"
            for kind in ("prefill", "decode")
        ]
        if 0 < len(runs) < len(tries):
            failed.append(f"- {engine.name}: failed in {len(tries) - len(runs)} of {rounds(len(tries))}")
        shares = getattr(engine, "shares", None)
        share = f"{statistics.median(shares):.0f} %" if shares else ""
        lines.append(f"| {engine.name} | {cells[0]} | {cells[1]} | {share} |")
    lines += ["", *failed, *(f"- {name}: {why}" for name, why in missing)]
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
    # Programs are no Path, which would make a name on the path of "./name".
    add("--dsv3", default=str(ROOT / "target/release/dsv3"), help="the program")
    add("--llama-bench", default="llama-bench", help="the program, where it isn't on the path")
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
    for paths in ([args.model, *args.also], args.w8a8, args.gguf):
        if len(set(map(os.path.abspath, paths))) < len(paths):
            parser.error(f"given twice, among {' '.join(map(str, paths))}")
    args.names = tails([args.model, *args.also, *args.w8a8, *args.gguf])

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
    results = [[] for _ in engines]
    status = 0
    try:
        for number in range(args.rounds):
            for engine, runs in zip(engines, results):
                print(f"round {number + 1} of {args.rounds}: {engine.name}", file=sys.stderr)
                runs.append(turn(engine))
    except KeyboardInterrupt:
        if not any(results):
            raise
        status = INTERRUPTED
    text = report(args, engines, results, missing)
    print(text, flush=True)
    if args.out:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(text, encoding="utf-8")
        except OSError as error:
            print(f"the table above is not in {args.out}: {error}", file=sys.stderr)
            status = status or 1
    sys.exit(status)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
