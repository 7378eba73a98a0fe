"""The anchor: one decode step of a 7B-shaped decoder in PyTorch, so that our own figures have a neighbour from the same card.

n samples of one prompt, f16 weights drawn at random on the card, the whole step in one CUDA graph. Three ways:

- bifurcated: the prompt's keys and values are read once. Two flash attention calls, one over the prompt with all samples as
  query rows of each head, one over every sample's own tokens; merged by their log-sum-exps.
- sdpa: every sample has the prompt in its own cache, and scaled_dot_product_attention reads it for each.
- no attention: all the rest of the step.

    python anchor.py                                  # 8192 tokens, n = 1, 2, 4 … 128
    python anchor.py --context 1024,8192,16384 --n 1,16 --results ../results
    python anchor.py --compile                        # elementwise work fused by torch.compile: the stronger anchor, where it works
    python anchor.py --tiny                           # a small shape on the CPU, to test this file
"""

import argparse
import datetime
import itertools
import json
import math
import pathlib
import re
import statistics
import subprocess
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

WAYS = ("bifurcated", "sdpa", "no attention")


@dataclass(frozen=True)
class Shape:
    name: str = "7b"
    layers: int = 32
    heads: int = 32
    head_dim: int = 128
    ffn: int = 11008
    vocab: int = 32000

    @property
    def hidden(self):
        return self.heads * self.head_dim


TINY = Shape("tiny", layers=3, heads=4, head_dim=32, ffn=352, vocab=1000)


@dataclass
class Kv:
    """Keys and values of one layer, each [batch, heads, tokens, head_dim]."""

    prompt: tuple  # batch 1: stored once
    own: tuple  # batch n: a sample's own tokens, the last of which is the step's


def flash(q, k, v):
    """Attention and the log-sum-exp of its scores: [batch, heads, rows, head_dim], [batch, heads, rows]."""
    if q.is_cuda:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[:2]
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[:2]


def bifurcated_attention(q, k, v, kv):
    """q, k, v of the step's tokens: [n, heads, head_dim]."""
    keys, values = kv.own
    keys[:, :, -1], values[:, :, -1] = k, v
    out, lse = flash(q[None].transpose(1, 2), *kv.prompt)  # rows of a head = samples
    own_out, own_lse = flash(q[:, :, None], keys, values)
    # Softmax over both = both results, weighted by e^lse: a share of sigmoid(difference) for the prompt's.
    share = torch.sigmoid(lse[0].t()[..., None] - own_lse)
    return torch.lerp(own_out[:, :, 0], out[0].transpose(0, 1), share.to(q.dtype))


def sdpa_attention(q, k, v, cache):
    """The same over a cache of (keys, values), [n, heads, prompt + own, head_dim]."""
    keys, values = cache
    keys[:, :, -1], values[:, :, -1] = k, v
    return F.scaled_dot_product_attention(q[:, :, None], keys, values)[:, :, 0]


class Decoder:
    """Random weights in f16 on a card, f32 on the CPU; matrices are [outputs, inputs]."""

    def __init__(self, shape, device, dtype):
        def matrix(outputs, inputs):
            return torch.empty(outputs, inputs, device=device, dtype=dtype).normal_(0, inputs**-0.5)

        self.shape = shape
        d = shape.hidden
        self.embedding = matrix(shape.vocab, d) * math.sqrt(d)
        self.head = matrix(shape.vocab, d)
        self.norm = torch.ones(d, device=device, dtype=dtype)
        self.layers = [
            {
                "qkv": matrix(3 * d, d),
                "output": matrix(d, d),
                "gate_up": matrix(2 * shape.ffn, d),
                "down": matrix(d, shape.ffn),
            }
            for _ in range(shape.layers)
        ]

    def rotation(self, position):
        """cos and sin of one position, [head_dim]; sin has the sign for a head whose halves are swapped."""
        half = self.shape.head_dim // 2
        angles = position * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos]).to(self.norm), torch.cat([-sin, sin]).to(self.norm)

    def step(self, tokens, rotation, attention, caches):
        """Logits of one token of each sample, [n, vocab]. Layer i has caches[i % len(caches)]."""
        x = F.embedding(tokens, self.embedding)
        for i, layer in enumerate(self.layers):
            x = self.layer(x, layer, rotation, attention, caches[i % len(caches)])
        return F.linear(self.rms_norm(x), self.head)

    def layer(self, x, weights, rotation, attention, cache):
        cos, sin = rotation
        heads, half = self.shape.heads, self.shape.head_dim // 2
        qkv = F.linear(self.rms_norm(x), weights["qkv"]).unflatten(1, (3 * heads, -1))
        qk, v = qkv.split((2 * heads, heads), 1)
        q, k = torch.addcmul(qk * cos, qk.roll(half, -1), sin).chunk(2, 1)
        x = x + F.linear(attention(q, k, v, cache).flatten(1), weights["output"])
        gate, up = F.linear(self.rms_norm(x), weights["gate_up"]).chunk(2, 1)
        return x + F.linear(F.silu(gate) * up, weights["down"])

    def rms_norm(self, x):
        return F.rms_norm(x, self.norm.shape, self.norm, 1e-5)


def random_kv(shape, n, context, own, like):
    def values(batch, tokens):
        size = (batch, shape.heads, tokens, shape.head_dim)
        return torch.empty(size, device=like.device, dtype=like.dtype).normal_()

    return Kv((values(1, context), values(1, context)), (values(n, own), values(n, own)))


def per_sample(kv, n):
    """The same keys and values as one cache, the prompt's in it n times."""
    return tuple(torch.cat([p.expand(n, -1, -1, -1), o], 2) for p, o in zip(kv.prompt, kv.own))


def caches_that_fit(kvs, n, device):
    """
    Per-sample caches of as many layers as there is memory for; the step's layers take turns in them. What is read stays
    the same: a cache of one layer that had to be shared is far larger than the card's L2.
    """
    tokens = kvs[0].prompt[0].shape[2] + kvs[0].own[0].shape[2]
    bytes_each = 2 * n * tokens * kvs[0].own[0][0, :, 0].nbytes
    count = len(kvs)
    if device == "cuda":
        torch.cuda.empty_cache()
        count = min(count, int(0.9 * torch.cuda.mem_get_info()[0]) // bytes_each)
    if count == 0:
        raise MemoryError(f"{n} caches of {tokens} tokens do not fit, even for one layer")
    return [per_sample(kv, n) for kv in kvs[:count]]


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def check(decoder, tokens, rotation, kvs, caches):
    """Both ways must agree, on attention alone and on logits, before either is timed."""
    limit = (5e-3, 2e-2) if tokens.is_cuda else (1e-5, 1e-4)
    q, k, v = torch.randn(3, *kvs[0].own[0][:, :, 0].shape, device=tokens.device).to(decoder.norm.dtype)
    attention = difference(bifurcated_attention(q, k, v, kvs[0]), sdpa_attention(q, k, v, caches[0]))
    ours = decoder.step(tokens, rotation, bifurcated_attention, kvs[: len(caches)])
    logits = difference(ours, decoder.step(tokens, rotation, sdpa_attention, caches))
    if not (attention <= limit[0] and logits <= limit[1]):
        raise AssertionError(f"the two ways differ: attention {attention:.1e}, logits {logits:.1e}")
    return logits


def median_ms(run, device, repeats):
    """Median of single runs. On a card they are queued together, so that none waits for the host."""
    if device == "cpu":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 4)]
    for event in events:
        event.record()
        run()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in list(itertools.pairwise(events))[3:])


def captured(run, device):
    """The work of `run` as a CUDA graph; elsewhere, itself."""
    if device == "cpu":
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def time_way(decoder, tokens, rotation, attention, caches, device, repeats):
    def run():
        logits = decoder.step(tokens, rotation, attention, caches)
        tokens.copy_(logits.argmax(-1))  # greedy: the next step's input

    return median_ms(captured(run, device), device, repeats)


def rows_of(decoder, context, n, own, device, repeats):
    """One row for each way that fits in memory."""
    tokens = torch.arange(n, device=device) % decoder.shape.vocab
    rotation = decoder.rotation(context + own - 1)
    kvs = [random_kv(decoder.shape, n, context, own, decoder.norm) for _ in range(decoder.shape.layers)]

    def row(way, attention, caches, **more):
        ms = time_way(decoder, tokens, rotation, attention, caches, device, repeats)
        return {
            "section": "anchor",
            "shape": decoder.shape.name,
            "context": context,
            "n": n,
            "own": own,
            "way": way,
            "ms": ms,
            **more,
        }

    caches = []
    try:
        caches += caches_that_fit(kvs, n, device)
        worst = check(decoder, tokens, rotation, kvs, caches)
        yield row("sdpa", sdpa_attention, caches, layersOfKv=len(caches), difference=worst)
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        print(f"context {context}, n = {n}: sdpa left out, and bifurcated not checked: {error}")
    finally:
        caches.clear()
    yield row("bifurcated", bifurcated_attention, kvs)
    yield row("no attention", lambda q, k, v, cache: q, kvs)


def card_figures(device):
    """A device copy in TB/s, read and written bytes together, and an f16 product of 4096 x 4096 x 4096 in TFLOP/s."""
    if device == "cpu":
        return {}
    a = torch.empty(2**30, device=device, dtype=torch.int8)
    b = torch.empty_like(a)
    copy = median_ms(lambda: b.copy_(a), device, 20)
    x = torch.randn(4096, 4096, device=device, dtype=torch.float16)
    gemm = median_ms(lambda: x @ x, device, 50)
    return {"copyTbps": 2 * a.nbytes / copy / 1e9, "gemmTflops": 2 * 4096**3 / gemm / 1e9}


def setting(device):
    name, driver = "CPU", ""
    if device == "cuda":
        name = torch.cuda.get_device_name()
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            driver = "unknown"
    date = datetime.date.today().isoformat()
    return {"benchmark": "anchor", "device": name, "driver": driver, "torch": torch.__version__, "date": date}


def arguments():
    numbers = lambda text: [int(part) for part in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=numbers, default=[8192], help="tokens of the prompt")
    parser.add_argument("--n", type=numbers, default=[1, 2, 4, 8, 16, 32, 64, 128], help="samples")
    parser.add_argument("--own", type=int, default=64, help="tokens of a sample, the step's own included")
    parser.add_argument("--repeats", type=int, default=30, help="timed steps; the median counts")
    parser.add_argument("--results", default=str(pathlib.Path(__file__).parent.parent / "results"), help="folder of the JSON")
    parser.add_argument("--device", help="the card's name for the results (default: the driver's)")
    parser.add_argument("--compile", action="store_true", help="compile a layer with torch.compile")
    parser.add_argument("--tiny", action="store_true", help="a small shape on the CPU")
    return parser.parse_args()


@torch.inference_mode()
def main():
    args = arguments()
    device = "cpu" if args.tiny else "cuda"
    torch.manual_seed(1)
    head = setting(device)
    head["device"] = args.device or head["device"]
    if args.compile:
        head["torch"] += ", compiled"
        Decoder.layer = torch.compile(Decoder.layer, dynamic=False)
    slug = re.sub(r"[^a-z0-9]+", "-", f"anchor-{head['device']}{'-compiled' * args.compile}".lower()).strip("-")
    path = pathlib.Path(args.results) / f"{slug}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {**head, **card_figures(device), "rows": []}
    print({key: value for key, value in result.items() if key != "rows"})
    decoder = Decoder(TINY if args.tiny else Shape(), device, torch.float32 if args.tiny else torch.float16)
    for context in args.context:
        for n in args.n:
            torch.compiler.reset()  # so that no n falls back to eager for having been compiled too often
            try:
                for row in rows_of(decoder, context, n, args.own, device, args.repeats):
                    result["rows"].append(row)
                    path.write_text(json.dumps(result, indent=2) + "\n")  # a run that is cut off keeps what it had
                    print(f"context {context}, n = {n}, {row['way']}: {row['ms']:.3f} ms")
            except torch.cuda.OutOfMemoryError as error:
                print(f"context {context}, n = {n}: out of memory: {error}")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
