"""ONNX files, opset 7 and later, as MXNet graphs.

The file is data and is not trusted: every array is checked against the bytes there
are, every shape is inferred before it is used, and what is not understood is refused
by name.  Nothing is guessed, except the preprocessing, of which few files say more than
whether the input is of whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from shardcam.engine.config import ImageSize, sides_of, size_text
from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import (
    MAX_CHANNELS,
    NetworkDefinition,
    open_size,
    usual_scale,
)
from shardcam.engine.models.graph import VARIABLE, Entry, Graph
from shardcam.engine.models.graph_forms import inference_form
from shardcam.engine.models.input_scaling import plain_pixels, with_inner_scaling
from shardcam.engine.models.model_files import read_model_file
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.ends import chosen_output, shape_text, split_inputs
from shardcam.engine.models.onnx.image_input import (
    declared_shape,
    fitting_side,
    is_channels_last,
    takes_whole_numbers,
)
from shardcam.engine.models.onnx.local_functions import without_functions
from shardcam.engine.models.onnx.node_order import read_by
from shardcam.engine.models.onnx.onnx_graph import (
    FOR_EACH_WEIGHT,
    Array,
    Builder,
    Known,
    Quantised,
    Tensor,
    View,
)
from shardcam.engine.models.onnx.quantised import REMARK, ROUNDED
from shardcam.engine.models.onnx.shapes import reshape, transpose
from shardcam.engine.models.onnx.translation import Translation
from shardcam.engine.models.onnx.weights import TensorReader
from shardcam.engine.types import F4, Preprocessing

OLDEST_OPSET = 7

_RANGES = {  # of ONNX's metadata for images: mean and deviation that make such pixels
    "NominalRange_0_255": (0.0, 1.0),
    "Normalized_0_1": (0.0, 255.0),
    "Normalized_1_1": (127.5, 127.5),
}
ONE_BY_ONE = "the file only fits one image, whatever batch it declares: each is computed alone"


class OnnxFile:
    """A file that is read once, for inputs of several sizes.

    Parameters
    ----------
    path
        The file. Weights may lie in further files of the same directory.

    Raises
    ------
    ModelError
        It is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._weights: dict[int, Array] = {}  # by their place
        self._copies: dict[int, tuple[Array, F4]] = {}  # see `Builder`
        data = read_model_file(path)
        with self._named():
            self._model = _parse(data)

    def network(
        self,
        image_size: ImageSize | None = None,
        output: str | None = None,
        inputs: Mapping[str, str] | None = None,
        keep_rounding: bool = False,
    ) -> NetworkDefinition:
        """What the file computes of images of a size.

        Its input becomes (N,C,H,W), whatever the layout in the file.  The preprocessing is the
        ImageNet convention, or what fits the arithmetic that the file begins with: an assumption.

        Parameters
        ----------
        image_size
            A side, or height and width, where the file leaves them open; 224 by default.
        output
            Name of the value that holds the logits; by default the file's one output, or its one
            output of floating-point numbers.
        inputs
            Numbers for the inputs that take no images, by name; see `ends.split_inputs`.
        keep_rounding
            Round activations as a quantised file does.

        Raises
        ------
        ModelError
            The file is damaged, contradicts `image_size`, or holds something that is not
            understood.
        """
        with self._named():

            def begun() -> _Import:
                build = Builder(rounds=keep_rounding, copies=self._copies)
                return _Import(self._path, self._model, self._weights, output, build)

            return _network(begun, image_size, inputs or {})

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ModelError as error:
            raise type(error)(f"{self._path}: {error}") from error


def _network(
    begun: Callable[[], _Import], image_size: ImageSize | None, inputs: Mapping[str, str]
) -> NetworkDefinition:
    """What the file computes of a batch, or, where it only fits one image, of each image."""
    read = begun()
    try:
        return read.network(image_size, inputs)
    except ModelError:
        if not read.baked:
            raise
        alone = begun()
        alone.one_by_one()
        try:
            return alone.network(image_size, inputs)
        except ModelError:
            pass
        raise


def _parse(data: bytes) -> Any:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's own class, which has no types
        raise ModelError(f"not an ONNX file: {error}") from error
    if not model.ir_version or not model.graph.node:
        raise ModelError("not an ONNX file: it contains no network")
    return without_functions(model)


class _Import:
    """One file on its way to a network definition."""

    def __init__(
        self,
        path: Path,
        model: Any,
        weights: dict[int, Array],
        output: str | None,
        build: Builder,
    ) -> None:
        if len(model.graph.sparse_initializer):
            raise ModelError("sparse weights are not supported: save them as dense ones")
        self._path, self._graph, self._weights = path, model.graph, weights
        self._opset = _opset_of(model)
        self._reader = TensorReader(path.parent)
        self._build = build
        self._translation = Translation(self._reader, build, self._opset)
        self._bytes = False  # the input is of whole numbers
        self._metadata = {entry.key: entry.value for entry in model.metadata_props}
        self._output, remark = chosen_output(self._graph, output)
        self._remarks: tuple[str, ...] = (remark,) if remark else ()

    @property
    def baked(self) -> bool:
        """It leaves the batch open and fails where a batch of one would not."""
        return self._translation.baked

    def one_by_one(self) -> None:
        """Take the file to be written for one image, though it leaves the batch open."""
        self._translation.batch = 1
        self._remarks += (ONE_BY_ONE,)

    def network(self, image_size: ImageSize | None, inputs: Mapping[str, str]) -> NetworkDefinition:
        read = {name for node in self._graph.node for name in read_by(node)}
        for place, proto in enumerate(self._graph.initializer):
            if proto.data_type == onnx.TensorProto.STRING and proto.name not in read:
                continue  # names of classes
            if place not in self._weights:
                self._weights[place] = self._reader.read(proto)
            weight = self._weights[place]
            self._build.allowance += FOR_EACH_WEIGHT * weight.size
            self._build.room.grow(weight.nbytes)
            self._translation.define(proto.name, Known.of(weight, proto.name))
        image = self._input(image_size, inputs)
        self._translation.add_needed(self._graph.node, [self._output])
        logits = self._logits(image)
        graph = inference_form(Graph(tuple(self._build.nodes), (logits,)))
        channels, height, width = image.sizes
        preprocessing, known = self._preprocessing(channels, height, width)
        if self._build.quantised:
            self._remarks += (ROUNDED if self._build.rounds else REMARK,)
        used = {node.name for node in graph.nodes if node.op == VARIABLE}
        network = NetworkDefinition(
            name=self._path.stem,
            graph=graph,
            parameters={k: v for k, v in self._build.parameters.items() if k in used},
            preprocessing=preprocessing,
            input_name=self._build.nodes[image.entry[0]].name,
            assumed=not known,
            takes_bytes=self._bytes,
            remarks=self._remarks,
            of_one_size=True,
        )
        return network if known else with_inner_scaling(network)

    def _preprocessing(self, channels: int, height: int, width: int) -> tuple[Preprocessing, bool]:
        """As the type of the input or ONNX's metadata for images state it; and whether they do."""
        stated = _RANGES.get(self._metadata.get("Image.NominalPixelRange", ""))
        if self._bytes:
            mean, std = plain_pixels(channels)
        elif stated:
            mean, std = ((value,) * channels for value in stated)
        else:
            mean, std = usual_scale(channels)
        form = self._metadata.get("Image.BitmapPixelFormat", "").lower()
        order = "bgr" if channels == 3 and form.startswith("bgr") else "rgb"
        made = Preprocessing(height, width, mean, std, channels=order)
        made = replace(made, mean=made.in_rgb(mean), std=made.in_rgb(std))
        return made, self._bytes or bool(stated)

    def _input(self, image_size: ImageSize | None, given: Mapping[str, str]) -> Tensor:
        """The one input that takes images; the file may have the channels last."""
        free = [i for i in self._graph.input if i.name not in self._translation.values]
        taken, constants = split_inputs(free, given)
        for name, value in constants.items():
            self._translation.define(name, Known.of(value))
        shape = declared_shape(taken)
        self._bytes = takes_whole_numbers(self._graph, taken)
        reader = self._reader_of(taken.name)
        last = is_channels_last(shape, reader)
        channels = (shape[3] if last else shape[1]) or self._channels_read(reader)
        if not 0 < channels <= MAX_CHANNELS:
            text = f"input {taken.name!r} of {shape_text(shape)}: its channels are not"
            raise ModelError(
                f"{text} 1 to {MAX_CHANNELS}"
                if channels
                else f"{text} known: state them in the file, or leave no axis open but the batch"
            )
        sides = shape[1:3] if last else shape[2:4]
        asked = (None, None) if image_size is None else sides_of(image_size)
        height, width = (fitting_side(side, one) for side, one in zip(sides, asked, strict=True))
        if image_size is None and None in sides:
            self._remarks += (open_size(height, width),)
            self._translation.taken_size = size_text(height, width)
        image = self._build.input(taken.name, (channels, height, width))
        self._translation.batch = self._translation.batch or shape[0]
        call = Call("Transpose", f"{taken.name}/channels_last", 0, (), 1, {}, self._build)
        self._translation.define(
            taken.name, transpose(call, image, (0, 2, 3, 1)) if last else image
        )
        return image

    def _reader_of(self, name: str) -> Any:
        """The first node that reads a value; None if there is none."""
        return next((node for node in self._graph.node if name in node.input), None)

    def _channels_read(self, reader: Any) -> int:
        """Channels that a convolution takes, by its weights; 0 of other nodes."""
        if reader is None or reader.op_type != "Conv" or len(reader.input) < 2:
            return 0
        weight = self._translation.values.get(reader.input[1])
        shape = weight.constant.shape if isinstance(weight, Known) else ()
        groups = next((a.i for a in reader.attribute if a.name == "group"), 1)
        return shape[1] * groups if len(shape) > 1 else 0

    def _logits(self, image: Tensor) -> Entry:
        """The one output as (N,classes), or of a segmentation network (N,classes,h,w)."""
        value = self._translation.values.get(self._output)
        value = value.tensor if isinstance(value, Quantised) else value
        if value is None or isinstance(value, Known) or value == image:
            raise ModelError(
                f"output {self._output!r} is the images"
                if value == image
                else f"output {self._output!r} does not depend on the images; --output NAME takes "
                "another value of the file"
            )
        whole = value.shape(1)
        alone = self._translation.batch == 1  # then the first axis may be the classes'
        sizes = whole if alone and whole[0] != 1 else whole[1:]
        classes = [n for n in sizes if n != 1] or [1]
        maps = len(sizes) == 3 and len(classes) > 1
        known = maps or len(classes) == 1
        if isinstance(value, View) or not known or (value.multiple != 1 and not alone):
            raise ModelError(
                f"output {self._output!r} of {sizes} for each image is not a vector of "
                "logits, nor maps of classes; --output NAME takes any other value of the file. Of "
                "a detector, or of sequences, cut the file at a tensor (N,classes) or "
                "(N,classes,h,w): onnx.utils.extract_model(FILE, NEW, "
                f"[{self._build.nodes[0].name!r}], [TENSOR])"
            )
        call = Call("Output", "logits", self._opset, (), 1, {}, self._build)
        return reshape(call, value, 1, sizes if maps else (classes[0],)).entry


def _opset_of(model: Any) -> int:
    newest = onnx.defs.onnx_opset_version()
    stated = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    if len(stated) > 1:
        raise ModelError(f"it states opsets {sorted(stated)}: an operator means one thing in each")
    opset = max(stated, default=0)
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelError(
            f"opset {opset} is not supported; {OLDEST_OPSET} to {newest} are, which "
            "onnx.version_converter.convert_version(model, opset) can make"
        )
    return int(opset)
