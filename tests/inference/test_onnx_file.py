"""ONNX files: the same scores as PyTorch's, everything inside, and a stranger's refused before anything runs."""

from __future__ import annotations

import base64
import builtins
import io
import json
import re
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.inference.conftest import random_gate
from torch import Tensor, nn

from cxrlab.datamodules import Preprocessing
from cxrlab.errors import CheckpointError, UserError
from cxrlab.inference import onnx_guard
from cxrlab.inference.onnx_file import GATE_KEY, METADATA_KEY, SEAL_KEY, OnnxScorer, ScoringNetwork, write_onnx
from cxrlab.models import PaperCNN
from cxrlab.runs import LoadedModel

Change = Callable[[Any], object]


def metadata_of(height: int, width: int, channels: int) -> dict[str, Any]:
    return {
        "format": 1,
        "model": {"_target_": "cxrlab.models.PaperCNN"},
        "config": {},
        "preprocessing": {"height": height, "width": width, "channels": channels},
        "labels": {"Negative": 0, "Positive": 1},
        "threshold": 0.5,
        "data": {"synthetic": True},
    }


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(0)
    network = PaperCNN(32, 3, (2, 3, 4), dense_units=5).requires_grad_(False).eval()
    return LoadedModel(network, metadata_of(32, 32, 3), Path("model.ckpt"))


@pytest.fixture(scope="module")
def written(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "good.onnx"
    write_onnx(model, path)
    return path.read_bytes()


@pytest.fixture
def good(written: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "good.onnx"
    path.write_bytes(written)
    return path


def pictures(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *(shape or (32, 32, 3))), dtype=np.uint8)


def in_torch(network: nn.Module, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with torch.inference_mode():
        logits, scores = ScoringNetwork(network)(Preprocessing.to_float(torch.from_numpy(images)))
    return logits.numpy(), scores.numpy()


@pytest.mark.parametrize("count", [0, 1, 5, 70])
def test_scores_are_pytorchs_for_any_number_of_images(count: int, model: LoadedModel, good: Path) -> None:
    scorer, images = OnnxScorer(good), pictures(count)
    logits, scores = in_torch(model.network, images)
    found = scorer(images)
    assert found.dtype == np.float64
    assert found == pytest.approx(scores, abs=1e-6)
    assert scorer.logits_and_scores(images)[0] == pytest.approx(logits, abs=1e-5)
    assert count < 2 or np.ptp(scores) > 1e-4


def test_what_travels_inside_is_what_the_checkpoint_holds(model: LoadedModel, good: Path) -> None:
    scorer = OnnxScorer(good)
    assert scorer.metadata == model.metadata
    assert scorer.fingerprint == model.fingerprint
    assert scorer.gate is None
    assert scorer.preprocessing == Preprocessing(32, 32)
    assert scorer.words == {
        "runtime": f"ONNX Runtime {onnxruntime.__version__}",
        "device": "cpu",
        "precision": "32-true",
    }


def test_any_runtime_can_read_the_texts_and_run_the_graph(model: LoadedModel, good: Path) -> None:
    session = onnxruntime.InferenceSession(str(good))
    said = json.loads(session.get_modelmeta().custom_metadata_map["cxrlab"])
    assert said["preprocessing"] == {"height": 32, "width": 32, "channels": 3}
    assert (said["threshold"], said["labels"]) == (0.5, {"Negative": 0, "Positive": 1})
    assert said["fingerprint"] == model.fingerprint
    assert said["notice"] == "Research software, not a medical device."
    assert said["input"]["shape"] == ["N", 3, 32, 32]
    images = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    logits, scores = session.run(["logit", "score"], {"image": images})
    assert logits.shape == scores.shape == (3,)
    assert scores == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)


def test_the_file_says_nothing_of_the_machine_it_was_made_on(good: Path) -> None:
    text = good.read_bytes()
    for trace in (b".py", b"stack_trace", str(Path.cwd()).encode(), str(Path(torch.__file__).parent).encode()):
        assert trace not in text


def test_a_gate_travels_and_judges_as_before(model: LoadedModel, tmp_path: Path) -> None:
    gate = random_gate(0, 0.05, 0.1)
    write_onnx(model, tmp_path / "gated.onnx", gate)
    found = OnnxScorer(tmp_path / "gated.onnx").gate
    assert found is not None
    assert found.fingerprint == gate.fingerprint
    images = [*np.repeat(pictures(6, 80, 90, 1), 3, axis=3), pictures(1, 80, 80, 3)[0]]
    assert found(images) == gate(images)
    assert len({each.frontal for each in gate(images)}) > 2


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_oblong_images(channels: int, tmp_path: Path) -> None:
    network = PaperCNN([24, 40], channels, (2, 3, 4), dense_units=5).eval()
    write_onnx(LoadedModel(network, metadata_of(24, 40, channels), Path("x.ckpt")), tmp_path / "x.onnx")
    images = pictures(3, 24, 40, channels)
    assert OnnxScorer(tmp_path / "x.onnx")(images) == pytest.approx(in_torch(network, images)[1], abs=1e-6)


@pytest.mark.parametrize("opset", [18, 23])
def test_other_versions_of_the_operators(opset: int, model: LoadedModel, tmp_path: Path) -> None:
    path, images = tmp_path / "x.onnx", pictures(2)
    write_onnx(model, path, opset=opset)
    assert onnx.load(path).opset_import[0].version == opset
    assert OnnxScorer(path)(images) == pytest.approx(in_torch(model.network, images)[1], abs=1e-6)
    with pytest.raises(ValueError, match=r"opset must be a whole number in \[18, 23\], got 17"):
        write_onnx(model, path, opset=17)


def test_an_older_file_is_replaced_whole_or_not_at_all(model: LoadedModel, good: Path) -> None:
    before = good.read_bytes()
    broken = LoadedModel(_Unwritable(), model.metadata, model.path)
    with pytest.raises(CheckpointError, match=r"model\.ckpt: its network cannot be written as an ONNX graph"):
        write_onnx(broken, good)
    assert good.read_bytes() == before
    assert {path.name for path in good.parent.iterdir()} == {"good.onnx"}


class _Unwritable(nn.Module):
    """Looks at pixels to decide what to do, which a graph cannot."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None] if images.sum() > 0 else images[:, :1, 0, 0]


def test_more_than_two_gigabytes_are_refused_at_once(model: LoadedModel, tmp_path: Path) -> None:
    with torch.device("meta"):
        large = LoadedModel(nn.Linear(2**20, 600), model.metadata, model.path)
    with pytest.raises(CheckpointError, match=r"its weights are 2\.5 GB, and one ONNX file holds at most 2 GB"):
        write_onnx(large, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named(name: str, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"needs {name}, which.*pip install 'cxrlab\[export\]'"):
        OnnxScorer(good)


@pytest.mark.parametrize("images", [pictures(2, 32, 31, 3), pictures(2, 32, 32, 1), pictures(2).astype(np.float32)])
def test_images_that_were_not_prepared_are_refused(images: Any, good: Path) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \(n, 32, 32, 3\), got"):
        OnnxScorer(good)(images)


def changed(good: Path, change: Change, name: str = "stranger.onnx", *, sealed: bool = True) -> Path:
    """A copy with something done to its ``ModelProto``; sealed anew, as somebody who means harm would."""
    found = onnx.load(good)
    change(found)
    if sealed:
        texts = {each.key: each.value for each in found.metadata_props if each.key in (METADATA_KEY, GATE_KEY)}
        write_text(found, SEAL_KEY, onnx_guard.seal(found, texts))
    path = good.with_name(name)
    path.write_bytes(found.SerializeToString())
    return path


def write_text(found: Any, key: str, text: str) -> None:
    for entry in list(found.metadata_props):
        if entry.key == key:
            found.metadata_props.remove(entry)
    found.metadata_props.add(key=key, value=text)


def saying(**changes: Any) -> Change:
    """Changes the JSON; a value of ``...`` removes the key."""

    def change(found: Any) -> None:
        said = next(json.loads(entry.value) for entry in found.metadata_props if entry.key == METADATA_KEY)
        said |= changes
        write_text(found, METADATA_KEY, json.dumps({key: value for key, value in said.items() if value is not ...}))

    return change


def with_text(key: str, text: str) -> Change:
    return lambda found: write_text(found, key, text)


def packed() -> str:
    """A few kilobytes that unfold into 16 MB when they are read without care."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(2**24))
    return base64.b64encode(buffer.getvalue()).decode()


def external(location: str) -> Change:
    """The first weights are said to lie in another file."""

    def change(found: Any) -> None:
        tensor = found.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def external_constant(found: Any) -> None:
    """The same inside of a node, where a look at the weights alone would miss it."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "hidden")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    found.graph.node.add(op_type="Constant", output=["hidden"]).attribute.add(
        name="value", type=onnx.AttributeProto.TENSOR, t=tensor
    )


def huge_value(found: Any) -> None:
    """A few bytes that ask for a hundred terabytes."""
    shape = numpy_helper.from_array(np.array([100_000, 100_000, 2500], np.int64), "huge_shape")
    found.graph.initializer.append(shape)
    found.graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]))


def control_flow(found: Any) -> None:
    body = helper.make_graph([], "body", [], [])
    found.graph.node.add(op_type="Loop", output=["looped"]).attribute.add(
        name="body", type=onnx.AttributeProto.GRAPH, g=body
    )


def operator(name: str) -> Change:
    """One more operator, whose work its shapes do not tell, or which reads text, pictures or chance."""
    return lambda found: found.graph.node.insert(0, helper.make_node(name, ["image"], ["more"]))


def work(found: Any) -> None:
    """Two matrices that fit into the memory, and whose product takes hours."""
    shape = numpy_helper.from_array(np.array([18_000, 18_000], np.int64), "square")
    found.graph.initializer.append(shape)
    found.graph.node.insert(0, helper.make_node("MatMul", ["ones", "ones"], ["product"]))
    found.graph.node.insert(0, helper.make_node("ConstantOfShape", ["square"], ["ones"]))


def sums_over_everything(found: Any) -> None:
    """A product of many small axes."""
    letters = "abcdefghij"
    found.graph.initializer.extend(
        numpy_helper.from_array(np.ones(20, np.float32), f"axis_{letter}") for letter in letters
    )
    inputs = [f"axis_{letter}" for letter in letters]
    found.graph.node.insert(0, helper.make_node("Einsum", inputs, ["total"], equation=f"{','.join(letters)}->"))


def weights_of(value: float) -> Change:
    def change(found: Any) -> None:
        tensor = next(each for each in found.graph.initializer if np.prod(each.dims) > 4 and each.data_type == 1)
        numbers = numpy_helper.to_array(tensor).copy()
        numbers.flat[3] = value
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

    return change


def side_of_input(side: int, value: int) -> Change:
    return lambda found: setattr(found.graph.input[0].type.tensor_type.shape.dim[side], "dim_value", value)


HOSTILE: dict[str, tuple[Change, str]] = {
    **{
        name: (operator(name), f"'{name}' is an operator that no file of this project has")
        for name in (
            *("RegexFullMatch", "TfIdfVectorizer", "ImageDecoder", "StringSplit", "RandomNormalLike", "Multinomial"),
            *("RoiAlign", "NonMaxSuppression", "LSTM", "DFT", "STFT", "Unique", "SequenceConstruct", "GridSample"),
        )
    },
    "a product that takes hours": (work, "it makes 5,8.* multiplications of one image"),
    "sums over everything": (sums_over_everything, "it makes 10,240,.* multiplications of one image"),
    "operators without end": (
        lambda found: found.graph.node.extend([helper.make_node("Identity", ["image"], ["more"])] * 50_000),
        "it has 50,0.* operators, and 50,000 are the most",
    ),
    "weights that are nan": (weights_of(np.nan), "are not all finite numbers"),
    "weights that are infinite": (weights_of(np.inf), "are not all finite numbers"),
    "weights of text": (
        lambda found: found.graph.initializer.append(numpy_helper.from_array(np.array([b"a", b"b"], object), "text")),
        "weights 'text' say to be",
    ),
    "metadata without end": (with_text(METADATA_KEY, "[" * 100_000), "its metadata are no JSON .*nested deeper"),
    "metadata with nan": (with_text(METADATA_KEY, '{"threshold": NaN}'), "NaN is no number of JSON"),
    "metadata with a long number": (with_text(METADATA_KEY, "9" * 5000), "its metadata are no JSON"),
    "metadata with a huge number": (with_text(METADATA_KEY, '{"threshold": 1e999}'), "too large a number"),
    "metadata with a long text": (saying(threshold_rule="x" * 2_000_000), "a text of 2,000,000 characters"),
    "an unknown precision": (saying(config={"trainer": {"precision": "x"}}), "its precision must be one of"),
    "another file": (external("weights.bin"), r"lie in another file \('weights\.bin'\)"),
    "a file above": (external("../../secret"), r"lie in another file \('\.\./\.\./secret'\)"),
    "an absolute path": (external("/etc/passwd"), r"lie in another file \('/etc/passwd'\)"),
    "another file in a node": (external_constant, r"lie in another file \('\.\./\.\./etc/passwd'\)"),
    "weights too large": (
        lambda found: found.graph.initializer[0].dims.__setitem__(slice(None), [2**40, 2**20]),
        "say to be 1099511627776 x 1048576 numbers, more than the file holds",
    ),
    "a value too large": (
        huge_value,
        r"it computes 25,000,0\d\d,\d{3},\d{3} numbers for one image, 25,000,000,000,000 of them in 'huge'",
    ),
    "a size that pixels decide": (operator("NonZero"), "'NonZero' is an operator that no file of this project has"),
    "a foreign operator": (
        lambda found: setattr(found.graph.node[0], "domain", "com.microsoft"),
        "is an operator of 'com.microsoft'",
    ),
    "a foreign domain": (
        lambda found: found.opset_import.add(domain="evil.ops", version=1),
        "wants operators of 'evil.ops'",
    ),
    "control flow": (control_flow, "graphs inside of its graph"),
    "functions": (lambda found: found.functions.add(name="hidden", domain=""), "it has functions"),
    "another input": (side_of_input(2, 8192), r"its one input must be 'image', float32 \(N, 3, 32, 32\)"),
    "one batch size": (side_of_input(0, 4), "its one input must be 'image'"),
    "one output": (lambda found: found.graph.output.pop(), r"its outputs must be logit and score, float32 \(N,\)"),
    "a key twice": (
        lambda found: found.metadata_props.append(found.metadata_props[0]),
        "says the same key of its metadata twice",
    ),
    "operators that do not fit": (
        lambda found: setattr(found.graph.node[0], "op_type", "Gemm"),
        "operators do not fit together",
    ),
    "no metadata": (lambda found: found.metadata_props.clear(), "not a file of this project: it has no metadata"),
    "no JSON": (with_text(METADATA_KEY, "{"), "its metadata are no JSON"),
    "a list": (with_text(METADATA_KEY, "[]"), "its metadata are no mapping"),
    "deep JSON": (with_text(METADATA_KEY, "[" * 200_000), "its metadata are no JSON"),
    "NaN": (saying(threshold=float("nan")), "NaN is no number of JSON"),
    "no threshold": (saying(threshold=...), "it lacks threshold"),
    "a threshold out of range": (saying(threshold=1.5), r"threshold must be a number in \[0, 1\], got 1\.5"),
    "another format": (saying(format=99), "format 99, this cxrlab reads format 1"),
    "preprocessing out of range": (
        saying(preprocessing={"height": 10**9, "width": 32}),
        r"its preprocessing is none \(image_size must be a whole number in \[1, 8192\]",
    ),
    "a preprocessing of other images": (
        saying(preprocessing={"height": 64, "width": 64}),
        r"float32 \(N, 3, 64, 64\), as its preprocessing says, got 'image' \(1, \(None, 3, 32, 32\)\)",
    ),
    "data that are a text": (saying(data="x"), "its data must be a mapping"),
    "a fingerprint that is none": (saying(fingerprint="0" * 63), "its fingerprint is no SHA-256"),
    "a gate that is no base64": (with_text(GATE_KEY, "%%%"), "its gate cannot be read"),
    "a gate that unfolds": (
        with_text(GATE_KEY, packed()),
        "its gate cannot be read .refused: it unfolds to more than it holds",
    ),
    "a gate that is no file": (with_text(GATE_KEY, "AAAA"), "its gate cannot be read"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_strangers_file_is_refused_with_the_reason(what: str, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, message = HOSTILE[what]
    path = changed(good, change)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the runtime got a file that should have been refused")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    with pytest.raises(CheckpointError, match=rf"stranger\.onnx: .*{message}"):
        OnnxScorer(path)


def test_code_hidden_in_a_gate_is_not_run(good: Path, tmp_path: Path) -> None:
    sign = tmp_path / "owned"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return builtins.exec, (f"open({str(sign)!r}, 'w').close()",)

    buffer = io.BytesIO()
    torch.save({"format": Evil()}, buffer)
    path = changed(good, with_text(GATE_KEY, base64.b64encode(buffer.getvalue()).decode()))
    with pytest.raises(CheckpointError, match=r"stranger\.onnx: refused: its gate cannot be read"):
        OnnxScorer(path)
    assert not sign.exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (saying(threshold=0.9), "a threshold"),
        (lambda found: found.graph.initializer[0].CopyFrom(_doubled(found.graph.initializer[0])), "weights"),
    ],
)
def test_a_file_changed_after_its_export_no_longer_has_its_fingerprint(change: Change, what: str, good: Path) -> None:
    with pytest.raises(CheckpointError, match=r"was changed or damaged after it was exported"):
        OnnxScorer(changed(good, change, sealed=False))


def _doubled(tensor: Any) -> Any:
    return numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100, b"PK\x03\x04" + b"\x00" * 50])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.onnx: not a readable ONNX file"):
        OnnxScorer(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 'x.onnx'}: no such file")):
        OnnxScorer(tmp_path / "x.onnx")


def test_damaged_files_are_refused_and_never_crash(good: Path, tmp_path: Path) -> None:
    """Cut off anywhere, or with bytes changed anywhere: a sentence, or, where nothing that counts changed, scores."""
    whole, rng = good.read_bytes(), np.random.default_rng(0)
    images, path = pictures(1), tmp_path / "damaged.onnx"
    expected, reasons = OnnxScorer(good)(images), []
    for number in range(200):
        data = bytearray(whole)
        if number % 4 == 0:
            data = data[: rng.integers(len(data))]
        else:
            for place in rng.integers(len(data), size=rng.integers(1, 5)):
                data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert OnnxScorer(path)(images) == expected
        except CheckpointError as error:
            reasons.append(str(error))
    assert len(reasons) > 190
    assert all(reason.startswith(f"{path}: ") for reason in reasons)


def test_a_graph_that_takes_too_long_is_given_up(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = OnnxScorer(good)
    monkeypatch.setattr("cxrlab.inference.onnx_file.MAX_SECONDS", 0.0)
    timer = threading.Timer
    monkeypatch.setattr(threading, "Timer", lambda seconds, call, args: _At(timer, seconds, call, args))
    with pytest.raises(CheckpointError, match=r"good\.onnx: its graph took more than 0 s for an image"):
        scorer(pictures(1))


class _At:
    """A timer that is over before the graph begins."""

    def __init__(self, timer: Any, seconds: float, call: Any, args: Any) -> None:
        assert seconds == 0.0
        self.daemon, self.work = False, timer(seconds, call, args)

    def start(self) -> None:
        self.work.start()
        self.work.join()

    def cancel(self) -> None:
        self.work.cancel()
