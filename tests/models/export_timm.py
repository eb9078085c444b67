"""Export networks of timm, with random weights, by both of PyTorch's exporters.

Run by a Python that has torch 2.14, timm 1.0.31, onnx and onnxscript:

    python tests/models/export_timm.py DIRECTORY [NETWORK ...]

For each network: NAME.script.onnx, NAME.dynamo.onnx and NAME.npz with images and logits. What an
exporter itself refuses is told, and left out.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import timm
import torch

BATCH, LARGEST = 2, 256
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


def export(name, directory):
    for exporter in ("script", "dynamo"):
        torch.manual_seed(0)
        network = timm.create_model(name, exportable=exporter == "script").eval()
        config = network.default_cfg
        size = config["input_size"][-1]
        size = size if config.get("fixed_input_size") else min(size, LARGEST)
        draw = torch.Generator().manual_seed(2)
        images = torch.randn(BATCH, 3, size, size, generator=draw)
        with torch.no_grad():
            logits = network(images).numpy()
        np.savez(directory / f"{name}.npz", images=images.numpy(), logits=logits)
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
