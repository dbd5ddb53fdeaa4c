"""Attention calls out of an ONNX graph: what its softmaxes multiply becomes outputs of the graph.

onnx changes the graph and onnxruntime, the network's own runtime, computes it: no layer is written anew here.
"""

from dataclasses import dataclass

import numpy as np

from lab.shared.one_line_parser import Refused


@dataclass(frozen=True)
class Place:
    """The names of one attention call's q, k, v and output in a graph, and which of their axes is head_dim's."""

    q: str
    k: str
    v: str
    o: str
    channels_first: bool


def attention_places(graph):
    """A Place for each softmax between two products, in the graph's order. Of a MatMul of q [.., tokens, dim] and k [..,
    dim, tokens]; or of an Einsum bct,bcs->bts of both as [.., dim, tokens]. Raises Refused on another kind."""
    producer = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type != "Softmax":
            continue
        product = producer[node.input[0]]
        users = [other for other in graph.node if node.output[0] in other.input]
        equations = [_equation(one) for one in (product, *users)]
        if equations not in (["MatMul", "MatMul"], ["bct,bcs->bts", "bts,bcs->bct"]):
            raise Refused(f"{node.name}: wanted a softmax between two products, found {equations}")
        (value,) = [name for name in users[0].input if name != node.output[0]]
        found.append(Place(*product.input, value, users[0].output[0], equations[0] != "MatMul"))
    return found


def _equation(node):
    if node.op_type != "Einsum":
        return node.op_type
    return next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")


class Session:
    """A network whose attention calls can be seen. `inputs`: {name: shape} where another one than the file's is wanted."""

    def __init__(self, path, inputs=None):
        import onnx
        import onnxruntime

        model = onnx.load(str(path))
        for given in model.graph.input:
            if given.name in (inputs or {}):
                for axis, size in zip(given.type.tensor_type.shape.dim, inputs[given.name]):
                    axis.Clear()
                    axis.dim_value = size
        self.places = attention_places(model.graph)
        self._own = [output.name for output in model.graph.output]
        for place in self.places:
            for name in (place.q, place.k, place.v, place.o):
                if name not in self._own:
                    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
                    self._own.append(name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, **inputs):
        """(the network's first output, [(q, k, v, o)] of its attention calls, each [heads, tokens, head_dim])."""
        values = dict(zip(self._own, self._session.run(self._own, inputs)))
        return values[self._own[0]], [self._call(place, values) for place in self.places]

    @staticmethod
    def _call(place, values):
        q, k, v, o = (
            values[name].reshape(-1, *values[name].shape[-2:]) for name in (place.q, place.k, place.v, place.o)
        )
        if place.channels_first:
            return tuple(np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v, o))
        return q, np.ascontiguousarray(k.swapaxes(1, 2)), v, o
