"""Run by an interpreter that has finn-plus: its build steps on a model, our files applied, its names and estimates out.

    FINN_PYTHON tests/streaming/finn_oracle.py MODEL.onnx OUT.json [EXPORT_FOLDER]

torch (used by LayerNorm's execution alone) and Vivado's simulator are not needed and stand in as empty modules. Bit
widths that are one-element arrays become scalars and default strides are written out: finn-plus 1.6.1 with NumPy 2.4
takes no other form.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import types
from pathlib import Path


class _Empty(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}", type(name, (), {}))


for _name in ("torch", "torch.nn", "torch.nn.functional", "finn.xsi"):
    sys.modules[_name] = _Empty(_name)


def plain(path: str, out: Path) -> None:
    """The model in the form that finn-plus reads."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    constants = {i.name: i for i in model.graph.initializer}
    for n in model.graph.node:
        if n.op_type in ("Quant", "Trunc", "BipolarQuant"):
            for k in n.input[2:]:
                if k in constants and numpy_helper.to_array(constants[k]).size == 1:
                    value = numpy_helper.to_array(constants[k]).reshape(())
                    constants[k].CopyFrom(numpy_helper.from_array(value, k))
        have = {a.name for a in n.attribute}
        usual = {"strides": [1, 1], "pads": [0, 0, 0, 0]}
        if n.op_type == "Conv":
            usual |= {"dilations": [1, 1], "group": 1}
        if n.op_type in ("Conv", "MaxPool", "AveragePool"):
            n.attribute.extend(helper.make_attribute(k, v) for k, v in usual.items() if k not in have)
    onnx.save(model, str(out))


def main(model_path: str, out: str, export: str | None) -> None:
    folder = Path(tempfile.mkdtemp())
    os.environ.setdefault("FINN_BUILD_DIR", str(folder))
    from finn.builder import build_dataflow_steps as steps
    from finn.builder.build_dataflow_config import DataflowBuildConfig
    from finn.transformation.fpgadataflow.multifpga.partition_model import ApplyPartitioning
    from finn.transformation.general import ApplyConfig
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.custom_op.registry import getCustomOp

    logging.disable(logging.CRITICAL)
    part = "xcu280-fsvh2892-2L-e"
    config = DataflowBuildConfig(
        output_dir=str(folder), synth_clk_period_ns=5.0, generate_outputs=[], board="U280", fpga_part=part,
        standalone_thresholds=True,
    )  # fmt: skip
    files = None if export is None else Path(export)
    if files is not None:
        config.specialize_layers_config_file = files / "specialize_layers_config.json"
        config.folding_config_file = files / "folding_config.json"
    plain(model_path, folder / "model.onnx")
    model = ModelWrapper(str(folder / "model.onnx"))
    for step in (
        "qonnx_to_finn", "tidy_up", "streamline", "convert_to_hw", "minimize_bit_width_initial",
        "create_dataflow_partition", "specialize_layers",
    ):  # fmt: skip
        model = getattr(steps, f"step_{step}")(model, config)
    unused: list[str] = []
    if files is not None:
        apply = ApplyConfig(str(config.folding_config_file))
        model = model.transform(apply)
        wanted = json.loads(config.folding_config_file.read_text())
        unused = [n for n in wanted if n not in apply.used_configurations]
        model = model.transform(steps.MinimizeAccumulatorWidth())
        names = [n.name for n in model.graph.node]
        plan = json.loads((files / "floorplan.json").read_text())
        plan |= {n: plan[names[0]] for n in names if n not in plan}
        (folder / "floorplan.json").write_text(json.dumps(plan))
        mapped = [line.split(": ") for line in (files / "partition.yaml").read_text().splitlines()]
        devices = {n: int(d) for n, d in mapped}
        model = model.transform(ApplyPartitioning({n: devices.get(n, 0) for n in names}))
        model = model.transform(ApplyConfig(str(folder / "floorplan.json")))
        assert set(devices) <= set(names)
    nodes = {}
    for n in model.graph.node:
        inst = getCustomOp(n)
        r = inst.node_res_estimation(part)
        nodes[n.name] = {
            "cycles": int(inst.get_exp_cycles()), "lut": int(r["LUT"]), "bram18": int(r["BRAM_18K"]),
            "uram": int(r["URAM"]), "dsp": int(r["DSP"]), "slr": int(inst.get_nodeattr("slr")),
            "device_id": int(inst.get_nodeattr("device_id")),
        }  # fmt: skip
        kept = ("PE", "SIMD", "inputDataType", "weightDataType", "accDataType", "outputDataType", "numSteps")
        for key in kept:
            if key in inst.get_nodeattr_types():
                value = inst.get_nodeattr(key)
                nodes[n.name][key] = value if isinstance(value, str) else int(value)
    Path(out).write_text(json.dumps({"nodes": nodes, "unused": unused}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
