"""Export networks of timm, with random weights, by both of PyTorch's exporters.

Run by a Python that has torch 2.14, timm 1.0.31, onnx and onnxscript:

    python tests/models/export_timm.py DIRECTORY [NETWORK ...]

For each network: NAME.script.onnx, NAME.dynamo.onnx and NAME.npz with images, logits, and what
autograd says of its layers. What an exporter itself refuses is told, and left out.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import timm
import torch

BATCH, LARGEST = 2, 256
TARGETS = (1, 3)
TOKENS_BEFORE = (0, 1, 2, 5)  # of the picture's
POSITIONS, MODULES = 1024, 80  # of the layers whose maps are kept; the last of them
NETWORKS = """
    bat_resnext26ts botnet26t_256 coat_tiny coatnet_nano_rw_224 convit_tiny
    convmixer_768_32 convnext_atto convnextv2_atto crossvit_9_240 cs3darknet_s cspresnet50
    davit_tiny deit_tiny_patch16_224 densenet121 dla34 dpn68 eca_halonext26ts ecaresnet26t
    edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientvit_b0
    ese_vovnet19b_dw fastvit_t8 fbnetc_100 focalnet_tiny_srf gcresnet33ts gernet_s ghostnet_100
    halonet26t hardcorenas_a hgnet_tiny hrnet_w18_small inception_next_atto inception_resnet_v2
    lambda_resnet26t lcnet_050 levit_128s mambaout_femto maxvit_rmlp_pico_rw_256 mixer_s32_224
    mixnet_s mnasnet_small mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small
    mobilenetv4_hybrid_medium mobileone_s0 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nextvit_small
    nf_regnet_b0 nfnet_l0 pit_ti_224 poolformer_s12 pvt_v2_b0 regnetx_002 regnety_002
    regnetz_005 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_14w_8s resmlp_12_224 resnest14d
    resnet18 resnet26t resnetaa50 resnetv2_50 resnetv2_50x1_bit resnext50_32x4d rexnet_100
    rdnet_tiny selecsls42b semnasnet_075 seresnet50 shvit_s1 skresnet18 spnasnet_100 starnet_s1
    swin_tiny_patch4_window7_224 swiftformer_xs tf_efficientnet_b0 tf_efficientnet_lite0
    tf_mixnet_s tf_mobilenetv3_small_075 tiny_vit_5m_224 tinynet_e tresnet_m vgg11_bn
    visformer_tiny vit_tiny_patch16_224 vovnet39a xception41 xcit_nano_12_p16_224
"""


def randomised(network):
    """Without zeros, for they make logits and maps zero, and in float32 without overwriting."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim < 2 or not parameter.any():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        for module in network.modules():
            if getattr(module, "running_var", None) is not None:
                module.running_var.add_(0.5 * torch.rand(module.running_var.shape, generator=draw))
            if hasattr(module, "inplace"):
                module.inplace = False
    return network


def layouts(value):
    """(N,C,P) of each way in which an output may be a map of P positions."""
    if value.ndim == 4:
        return [value.flatten(2), value.flatten(1, 2).transpose(1, 2)]
    return [value[:, n:].transpose(1, 2) for n in TOKENS_BEFORE if value.shape[1] > n]


def explained(network, images):
    """Logits, and of each module the mean of its output's channels and its Grad-CAM maps.

    Which of them is the layer that we explain is found by its value.
    """
    kept = []

    def keep(module, args, value):
        if isinstance(value, torch.Tensor) and value.ndim in (3, 4) and value.requires_grad:
            kept.append(value)

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    logits = network(images)
    for handle in handles:
        handle.remove()
    slopes = [
        torch.autograd.grad(logits[:, t].sum(), kept, retain_graph=True, allow_unused=True)
        for t in TARGETS
    ]
    found = []
    for value, *gradients in zip(kept, *slopes, strict=True):
        if any(gradient is None for gradient in gradients):
            continue
        for activation, *weights in zip(*map(layouts, (value, *gradients)), strict=True):
            if activation.shape[2] <= POSITIONS:
                maps = [(activation * w.mean(2, keepdim=True)).sum(1) for w in weights]
                found.append((activation.mean(1), torch.stack(maps, 1)))
    results = {"images": images, "logits": logits}
    for number, (mean, maps) in enumerate(found[-MODULES:]):
        results |= {f"mean:{number}": mean, f"maps:{number}": maps}
    arrays = {key: value.detach().numpy() for key, value in results.items()}
    return arrays | {"targets": np.array(TARGETS, np.int32)}


def export(name, directory):
    for exporter in ("script", "dynamo"):
        torch.manual_seed(0)
        network = randomised(timm.create_model(name, exportable=exporter == "script").eval())
        config = network.default_cfg
        size = config["input_size"][-1]
        size = size if config.get("fixed_input_size") else min(size, LARGEST)
        draw = torch.Generator().manual_seed(2)
        images = torch.randn(BATCH, 3, size, size, generator=draw)
        np.savez(directory / f"{name}.npz", **explained(network, images))
        path = str(directory / f"{name}.{exporter}.onnx")
        names = {"input_names": ["images"], "output_names": ["logits"]}
        try:
            if exporter == "script":
                axes = {"images": {0: "N"}, "logits": {0: "N"}}
                torch.onnx.export(network, (images,), path, dynamo=False, opset_version=20,
                                  dynamic_axes=axes, **names)  # fmt: skip
            else:
                batch = torch.export.Dim("N", min=1, max=512)
                torch.onnx.export(network, (images,), path, dynamo=True,
                                  dynamic_shapes=({0: batch},), verbose=False, **names)  # fmt: skip
        except Exception as error:
            print(f"{name} {exporter}: not exported: {str(error).splitlines()[0][:200]}")


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    known = set(timm.list_models())
    for name in sys.argv[2:] or NETWORKS.split():
        if name in known:
            export(name, directory)
            print(name, flush=True)
        else:
            print(f"{name}: not a network of this timm")


if __name__ == "__main__":
    main()
