"""Symbol files made to harm: each is refused in one line, and no process dies of it."""

import json
import random
from collections import Counter
from pathlib import Path

import mxnet as mx
import pytest

from shardcam.engine.models.efficientnet_lite import efficientnet_lite0
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.symbol_json import parse, to_json
from shardcam.engine.models.symbol_operators import OPERATORS
from shardcam.engine.models.symbol_shapes import require_runnable
from shardcam.engine.models.zoo import NAMES
from tests.models.onnx_cases import CASES
from tests.models.onnx_models import load, make
from tests.security.limited import Reader
from tests.security.symbols import mutant, networks

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def read():
    with Reader() as reader:
        yield reader


def variable(name, shape="", **attrs):
    attrs |= {"__shape__": shape} if shape else {}
    return {"op": "null", "name": name, "attrs": attrs, "inputs": []}


def operator(op, name, attrs, *inputs):
    attrs = {key: str(value) for key, value in attrs.items()}
    return {"op": op, "name": name, "attrs": attrs, "inputs": [[i, 0, 0] for i in inputs]}


def network(op="relu", attrs=(), inputs=1, weights=(), image="(0,3,16,16)"):
    """A convolution (8 channels of 16x16), the operator in question, and a classifier."""
    nodes = [variable("data", image), variable("w"), variable("b")]
    same = {"kernel": "(3,3)", "pad": "(1,1)", "num_filter": 8}
    nodes.append(operator("Convolution", "conv", same, 0, 1, 2))
    nodes += [variable(f"v{i}", shape) for i, shape in enumerate(weights)]
    read = [3] * inputs + list(range(4, len(nodes)))
    nodes.append(operator(op, "victim", dict(attrs), *read))
    nodes += [operator("mean", "pool", {"axis": "(1,)"}, len(nodes) - 1)]
    nodes += [variable("dense_weight"), variable("dense_bias")]
    dense = range(len(nodes) - 3, len(nodes))
    nodes.append(operator("FullyConnected", "dense", {"num_hidden": 10}, *dense))
    return {"nodes": nodes, "arg_nodes": [], "heads": [[len(nodes) - 1, 0, 0]]} | {
        "attrs": {"mxnet_version": ["int", 10901]}
    }


def write(tmp_path, graph):
    path = tmp_path / "net-symbol.json"
    path.write_text(graph if isinstance(graph, str) else json.dumps(graph))
    return path


def test_the_network_that_is_changed_here_runs(tmp_path, read):
    assert read(write(tmp_path, network())) == ["good", "run"]


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("_Native", {"info": "0x41414141"}),
        ("_NDArray", {"info": "0x41414141"}),
        ("Custom", {"op_type": "anything"}),
        ("_npi_Custom", {"op_type": "anything"}),
        ("_CustomFunction", {}),
        ("_CachedOp", {}),
        ("_CachedOpThreadSafe", {}),
        ("_foreach", {"num_args": 1}),
        ("_while_loop", {"num_args": 1}),
        ("_cond", {"num_args": 1}),
        ("_cvimread", {"filename": "/etc/passwd"}),
        ("_npi_cvimread", {"filename": "/etc/passwd"}),
        ("_sg_mkldnn_conv", {}),
        ("_contrib_quantized_conv", {}),
        ("_set_value", {"src": 1}),
        ("_copyto", {}),
        ("Embedding", {"input_dim": 2, "output_dim": 2}),
        ("RunAnything", {}),
    ],
)
def test_an_operator_that_is_not_listed_is_refused_by_name(tmp_path, read, op, attrs):
    text = read.refusal(write(tmp_path, network(op, attrs)))
    assert f"{op} 'victim': this operator is not supported: docs/models.md" in text


def test_a_graph_inside_of_an_operator(tmp_path, read):
    graph = network()
    graph["nodes"][4]["subgraphs"] = [network()]
    assert "relu 'victim': a graph inside of an operator" in read.refusal(write(tmp_path, graph))


WEIGHTS = {"Convolution": 1, "Deconvolution": 1, "FullyConnected": 1, "BatchNorm": 4}
CONV = {"kernel": "(3,3)", "num_filter": 8, "no_bias": True}
POOL = {"kernel": "(3,3)", "pool_type": "max"}


@pytest.mark.parametrize(
    ("op", "attrs", "said"),
    [
        ("Convolution", CONV | {"num_group": 0}, "num_group='0' is not a whole number from 1"),
        ("Convolution", CONV | {"num_group": 3}, "num_group=3 does not divide 8 channels"),
        ("Convolution", CONV | {"num_filter": 0}, "num_filter='0'"),
        ("Convolution", CONV | {"num_filter": 2**31 - 1}, "num_filter='2147483647'"),
        ("Convolution", CONV | {"num_filter": 2**40}, "num_filter"),
        ("Convolution", CONV | {"kernel": "(0,3)"}, "kernel='(0,3)'"),
        ("Convolution", CONV | {"kernel": "(3,3,3)"}, "does not fit (5, 8, 16, 16)"),
        ("Convolution", CONV | {"kernel": "(30000,30000)"}, "its kernel does not fit"),
        ("Convolution", CONV | {"stride": "(0,0)"}, "stride='(0,0)'"),
        ("Convolution", CONV | {"stride": "(1,)"}, "must have one length"),
        ("Convolution", CONV | {"dilate": "(-1,1)"}, "dilate='(-1,1)'"),
        ("Convolution", CONV | {"pad": "(100000,1)"}, "pad='(100000,1)'"),
        ("Convolution", CONV | {"pad": "(32768,32768)"}, "is too large"),
        ("Convolution", CONV | {"layout": "NHWC"}, "layout='NHWC' is not one of"),
        ("Convolution", CONV | {"workspace": 2**63}, "workspace"),
        ("Convolution", CONV | {"unknown": 1}, "its attribute 'unknown' is not supported"),
        ("Deconvolution", CONV | {"num_group": 0}, "num_group='0'"),
        ("Deconvolution", CONV | {"pad": "(20,20)"}, "nothing is left"),
        ("Deconvolution", CONV | {"adj": "(9,9)"}, "nothing is left"),
        ("Deconvolution", CONV | {"target_shape": "(9,9)"}, "target_shape"),
        ("Deconvolution", CONV | {"stride": "(30000,30000)"}, "is too large"),
        ("Pooling", POOL | {"kernel": "(0,0)"}, "kernel='(0,0)'"),
        ("Pooling", POOL | {"pad": "(3,3)"}, "kernel and pad do not fit"),
        ("Pooling", POOL | {"kernel": "(17,17)"}, "kernel and pad do not fit"),
        ("Pooling", {"pool_type": "max"}, "must have one length"),
        ("Reshape", {"shape": "(1,-1)"}, "would mix the images"),
        ("Reshape", {"shape": "(4,8,16,16)"}, "would mix the images"),
        ("Reshape", {"shape": "(-1,7)"}, "would mix the images"),
        ("Reshape", {"shape": "(0,65536,65536)"}, "would mix the images"),
        ("Reshape", {"shape": "(-1,65536,65536)"}, "would mix the images"),
        ("Reshape", {"shape": "(0,-4,-1,0,-2)"}, "shape=-4 does not fit"),
        ("Reshape", {"shape": "(0,-4,-1)"}, "shape=-4 does not fit"),
        ("Reshape", {"shape": "(0,-1,-4,0,2)", "reverse": True}, "shape=-4 with reverse"),
        ("Reshape", {"shape": "(0,0,0,0,0,0)"}, "copies more axes"),
        ("Reshape", {"shape": "(-5,1)"}, "shape='(-5,1)'"),
        ("Reshape", {"target_shape": "()", "keep_highest": True}, "it needs a shape"),
        ("UpSampling", {"scale": 100000, "sample_type": "nearest", "num_args": 1}, "scale"),
        ("UpSampling", {"scale": 30000, "sample_type": "nearest", "num_args": 1}, "too large"),
        ("tile", {"reps": "(1,1,100000,1)"}, "reps='(1,1,100000,1)'"),
        ("tile", {"reps": "(1,1,30000,30000)"}, "is too large"),
        ("tile", {"reps": "(2,1,1,1)"}, "would mix the images"),
        ("repeat", {"repeats": 100000, "axis": 1}, "repeats='100000'"),
        ("repeat", {"repeats": 2}, "it needs axis"),
        ("repeat", {"repeats": 2, "axis": 0}, "would mix the images"),
        ("broadcast_axis", {"axis": "(2,)", "size": "(9,)"}, "axis and size do not fit"),
        ("BatchNorm", {"axis": 9}, "axis='9'"),
        ("softmax", {"axis": 0}, "would mix the images"),
        ("softmax", {"axis": -4}, "would mix the images"),
        ("softmax", {"axis": 5}, "but it has 4 axes"),
        ("softmax", {"use_length": True}, "use_length"),
        ("mean", {"axis": "(0,)", "keepdims": True}, "would mix the images"),
        ("sum", {}, "would mix the images"),
        ("max", {"axis": "(1,)", "exclude": True}, "would mix the images"),
        ("max", {"axis": "(7,)"}, "but it has 4 axes"),
        ("norm", {"axis": "(1,1)"}, "names one axis twice"),
        ("transpose", {"axes": "(1,0,2,3)"}, "would mix the images"),
        ("transpose", {}, "would mix the images"),
        ("transpose", {"axes": "(0,1,2,7)"}, "does not order 4 axes"),
        ("SwapAxis", {"dim1": 0, "dim2": 1}, "would mix the images"),
        ("SwapAxis", {"dim1": 1, "dim2": 7}, "but it has 4 axes"),
        ("reverse", {"axis": "(0,)"}, "would mix the images"),
        ("reverse", {"axis": "(-1,)"}, "axis='(-1,)'"),
        ("squeeze", {}, "it needs axis"),
        ("expand_dims", {"axis": 0}, "would mix the images"),
        ("SliceChannel", {"num_outputs": 0}, "num_outputs='0'"),
        ("SliceChannel", {"num_outputs": 3}, "num_outputs=3 does not fit"),
        ("SliceChannel", {"num_outputs": 1, "axis": 0}, "would mix the images"),
        ("slice", {"begin": "(1,)", "end": "(3,)"}, "a part of the batch"),
        ("slice", {"begin": "(None,5)", "end": "(None,5)"}, "nothing is left"),
        ("slice", {"begin": "(None,0)", "end": "(None,5)", "step": "(1,0)"}, "do not fit one"),
        ("slice_axis", {"axis": 0, "begin": 0, "end": 1}, "would mix the images"),
        ("slice_axis", {"axis": 1, "begin": 9, "end": 9}, "nothing is left"),
        ("depth_to_space", {"block_size": 0}, "block_size='0'"),
        ("depth_to_space", {"block_size": 3}, "block_size=3 does not fit"),
        ("space_to_depth", {"block_size": 5}, "block_size=5"),
        ("LRN", {"nsize": 4}, "nsize=4 is not odd"),
        ("LRN", {"nsize": 0}, "nsize='0'"),
        ("Pad", {"mode": "edge", "pad_width": "(1,1,0,0,0,0,0,0)"}, "pixels can be padded"),
        ("Pad", {"mode": "edge", "pad_width": "(0,0,0,0)"}, "pixels can be padded"),
        ("Pad", {"mode": "reflect", "pad_width": "(0,0,0,0,16,0,0,0)"}, "wider than"),
        ("Pad", {"mode": "edge", "pad_width": "(0,0,0,0,32768,32768,32768,32768)"}, "too large"),
        ("Activation", {"act_type": "x" * 5000}, "act_type='xxx"),
        ("LeakyReLU", {"act_type": "rrelu"}, "act_type='rrelu' is not one of"),
        ("LeakyReLU", {"act_type": "prelu"}, "it has 1 inputs, and needs 2"),
        ("Cast", {"dtype": "int8"}, "dtype='int8'"),
        ("clip", {"a_min": "nan", "a_max": 1}, "a_min='nan' is not a number"),
        ("_contrib_AdaptiveAvgPooling2D", {"output_size": "(30000,30000)"}, "too large"),
        ("_contrib_BilinearResize2D", {"height": 30000, "width": 30000}, "too large"),
        ("Concat", {"num_args": 2, "dim": 1}, "it has 1 inputs, and needs 2"),
        ("add_n", {"num_args": 10**9}, "num_args='1000000000'"),
        ("FullyConnected", {"num_hidden": 10**8, "no_bias": True}, "num_hidden='100000000'"),
        ("relu", {"__ext_dtype__": 1}, "'__ext_dtype__' is not supported"),
        ("relu", {"__force_mirroring__": "x"}, "__force_mirroring__='x' is not True or False"),
    ],
)
def test_an_attribute_that_harms(tmp_path, read, op, attrs, said):
    weights = ("",) * WEIGHTS.get(op, 0)
    text = read.refusal(write(tmp_path, network(op, attrs, weights=weights)))
    assert f"{op} 'victim': " in text
    assert said in text


@pytest.mark.parametrize(
    ("op", "attrs", "inputs", "weights", "said"),
    [
        ("Concat", {"num_args": 2, "dim": 0}, 2, (), "would mix the images"),
        ("stack", {"num_args": 2, "axis": 0}, 2, (), "would mix the images"),
        ("_npi_concatenate", {"num_args": 2}, 2, (), "would mix the images"),
        ("broadcast_add", {}, 1, ("(7,1,1,1)",), "do not fit it"),
        ("broadcast_mul", {}, 1, ("(4,1,8,1,1)",), "would mix the images"),
        ("slice_like", {}, 1, ("(5,8,16,16)",), "would mix the images"),
        ("take", {"axis": 0}, 1, ("(5,)",), "would mix the images"),
        ("take", {"axis": 1, "mode": "raise"}, 1, ("(5,)",), "mode='raise'"),
        ("take", {"axis": 1}, 2, (), "depends on the images"),
        ("dot", {}, 2, (), "would mix the images"),
        ("dot", {"transpose_a": True}, 1, ("(5,8)",), "would mix the images"),
        ("batch_dot", {}, 2, (), "do not have three axes"),
        ("LeakyReLU", {"act_type": "prelu"}, 1, ("(3,)",), "a slope of (3,) does not fit"),
        ("GroupNorm", {"num_groups": 0}, 1, ("", ""), "num_groups='0'"),
        ("GroupNorm", {"num_groups": 3}, 1, ("", ""), "num_groups=3 does not fit"),
        ("LayerNorm", {"axis": 0}, 1, ("", ""), "would mix the images"),
        ("BatchNorm", {"axis": 0}, 1, ("",) * 4, "would mix the images"),
        ("BatchNorm", {}, 1, ("(5,)", "", "", ""), "its weight 'v0' is (5,), not (8,)"),
        ("BatchNorm", {"output_mean_var": True}, 1, ("",) * 4, "output_mean_var='True'"),
        ("BatchNorm", {}, 1, ("",), "it has 2 inputs, and needs 5"),
        ("SoftmaxOutput", {}, 1, ("(5,)",), "inside of the network"),
    ],
)
def test_operators_of_several_inputs(tmp_path, read, op, attrs, inputs, weights, said):
    text = read.refusal(write(tmp_path, network(op, attrs, inputs, weights)))
    assert f"{op} 'victim': " in text
    assert said in text


def test_a_weight_that_is_too_large(tmp_path, read):
    graph = network("broadcast_add", weights=("(20000,20000)",))
    assert "(20000, 20000) is too large" in read.refusal(write(tmp_path, graph))


@pytest.mark.parametrize("image", ["(0,3,20000,20000)", "(0,3,2147483647,2147483647)"])
def test_an_image_that_is_too_large(tmp_path, read, image):
    assert "is too large" in read.refusal(write(tmp_path, network(image=image)))


def changed(change):
    graph = network()
    change(graph)
    return graph


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ("[" * 100_000, "RecursionError"),
        ('{"nodes":' * 100_000, "RecursionError"),
        ('{"nodes": ' + "9" * 5000 + "}", "not an MXNet symbol file"),
        (" " * (2**24 + 1), "such a file has at most"),
        ("[]", "not an MXNet symbol file"),
        ("null", "not an MXNet symbol file"),
        (changed(lambda g: g.update(nodes=g["nodes"] * 2000)), "more than 10000 nodes"),
        (changed(lambda g: g["nodes"][4]["inputs"][0].__setitem__(0, -1)), "-1 is not the number"),
        (changed(lambda g: g["nodes"][4]["inputs"][0].__setitem__(0, 4)), "out of order"),
        (changed(lambda g: g["nodes"][4]["inputs"][0].__setitem__(1, 1)), "has no output 1"),
        (changed(lambda g: g["nodes"][4]["inputs"][0].__setitem__(0, 0.5)), "0.5 is not"),
        (changed(lambda g: g["nodes"][4]["inputs"][0].__setitem__(0, 2**63)), "is not the number"),
        (changed(lambda g: g["heads"][0].__setitem__(1, 3)), "has no output 3"),
        (changed(lambda g: g["heads"][0].__setitem__(0, 10**6)), "do not exist"),
        (changed(lambda g: g["nodes"][4].update(attrs={"a": 1})), "that is not a text"),
        (changed(lambda g: g["nodes"][4].update(attrs=[1])), "not an MXNet symbol file"),
        (changed(lambda g: g["nodes"][4].update(name="a\nb")), "cannot be printed"),
        (changed(lambda g: g["nodes"][4].update(name="\ud800")), "cannot be printed"),
        (changed(lambda g: g["nodes"][4].update(name=7)), "cannot be printed"),
        (changed(lambda g: g["nodes"][4].update(op=["relu"])), "not an MXNet symbol file"),
        (changed(lambda g: g["nodes"][1].update(name="data")), "have one name"),
        (changed(lambda g: g["attrs"].update(mxnet_version=["int", -1])), "not the number"),
        (
            changed(lambda g: g["nodes"][1]["attrs"].update(__dtype__="77")),
            "__dtype__='77' is not a whole number",
        ),
    ],
)
def test_a_file_that_is_odd(tmp_path, read, graph, said):
    assert said in read.refusal(write(tmp_path, graph))


def old(version):
    """As MXNet 0.8 wrote it, without BatchNorm's states and version, or as 0.12 did."""
    graph = network("BatchNorm", {"eps": "1e-3"}, weights=("",) * 4)
    for node in graph["nodes"]:
        node["attr"] = node.pop("attrs")
    if version == "0.12":
        graph["attrs"]["mxnet_version"][1] = 1200
        return graph
    nodes, states = graph["nodes"], (6, 7)
    del graph["attrs"]
    for node in nodes:
        node["param"] = node.pop("attr") if node["op"] != "null" else {}
        node["backward_source_id"] = -1
        kept = (i for i, *_ in node["inputs"] if i not in states)
        node["inputs"] = [[i - sum(s < i for s in states), 0] for i in kept]
    graph["nodes"] = [node for i, node in enumerate(nodes) if i not in states]
    graph["heads"] = [[len(graph["nodes"]) - 1, 0]]
    graph["nodes"][0]["attr"] = {"__shape__": "(0,3,16,16)"}
    return graph


@pytest.mark.parametrize("version", ["0.8", "0.12"])
def test_files_of_old_versions(tmp_path, read, version):
    assert read(write(tmp_path, old(version))) == ["good", "run"]


def test_spellings_of_other_languages(tmp_path):
    """Python 2 wrote 3L, Scala writes true: MXNet reads both, what looks at the graph does not."""
    attrs = CONV | {"kernel": "(3L, 3L)", "no_bias": "true"}
    definition = load_network(
        str(write(tmp_path, network("Convolution", attrs, 1, ("",)))), "random"
    )
    node = definition.graph.nodes[definition.graph.number("victim")]
    assert (node.attrs["kernel"], node.attrs["no_bias"]) == ("(3, 3)", "True")


def test_names_in_any_alphabet(tmp_path, read):
    path = write(tmp_path, json.dumps(network()).replace("victim", "層-é"))
    assert read(path) == ["good", "run"]


@pytest.mark.parametrize("name", NAMES)
def test_every_network_of_gluon_passes(name):
    with mx.name.NameManager():
        symbol = mx.gluon.model_zoo.vision.get_model(name, prefix="")(mx.sym.var("data"))
    parse(symbol.tojson())


@pytest.mark.parametrize("name", sorted(CASES)[::9])
def test_what_the_importer_makes_of_onnx_passes(tmp_path, name):
    nodes, weights, options = CASES[name]
    definition = load(make(nodes, weights, **options), tmp_path)
    graph = parse(to_json(definition.graph))
    shapes = {key: value.shape for key, value in definition.parameters.items()}
    size = definition.preprocessing.input_shape
    assert require_runnable(graph, definition.input_name, size, shapes) == shapes


def test_the_documentation_lists_the_operators():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert [name for name in OPERATORS if f"`{name}`" not in page] == []


def test_our_own_network_passes():
    graph = efficientnet_lite0(224).graph
    assert parse(to_json(graph)) == graph


@pytest.mark.parametrize("graph", networks())
def test_the_networks_that_are_mutated_run(tmp_path, read, graph):
    assert read(write(tmp_path, graph)) == ["good", "run"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_mutants_end_no_process(tmp_path, read, seed):
    """400 changed networks: each runs, or is refused in one line that names the file."""
    rng, originals = random.Random(seed), networks()
    ends = Counter()
    for _ in range(400):
        path = write(tmp_path, graph := mutant(rng, rng.choice(originals)))
        ended, text = read(path)
        runs = ended == "good" and text in ("run", "not run")
        refused = ended == "refused" and "\n" not in text and "net" in text
        assert runs or refused, f"{ended}: {text}\n{json.dumps(graph)}"
        ends[ended] += 1
    assert min(ends["good"], ends["refused"]) > 40
